//! How events are kept: in the transaction of what happened, if some endpoint asks for them.
//!
//! Whether one asks is decided by the statement that keeps the event. What is known in memory only
//! saves making bodies that nobody wants: on SQLite the asked-for kinds are added before the endpoint
//! that asks is written, by the one process there is; on PostgreSQL another process may have written
//! it, so a batch reads anew what is asked for, and an edit offers everything to the statement. An endpoint that is
//! written after that read is not yet known to whoever asked for what the batch does.
//!
//! Where the ledger decides, a user is known by its row only. Its external id is written into the body's place for it
//! ([`super::bodies::USER_PLACE`]) by the same statement.

use super::{Event, EventType, Kinds};
use crate::db::{Db, DbError, write::Write};
use deadpool_postgres::Object;
use rusqlite::{Connection, params};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// What a statement that keeps an event begins with.
pub const KEEP: &str = "INSERT INTO webhook_events ";

/// The text that keeps one event, where some endpoint asks for its kind and the condition holds; the event's parameters
/// are [`Event::values`], those of the condition `$5` and on.
macro_rules! keep_one {
    ($condition:literal) => {
        concat!(
            "INSERT INTO webhook_events (user_id, auth0_id, event_type, body, created_at) \
             SELECT CAST($1 AS BIGINT), (SELECT auth0_id FROM users WHERE id = $1), CAST($2 AS TEXT), \
             replace(CAST($3 AS TEXT), '\u{1}', COALESCE((SELECT auth0_id FROM users WHERE id = $1), '')), \
             CAST($4 AS BIGINT) WHERE EXISTS (SELECT 1 FROM webhook_subscriptions s WHERE s.event_type = $2)",
            $condition
        )
    };
}
pub(crate) use keep_one;

/// What endpoints ask for.
const ASKED: &str = "SELECT DISTINCT event_type FROM webhook_subscriptions";

/// What is asked for, and the bell that wakes whoever tells.
#[derive(Debug, Clone)]
pub struct Outbox {
    wanted: Arc<AtomicU64>,
    bell: Arc<Notify>,
}

impl Outbox {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn over(db: &Db) -> Result<Self, DbError> {
        let wanted = match db {
            Db::Postgres(_) => Kinds::ALL,
            Db::Sqlite(_) => db.query::<String>(ASKED, vec![]).await?.iter().map(String::as_str).collect(),
        };
        Ok(Self::wanting(wanted))
    }

    fn wanting(wanted: Kinds) -> Self {
        Self { wanted: Arc::new(AtomicU64::new(wanted.0)), bell: Arc::new(Notify::new()) }
    }

    /// What endpoints may ask for.
    #[must_use]
    pub fn wanted(&self) -> Kinds {
        Kinds(self.wanted.load(Ordering::SeqCst))
    }

    /// Whether an endpoint may ask for that kind.
    #[must_use]
    pub fn wants(&self, kind: EventType) -> bool {
        self.wanted().has(kind)
    }

    /// Has these kinds offered from now on. It is called before the endpoint that asks is written, and is never undone:
    /// what is offered in vain is not kept.
    pub fn want(&self, kinds: impl IntoIterator<Item = EventType>) {
        self.wanted.fetch_or(kinds.into_iter().collect::<Kinds>().0, Ordering::SeqCst);
    }

    /// Wakes whoever tells: there may be something new.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits for the bell.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }
}

impl Default for Outbox {
    /// One to which everything is offered.
    fn default() -> Self {
        Self::wanting(Kinds::ALL)
    }
}

/// Keeps events on SQLite.
///
/// # Errors
/// [`DbError`].
pub fn write_sqlite(connection: &Connection, events: &[Event]) -> Result<(), DbError> {
    if events.is_empty() {
        return Ok(());
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO webhook_events (user_id, auth0_id, event_type, body, created_at) \
         SELECT ?1, u.auth0_id, ?2, replace(?3, '\u{1}', COALESCE(u.auth0_id, '')), ?4 \
         FROM (SELECT 1) LEFT JOIN users u ON u.id = ?1 WHERE EXISTS (SELECT 1 FROM webhook_subscriptions s WHERE s.event_type = ?2)",
    )?;
    for event in events {
        let user = event.user.map(|user| user.0);
        insert.execute(params![user, event.kind.as_str(), event.body, event.at.micros()])?;
    }
    Ok(())
}

/// Reads on PostgreSQL what is asked for.
///
/// # Errors
/// [`DbError`].
pub async fn wanted_postgres(connection: &Object) -> Result<Kinds, DbError> {
    let statement = connection.prepare_cached(ASKED).await?;
    let rows = connection.query(&statement, &[]).await?;
    Ok(rows.iter().map(|row| row.get::<_, &str>(0)).collect())
}

/// What keeps events on PostgreSQL. It is the last that a transaction does, when it holds every lock that it needs: so of two that
/// change the same row, the later one takes the greater ids.
#[must_use]
pub fn write_postgres(events: &[Event]) -> Option<Write<'_>> {
    let columns = Write::any(
        "INSERT INTO webhook_events (user_id, auth0_id, event_type, body, created_at) \
         SELECT t.user_id, u.auth0_id, t.event_type, replace(t.body, '\u{1}', COALESCE(u.auth0_id, '')), t.created_at \
         FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bigint[]) \
         WITH ORDINALITY AS t(user_id, event_type, body, created_at, n) LEFT JOIN users u ON u.id = t.user_id \
         WHERE EXISTS (SELECT 1 FROM webhook_subscriptions s WHERE s.event_type = t.event_type) ORDER BY t.n",
    );
    (!events.is_empty()).then(|| {
        columns
            .column(events.iter().map(|event| event.user.map(|user| user.0)))
            .column(events.iter().map(|event| event.kind.as_str()))
            .column(events.iter().map(|event| event.body.as_str()))
            .column(events.iter().map(|event| event.at.micros()))
    })
}
