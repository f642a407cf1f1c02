//! Routes of endpoints: who is told what, where, and by which signature.

use super::headers::ShownHeaders;
use super::model::{DisabledReason, ENDPOINTS_MAX, Endpoint, EndpointStatus, SECRETS_MAX, SignatureKind};
use super::request::{Change, CreateEndpointRequest, RotateSecretRequest, UpdateEndpointRequest};
use super::secret::SigningKey;
use super::{edits, store, wanted};
use crate::app::App;
use crate::audit;
use crate::auth::grants::{WebhookReader, WebhookWriter};
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, json};
use crate::keys::text::random;
use crate::writer::{Command, Edit, WriteError};
use axum::extract::{Path, State};
use axum::response::Response;
use kernel::{Text, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many rows the list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;
/// How many random characters an endpoint's id has.
const ID_CHARS: usize = 20;

/// An endpoint, without what it shares with this side.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EndpointView {
    /// Its public id.
    #[schema(max_length = 50)]
    id: String,
    /// Where deliveries go.
    #[schema(max_length = 2048)]
    url: String,
    /// What people say of it.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// What it asks for: event types, families such as `credit.*`, or `*`.
    #[schema(max_items = 100, max_length = 100)]
    event_types: Vec<String>,
    /// The users that it asks about; all of them when empty.
    #[schema(max_items = 1000, max_length = 255)]
    user_ids: Vec<String>,
    /// The headers that are sent along; `***` stands for each value.
    headers: ShownHeaders,
    /// How deliveries are signed.
    signature: SignatureKind,
    /// With `v1a`, the key by which a receiver checks deliveries: `whpk_…`.
    #[schema(max_length = 60)]
    public_key: Option<String>,
    /// Whether it is told.
    status: EndpointStatus,
    /// Why it is not told, where it is not.
    disabled_reason: Option<DisabledReason>,
    /// Since when it is not told.
    disabled_at: Option<Timestamp>,
    /// When the first delivery failed since the last one that did not.
    failing_since: Option<Timestamp>,
    /// Up to when a secret before the current one signs too, where one does.
    overlap_ends_at: Option<Timestamp>,
    /// When it was made.
    created_at: Timestamp,
    /// Who made it, as the audit log names it.
    #[schema(max_length = 100)]
    created_by: String,
    /// When it was changed last.
    updated_at: Timestamp,
}

impl From<Endpoint> for EndpointView {
    fn from(of: Endpoint) -> Self {
        Self {
            id: of.endpoint_id,
            url: of.url,
            description: of.description,
            event_types: of.event_types,
            user_ids: of.user_ids,
            headers: ShownHeaders::of(&of.header_names),
            signature: of.signing.kind(),
            public_key: of.signing.public_key(),
            status: of.status,
            disabled_reason: of.disabled_reason,
            disabled_at: of.disabled_at,
            failing_since: of.failing_since,
            overlap_ends_at: of.overlap_ends_at,
            created_at: of.created_at,
            created_by: of.created_by,
            updated_at: of.updated_at,
        }
    }
}

/// An endpoint with its secret, which no other answer ever has.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecretView {
    /// With `v1`, what a receiver checks deliveries by: `whsec_…`.
    #[schema(max_length = 100)]
    secret: Option<String>,
    /// What is known of it.
    #[serde(flatten)]
    view: EndpointView,
}

impl SecretView {
    fn new(of: Endpoint, key: &SigningKey) -> Self {
        Self { secret: key.secret().map(|secret| secret.expose().to_owned()), view: of.into() }
    }
}

/// The endpoint that a path names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct EndpointPath {
    /// Its public id.
    #[param(value_type = String, min_length = 1, max_length = 50, example = "ep_4kT9bXw2QzR7mN0sVcLd")]
    pub(super) endpoint_id: Text<1, 50>,
}

/// Finds the endpoint of a path.
///
/// # Errors
/// 404 where there is none.
pub(super) async fn find(app: &App, endpoint_id: &str) -> Result<Endpoint, ApiError> {
    let found = store::find(&app.db, endpoint_id, app.clock.now()).await?;
    found.ok_or_else(|| unknown(endpoint_id))
}

