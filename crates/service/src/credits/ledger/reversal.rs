//! Taking back what was given: what is left of a grant, or what money had bought that was given back.
//!
//! What always holds: the reversals of a grant sum to at most what it gave.

use super::command::{Decision, Facts, Note, Reclaim, Void};
use super::draft::{Draft, Words};
use super::settle::repays;
use crate::credits::error::Rejection;
use crate::credits::model::{Cause, EntryKind, Grant, OWED_MAX};
use kernel::{Credits, Timestamp};

pub(super) fn void(
    mut draft: Draft<'_>,
    void: &Void,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let Some(grant) = draft.account.grants.iter().find(|grant| grant.seq == void.grant).cloned() else {
        return Err(match facts.grant {
            Some(_) => Rejection::NothingToVoid,
            None => Rejection::UnknownGrant,
        });
    };
    if grant.held > Credits::ZERO {
        return Err(Rejection::GrantHeld { held: grant.held });
    }
    // Where a reclaim found some of it held, others have paid in its place, and that is not taken twice.
    let left = grant.remaining.min(Credits::from_micro(facts.unreversed(draft.account.user, &grant)));
    if left <= Credits::ZERO {
        return Err(Rejection::NothingToVoid);
    }
    draft.mark_voided(grant);
    let cause = Cause { reverses: Some(void.grant), ..Cause::default() };
    Ok(draft.reverse(left, cause, vec![(void.grant, left)], &void.note, now))
}

pub(super) fn reclaim(
    mut draft: Draft<'_>,
    reclaim: &Reclaim,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if let Some(entry) = facts.reference {
        return if entry.kind == EntryKind::Reversal && entry.cause.reverses == Some(reclaim.grant) {
            Ok(Decision { existing: Some(entry.clone()), ..Decision::default() })
        } else {
            Err(Rejection::ReferenceTaken { transaction_id: entry.transaction_id().to_string() })
        };
    }
    let standing = draft.account.grants.iter().find(|grant| grant.seq == reclaim.grant).cloned();
    // Its row may have been read before time took what was left of it.
    let spent = || Some(Grant { remaining: Credits::ZERO, ..facts.grant?.clone() });
    let grant = standing.or_else(spent).ok_or(Rejection::UnknownGrant)?;
    let reclaimable = Credits::from_micro(facts.unreversed(draft.account.user, &grant));
    if reclaim.amount > reclaimable || reclaim.amount <= Credits::ZERO {
        return Err(Rejection::ReclaimExceeds { reclaimable });
    }
    let parts = draft.parts_back(reclaim.grant, reclaim.amount, now);
    let borrowed = parts.last().filter(|(seq, _)| *seq == 0).map_or(0, |(_, part)| part.micro());
    if borrowed > OWED_MAX.micro() - draft.account.owed() {
        return Err(Rejection::OwesTooMuch);
    }
    if reclaim.amount == reclaimable {
        draft.mark_voided(grant);
    }
    let cause = Cause {
        reverses: Some(reclaim.grant),
        reference_id: Some(reclaim.reference_id.clone()),
        ..Cause::default()
    };
    Ok(draft.reverse(reclaim.amount, cause, parts, &reclaim.note, now))
}

impl Draft<'_> {
    /// Where `amount` is taken back from: the grant itself, then what can be spent on anything in the order
    /// of spending; the rest was spent, and is owed under 0. What holds have set aside stays theirs.
    fn parts_back(&self, seq: i64, amount: Credits, now: Timestamp) -> Vec<(i64, Credits)> {
        let mut due = amount.micro();
        let mut parts = Vec::new();
        let grants = || self.account.grants.iter();
        let others = grants().filter(|grant| grant.seq != seq && repays(grant, now));
        for grant in grants().filter(|grant| grant.seq == seq).chain(others) {
            let part = due.min(grant.free());
            if part > 0 {
                due -= part;
                parts.push((grant.seq, Credits::from_micro(part)));
            }
            if due == 0 {
                return parts;
            }
        }
        parts.push((0, Credits::from_micro(due)));
        parts
    }

    /// Lets nothing come back to a grant any more.
    fn mark_voided(&mut self, grant: Grant) {
        if let Some(standing) = self.account.grants.iter_mut().find(|standing| standing.seq == grant.seq) {
            standing.voided = true;
        }
        self.decision.touch_grant(&Grant { voided: true, ..grant });
    }

    fn reverse(
        mut self,
        amount: Credits,
        cause: Cause,
        parts: Vec<(i64, Credits)>,
        note: &Note,
        now: Timestamp,
    ) -> Decision {
        for (seq, part) in &parts {
            self.move_grant(*seq, -part.micro(), 0);
        }
        self.drop_spent();
        let words = Words { cause, funded_by: parts, ..Words::default() };
        self.enter_own(EntryKind::Reversal, -amount, words, note, now);
        self.decision
    }
}
