//! The changes of endpoints, each with its statements.
//!
//! Whoever sends follows the column `revision`: every change that it must hear of turns it.

use super::model::{ENDPOINTS_MAX, EndpointStatus, SECRETS_MAX};
use super::request::{Change, NewEndpoint};
use super::secret::SigningKey;
use super::{EventType, wanted};
use crate::db::{Db, Value};
use crate::writer::{Edit, Statement};
use kernel::{Timestamp, UserRowId};

/// Endpoints are nobody's rows; all their changes take one lane.
pub(super) const NOBODY: UserRowId = UserRowId(0);
/// How many deliveries of an endpoint are removed with it; retention removes the others by and by.
const REMOVED_AT_ONCE: i64 = 1_000;

/// How many events from before it was disabled wait for an endpoint that is enabled again; the others are fetched by *recover*.
const BACKLOG_MAX: i64 = 10_000;
/// Among how many they are looked for.
const BACKLOG_AMONG: i64 = 100_000;

/// Takes the text of an engine, in which one expression differs: how far events are numbered. It is read by the statement
/// that makes or enables an endpoint, so whatever is committed after its answer has a greater number.
/// What was committed shortly before may be numbered after, and is told in vain; nothing is missed.
macro_rules! newest {
    ($db:expr, $before:literal, $after:literal) => {
        match $db {
            Db::Sqlite(_) => {
                concat!($before, "(SELECT COALESCE(MAX(e.id), 0) FROM webhook_events e)", $after)
            }
            Db::Postgres(_) => {
                concat!($before, "(SELECT n.position FROM webhook_numbering n WHERE n.id = 1)", $after)
            }
        }
    };
}

/// Locks the number of endpoints on PostgreSQL, where processes make them at the same time; a statement of its own, so that
/// the next one counts what was committed before the lock was had.
const COUNTING: Statement = Statement::any("SELECT pg_advisory_xact_lock(7310014)", Vec::new());

/// Makes an endpoint; a statement is refused only where there are as many as there may be.
#[must_use]
pub fn create(db: &Db, endpoint_id: &str, asked: &NewEndpoint, by: &str, now: Timestamp) -> Edit {
    let sql = newest!(
        db,
        "INSERT INTO webhook_endpoints (endpoint_id, url, description, event_types, user_ids, headers, status, disabled_reason, \
         disabled_at, created_at, created_by, updated_at, revision, leased_until, position) \
         SELECT $1, $2, NULLIF(CAST($3 AS TEXT), ''), $4, $5, $6, CAST($7 AS TEXT), \
         CASE WHEN CAST($7 AS TEXT) = 'disabled' THEN 'by_request' END, \
         CASE WHEN CAST($7 AS TEXT) = 'disabled' THEN CAST($8 AS BIGINT) END, \
         CAST($8 AS BIGINT), $9, CAST($8 AS BIGINT), 1, 0, ",
        " WHERE (SELECT COUNT(*) FROM webhook_endpoints) < CAST($10 AS BIGINT)"
    );
    let Change { url, event_types, user_ids, headers, description, enabled } = &asked.settings;
    let names = event_types.clone().unwrap_or_default();
    let status = if enabled.unwrap_or(true) { EndpointStatus::Enabled } else { EndpointStatus::Disabled };
    let values = vec![
        endpoint_id.into(),
        url.as_ref().map(|url| url.as_str().to_owned()).into(),
        description.clone().into(),
        list(&names).into(),
        list(&user_ids.clone().unwrap_or_default()).into(),
        headers.as_deref().unwrap_or("{}").into(),
        status.as_str().into(),
        now.micros().into(),
        by.into(),
        ENDPOINTS_MAX.into(),
    ];
    let counting = matches!(db, Db::Postgres(_)).then_some(COUNTING);
    let mut statements: Vec<Statement> = counting.into_iter().collect();
    statements.extend([Statement::one(sql, values), secret(endpoint_id, &asked.signing, now)]);
    statements.extend(subscriptions(endpoint_id, &names));
    Edit::new(NOBODY, statements)
}

fn list(texts: &[String]) -> Option<String> {
    Some(serde_json::json!(texts).to_string())
}

/// Gives an endpoint a secret, unless as many sign as may; there is always one without an end.
fn secret(endpoint_id: &str, key: &SigningKey, now: Timestamp) -> Statement {
    let sql = "INSERT INTO webhook_secrets (endpoint, kind, secret, created_at) \
        SELECT w.id, CAST($2 AS TEXT), $3, CAST($4 AS BIGINT) FROM webhook_endpoints w WHERE w.endpoint_id = $1 \
        AND (SELECT COUNT(*) FROM webhook_secrets s WHERE s.endpoint = w.id) < CAST($5 AS BIGINT)";
    let (kind, bytes) = (key.kind().as_str(), Value::Bytes(key.bytes().to_vec()));
    Statement::one(sql, vec![endpoint_id.into(), kind.into(), bytes, now.micros().into(), SECRETS_MAX.into()])
}

