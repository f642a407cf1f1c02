//! The small changes of sessions, each with its statements.

use super::model::{Memory, Session, Status, expiry_day};
use super::store::Ownership;
use crate::db::Value;
use crate::retention::Piece;
use crate::webhooks::Event;
use crate::webhooks::outbox::keep_one;
use crate::writer::{Counter, Edit, Statement};
use kernel::{JsonObject, Score, Timestamp, UserRowId};
use std::time::Duration;

/// How many messages, and how many memories, of a session go in one commit.
pub const REMOVED_AT_ONCE: i64 = 100;
/// How much can be remembered of one session.
pub const MEMORIES_MAX: i64 = 1_000;

/// Locks a session, so that what is asked of it next stays true until the transaction ends; writes no row where it is gone.
const LOCK: &str = "UPDATE sessions SET updated_at = updated_at WHERE id = $1 AND deleted_at IS NULL";

/// Changes a session with a statement, and tells others where that is a change.
fn changing(of: Ownership, told: Option<Statement>, change: Statement) -> Edit {
    let Some(told) = told else { return Edit::new(of.user, vec![change]) };
    let lock = Statement { rows: change.rows, ..Statement::any(LOCK, vec![of.session.into()]) };
    Edit::new(of.user, vec![lock, told, change])
}

/// Makes a session, unless its user is deleted; statement 0 says so.
#[must_use]
pub fn create(user: UserRowId, session: &Session) -> Edit {
    let insert = "INSERT INTO sessions (id, session_id, user_id, status, message_count, total_tokens, total_cost_hi, \
        total_cost_lo, created_at, updated_at, last_activity, expires_at, expiry_day, title, conversation_data, metadata) \
        SELECT $1, $2, a.user_id, $3, 0, 0, 0, 0, $4, $4, $4, $5, $6, $7, $8, $9 FROM credit_accounts a \
        WHERE a.user_id = $10 AND NOT a.closed";
    let values = vec![
        Value::Fresh,
        Value::from(&*session.session_id),
        session.written_status.as_str().into(),
        session.created_at.micros().into(),
        session.expires_at.map(Timestamp::micros).into(),
        session.expires_at.map(expiry_day).into(),
        session.title.clone().into(),
        session.conversation_data.as_str().into(),
        session.metadata.as_str().into(),
        user.0.into(),
    ];
    Edit::making(Counter::Sessions, user, vec![Statement::one(insert, values)])
}

/// What of a session is changed; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct SessionPatch {
    /// The title.
    pub title: Option<String>,
    /// The summary.
    pub session_summary: Option<String>,
    /// The caller's data on the conversation.
    pub conversation_data: Option<JsonObject>,
    /// The caller's data.
    pub metadata: Option<JsonObject>,
}

/// Changes a session; statement 0 finds it gone. Others are told where anything becomes another.
#[must_use]
pub fn update(of: Ownership, patch: SessionPatch, told: Option<Event>, now: Timestamp) -> Edit {
    let sql = "UPDATE sessions SET title = COALESCE($2, title), session_summary = COALESCE($3, session_summary), \
        conversation_data = COALESCE($4, conversation_data), metadata = COALESCE($5, metadata), updated_at = $6 \
        WHERE id = $1 AND deleted_at IS NULL";
    let text = |object: Option<JsonObject>| Value::from(object.map(|object| object.as_str().to_owned()));
    let values = vec![
        of.session.into(),
        patch.title.into(),
        patch.session_summary.into(),
        text(patch.conversation_data),
        text(patch.metadata),
        now.micros().into(),
    ];
    let told = told.map(|event| {
        let keep = keep_one!(
            " AND EXISTS (SELECT 1 FROM sessions o WHERE o.id = $5 AND o.deleted_at IS NULL \
             AND (o.title IS DISTINCT FROM COALESCE(CAST($6 AS TEXT), o.title) \
             OR o.session_summary IS DISTINCT FROM COALESCE(CAST($7 AS TEXT), o.session_summary) \
             OR o.conversation_data <> COALESCE(CAST($8 AS TEXT), o.conversation_data) \
             OR o.metadata <> COALESCE(CAST($9 AS TEXT), o.metadata)))"
        );
        event.when(keep, values[..5].to_vec())
    });
    changing(of, told, Statement::one(sql, values))
}

