//! `GET /api/v1/webhooks/event-types`: what can be told, with the schema of each event and an example.
//!
//! Schemas are made of the very types that events are written with, so they say the same.

use super::bodies;
use super::{EventType, examples};
use crate::app::App;
use crate::auth::grants::WebhookReader;
use crate::http::{ApiError, Envelope, json};
use axum::extract::State;
use axum::response::Response;
use kernel::{ExternalId, JsonObject, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Every kind, described once.
static DESCRIBED: LazyLock<Vec<EventTypeView>> =
    LazyLock::new(|| EventType::ALL.iter().map(|kind| EventTypeView::new(*kind)).collect());

/// A kind of event.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EventTypeView {
    /// Its name, which endpoints ask for.
    #[serde(rename = "type")]
    #[schema(max_length = 100)]
    kind: &'static str,
    /// The same with an underscore, as it also stands in each event.
    #[schema(max_length = 100)]
    event_type: String,
    /// When it happens, in a sentence.
    #[schema(max_length = 300)]
    description: &'static str,
    /// The JSON Schema (2020-12) of its deliveries' bodies.
    schema: JsonObject,
    /// A body.
    example: JsonObject,
}

impl EventTypeView {
    /// Describes a kind.
    #[must_use]
    pub fn new(kind: EventType) -> Self {
        let (event_type, description) = (kind.as_str().replace('.', "_"), kind.meaning());
        let object = |value: Value| JsonObject::from_stored(value.to_string());
        let (schema, example) = (object(schema(kind)), object(example(kind)));
        Self { kind: kind.as_str(), event_type, description, schema, example }
    }
}

/// The body of a delivery: what all events have, then what this one has of its own.
#[must_use]
pub fn example(kind: EventType) -> Value {
    let mut all = json!({
        "id": "evt_1001", "type": kind.as_str(), "event_type": kind.as_str().replace('.', "_"),
        "user_id": if kind.is_of_user() { json!("auth0|test123") } else { Value::Null },
        "timestamp": examples::NOW, "sequence": 1001,
    });
    if let Value::Object(all) = &mut all {
        all.extend(examples::body(kind));
    }
    all
}

/// The JSON Schema of a delivery's body.
#[must_use]
pub fn schema(kind: EventType) -> Value {
    let (own, parts) = own_schema(kind);
    let as_json = |schema: &RefOr<Schema>| serde_json::to_value(schema).unwrap_or_default();
    let mut schema = as_json(&own);
    let user = match kind.is_of_user() {
        true => as_json(&ExternalId::schema()),
        false => json!({"type": "null"}),
    };
    let of_all = [
        (
            "id",
            json!({"type": "string", "pattern": "^evt_[0-9]{1,18}$", "description": "The event's id: the same at every attempt."}),
        ),
        ("type", json!({"const": kind.as_str()})),
        ("event_type", json!({"const": kind.as_str().replace('.', "_")})),
        ("user_id", user),
        ("timestamp", as_json(&Timestamp::schema())),
        (
            "sequence",
            json!({"type": ["integer", "null"], "minimum": 1, "description": "Its place among all events."}),
        ),
    ];
    for (name, part) in of_all {
        schema["properties"][name] = part;
        if let Some(required) = schema["required"].as_array_mut() {
            required.push(name.into());
        }
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = kind.as_str().into();
    schema["description"] = kind.meaning().into();
    let parts = parts.iter().map(|(name, part)| (name.clone(), as_json(part)));
    schema["$defs"] = Value::Object(parts.collect());
    point_within(&mut schema);
    schema
}

/// Lets references point into the schema itself.
fn point_within(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(target) if name == "$ref" => {
                        *target = target.replace("#/components/schemas/", "#/$defs/");
                    }
                    member => point_within(member),
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(point_within),
        _ => {}
    }
}

/// A schema, and those that it refers to.
type Described = (RefOr<Schema>, Vec<(String, RefOr<Schema>)>);

fn described<T: ToSchema>() -> Described {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    (T::schema(), parts)
}

/// The schema of what an event has of its own.
fn own_schema(kind: EventType) -> Described {
    use EventType as E;
    match kind {
        E::CreditConsumed
        | E::CreditRecharged
        | E::CreditGranted
        | E::CreditRefunded
        | E::CreditReversed
        | E::CreditExpired
        | E::CreditAdjusted => described::<bodies::CreditEvent>(),
        E::CreditLowBalance => described::<bodies::LowBalanceEvent>(),
        E::CreditLimitChanged => described::<bodies::CreditLimitEvent>(),
        E::HoldCreated
        | E::HoldExtended
        | E::HoldTicked
        | E::HoldCaptured
        | E::HoldReleased
        | E::HoldExpired => described::<bodies::HoldEvent>(),
        E::UserCreated
        | E::UserUpdated
        | E::UserDeleted
        | E::UserRestored
        | E::UserSuspended
        | E::UserReactivated => described::<bodies::UserEvent>(),
        E::UserMerged => described::<bodies::UserMergedEvent>(),
        E::UsageRecorded | E::UsageRated => described::<bodies::UsageEvent>(),
        E::SessionMessageAdded => described::<bodies::MessageEvent>(),
        E::SessionCreated
        | E::SessionUpdated
        | E::SessionActivated
        | E::SessionPaused
        | E::SessionCompleted
        | E::SessionArchived
        | E::SessionExpired
        | E::SessionDeleted => described::<bodies::SessionEvent>(),
        E::SubscriptionCreated
        | E::SubscriptionUpdated
        | E::SubscriptionRenewed
        | E::SubscriptionPastDue
        | E::SubscriptionCanceled
        | E::SubscriptionResumed
        | E::SubscriptionEnded => described::<bodies::SubscriptionEvent>(),
        E::PaymentSucceeded
        | E::PaymentFailed
        | E::PaymentCanceled
        | E::PaymentRefunded
        | E::PaymentDisputed => described::<bodies::PaymentEvent>(),
        E::AlertLimitThreshold | E::AlertLimitReached => described::<bodies::LimitEvent>(),
        E::AlertTopUpDisabled => described::<bodies::TopUpDisabledEvent>(),
        E::AlertWebhookDisabled => described::<bodies::WebhookDisabledEvent>(),
        E::AlertLedgerMismatch => described::<bodies::LedgerMismatchEvent>(),
    }
}

/// List event types
///
/// What endpoints can ask for: each with when it happens, the JSON Schema of its deliveries' bodies, and an example.
#[utoipa::path(
    get, path = "/api/v1/webhooks/event-types", tag = "Webhooks", operation_id = "list_event_types",
    security(("bearer" = []), ("service_key" = ["webhooks:read"])),
    responses((status = 200, body = Envelope<Vec<EventTypeView>>, description = "The event types")),
)]
pub async fn list_event_types(
    State(app): State<Arc<App>>,
    _reader: WebhookReader,
) -> Result<Response, ApiError> {
    let message = format!("Retrieved {} event types", DESCRIBED.len());
    Ok(json(&Envelope::new(message, app.clock.now(), &*DESCRIBED)))
}
