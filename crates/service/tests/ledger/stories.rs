//! Short stories of what is easily got wrong, each told in the rules alone and held against the model.

use crate::books::Books;
use crate::model::Model;
use crate::script::{Ask, DAY, Give, Outcome, START, What};
use kernel::Credits;
use std::time::Duration;
use user_service::credits::EntryKind;
use user_service::credits::hold::{HoldStatus, OnExpiry};
use user_service::credits::ledger::Policy;

const ANYTHING: What = (None, None);

/// An account and its model, which must agree after every ask.
struct Story {
    books: Books,
    model: Model,
}

impl Story {
    fn begin() -> Self {
        let policy = Policy { refund_life: Some(Duration::from_micros(500)) };
        Self { books: Books::new(1, policy, START), model: Model::new(1_000, Some(500), START) }
    }

    /// Asks at so many microseconds after the beginning.
    fn ask(&mut self, at: i64, ask: Ask) -> Outcome {
        let outcome = self.books.apply(&ask, START + at);
        assert_eq!(outcome, self.model.apply(&ask, START + at), "{ask:?} at {at}\n{}", self.model);
        self.books.invariants(START + at);
        self.books.compare(&self.model, START + at, 1);
        self.books.reload();
        outcome
    }

    fn done(&mut self, at: i64, ask: Ask) {
        assert_eq!(self.ask(at, ask.clone()), Outcome::Done, "{ask:?} at {at}");
    }

    fn give(&mut self, at: i64, units: u64, until: Option<i64>) {
        self.done(at, Ask::Give(Give { units, until: until.map(|until| START + until), ..Give::default() }));
    }

    fn hold(&mut self, at: i64, units: u64, life: i64, on_expiry: OnExpiry) {
        self.done(at, Ask::Hold { units, life, on_expiry, what: ANYTHING });
    }

    fn balance(&self) -> i64 {
        self.books.account.balance.micro()
    }

    fn kinds(&self) -> Vec<EntryKind> {
        self.books.entries.iter().map(|entry| entry.kind).collect()
    }

    /// Which grants the last entry moved, and by how much; 0 is what is owed.
    fn parts(&self) -> Vec<(i64, i64)> {
        let last = self.books.entries.last().expect("an entry");
        last.funded_by.iter().map(|(seq, part)| (*seq, part.micro())).collect()
    }

    /// What the last settled hold was charged, and what it asked for in vain.
    fn charged(&self) -> (HoldStatus, i64, i64) {
        let hold = self.books.holds.values().rfind(|hold| hold.settled.is_some()).expect("a settled hold");
        let settled = hold.settled.expect("settled");
        (hold.status, settled.captured.micro(), settled.short_by.micro())
    }
}

fn reclaim(receipt: usize, units: u64, reference: u64) -> Ask {
    Ask::Reclaim { receipt, units, reference }
}

fn consume(units: u64) -> Ask {
    Ask::Consume { units, what: ANYTHING }
}

fn capture(units: u64) -> Ask {
    Ask::Capture { hold: 0, units: Some(units) }
}

#[test]
fn a_capture_of_more_than_is_held_takes_no_more_than_there_is() {
    let mut story = Story::begin();
    story.give(0, 10, None);
    story.hold(1, 10, 100, OnExpiry::Release);
    story.done(2, capture(15));
    assert_eq!((story.charged(), story.balance()), ((HoldStatus::Captured, 10, 5), 0));

    // With a credit limit it takes what that allows, to the last.
    for (limit, charged, balance) in [(5, (15, 0), -5), (4, (10, 5), 0)] {
        let mut story = Story::begin();
        story.give(0, 10, None);
        story.hold(1, 10, 100, OnExpiry::Release);
        story.done(1, Ask::Limit(limit));
        story.done(2, capture(15));
        assert_eq!(story.charged(), (HoldStatus::Captured, charged.0, charged.1), "limit {limit}");
        assert_eq!(story.balance(), balance, "limit {limit}");
    }
}

#[test]
fn what_was_applied_before_changes_nothing_where_something_else_is_due() {
    let mut story = Story::begin();
    let bought = Ask::Give(Give { recharge: true, units: 5, reference: Some(1), ..Give::default() });
    story.done(0, bought.clone());
    story.give(1, 7, Some(10));
    story.hold(2, 3, 1_000, OnExpiry::Release);
    story.done(3, Ask::Release { hold: 0 });
    assert_eq!(story.ask(20, bought), Outcome::Again(0));
    assert_eq!(story.ask(20, Ask::Release { hold: 0 }), Outcome::Still);
    assert_eq!(story.books.account.seq, 2, "the ended grant is written down by who changes something");
    story.done(20, consume(1));
    use EntryKind::{Consume, Expire, Grant, Recharge};
    assert_eq!(story.kinds(), [Recharge, Grant, Expire, Consume]);
}

