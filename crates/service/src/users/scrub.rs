//! What deleted rows leave behind in the database's file.
//!
//! On SQLite the writer overwrites what it deletes (`secure_delete`); what is left are the words of deleted
//! messages in the search index, which go as its parts are merged, and the log beside the file, which is
//! written back and emptied. On PostgreSQL old rows are the server's affair: see `docs/privacy.md`.

use crate::db::{Db, DbError};
use rusqlite::Connection;
use std::time::Duration;

/// How many pages of the search index are merged at once: some milliseconds in which the writer waits.
const PAGES_AT_ONCE: i64 = 64;
/// How long the writer has for itself between two merges.
const PAUSE: Duration = Duration::from_millis(5);
/// How often the log is tried to be emptied, while somebody reads from it.
const ATTEMPTS: usize = 100;

/// Removes it.
///
/// # Errors
/// [`DbError`]; it can be done again.
pub async fn run(db: &Db) -> Result<(), DbError> {
    let Db::Sqlite(sqlite) = db else { return Ok(()) };
    let connection = sqlite.writing_connection()?;
    tokio::task::spawn_blocking(move || {
        merge_words(&connection)?;
        empty_log(&connection)
    })
    .await
    .map_err(|error| DbError::Internal(error.to_string()))?
}

/// Merges the search index into one part, without the words of deleted messages.
fn merge_words(connection: &Connection) -> Result<(), DbError> {
    let mut pages = -PAGES_AT_ONCE;
    loop {
        let before = changed(connection)?;
        connection
            .execute("INSERT INTO message_words (message_words, rank) VALUES ('merge', ?1)", [pages])?;
        // The engine's own sign that there was nothing to merge.
        if changed(connection)? - before < 2 {
            return Ok(());
        }
        pages = PAGES_AT_ONCE;
        std::thread::sleep(PAUSE);
    }
}

fn changed(connection: &Connection) -> Result<i64, DbError> {
    Ok(connection.query_row("SELECT total_changes()", [], |row| row.get(0))?)
}

/// Writes the log back into the file, and empties it.
fn empty_log(connection: &Connection) -> Result<(), DbError> {
    for _ in 0..ATTEMPTS {
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(DbError::Unavailable("the log could not be emptied while it was read".to_owned()))
}
