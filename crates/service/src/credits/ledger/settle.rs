//! What the passing of time does to an account: grants end, holds end, debts are paid back.
//!
//! Each takes effect at its own instant, in the order of their instants, whenever it is written
//! down: by the next command on the account, by the sweeper, or, without being written, by whoever
//! reads the account.

use super::draft::{Draft, Words, of_system};
use crate::credits::context::Basis;
use crate::credits::hold::{Hold, HoldStatus, Settled};
use crate::credits::model::{Account, Cause, EntryKind, Grant, GrantTerms};
use kernel::{Credits, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// One day.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whether anything is due at `now` and not written down.
#[must_use]
pub fn is_due(account: &Account, now: Timestamp) -> bool {
    account.grants.iter().any(|grant| grant.expired(now) && grant.free() > 0)
        || account.holds.iter().any(|hold| hold.ended(now))
        || (account.balance < total_left(account) && account.grants.iter().any(|grant| repays(grant, now)))
}

fn total_left(account: &Account) -> Credits {
    Credits::from_micro(account.grants.iter().map(|grant| grant.remaining.micro()).sum())
}

/// Whether the account owes something at some instant until `now`: it does already, or a hold that
/// ends has some of the credit limit.
fn may_owe(account: &Account, now: Timestamp) -> bool {
    account.owed() > 0 || account.holds.iter().any(|hold| hold.ended(now) && hold.of_line() > 0)
}

/// Whether a grant pays back what is owed.
pub(super) fn repays(grant: &Grant, now: Timestamp) -> bool {
    grant.scope.is_none() && grant.usable(now) && grant.free() > 0
}

/// At most how many entries one command writes on an account of which nothing is due: its own, one
/// that pays back, and one for each grant that ended while a hold kept some of it.
#[must_use]
pub fn entries_of_command(account: &Account) -> usize {
    2 + account.holds.iter().map(|hold| hold.parts.len()).max().unwrap_or(0)
}

/// At most how many entries write down what is due.
#[must_use]
pub fn entries_due(account: &Account, now: Timestamp) -> usize {
    if !is_due(account, now) {
        return 0;
    }
    // A grant ends, what rolled over ends in turn; each may be followed by paying back.
    let ends = account.grants.iter().filter(|grant| grant.expired(now)).count();
    let of_holds: usize =
        account.holds.iter().filter(|hold| hold.ended(now)).map(|hold| 1 + 2 * hold.parts.len()).sum();
    let beginnings = if may_owe(account, now) { account.grants.len() } else { 0 };
    2 * (2 * ends + of_holds + beginnings)
}

/// The account as it is at `now`, with nothing due.
#[must_use]
pub fn settled(account: &Account, now: Timestamp) -> Account {
    let mut account = account.clone();
    Draft::of(&mut account).settle(now);
    account
}

/// What happens at one instant: holds end before grants do, so that what returns can end with its grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    HoldEnds(i64),
    GrantEnds(i64),
    GrantBegins(i64),
}

