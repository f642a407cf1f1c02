//! Sessions and messages on SQLite.

use crate::db::{DbError, FromRow, Row};
use crate::sessions::model::{Session, expiry_day, is_expired, session_columns};
use crate::writer::needs::Needs;
use crate::writer::plan::{Changes, Working};
use kernel::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// Looks which of the batch's sessions are there, and reads those that are expired: a message makes them active again.
///
/// # Errors
/// [`DbError`].
pub fn load(
    connection: &Connection,
    needs: &Needs,
    now: Timestamp,
    working: &mut Working,
) -> Result<(), DbError> {
    for session in &needs.sessions {
        let mut select = connection.prepare_cached(concat!(
            "SELECT CASE WHEN ",
            is_expired!("?2"),
            " THEN 1 ELSE 0 END FROM sessions s WHERE s.id = ?1 AND s.deleted_at IS NULL"
        ))?;
        let found =
            select.query_row(params![session, now.micros()], |row| row.get::<_, i64>(0)).optional()?;
        working.sessions.extend(found.map(|_| *session));
        if found == Some(1) {
            let sql = concat!("SELECT ", session_columns!(), " FROM sessions WHERE id = ?1");
            let mut select = connection.prepare_cached(sql)?;
            let mut rows = select.query([session])?;
            if let Some(row) = rows.next()? {
                working.expired.insert(*session, Session::from_row(&Row::Sqlite(row))?);
            }
        }
    }
    Ok(())
}

/// Moves the sessions and writes their messages, numbered.
///
/// # Errors
/// [`DbError`].
pub fn write(connection: &Connection, changes: &Changes) -> Result<(), DbError> {
    let mut last_seq = HashMap::with_capacity(changes.moves.len());
    for (session, moved) in &changes.moves {
        let mut update = connection.prepare_cached(
            "UPDATE sessions SET message_count = message_count + ?2, total_tokens = total_tokens + ?3, \
             total_cost_hi = total_cost_hi + ?4, total_cost_lo = total_cost_lo + ?5, \
             last_activity = max(last_activity, ?6), updated_at = max(updated_at, ?6), expires_at = ?7, expiry_day = ?8, \
             status = CASE status WHEN 'expired' THEN 'active' ELSE status END \
             WHERE id = ?1 AND deleted_at IS NULL RETURNING message_count",
        )?;
        let values = params![
            session,
            moved.messages,
            moved.tokens,
            moved.cost.hi,
            moved.cost.lo,
            moved.at.micros(),
            moved.expires_at.map(|at| at.micros()),
            moved.expires_at.map(expiry_day),
        ];
        let count: Option<i64> = update.query_row(values, |row| row.get(0)).optional()?;
        let count = count.ok_or_else(|| DbError::Conflict("sessions: one is gone".to_owned()))?;
        last_seq.insert(*session, count - moved.messages);
    }
    for message in &changes.messages {
        let Some(seq) = last_seq.get_mut(&message.session.row) else { continue };
        *seq += 1;
        let (facts, at) = (&message.new.facts, message.created_at.micros());
        let mut insert = connection.prepare_cached(
            "INSERT INTO messages (id, user_id, session_row, seq, message_id, message_type, role, content, tool_calls, \
             tool_call_id, metadata, tokens_used, cost_usd, is_summary_candidate, importance_score, created_at, \
             updated_at, content_stored) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?16, ?17)",
        )?;
        insert.execute(params![
            message.id,
            message.session.user.0,
            message.session.row,
            *seq,
            &*message.new.message_id,
            facts.message_type,
            facts.role.as_str(),
            facts.content,
            facts.tool_calls.as_ref().map(kernel::JsonArray::as_str),
            facts.tool_call_id,
            facts.metadata.as_str(),
            facts.tokens_used,
            facts.cost_usd,
            i64::from(facts.is_summary_candidate),
            facts.importance_score.millionths(),
            at,
            i64::from(facts.content_stored),
        ])?;
        if !message.new.words.is_empty() {
            let mut words =
                connection.prepare_cached("INSERT INTO message_words (rowid, words) VALUES (?1, ?2)")?;
            words.execute(params![message.id, &*message.new.words])?;
        }
    }
    Ok(())
}
