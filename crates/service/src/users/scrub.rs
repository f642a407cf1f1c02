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
/// How often the log is tried to be emptied, and how long everybody else has for themselves in between.
const ATTEMPTS: usize = 20;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(25);
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
    tokio::task::spawn_blocking(move || {
        let _turn = UNDER_WAY.lock();
        merge_words(&connection)?;
        // From here on, whoever waits would do so with the writer's turn in hand.
        connection.busy_timeout(Duration::ZERO)?;
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

/// Writes the log back into the file, and empties it once nobody reads from it.
fn empty_log(connection: &Connection) -> Result<(), DbError> {
    for _ in 0..ATTEMPTS {
        // The first takes nobody's turn, and says how many pages there are and how many are written back.
        let (pages, back): (i64, i64) =
            connection
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))?;
        let emptied = back >= pages
            && connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))? == 0;
        if emptied {
            return Ok(());
        }
        std::thread::sleep(ATTEMPT_PAUSE);
    }
    Err(busy())
}

fn busy() -> DbError {
    DbError::Unavailable("the log could not be emptied while it was in use".to_owned())
}