impl Draft<'_> {
    /// Does all that is due, each at its own instant.
    pub(super) fn settle(&mut self, now: Timestamp) {
        let mut events = self.events(now);
        while let Some((at, event)) = events.pop_first() {
            let at = at.max(self.account.updated_at);
            match event {
                Event::HoldEnds(n) => self.end_hold(n, at),
                Event::GrantEnds(seq) => self.end_grant(seq, at),
                Event::GrantBegins(_) => {}
            }
            let rolled = self.rolled.drain(..).filter(|(end, _)| *end <= now);
            events.extend(rolled.map(|(end, seq)| (end, Event::GrantEnds(seq))));
            self.repay(at);
        }
        self.drop_spent();
    }

    fn events(&self, now: Timestamp) -> BTreeSet<(Timestamp, Event)> {
        let account = &*self.account;
        let mut events = BTreeSet::new();
        let owes = may_owe(account, now);
        for grant in &account.grants {
            if let Some(end) = grant.expires_at.filter(|end| *end <= now) {
                events.insert((end, Event::GrantEnds(grant.seq)));
            }
            if owes && grant.scope.is_none() && grant.effective_at <= now {
                events.insert((grant.effective_at, Event::GrantBegins(grant.seq)));
            }
        }
        let ended = account.holds.iter().filter(|hold| hold.ended(now));
        events.extend(ended.map(|hold| (hold.expires_at, Event::HoldEnds(hold.n))));
        events
    }

    /// Writes down that a grant has ended.
    pub(super) fn end_grant(&mut self, seq: i64, at: Timestamp) {
        let ending = self.account.grants.iter().find(|grant| grant.seq == seq && grant.free() > 0);
        let Some(grant) = ending.cloned() else { return };
        let rest = grant.free();
        let rolled = grant.rollover.and_then(|rollover| {
            // What is still held may return later, and rolls over then.
            let room = (rollover.max - grant.held.micro()).clamp(0, rest);
            let days = DAY.saturating_mul(u32::try_from(rollover.days).unwrap_or(u32::MAX));
            (room > 0).then(|| GrantTerms {
                source: grant.source,
                amount: room,
                priority: grant.priority,
                effective_at: at.micros(),
                expires_at: Some(at.plus(days).micros()),
                scope: grant.scope.as_deref().cloned(),
                rollover: None,
            })
        });
        let lost = rest - rolled.as_ref().map_or(0, |terms| terms.amount);
        self.move_grant(seq, -rest, 0);
        let end = rolled.as_ref().and_then(|terms| terms.expires_at).map(Timestamp::from_micros);
        let words =
            Words { funded_by: vec![(seq, Credits::from_micro(rest))], grant: rolled, ..Words::default() };
        self.enter(EntryKind::Expire, -Credits::from_micro(lost), words, &of_system(), at);
        self.rolled.extend(end.map(|end| (end, self.account.seq)));
    }

    /// Does what a hold wants done when nobody settles it.
    fn end_hold(&mut self, n: i64, at: Timestamp) {
        let Some(place) = self.account.holds.iter().position(|hold| hold.n == n) else { return };
        let hold = self.account.holds.remove(place);
        let due = hold.due_at_end();
        let parts = self.unhold(&hold, due);
        let charged = due > Credits::ZERO;
        if charged {
            let mut note = of_system();
            note.description.clone_from(&hold.description);
            let words = Words {
                cause: Cause { hold_id: Some(hold.id(self.account.user).to_string()), ..Cause::default() },
                funded_by: parts,
                basis: Basis { context: hold.context.clone(), pricing: None }.given(),
                grant: None,
            };
            self.enter(EntryKind::Capture, -due, words, &note, at);
            self.count(&hold.context.spend(due, super::Measure::default()), at);
        }
        let settled = Settled {
            at,
            asked: due,
            captured: due,
            short_by: Credits::ZERO,
            entry_seq: charged.then_some(self.account.seq),
        };
        self.returned(&hold, at);
        self.put_hold(Hold { status: HoldStatus::Expired, settled: Some(settled), ..hold }, at);
    }

    /// Frees what a hold has set aside, and spends the first `amount` of it; gives back whose that was.
    pub(super) fn unhold(&mut self, hold: &Hold, amount: Credits) -> Vec<(i64, Credits)> {
        let mut due = amount.micro();
        let mut parts = Vec::with_capacity(hold.parts.len());
        for (seq, part) in &hold.parts {
            let spent = due.min(part.micro());
            due -= spent;
            if spent > 0 {
                parts.push((*seq, Credits::from_micro(spent)));
            }
            self.move_grant(*seq, -spent, -part.micro());
        }
        parts
    }

    /// Lets what returned from a hold end with its grant, where that has ended meanwhile.
    pub(super) fn returned(&mut self, hold: &Hold, at: Timestamp) {
        for (seq, _) in &hold.parts {
            let ended = |grant: &Grant| grant.seq == *seq && grant.expired(at);
            if self.account.grants.iter().any(ended) {
                self.end_grant(*seq, at);
            }
        }
        self.drop_spent();
    }

    /// Pays what is owed with what can be spent on anything, in the order of spending.
    pub(super) fn repay(&mut self, at: Timestamp) {
        let mut owed = self.account.owed();
        if owed == 0 {
            return;
        }
        let mut parts = Vec::new();
        for grant in self.account.grants.iter().filter(|grant| repays(grant, at)) {
            let part = owed.min(grant.free());
            owed -= part;
            parts.push((grant.seq, Credits::from_micro(part)));
            if owed == 0 {
                break;
            }
        }
        if parts.is_empty() {
            return;
        }
        for (seq, part) in &parts {
            self.move_grant(*seq, -part.micro(), 0);
        }
        self.drop_spent();
        let words = Words { funded_by: parts, ..Words::default() };
        self.enter(EntryKind::Adjust, Credits::ZERO, words, &of_system(), at);
    }
}
