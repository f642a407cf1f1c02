//! Routes of deliveries: what became of telling an endpoint, and telling it again.

use super::api::{EndpointPath, find};
use super::deliveries::{
    self, Filter, LOOKED_AT_MAX, LOOKED_AT_ONCE, Missed, PUT_BACK_AT_ONCE, RECOVERED_MAX,
};
use super::model::{Attempt, Delivery, DeliveryStatus, Endpoint};
use super::payload::{event_id, event_row};
use super::{EventType, examples};
use crate::app::App;
use crate::audit;
use crate::auth::grants::{WebhookReader, WebhookWriter};
use crate::credits::model::words;
use crate::http::envelope::bytes as to_bytes;
use crate::http::input::Once;
use crate::http::kept::{keep, key_is_used, replayed};
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, Query, json};
use crate::writer::{Command, Edit, Ticket, WriteError};
use axum::extract::{Path, State};
use axum::response::Response;
use kernel::{ExternalId, JsonObject, Text, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::{fmt, str::FromStr};
use utoipa::{IntoParams, ToSchema};

/// How many rows the list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;

/// What became of telling an endpoint of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    /// The event's id, which is the `webhook-id` of every attempt.
    #[schema(max_length = 50)]
    event_id: String,
    /// What happened.
    #[schema(max_length = 100)]
    event_type: String,
    /// The user that it is about, where it is about one.
    #[schema(max_length = 255)]
    user_id: Option<String>,
    /// When it happened.
    created_at: Timestamp,
    /// `pending`, `delivered` or `failed`.
    status: DeliveryStatus,
    /// Of a pending one: when it is tried next, if nothing holds it up.
    next_attempt_at: Option<Timestamp>,
    /// The attempts, the first one first.
    #[schema(max_items = 1000)]
    attempts: Vec<Attempt>,
    /// When this changed last.
    updated_at: Timestamp,
}

impl From<Delivery> for DeliveryView {
    fn from(of: Delivery) -> Self {
        Self {
            event_id: event_id(of.event.id),
            event_type: of.event.event_type,
            user_id: of.event.auth0_id,
            created_at: of.event.at,
            status: of.status,
            next_attempt_at: of.next_attempt_at,
            attempts: of.attempts,
            updated_at: of.updated_at,
        }
    }
}

/// The same with what is sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct SentView {
    /// The body of each attempt.
    payload: JsonObject,
    /// What became of it.
    #[serde(flatten)]
    view: DeliveryView,
}

/// Which deliveries are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeliveriesQuery {
    /// Of this status only: `pending`, `delivered` or `failed`.
    #[param(inline, example = "failed")]
    status: Option<DeliveryStatus>,
    /// Of events of this type only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 100, example = "credit.consumed")]
    event_type: Option<Text<1, 100>>,
    /// Of events about this user only, by the external id that it had.
    #[param(value_type = Option<String>, min_length = 1, max_length = 255, pattern = "^[A-Za-z0-9._@+:|-]{1,255}$", example = "auth0|test123")]
    user_id: Option<ExternalId>,
    /// Of events not before: a date or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2025-01-01")]
    since: Option<Timestamp>,
    /// Of events not after: a date (its first instant) or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2099-12-31T23:59:59Z")]
    until: Option<Timestamp>,
}

