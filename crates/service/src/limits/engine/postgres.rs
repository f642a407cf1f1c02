//! Counters of limits on PostgreSQL.

use crate::db::DbError;
use crate::db::write::Write;
use crate::limits::model::{CounterKey, Moves, USED_MAX, Used, Wanted};
use deadpool_postgres::Object;
use std::collections::HashMap;

/// Loads counters in one statement: the buckets that can still count; what is not there holds nothing.
///
/// # Errors
/// [`DbError`].
pub async fn load(connection: &Object, wanted: &[Wanted]) -> Result<HashMap<CounterKey, Used>, DbError> {
    let mut counters: HashMap<CounterKey, Used> = HashMap::new();
    if wanted.is_empty() {
        return Ok(counters);
    }
    let statement = connection
        .prepare_cached(
            "SELECT t.place, c.bucket, c.used FROM \
             UNNEST($1::bigint[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY \
             AS t(user_id, limit_key, value, since, place) \
             JOIN spending_counters c ON c.user_id = t.user_id AND c.limit_key = t.limit_key \
             AND c.value = t.value AND c.bucket >= t.since",
        )
        .await?;
    let users: Vec<i64> = wanted.iter().map(|one| one.key.user.0).collect();
    let limits: Vec<&str> = wanted.iter().map(|one| one.key.limit.as_str()).collect();
    let values: Vec<&str> = wanted.iter().map(|one| one.key.value.as_str()).collect();
    let since: Vec<i64> = wanted.iter().map(|one| one.since).collect();
    for row in connection.query(&statement, &[&users, &limits, &values, &since]).await? {
        let place: i64 = row.try_get(0)?;
        // Places begin at 1.
        let found = usize::try_from(place - 1).ok().and_then(|place| wanted.get(place));
        let found = found.ok_or_else(|| DbError::Internal(format!("no counter was asked for at {place}")))?;
        counters.entry(found.key.clone()).or_default().add(row.try_get(1)?, row.try_get(2)?);
    }
    Ok(counters)
}

/// What moves counters, and removes their buckets that are of no use any more.
#[must_use]
pub fn writes(moves: &Moves) -> Vec<Write<'_>> {
    let mut writes = Vec::new();
    if !moves.is_empty() {
        writes.push(upsert(moves));
    }
    if moves.ended().next().is_some() {
        writes.push(remove(moves));
    }
    writes
}

/// The buckets come sorted, so that batches that move the same ones lock them in one order.
fn upsert(moves: &Moves) -> Write<'_> {
    Write::rows(
        "INSERT INTO spending_counters AS c (user_id, limit_key, value, bucket, used) \
         SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) \
         ON CONFLICT (user_id, limit_key, value, bucket) \
         DO UPDATE SET used = LEAST(c.used, $6::bigint - excluded.used) + excluded.used",
        moves.len(),
    )
    .column(moves.iter().map(|(key, ..)| key.user.0))
    .column(moves.iter().map(|(key, ..)| key.limit.as_str()))
    .column(moves.iter().map(|(key, ..)| key.value.as_str()))
    .column(moves.iter().map(|(_, bucket, _)| bucket))
    .column(moves.iter().map(|(_, _, moved)| moved.delta))
    .value(USED_MAX)
}

fn remove(moves: &Moves) -> Write<'_> {
    Write::any(
        "DELETE FROM spending_counters c USING \
         UNNEST($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS t(user_id, limit_key, value, ended) \
         WHERE c.user_id = t.user_id AND c.limit_key = t.limit_key AND c.value = t.value AND c.bucket < t.ended",
    )
    .column(moves.ended().map(|(key, _)| key.user.0))
    .column(moves.ended().map(|(key, _)| key.limit.as_str()))
    .column(moves.ended().map(|(key, _)| key.value.as_str()))
    .column(moves.ended().map(|(_, ended)| ended))
}
