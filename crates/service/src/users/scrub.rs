//! What deleted rows leave behind in the database's file.
//!
//! On SQLite the writer overwrites what it deletes (`secure_delete`); what is left are the words of deleted
//! messages in the search index, which go as its parts are merged, and the log beside the file, which is
//! written back and emptied. On PostgreSQL old rows are the server's affair: see `docs/privacy.md`.

use crate::db::{Db, DbError};
use parking_lot::Mutex;
use rusqlite::Connection;
use std::time::Duration;

/// How many pages of the search index are merged at once: some milliseconds in which the writer waits.
const PAGES_AT_ONCE: i64 = 64;
/// How long the writer has for itself between two merges.
const PAUSE: Duration = Duration::from_millis(5);
/// One at a time: two would only wait for each other.
static UNDER_WAY: Mutex<()> = Mutex::new(());

/// Removes it. While somebody reads from the log it cannot be emptied; then nobody waits for that, least of all the
/// writer, and the job comes back.
///
/// # Errors
/// [`DbError`]; it can be done again.
pub async fn run(db: &Db) -> Result<(), DbError> {
    let Db::Sqlite(sqlite) = db else { return Ok(()) };
    let connection = sqlite.writing_connection()?;
    // The writer's turn is never waited for with it in hand.
    connection.busy_timeout(Duration::ZERO)?;
    tokio::task::spawn_blocking(move || {
        let Some(_turn) = UNDER_WAY.try_lock() else { return Err(busy()) };
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

/// Writes the log back into the file, and empties it where nobody reads from it.
fn empty_log(connection: &Connection) -> Result<(), DbError> {
    // Takes nobody's place: says how many pages there are and how many are written back.
    let (pages, back): (i64, i64) =
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))?;
    if back < pages {
        return Err(busy());
    }
    let refused: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if refused == 0 { Ok(()) } else { Err(busy()) }
}

fn busy() -> DbError {
    DbError::Unavailable("the log could not be emptied while it was in use".to_owned())
}
