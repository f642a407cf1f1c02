//! What is written of subscriptions: each change with the user's plan, in one transaction.

use super::model::Subscription;
use super::period::Period;
use crate::db::Value;
use crate::writer::{Counter, Edit, Statement};
use kernel::{Timestamp, UserRowId};

/// Writes into the user's row what its subscriptions say.
fn project(user: UserRowId) -> Statement {
    let sql = "UPDATE users SET \
        plan = COALESCE((SELECT s.plan FROM subscriptions s WHERE s.user_id = users.id AND s.status = 'active'), 'free'), \
        plan_version = (SELECT s.plan_version FROM subscriptions s WHERE s.user_id = users.id AND s.status = 'active'), \
        subscription_status = COALESCE((SELECT CASE s.provider WHEN 'free' THEN 'free' ELSE s.status END \
            FROM subscriptions s WHERE s.user_id = users.id AND s.status = 'active'), 'free') WHERE id = $1";
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
             WHERE status = 'active' AND ",
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
    Edit { user: new.user, fresh: Some(Counter::Subscriptions), statements }
}

/// Turns to the next period; statement 0 finds that somebody else did.
#[must_use]
pub fn renew(of: &Subscription, next: Period, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET period = $3, period_start = $4, period_end = $5, due_at = 0, updated_at = $6 \
        WHERE id = $1 AND period = $2 AND status = 'active'";
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
        WHERE id = $1 AND status = 'active'";
    let values = vec![of.id.into(), now.micros().into(), by.into(), i64::from(operator).into()];
    Edit::new(of.user, vec![Statement::one(sql, values)])
}

/// Takes a cancellation back: anybody's, or only that of `whose`. Statement 0 finds it over, or another's.
#[must_use]
pub fn resume(of: &Subscription, whose: Option<&str>, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET cancel_at_period_end = 0, canceled_at = NULL, canceled_by = NULL, updated_at = $2 \
        WHERE id = $1 AND status = 'active' AND (CAST($3 AS TEXT) IS NULL OR canceled_by IS NULL OR canceled_by = $3)";
    let values = vec![of.id.into(), now.micros().into(), whose.map(str::to_owned).into()];
    Edit::new(of.user, vec![Statement::one(sql, values)])
}

/// Says what it becomes when its period ends; statement 0 finds it over.
#[must_use]
pub fn set_next(of: &Subscription, version: &str, now: Timestamp) -> Edit {
    let sql = "UPDATE subscriptions SET next_plan_version = $2, updated_at = $3 WHERE id = $1 AND status = 'active'";
    Edit::new(of.user, vec![Statement::one(sql, vec![of.id.into(), version.into(), now.micros().into()])])
}

/// Ends it at once; statement 0 finds it over.
#[must_use]
pub fn cancel(of: &Subscription, now: Timestamp) -> Edit {
    Edit::new(of.user, vec![end_one(of.id, now), project(of.user)])
}
