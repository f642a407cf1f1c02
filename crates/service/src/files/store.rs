//! Reading files' rows.

use super::model::{StoredFile, Totals, file_columns};
use crate::app::App;
use crate::db::{Db, DbError, FromRow, Row, Rows};
use crate::http::page::Page;
use crate::plans;
use kernel::{Timestamp, UserRowId};

/// A stored file of a user, by its path.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, user: UserRowId, path: &str) -> Result<Option<StoredFile>, DbError> {
    let sql = concat!(
        "SELECT ",
        file_columns!(),
        " FROM files f WHERE f.user_id = $1 AND f.path = $2 AND f.status = 'stored'"
    );
    db.find(sql, &[user.0.into(), path.into()]).await
}

/// Any file of a user, by its public id.
///
/// # Errors
/// [`DbError`].
pub async fn find_id(db: &Db, user: UserRowId, file_id: &str) -> Result<Option<StoredFile>, DbError> {
    let sql = concat!("SELECT ", file_columns!(), " FROM files f WHERE f.user_id = $1 AND f.file_id = $2");
    db.find(sql, &[user.0.into(), file_id.into()]).await
}

/// A file of a live user, by what an address says: the user's external id, and the path.
///
/// # Errors
/// [`DbError`].
pub async fn find_public(db: &Db, auth0_id: &str, path: &str) -> Result<Option<StoredFile>, DbError> {
    let sql = concat!(
        "SELECT ",
        file_columns!(),
        " FROM files f JOIN users u ON u.id = f.user_id WHERE u.auth0_id = $1 AND u.deleted_at IS NULL \
         AND f.path = $2 AND f.status IN ('stored', 'expected')"
    );
    db.find(sql, &[auth0_id.into(), path.into()]).await
}

/// A page of a user's stored files whose path begins like that, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn list(
    db: &Db,
    user: UserRowId,
    prefix: &str,
    page: &Page,
    limit: i64,
) -> Result<Rows<StoredFile>, DbError> {
    let sql = concat!(
        "SELECT ",
        file_columns!(),
        " FROM files f WHERE f.user_id = $1 AND f.status = 'stored' \
         AND substr(f.path, 1, length(CAST($2 AS TEXT))) = $2 \
         AND (CAST($3 AS BIGINT) IS NULL OR f.created_at < $3 OR (f.created_at = $3 AND f.id < $4)) \
         ORDER BY f.created_at DESC, f.id DESC LIMIT $5 OFFSET $6"
    );
    let (at, id) = page.after.unzip();
    let values =
        vec![user.0.into(), prefix.into(), at.into(), id.into(), (limit + 1).into(), page.offset.into()];
    db.page(sql, values, limit).await
}

/// What a user's files come to.
///
/// # Errors
/// [`DbError`].
pub async fn totals(db: &Db, user: UserRowId) -> Result<Totals, DbError> {
    let sql = "SELECT files, bytes FROM file_totals WHERE user_id = $1";
    Ok(db.find(sql, &[user.0.into()]).await?.unwrap_or_default())
}

/// How many bytes a user's files may have together: what its plan says, or else `FILE_QUOTAS`.
///
/// # Errors
/// [`DbError`].
pub async fn quota(app: &App, user: UserRowId) -> Result<i64, DbError> {
    let version = plans::store::of_user(app, user).await?;
    let of_plan = version.as_ref().and_then(|version| version.plan.file_quota_bytes);
    let key = version.as_ref().map_or("", |version| version.plan.key.as_str());
    Ok(of_plan.unwrap_or_else(|| app.config.file_quotas.of(key)))
}

/// The first answer to an idempotency key: the request's fingerprint, and the body.
pub struct FirstAnswer {
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
    /// The body.
    pub body: Vec<u8>,
}

impl FromRow for FirstAnswer {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { fingerprint: row.hash(0)?, body: row.bytes(1)? })
    }
}

/// What was answered to a caller's key before.
///
/// # Errors
/// [`DbError`].
pub async fn first_answer(db: &Db, caller: &str, key: &str) -> Result<Option<FirstAnswer>, DbError> {
    let sql = "SELECT fingerprint, body FROM idempotency_keys WHERE caller = $1 AND key = $2";
    db.find(sql, &[caller.into(), key.into()]).await
}

/// Files of a user in any state, after a row.
///
/// # Errors
/// [`DbError`].
pub async fn of_user(db: &Db, user: UserRowId, after: i64, limit: i64) -> Result<Vec<StoredFile>, DbError> {
    let sql = concat!(
        "SELECT ",
        file_columns!(),
        " FROM files f WHERE f.user_id = $1 AND f.id > $2 ORDER BY f.id LIMIT $3"
    );
    db.query(sql, vec![user.0.into(), after.into(), limit.into()]).await
}

/// Files that are on their way to be stored since before an instant, after a row.
///
/// # Errors
/// [`DbError`].
pub async fn unfinished(
    db: &Db,
    status: &'static str,
    before: Timestamp,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredFile>, DbError> {
    let sql = concat!(
        "SELECT ",
        file_columns!(),
        " FROM files f WHERE f.status = $1 AND f.status <> 'stored' AND f.updated_at < $2 AND f.id > $3 \
         ORDER BY f.id LIMIT $4"
    );
    db.query(sql, vec![status.into(), before.micros().into(), after.into(), limit.into()]).await
}

/// Stored files whose staging key nobody may write to any more, after a row.
///
/// # Errors
/// [`DbError`].
pub async fn staged(db: &Db, before: Timestamp, after: i64, limit: i64) -> Result<Vec<StoredFile>, DbError> {
    let sql = concat!(
        "SELECT ",
        file_columns!(),
        " FROM files f WHERE f.status = 'stored' AND f.staged_until < $1 AND f.id > $2 ORDER BY f.id LIMIT $3"
    );
    db.query(sql, vec![before.micros().into(), after.into(), limit.into()]).await
}
