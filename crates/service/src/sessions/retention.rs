//! What of sessions goes with time: messages and memories that are too old, and sessions in which nothing happens.
//!
//! Of a session the messages go from the first on, so that those that are left have numbers without gaps: where the
//! clocks of two replicas differ, and a message is younger than one after it, both wait. Its totals stay: they say
//! what was, and the next message is numbered by them.

use super::edits::{self, REMOVED_AT_ONCE};
use super::store::Ownership;
use super::telling;
use crate::app::App;
use crate::db::{Db, DbError};
use crate::measure;
use crate::retention::{Piece, Span, due};
use crate::webhooks::EventType;
use crate::writer::{Command, WriteError};
use kernel::Timestamp;

/// How many sessions are dealt with at once.
const AT_ONCE: i64 = 50;

/// Removes some of the messages and memories from before an instant; 0 once there are none.
///
/// # Errors
/// [`WriteError`].
pub async fn forget(app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
    // A session is no younger than its messages; whether it has an old one, its first one says.
    let sql = "SELECT s.id, s.user_id FROM sessions s \
        WHERE s.id > $1 AND s.id <= $2 AND s.created_at < $3 AND s.deleted_at IS NULL \
        AND ((SELECT m.created_at FROM messages m WHERE m.session_row = s.id ORDER BY m.seq LIMIT 1) < $3 \
          OR EXISTS (SELECT 1 FROM session_memories k WHERE k.session_row = s.id AND k.created_at < $3)) \
        ORDER BY s.id LIMIT $4";
    let values = [span.after, span.to, before.micros(), AT_ONCE].map(Into::into).to_vec();
    let sessions: Vec<Ownership> = app.db.query(sql, values).await?;
    for session in &sessions {
        let messages = first_messages(&app.db, session.session).await?;
        let messages = due(&messages, before);
        let memories = first_memories(&app.db, session.session).await?;
        let memories = due(&memories, before);
        if messages.is_empty() && memories.is_empty() {
            // Somebody else was here meanwhile.
            continue;
        }
        let edit = edits::forget_before(*session, before, messages.last(), memories.last());
        app.writer.execute(Command::Edit(edit)).await?;
        measure::retired("messages", messages.len());
        measure::retired("memories", memories.len());
    }
    Ok(sessions.len())
}

/// The first messages of a session by their numbers.
async fn first_messages(db: &Db, session: i64) -> Result<Vec<Piece>, DbError> {
    let sql = "SELECT seq, created_at, \
        CAST(octet_length(content) + octet_length(metadata) + COALESCE(octet_length(tool_calls), 0) AS BIGINT) \
        FROM messages WHERE session_row = $1 ORDER BY seq LIMIT $2";
    db.query(sql, vec![session.into(), REMOVED_AT_ONCE.into()]).await
}

/// The first memories of a session by their ids.
async fn first_memories(db: &Db, session: i64) -> Result<Vec<Piece>, DbError> {
    let sql = "SELECT id, created_at, CAST(octet_length(content) + octet_length(metadata) AS BIGINT) \
        FROM session_memories WHERE session_row = $1 ORDER BY created_at, id LIMIT $2";
    db.query(sql, vec![session.into(), REMOVED_AT_ONCE.into()]).await
}

/// Deletes some of the sessions in which nothing has happened since an instant; 0 once there are none.
///
/// # Errors
/// [`WriteError`].
pub async fn delete(app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
    let sql = "SELECT id, user_id FROM sessions WHERE id > $1 AND id <= $2 AND updated_at < $3 AND deleted_at IS NULL \
        ORDER BY id LIMIT $4";
    let values = [span.after, span.to, before.micros(), AT_ONCE].map(Into::into).to_vec();
    let sessions: Vec<Ownership> = app.db.query(sql, values).await?;
    for session in &sessions {
        let now = app.clock.now();
        let told = telling::of_change(app, *session, EventType::SessionDeleted, now, |_| {}).await?;
        let edit = edits::delete_unused(*session, before, told, now);
        app.writer.execute(Command::Edit(edit)).await?;
        measure::retired("sessions", 1);
    }
    Ok(sessions.len())
}
