//! Giving credits, and giving them back.

use super::command::{Adjust, Decision, Facts, Issue, Original, Policy, Refund};
use super::draft::{Draft, Words};
use crate::credits::error::Rejection;
use crate::credits::model::{Account, Cause, EntryKind, Grant, GrantTerms, OPEN_GRANTS_MAX, Source};
use kernel::{Credits, Timestamp, TransactionId};

pub(super) fn issue(
    mut draft: Draft<'_>,
    issue: &Issue,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if let Some(entry) = facts.reference {
        return if entry.kind == issue.kind && entry.amount == issue.amount {
            Ok(Decision { existing: Some(entry.clone()), ..Decision::default() })
        } else {
            Err(Rejection::ReferenceTaken { transaction_id: entry.transaction_id().to_string() })
        };
    }
    let effective_at = issue.effective_at.unwrap_or(now);
    if issue.expires_at.is_some_and(|end| end <= effective_at || end <= now) {
        return Err(Rejection::BadPeriod);
    }
    if issue.rollover.is_some() && issue.expires_at.is_none() {
        return Err(Rejection::RolloverWithoutEnd);
    }
    let credits_total = draft.account.credits_total.checked_add(issue.amount).ok_or(Rejection::TooMuch)?;
    room_for(draft.account, issue.amount)?;
    draft.account.credits_total = credits_total;
    let terms = GrantTerms {
        source: issue.source,
        amount: issue.amount.micro(),
        priority: issue.priority,
        effective_at: effective_at.micros(),
        expires_at: issue.expires_at.map(Timestamp::micros),
        scope: issue.scope.clone().filter(|scope| !scope.is_open()),
        rollover: issue.rollover,
    };
    let cause = Cause { reference_id: issue.reference_id.clone(), ..Cause::default() };
    let words = Words { cause, grant: Some(terms), ..Words::default() };
    draft.enter_own(issue.kind, issue.amount, words, &issue.note, now);
    draft.repay(now);
    Ok(draft.decision)
}

/// Refuses what would be more, or more grants, than an account may have.
fn room_for(account: &Account, amount: Credits) -> Result<(), Rejection> {
    // What the grants have left is the larger of the two sums, so it is the one that is bounded.
    let left = Credits::from_micro(account.balance.micro() + account.owed());
    left.checked_add(amount).ok_or(Rejection::TooMuch)?;
    if account.grants.len() >= OPEN_GRANTS_MAX { Err(Rejection::TooManyGrants) } else { Ok(()) }
}

pub(super) fn refund(
    mut draft: Draft<'_>,
    refund: &Refund,
    facts: &Facts<'_>,
    now: Timestamp,
    policy: Policy,
) -> Result<Decision, Rejection> {
    let original = own(facts, draft.account, refund.original)?;
    let entry = &original.entry;
    if !matches!(entry.kind, EntryKind::Consume | EntryKind::Capture) {
        return Err(Rejection::NotRefundable(entry.kind.as_str()));
    }
    let refundable = Credits::from_micro(entry.amount.abs().micro() - original.refunded.micro());
    let amount = refund.amount.unwrap_or(refundable);
    if amount > refundable || amount <= Credits::ZERO {
        return Err(Rejection::RefundExceeds { refundable });
    }
    // What comes back may open a grant again or become a new one.
    room_for(draft.account, amount)?;

    let back = draft.give_back(original, amount, facts, now);
    let life = policy.refund_life.filter(|_| !back.for_ever);
    let grant = (back.anew > 0).then(|| GrantTerms {
        source: Source::Refund,
        amount: back.anew,
        priority: 0,
        effective_at: now.micros(),
        expires_at: life.map(|life| now.plus(life).micros()),
        scope: None,
        rollover: None,
    });
    let cause =
        Cause { reverses: Some(entry.seq), usage_record_id: entry.cause.usage_record_id, ..Cause::default() };
    let words = Words { cause, funded_by: back.parts, grant, basis: None };
    draft.enter_own(EntryKind::Refund, amount, words, &refund.note, now);
    draft.repay(now);
    Ok(draft.decision)
}

