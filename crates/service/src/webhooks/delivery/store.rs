//! What senders read.

use super::client::Target;
use super::numbered::{Numbered, event_columns};
use super::sign::{Prepared, Signer};
use super::window::{KEPT, Key, Pending};
use crate::db::{Db, DbError, FromRow, Row, Rows, Weigh};
use crate::webhooks::model::SignatureKind;
use crate::webhooks::secret::SigningKey;
use kernel::Timestamp;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::collections::{BTreeMap, HashMap, HashSet};

/// How many pending deliveries are read at once.
const PENDING_AT_ONCE: i64 = 1_000;
/// How many secrets sign at most.
const SIGNERS_MAX: i64 = 5;

/// The time of the database, in microseconds: leases of several processes end by one clock.
macro_rules! database_now {
    () => {
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
    };
}
pub(crate) use database_now;

/// How an endpoint stands, for whoever decides which process sends to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its row.
    pub id: i64,
    /// Turned by every change that a sender must hear of.
    pub revision: i64,
    /// Whether it is told.
    pub enabled: bool,
    /// The process that sends to it.
    pub owner: Option<String>,
    /// Whether another process may send to it now.
    pub free: bool,
    /// Since when it fails.
    pub failing: bool,
}

impl FromRow for Standing {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: row.int(0)?,
            revision: row.int(1)?,
            enabled: row.text(2)? == "enabled",
            owner: row.optional_text(3)?,
            free: row.int(4)? == 1,
            failing: row.optional_int(5)?.is_some(),
        })
    }
}

/// How the endpoints stand.
///
/// # Errors
/// [`DbError`].
pub async fn standings(db: &Db) -> Result<Vec<Standing>, DbError> {
    let sql = match db {
        // One process has the file to itself, and no lease ends.
        Db::Sqlite(_) => {
            "SELECT id, revision, status, leased_by, leased_by IS NULL, failing_since FROM webhook_endpoints ORDER BY id"
        }
        Db::Postgres(_) => concat!(
            "SELECT id, revision, status, leased_by, CAST(CASE WHEN leased_by IS NULL OR leased_until < ",
            database_now!(),
            " THEN 1 ELSE 0 END AS BIGINT), failing_since FROM webhook_endpoints ORDER BY id"
        ),
    };
    db.query(sql, vec![]).await
}

/// An endpoint as its sender needs it.
pub struct Loaded {
    /// Its public id.
    pub endpoint_id: String,
    /// Where deliveries go.
    pub target: Target,
    /// The users it is told of; all of them when empty.
    pub users: HashSet<String>,
    /// Its cursor.
    pub position: i64,
    /// Since when it fails.
    pub failing_since: Option<Timestamp>,
    /// Its revision.
    pub revision: i64,
}

struct EndpointRow {
    endpoint_id: String,
    url: String,
    headers: String,
    user_ids: String,
    position: i64,
    failing_since: Option<i64>,
    revision: i64,
}

impl FromRow for EndpointRow {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            endpoint_id: row.text(0)?,
            url: row.text(1)?,
            headers: row.text(2)?,
            user_ids: row.text(3)?,
            position: row.int(4)?,
            failing_since: row.optional_int(5)?,
            revision: row.int(6)?,
        })
    }
}

struct SecretRow {
    kind: String,
    secret: Vec<u8>,
    expires_at: Option<i64>,
}

impl FromRow for SecretRow {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { kind: row.text(0)?, secret: row.bytes(1)?, expires_at: row.optional_int(2)? })
    }
}

