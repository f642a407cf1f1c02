//! What is written of subscriptions: each change with the user's plan, in one transaction.

use super::model::{Subscription, SubscriptionProvider, SubscriptionStatus};
use super::period::Period;
use super::telling;
use crate::db::Value;
use crate::webhooks::EventType;
use crate::webhooks::bodies::FRESH;
use crate::webhooks::outbox::keep_one;
use crate::writer::{Counter, Edit, Statement};
use kernel::{Timestamp, UserRowId};

/// Writes into the user's row what its subscriptions say.
fn project(user: UserRowId) -> Statement {
    let sql = "UPDATE users SET \
        plan = COALESCE((SELECT s.plan FROM subscriptions s WHERE s.user_id = users.id AND s.status <> 'canceled'), 'free'), \
        plan_version = (SELECT s.plan_version FROM subscriptions s WHERE s.user_id = users.id AND s.status <> 'canceled'), \
        subscription_status = COALESCE((SELECT CASE s.provider WHEN 'free' THEN 'free' ELSE s.status END \
            FROM subscriptions s WHERE s.user_id = users.id AND s.status <> 'canceled'), 'free') WHERE id = $1";
    Statement::one(sql, vec![user.0.into()])
}

/// What a new subscription takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// Of none; it is refused where there is one.
    Nothing,
    /// Of this one; it is refused where that is over.
    This(i64),
    /// Of whatever there is.
    Anything,
}

macro_rules! end_where {
    ($condition:literal) => {
        concat!(
            "UPDATE subscriptions SET status = 'canceled', canceled_at = COALESCE(canceled_at, $2), updated_at = $2 \
             WHERE status <> 'canceled' AND ",
            $condition
        )
    };
}

/// Ends whatever there is, which is to be what was read: none, or this one.
fn end_all(user: UserRowId, live: Option<&Subscription>, now: Timestamp) -> Statement {
    let values = vec![user.0.into(), now.micros().into()];
    Statement {
        rows: Some(usize::from(live.is_some())),
        ..Statement::any(end_where!("user_id = $1"), values)
    }
}

fn end_one(id: i64, now: Timestamp) -> Statement {
    Statement::one(end_where!("id = $1"), vec![id.into(), now.micros().into()])
}

/// Begins a subscription in the place of the one in force, as it was read; refused where what it replaces is not what
/// there is, and where the same cause began one before.
#[must_use]
pub fn begin(
    new: &Subscription,
    replaces: Replaces,
    live: Option<&Subscription>,
    cause: Option<&str>,
    now: Timestamp,
) -> Edit {
    let insert = "INSERT INTO subscriptions (id, user_id, plan, plan_version, provider, status, anchor, period, \
        period_start, period_end, due_at, ends_at, cancel_at_period_end, cause, created_at, updated_at) \
        SELECT $1, a.user_id, $2, $3, $4, 'active', $5, $6, $7, $8, 0, $9, 0, $12, $10, $10 FROM credit_accounts a \
        WHERE a.user_id = $11 AND NOT a.closed ON CONFLICT DO NOTHING";
    let values = vec![
        Value::Fresh,
        new.plan.as_str().into(),
        new.plan_version.as_str().into(),
        new.provider.as_str().into(),
        new.anchor.micros().into(),
        new.period.n.into(),
        new.period.start.micros().into(),
        new.period.end.micros().into(),
        new.ends_at.map(Timestamp::micros).into(),
        now.micros().into(),
        new.user.0.into(),
        cause.map(str::to_owned).into(),
    ];
    let begun = [Statement::one(insert, values), project(new.user)];
    let (end, ended) = match replaces {
        Replaces::Nothing => (None, None),
        Replaces::This(id) => (Some(end_one(id, now)), live.filter(|live| live.id == id)),
        Replaces::Anything => (Some(end_all(new.user, live, now)), live),
    };
    let statements = end.into_iter().chain(begun).collect();
    let created = telling::of(EventType::SubscriptionCreated, Subscription { id: FRESH, ..new.clone() }, now);
    let edit = Edit::making(Counter::Subscriptions, new.user, statements);
    edit.telling(ended.map(|live| telling::of_end(live, now))).telling(created)
}

