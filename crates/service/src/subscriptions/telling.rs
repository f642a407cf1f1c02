//! What others are told of subscriptions: each change once, if it is one.

use super::edits::Standing;
use super::model::{Subscription, SubscriptionStatus};
use crate::webhooks::bodies::SubscriptionEvent;
use crate::webhooks::{Event, EventType};
use crate::writer::Statement;
use kernel::Timestamp;

/// What became of a subscription, which now stands like that.
#[must_use]
pub fn of(kind: EventType, of: Subscription, now: Timestamp) -> Event {
    Event::of(kind, of.user, now, &SubscriptionEvent::new(of))
}

/// That a subscription is over.
#[must_use]
pub fn of_end(before: &Subscription, now: Timestamp) -> Event {
    let mut ended = before.clone();
    ended.status = SubscriptionStatus::Canceled;
    ended.canceled_at = ended.canceled_at.or(Some(now));
    ended.updated_at = now;
    of(EventType::SubscriptionEnded, ended, now)
}

/// Locks a subscription that is not over, so that what is asked of it next stays true until the transaction ends.
pub(super) fn lock(of: &Subscription) -> Statement {
    let sql = "UPDATE subscriptions SET updated_at = updated_at WHERE id = $1 AND status <> 'canceled'";
    Statement::one(sql, vec![of.id.into()])
}

/// Locks a subscription that still stands as it was read; refused where it does not.
pub(super) fn lock_as_read(of: &Subscription) -> Statement {
    let sql = "UPDATE subscriptions SET updated_at = updated_at WHERE id = $1 AND status = $2 AND period_start = $3 \
        AND cancel_at_period_end = $4 AND plan_version = $5";
    let values = vec![
        of.id.into(),
        of.status.as_str().into(),
        of.period.start.micros().into(),
        i64::from(of.cancel_at_period_end).into(),
        of.plan_version.as_str().into(),
    ];
    Statement::one(sql, values)
}

/// A subscription that stands for Stripe's, with what that comes to.
pub(super) fn standing(before: &Subscription, plan: &str, to: &Standing, now: Timestamp) -> Subscription {
    Subscription {
        plan: plan.to_owned(),
        plan_version: to.plan_version.clone(),
        status: to.status,
        period: to.period,
        due_at: to.due_at,
        cancel_at_period_end: to.cancel_at_period_end,
        canceled_at: to.ended_at,
        updated_at: now,
        ..before.clone()
    }
}

/// What became of a subscription that stood like that and now does like this.
pub(super) fn of_standing(before: &Subscription, after: &Subscription, now: Timestamp) -> Vec<Event> {
    let over = |of: &Subscription| of.status == SubscriptionStatus::Canceled;
    let mut kinds = Vec::new();
    if over(after) {
        kinds.extend((!over(before)).then_some(EventType::SubscriptionEnded));
    } else {
        let became = |status| after.status == status && before.status != status;
        if after.period.start > before.period.start {
            kinds.push(EventType::SubscriptionRenewed);
        }
        if became(SubscriptionStatus::PastDue) {
            kinds.push(EventType::SubscriptionPastDue);
        }
        match (before.cancel_at_period_end, after.cancel_at_period_end) {
            (false, true) => kinds.push(EventType::SubscriptionCanceled),
            (true, false) => kinds.push(EventType::SubscriptionResumed),
            _ => {}
        }
        let state = before.status != after.status && kinds.is_empty();
        if state || before.plan_version != after.plan_version {
            kinds.push(EventType::SubscriptionUpdated);
        }
    }
    kinds.into_iter().map(|kind| of(kind, after.clone(), now)).collect()
}