/// List the deliveries of an endpoint
///
/// Each event that it was told of, or is still to be, with every attempt; the newest event first. What the sender has not come to yet is
/// not among them. They are kept for `WEBHOOK_RETENTION_DAYS`. Of a narrowed list one answer looks at 10 000 deliveries, so it may have fewer rows than
/// asked for, or none, while `has_more` is true: go on from `next_cursor`. Such an `offset` counts within what is looked at.
#[utoipa::path(
    get, path = "/api/v1/webhooks/endpoints/{endpoint_id}/deliveries", tag = "Webhooks", operation_id = "list_webhook_deliveries",
    params(EndpointPath, DeliveriesQuery, PageQuery), security(("bearer" = []), ("service_key" = ["webhooks:read"])),
    responses((status = 200, body = Envelope<Vec<DeliveryView>>, description = "The deliveries")),
)]
pub async fn list_webhook_deliveries(
    State(app): State<Arc<App>>,
    _on: WebhookReader,
    Path(path): Path<EndpointPath>,
    Query(query): Query<DeliveriesQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let endpoint = find(&app, path.endpoint_id.as_str()).await?;
    let kind = query.event_type.map(|name| known_type(["query", "event_type"], &name)).transpose()?;
    let filter = Filter {
        status: query.status,
        event_type: kind.map(|kind| kind.to_string()),
        user_id: query.user_id.map(|id| id.to_string()),
        since: query.since,
        until: query.until,
        before: page.after.map_or(i64::MAX, |(id, _)| id),
        offset: page.offset,
        limit: page.limit(LIMIT_DEFAULT),
    };
    let found = deliveries::list(&app.db, endpoint.id, filter).await?;
    let mut pagination = page.of(&found.rows, LIMIT_DEFAULT, |delivery: &Delivery| (delivery.event.id, 0));
    if let Some(event) = found.looked_to {
        (pagination.has_more, pagination.next_cursor) = (true, Some(format!("{event}_0")));
    }
    let rows: Vec<DeliveryView> = found.rows.rows.into_iter().map(Into::into).collect();
    let message = format!("Retrieved {} deliveries", rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), rows).paged(pagination)))
}

/// The type of event that a caller names.
fn known_type(place: [&str; 2], name: &Text<1, 100>) -> Result<EventType, ApiError> {
    let known = name.as_str().parse();
    known.map_err(|_| ApiError::invalid(place, "must be an event type such as credit.consumed"))
}

/// The delivery that a path names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct DeliveryPath {
    /// The endpoint's public id.
    #[param(value_type = String, min_length = 1, max_length = 50, example = "ep_4kT9bXw2QzR7mN0sVcLd")]
    endpoint_id: Text<1, 50>,
    /// The event's id.
    #[param(value_type = String, min_length = 1, max_length = 50, example = "evt_1041")]
    event_id: Text<1, 50>,
}

async fn find_delivery(app: &App, path: &DeliveryPath) -> Result<(Endpoint, Delivery), ApiError> {
    let endpoint = find(app, path.endpoint_id.as_str()).await?;
    let found = match event_row(path.event_id.as_str()) {
        Some(event) => deliveries::find(&app.db, endpoint.id, event).await?,
        None => None,
    };
    let unknown = || ApiError::not_found(format!("Delivery not found: {}", path.event_id.as_str()));
    Ok((endpoint, found.ok_or_else(unknown)?))
}

/// Read a delivery
///
/// With the payload as it is sent, byte for byte the same at every attempt.
#[utoipa::path(
    get, path = "/api/v1/webhooks/endpoints/{endpoint_id}/deliveries/{event_id}", tag = "Webhooks", operation_id = "get_webhook_delivery",
    params(DeliveryPath), security(("bearer" = []), ("service_key" = ["webhooks:read"])),
    responses((status = 200, body = Envelope<SentView>, description = "The delivery")),
)]
pub async fn get_webhook_delivery(
    State(app): State<Arc<App>>,
    _on: WebhookReader,
    Path(path): Path<DeliveryPath>,
) -> Result<Response, ApiError> {
    let (_, delivery) = find_delivery(&app, &path).await?;
    let payload = JsonObject::from_stored(delivery.event.payload());
    let view = SentView { payload, view: delivery.into() };
    Ok(json(&Envelope::new("Delivery retrieved successfully", app.clock.now(), view)))
}

/// Does an edit whose statement 0 finds the endpoint disabled, and wakes whoever sends.
async fn change(app: &App, edit: Edit) -> Result<(), ApiError> {
    let done = app.writer.execute(Command::Edit(edit)).await;
    app.outbox.ring();
    match done {
        Ok(_) => Ok(()),
        Err(WriteError::Refused(0)) => {
            Err(ApiError::conflict("The webhook endpoint is disabled; enable it first"))
        }
        Err(other) => Err(other.into()),
    }
}

/// Gives the answer that is kept under the request's key, where one is.
async fn repeated(app: &App, caller: String, once: Once) -> Result<Result<Response, Ticket>, ApiError> {
    let ticket = once.ticket(caller);
    if key_is_used(app, &ticket).await? { replayed(app, ticket).await.map(Ok) } else { Ok(Err(ticket)) }
}

/// Nothing more is to be said.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ResendRequest {}