#[test]
fn a_debt_is_paid_by_what_began_and_ended_while_nobody_looked() {
    let mut story = Story::begin();
    story.done(0, Ask::Limit(5));
    story.hold(1, 5, 10, OnExpiry::CaptureAll);
    let give = Give { units: 9, from: Some(START + 20), until: Some(START + 30), ..Give::default() };
    story.done(2, Ask::Give(give));
    // The hold is charged at 11, which is owed; the grant begins at 20 and pays; its rest ends at 30.
    story.done(50, Ask::Settle);
    use EntryKind::{Adjust, Capture, Expire, Grant};
    assert_eq!(story.kinds(), [Grant, Capture, Adjust, Expire]);
    let at: Vec<i64> = story.books.entries.iter().map(|entry| entry.created_at.micros() - START).collect();
    assert_eq!(at, [2, 11, 20, 30], "each at its instant");
    assert_eq!((story.balance(), story.books.account.owed()), (0, 0));
}

#[test]
fn what_a_hold_has_set_aside_outlives_its_grant_and_nothing_else_does() {
    let mut story = Story::begin();
    story.give(0, 10, Some(100));
    story.hold(1, 6, 1_000, OnExpiry::CaptureTicked);
    story.done(2, Ask::Tick { hold: 0, units: Some(2), life: None });
    assert_eq!(story.ask(150, consume(1)), Outcome::Insufficient);
    story.done(150, Ask::Settle);
    assert_eq!(story.balance(), 6, "held, and so not gone");
    // More than it has set aside is nowhere; what it leaves ends at once.
    story.done(200, capture(5));
    assert_eq!((story.charged(), story.balance()), ((HoldStatus::Captured, 5, 0), 0));
    use EntryKind::{Capture, Expire, Grant};
    assert_eq!(story.kinds(), [Grant, Expire, Capture, Expire]);
    // It was paid by what has ended, so a refund is a grant of its own.
    story.done(210, Ask::Refund { receipt: Some(1), units: None });
    assert_eq!(story.books.account.grants[0].source, user_service::credits::Source::Refund);
}

#[test]
fn at_one_instant_holds_end_before_grants_and_both_before_a_request() {
    for (policy, status, charged) in [
        (OnExpiry::Release, HoldStatus::Expired, 0),
        (OnExpiry::CaptureTicked, HoldStatus::Expired, 2),
        (OnExpiry::CaptureAll, HoldStatus::Expired, 6),
    ] {
        let mut story = Story::begin();
        story.give(0, 10, Some(100));
        story.hold(0, 6, 100, policy);
        story.done(1, Ask::Tick { hold: 0, units: Some(2), life: None });
        assert_eq!(story.ask(100, capture(6)), Outcome::HoldSettled, "{policy}: it ended at this instant");
        assert_eq!(story.ask(100, consume(1)), Outcome::Insufficient, "{policy}: so did the grant");
        story.done(100, Ask::Settle);
        assert_eq!((story.charged(), story.balance()), ((status, charged, 0), 0), "{policy}");
    }
}

#[test]
fn no_more_rolls_over_than_may_however_often_holds_come_back() {
    let mut story = Story::begin();
    let give = Give { units: 20, until: Some(START + 100), roll: Some((7, 1)), ..Give::default() };
    story.done(0, Ask::Give(give));
    for units in [4, 5] {
        story.hold(1, units, 10_000, OnExpiry::Release);
    }
    // 11 are free, 9 are held and may come back: all that may roll over is kept for those.
    story.done(150, Ask::Settle);
    assert_eq!(story.balance(), 9);
    story.done(160, Ask::Release { hold: 0 });
    story.done(170, Ask::Release { hold: 1 });
    assert_eq!(story.balance(), 7);
    // What rolled over ends one day after it did, and does not roll on.
    story.done(160 + DAY, Ask::Settle);
    assert_eq!(story.balance(), 5);
    story.done(170 + DAY, Ask::Settle);
    assert_eq!(story.balance(), 0);
}

#[test]
fn a_limit_that_is_lowered_takes_nothing_away_and_lets_nothing_new_be_borrowed() {
    let mut story = Story::begin();
    story.done(0, Ask::Limit(10));
    story.done(1, consume(6));
    story.hold(2, 3, 1_000, OnExpiry::Release);
    story.done(3, Ask::Limit(0));
    assert_eq!(story.ask(4, consume(1)), Outcome::Insufficient);
    story.done(5, capture(4));
    assert_eq!(
        (story.charged(), story.balance()),
        ((HoldStatus::Captured, 3, 1), -9),
        "what it held is there"
    );
    story.give(6, 20, None);
    assert_eq!((story.balance(), story.books.account.owed()), (11, 0), "what was owed is paid first");
    // A refund of what was borrowed and is paid back is the customer's own, for ever.
    story.done(7, Ask::Refund { receipt: Some(0), units: None });
    let refund = story.books.account.grants.iter().find(|grant| grant.seq == 5).expect("the refund's grant");
    assert_eq!((refund.remaining.micro(), refund.expires_at), (6, None));
}

