//! The log of deliveries, and what of it is told again.

use super::EventType;
use super::edits::{NOBODY, turn_enabled};
use super::model::{Delivery, DeliveryStatus};
use crate::db::{Db, DbError, FromRow, Row, Rows};
use crate::writer::{Edit, Statement};
use kernel::Timestamp;
use std::time::Duration;

/// How many events one request recovers.
pub const RECOVERED_MAX: usize = 10_000;
/// How many events one request looks at to find them.
pub const LOOKED_AT_MAX: usize = 100_000;
/// How many are looked at in one read.
pub const LOOKED_AT_ONCE: i64 = 5_000;
/// How many deliveries one request for some of them looks at.
pub const LISTED_FROM_MAX: i64 = 10_000;
/// By how much the rows of events may be out of the order of their times: processes have clocks of their own, and some effects take longer to commit.
const SKEW: Duration = Duration::from_secs(10 * 60);
/// How many are put back in one commit.
pub const PUT_BACK_AT_ONCE: usize = 500;

/// The text of an engine, where the place of an event is another column.
macro_rules! placed {
    ($db:expr, $before:literal, $after:literal) => {
        match $db {
            Db::Sqlite(_) => concat!($before, "e.id", $after),
            Db::Postgres(_) => concat!($before, "e.position", $after),
        }
    };
}

/// Which deliveries of an endpoint are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this status only.
    pub status: Option<DeliveryStatus>,
    /// Of events of this type only.
    pub event_type: Option<String>,
    /// Of events about this user only.
    pub user_id: Option<String>,
    /// Of events not before that.
    pub since: Option<Timestamp>,
    /// Of events not after that.
    pub until: Option<Timestamp>,
    /// Of events before this one.
    pub before: i64,
    /// How many to pass over.
    pub offset: i64,
    /// How many to give.
    pub limit: i64,
}

impl Filter {
    /// Whether it may pass over any number of deliveries.
    const fn narrows(&self) -> bool {
        self.status.is_some()
            || self.event_type.is_some()
            || self.user_id.is_some()
            || self.since.is_some()
            || self.until.is_some()
    }
}

/// What was found of a list.
pub struct Listed {
    /// The deliveries, without the texts of their events.
    pub rows: Rows<Delivery>,
    /// The event down to which was looked, where there may be more behind it.
    pub looked_to: Option<i64>,
}

/// Deliveries of an endpoint, the one of the newest event first; those that a filter passes over cost too, so only so many are looked at.
///
/// # Errors
/// [`DbError`].
pub async fn list(db: &Db, endpoint: i64, of: Filter) -> Result<Listed, DbError> {
    let sql = placed!(
        db,
        "SELECT e.id, ",
        ", e.auth0_id, e.event_type, '{}', e.created_at, d.status, d.next_attempt_at, d.log, d.updated_at \
         FROM (SELECT * FROM webhook_deliveries WHERE endpoint = $1 AND event_id < $2 AND event_id > $3 ORDER BY event_id DESC LIMIT $4) d \
         JOIN webhook_events e ON e.id = d.event_id WHERE (CAST($5 AS TEXT) IS NULL OR d.status = $5) \
         AND (CAST($6 AS TEXT) IS NULL OR e.event_type = $6) AND (CAST($7 AS TEXT) IS NULL OR e.auth0_id = $7) \
         AND (CAST($8 AS BIGINT) IS NULL OR e.created_at >= $8) AND (CAST($9 AS BIGINT) IS NULL OR e.created_at <= $9) \
         ORDER BY d.event_id DESC LIMIT $10 OFFSET $11"
    );
    let (after, before) = between(db, &of).await?;
    let narrows = of.narrows();
    let looked_at =
        if narrows { LISTED_FROM_MAX } else { of.limit.saturating_add(of.offset).saturating_add(1) };
    let values = vec![
        endpoint.into(),
        before.into(),
        after.into(),
        looked_at.into(),
        of.status.map(|status| status.as_str().to_owned()).into(),
        of.event_type.into(),
        of.user_id.into(),
        of.since.map(Timestamp::micros).into(),
        of.until.map(Timestamp::micros).into(),
        of.limit.saturating_add(1).into(),
        of.offset.into(),
    ];
    let rows: Rows<Delivery> = db.page(sql, values, of.limit).await?;
    if !narrows || rows.more {
        return Ok(Listed { rows, looked_to: None });
    }
    let last = "SELECT event_id FROM webhook_deliveries WHERE endpoint = $1 AND event_id < $2 AND event_id > $3 \
        ORDER BY event_id DESC LIMIT 1 OFFSET $4";
    let values = [endpoint.into(), before.into(), after.into(), (LISTED_FROM_MAX - 1).into()];
    Ok(Listed { rows, looked_to: db.find(last, &values).await? })
}