/// Sets a session's state, and gives an active one its time anew; statement 0 finds it gone.
#[must_use]
pub fn set_status(
    of: Ownership,
    status: Status,
    told: Option<Event>,
    now: Timestamp,
    life: Option<Duration>,
) -> Edit {
    let told = told.map(|event| {
        // An active session whose time is over was expired, whether or not that was written down, if it is used again.
        let keep = keep_one!(
            " AND EXISTS (SELECT 1 FROM sessions o WHERE o.id = $5 AND o.deleted_at IS NULL \
             AND CASE WHEN CAST($6 AS TEXT) = 'active' AND o.status = 'active' AND o.expires_at <= $7 THEN 'expired' \
             ELSE o.status END <> CAST($6 AS TEXT))"
        );
        event.when(keep, [of.session.into(), status.as_str().into(), now.micros().into()])
    });
    let mut values: Vec<Value> = vec![of.session.into(), status.as_str().into(), now.micros().into()];
    let sql = if status == Status::Active {
        let expires_at = life.map(|life| now.plus(life));
        values.extend([expires_at.map(Timestamp::micros).into(), expires_at.map(expiry_day).into()]);
        "UPDATE sessions SET status = $2, updated_at = $3, expires_at = $4, expiry_day = $5 \
         WHERE id = $1 AND deleted_at IS NULL"
    } else {
        "UPDATE sessions SET status = $2, updated_at = $3 WHERE id = $1 AND deleted_at IS NULL"
    };
    changing(of, told, Statement::one(sql, values))
}

/// Makes a session unknown; its rows go by and by. Statement 0 finds it gone.
#[must_use]
pub fn delete(of: Ownership, now: Timestamp) -> Edit {
    let sql = "UPDATE sessions SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL";
    Edit::new(of.user, vec![Statement::one(sql, vec![of.session.into(), now.micros().into()])])
}

/// Removes some of a deleted session's messages, and when none are left, the rest of it.
#[must_use]
pub fn remove(of: Ownership) -> Edit {
    let messages = "DELETE FROM messages WHERE id IN \
        (SELECT id FROM messages WHERE session_row = $1 ORDER BY seq LIMIT $2)";
    let memories = "DELETE FROM session_memories WHERE session_row = $1";
    let session = "DELETE FROM sessions WHERE id = $1 AND deleted_at IS NOT NULL \
        AND NOT EXISTS (SELECT 1 FROM messages WHERE session_row = $1)";
    Edit::new(
        of.user,
        vec![
            Statement::any(messages, vec![of.session.into(), REMOVED_AT_ONCE.into()]),
            Statement::any(memories, vec![of.session.into()]),
            Statement::any(session, vec![of.session.into()]),
        ],
    )
}

/// Makes a session unknown, unless something happened in it since an instant.
#[must_use]
pub fn delete_unused(of: Ownership, before: Timestamp, told: Option<Event>, now: Timestamp) -> Edit {
    let sql = "UPDATE sessions SET deleted_at = $2 WHERE id = $1 AND updated_at < $3 AND deleted_at IS NULL";
    let values = vec![of.session.into(), now.micros().into(), before.micros().into()];
    let told = told.map(|event| {
        let keep = keep_one!(
            " AND EXISTS (SELECT 1 FROM sessions o WHERE o.id = $5 AND o.updated_at < $6 AND o.deleted_at IS NULL)"
        );
        event.when(keep, [of.session.into(), before.micros().into()])
    });
    changing(of, told, Statement::any(sql, values))
}

