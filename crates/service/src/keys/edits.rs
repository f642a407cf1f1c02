//! The changes of keys, each with its statements.

use super::model::{KEYS_MAX, Key, SECRETS_MAX, networks_text};
use super::request::KeyChange;
use crate::db::Value;
use crate::writer::{Edit, Statement};
use kernel::{Timestamp, UserRowId};

/// Keys are nobody's rows; all their changes take one lane.
const NOBODY: UserRowId = UserRowId(0);

fn secret(key_id: &str, digest: [u8; 32], now: Timestamp) -> Statement {
    let sql = "INSERT INTO service_key_secrets (digest, key_id, created_at) VALUES ($1, $2, $3)";
    Statement::one(sql, vec![Value::Bytes(digest.to_vec()), key_id.into(), now.micros().into()])
}

/// Makes a key; statement 0 finds as many in use as may be.
#[must_use]
pub fn create(key: &Key, digest: [u8; 32]) -> Edit {
    let sql = "INSERT INTO service_keys (key_id, name, scopes, requests_per_minute, allowed_ips, created_at, created_by, expires_at) \
        SELECT $1, $2, $3, CAST($4 AS BIGINT), $5, CAST($6 AS BIGINT), $7, CAST($8 AS BIGINT) WHERE (SELECT COUNT(*) FROM service_keys \
        WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > CAST($6 AS BIGINT))) < CAST($9 AS BIGINT)";
    let values = vec![
        key.key_id.as_str().into(),
        key.name.as_str().into(),
        key.scopes.to_string().as_str().into(),
        key.requests_per_minute.map(i64::from).into(),
        networks_text(&key.allowed_ips).as_str().into(),
        key.created_at.micros().into(),
        key.created_by.as_str().into(),
        key.expires_at.map(Timestamp::micros).into(),
        KEYS_MAX.into(),
    ];
    Edit::new(NOBODY, vec![Statement::one(sql, values), secret(&key.key_id, digest, key.created_at)])
}

/// Writes what may be changed of a key, as far as the change names it; statement 0 finds it revoked or expired.
#[must_use]
pub fn update(key_id: &str, change: &KeyChange, now: Timestamp) -> Edit {
    let sql = "UPDATE service_keys SET name = COALESCE(CAST($2 AS TEXT), name), \
        requests_per_minute = NULLIF(COALESCE(CAST($3 AS BIGINT), requests_per_minute), 0), \
        allowed_ips = COALESCE(CAST($4 AS TEXT), allowed_ips), expires_at = COALESCE(CAST($5 AS BIGINT), expires_at) \
        WHERE key_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > CAST($6 AS BIGINT))";
    let values = vec![
        key_id.into(),
        change.name.clone().into(),
        change.requests_per_minute.map(i64::from).into(),
        change.allowed_ips.as_deref().map(networks_text).into(),
        change.expires_at.map(Timestamp::micros).into(),
        now.micros().into(),
    ];
    Edit::new(NOBODY, vec![Statement::one(sql, values)])
}

/// Gives a key its next secret; those before it end when the overlap does, or earlier where they would have.
///
/// Statement 0 finds it revoked or expired, statement 3 finds that it has as many secrets as may be.
#[must_use]
pub fn rotate(key_id: &str, digest: [u8; 32], overlap_ends_at: Timestamp, now: Timestamp) -> Edit {
    let alive = "UPDATE service_keys SET key_id = key_id WHERE key_id = $1 AND revoked_at IS NULL \
        AND (expires_at IS NULL OR expires_at > $2)";
    let forget = "DELETE FROM service_key_secrets WHERE key_id = $1 AND expires_at <= $2";
    let end = "UPDATE service_key_secrets SET expires_at = $2 WHERE key_id = $1 AND (expires_at IS NULL OR expires_at > $2)";
    let next = "INSERT INTO service_key_secrets (digest, key_id, created_at) SELECT $1, $2, CAST($3 AS BIGINT) \
        WHERE (SELECT COUNT(*) FROM service_key_secrets WHERE key_id = $2) < CAST($4 AS BIGINT)";
    let at = |instant: Timestamp| vec![key_id.into(), instant.micros().into()];
    let secret = vec![Value::Bytes(digest.to_vec()), key_id.into(), now.micros().into(), SECRETS_MAX.into()];
    let statements = vec![
        Statement::one(alive, at(now)),
        Statement::any(forget, at(now)),
        Statement::any(end, at(overlap_ends_at)),
        Statement::one(next, secret),
    ];
    Edit::new(NOBODY, statements)
}

/// Takes a key back; one that was taken back stays as it was.
#[must_use]
pub fn revoke(key_id: &str, now: Timestamp) -> Edit {
    let sql = "UPDATE service_keys SET revoked_at = $2 WHERE key_id = $1 AND revoked_at IS NULL";
    let forget = "DELETE FROM service_key_secrets WHERE key_id = $1";
    let statements = vec![
        Statement::any(sql, vec![key_id.into(), now.micros().into()]),
        Statement::any(forget, vec![key_id.into()]),
    ];
    Edit::new(NOBODY, statements)
}

/// Notes that a key was used.
#[must_use]
pub fn used(key_id: &str, at: Timestamp) -> Edit {
    let sql = "UPDATE service_keys SET last_used_at = $2 WHERE key_id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
    Edit::new(NOBODY, vec![Statement::any(sql, vec![key_id.into(), at.micros().into()])])
}