fn unknown(endpoint_id: &str) -> ApiError {
    ApiError::not_found(format!("Webhook endpoint not found: {endpoint_id}"))
}

/// Does an edit whose statement 0 finds the endpoint, and wakes whoever sends.
async fn change(app: &App, endpoint_id: &str, edit: Edit) -> Result<(), ApiError> {
    let done = app.writer.execute(Command::Edit(edit)).await;
    app.outbox.ring();
    match done {
        Ok(_) => Ok(()),
        Err(WriteError::Refused(0)) => Err(unknown(endpoint_id)),
        Err(WriteError::Refused(3)) => Err(ApiError::conflict(format!(
            "{SECRETS_MAX} secrets of the endpoint sign already; wait until one's overlap is over, or end all of them with overlap_seconds 0"
        ))),
        Err(other) => Err(other.into()),
    }
}

/// Says in the audit log what a change sets: never the whole address, which may hold a secret, nor a header or a user.
fn note(change: &Change) {
    if let Some(url) = &change.url {
        audit::note("host", url.host_str().unwrap_or_default());
    }
    if let Some(names) = &change.event_types {
        audit::note("event_types", names.clone());
    }
    if let Some(users) = &change.user_ids {
        audit::note("users", users.len());
    }
    if change.headers.is_some() {
        audit::note("headers", true);
    }
    if let Some(enabled) = change.enabled {
        audit::note("enabled", enabled);
    }
}

/// Has kinds offered before the endpoint that asks for them is written, so that none is missed.
fn want(app: &App, change: &Change) {
    if let Some(names) = &change.event_types {
        app.outbox.want(wanted::spelled_out(names));
    }
}

/// Register an endpoint for webhooks
///
/// It is told of what happens from now on. The answer shows its secret once; later ones never do. It is not kept under an idempotency key
/// either: where an answer is lost, delete the endpoint that the list has, and make another. There are at most 100 (409).
/// `docs/webhooks.md` says how a receiver checks what it gets.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints", tag = "Webhooks", operation_id = "create_webhook_endpoint",
    security(("bearer" = []), ("service_key" = ["webhooks:write"])),
    request_body(content = CreateEndpointRequest, example = json!({
        "url": "https://hooks.example.com/user-service", "event_types": ["credit.*", "alert.webhook_disabled"],
        "headers": {"Authorization": "Bearer a-token-of-theirs"}, "description": "billing"})),
    responses((status = 200, body = Envelope<SecretView>, description = "The endpoint", links(
        ("get" = (operation_id = "get_webhook_endpoint", parameters(("endpoint_id" = "$response.body#/data/id")))),
        ("test" = (operation_id = "test_webhook_endpoint", parameters(("endpoint_id" = "$response.body#/data/id")))),
    )), (status = 409, body = crate::http::docs::Error, description = "There are as many endpoints as may be.")),
)]
pub async fn create_webhook_endpoint(
    State(app): State<Arc<App>>,
    _on: WebhookWriter,
    Input { value, .. }: Input<CreateEndpointRequest>,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let asked = value.endpoint(&app.config.webhooks.reach)?;
    let endpoint_id = format!("ep_{}", random(ID_CHARS));
    audit::target(|| format!("endpoint:{endpoint_id}"));
    note(&asked.settings);
    want(&app, &asked.settings);
    let edit = edits::create(&app.db, &endpoint_id, &asked, &audit::around::actor(), now);
    match app.writer.execute(Command::Edit(edit)).await {
        Err(WriteError::Refused(_)) => {
            return Err(ApiError::conflict(format!(
                "There are {ENDPOINTS_MAX} webhook endpoints; delete those that are not needed"
            )));
        }
        done => done?,
    };
    app.outbox.ring();
    let view = SecretView::new(find(&app, &endpoint_id).await?, &asked.signing);
    Ok(json(&Envelope::new("Webhook endpoint created; its secret is shown only now", now, view)))
}

