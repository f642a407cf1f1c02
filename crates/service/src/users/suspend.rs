//! Routes that lock a user out, and let it in again.
//!
//! A suspended user's own token is refused on every route, at once here and within a second in every
//! other process; its event streams end. A service key may still read, record usage, refund, and
//! settle the holds that are open, but spends nothing new; an admin may do everything.

use super::api::{Profile, UserPath, answered, profile};
use super::{edits, identities};
use crate::app::App;
use crate::auth::grants::{Admin, OnUser, WriteUser};
use crate::http::envelope::bytes as to_bytes;
use crate::http::input::Once;
use crate::http::{ApiError, Envelope, Input};
use crate::webhooks::bodies::UserEvent;
use crate::webhooks::{Event, EventType};
use crate::writer::{Command, Done, Edit, WriteError};
use axum::extract::State;
use axum::response::Response;
use kernel::Text;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Why a user is suspended.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SuspendRequest {
    /// For operators: it stands in the directory until the user is let in again.
    reason: Option<Text<0, 1000>>,
}

/// A request without anything to say.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReactivateRequest {}

/// Suspend a user
///
/// Its own token is refused with 403 on every route from now on: at once here, within a second in
/// every other process. Its event streams end. Service keys may read, record usage, refund and settle
/// open holds for it, but not spend: consume, charges and new holds are 403. Suspending it again only
/// changes the reason.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/suspend", tag = "Users", operation_id = "suspend_user", params(UserPath),
    security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = SuspendRequest, example = json!({"reason": "A chargeback is open"})),
    responses((status = 200, body = Envelope<Profile>, description = "The suspended user")),
)]
pub async fn suspend_user(
    State(app): State<Arc<App>>,
    _admin: Admin,
    on: OnUser<WriteUser>,
    Input { value, once }: Input<SuspendRequest>,
) -> Result<Response, ApiError> {
    if on.caller.subject() == Some(&on.user.auth0_id) {
        return Err(ApiError::conflict("An admin cannot suspend itself"));
    }
    let reason = value.reason.map(Text::into_string).unwrap_or_default();
    let (row, now) = (on.user.row, app.clock.now());
    set(&app, on, once, false, |told| edits::suspend(row, &reason, told, now)).await
}

/// Let a suspended user in again
///
/// One that is not suspended stays as it is.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/reactivate", tag = "Users", operation_id = "reactivate_user",
    params(UserPath), security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = ReactivateRequest, example = json!({})),
    responses((status = 200, body = Envelope<Profile>, description = "The user")),
)]
pub async fn reactivate_user(
    State(app): State<Arc<App>>,
    _admin: Admin,
    on: OnUser<WriteUser>,
    Input { once, .. }: Input<ReactivateRequest>,
) -> Result<Response, ApiError> {
    let (row, now) = (on.user.row, app.clock.now());
    set(&app, on, once, true, |told| edits::reactivate(row, told, now)).await
}

async fn set(
    app: &Arc<App>,
    on: OnUser<WriteUser>,
    once: Once,
    is_active: bool,
    edit: impl FnOnce(&Event) -> Edit,
) -> Result<Response, ApiError> {
    let auth0_id = &on.user.auth0_id;
    let profile = profile(app, auth0_id).await?.active(is_active);
    let (kind, done) = match is_active {
        true => (EventType::UserReactivated, "reactivated"),
        false => (EventType::UserSuspended, "suspended"),
    };
    let (message, now) = (format!("User {auth0_id} {done}"), app.clock.now());
    let told = UserEvent { data: profile };
    let edit = edit(&Event::of(kind, on.user.row, now, &told));
    let profile = told.data;
    let body = to_bytes(&Envelope::new(message, now, profile));
    let respond = move |_: &Done| body.clone();
    let ticket = once.ticket(on.caller.principal.caller());
    let answer = app.writer.submit(Command::Edit(edit), ticket, respond).await;
    let answer = answer.map_err(|error| match error {
        WriteError::Refused(_) => ApiError::user_not_found(auth0_id.as_str()),
        other => other.into(),
    })?;
    identities::refresh(app).await;
    Ok(answered(answer))
}
