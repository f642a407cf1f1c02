//! Spending.

use super::command::{Consume, Decision, Facts};
use super::draft::{Draft, Words};
use crate::credits::context::Context;
use crate::credits::error::Rejection;
use crate::credits::model::{Cause, EntryKind};
use crate::limits::{self, Limit, Spend};
use kernel::{Credits, Timestamp};

pub(super) fn consume(
    mut draft: Draft<'_>,
    consume: &Consume,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if facts.usage_owner.is_some_and(|owner| owner != draft.account.user) {
        return Err(Rejection::ForeignUsage);
    }
    let context = &consume.basis.context;
    draft.covers(consume.amount, context, now)?;
    let moves = draft.within_limits(&context.spend(consume.amount, consume.measure), facts, now)?;
    draft.decision.moves.extend(moves);
    if consume.amount == Credits::ZERO {
        // What costs nothing is no entry, but the account's version guards what it counts.
        let counts = !draft.decision.moves.is_empty();
        counts.then(|| draft.changed(now));
        return Ok(draft.decision);
    }
    let words = Words {
        cause: Cause { usage_record_id: consume.usage_record_id, ..Cause::default() },
        funded_by: draft.spend(consume.amount, context, now),
        basis: consume.basis.clone().given(),
        grant: None,
    };
    draft.enter_own(EntryKind::Consume, -consume.amount, words, &consume.note, now);
    Ok(draft.decision)
}

impl Draft<'_> {
    /// Refuses what the account cannot pay.
    pub(super) fn covers(&self, amount: Credits, context: &Context, now: Timestamp) -> Result<(), Rejection> {
        let available = self.account.free_for(context, now);
        if available >= amount {
            return Ok(());
        }
        let available = available.max(Credits::ZERO);
        Err(Rejection::Insufficient { available, required: amount, held: self.account.held })
    }

    /// Refuses what a spending limit denies, and says how the counters move otherwise.
    pub(super) fn within_limits(
        &self,
        spend: &Spend<'_>,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Result<Vec<limits::Move>, Rejection> {
        let account = &*self.account;
        if account.limits.is_empty() {
            return Ok(Vec::new());
        }
        let reserved = |limit: &Limit, value: &str| {
            let under = account.holds.iter().filter(|hold| hold.context.counts_under(limit, value));
            under.map(|hold| hold.amount.micro()).sum()
        };
        let none = std::collections::HashMap::new();
        let counters = facts.counters.unwrap_or(&none);
        limits::check(&account.limits, account.user, spend, &reserved, counters, now)
            .map_err(|denial| Rejection::LimitExceeded(Box::new(denial)))
    }
}