#[test]
fn nothing_comes_back_into_a_grant_that_was_taken_back() {
    let mut story = Story::begin();
    story.give(0, 10, None);
    story.done(1, consume(4));
    story.done(2, Ask::Void { receipt: 0 });
    assert_eq!(story.balance(), 0);
    story.done(3, Ask::Refund { receipt: Some(1), units: Some(3) });
    assert_eq!(story.ask(4, Ask::Void { receipt: 0 }), Outcome::NothingToVoid);
    assert_eq!(story.balance(), 3);
    assert!(story.books.grants[&1].voided && story.books.grants[&1].remaining == Credits::ZERO);
}

#[test]
fn what_is_reclaimed_comes_of_the_grant_then_of_others_and_is_owed_in_the_end() {
    let mut story = Story::begin();
    story.give(0, 10, None);
    story.done(0, Ask::Give(Give { units: 5, scope: (Some(0), None), ..Give::default() }));
    story.give(0, 4, None);
    story.done(1, consume(7));
    story.done(2, reclaim(0, 9, 1));
    assert_eq!(story.parts(), [(1, 3), (3, 4), (0, 2)], "what has a scope pays for nothing else");
    assert_eq!((story.balance(), story.books.account.owed()), (3, 2));
    assert_eq!(story.ask(3, consume(1)), Outcome::Insufficient);
    // The same reference is answered with what it did, whatever the amount; it is no other grant's.
    assert_eq!(story.ask(4, reclaim(0, 9, 1)), Outcome::Again(4));
    assert_eq!(story.ask(4, reclaim(0, 1, 1)), Outcome::Again(4));
    assert_eq!(story.ask(4, reclaim(2, 1, 1)), Outcome::ReferenceTaken);
    assert_eq!(story.ask(4, reclaim(0, 2, 2)), Outcome::ReclaimExceeds);
    assert_eq!(story.ask(4, reclaim(3, 1, 2)), Outcome::UnknownGrant);
    // What has a scope is its own grant's to give back.
    story.done(5, reclaim(1, 5, 2));
    assert_eq!((story.parts(), story.balance()), (vec![(2, 5)], -2));
    story.give(6, 20, None);
    assert_eq!((story.balance(), story.books.account.owed()), (18, 0), "later credits pay what is owed");
}

#[test]
fn a_refund_gives_a_grant_no_more_than_was_not_reclaimed_of_it() {
    let mut story = Story::begin();
    story.give(0, 10, None);
    story.done(1, consume(8));
    story.done(2, reclaim(0, 5, 1));
    assert_eq!((story.parts(), story.balance()), (vec![(1, 2), (0, 3)], -3));
    // Eight come back: five to the grant, three as a grant of their own, which pays what is owed.
    story.done(3, Ask::Refund { receipt: Some(1), units: None });
    assert_eq!((story.parts(), story.balance(), story.books.account.owed()), (vec![(4, 3)], 5, 0));
    assert_eq!(story.books.grants[&1].remaining, Credits::from_micro(5));
    story.done(4, reclaim(0, 5, 2));
    assert_eq!((story.parts(), story.balance()), (vec![(1, 5)], 0), "and those can be reclaimed in turn");
    assert!(story.books.grants[&1].voided, "all that it gave is taken back");
}

#[test]
fn what_a_hold_has_is_not_reclaimed_and_is_not_taken_twice() {
    let mut story = Story::begin();
    story.give(0, 10, None);
    story.give(0, 10, None);
    story.hold(1, 10, 1_000, OnExpiry::Release);
    story.done(2, reclaim(0, 6, 1));
    assert_eq!(story.parts(), [(2, 6)], "the other grant stands in for what is held");
    story.done(3, Ask::Release { hold: 0 });
    story.done(4, Ask::Void { receipt: 0 });
    assert_eq!((story.parts(), story.balance()), (vec![(1, 4)], 10), "the rest of the ten");
    assert_eq!(story.ask(5, Ask::Void { receipt: 0 }), Outcome::NothingToVoid);
    assert_eq!(story.ask(5, reclaim(0, 1, 2)), Outcome::ReclaimExceeds);
    story.done(6, consume(10));
}

#[test]
fn what_has_ended_is_reclaimed_of_what_else_there_is() {
    let mut story = Story::begin();
    story.give(0, 10, Some(100));
    story.give(0, 3, None);
    // Nobody has written down yet that the grant has ended.
    story.done(150, reclaim(0, 10, 1));
    use EntryKind::{Expire, Grant, Reversal};
    assert_eq!(story.kinds(), [Grant, Grant, Expire, Reversal]);
    assert_eq!((story.parts(), story.balance()), (vec![(2, 3), (0, 7)], -7));
}