/// List the endpoints of webhooks
///
/// The last one that was made first.
#[utoipa::path(
    get, path = "/api/v1/webhooks/endpoints", tag = "Webhooks", operation_id = "list_webhook_endpoints", params(PageQuery),
    security(("bearer" = []), ("service_key" = ["webhooks:read"])),
    responses((status = 200, body = Envelope<Vec<EndpointView>>, description = "The endpoints")),
)]
pub async fn list_webhook_endpoints(
    State(app): State<Arc<App>>,
    _on: WebhookReader,
    page: Page,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let before = page.after.map_or(i64::MAX, |(id, _)| id);
    let found = store::list(&app.db, before, page.limit(LIMIT_DEFAULT), page.offset, now).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |endpoint: &Endpoint| (endpoint.id, 0));
    let rows: Vec<EndpointView> = found.rows.into_iter().map(Into::into).collect();
    let message = format!("Retrieved {} webhook endpoints", rows.len());
    Ok(json(&Envelope::new(message, now, rows).paged(pagination)))
}

/// Read an endpoint of webhooks
#[utoipa::path(
    get, path = "/api/v1/webhooks/endpoints/{endpoint_id}", tag = "Webhooks", operation_id = "get_webhook_endpoint", params(EndpointPath),
    security(("bearer" = []), ("service_key" = ["webhooks:read"])),
    responses((status = 200, body = Envelope<EndpointView>, description = "The endpoint")),
)]
pub async fn get_webhook_endpoint(
    State(app): State<Arc<App>>,
    _on: WebhookReader,
    Path(path): Path<EndpointPath>,
) -> Result<Response, ApiError> {
    shown(&app, &path, "Webhook endpoint retrieved successfully").await
}

async fn shown(app: &App, path: &EndpointPath, message: &'static str) -> Result<Response, ApiError> {
    let view: EndpointView = find(app, path.endpoint_id.as_str()).await?.into();
    Ok(json(&Envelope::new(message, app.clock.now(), view)))
}

/// Change an endpoint of webhooks
///
/// What waits to be delivered goes to the new address. What it asks for counts for everything that its cursor has yet to reach, also where that happened
/// before; what is to be tried again is tried still. Its signature never changes its kind: make another endpoint.
#[utoipa::path(
    patch, path = "/api/v1/webhooks/endpoints/{endpoint_id}", tag = "Webhooks", operation_id = "update_webhook_endpoint", params(EndpointPath),
    security(("bearer" = []), ("service_key" = ["webhooks:write"])),
    request_body(content = UpdateEndpointRequest, example = json!({"event_types": ["credit.consumed"], "user_ids": []})),
    responses((status = 200, body = Envelope<EndpointView>, description = "The endpoint as it now stands")),
)]
pub async fn update_webhook_endpoint(
    State(app): State<Arc<App>>,
    _on: WebhookWriter,
    Path(path): Path<EndpointPath>,
    Input { value, .. }: Input<UpdateEndpointRequest>,
) -> Result<Response, ApiError> {
    let asked = value.change(&app.config.webhooks.reach)?;
    let endpoint_id = path.endpoint_id.as_str();
    note(&asked);
    want(&app, &asked);
    change(&app, endpoint_id, edits::update(&app.db, endpoint_id, &asked, app.clock.now())).await?;
    shown(&app, &path, "Webhook endpoint updated successfully").await
}

/// Delete an endpoint of webhooks
///
/// With its secrets and the log of its deliveries; what waits to be delivered is not.
#[utoipa::path(
    delete, path = "/api/v1/webhooks/endpoints/{endpoint_id}", tag = "Webhooks", operation_id = "delete_webhook_endpoint", params(EndpointPath),
    security(("bearer" = []), ("service_key" = ["webhooks:write"])),
    responses((status = 200, body = Envelope<EndpointView>, description = "The endpoint as it was")),
)]
pub async fn delete_webhook_endpoint(
    State(app): State<Arc<App>>,
    _on: WebhookWriter,
    Path(path): Path<EndpointPath>,
) -> Result<Response, ApiError> {
    let (endpoint_id, now) = (path.endpoint_id.as_str(), app.clock.now());
    let view: EndpointView = find(&app, endpoint_id).await?.into();
    change(&app, endpoint_id, edits::delete(endpoint_id, now)).await?;
    Ok(json(&Envelope::new("Webhook endpoint deleted successfully", now, view)))
}