/// Removes a session's messages and memories from before an instant, up to one of each.
#[must_use]
pub fn forget_before(
    of: Ownership,
    before: Timestamp,
    last_message: Option<&Piece>,
    last_memory: Option<&Piece>,
) -> Edit {
    let messages = "DELETE FROM messages WHERE session_row = $1 AND seq <= $2 AND created_at < $3";
    let messages = last_message.map(|last| {
        Statement::any(messages, vec![of.session.into(), last.key.into(), before.micros().into()])
    });
    let memories = "DELETE FROM session_memories WHERE session_row = $1 AND (created_at, id) <= ($2, $3) AND created_at < $4";
    let memories = last_memory.map(|last| {
        let values = [of.session, last.since, last.key, before.micros()];
        Statement::any(memories, values.map(Value::from).to_vec())
    });
    Edit::new(of.user, messages.into_iter().chain(memories).collect())
}

/// Writes down that sessions have expired; one that was used meanwhile stays as it is.
#[must_use]
pub fn expire(of: Ownership, told: Option<Event>, now: Timestamp) -> Edit {
    let sql =
        "UPDATE sessions SET status = 'expired' WHERE id = $1 AND status = 'active' AND expires_at <= $2";
    let told = told.map(|event| {
        let keep = keep_one!(
            " AND EXISTS (SELECT 1 FROM sessions o WHERE o.id = $5 AND o.status = 'active' AND o.expires_at <= $6 \
             AND o.deleted_at IS NULL)"
        );
        event.when(keep, [of.session.into(), now.micros().into()])
    });
    changing(of, told, Statement::any(sql, vec![of.session.into(), now.micros().into()]))
}

/// What of a message is changed; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct MessagePatch {
    /// Whether a summary may take it in.
    pub is_summary_candidate: Option<bool>,
    /// How important it is.
    pub importance_score: Option<Score>,
    /// The caller's data.
    pub metadata: Option<JsonObject>,
}

/// Changes a message; statement 0 finds it gone.
#[must_use]
pub fn update_message(of: Ownership, message_id: &str, patch: &MessagePatch, now: Timestamp) -> Edit {
    let sql = "UPDATE messages SET is_summary_candidate = COALESCE($3, is_summary_candidate), \
        importance_score = COALESCE($4, importance_score), metadata = COALESCE($5, metadata), updated_at = $6 \
        WHERE session_row = $1 AND message_id = $2 \
        AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = $1 AND s.deleted_at IS NULL)";
    let values = vec![
        of.session.into(),
        message_id.into(),
        patch.is_summary_candidate.map(i64::from).into(),
        patch.importance_score.map(Score::millionths).into(),
        patch.metadata.as_ref().map(|object| object.as_str().to_owned()).into(),
        now.micros().into(),
    ];
    Edit::new(of.user, vec![Statement::one(sql, values)])
}

/// Remembers something of a session. Statement 0 finds the session gone, statement 1 finds it full.
#[must_use]
pub fn remember(of: Ownership, memory: &Memory) -> Edit {
    let now = memory.created_at;
    let touch = "UPDATE sessions SET updated_at = $2 WHERE id = $1 AND deleted_at IS NULL \
        AND EXISTS (SELECT 1 FROM credit_accounts a WHERE a.user_id = sessions.user_id AND NOT a.closed)";
    let insert = "INSERT INTO session_memories (id, user_id, session_row, memory_type, content, content_stored, metadata, \
        created_at) SELECT $1, s.user_id, s.id, $3, $4, $8, $5, $6 FROM sessions s WHERE s.id = $2 \
        AND (SELECT count(*) FROM session_memories m WHERE m.session_row = $2) < $7";
    let values = vec![
        Value::Fresh,
        of.session.into(),
        memory.memory_type.as_str().into(),
        memory.content.as_str().into(),
        memory.metadata.as_str().into(),
        now.micros().into(),
        MEMORIES_MAX.into(),
        i64::from(memory.content_stored).into(),
    ];
    let statements = vec![
        Statement::one(touch, vec![of.session.into(), now.micros().into()]),
        Statement::one(insert, values),
    ];
    Edit::making(Counter::Memories, of.user, statements)
}

/// Forgets something; statement 0 finds it gone.
#[must_use]
pub fn forget(of: Ownership, memory: i64) -> Edit {
    let sql = "DELETE FROM session_memories WHERE id = $1 AND session_row = $2";
    Edit::new(of.user, vec![Statement::one(sql, vec![memory.into(), of.session.into()])])
}
