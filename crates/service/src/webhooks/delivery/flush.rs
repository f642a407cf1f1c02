//! Writing down what came of deliveries, in bulk, together with the cursor.
//!
//! The first statement holds only while this process sends to the endpoint: where it does not any more, nothing is written and the
//! sender ends. What is written of an event that was erased meanwhile is nothing.

use super::log::LOG_MAX_CHARS;
use super::window::{Row, Status};
use crate::db::Db;
use crate::webhooks::bodies::{self, DisabledEndpoint, WebhookDisabledEvent};
use crate::webhooks::outbox::keep_one;
use crate::webhooks::{Event, EventType};
use crate::writer::Statement;
use kernel::Timestamp;
use serde_json::{Value, json};

/// Why an endpoint is told nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It answered 410.
    Gone,
    /// It failed for days.
    Failing,
}

impl Ending {
    /// The reason's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

/// What is to be written of an endpoint.
#[derive(Debug, Clone)]
pub struct Flush {
    /// Its row.
    pub endpoint: i64,
    /// Its public id.
    pub endpoint_id: String,
    /// Where it is.
    pub url: String,
    /// The process that sends.
    pub me: String,
    /// What became of deliveries.
    pub rows: Vec<Row>,
    /// The cursor.
    pub cursor: i64,
    /// Since when it fails.
    pub failing_since: Option<Timestamp>,
    /// Whether what is pending is due now, because the endpoint works again.
    pub wakes: bool,
    /// Why it is told nothing any more.
    pub ends: Option<Ending>,
    /// When that was.
    pub now: Timestamp,
}

/// The place of the statement that holds only while this process sends.
pub const GUARD: usize = 0;

/// Adds attempts to a log: two lists become one; one that is too long begins anew.
macro_rules! upsert {
    ($rows:literal) => {
        concat!(
            "INSERT INTO webhook_deliveries (endpoint, event_id, user_id, status, attempts, next_attempt_at, log, updated_at) \
             SELECT CAST($1 AS BIGINT), j.e, j.u, j.s, j.n, j.t, j.l, CAST($2 AS BIGINT) FROM ", $rows, " JOIN webhook_events w ON w.id = j.e WHERE true \
             ON CONFLICT (endpoint, event_id) DO UPDATE SET status = excluded.status, attempts = excluded.attempts, \
             next_attempt_at = excluded.next_attempt_at, updated_at = excluded.updated_at, log = CASE \
             WHEN webhook_deliveries.log = '[]' OR length(webhook_deliveries.log) > CAST($4 AS BIGINT) THEN excluded.log \
             WHEN excluded.log = '[]' THEN webhook_deliveries.log \
             ELSE substr(webhook_deliveries.log, 1, length(webhook_deliveries.log) - 1) || ',' || substr(excluded.log, 2) END"
        )
    };
}

impl Flush {
    /// The statements of an edit.
    #[must_use]
    pub fn statements(&self, db: &Db) -> Vec<Statement> {
        let of_endpoint = || vec![self.endpoint.into(), self.me.as_str().into()];
        let failing_since = self.failing_since.map(Timestamp::micros).into();
        let mut statements = vec![Statement::one(
            "UPDATE webhook_endpoints SET position = CASE WHEN position > $3 THEN position ELSE $3 END, failing_since = $4 \
             WHERE id = $1 AND leased_by = $2",
            [of_endpoint(), vec![self.cursor.into(), failing_since]].concat(),
        )];
        statements.extend(self.upsert(db));
        statements.extend(self.removal(db));
        if self.wakes {
            statements.push(Statement::any(
                "UPDATE webhook_deliveries SET next_attempt_at = $2 \
                 WHERE endpoint = $1 AND status = 'pending' AND next_attempt_at > $2",
                vec![self.endpoint.into(), self.now.micros().into()],
            ));
        }
        if let Some(ending) = self.ends {
            statements.push(self.telling(ending));
            statements.push(Statement::any(
                "UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = $3, disabled_at = $4, updated_at = $4, \
                 revision = revision + 1, leased_by = NULL, leased_until = 0 \
                 WHERE id = $1 AND leased_by = $2 AND status = 'enabled'",
                [of_endpoint(), vec![ending.as_str().into(), self.now.micros().into()]].concat(),
            ));
        }
        statements
    }