/// Between which events those of a time are, and before the place where the page before ended.
async fn between(db: &Db, of: &Filter) -> Result<(i64, i64), DbError> {
    let skew = i64::try_from(SKEW.as_micros()).unwrap_or(i64::MAX);
    let (mut after, mut before) = (0, of.before);
    if let Some(since) = of.since {
        let sql =
            "SELECT id FROM webhook_events WHERE created_at < $1 ORDER BY created_at DESC, id DESC LIMIT 1";
        let found: Option<i64> = db.find(sql, &[since.micros().saturating_sub(skew).into()]).await?;
        after = found.unwrap_or(after);
    }
    if let Some(until) = of.until {
        let sql = "SELECT id FROM webhook_events WHERE created_at > $1 ORDER BY created_at, id LIMIT 1";
        let found: Option<i64> = db.find(sql, &[until.micros().saturating_add(skew).into()]).await?;
        before = before.min(found.unwrap_or(before));
    }
    Ok((after, before))
}

/// What became of telling an endpoint of an event.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, endpoint: i64, event: i64) -> Result<Option<Delivery>, DbError> {
    let sql = placed!(
        db,
        "SELECT e.id, ",
        ", e.auth0_id, e.event_type, e.body, e.created_at, d.status, d.next_attempt_at, d.log, d.updated_at \
         FROM webhook_deliveries d JOIN webhook_events e ON e.id = d.event_id WHERE d.endpoint = $1 AND d.event_id = $2"
    );
    db.find(sql, &[endpoint.into(), event.into()]).await
}

/// Has a delivery tried again from the beginning; statement 0 finds its endpoint disabled, statement 1 no delivery.
#[must_use]
pub fn resend(endpoint_id: &str, event: i64, now: Timestamp) -> Edit {
    let sql = "UPDATE webhook_deliveries SET status = 'pending', attempts = 0, next_attempt_at = $3, updated_at = $3 \
        WHERE endpoint = (SELECT id FROM webhook_endpoints WHERE endpoint_id = $1) AND event_id = $2";
    let values = vec![endpoint_id.into(), event.into(), now.micros().into()];
    Edit::new(NOBODY, vec![turn_enabled(endpoint_id), Statement::one(sql, values)])
}

/// Makes an event for one endpoint alone, and has it delivered; statement 0 finds the endpoint disabled.
#[must_use]
pub fn test(endpoint_id: &str, kind: EventType, body: &str, now: Timestamp) -> Edit {
    let event = "INSERT INTO webhook_events (event_type, body, created_at, endpoint) \
        SELECT CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT), id FROM webhook_endpoints WHERE endpoint_id = $1";
    // The endpoint is locked, so of those that were made for it at this instant the last one is this.
    let delivery = "INSERT INTO webhook_deliveries (endpoint, event_id, user_id, status, attempts, next_attempt_at, log, updated_at) \
        SELECT e.endpoint, e.id, e.user_id, 'pending', 0, CAST($2 AS BIGINT), '[]', CAST($2 AS BIGINT) FROM webhook_events e \
        WHERE e.endpoint = (SELECT id FROM webhook_endpoints WHERE endpoint_id = $1) AND e.created_at = $2 \
        ORDER BY e.id DESC LIMIT 1";
    let statements = vec![
        turn_enabled(endpoint_id),
        Statement::one(
            event,
            vec![endpoint_id.into(), kind.as_str().into(), body.into(), now.micros().into()],
        ),
        Statement::one(delivery, vec![endpoint_id.into(), now.micros().into()]),
    ];
    Edit::new(NOBODY, statements)
}

/// The event that was made last for an endpoint alone, at an instant.
///
/// # Errors
/// [`DbError`].
pub async fn tested(db: &Db, endpoint: i64, at: Timestamp) -> Result<Option<i64>, DbError> {
    let sql =
        "SELECT id FROM webhook_events WHERE endpoint = $1 AND created_at = $2 ORDER BY id DESC LIMIT 1";
    db.find(sql, &[endpoint.into(), at.micros().into()]).await
}

