//! Routes of service keys, all of them for admins.

use super::edits;
use super::model::{KEYS_MAX, Key, SECRETS_MAX, networks_text};
use super::request::{CreateKeyRequest, KeyChange, RotateKeyRequest, UpdateKeyRequest};
use super::{store, text};
use crate::app::App;
use crate::audit;
use crate::auth::Scope;
use crate::auth::grants::Admin;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, Query, json};
use crate::writer::{Command, WriteError};
use axum::extract::{Path, State};
use axum::response::Response;
use kernel::{Flag, Secret, Text, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many rows the list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;

/// A service key, without what proves it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct KeyView {
    /// Its public id, which stands in the key itself, in the ledger and in the audit log.
    #[schema(max_length = 20)]
    key_id: String,
    /// What people call it.
    #[schema(max_length = 100)]
    name: String,
    /// What it may do.
    #[schema(max_items = 32, max_length = 50)]
    scopes: Vec<&'static str>,
    /// `active`, `expired` or `revoked`.
    #[schema(max_length = 10)]
    status: &'static str,
    /// How many requests a minute it may make, where that is its own limit.
    #[schema(minimum = 1, maximum = 1_000_000)]
    requests_per_minute: Option<u32>,
    /// From where it may be used; from anywhere when empty.
    #[schema(max_items = 100, max_length = 50)]
    allowed_ips: Vec<String>,
    /// When it was made.
    created_at: Timestamp,
    /// Who made it, as the audit log names it.
    #[schema(max_length = 100)]
    created_by: String,
    /// When its time is over.
    expires_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    last_used_at: Option<Timestamp>,
    /// When it was revoked.
    revoked_at: Option<Timestamp>,
    /// Up to when a secret before the current one works, where one does.
    overlap_ends_at: Option<Timestamp>,
}

impl KeyView {
    fn new(key: &Key, now: Timestamp) -> Self {
        Self {
            key_id: key.key_id.clone(),
            name: key.name.clone(),
            scopes: key.scopes.iter().map(Scope::as_str).collect(),
            status: key.standing(now).as_str(),
            requests_per_minute: key.requests_per_minute,
            allowed_ips: key.allowed_ips.iter().map(ToString::to_string).collect(),
            created_at: key.created_at,
            created_by: key.created_by.clone(),
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            revoked_at: key.revoked_at,
            overlap_ends_at: key.overlap_ends_at,
        }
    }
}

/// A key with what proves it, which no other answer ever has.
#[derive(Debug, Serialize, ToSchema)]
pub struct IssuedKey {
    /// The whole key: what to send as `X-API-Key`.
    #[schema(max_length = 53)]
    key: String,
    /// What is known of it.
    #[serde(flatten)]
    view: KeyView,
}

impl IssuedKey {
    fn new(key: &Secret, view: KeyView) -> Self {
        Self { key: key.expose().to_owned(), view }
    }
}

/// Make a service key
///
/// The answer shows it once; what is kept can only recognise it. It is not stored under an idempotency key either: where
/// an answer is lost, revoke the key that the list has, and make another. At most 1000 keys are in use at once (409).
#[utoipa::path(
    post, path = "/api/v1/admin/keys", tag = "Admin", operation_id = "create_key",
    security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = CreateKeyRequest, example = json!({
        "name": "chat back end", "scopes": ["users:write", "credits:*", "usage:write"], "expires_at": "2030-01-01T00:00:00Z",
        "requests_per_minute": 6000, "allowed_ips": ["203.0.113.0/24"]})),
    responses((status = 200, body = Envelope<IssuedKey>, description = "The key", links(
        ("get" = (operation_id = "get_key", parameters(("key_id" = "$response.body#/data/key_id")))),
    )), (status = 409, body = crate::http::docs::Error, description = "As many keys are in use as may be.")),
)]
pub async fn create_key(
    State(app): State<Arc<App>>,
    _on: Admin,
    Input { value, .. }: Input<CreateKeyRequest>,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let fresh = text::make(None);
    let key = Key { key_id: fresh.key_id, ..value.key(audit::around::actor(), now)? };
    audit::target(|| format!("key:{}", key.key_id));
    key.note();
    match app.writer.execute(Command::Edit(edits::create(&key, fresh.digest))).await {
        Err(WriteError::Refused(0)) => {
            return Err(ApiError::conflict(format!(
                "{KEYS_MAX} keys are in use; revoke those that are not needed"
            )));
        }
        done => done?,
    };
    app.keys.changed();
    let issued = IssuedKey::new(&fresh.key, KeyView::new(&key, now));
    Ok(json(&Envelope::new("Key created; it is shown only now", now, issued)))
}

