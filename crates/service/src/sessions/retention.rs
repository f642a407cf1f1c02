//! What of sessions goes with time: messages and memories that are too old, and sessions in which nothing happens.
//!
//! Of a session the messages go from the first on, so that those that are left have numbers without gaps. Its
//! totals stay: they say what was, and the next message is numbered by them.

use super::edits;
use super::store::Ownership;
use crate::app::App;
use crate::db::{DbError, FromRow, Row};
use crate::measure;
use crate::retention::Span;
use crate::writer::{Command, WriteError};
use kernel::Timestamp;

/// How many sessions are dealt with at once.
const AT_ONCE: i64 = 50;

/// A session with something that is too old.
struct Old {
    session: Ownership,
    /// How many of its messages go next.
    messages: u64,
    /// How many of its memories go next.
    memories: u64,
}

impl FromRow for Old {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let count = |at| Ok::<u64, DbError>(row.int(at)?.unsigned_abs());
        Ok(Self { session: Ownership::from_row(row)?, messages: count(2)?, memories: count(3)? })
    }
}

/// Removes some of the messages and memories from before an instant; 0 once there are none.
///
/// # Errors
/// [`WriteError`].
pub async fn forget(app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
    // A session is no younger than its messages; whether it has an old one, its first one says.
    let sql = "SELECT s.id, s.user_id, \
        (SELECT count(*) FROM (SELECT m.created_at FROM messages m WHERE m.session_row = s.id ORDER BY m.seq LIMIT $4) f \
         WHERE f.created_at < $3), \
        (SELECT count(*) FROM (SELECT 1 FROM session_memories k WHERE k.session_row = s.id AND k.created_at < $3 LIMIT $4) o) \
        FROM sessions s WHERE s.id > $1 AND s.id <= $2 AND s.created_at < $3 AND s.deleted_at IS NULL \
        AND ((SELECT m.created_at FROM messages m WHERE m.session_row = s.id ORDER BY m.seq LIMIT 1) < $3 \
          OR EXISTS (SELECT 1 FROM session_memories k WHERE k.session_row = s.id AND k.created_at < $3)) \
        ORDER BY s.id LIMIT $5";
    let values =
        [span.after, span.to, before.micros(), edits::REMOVED_AT_ONCE, AT_ONCE].map(Into::into).to_vec();
    let due: Vec<Old> = app.db.query(sql, values).await?;
    for old in &due {
        app.writer.execute(Command::Edit(edits::forget_before(old.session, before))).await?;
        measure::retired("messages", old.messages);
        measure::retired("memories", old.memories);
    }
    Ok(due.len())
}

/// Deletes some of the sessions in which nothing has happened since an instant; 0 once there are none.
///
/// # Errors
/// [`WriteError`].
pub async fn delete(app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
    let sql = "SELECT id, user_id FROM sessions WHERE id > $1 AND id <= $2 AND updated_at < $3 AND deleted_at IS NULL \
        ORDER BY id LIMIT $4";
    let values = [span.after, span.to, before.micros(), AT_ONCE].map(Into::into).to_vec();
    let due: Vec<Ownership> = app.db.query(sql, values).await?;
    for session in &due {
        let edit = edits::delete_unused(*session, before, app.clock.now());
        app.writer.execute(Command::Edit(edit)).await?;
        measure::retired("sessions", 1);
    }
    Ok(due.len())
}
