//! What is written of subscriptions: each change with the user's plan, in one transaction.

use super::model::{Subscription, SubscriptionProvider, SubscriptionStatus};
use super::period::Period;
use crate::db::Value;
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

fn end(user: UserRowId, which: Replaces, now: Timestamp) -> Option<Statement> {
    match which {
        Replaces::Nothing => None,
        Replaces::This(id) => Some(end_one(id, now)),
        Replaces::Anything => {
            Some(Statement::any(end_where!("user_id = $1"), vec![user.0.into(), now.micros().into()]))
        }
    }
}

fn end_one(id: i64, now: Timestamp) -> Statement {
    Statement::one(end_where!("id = $1"), vec![id.into(), now.micros().into()])
}

/// Begins a subscription; refused where what it replaces is not what there is, and where the same cause
/// began one before.
#[must_use]
pub fn begin(new: &Subscription, replaces: Replaces, cause: Option<&str>, now: Timestamp) -> Edit {
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
    let statements = end(new.user, replaces, now).into_iter().chain(begun).collect();
    Edit::making(Counter::Subscriptions, new.user, statements)
}

/// Turns to the next period; statement 0 finds that somebody else did.
#[must_use]
pub fn renew(of: &Subscription, next: Period, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET period = $3, period_start = $4, period_end = $5, due_at = 0, updated_at = $6 \
        WHERE id = $1 AND period = $2 AND status <> 'canceled'";
    let values = [of.id, of.period.n, next.n, next.start.micros(), next.end.micros(), now.micros()];
    Edit::new(of.user, vec![Statement::one(sql, values.map(Value::from).to_vec())])
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
    Edit::new(of.user, vec![Statement::one(sql, values)])
}

/// Takes a cancellation back: anybody's, or only that of `whose`. Statement 0 finds it over, or another's.
#[must_use]
pub fn resume(of: &Subscription, whose: Option<&str>, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET cancel_at_period_end = 0, canceled_at = NULL, canceled_by = NULL, updated_at = $2 \
        WHERE id = $1 AND status <> 'canceled' AND (CAST($3 AS TEXT) IS NULL OR canceled_by IS NULL OR canceled_by = $3)";
    let values = vec![of.id.into(), now.micros().into(), whose.map(str::to_owned).into()];
    Edit::new(of.user, vec![Statement::one(sql, values)])
}

/// Says what it becomes when its period ends; statement 0 finds it over.
#[must_use]
pub fn set_next(of: &Subscription, version: &str, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET next_plan_version = $2, updated_at = $3 WHERE id = $1 AND status <> 'canceled'";
    Edit::new(of.user, vec![Statement::one(sql, vec![of.id.into(), version.into(), now.micros().into()])])
}

/// Ends it at once; statement 0 finds it over.
#[must_use]
pub fn cancel(of: &Subscription, now: Timestamp) -> Edit {
    Edit::new(of.user, vec![end_one(of.id, now), project(of.user)])
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

/// Begins the subscription that stands for Stripe's, in the place of whatever there is; refused where it was begun before.
#[must_use]
pub fn begin_standing(user: UserRowId, cause: &str, plan: &str, to: &Standing, now: Timestamp) -> Edit {
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
    let ends = if to.status == SubscriptionStatus::Canceled { Replaces::Nothing } else { Replaces::Anything };
    let statements = end(user, ends, now).into_iter().chain(begun).collect();
    Edit::making(Counter::Subscriptions, user, statements)
}

/// Makes it say what the facts say; refused where it was computed from more of them.
#[must_use]
pub fn stand(id: i64, user: UserRowId, plan: &str, to: &Standing, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET plan = $2, plan_version = $3, status = $4, period = $5, period_start = $6, period_end = $7, \
        due_at = $8, cancel_at_period_end = $9, canceled_at = $10, facts = $11, updated_at = $12 WHERE id = $1 AND facts <= $11";
    let values = vec![
        id.into(),
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
    let others = end_where!("user_id = $1 AND id <> $3");
    let live = to.status != SubscriptionStatus::Canceled;
    let ends = live.then(|| Statement::any(others, vec![user.0.into(), now.micros().into(), id.into()]));
    let statements = ends.into_iter().chain([Statement::one(sql, values), project(user)]).collect();
    Edit::new(user, statements)
}
