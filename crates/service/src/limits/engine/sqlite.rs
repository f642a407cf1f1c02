//! Counters of limits on SQLite.

use crate::db::DbError;
use crate::limits::model::{CounterKey, Moves, USED_MAX, Used, Wanted};
use crate::writer::sqlite::exactly_one;
use rusqlite::{Connection, params};
use std::collections::HashMap;

/// Loads counters: the buckets that can still count; what is not there holds nothing.
///
/// # Errors
/// [`DbError`].
pub fn load(connection: &Connection, wanted: &[Wanted]) -> Result<HashMap<CounterKey, Used>, DbError> {
    let mut counters: HashMap<CounterKey, Used> = HashMap::new();
    if wanted.is_empty() {
        return Ok(counters);
    }
    let mut select = connection.prepare_cached(
        "SELECT bucket, used FROM spending_counters \
         WHERE user_id = ?1 AND limit_key = ?2 AND value = ?3 AND bucket >= ?4",
    )?;
    for Wanted { key, since } in wanted {
        let mut rows = select.query(params![key.user.0, key.limit, key.value, since])?;
        let mut used = Used::default();
        while let Some(row) = rows.next()? {
            used.add(row.get(0)?, row.get(1)?);
        }
        if !used.0.is_empty() {
            counters.insert(key.clone(), used);
        }
    }
    Ok(counters)
}

/// Moves counters, and removes their buckets that are of no use any more.
///
/// # Errors
/// [`DbError`].
pub fn write(connection: &Connection, moves: &Moves) -> Result<(), DbError> {
    if moves.is_empty() {
        return Ok(());
    }
    let mut upsert = connection.prepare_cached(
        "INSERT INTO spending_counters (user_id, limit_key, value, bucket, used) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO UPDATE SET used = min(used, ?6 - excluded.used) + excluded.used",
    )?;
    for (key, bucket, moved) in moves.iter() {
        let row = params![key.user.0, key.limit, key.value, bucket, moved.delta, USED_MAX];
        exactly_one(upsert.execute(row)?, "spending_counters")?;
    }
    let mut remove = connection.prepare_cached(
        "DELETE FROM spending_counters WHERE user_id = ?1 AND limit_key = ?2 AND value = ?3 AND bucket < ?4",
    )?;
    for (key, ended) in moves.ended() {
        remove.execute(params![key.user.0, key.limit, key.value, ended])?;
    }
    Ok(())
}
