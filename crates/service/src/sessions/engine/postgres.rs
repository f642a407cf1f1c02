//! Sessions and messages on PostgreSQL.

use crate::db::write::Write;
use crate::db::{DbError, FromRow, Row};
use crate::sessions::model::{MessageFacts, Move, Session, expiry_day, is_expired, session_columns};
use crate::sessions::words;
use crate::writer::needs::Needs;
use crate::writer::plan::{Changes, Working};
use deadpool_postgres::Object;
use kernel::Timestamp;
use std::collections::HashMap;

/// Looks which of the batch's sessions are there, and reads those that are expired: a message makes them active again.
///
/// # Errors
/// [`DbError`].
pub async fn load(
    connection: &Object,
    needs: &Needs,
    now: Timestamp,
    working: &mut Working,
) -> Result<(), DbError> {
    if needs.sessions.is_empty() {
        return Ok(());
    }
    let statement = connection
        .prepare_cached(concat!(
            "SELECT s.id, ",
            is_expired!("$2"),
            " FROM sessions s WHERE s.id = ANY($1) AND s.deleted_at IS NULL"
        ))
        .await?;
    let mut expired: Vec<i64> = Vec::new();
    for row in connection.query(&statement, &[&needs.sessions, &now.micros()]).await? {
        let session = row.try_get(0)?;
        working.sessions.insert(session);
        expired.extend(row.try_get::<_, bool>(1)?.then_some(session));
    }
    if !expired.is_empty() {
        let sql = concat!("SELECT ", session_columns!(), " FROM sessions WHERE id = ANY($1)");
        let statement = connection.prepare_cached(sql).await?;
        for row in connection.query(&statement, &[&expired]).await? {
            let session = Session::from_row(&Row::Postgres(&row))?;
            working.expired.insert(session.id, session);
        }
    }
    Ok(())
}

/// What a batch writes of sessions.
#[must_use]
pub fn writes(changes: &Changes) -> Vec<Write<'_>> {
    if changes.moves.is_empty() { Vec::new() } else { vec![moves(changes), messages(changes)] }
}

/// The keys come sorted, so that batches that move the same sessions lock them in one order. The condition
/// refuses sessions that another replica has deleted meanwhile, or made active again or let expire, of which others are to be
/// told once, and those of a deleted user.
fn moves(changes: &Changes) -> Write<'_> {
    let moves = || changes.moves.values();
    let of = |field: fn(&Move) -> i64| moves().map(field);
    Write::rows(
        concat!("UPDATE sessions s SET message_count = s.message_count + t.messages, total_tokens = s.total_tokens + t.tokens, \
         total_cost_hi = s.total_cost_hi + t.cost_hi, total_cost_lo = s.total_cost_lo + t.cost_lo, \
         last_activity = GREATEST(s.last_activity, t.at), updated_at = GREATEST(s.updated_at, t.at), \
         expires_at = t.expires_at, expiry_day = t.expiry_day, \
         status = CASE s.status WHEN 'expired' THEN 'active' ELSE s.status END \
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
         $8::bigint[], $9::bigint[]) AS t(id, messages, tokens, cost_hi, cost_lo, at, expires_at, expiry_day, revives) \
         WHERE s.id = t.id AND s.deleted_at IS NULL AND ", is_expired!("t.at"), " = (t.revives = 1) \
         AND EXISTS (SELECT 1 FROM credit_accounts a WHERE a.user_id = s.user_id AND NOT a.closed)"),
        changes.moves.len(),
    )
    .column(changes.moves.keys().copied())
    .column(of(|moved| moved.messages))
    .column(of(|moved| moved.tokens))
    .column(of(|moved| moved.cost.hi))
    .column(of(|moved| moved.cost.lo))
    .column(of(|moved| moved.at.micros()))
    .column(moves().map(|moved| moved.expires_at.map(|at| at.micros())))
    .column(moves().map(|moved| moved.expires_at.map(expiry_day)))
    .column(of(|moved| moved.revives.into()))
}

/// The session's count has moved already, and its row is locked: a message's number is found by
/// counting back from it.
fn messages(changes: &Changes) -> Write<'_> {
    let mut later = HashMap::new();
    let mut back: Vec<i64> = changes
        .messages
        .iter()
        .rev()
        .map(|message| {
            let after = later.entry(message.session.row).or_insert(0);
            *after += 1;
            *after - 1
        })
        .collect();
    back.reverse();
    let all = || changes.messages.iter();
    let facts = || all().map(|message| &*message.new.facts);
    let number = |field: fn(&MessageFacts) -> i64| facts().map(field);
    Write::rows(
        "INSERT INTO messages (id, user_id, session_row, seq, message_id, message_type, role, content, tool_calls, \
         tool_call_id, metadata, tokens_used, cost_usd, is_summary_candidate, importance_score, created_at, \
         updated_at, words, content_stored) SELECT t.id, s.user_id, s.id, s.message_count - t.back, t.message_id, t.message_type, t.role, \
         t.content, t.tool_calls, t.tool_call_id, t.metadata, t.tokens_used, t.cost_usd, t.candidate, t.score, \
         t.created_at, t.created_at, t.words::tsvector, t.content_stored \
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
         $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], \
         $16::text[], $17::bigint[]) AS t(id, session_row, back, message_id, message_type, role, content, tool_calls, tool_call_id, \
         metadata, tokens_used, cost_usd, candidate, score, created_at, words, content_stored) JOIN sessions s ON s.id = t.session_row",
        changes.messages.len(),
    )
    .column(all().map(|message| message.id))
    .column(all().map(|message| message.session.row))
    .column(back.into_iter())
    .column(all().map(|message| &*message.new.message_id))
    .column(facts().map(|facts| facts.message_type.as_str()))
    .column(facts().map(|facts| facts.role.as_str()))
    .column(facts().map(|facts| facts.content.as_str()))
    .column(facts().map(|facts| facts.tool_calls.as_ref().map(kernel::JsonArray::as_str)))
    .column(facts().map(|facts| facts.tool_call_id.as_deref()))
    .column(facts().map(|facts| facts.metadata.as_str()))
    .column(number(|facts| facts.tokens_used))
    .column(number(|facts| facts.cost_usd))
    .column(number(|facts| facts.is_summary_candidate.into()))
    .column(number(|facts| facts.importance_score.millionths()))
    .column(all().map(|message| message.created_at.micros()))
    .column(all().map(|message| words::to_tsvector(&message.new.words)))
    .column(number(|facts| facts.content_stored.into()))
}