/// Reads an endpoint that this process sends to; nothing where it sends no longer.
///
/// # Errors
/// [`DbError`]; nothing of a secret is in it.
pub async fn endpoint(db: &Db, id: i64, me: &str) -> Result<Option<Loaded>, DbError> {
    let sql = "SELECT endpoint_id, url, headers, user_ids, position, failing_since, revision FROM webhook_endpoints \
        WHERE id = $1 AND leased_by = $2 AND status = 'enabled'";
    let Some(row) = db.find::<EndpointRow>(sql, &[id.into(), me.into()]).await? else { return Ok(None) };
    let sql = "SELECT kind, secret, expires_at FROM webhook_secrets WHERE endpoint = $1 \
        ORDER BY CASE WHEN expires_at IS NULL THEN 0 ELSE 1 END, created_at DESC, id DESC LIMIT $2";
    let secrets: Vec<SecretRow> = db.query(sql, vec![id.into(), SIGNERS_MAX.into()]).await?;
    let mut signers = Vec::with_capacity(secrets.len());
    for secret in secrets {
        let kind: SignatureKind = secret.kind.parse().map_err(DbError::Internal)?;
        let key = Prepared::of(&SigningKey::stored(kind, secret.secret)).map_err(DbError::Internal)?;
        signers.push(Signer { key, until: secret.expires_at.map(Timestamp::from_micros) });
    }
    let broken = |what: &str| DbError::Internal(format!("the {what} of endpoint {id} cannot be read"));
    let url: Url = row.url.parse().map_err(|_| broken("URL"))?;
    let users: Vec<String> = serde_json::from_str(&row.user_ids).map_err(|_| broken("users"))?;
    let headers = headers(&row.headers).ok_or_else(|| broken("headers"))?;
    Ok(Some(Loaded {
        endpoint_id: row.endpoint_id,
        target: Target { url, headers, signers },
        users: users.into_iter().collect(),
        position: row.position,
        failing_since: row.failing_since.map(Timestamp::from_micros),
        revision: row.revision,
    }))
}

fn headers(text: &str) -> Option<HeaderMap> {
    let pairs: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let mut value: HeaderValue = value.try_into().ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name).ok()?, value);
    }
    Some(headers)
}

/// The position of the newest event that has one.
///
/// # Errors
/// [`DbError`].
pub async fn head(db: &Db) -> Result<i64, DbError> {
    let sql = match db {
        Db::Sqlite(_) => "SELECT COALESCE(MAX(id), 0) FROM webhook_events",
        Db::Postgres(_) => "SELECT position FROM webhook_numbering WHERE id = 1",
    };
    Ok(db.find(sql, &[]).await?.unwrap_or(0))
}

/// An event that was read ahead: with its text where the endpoint is to be told of it.
struct Ahead {
    position: i64,
    event: Option<Numbered>,
}

impl FromRow for Ahead {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let event = match row.optional_text(4)? {
            Some(_) => Some(Numbered::from_row(row)?),
            None => None,
        };
        Ok(Self { position: row.int(1)?, event })
    }
}

impl Weigh for Ahead {
    fn weight(&self) -> usize {
        self.event.as_ref().map_or(0, Numbered::bytes)
    }
}

/// Reads ahead.
pub struct ReadAhead {
    /// What the endpoint is to be told.
    pub events: Vec<Numbered>,
    /// Up to which position that is all.
    pub to: i64,
}

/// What an endpoint asks for of an event that has no row for it yet. The row is looked up for each event by its key: a join is planned
/// for a table that was small once, and then goes through all rows of the endpoint for every event.
macro_rules! ahead {
    ($position:literal) => {
        concat!(
            "SELECT ",
            event_columns!(
                $position,
                "CASE WHEN (SELECT d.event_id FROM webhook_deliveries d WHERE d.endpoint = $1 AND d.event_id = e.id) IS NULL \
                 AND (e.endpoint = $1 OR (e.endpoint IS NULL AND EXISTS (SELECT 1 \
                 FROM webhook_subscriptions s WHERE s.event_type = e.event_type AND s.endpoint = $1))) THEN e.body END"
            ),
            " FROM webhook_events e WHERE ", $position, " > $2 ORDER BY ", $position, " LIMIT $3"
        )
    };
}