/// Which keys.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct KeysQuery {
    /// Those that are expired or revoked as well.
    #[param(value_type = Option<bool>, example = false)]
    all: Option<Flag>,
}

/// List service keys
///
/// The last one that was made first. `USER_SERVICE_API_KEY` is a setting, and not among them.
#[utoipa::path(
    get, path = "/api/v1/admin/keys", tag = "Admin", operation_id = "list_keys", params(KeysQuery, PageQuery),
    security(("bearer" = []), ("service_key" = ["admin"])),
    responses((status = 200, body = Envelope<Vec<KeyView>>, description = "The keys")),
)]
pub async fn list_keys(
    State(app): State<Arc<App>>,
    _on: Admin,
    Query(query): Query<KeysQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let before = page.after.map_or(i64::MAX, |(id, _)| id);
    let all = query.all.unwrap_or_default().0;
    let found = store::list(&app.db, all, before, page.limit(LIMIT_DEFAULT), page.offset, now).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |key: &Key| (key.id, 0));
    let rows: Vec<KeyView> = found.rows.iter().map(|key| KeyView::new(key, now)).collect();
    let message = format!("Retrieved {} keys", rows.len());
    Ok(json(&Envelope::new(message, now, rows).paged(pagination)))
}

/// The key that a path names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct KeyPath {
    /// Its public id.
    #[param(value_type = String, min_length = 1, max_length = 20, example = "k3Jx9TqLm2")]
    key_id: Text<1, 20>,
}

async fn find(app: &App, path: &KeyPath) -> Result<Key, ApiError> {
    let key_id = path.key_id.as_str();
    let found = store::find(&app.db, key_id, app.clock.now()).await?;
    found.ok_or_else(|| ApiError::not_found(format!("Key not found: {key_id}")))
}

/// Read a service key
#[utoipa::path(
    get, path = "/api/v1/admin/keys/{key_id}", tag = "Admin", operation_id = "get_key", params(KeyPath),
    security(("bearer" = []), ("service_key" = ["admin"])),
    responses((status = 200, body = Envelope<KeyView>, description = "The key")),
)]
pub async fn get_key(
    State(app): State<Arc<App>>,
    _on: Admin,
    Path(path): Path<KeyPath>,
) -> Result<Response, ApiError> {
    let (key, now) = (find(&app, &path).await?, app.clock.now());
    Ok(json(&Envelope::new("Key retrieved successfully", now, KeyView::new(&key, now))))
}

/// Change a service key
///
/// Its name, its end, its limit, its networks. Its scopes never change: make another key. 409 where it is revoked or expired.
#[utoipa::path(
    patch, path = "/api/v1/admin/keys/{key_id}", tag = "Admin", operation_id = "update_key", params(KeyPath),
    security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = UpdateKeyRequest, example = json!({"name": "chat back end", "allowed_ips": []})),
    responses((status = 200, body = Envelope<KeyView>, description = "The key as it now stands")),
)]
pub async fn update_key(
    State(app): State<Arc<App>>,
    _on: Admin,
    Path(path): Path<KeyPath>,
    Input { value, .. }: Input<UpdateKeyRequest>,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let change = value.change(now)?;
    let key_id = find(&app, &path).await?.key_id;
    note(&change);
    let done = app.writer.execute(Command::Edit(edits::update(&key_id, &change, now))).await;
    app.keys.changed();
    done.map_err(revoked)?;
    let key = find(&app, &path).await?;
    Ok(json(&Envelope::new("Key updated successfully", now, KeyView::new(&key, now))))
}

