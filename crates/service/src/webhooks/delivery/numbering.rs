//! The places of events on PostgreSQL.
//!
//! Ids are given before the commit, so that one may be seen before a smaller one. Whoever follows ids could pass an event that is not
//! committed yet, and lose it; so each event gets a position once it is committed. One process at a time gives them, in
//! the order of ids: of a user's events the later one has the greater id, and is seen no earlier than the one before it.

use crate::db::DbError;
use crate::db::postgres::Postgres;

/// How many events get their places at once.
const AT_ONCE: i64 = 5_000;

const LOCK: &str = "SELECT position FROM webhook_numbering WHERE id = 1 FOR UPDATE SKIP LOCKED";
const NUMBER: &str = "UPDATE webhook_events e SET position = $1 + new.n FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS n \
    FROM (SELECT id FROM webhook_events WHERE position IS NULL ORDER BY id LIMIT $2) AS first) AS new WHERE e.id = new.id";
const MOVE: &str = "UPDATE webhook_numbering SET position = $1 WHERE id = 1";

/// Gives places to events that have none, unless another process is at it; says how many.
///
/// # Errors
/// [`DbError`].
pub async fn number(db: &Postgres) -> Result<u64, DbError> {
    let mut connection = db.connection().await?;
    let [lock, number, advance] = [
        connection.prepare_cached(LOCK).await?,
        connection.prepare_cached(NUMBER).await?,
        connection.prepare_cached(MOVE).await?,
    ];
    let transaction = connection.transaction().await?;
    // The lock is a statement of its own, so that the next one sees what was committed before the lock was had.
    let Some(row) = transaction.query_opt(&lock, &[]).await? else { return Ok(0) };
    let position: i64 = row.try_get(0)?;
    let numbered = transaction.execute(&number, &[&position, &AT_ONCE]).await?;
    if numbered > 0 {
        let last = position + i64::try_from(numbered).unwrap_or(0);
        transaction.execute(&advance, &[&last]).await?;
        transaction.commit().await?;
    }
    Ok(numbered)
}

/// Whether some event has no place.
///
/// # Errors
/// [`DbError`].
pub async fn some_to_number(db: &Postgres) -> Result<bool, DbError> {
    let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM webhook_events WHERE position IS NULL LIMIT 1) AS one";
    let found: Vec<i64> = db.query(sql, &[]).await?;
    Ok(found.first().is_some_and(|count| *count > 0))
}