/// What is told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// What was tried as often as it may be.
    Failed,
    /// The same, and what was never tried.
    Undelivered,
}

/// An event that was looked at.
pub struct LookedAt {
    /// Its row.
    pub id: i64,
    /// When it happened.
    pub at: i64,
    /// Whether it is to be told again.
    pub missed: bool,
}

impl FromRow for LookedAt {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { id: row.int(0)?, at: row.int(1)?, missed: row.int(2)? == 1 })
    }
}

/// The next events of a time, from the one after a place on, and which of them an endpoint missed. What its cursor has not
/// reached is told anyway, and is not missed.
///
/// # Errors
/// [`DbError`].
pub async fn look(
    db: &Db,
    endpoint: i64,
    what: Missed,
    after: (i64, i64),
    until: i64,
) -> Result<Vec<LookedAt>, DbError> {
    let sql = placed!(
        db,
        "SELECT e.id, e.created_at, CASE WHEN e.endpoint IS NULL AND ",
        " <= w.position AND (w.user_ids = '[]' OR REPLACE(w.user_ids, '\"' || e.auth0_id || '\"', '') <> w.user_ids) \
         AND EXISTS (SELECT 1 FROM webhook_subscriptions s WHERE s.event_type = e.event_type AND s.endpoint = w.id) \
         AND (EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint = w.id AND d.event_id = e.id AND d.status = 'failed') \
         OR (CAST($2 AS BIGINT) = 1 AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint = w.id AND d.event_id = e.id))) \
         THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END FROM webhook_events e JOIN webhook_endpoints w ON w.id = $1 \
         WHERE (e.created_at, e.id) > (CAST($3 AS BIGINT), CAST($4 AS BIGINT)) AND e.created_at <= $5 \
         ORDER BY e.created_at, e.id LIMIT $6"
    );
    let values = vec![
        endpoint.into(),
        i64::from(what == Missed::Undelivered).into(),
        after.0.into(),
        after.1.into(),
        until.into(),
        LOOKED_AT_ONCE.into(),
    ];
    db.query(sql, values).await
}

/// Has events delivered that were missed; statement 0 finds the endpoint disabled. What was delivered meanwhile, or waits, stays as it is.
#[must_use]
pub fn put_back(db: &Db, endpoint_id: &str, events: &[i64], now: Timestamp) -> Edit {
    let sql = match db {
        Db::Sqlite(_) => {
            "INSERT INTO webhook_deliveries (endpoint, event_id, user_id, status, attempts, next_attempt_at, log, updated_at) \
             SELECT w.id, e.id, e.user_id, 'pending', 0, $3, '[]', $3 FROM webhook_events e JOIN webhook_endpoints w ON w.endpoint_id = $1 \
             WHERE e.id IN (SELECT value FROM json_each($2)) ON CONFLICT (endpoint, event_id) DO UPDATE SET status = 'pending', attempts = 0, \
             next_attempt_at = excluded.next_attempt_at, updated_at = excluded.updated_at WHERE webhook_deliveries.status = 'failed'"
        }
        Db::Postgres(_) => {
            "INSERT INTO webhook_deliveries (endpoint, event_id, user_id, status, attempts, next_attempt_at, log, updated_at) \
             SELECT w.id, e.id, e.user_id, 'pending', 0, CAST($3 AS BIGINT), '[]', CAST($3 AS BIGINT) \
             FROM webhook_events e JOIN webhook_endpoints w ON w.endpoint_id = $1 \
             WHERE e.id IN (SELECT CAST(one AS BIGINT) FROM jsonb_array_elements_text(CAST(CAST($2 AS TEXT) AS JSONB)) AS one) \
             ORDER BY e.id ON CONFLICT (endpoint, event_id) DO UPDATE SET status = 'pending', attempts = 0, \
             next_attempt_at = excluded.next_attempt_at, updated_at = excluded.updated_at WHERE webhook_deliveries.status = 'failed'"
        }
    };
    let values =
        vec![endpoint_id.into(), Some(serde_json::json!(events).to_string()).into(), now.micros().into()];
    Edit::new(NOBODY, vec![turn_enabled(endpoint_id), Statement::any(sql, values)])
}