/// Reads at most `limit` events after a position; `head` is the newest one that was there before.
///
/// # Errors
/// [`DbError`].
pub async fn ahead(
    db: &Db,
    (endpoint, users): (i64, &HashSet<String>),
    (after, head): (i64, i64),
    limit: i64,
) -> Result<ReadAhead, DbError> {
    let sql = match db {
        Db::Sqlite(_) => ahead!("e.id"),
        Db::Postgres(_) => ahead!("e.position"),
    };
    let values = vec![endpoint.into(), after.into(), (limit + 1).into()];
    let Rows { rows, more, .. } = db.page::<Ahead>(sql, values, limit).await?;
    let last = rows.last().map_or(after, |row| row.position);
    let wanted = |event: &Numbered| {
        users.is_empty() || event.event.auth0_id.as_ref().is_some_and(|id| users.contains(id))
    };
    let events = rows.into_iter().filter_map(|row| row.event).filter(wanted).collect();
    Ok(ReadAhead { events, to: if more { last } else { last.max(head) } })
}

/// One event that is to be sent.
#[derive(Debug)]
pub enum Found {
    /// It.
    Event(Box<Numbered>),
    /// It has no place yet.
    NotYet,
    /// It is not kept any more.
    Gone,
}

/// Whether an event has its place.
struct Placed(Option<Numbered>);

impl FromRow for Placed {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        match row.optional_int(1)? {
            Some(_) => Numbered::from_row(row).map(Some).map(Self),
            None => Ok(Self(None)),
        }
    }
}

/// Reads one event.
///
/// # Errors
/// [`DbError`].
pub async fn event(db: &Db, id: i64) -> Result<Found, DbError> {
    let sql = match db {
        Db::Sqlite(_) => {
            concat!("SELECT ", event_columns!("e.id", "e.body"), " FROM webhook_events e WHERE e.id = $1")
        }
        Db::Postgres(_) => {
            concat!(
                "SELECT ",
                event_columns!("e.position", "e.body"),
                " FROM webhook_events e WHERE e.id = $1"
            )
        }
    };
    Ok(match db.find::<Placed>(sql, &[id.into()]).await? {
        Some(Placed(Some(event))) => Found::Event(Box::new(event)),
        Some(Placed(None)) => Found::NotYet,
        None => Found::Gone,
    })
}

impl FromRow for Pending {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            event: row.int(0)?,
            user: row.optional_int(1)?,
            attempts: u32::try_from(row.int(2)?).unwrap_or(u32::MAX),
            next: row.optional_int(3)?.map(Timestamp::from_micros),
        })
    }
}

/// All that is pending for an endpoint: of each key the first ones, and how many more.
///
/// # Errors
/// [`DbError`].
pub async fn pending(db: &Db, endpoint: i64) -> Result<Vec<(Key, Vec<Pending>, usize)>, DbError> {
    let sql = "SELECT event_id, user_id, attempts, next_attempt_at FROM webhook_deliveries \
        WHERE endpoint = $1 AND status = 'pending' AND event_id > $2 ORDER BY event_id LIMIT $3";
    let mut all: HashMap<Key, (Vec<Pending>, usize)> = HashMap::new();
    let mut after = 0;
    loop {
        let values = vec![endpoint.into(), after.into(), PENDING_AT_ONCE.into()];
        let rows: Vec<Pending> = db.query(sql, values).await?;
        let Some(last) = rows.last().map(|row| row.event) else { break };
        for row in rows {
            let (kept, beyond) = all.entry(Key::of(row.user, row.event)).or_default();
            if kept.len() < KEPT { kept.push(row) } else { *beyond += 1 }
        }
        after = last;
    }
    Ok(all.into_iter().map(|(key, (kept, beyond))| (key, kept, beyond)).collect())
}

/// The first deliveries that are pending for an endpoint of one user.
///
/// # Errors
/// [`DbError`].
pub async fn pending_of(db: &Db, endpoint: i64, key: Key) -> Result<Vec<Pending>, DbError> {
    let sql = "SELECT event_id, user_id, attempts, next_attempt_at FROM webhook_deliveries \
        WHERE endpoint = $1 AND status = 'pending' AND user_id = $2 ORDER BY event_id LIMIT $3";
    // What is about nobody stands alone and never waits behind anything.
    let Key::User(user) = key else { return Ok(Vec::new()) };
    let kept = i64::try_from(KEPT).unwrap_or(i64::MAX);
    db.query(sql, vec![endpoint.into(), user.into(), kept.into()]).await
}
