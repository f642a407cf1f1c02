//! Reading subscriptions.

use super::model::{Subscription, SubscriptionStatus, subscription_columns};
use crate::db::{Db, DbError, FromRow, Row};
use kernel::{Timestamp, UserRowId};

/// The subscription of a user: the one in force, or else the last one.
///
/// # Errors
/// [`DbError`].
pub async fn current(db: &Db, user: UserRowId) -> Result<Option<Subscription>, DbError> {
    let sql = concat!(
        "SELECT ",
        subscription_columns!(),
        " FROM subscriptions s WHERE s.user_id = $1 \
         ORDER BY CASE s.status WHEN 'canceled' THEN 1 ELSE 0 END, s.updated_at DESC, s.id DESC LIMIT 1"
    );
    db.find(sql, &[user.0.into()]).await
}

/// Subscriptions of live users whose period is over, or whose period's credits were not given; after that one.
///
/// # Errors
/// [`DbError`].
pub async fn due(
    db: &Db,
    now: Timestamp,
    after: (Timestamp, i64),
    limit: i64,
) -> Result<Vec<Subscription>, DbError> {
    let sql = concat!(
        "SELECT ",
        subscription_columns!(),
        " FROM subscriptions s JOIN users u ON u.id = s.user_id WHERE s.status <> 'canceled' AND s.due_at <= $1 \
         AND (s.due_at, s.id) > ($2, $3) AND u.deleted_at IS NULL ORDER BY s.due_at, s.id LIMIT $4"
    );
    let values = vec![now.micros().into(), after.0.micros().into(), after.1.into(), limit.into()];
    db.query(sql, values).await
}

/// Whether that cause began a subscription; no cause began none.
///
/// # Errors
/// [`DbError`].
pub async fn has_begun(db: &Db, cause: Option<&str>) -> Result<bool, DbError> {
    match cause {
        Some(cause) => Ok(begun_by(db, cause).await?.is_some()),
        None => Ok(false),
    }
}

/// The row that a cause began.
///
/// # Errors
/// [`DbError`].
pub async fn begun_by(db: &Db, cause: &str) -> Result<Option<i64>, DbError> {
    db.find("SELECT id FROM subscriptions WHERE cause = $1", &[cause.into()]).await
}

/// The subscription that a cause began.
///
/// # Errors
/// [`DbError`].
pub async fn of_cause(db: &Db, cause: &str) -> Result<Option<Subscription>, DbError> {
    let sql = concat!("SELECT ", subscription_columns!(), " FROM subscriptions s WHERE s.cause = $1");
    db.find(sql, &[cause.into()]).await
}

/// The subscription of a user that is in force.
///
/// # Errors
/// [`DbError`].
pub async fn live(db: &Db, user: UserRowId) -> Result<Option<Subscription>, DbError> {
    Ok(current(db, user).await?.filter(|of| of.status != SubscriptionStatus::Canceled))
}

/// Whether the user ever had a plan that is paid for through Stripe.
///
/// # Errors
/// [`DbError`].
pub async fn ever_paid(db: &Db, user: UserRowId) -> Result<bool, DbError> {
    let sql = "SELECT CAST(1 AS BIGINT) FROM stripe_subscriptions WHERE user_id = $1 LIMIT 1";
    Ok(db.find::<i64>(sql, &[user.0.into()]).await?.is_some())
}

/// Whether Stripe goes on charging the user.
///
/// # Errors
/// [`DbError`].
pub async fn is_renewed_by_stripe(db: &Db, user: UserRowId) -> Result<bool, DbError> {
    let sql = "SELECT id FROM subscriptions WHERE user_id = $1 AND provider = 'stripe' AND status <> 'canceled' \
        AND cancel_at_period_end = 0";
    Ok(db.find::<i64>(sql, &[user.0.into()]).await?.is_some())
}

/// Stripe's id of a subscription that stands for one of its.
///
/// # Errors
/// [`DbError`].
pub async fn stripe_id(db: &Db, id: i64) -> Result<Option<String>, DbError> {
    let cause: Option<Cause> = db
        .find("SELECT cause FROM subscriptions WHERE id = $1 AND provider = 'stripe'", &[id.into()])
        .await?;
    Ok(cause.and_then(|Cause(cause)| cause.strip_prefix("stripe:").map(str::to_owned)))
}

struct Cause(String);

impl FromRow for Cause {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        row.text(0).map(Self)
    }
}

/// Whether the user was given welcome credits, which are those of its first free period.
///
/// # Errors
/// [`DbError`].
pub async fn was_welcomed(db: &Db, user: UserRowId) -> Result<bool, DbError> {
    let sql = "SELECT CAST(1 AS BIGINT) FROM credit_grants WHERE user_id = $1 AND source = 'signup' LIMIT 1";
    Ok(db.find::<i64>(sql, &[user.0.into()]).await?.is_some())
}
