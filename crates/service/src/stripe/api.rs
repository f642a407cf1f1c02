//! Routes of Stripe's events: they come in, and operators look at them.

use super::inbox::{self, Stored};
use super::object::Event;
use super::signature;
use crate::app::App;
use crate::auth::grants::Admin;
use crate::config::Environment;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Query, RawBody, json};
use axum::extract::{Path, State};
use axum::response::Response;
use kernel::{Text, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{IntoParams, ToSchema};

const HEADER: &str = "Stripe-Signature";
/// How long an answer waits for the event to be taken in.
const WAIT: Duration = Duration::from_millis(80);
const LIMIT_DEFAULT: i64 = 50;

/// What became of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventAnswer {
    /// Always true.
    success: bool,
    /// Always true: it is stored, and what it says happens now or soon.
    processed: bool,
    /// Whether its type means nothing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    unhandled: Option<bool>,
    /// Whether it came before.
    duplicate: bool,
    /// Stripe's id of it.
    #[schema(max_length = 255)]
    event_id: String,
    /// What happened.
    #[schema(max_length = 255)]
    event_type: String,
}

/// Take an event of Stripe
///
/// The body as Stripe signed it. Each event id is stored once for ever and taken in in the background; the order in which events
/// come does not matter. 400 where no signature in `Stripe-Signature` is made with a secret of `STRIPE_WEBHOOK_SECRET`, or its time is
/// more than 300 seconds away.
#[utoipa::path(
    post, path = "/api/v1/webhooks/stripe", tag = "Payments", operation_id = "take_stripe_event", security(()),
    params(("Stripe-Signature" = String, Header, max_length = 4096, description = "`t=…,v1=…`, as Stripe sends it")),
    request_body(content = serde_json::Value, example = json!({"id": "evt_1", "type": "invoice.paid", "created": 1_753_574_400, "livemode": false, "data": {"object": {"id": "in_1"}}})),
    responses((status = 200, body = EventAnswer, description = "It is stored")),
)]
pub async fn take_stripe_event(
    State(app): State<Arc<App>>,
    RawBody { headers, body, room: _room }: RawBody,
) -> Result<Response, ApiError> {
    let secrets = &app.config.payments.webhook_secrets;
    if secrets.is_empty() {
        let message = "Events are not taken: STRIPE_WEBHOOK_SECRET is not set";
        return Err(ApiError::unavailable(message, "an event came without a secret to check it with"));
    }
    let header = headers.get(HEADER).ok_or_else(|| ApiError::missing(["header", HEADER]))?;
    let header = header.to_str().unwrap_or_default();
    signature::verify(header, &body, secrets, app.clock.now())
        .map_err(|error| ApiError::invalid(["header", HEADER], error.to_string()))?;
    let text = std::str::from_utf8(&body).map_err(|_| ApiError::invalid(["body", "id"], "must be UTF-8"))?;
    let event: Event = crate::http::input::from_json(text.as_bytes(), "body")?;
    check(&app, &event)?;
    let handled = super::apply::is_handled(&event.kind);
    // Where too many are under way, the job takes it in.
    let turn = Arc::clone(&app.event_turns).try_acquire_owned().ok();
    let stored = inbox::store(&app, &event, text, turn.is_some()).await?;
    if let (true, true, Some(turn)) = (stored, handled, turn) {
        take_in(&app, &event.id, turn).await;
    }
    Ok(json(&EventAnswer {
        success: true,
        processed: true,
        unhandled: (!handled).then_some(true),
        duplicate: !stored,
        event_id: event.id.clone(),
        event_type: event.kind.clone(),
    }))
}

fn check(app: &App, event: &Event) -> Result<(), ApiError> {
    for (field, text) in [("id", &event.id), ("type", &event.kind)] {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            return Err(ApiError::invalid(["body", field], "must be 1 to 255 visible ASCII characters"));
        }
    }
    let live = match &app.stripe {
        Some(stripe) => stripe.live,
        None => app.config.environment == Environment::Production,
    };
    if event.livemode != live {
        let rule =
            if live { "must be true, as for the live key" } else { "must be false, as for a test key" };
        return Err(ApiError::invalid(["body", "livemode"], rule));
    }
    Ok(())
}

/// Takes it in now, without letting Stripe wait for long.
async fn take_in(app: &Arc<App>, id: &str, turn: OwnedSemaphorePermit) {
    let (app, id) = (Arc::clone(app), id.to_owned());
    let task = tokio::spawn(async move {
        if let Err(error) = inbox::take_in(&app, &id, 1).await {
            tracing::warn!(event = id, %error, "an event of Stripe was not taken in; it is tried again");
        }
        drop(turn);
    });
    let _ = tokio::time::timeout(WAIT, task).await;
}