/// Send an event to an endpoint again
///
/// Whatever became of it before: it is tried as if for the first time, with the same `webhook-id`, after what waits for the same user. 409 where the endpoint is disabled.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/deliveries/{event_id}/resend", tag = "Webhooks",
    operation_id = "resend_webhook_delivery", params(DeliveryPath), security(("bearer" = []), ("service_key" = ["webhooks:write"])),
    request_body(content = Option<ResendRequest>, example = json!({})),
    responses((status = 200, body = Envelope<DeliveryView>, description = "The delivery as it now stands")),
)]
pub async fn resend_webhook_delivery(
    State(app): State<Arc<App>>,
    on: WebhookWriter,
    Path(path): Path<DeliveryPath>,
    Input { value: ResendRequest {}, once }: Input<ResendRequest>,
) -> Result<Response, ApiError> {
    let ticket = match repeated(&app, on.caller.principal.caller(), once).await? {
        Ok(answer) => return Ok(answer),
        Err(ticket) => ticket,
    };
    let (endpoint, delivery) = find_delivery(&app, &path).await?;
    audit::target(|| format!("endpoint:{}", endpoint.endpoint_id));
    let now = app.clock.now();
    change(&app, deliveries::resend(&endpoint.endpoint_id, delivery.event.id, now)).await?;
    let (_, delivery) = find_delivery(&app, &path).await?;
    let view: DeliveryView = delivery.into();
    keep(&app, ticket, to_bytes(&Envelope::new("The event is sent again", now, view))).await
}

/// What to test an endpoint with.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TestEndpointRequest {
    /// The type of event to send; `credit.consumed` when absent.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    event_type: Option<Text<1, 100>>,
}

/// The event that is sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestView {
    /// Its id.
    #[schema(max_length = 50)]
    event_id: String,
    /// Its type.
    #[schema(max_length = 100)]
    event_type: &'static str,
}

/// Send a test event to an endpoint
///
/// An example of a type, whether the endpoint asks for it or not, to it alone, about no user, and with `"test": true` in its `data`. What becomes of it
/// stands among its deliveries. 409 where the endpoint is disabled.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/test", tag = "Webhooks", operation_id = "test_webhook_endpoint",
    params(EndpointPath), security(("bearer" = []), ("service_key" = ["webhooks:write"])),
    request_body(content = Option<TestEndpointRequest>, example = json!({"event_type": "credit.consumed"})),
    responses((status = 200, body = Envelope<TestView>, description = "The event", links(
        ("delivery" = (operation_id = "get_webhook_delivery", parameters(
            ("endpoint_id" = "$request.path.endpoint_id"), ("event_id" = "$response.body#/data/event_id")))),
    ))),
)]
pub async fn test_webhook_endpoint(
    State(app): State<Arc<App>>,
    on: WebhookWriter,
    Path(path): Path<EndpointPath>,
    Input { value, once }: Input<TestEndpointRequest>,
) -> Result<Response, ApiError> {
    let ticket = match repeated(&app, on.caller.principal.caller(), once).await? {
        Ok(answer) => return Ok(answer),
        Err(ticket) => ticket,
    };
    let named = value.event_type.map(|name| known_type(["body", "event_type"], &name)).transpose()?;
    let kind = named.unwrap_or(EventType::CreditConsumed);
    let endpoint = find(&app, path.endpoint_id.as_str()).await?;
    audit::note("event_type", kind.as_str());
    let now = app.clock.now();
    change(&app, deliveries::test(&endpoint.endpoint_id, kind, &test_body(kind), now)).await?;
    let event = deliveries::tested(&app.db, endpoint.id, now).await?;
    let event = event.ok_or_else(|| ApiError::internal("a test event is not where it was written"))?;
    let view = TestView { event_id: event_id(event), event_type: kind.as_str() };
    keep(&app, ticket, to_bytes(&Envelope::new("The test event is sent", now, view))).await
}

/// The body of a test of a type: its example, which says of itself that it is a test.
fn test_body(kind: EventType) -> String {
    let mut body = serde_json::Value::Object(examples::body(kind));
    if !body["data"].is_object() {
        body["data"] = serde_json::json!({});
    }
    body["data"]["test"] = true.into();
    body.to_string()
}

