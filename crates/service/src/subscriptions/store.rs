//! Reading subscriptions.

use super::model::{Subscription, subscription_columns};
use crate::db::{Db, DbError};
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
         ORDER BY CASE s.status WHEN 'active' THEN 0 ELSE 1 END, s.updated_at DESC, s.id DESC LIMIT 1"
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
        " FROM subscriptions s JOIN users u ON u.id = s.user_id WHERE s.status = 'active' AND s.due_at <= $1 \
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
    let sql = "SELECT id FROM subscriptions WHERE cause = $1";
    Ok(db.find::<i64>(sql, &[cause.map(str::to_owned).into()]).await?.is_some())
}

/// Whether the user was given welcome credits, which are those of its first free period.
///
/// # Errors
/// [`DbError`].
pub async fn was_welcomed(db: &Db, user: UserRowId) -> Result<bool, DbError> {
    let sql = "SELECT CAST(1 AS BIGINT) FROM credit_grants WHERE user_id = $1 AND source = 'signup' LIMIT 1";
    Ok(db.find::<i64>(sql, &[user.0.into()]).await?.is_some())
}
