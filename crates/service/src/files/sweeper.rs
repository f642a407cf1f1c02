//! What of files is done by and by: whatever a crash or a client that never came back left.
//!
//! Spools of dead processes, files that were never finished, direct uploads that were never completed,
//! deleted files whose bytes are still there, staging keys that nobody may write to any more. Nothing
//! that is seen depends on it; it gives room back.

use super::model::StoredFile;
use super::objects::{ObjectError, staging_key};
use super::{edits, keep, store};
use crate::app::App;
use crate::db::DbError;
use crate::writer::{Command, Edit, WriteError};
use kernel::Timestamp;
use std::time::Duration;

/// How many rows are looked at in one go.
const AT_ONCE: i64 = 100;
/// Since when a file that is on its way is given up, in this process or another.
const ABANDONED: Duration = Duration::from_secs(60 * 60);
/// Since when a deletion is taken to have been interrupted.
const INTERRUPTED: Duration = Duration::from_secs(5 * 60);

/// Does what is due.
///
/// # Errors
/// A sentence for the log: the first of what went wrong. The rest was done all the same.
pub async fn sweep(app: &App) -> Result<(), WriteError> {
    let mut first = Ok(());
    let mut note = |done: Result<(), WriteError>| {
        if first.is_ok() {
            first = done;
        }
    };
    match app.files.spools.sweep() {
        Ok(swept) if swept > 0 => tracing::info!(swept, "spools of processes that have ended were removed"),
        Ok(_) => {}
        Err(error) => note(Err(WriteError::Unavailable(error.to_string()))),
    }
    note(each(app, "storing", before(app, ABANDONED), Some(edits::give_up)).await);
    note(each(app, "expected", ago(app, ABANDONED), Some(edits::give_up_expected)).await);
    note(each(app, "deleting", before(app, INTERRUPTED), None).await);
    note(unstage(app).await);
    first
}

fn ago(app: &App, age: Duration) -> Timestamp {
    app.clock.now().minus(age)
}

/// That long ago; or when this process began, where no other could have left anything since.
fn before(app: &App, age: Duration) -> Timestamp {
    let ago = ago(app, age);
    if app.files.alone { ago.max(app.started_at) } else { ago }
}

/// Gives up every file of a status that is so old, and removes it.
async fn each(
    app: &App,
    status: &'static str,
    before: Timestamp,
    give_up: Option<fn(&StoredFile, Timestamp) -> Edit>,
) -> Result<(), WriteError> {
    let (mut first, mut after) = (Ok(()), 0);
    loop {
        let due = store::unfinished(&app.db, status, before, after, AT_ONCE).await.map_err(unavailable)?;
        for file in &due {
            after = file.id;
            let done = one(app, file, give_up).await;
            first = first.and(done);
        }
        if due.is_empty() {
            return first;
        }
    }
}

async fn one(
    app: &App,
    file: &StoredFile,
    give_up: Option<fn(&StoredFile, Timestamp) -> Edit>,
) -> Result<(), WriteError> {
    if let Some(give_up) = give_up {
        match app.writer.execute(Command::Edit(give_up(file, app.clock.now()))).await {
            // It was finished after all, or another process was here first.
            Err(WriteError::Refused(_)) => return Ok(()),
            other => other.map(drop)?,
        }
    }
    keep::discard(app, file).await.map_err(not_removed)
}

/// Removes a file of a user who is erased, whatever its state, with its bytes and its names.
///
/// # Errors
/// A sentence for the log; it can be called again.
pub async fn erase(app: &App, file: &StoredFile) -> Result<(), WriteError> {
    let now = app.clock.now();
    for retire in [edits::delete, edits::give_up, edits::give_up_expected] {
        // It has one of these states, or is on its way out already.
        match app.writer.execute(Command::Edit(retire(file, now))).await {
            Ok(_) => break,
            Err(WriteError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    keep::discard(app, file).await.map_err(not_removed)?;
    app.writer.execute(Command::Edit(edits::without_names(file))).await.map(drop)
}

/// Empties the staging keys of files that were completed, long after whoever still wrote there has ended.
async fn unstage(app: &App) -> Result<(), WriteError> {
    let (mut first, mut after) = (Ok(()), 0);
    loop {
        let due = store::staged(&app.db, ago(app, ABANDONED), after, AT_ONCE).await.map_err(unavailable)?;
        for file in &due {
            after = file.id;
            let emptied = app.files.objects.delete(&staging_key(file.user, &file.file_id)).await;
            let done = match emptied {
                Ok(()) => app.writer.execute(Command::Edit(edits::unstage(file))).await.map(drop),
                Err(error) => Err(not_removed(error)),
            };
            first = first.and(done);
        }
        if due.is_empty() {
            return first;
        }
    }
}

fn unavailable(error: DbError) -> WriteError {
    WriteError::Unavailable(error.to_string())
}

/// What went wrong, without the store's own words: they name the key, and so the file.
fn not_removed(error: ObjectError) -> WriteError {
    tracing::debug!(%error, "an object was not removed");
    WriteError::Unavailable("an object could not be removed from the store".to_owned())
}
