//! What others are told of payments: each change once, if it is one.
//!
//! Facts come twice, late and in any order, so whether one changes anything is asked of the row, which is
//! locked first, in the transaction that adds the fact.

use super::edits::{Dispute, Facts};
use super::model::{Payment, PaymentStatus};
use crate::db::Value;
use crate::webhooks::bodies::{PaymentEvent, TopUpDisabledEvent};
use crate::webhooks::outbox::keep_one;
use crate::webhooks::{Event, EventType};
use crate::writer::Statement;
use kernel::Timestamp;

/// A payment with facts added, as the statement that adds them makes of its row.
fn after(of: &Payment, facts: &Facts, now: Timestamp) -> Payment {
    let mut of = of.clone();
    let ended = |new| {
        of.status == PaymentStatus::Succeeded
            || (of.status == PaymentStatus::Canceled && new != PaymentStatus::Succeeded)
    };
    of.status = facts.status.filter(|new| !ended(*new)).unwrap_or(of.status);
    of.received = of.received.max(facts.received);
    of.refunded = of.refunded.max(facts.refunded);
    of.disputed = match facts.disputed {
        Some(Dispute::Open(amount)) if of.disputed >= 0 => amount,
        Some(Dispute::Won) => -1,
        _ => of.disputed,
    };
    of.payment_intent = of.payment_intent.or_else(|| facts.payment_intent.clone());
    of.invoice = of.invoice.or_else(|| facts.invoice.clone());
    of.failure = facts.failure.clone().or(of.failure);
    if let Some(bill) = facts.bill.as_ref().filter(|bill| bill.exact || of.period.is_none()) {
        of.item = Some(bill.plan_version.clone());
        of.amount = bill.amount;
    }
    of.updated_at = now;
    of
}

/// The statements that tell what facts change, to stand before the one that adds them.
#[must_use]
pub fn of_facts(of: &Payment, facts: &Facts, now: Timestamp) -> Vec<Statement> {
    let after = after(of, facts, now);
    let event = |kind, amount| Event::of(kind, of.user, now, &PaymentEvent::new(after.clone(), amount));
    let mut told = Vec::new();
    match facts.status {
        Some(PaymentStatus::Succeeded) => {
            let came = after.received.max(facts.received);
            let keep = keep_one!(
                " AND EXISTS (SELECT 1 FROM payments o WHERE o.id = $5 AND o.status <> 'succeeded')"
            );
            told.push(event(EventType::PaymentSucceeded, came).when(keep, [of.id.into()]));
        }
        Some(PaymentStatus::Failed) => {
            let keep =
                keep_one!(" AND EXISTS (SELECT 1 FROM payments o WHERE o.id = $5 AND o.status = 'pending')");
            told.push(event(EventType::PaymentFailed, after.amount).when(keep, [of.id.into()]));
        }
        Some(PaymentStatus::Canceled) => {
            let keep = keep_one!(
                " AND EXISTS (SELECT 1 FROM payments o WHERE o.id = $5 AND o.status NOT IN ('succeeded', 'canceled'))"
            );
            told.push(event(EventType::PaymentCanceled, after.amount).when(keep, [of.id.into()]));
        }
        Some(PaymentStatus::Pending) | None => {}
    }
    if facts.refunded > 0 {
        let keep = keep_one!(" AND EXISTS (SELECT 1 FROM payments o WHERE o.id = $5 AND o.refunded < $6)");
        let condition: [Value; 2] = [of.id.into(), facts.refunded.into()];
        told.push(event(EventType::PaymentRefunded, facts.refunded).when(keep, condition));
    }
    match facts.disputed {
        Some(Dispute::Open(amount)) => {
            let keep = keep_one!(
                " AND EXISTS (SELECT 1 FROM payments o WHERE o.id = $5 AND o.disputed >= 0 AND o.disputed <> $6)"
            );
            told.push(event(EventType::PaymentDisputed, amount).when(keep, [of.id.into(), amount.into()]));
        }
        Some(Dispute::Won) => {
            let keep = keep_one!(" AND EXISTS (SELECT 1 FROM payments o WHERE o.id = $5 AND o.disputed > 0)");
            told.push(event(EventType::PaymentDisputed, 0).when(keep, [of.id.into()]));
        }
        None => {}
    }
    if !told.is_empty() {
        told.insert(0, lock(of));
    }
    told
}

/// Locks a payment, so that what is asked of it next stays true until the transaction ends.
fn lock(of: &Payment) -> Statement {
    let sql = "UPDATE payments SET updated_at = updated_at WHERE id = $1";
    Statement::one(sql, vec![of.id.into()])
}

/// Locks what a user has set of top-ups, where it has, so that of two facts that turn it off one finds it on.
fn lock_top_up(of: &Payment) -> Statement {
    let sql = "UPDATE auto_top_ups SET updated_at = updated_at WHERE user_id = $1";
    Statement::any(sql, vec![of.user.0.into()])
}

/// The statements that tell that a top-up is turned off because money of a payment went back, where it is on.
#[must_use]
pub fn of_stopped_top_up(of: &Payment, why: &str, now: Timestamp) -> [Statement; 2] {
    let event = Event::of(EventType::AlertTopUpDisabled, of.user, now, &TopUpDisabledEvent::new(of, why));
    let keep = keep_one!(" AND EXISTS (SELECT 1 FROM auto_top_ups o WHERE o.user_id = $5 AND o.enabled = 1)");
    [lock_top_up(of), event.when(keep, [of.user.0.into()])]
}

/// The statements that tell of the end of a top-up that is under way, to stand before those that end it; `failures`
/// is how many in a row turn it off, where this is one.
#[must_use]
pub fn of_top_up(of: &Payment, why: &str, failures: Option<i64>, now: Timestamp) -> Vec<Statement> {
    let (mut after, amount) = (of.clone(), of.amount);
    after.status = PaymentStatus::Canceled;
    after.failure = Some(why.to_owned());
    after.updated_at = now;
    let event = |kind| Event::of(kind, of.user, now, &PaymentEvent::new(after.clone(), amount));
    let mut told = vec![lock(of)];
    if let Some(failures) = failures {
        let keep =
            keep_one!(" AND EXISTS (SELECT 1 FROM payments o WHERE o.id = $5 AND o.status = 'pending')");
        told.push(event(EventType::PaymentFailed).when(keep, [of.id.into()]));
        let body = TopUpDisabledEvent::new(of, why);
        let disabled = Event::of(EventType::AlertTopUpDisabled, of.user, now, &body);
        let keep = keep_one!(
            " AND EXISTS (SELECT 1 FROM auto_top_ups o WHERE o.user_id = $5 AND o.enabled = 1 AND o.failures + 1 >= $6)"
        );
        told.push(lock_top_up(of));
        told.push(disabled.when(keep, [of.user.0.into(), failures.into()]));
    }
    // The statement that ends it says whether it was under way.
    told.push(event(EventType::PaymentCanceled).statement());
    told
}