    fn upsert(&self, db: &Db) -> Option<Statement> {
        let rows: Vec<Value> = self.rows.iter().filter_map(written).collect();
        let sql = match db {
            Db::Sqlite(_) => upsert!(
                "(SELECT value ->> 'e' AS e, value ->> 'u' AS u, value ->> 's' AS s, value ->> 'n' AS n, \
                 value ->> 't' AS t, value ->> 'l' AS l FROM json_each($3)) AS j"
            ),
            Db::Postgres(_) => upsert!(
                "jsonb_to_recordset(CAST(CAST($3 AS TEXT) AS jsonb)) \
                 AS j(e BIGINT, u BIGINT, s TEXT, n BIGINT, t BIGINT, l TEXT)"
            ),
        };
        let values = || {
            let rows = Value::Array(rows.clone()).to_string();
            vec![self.endpoint.into(), self.now.micros().into(), rows.as_str().into(), LOG_MAX_CHARS.into()]
        };
        // As many rows are written as events are still kept, which is not known here.
        (!rows.is_empty()).then(|| Statement::any(sql, values()))
    }

    /// Removes the rows of events that are not kept any more.
    fn removal(&self, db: &Db) -> Option<Statement> {
        let gone: Vec<i64> =
            self.rows.iter().filter(|row| row.status == Status::Missing).map(|row| row.event).collect();
        let sql = match db {
            Db::Sqlite(_) => {
                "DELETE FROM webhook_deliveries WHERE endpoint = $1 AND event_id IN (SELECT value FROM json_each($2)) \
                 AND NOT EXISTS (SELECT 1 FROM webhook_events e WHERE e.id = event_id)"
            }
            Db::Postgres(_) => {
                "DELETE FROM webhook_deliveries WHERE endpoint = $1 AND event_id IN (SELECT CAST(value AS BIGINT) \
                 FROM jsonb_array_elements_text(CAST(CAST($2 AS TEXT) AS jsonb)) AS gone(value)) \
                 AND NOT EXISTS (SELECT 1 FROM webhook_events e WHERE e.id = event_id)"
            }
        };
        let values = || vec![self.endpoint.into(), json!(gone).to_string().as_str().into()];
        (!gone.is_empty()).then(|| Statement::any(sql, values()))
    }

    /// Tells the other endpoints, unless somebody else disabled it before.
    fn telling(&self, ending: Ending) -> Statement {
        let (endpoint_id, reason) = (self.endpoint_id.clone(), ending.as_str().to_owned());
        let data = DisabledEndpoint {
            endpoint_id: endpoint_id.clone(),
            url: self.url.clone(),
            failing_since: self.failing_since,
            disabled_at: self.now,
        };
        let event = Event {
            kind: EventType::AlertWebhookDisabled,
            user: None,
            body: bodies::text(&WebhookDisabledEvent { endpoint_id, reason, data }),
            at: self.now,
        };
        let mut values = event.values();
        values.push(self.endpoint.into());
        Statement::any(
            keep_one!(
                " AND EXISTS (SELECT 1 FROM webhook_endpoints w WHERE w.id = $5 AND w.status = 'enabled')"
            ),
            values,
        )
    }
}

/// A row as the statement reads it.
fn written(row: &Row) -> Option<Value> {
    let status = match row.status {
        Status::Pending => "pending",
        Status::Delivered => "delivered",
        Status::Failed => "failed",
        Status::Missing => return None,
    };
    let next = row.next.map(Timestamp::micros);
    let log = serde_json::to_string(&row.log).unwrap_or_else(|_| "[]".to_owned());
    Some(json!({"e": row.event, "u": row.user, "s": status, "n": row.attempts, "t": next, "l": log}))
}