words! {
    /// What is told again.
    Recovered {
        /// What was tried as often as it may be.
        Failed = "failed",
        /// The same, and what was never tried.
        Undelivered = "undelivered",
    }
}

/// Which events to send again.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RecoverRequest {
    /// Those that happened at that instant or later.
    since: Timestamp,
    /// And at that instant or earlier; until now when absent.
    until: Option<Timestamp>,
    /// `failed`: what was tried as often as it may be. `undelivered`: that, and what was never tried. `undelivered` when absent.
    only: Option<Recovered>,
}

/// What is sent again.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecoveredView {
    /// How many events.
    #[schema(minimum = 0, maximum = 10_000)]
    recovered: usize,
    /// Whether the time has more; ask again, from `next_since` on.
    has_more: bool,
    /// Where to go on.
    next_since: Option<Timestamp>,
}

/// Send an endpoint what it missed
///
/// The events of a time that it asks for and that were never delivered to it: while it was disabled, or tried as often as they may be. At most 10 000 at once,
/// found among at most 100 000; `has_more` says whether to ask again. What waits anyway is left as it is, so the same request twice sends nothing twice.
/// 409 where the endpoint is disabled.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/recover", tag = "Webhooks", operation_id = "recover_webhook_deliveries",
    params(EndpointPath), security(("bearer" = []), ("service_key" = ["webhooks:write"])),
    request_body(content = RecoverRequest, example = json!({"since": "2025-07-26T00:00:00Z", "only": "undelivered"})),
    responses((status = 200, body = Envelope<RecoveredView>, description = "How many are sent again")),
)]
pub async fn recover_webhook_deliveries(
    State(app): State<Arc<App>>,
    on: WebhookWriter,
    Path(path): Path<EndpointPath>,
    Input { value, once }: Input<RecoverRequest>,
) -> Result<Response, ApiError> {
    let ticket = match repeated(&app, on.caller.principal.caller(), once).await? {
        Ok(answer) => return Ok(answer),
        Err(ticket) => ticket,
    };
    let now = app.clock.now();
    let until = value.until.unwrap_or(now);
    if value.since > until {
        return Err(ApiError::invalid(["body", "since"], "must not be after until"));
    }
    let endpoint = find(&app, path.endpoint_id.as_str()).await?;
    let what = match value.only.unwrap_or(Recovered::Undelivered) {
        Recovered::Failed => Missed::Failed,
        Recovered::Undelivered => Missed::Undelivered,
    };
    let (missed, next_since) = missed(&app, &endpoint, what, value.since, until).await?;
    audit::note("recovered", missed.len());
    // Also where there is nothing to put back, so that a disabled endpoint is told of.
    let first = missed.chunks(PUT_BACK_AT_ONCE).next().unwrap_or_default();
    for events in std::iter::once(first).chain(missed.chunks(PUT_BACK_AT_ONCE).skip(1)) {
        change(&app, deliveries::put_back(&app.db, &endpoint.endpoint_id, events, now)).await?;
    }
    let view = RecoveredView { recovered: missed.len(), has_more: next_since.is_some(), next_since };
    let message = format!("{} events are sent again", missed.len());
    keep(&app, ticket, to_bytes(&Envelope::new(message, now, view))).await
}

/// What an endpoint missed of a time, and from where on to look again where that is not all.
async fn missed(
    app: &App,
    endpoint: &Endpoint,
    what: Missed,
    since: Timestamp,
    until: Timestamp,
) -> Result<(Vec<i64>, Option<Timestamp>), ApiError> {
    let mut found = Vec::new();
    // The first instant counts too.
    let mut after = (since.micros() - 1, i64::MAX);
    let mut looked_at = 0;
    loop {
        let events = deliveries::look(&app.db, endpoint.id, what, after, until.micros()).await?;
        let all = events.len() < usize::try_from(LOOKED_AT_ONCE).unwrap_or(usize::MAX);
        looked_at += events.len();
        for event in events {
            if event.missed && found.len() == RECOVERED_MAX {
                return Ok((found, Some(Timestamp::from_micros(event.at))));
            }
            found.extend(event.missed.then_some(event.id));
            after = (event.at, event.id);
        }
        if all {
            return Ok((found, None));
        }
        if looked_at >= LOOKED_AT_MAX {
            return Ok((found, Some(Timestamp::from_micros(after.0))));
        }
    }
}