/// Turns to the next period; statement 0 finds that somebody else did.
#[must_use]
pub fn renew(of: &Subscription, next: Period, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET period = $3, period_start = $4, period_end = $5, due_at = 0, updated_at = $6 \
        WHERE id = $1 AND period = $2 AND status <> 'canceled'";
    let values = [of.id, of.period.n, next.n, next.start.micros(), next.end.micros(), now.micros()];
    let renewed = Subscription { period: next, updated_at: now, ..of.clone() };
    let renewed = telling::of(EventType::SubscriptionRenewed, renewed, now);
    Edit::new(of.user, vec![Statement::one(sql, values.map(Value::from).to_vec())]).telling(renewed)
}

/// Notes that the credits of its period were given.
#[must_use]
pub fn granted(of: &Subscription) -> Edit {
    let sql = "UPDATE subscriptions SET due_at = period_end WHERE id = $1 AND period = $2";
    Edit::new(of.user, vec![Statement::any(sql, vec![of.id.into(), of.period.n.into()])])
}

/// Lets it end with its period. Whose word that was stays, unless it is an operator's; statement 0 finds it over.
#[must_use]
pub fn cancel_at_period_end(of: &Subscription, by: &str, operator: bool, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET cancel_at_period_end = 1, canceled_at = COALESCE(canceled_at, $2), \
        canceled_by = CASE WHEN CAST($4 AS BIGINT) = 1 THEN CAST($3 AS TEXT) ELSE COALESCE(canceled_by, CAST($3 AS TEXT)) END, updated_at = $2 \
        WHERE id = $1 AND status <> 'canceled'";
    let values = vec![of.id.into(), now.micros().into(), by.into(), i64::from(operator).into()];
    let canceled_at = of.canceled_at.or(Some(now));
    let after = Subscription { cancel_at_period_end: true, canceled_at, updated_at: now, ..of.clone() };
    let keep = keep_one!(
        " AND EXISTS (SELECT 1 FROM subscriptions o WHERE o.id = $5 AND o.cancel_at_period_end = 0)"
    );
    let told = telling::of(EventType::SubscriptionCanceled, after, now).when(keep, [of.id.into()]);
    Edit::new(of.user, vec![telling::lock(of), told, Statement::one(sql, values)])
}

/// Takes a cancellation back: anybody's, or only that of `whose`. Statement 0 finds it over, or another's.
#[must_use]
pub fn resume(of: &Subscription, whose: Option<&str>, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET cancel_at_period_end = 0, canceled_at = NULL, canceled_by = NULL, updated_at = $2 \
        WHERE id = $1 AND status <> 'canceled' AND (CAST($3 AS TEXT) IS NULL OR canceled_by IS NULL OR canceled_by = $3)";
    let values = vec![of.id.into(), now.micros().into(), whose.map(str::to_owned).into()];
    let after =
        Subscription { cancel_at_period_end: false, canceled_at: None, updated_at: now, ..of.clone() };
    let keep = keep_one!(
        " AND EXISTS (SELECT 1 FROM subscriptions o WHERE o.id = $5 AND o.cancel_at_period_end = 1)"
    );
    let told = telling::of(EventType::SubscriptionResumed, after, now).when(keep, [of.id.into()]);
    Edit::new(of.user, vec![telling::lock(of), told, Statement::one(sql, values)])
}

/// Says what it becomes when its period ends; statement 0 finds it over.
#[must_use]
pub fn set_next(of: &Subscription, version: &str, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET next_plan_version = $2, updated_at = $3 WHERE id = $1 AND status <> 'canceled'";
    let next_plan_version = Some(version.to_owned());
    let after = Subscription { next_plan_version, updated_at: now, ..of.clone() };
    let keep = keep_one!(
        " AND EXISTS (SELECT 1 FROM subscriptions o WHERE o.id = $5 AND o.next_plan_version IS DISTINCT FROM CAST($6 AS TEXT))"
    );
    let told =
        telling::of(EventType::SubscriptionUpdated, after, now).when(keep, [of.id.into(), version.into()]);
    let change = Statement::one(sql, vec![of.id.into(), version.into(), now.micros().into()]);
    Edit::new(of.user, vec![telling::lock(of), told, change])
}

/// Ends it at once; statement 0 finds it over.
#[must_use]
pub fn cancel(of: &Subscription, now: Timestamp) -> Edit {
    Edit::new(of.user, vec![end_one(of.id, now), project(of.user)]).telling(telling::of_end(of, now))
}

