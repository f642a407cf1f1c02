//! Reading sessions, messages and memory.

use super::model::{Memory, Session, SessionRef, StoredMessage, message_columns, session_columns};
use super::words::Question;
use crate::app::App;
use crate::db::{Db, DbError, Rows, Value};
use kernel::{Timestamp, UserRowId};
use quick_cache::sync::Cache;

/// How many sessions are remembered.
const REMEMBERED_MAX: usize = 100_000;

/// Which row a public id names. It never becomes wrong; it does not say whether the session is deleted.
pub type SessionRefs = Cache<String, SessionRef>;

/// An empty memory.
#[must_use]
pub fn session_refs() -> SessionRefs {
    Cache::new(REMEMBERED_MAX)
}

/// The live session of that public id.
///
/// With `remembered` the answer may rest on memory; then a deleted session is found too.
///
/// # Errors
/// [`DbError`].
pub async fn find_ref(app: &App, session_id: &str, remembered: bool) -> Result<Option<SessionRef>, DbError> {
    let Some(session_id) = public_id(session_id) else { return Ok(None) };
    if remembered && let Some(session) = app.session_refs.get(&session_id) {
        return Ok(Some(session));
    }
    let sql = "SELECT s.id, s.session_id, s.user_id, u.auth0_id FROM sessions s JOIN users u ON u.id = s.user_id \
               WHERE s.session_id = $1 AND s.deleted_at IS NULL AND u.deleted_at IS NULL";
    let found: Option<SessionRef> = app.db.find(sql, &[session_id.as_str().into()]).await?;
    if let Some(session) = &found {
        app.session_refs.insert(session_id, session.clone());
    }
    Ok(found)
}

/// A public id as it is kept; what is no UUID names nothing.
fn public_id(text: &str) -> Option<String> {
    // Only the form with dashes: one session has one name in a path.
    let id = uuid::Uuid::try_parse(text).ok().filter(|_| text.len() == 36)?;
    Some(id.to_string())
}

/// A session that is not deleted.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, row: i64) -> Result<Option<Session>, DbError> {
    let sql = concat!("SELECT ", session_columns!(), " FROM sessions WHERE id = $1 AND deleted_at IS NULL");
    db.find(sql, &[row.into()]).await
}

/// Which stretch of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Only what comes after this key in the list.
    pub after: Option<(i64, i64)>,
    /// How many to pass over.
    pub offset: i64,
    /// How many to give.
    pub limit: i64,
}

impl Stretch {
    /// The parameters `$2` to `$5` of a list that goes down: key, rows to read, rows to pass over.
    fn downwards(self) -> [Value; 4] {
        let (first, second) = self.after.unwrap_or((i64::MAX, i64::MAX));
        [first, second, self.limit + 1, self.offset].map(Value::from)
    }
}

/// A user's sessions, newest first; `active` are those in use at that time.
///
/// # Errors
/// [`DbError`].
pub async fn list(
    db: &Db,
    user: UserRowId,
    active: Option<Timestamp>,
    wanted: Stretch,
) -> Result<Rows<Session>, DbError> {
    let mut values = vec![user.0.into()];
    values.extend(wanted.downwards());
    let sql = match active {
        None => concat!(
            "SELECT ",
            session_columns!(),
            " FROM sessions WHERE user_id = $1 AND deleted_at IS NULL AND (created_at, id) < ($2, $3) \
             ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5"
        ),
        Some(now) => {
            values.push(now.micros().into());
            concat!(
                "SELECT ",
                session_columns!(),
                " FROM sessions WHERE user_id = $1 AND deleted_at IS NULL AND status = 'active' \
                 AND (created_at, id) < ($2, $3) AND (expires_at IS NULL OR expires_at > $6) \
                 ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5"
            )
        }
    };
    db.page(sql, values, wanted.limit).await
}

/// The messages of a session, oldest first.
///
/// They are numbered without gaps from the first that is still there, so an offset costs nothing.
///
/// # Errors
/// [`DbError`].
pub async fn messages(db: &Db, session: i64, wanted: Stretch) -> Result<Rows<StoredMessage>, DbError> {
    let sql = concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages m JOIN sessions s ON s.id = m.session_row WHERE m.session_row = $1 AND m.seq > $2 \
         ORDER BY m.seq LIMIT $3"
    );
    let mut after = wanted.after.map_or(0, |(seq, _)| seq);
    if wanted.offset > 0 {
        let first = "SELECT seq FROM messages WHERE session_row = $1 AND seq > $2 ORDER BY seq LIMIT 1";
        let Some(first) = db.find::<i64>(first, &[session.into(), after.into()]).await? else {
            return Ok(Rows::up_to(wanted.limit));
        };
        after = first - 1 + wanted.offset;
    }
    db.page(sql, [session, after, wanted.limit + 1].map(Value::from).to_vec(), wanted.limit).await
}

