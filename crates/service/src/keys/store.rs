//! Reading keys.

use super::model::Key;
use crate::db::{Db, DbError, FromRow, Row, Rows};
use kernel::Timestamp;

macro_rules! columns {
    () => {
        "SELECT k.id, k.key_id, k.name, k.scopes, k.requests_per_minute, k.allowed_ips, k.created_at, k.created_by, k.expires_at, \
         k.last_used_at, k.revoked_at, (SELECT MAX(s.expires_at) FROM service_key_secrets s WHERE s.key_id = k.key_id \
         AND s.expires_at > $1) FROM service_keys k WHERE "
    };
}

/// A key by its public id.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, key_id: &str, now: Timestamp) -> Result<Option<Key>, DbError> {
    db.find(concat!(columns!(), "k.key_id = $2"), &[now.micros().into(), key_id.into()]).await
}

/// Keys, the last one that was made first; of those that end or are revoked only where they are wanted.
///
/// # Errors
/// [`DbError`].
pub async fn list(
    db: &Db,
    all: bool,
    before: i64,
    limit: i64,
    offset: i64,
    now: Timestamp,
) -> Result<Rows<Key>, DbError> {
    let sql = concat!(
        columns!(),
        "k.id < $2 AND (CAST($3 AS BIGINT) = 1 OR (k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $1))) \
         ORDER BY k.id DESC LIMIT $4 OFFSET $5"
    );
    let values = vec![
        now.micros().into(),
        before.into(),
        i64::from(all).into(),
        limit.saturating_add(1).into(),
        offset.into(),
    ];
    db.page(sql, values, limit).await
}

/// One thing that proves a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// SHA-256 of the whole key.
    pub digest: [u8; 32],
    /// Up to when it proves it; as long as the key lives when absent.
    pub expires_at: Option<Timestamp>,
}

impl FromRow for StoredSecret {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { digest: row.hash(0)?, expires_at: row.optional_int(1)?.map(Timestamp::from_micros) })
    }
}

/// What proves a key.
///
/// # Errors
/// [`DbError`].
pub async fn secrets(db: &Db, key_id: &str) -> Result<Vec<StoredSecret>, DbError> {
    let sql = "SELECT digest, expires_at FROM service_key_secrets WHERE key_id = $1";
    db.query(sql, vec![key_id.into()]).await
}