/// What a subscription of Stripe's comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The version of the plan.
    pub plan_version: String,
    /// Where it stands.
    pub status: SubscriptionStatus,
    /// The last period that was paid, or tried.
    pub period: Period,
    /// When the plan ends unless the next one is paid.
    pub due_at: Timestamp,
    /// Whether it ends with its period.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many facts it was computed from.
    pub facts: i64,
}

/// Begins the subscription that stands for Stripe's, in the place of the one in force, as it was read; refused where
/// that has changed, or it was begun before.
#[must_use]
pub fn begin_standing(
    user: UserRowId,
    cause: &str,
    plan: &str,
    to: &Standing,
    live: Option<&Subscription>,
    now: Timestamp,
) -> Edit {
    let insert = "INSERT INTO subscriptions (id, user_id, plan, plan_version, provider, status, anchor, period, period_start, \
        period_end, due_at, cancel_at_period_end, canceled_at, cause, facts, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $9, $10, $11, $12, $13, $14, $15, $15) ON CONFLICT DO NOTHING";
    let values = vec![
        Value::Fresh,
        user.0.into(),
        plan.into(),
        to.plan_version.as_str().into(),
        SubscriptionProvider::Stripe.as_str().into(),
        to.status.as_str().into(),
        to.period.start.micros().into(),
        to.period.n.into(),
        to.period.end.micros().into(),
        to.due_at.micros().into(),
        i64::from(to.cancel_at_period_end).into(),
        to.ended_at.map(Timestamp::micros).into(),
        cause.into(),
        to.facts.into(),
        now.micros().into(),
    ];
    let begun = [Statement::one(insert, values), project(user)];
    let over = to.status == SubscriptionStatus::Canceled;
    let end = (!over).then(|| end_all(user, live, now));
    let statements = end.into_iter().chain(begun).collect();
    let made = Subscription {
        id: FRESH,
        user,
        plan: plan.to_owned(),
        plan_version: to.plan_version.clone(),
        provider: SubscriptionProvider::Stripe,
        status: to.status,
        anchor: to.period.start,
        period: to.period,
        due_at: to.due_at,
        ends_at: None,
        cancel_at_period_end: to.cancel_at_period_end,
        canceled_at: to.ended_at,
        next_plan_version: None,
        created_at: now,
        updated_at: now,
    };
    let ended = live.filter(|_| !over).map(|live| telling::of_end(live, now));
    let edit = Edit::making(Counter::Subscriptions, user, statements).telling(ended);
    let edit = edit.telling(telling::of(EventType::SubscriptionCreated, made.clone(), now));
    edit.telling(over.then(|| telling::of(EventType::SubscriptionEnded, made, now)))
}

/// Makes it say what the facts say; refused where it was computed from more of them, does not stand as it was read, or
/// another one is in force than was read.
#[must_use]
pub fn stand(
    of: &Subscription,
    plan: &str,
    to: &Standing,
    live: Option<&Subscription>,
    now: Timestamp,
) -> Edit {
    let sql = "UPDATE subscriptions SET plan = $2, plan_version = $3, status = $4, period = $5, period_start = $6, period_end = $7, \
        due_at = $8, cancel_at_period_end = $9, canceled_at = $10, facts = $11, updated_at = $12 WHERE id = $1 AND facts <= $11";
    let values = vec![
        of.id.into(),
        plan.into(),
        to.plan_version.as_str().into(),
        to.status.as_str().into(),
        to.period.n.into(),
        to.period.start.micros().into(),
        to.period.end.micros().into(),
        to.due_at.micros().into(),
        i64::from(to.cancel_at_period_end).into(),
        to.ended_at.map(Timestamp::micros).into(),
        to.facts.into(),
        now.micros().into(),
    ];
    let other = live.filter(|live| live.id != of.id && to.status != SubscriptionStatus::Canceled);
    let others = end_where!("user_id = $1 AND id <> $3");
    let ends = (to.status != SubscriptionStatus::Canceled).then(|| {
        let values = vec![of.user.0.into(), now.micros().into(), of.id.into()];
        Statement { rows: Some(usize::from(other.is_some())), ..Statement::any(others, values) }
    });
    let statements = [telling::lock_as_read(of)].into_iter().chain(ends);
    let statements = statements.chain([Statement::one(sql, values), project(of.user)]).collect();
    let mut edit = Edit::new(of.user, statements).telling(other.map(|other| telling::of_end(other, now)));
    let after = telling::standing(of, plan, to, now);
    edit.events.extend(telling::of_standing(of, &after, now));
    edit
}