/// An event as operators see it; what it says of people is not shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredEventView {
    /// Stripe's id of it.
    #[schema(max_length = 255)]
    event_id: String,
    /// What happened.
    #[schema(max_length = 255)]
    event_type: String,
    /// To what.
    #[schema(max_length = 255)]
    object_id: Option<String>,
    /// Of which customer.
    #[schema(max_length = 255)]
    customer_id: Option<String>,
    /// `received`, `waiting`, `processed`, `unhandled` or `failed`.
    #[schema(max_length = 20)]
    status: String,
    /// How often it was tried.
    #[schema(minimum = 0, maximum = 1000)]
    attempts: i64,
    /// When it is tried next, where it is.
    next_attempt_at: Option<Timestamp>,
    /// Why it did not work the last time.
    #[schema(max_length = 1000)]
    error: Option<String>,
    /// When it happened.
    created_at: Timestamp,
    /// When it came.
    received_at: Timestamp,
    /// When it was taken in.
    processed_at: Option<Timestamp>,
}

impl From<Stored> for StoredEventView {
    fn from(of: Stored) -> Self {
        let open = matches!(of.status.as_str(), "received" | "waiting");
        Self {
            event_id: of.id,
            event_type: of.kind,
            object_id: of.object_id,
            customer_id: of.customer,
            attempts: of.attempts,
            next_attempt_at: open.then_some(of.next_attempt_at),
            status: of.status,
            error: of.error,
            created_at: super::object::seconds(of.created),
            received_at: of.received_at,
            processed_at: of.processed_at,
        }
    }
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatusQuery {
    /// Only those that stand there: `received`, `waiting`, `processed`, `unhandled` or `failed`.
    #[param(value_type = Option<String>, max_length = 20, example = "failed")]
    status: Option<Text<1, 20>>,
}

const STATUSES: [&str; 5] = ["received", "waiting", "processed", "unhandled", "failed"];

/// List events of Stripe
///
/// The last one first.
#[utoipa::path(
    get, path = "/api/v1/admin/stripe/events", tag = "Payments", operation_id = "list_stripe_events",
    params(StatusQuery, PageQuery), security(("bearer" = []), ("service_key" = ["admin"])),
    responses((status = 200, body = Envelope<Vec<StoredEventView>>, description = "The events")),
)]
pub async fn list_stripe_events(
    State(app): State<Arc<App>>,
    _on: Admin,
    Query(query): Query<StatusQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let status = query.status.as_ref().map(Text::as_str);
    if status.is_some_and(|status| !STATUSES.contains(&status)) {
        return Err(ApiError::invalid(
            ["query", "status"],
            format!("must be one of {}", STATUSES.join(", ")),
        ));
    }
    let before = page.after.map_or(i64::MAX, |(seq, _)| seq);
    let found = inbox::list(&app.db, status, before, page.limit(LIMIT_DEFAULT), page.offset).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |of: &Stored| (of.seq, 0));
    let rows: Vec<StoredEventView> = found.rows.into_iter().map(Into::into).collect();
    Ok(json(
        &Envelope::new(format!("Retrieved {} events", rows.len()), app.clock.now(), rows).paged(pagination),
    ))
}

/// An event.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct EventPath {
    /// Stripe's id of it.
    #[param(value_type = String, min_length = 1, max_length = 255, example = "evt_1")]
    event_id: Text<1, 255>,
}

/// Take an event in again
///
/// From the beginning, also one that was given up. What it did before is not done twice. 409 where what it said
/// is not kept any more: after `RETENTION_STRIPE_EVENTS_DAYS`, or because its user was erased.
#[utoipa::path(
    post, path = "/api/v1/admin/stripe/events/{event_id}/replay", tag = "Payments", operation_id = "replay_stripe_event",
    params(EventPath), security(("bearer" = []), ("service_key" = ["admin"])),
    responses((status = 200, body = Envelope<StoredEventView>, description = "The event as it now stands")),
)]
pub async fn replay_stripe_event(
    State(app): State<Arc<App>>,
    _on: Admin,
    Path(path): Path<EventPath>,
) -> Result<Response, ApiError> {
    let id = path.event_id.as_str();
    let not_found = || ApiError::not_found(format!("Event not found: {id}"));
    if !inbox::replay(&app, id).await? {
        inbox::find(&app.db, id).await?.ok_or_else(not_found)?;
        let why = format!("What the event {id} said is not kept any more");
        return Err(ApiError::conflict(why));
    }
    let of = inbox::find(&app.db, id).await?.ok_or_else(not_found)?;
    Ok(json(&Envelope::new("The event was taken in again", app.clock.now(), StoredEventView::from(of))))
}