/// What the names stand for today; [`spell_out`] adds what a later release makes of them.
fn subscriptions(endpoint_id: &str, names: &[String]) -> impl Iterator<Item = Statement> {
    wanted::spelled_out(names).into_iter().map(move |kind| subscription(endpoint_id, kind))
}

fn subscription(endpoint_id: &str, kind: EventType) -> Statement {
    let sql = "INSERT INTO webhook_subscriptions (event_type, endpoint) \
        SELECT CAST($1 AS TEXT), id FROM webhook_endpoints WHERE endpoint_id = $2 ON CONFLICT DO NOTHING";
    Statement::any(sql, vec![kind.as_str().into(), endpoint_id.into()])
}

/// Adds kinds that endpoints ask for by a name which did not stand for them before: endpoint, its list as it was read, kind.
#[must_use]
pub fn spell_out(missing: &[(String, String, EventType)]) -> Edit {
    let sql = "INSERT INTO webhook_subscriptions (event_type, endpoint) SELECT CAST($1 AS TEXT), id FROM webhook_endpoints \
        WHERE endpoint_id = $2 AND event_types = $3 ON CONFLICT DO NOTHING";
    let statements = missing.iter().map(|(endpoint_id, names, kind)| {
        Statement::any(sql, vec![kind.as_str().into(), endpoint_id.as_str().into(), names.as_str().into()])
    });
    Edit::new(NOBODY, statements.collect())
}

/// Turns the revision, and with it locks the endpoint; refused where it is not there.
fn turn(endpoint_id: &str, now: Timestamp) -> Statement {
    let sql = "UPDATE webhook_endpoints SET revision = revision + 1, updated_at = $2 WHERE endpoint_id = $1";
    Statement::one(sql, vec![endpoint_id.into(), now.micros().into()])
}

/// The same for what is about deliveries, which changes nothing of the endpoint; refused where it is disabled.
pub(super) fn turn_enabled(endpoint_id: &str) -> Statement {
    let sql =
        "UPDATE webhook_endpoints SET revision = revision + 1 WHERE endpoint_id = $1 AND status = 'enabled'";
    Statement::one(sql, vec![endpoint_id.into()])
}

/// Writes what may be changed of an endpoint, as far as the change names it; statement 0 finds none.
#[must_use]
pub fn update(db: &Db, endpoint_id: &str, change: &Change, now: Timestamp) -> Edit {
    let sql = "UPDATE webhook_endpoints SET url = COALESCE(CAST($2 AS TEXT), url), \
        description = NULLIF(COALESCE(CAST($3 AS TEXT), description), ''), event_types = COALESCE(CAST($4 AS TEXT), event_types), \
        user_ids = COALESCE(CAST($5 AS TEXT), user_ids), headers = COALESCE(CAST($6 AS TEXT), headers) WHERE endpoint_id = $1";
    let values = vec![
        endpoint_id.into(),
        change.url.as_ref().map(|url| url.as_str().to_owned()).into(),
        change.description.clone().into(),
        change.event_types.as_deref().and_then(list).into(),
        change.user_ids.as_deref().and_then(list).into(),
        change.headers.clone().into(),
    ];
    let mut statements = vec![turn(endpoint_id, now), Statement::any(sql, values)];
    if let Some(names) = &change.event_types {
        let forget = "DELETE FROM webhook_subscriptions WHERE endpoint = (SELECT id FROM webhook_endpoints WHERE endpoint_id = $1)";
        statements.push(Statement::any(forget, vec![endpoint_id.into()]));
        statements.extend(subscriptions(endpoint_id, names));
    }
    statements.extend(change.enabled.into_iter().flat_map(|enabled| switch(db, endpoint_id, enabled, now)));
    Edit::new(NOBODY, statements)
}

/// Has an endpoint told, or not; statement 0 finds none. One that is as it is to be stays as it is.
#[must_use]
pub fn set_enabled(db: &Db, endpoint_id: &str, enabled: bool, now: Timestamp) -> Edit {
    let mut statements = vec![turn(endpoint_id, now)];
    statements.extend(switch(db, endpoint_id, enabled, now));
    Edit::new(NOBODY, statements)
}