/// Says in the audit log what a change sets.
fn note(change: &KeyChange) {
    if let Some(name) = &change.name {
        audit::note("name", name.as_str());
    }
    if let Some(at) = change.expires_at {
        audit::note("expires_at", at.to_string());
    }
    if let Some(limit) = change.requests_per_minute {
        audit::note("requests_per_minute", limit);
    }
    if let Some(networks) = &change.allowed_ips {
        audit::note("allowed_ips", networks_text(networks));
    }
}

/// What an edit says whose statement 0 found the key revoked or expired.
fn revoked(error: WriteError) -> ApiError {
    match error {
        WriteError::Refused(0) => ApiError::conflict("The key is revoked or expired"),
        WriteError::Refused(3) => ApiError::conflict(format!(
            "{SECRETS_MAX} secrets of the key work already; wait until one's overlap is over, or revoke the key"
        )),
        other => other.into(),
    }
}

/// Give a service key its next secret
///
/// The answer shows the key anew, once. What was its secret before goes on working for `overlap_seconds`, so that
/// programs can be changed over one by one; a repeated call gives yet another secret, and no earlier one works longer than its overlap: 0
/// ends all of them at once. 409 where it is revoked or
/// expired, or five of its secrets work already.
#[utoipa::path(
    post, path = "/api/v1/admin/keys/{key_id}/rotate", tag = "Admin", operation_id = "rotate_key", params(KeyPath),
    security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = Option<RotateKeyRequest>, example = json!({"overlap_seconds": 86_400})),
    responses((status = 200, body = Envelope<IssuedKey>, description = "The key"),
        (status = 409, body = crate::http::docs::Error, description = "It is revoked or expired, or has five secrets.")),
)]
pub async fn rotate_key(
    State(app): State<Arc<App>>,
    _on: Admin,
    Path(path): Path<KeyPath>,
    Input { value, .. }: Input<RotateKeyRequest>,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let overlap_ends_at = value.overlap_ends_at(now)?;
    let key_id = find(&app, &path).await?.key_id;
    let fresh = text::make(Some(&key_id));
    let edit = edits::rotate(&key_id, fresh.digest, overlap_ends_at, now);
    audit::note("overlap_ends_at", overlap_ends_at.to_string());
    let done = app.writer.execute(Command::Edit(edit)).await;
    app.keys.changed();
    done.map_err(revoked)?;
    let view = KeyView::new(&find(&app, &path).await?, now);
    let issued = IssuedKey::new(&fresh.key, view);
    Ok(json(&Envelope::new("Key rotated; its new secret is shown only now", now, issued)))
}

/// Revoke a service key
///
/// Refused at once here, and within a second by other replicas; so are the user tokens that it issued. What it wrote stays as it is.
#[utoipa::path(
    delete, path = "/api/v1/admin/keys/{key_id}", tag = "Admin", operation_id = "revoke_key", params(KeyPath),
    security(("bearer" = []), ("service_key" = ["admin"])),
    responses((status = 200, body = Envelope<KeyView>, description = "The key as it now stands")),
)]
pub async fn revoke_key(
    State(app): State<Arc<App>>,
    _on: Admin,
    Path(path): Path<KeyPath>,
) -> Result<Response, ApiError> {
    let key_id = find(&app, &path).await?.key_id;
    let now = app.clock.now();
    let done = app.writer.execute(Command::Edit(edits::revoke(&key_id, now))).await;
    app.keys.changed();
    done?;
    let key = find(&app, &path).await?;
    Ok(json(&Envelope::new("Key revoked successfully", now, KeyView::new(&key, now))))
}