/// The messages of a session, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn latest_messages(db: &Db, session: i64, wanted: Stretch) -> Result<Rows<StoredMessage>, DbError> {
    let sql = concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages m JOIN sessions s ON s.id = m.session_row WHERE m.session_row = $1 AND m.seq < $2 \
         AND m.seq <= s.message_count - $4 ORDER BY m.seq DESC LIMIT $3"
    );
    let before = wanted.after.map_or(i64::MAX, |(seq, _)| seq);
    let values = [session, before, wanted.limit + 1, wanted.offset];
    db.page(sql, values.map(Value::from).to_vec(), wanted.limit).await
}

/// A message of a session.
///
/// # Errors
/// [`DbError`].
pub async fn message(db: &Db, session: i64, message_id: &str) -> Result<Option<StoredMessage>, DbError> {
    let Some(message_id) = public_id(message_id) else { return Ok(None) };
    let sql = concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages m JOIN sessions s ON s.id = m.session_row WHERE m.session_row = $1 AND m.message_id = $2"
    );
    db.find(sql, &[session.into(), message_id.as_str().into()]).await
}

/// What is remembered of a session, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn memories(
    db: &Db,
    session: i64,
    memory_type: Option<String>,
    wanted: Stretch,
) -> Result<Rows<Memory>, DbError> {
    let sql = "SELECT id, memory_type, content, metadata, created_at, content_stored FROM session_memories WHERE session_row = $1 \
               AND (created_at, id) < ($2, $3) AND (CAST($6 AS TEXT) IS NULL OR memory_type = $6) \
               ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5";
    let mut values = vec![session.into()];
    values.extend(wanted.downwards());
    values.push(memory_type.into());
    db.page(sql, values, wanted.limit).await
}

/// A user's messages that answer a question, newest first, of one session or of all.
///
/// # Errors
/// [`DbError`].
pub async fn search(
    db: &Db,
    user: UserRowId,
    question: &Question,
    session: Option<i64>,
    wanted: Stretch,
) -> Result<Rows<StoredMessage>, DbError> {
    let mut values = vec![user.0.into()];
    values.extend(wanted.downwards());
    let (sql, question) = match db {
        // The index walks its rows by id, and ids follow time, so nothing needs sorting.
        Db::Sqlite(_) => (
            concat!(
                "SELECT ",
                message_columns!(),
                " FROM message_words w JOIN messages m ON m.id = w.rowid JOIN sessions s ON s.id = m.session_row \
                 WHERE w.message_words MATCH $6 AND w.rowid < $3 AND m.user_id = $1 AND s.deleted_at IS NULL \
                 AND m.created_at <= $2 AND (CAST($7 AS INTEGER) IS NULL OR m.session_row = $7) \
                 ORDER BY w.rowid DESC LIMIT $4 OFFSET $5"
            ),
            question.to_fts5(user),
        ),
        Db::Postgres(_) => (
            concat!(
                "SELECT ",
                message_columns!(),
                " FROM messages m JOIN sessions s ON s.id = m.session_row \
                 WHERE m.words @@ CAST(CAST($6 AS TEXT) AS tsquery) AND m.user_id = $1 AND s.deleted_at IS NULL \
                 AND (m.created_at, m.id) < ($2, $3) AND (CAST($7 AS BIGINT) IS NULL OR m.session_row = $7) \
                 ORDER BY m.created_at DESC, m.id DESC LIMIT $4 OFFSET $5"
            ),
            question.to_tsquery(user),
        ),
    };
    values.push(question.as_str().into());
    values.push(session.into());
    db.page(sql, values, wanted.limit).await
}

/// Sessions that a deletion has left rows of.
///
/// # Errors
/// [`DbError`].
pub async fn deleted(db: &Db, limit: i64) -> Result<Vec<Ownership>, DbError> {
    let sql = "SELECT id, user_id FROM sessions WHERE deleted_at IS NOT NULL ORDER BY deleted_at LIMIT $1";
    db.query(sql, vec![limit.into()]).await
}

/// Active sessions whose time is over.
///
/// # Errors
/// [`DbError`].
pub async fn overdue(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<Ownership>, DbError> {
    let sql = "SELECT id, user_id FROM sessions WHERE expiry_day IS NOT NULL AND status = 'active' \
               AND expiry_day <= $1 ORDER BY expiry_day LIMIT $2";
    db.query(sql, vec![now.micros().into(), limit.into()]).await
}

/// A session's row and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Ownership {
    /// The session's row.
    pub session: i64,
    /// Whose it is.
    pub user: UserRowId,
}

impl crate::db::FromRow for Ownership {
    fn from_row(row: &crate::db::Row<'_>) -> Result<Self, DbError> {
        Ok(Self { session: row.int(0)?, user: UserRowId(row.int(1)?) })
    }
}