fn own<'a>(facts: &Facts<'a>, account: &Account, asked: TransactionId) -> Result<&'a Original, Rejection> {
    facts
        .original
        .filter(|original| original.entry.user == account.user)
        .ok_or_else(|| Rejection::UnknownTransaction(asked.to_string()))
}

pub(super) fn adjust(
    mut draft: Draft<'_>,
    adjust: &Adjust,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let original = adjust.original.map(|asked| own(facts, draft.account, asked)).transpose()?;
    if facts.usage_owner.is_some_and(|owner| owner != draft.account.user) {
        return Err(Rejection::ForeignUsage);
    }
    let cause = Cause {
        reverses: original.map(|original| original.entry.seq),
        usage_record_id: adjust
            .usage_record_id
            .or_else(|| original.and_then(|original| original.entry.cause.usage_record_id)),
        ..Cause::default()
    };
    let basis = adjust.basis.clone().given();
    let words = if adjust.amount > Credits::ZERO {
        room_for(draft.account, adjust.amount)?;
        let grant = GrantTerms {
            source: Source::Adjustment,
            amount: adjust.amount.micro(),
            priority: 0,
            effective_at: now.micros(),
            expires_at: None,
            scope: None,
            rollover: None,
        };
        Words { cause, grant: Some(grant), basis, ..Words::default() }
    } else {
        let context = &adjust.basis.context;
        draft.covers(-adjust.amount, context, now)?;
        Words { cause, funded_by: draft.spend(-adjust.amount, context, now), basis, grant: None }
    };
    draft.enter_own(EntryKind::Adjust, adjust.amount, words, &adjust.note, now);
    draft.repay(now);
    Ok(draft.decision)
}

/// Where refunded credits went.
struct Back {
    /// To which grants, and to the credit limit under 0.
    parts: Vec<(i64, Credits)>,
    /// How much becomes a grant of its own.
    anew: i64,
    /// Whether that grant has no end.
    for_ever: bool,
}

impl Draft<'_> {
    /// Returns `amount` to the grants that paid, those spent last first. What is of grants that have
    /// ended or were taken back, and what was owed and is paid back, becomes a grant of its own.
    fn give_back(&mut self, original: &Original, amount: Credits, facts: &Facts<'_>, now: Timestamp) -> Back {
        // Earlier refunds took the same way, so the first `refunded` credits of it are already back.
        let (mut skip, mut due) = (original.refunded.micro(), amount.micro());
        let mut back = Back { parts: Vec::new(), anew: 0, for_ever: false };
        let mut owed = self.account.owed();
        for (seq, part) in original.entry.funded_by.iter().rev() {
            let skipped = skip.min(part.micro());
            skip -= skipped;
            let part = due.min(part.micro() - skipped);
            if part == 0 {
                continue;
            }
            due -= part;
            if *seq == 0 {
                let repaid = part.min(owed);
                owed -= repaid;
                back.anew += part - repaid;
                back.for_ever |= part > repaid;
                back.parts.extend((repaid > 0).then(|| (0, Credits::from_micro(repaid))));
            } else {
                let home = part.min(self.revive(original, *seq, facts, now));
                back.anew += part - home;
                if home > 0 {
                    self.move_grant(*seq, home, 0);
                    back.parts.push((*seq, Credits::from_micro(home)));
                }
            }
        }
        back
    }

    /// How much a grant can take back, which is never what was reclaimed of it; one that was spent to the
    /// last is an open one again.
    fn revive(&mut self, original: &Original, seq: i64, facts: &Facts<'_>, now: Timestamp) -> i64 {
        let is_it = |grant: &&Grant| grant.seq == seq;
        let standing = self.account.grants.iter().find(is_it);
        let grant = standing.or_else(|| original.grants.iter().find(is_it));
        let Some(grant) = grant.filter(|grant| !grant.expired(now) && !grant.voided) else { return 0 };
        let left = standing.map_or(0, |grant| grant.remaining.micro());
        let room = (facts.unreversed(self.account.user, grant) - left).max(0);
        if room > 0 && standing.is_none() {
            let empty = Grant { remaining: Credits::ZERO, held: Credits::ZERO, ..grant.clone() };
            self.account.insert_grant(empty);
        }
        room
    }
}
