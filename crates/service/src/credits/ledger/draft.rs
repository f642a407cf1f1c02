//! An account while a command is decided on, with what is to be written.

use super::command::{Decision, Note};
use crate::credits::context::{Basis, Context};
use crate::credits::hold::Hold;
use crate::credits::model::{Account, Cause, Entry, EntryKind, Grant, GrantTerms, Origin};
use crate::limits;
use kernel::{Credits, Timestamp};
use std::collections::HashMap;

/// An account while a command is decided on.
pub(super) struct Draft<'a> {
    pub(super) account: &'a mut Account,
    pub(super) decision: Decision,
    /// What rolled over and is to end in turn: when, and the grant's number.
    pub(super) rolled: Vec<(Timestamp, i64)>,
}

/// What an entry says beside what it is noted with.
#[derive(Default)]
pub(super) struct Words {
    pub(super) cause: Cause,
    pub(super) funded_by: Vec<(i64, Credits)>,
    pub(super) grant: Option<GrantTerms>,
    pub(super) basis: Option<Basis>,
}

/// A note of what nobody asked for.
pub(super) fn of_system() -> Note {
    Note { origin: Origin { actor: "system".to_owned(), ..Origin::default() }, ..Note::default() }
}

impl<'a> Draft<'a> {
    pub(super) fn of(account: &'a mut Account) -> Self {
        Self { account, decision: Decision::default(), rolled: Vec::new() }
    }

    /// Changes the account's row alone.
    pub(super) fn set(mut self, now: Timestamp, change: impl FnOnce(&mut Account)) -> Decision {
        change(self.account);
        self.changed(now);
        self.repay(now);
        self.decision
    }

    /// Replaces the limits of one source; where they are the same, nothing changes.
    pub(super) fn set_limits(
        self,
        source: limits::Source,
        new: &[limits::Limit],
        now: Timestamp,
    ) -> Decision {
        let limits = source.replace(&self.account.limits, new);
        if limits == self.account.limits {
            return self.decision;
        }
        self.set(now, |account| account.limits = limits)
    }

    pub(super) fn changed(&mut self, at: Timestamp) {
        self.account.updated_at = at;
        self.decision.changed = true;
    }

    /// Appends an entry, and puts the grant that it issues into the account.
    pub(super) fn enter(
        &mut self,
        kind: EntryKind,
        amount: Credits,
        words: Words,
        note: &Note,
        at: Timestamp,
    ) {
        let account = &mut *self.account;
        let before = account.balance;
        account.seq += 1;
        account.balance = Credits::from_micro(before.micro() + amount.micro());
        let issued = words.grant.as_ref().map(|terms| Grant::issued(account.seq, terms));
        self.decision.entries.push(Entry {
            user: account.user,
            seq: account.seq,
            id: 0,
            kind,
            amount,
            balance_before: before,
            balance_after: account.balance,
            cause: words.cause,
            description: note.description.clone(),
            metadata: note.metadata.clone(),
            funded_by: words.funded_by,
            grant: words.grant,
            basis: words.basis,
            origin: note.origin.clone(),
            created_at: at,
            prev_hash: [0; 32],
            hash: [0; 32],
        });
        if let Some(grant) = issued {
            self.decision.touch_grant(&grant);
            account.insert_grant(grant);
        }
        self.changed(at);
    }

    /// The same for the entry that the command is answered with.
    pub(super) fn enter_own(
        &mut self,
        kind: EntryKind,
        amount: Credits,
        words: Words,
        note: &Note,
        at: Timestamp,
    ) {
        self.decision.own = Some(self.decision.entries.len());
        self.enter(kind, amount, words, note, at);
    }

    /// The grants that may pay for that, in the order of spending, up to `amount`; what they lack is
    /// of the credit limit. There must be enough.
    fn choose(&self, amount: Credits, context: &Context, now: Timestamp) -> Vec<(i64, Credits)> {
        let mut due = amount.micro();
        let mut parts = Vec::with_capacity(1);
        for grant in self.account.grants.iter().filter(|grant| grant.pays_for(context, now)) {
            let part = due.min(grant.free());
            if part > 0 {
                due -= part;
                parts.push((grant.seq, Credits::from_micro(part)));
            }
            if due == 0 {
                break;
            }
        }
        assert!(due == 0 || due <= self.account.line_free(), "what can be spent covers the amount");
        if due > 0 {
            parts.push((0, Credits::from_micro(due)));
        }
        parts
    }

    /// Takes `amount` from what may pay for that; there must be enough.
    pub(super) fn spend(
        &mut self,
        amount: Credits,
        context: &Context,
        now: Timestamp,
    ) -> Vec<(i64, Credits)> {
        let parts = self.choose(amount, context, now);
        for (seq, part) in &parts {
            self.move_grant(*seq, -part.micro(), 0);
        }
        self.drop_spent();
        parts
    }

    /// Sets `amount` aside of what may pay for that; there must be enough.
    pub(super) fn set_aside(
        &mut self,
        amount: Credits,
        context: &Context,
        now: Timestamp,
    ) -> Vec<(i64, Credits)> {
        let parts = self.choose(amount, context, now);
        for (seq, part) in &parts {
            self.move_grant(*seq, 0, part.micro());
        }
        parts
    }

    /// Moves what a grant has left and what of it is held.
    pub(super) fn move_grant(&mut self, seq: i64, remaining: i64, held: i64) {
        let Some(grant) = self.account.grants.iter_mut().find(|grant| grant.seq == seq) else {
            assert_eq!(seq, 0, "only grants with something left are moved");
            return;
        };
        grant.remaining = Credits::from_micro(grant.remaining.micro() + remaining);
        grant.held = Credits::from_micro(grant.held.micro() + held);
        assert!(0 <= grant.held.micro() && grant.held <= grant.remaining, "a grant holds what it has");
        if remaining != 0 {
            self.decision.touch_grant(grant);
        }
    }

    pub(super) fn drop_spent(&mut self) {
        self.account.grants.retain(|grant| grant.remaining > Credits::ZERO);
    }

    /// Puts a hold where it now belongs: among the open ones, or only among what is to be written.
    pub(super) fn put_hold(&mut self, hold: Hold, at: Timestamp) {
        self.decision.touch_hold(&hold);
        if hold.settled.is_none() {
            let place = self.account.holds.partition_point(|other| other.n < hold.n);
            self.account.holds.insert(place, hold);
        }
        self.account.held =
            Credits::from_micro(self.account.holds.iter().map(|hold| hold.amount.micro()).sum());
        self.changed(at);
    }

    /// Counts a debit under the spending limits, which it is not held against any more.
    pub(super) fn count(&mut self, spend: &limits::Spend<'_>, now: Timestamp) {
        let none = HashMap::new();
        let moves = limits::moves(&self.account.limits, self.account.user, spend, &none, now);
        self.decision.moves.extend(moves);
    }
}