/// Give an endpoint its next secret
///
/// The answer shows it once. The secrets before it sign too for `overlap_seconds`, so deliveries carry a signature for each, and receivers can
/// be changed over one by one; a repeated call gives yet another secret, and no earlier one signs longer than its overlap: 0 ends all of them at once.
/// 409 where five sign already, unless it is 0.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/rotate-secret", tag = "Webhooks", operation_id = "rotate_webhook_secret",
    params(EndpointPath), security(("bearer" = []), ("service_key" = ["webhooks:write"])),
    request_body(content = Option<RotateSecretRequest>, example = json!({"overlap_seconds": 86_400})),
    responses((status = 200, body = Envelope<SecretView>, description = "The endpoint"),
        (status = 409, body = crate::http::docs::Error, description = "Five secrets of it sign already.")),
)]
pub async fn rotate_webhook_secret(
    State(app): State<Arc<App>>,
    _on: WebhookWriter,
    Path(path): Path<EndpointPath>,
    Input { value, .. }: Input<RotateSecretRequest>,
) -> Result<Response, ApiError> {
    let (endpoint_id, now) = (path.endpoint_id.as_str(), app.clock.now());
    let kind = find(&app, endpoint_id).await?.signing.kind();
    let (next, overlap_ends_at) = value.next(kind, now)?;
    audit::note("overlap_ends_at", overlap_ends_at.to_string());
    change(&app, endpoint_id, edits::rotate(endpoint_id, &next, overlap_ends_at, now)).await?;
    let view = SecretView::new(find(&app, endpoint_id).await?, &next);
    Ok(json(&Envelope::new("Secret rotated; the new one is shown only now", now, view)))
}

/// Enable an endpoint of webhooks
///
/// It is told of what happens from now on, and of what was to be told or tried again when it was disabled (at most 10 000 events, found among 100 000); what
/// happened while it was disabled, and more than that, is fetched with `recover`. One that is enabled stays as it is.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/enable", tag = "Webhooks", operation_id = "enable_webhook_endpoint",
    params(EndpointPath), security(("bearer" = []), ("service_key" = ["webhooks:write"])),
    responses((status = 200, body = Envelope<EndpointView>, description = "The endpoint as it now stands")),
)]
pub async fn enable_webhook_endpoint(
    State(app): State<Arc<App>>,
    _on: WebhookWriter,
    Path(path): Path<EndpointPath>,
) -> Result<Response, ApiError> {
    let (endpoint_id, now) = (path.endpoint_id.as_str(), app.clock.now());
    change(&app, endpoint_id, edits::set_enabled(&app.db, endpoint_id, true, now)).await?;
    shown(&app, &path, "Webhook endpoint enabled").await
}

/// Disable an endpoint of webhooks
///
/// It is told of nothing until it is enabled; one that is disabled stays as it is.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/disable", tag = "Webhooks", operation_id = "disable_webhook_endpoint",
    params(EndpointPath), security(("bearer" = []), ("service_key" = ["webhooks:write"])),
    responses((status = 200, body = Envelope<EndpointView>, description = "The endpoint as it now stands")),
)]
pub async fn disable_webhook_endpoint(
    State(app): State<Arc<App>>,
    _on: WebhookWriter,
    Path(path): Path<EndpointPath>,
) -> Result<Response, ApiError> {
    let (endpoint_id, now) = (path.endpoint_id.as_str(), app.clock.now());
    change(&app, endpoint_id, edits::set_enabled(&app.db, endpoint_id, false, now)).await?;
    shown(&app, &path, "Webhook endpoint disabled").await
}
