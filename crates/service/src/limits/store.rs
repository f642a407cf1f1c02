//! Reads of what was counted. The limits themselves are the account's, and are read with it.

use super::engine;
use super::model::{CounterKey, Limit, Used, Wanted};
use crate::db::{Db, DbError, FromRow, Row, Value};
use kernel::{Timestamp, UserRowId};
use std::collections::{BTreeMap, HashMap};

/// The most values that are shown of a limit that counts each on its own.
pub const VALUES_MAX: i64 = 100;

/// What counters hold.
///
/// # Errors
/// [`DbError`].
pub async fn counters(db: &Db, wanted: Vec<Wanted>) -> Result<HashMap<CounterKey, Used>, DbError> {
    match db {
        Db::Sqlite(db) => db.with_scanner(move |connection| engine::sqlite::load(connection, &wanted)).await,
        Db::Postgres(db) => engine::postgres::load(&db.connection().await?, &wanted).await,
    }
}

struct Bucket {
    value: String,
    bucket: i64,
    used: i64,
}

impl FromRow for Bucket {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { value: row.text(0)?, bucket: row.int(1)?, used: row.int(2)? })
    }
}

/// The values with use in the window of a limit that counts each on its own, at most [`VALUES_MAX`], and
/// whether there are more.
///
/// # Errors
/// [`DbError`].
pub async fn values(
    db: &Db,
    user: UserRowId,
    limit: &Limit,
    now: Timestamp,
) -> Result<(BTreeMap<String, Used>, bool), DbError> {
    // The groups come in the order of the key, so that it is read no further than the last one wanted.
    let sql = "SELECT value, bucket, used FROM spending_counters \
        WHERE user_id = $1 AND limit_key = $2 AND bucket >= $3 AND value IN (SELECT value FROM spending_counters \
        WHERE user_id = $1 AND limit_key = $2 AND bucket >= $3 GROUP BY value ORDER BY value LIMIT $4)";
    let since = limit.window.since(now);
    let values =
        vec![user.0.into(), Value::from(limit.key().as_str()), since.into(), (VALUES_MAX + 1).into()];
    let mut found: BTreeMap<String, Used> = BTreeMap::new();
    for Bucket { value, bucket, used } in db.query::<Bucket>(sql, values).await? {
        found.entry(value).or_default().add(bucket, used);
    }
    let more = found.len() > VALUES_MAX as usize;
    if more {
        found.pop_last();
    }
    Ok((found, more))
}