/// What happened before an endpoint was disabled, and was not told until then, waits for it: at most `$4` events, found among `$3`.
macro_rules! backlog {
    ($position:literal) => {
        concat!(
            "INSERT INTO webhook_deliveries (endpoint, event_id, user_id, status, attempts, next_attempt_at, log, updated_at) \
             SELECT w.id, e.id, e.user_id, 'pending', CAST(0 AS BIGINT), CAST($2 AS BIGINT), '[]', CAST($2 AS BIGINT) \
             FROM webhook_endpoints w JOIN webhook_events e ON ", $position, " > w.position AND ",
            $position, " <= w.position + CAST($3 AS BIGINT) WHERE w.endpoint_id = $1 AND w.status = 'disabled' \
             AND e.created_at < w.disabled_at AND e.endpoint IS NULL \
             AND (w.user_ids = '[]' OR REPLACE(w.user_ids, '\"' || e.auth0_id || '\"', '') <> w.user_ids) \
             AND EXISTS (SELECT 1 FROM webhook_subscriptions s WHERE s.event_type = e.event_type AND s.endpoint = w.id) \
             ORDER BY ", $position, " LIMIT CAST($4 AS BIGINT) ON CONFLICT (endpoint, event_id) DO NOTHING"
        )
    };
}

/// One that is enabled again goes on with what happens from now on, and with what had happened before it was disabled: only what
/// happened in between is passed over. Whoever sent to it before has no hold on it any more.
fn switch(db: &Db, endpoint_id: &str, enabled: bool, now: Timestamp) -> Vec<Statement> {
    if enabled {
        let sql = newest!(
            db,
            "UPDATE webhook_endpoints SET status = 'enabled', disabled_reason = NULL, disabled_at = NULL, failing_since = NULL, \
             leased_by = NULL, leased_until = 0, position = ",
            " WHERE endpoint_id = $1 AND status = 'disabled'"
        );
        let backlog = match db {
            Db::Sqlite(_) => backlog!("e.id"),
            Db::Postgres(_) => backlog!("e.position"),
        };
        let waits = vec![endpoint_id.into(), now.micros().into(), BACKLOG_AMONG.into(), BACKLOG_MAX.into()];
        return vec![Statement::any(backlog, waits), Statement::any(sql, vec![endpoint_id.into()])];
    }
    let sql = "UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = 'by_request', disabled_at = $2 \
        WHERE endpoint_id = $1 AND status = 'enabled'";
    vec![Statement::any(sql, vec![endpoint_id.into(), now.micros().into()])]
}

/// Gives an endpoint its next secret; those before it end when the overlap does, or earlier where they would have.
///
/// Statement 0 finds no endpoint, statement 3 as many secrets as may be.
#[must_use]
pub fn rotate(endpoint_id: &str, next: &SigningKey, overlap_ends_at: Timestamp, now: Timestamp) -> Edit {
    let forget = "DELETE FROM webhook_secrets WHERE endpoint = (SELECT id FROM webhook_endpoints WHERE endpoint_id = $1) \
        AND expires_at <= $2";
    let end = "UPDATE webhook_secrets SET expires_at = $2 WHERE endpoint = (SELECT id FROM webhook_endpoints WHERE endpoint_id = $1) \
        AND (expires_at IS NULL OR expires_at > $2)";
    let at = |instant: Timestamp| vec![endpoint_id.into(), instant.micros().into()];
    let statements = vec![
        turn(endpoint_id, now),
        Statement::any(end, at(overlap_ends_at)),
        // After those that end now: without an overlap there is room for the next one, however many signed.
        Statement::any(forget, at(now)),
        secret(endpoint_id, next, now),
    ];
    Edit::new(NOBODY, statements)
}

/// Removes an endpoint with what hangs on it; statement 0 finds none.
#[must_use]
pub fn delete(endpoint_id: &str, now: Timestamp) -> Edit {
    let deliveries = "DELETE FROM webhook_deliveries WHERE endpoint = (SELECT id FROM webhook_endpoints WHERE endpoint_id = $1) \
        AND event_id IN (SELECT d.event_id FROM webhook_deliveries d JOIN webhook_endpoints w ON w.id = d.endpoint \
        WHERE w.endpoint_id = $1 ORDER BY d.event_id DESC LIMIT $2)";
    let secrets = "DELETE FROM webhook_secrets WHERE endpoint = (SELECT id FROM webhook_endpoints WHERE endpoint_id = $1)";
    let subscriptions = "DELETE FROM webhook_subscriptions WHERE endpoint = (SELECT id FROM webhook_endpoints WHERE endpoint_id = $1)";
    let endpoint = "DELETE FROM webhook_endpoints WHERE endpoint_id = $1";
    let it = || vec![endpoint_id.into()];
    let statements = vec![
        turn(endpoint_id, now),
        Statement::any(deliveries, vec![endpoint_id.into(), REMOVED_AT_ONCE.into()]),
        Statement::any(secrets, it()),
        Statement::any(subscriptions, it()),
        Statement::one(endpoint, it()),
    ];
    Edit::new(NOBODY, statements)
}
