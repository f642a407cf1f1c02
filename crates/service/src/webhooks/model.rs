//! Endpoints and what became of telling them, as they are kept.

use super::secret::SigningKey;
use crate::credits::model::words;
use crate::db::{DbError, FromRow, Row, Weigh};
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// How many endpoints there may be.
pub const ENDPOINTS_MAX: i64 = 100;
/// How many secrets an endpoint may have at once: one, and those before it whose time is not over.
pub const SECRETS_MAX: i64 = 5;
/// How many names an endpoint may ask for.
pub const EVENT_TYPES_MAX: usize = 100;
/// How many users an endpoint may be narrowed to.
pub const USERS_MAX: usize = 1_000;

words! {
    /// How deliveries are signed, in the words of Standard Webhooks.
    SignatureKind {
        /// HMAC-SHA256, by a secret that both sides have.
        V1 = "v1",
        /// Ed25519, by a key that only this side has.
        V1a = "v1a",
    }
}

words! {
    /// Whether an endpoint is told.
    EndpointStatus {
        /// It is.
        Enabled = "enabled",
        /// It is not.
        Disabled = "disabled",
    }
}

words! {
    /// Why an endpoint is not told.
    DisabledReason {
        /// Somebody asked for it.
        ByRequest = "by_request",
        /// It answered 410.
        Gone = "gone",
        /// It failed for days.
        Failing = "failing",
    }
}

words! {
    /// Where a delivery stands.
    DeliveryStatus {
        /// It is to be tried, for the first time or again.
        Pending = "pending",
        /// The endpoint took it.
        Delivered = "delivered",
        /// It was tried as often as it may be.
        Failed = "failed",
    }
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its row.
    pub id: i64,
    /// Its public id.
    pub endpoint_id: String,
    /// Where deliveries go.
    pub url: String,
    /// What people say of it.
    pub description: Option<String>,
    /// What it asks for: names, families such as `credit.*`, or `*`.
    pub event_types: Vec<String>,
    /// The users that it asks about; all of them when empty.
    pub user_ids: Vec<String>,
    /// The names of the headers that are sent along; their values may be secrets, and are read by the sender alone.
    pub header_names: Vec<String>,
    /// Whether it is told.
    pub status: EndpointStatus,
    /// Why not.
    pub disabled_reason: Option<DisabledReason>,
    /// Since when not.
    pub disabled_at: Option<Timestamp>,
    /// When the first delivery failed since the last success.
    pub failing_since: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it, as the audit log names it.
    pub created_by: String,
    /// When somebody changed it last.
    pub updated_at: Timestamp,
    /// Up to when a secret before the current one signs too, where one does.
    pub overlap_ends_at: Option<Timestamp>,
    /// What signs its deliveries now.
    pub signing: SigningKey,
}

/// Reads a column that holds one of the words of a type.
fn word<T: FromStr<Err = String>>(text: &str) -> Result<T, DbError> {
    text.parse()
        .map_err(|rule| DbError::Internal(format!("a column of webhooks says {text:?}, which {rule}")))
}

/// Reads a column that holds JSON.
fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, DbError> {
    serde_json::from_str(text).map_err(|error| DbError::Internal(format!("a column of webhooks: {error}")))
}

/// What is read of the headers: names alone.
type HeaderNames = std::collections::BTreeMap<String, serde::de::IgnoredAny>;

impl FromRow for Endpoint {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let instant = |column| Ok::<_, DbError>(row.optional_int(column)?.map(Timestamp::from_micros));
        let headers = row.text(6)?;
        Ok(Self {
            id: row.int(0)?,
            endpoint_id: row.text(1)?,
            url: row.text(2)?,
            description: row.optional_text(3)?,
            event_types: json(&row.text(4)?)?,
            user_ids: json(&row.text(5)?)?,
            header_names: json::<HeaderNames>(&headers)?.into_keys().collect(),
            status: word(&row.text(7)?)?,
            disabled_reason: row.optional_text(8)?.map(|text| word(&text)).transpose()?,
            disabled_at: instant(9)?,
            failing_since: instant(10)?,
            created_at: Timestamp::from_micros(row.int(11)?),
            created_by: row.text(12)?,
            updated_at: Timestamp::from_micros(row.int(13)?),
            overlap_ends_at: instant(14)?,
            signing: SigningKey::stored(word(&row.text(15)?)?, row.bytes(16)?),
        })
    }
}

impl Weigh for Endpoint {
    fn weight(&self) -> usize {
        let users: usize = self.user_ids.iter().map(String::len).sum();
        self.url.len() + self.description.as_ref().map_or(0, String::len) + users
    }
}

/// One attempt to deliver, as the column `log` of `webhook_deliveries` lists them, the first one first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// What the endpoint answered, where it did.
    #[schema(minimum = 100, maximum = 599)]
    pub status_code: Option<u16>,
    /// How long it took, in milliseconds.
    #[schema(minimum = 0, maximum = 3_600_000)]
    pub duration_ms: u64,
    /// Why it failed, in a few words; absent where it did not.
    #[schema(max_length = 500)]
    pub error: Option<String>,
    /// How the answer's body began.
    #[schema(max_length = 1024)]
    pub excerpt: Option<String>,
}

/// An attempt to tell an endpoint of an event, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The event.
    pub event: StoredEvent,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// The attempts, the first one first.
    pub attempts: Vec<Attempt>,
    /// When the row changed last.
    pub updated_at: Timestamp,
}

impl FromRow for Delivery {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            event: StoredEvent::from_row(row)?,
            status: word(&row.text(6)?)?,
            next_attempt_at: row.optional_int(7)?.map(Timestamp::from_micros),
            attempts: json(&row.text(8)?)?,
            updated_at: Timestamp::from_micros(row.int(9)?),
        })
    }
}

impl Weigh for Delivery {
    fn weight(&self) -> usize {
        let excerpts = self.attempts.iter().filter_map(|attempt| attempt.excerpt.as_ref().map(String::len));
        self.event.body.len() + excerpts.sum::<usize>()
    }
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its row.
    pub id: i64,
    /// Its place among all events; absent until it has one.
    pub position: Option<i64>,
    /// The external id of the user that it is about, as it was then.
    pub auth0_id: Option<String>,
    /// What happened.
    pub event_type: String,
    /// The text of a JSON object: the flat keys, and `data`.
    pub body: String,
    /// When.
    pub at: Timestamp,
}

impl FromRow for StoredEvent {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: row.int(0)?,
            position: row.optional_int(1)?,
            auth0_id: row.optional_text(2)?,
            event_type: row.text(3)?,
            body: row.text(4)?,
            at: Timestamp::from_micros(row.int(5)?),
        })
    }
}

impl Weigh for StoredEvent {
    fn weight(&self) -> usize {
        self.body.len()
    }
}
