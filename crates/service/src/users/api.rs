//! Routes of users: ensure, me, get, change, delete.

use super::{Delete, Ensure, Patch, User, erase, export, merge, store};
use crate::app::App;
use crate::auth::grants::{Caller, CanExport, CanReadUser, CanWriteUser};
use crate::auth::{Principal, Scope};
use crate::credits::Rejection;
use crate::http::envelope::{bytes, json_bytes};
use crate::http::{ApiError, Envelope, Input, Query, json};
use crate::subscriptions;
use crate::writer::{Answer, Command, Done, WriteError};
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::Response;
use kernel::{Credits, Email, ExternalId, Flag, Name, Timestamp, UserKey, UserRowId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// The user that a path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described: the permission extractors read the path")]
pub struct UserPath {
    /// The user's id in the identity provider (`auth0|test123`, with the pipe raw or as `%7C`), or
    /// its integer row id.
    #[param(
        pattern = "^[A-Za-z0-9._@+:|-]{1,255}$",
        min_length = 1,
        max_length = 255,
        example = "auth0|test123"
    )]
    user_id: String,
}

/// Who to make or refresh.
#[derive(Debug, Deserialize, ToSchema)]
pub struct EnsureRequest {
    /// The user's id in the identity provider; the token's `sub` when absent.
    auth0_id: Option<ExternalId>,
    /// The same under its other name.
    user_id: Option<ExternalId>,
    /// The e-mail address; the token's when absent.
    email: Option<Email>,
    /// The name; the token's when absent.
    name: Option<Name>,
}

/// The user after `ensure`.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnsureAnswer {
    /// Always true.
    success: bool,
    /// The integer row id.
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    user_id: UserRowId,
    /// The id in the identity provider.
    auth0_id: ExternalId,
    /// The e-mail address.
    #[schema(max_length = 254)]
    email: Option<String>,
    /// The name.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// What can be spent now.
    credits: Credits,
    /// All that was ever given.
    credits_total: Credits,
    /// The plan.
    #[schema(max_length = 50)]
    plan: String,
    /// Whether the user may come in.
    is_active: bool,
    /// Whether this call made it.
    created: bool,
}

/// Make the user, or refresh its name and e-mail
///
/// The first call gives the welcome grant, however many calls come at once. A user may ensure
/// itself only; a service key needs `users:write`.
#[utoipa::path(
    post, path = "/api/v1/users/ensure", tag = "Users", operation_id = "ensure_user",
    security(("bearer" = []), ("service_key" = ["users:write"])),
    request_body(content = EnsureRequest, example = json!({"auth0_id": "auth0|test123", "email": "test@test.com", "name": "Test User"})),
    responses((status = 200, body = EnsureAnswer, description = "The user",
        links(
            ("get" = (operation_id = "get_user", parameters(("user_id" = "$response.body#/auth0_id")))),
            ("balance" = (operation_id = "get_balance", parameters(("user_id" = "$response.body#/auth0_id")))),
            ("consume" = (operation_id = "consume_credits", parameters(("user_id" = "$response.body#/auth0_id")))),
            ("record_usage" = (operation_id = "record_usage", parameters(("user_id" = "$response.body#/user_id")))),
        ),
        example = json!({
        "success": true, "user_id": 112, "auth0_id": "auth0|test123", "email": "test@test.com", "name": "Test User",
        "credits": 1000, "credits_total": 1000, "plan": "free", "is_active": true, "created": true}))),
)]
pub async fn ensure_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    Input { value, once }: Input<EnsureRequest>,
) -> Result<Response, ApiError> {
    caller.needs(Scope::UsersWrite)?;
    if value.auth0_id.is_some() && value.user_id.is_some() && value.auth0_id != value.user_id {
        return Err(ApiError::invalid(["body", "user_id"], "must be the same as auth0_id"));
    }
    let asked = value.auth0_id.or(value.user_id);
    let (auth0_id, email, name) = match (&caller.principal, asked) {
        (Principal::User(user), asked) if asked.is_none() || asked.as_ref() == Some(&user.subject) => {
            (user.subject.clone(), value.email.or(user.email.clone()), value.name.or(user.name.clone()))
        }
        (principal, Some(asked)) if principal.is_admin() => (asked, value.email, value.name),
        (Principal::User(_), _) => return Err(ApiError::forbidden("auth0_id must be the token's own sub")),
        (Principal::Service(_), Some(asked)) => (asked, value.email, value.name),
        (Principal::Service(_), None) => {
            return Err(ApiError::invalid(["body", "auth0_id"], "Field required for a service key"));
        }
    };
    if auth0_id.is_row_like() {
        let rule = "must not be 1 to 15 digits alone, which is how a row id is named";
        return Err(ApiError::invalid(["body", "auth0_id"], rule));
    }
    if ["erased:", "merged:"].iter().any(|taken| auth0_id.as_str().starts_with(taken)) {
        let rule = "must not begin with erased: or merged:, which is how users without a name are named";
        return Err(ApiError::invalid(["body", "auth0_id"], rule));
    }
    let auth0_id = app.identities.book().survivor(&auth0_id).clone();
    let command = Command::Ensure(Ensure { auth0_id, email, name });
    let answer = app.writer.submit(command, once.ticket(caller.principal.caller()), ensured).await?;
    Ok(answered(answer))
}

fn ensured(done: &Done) -> bytes::Bytes {
    let Done::User { user, created, available, credits_total } = done else { return bytes::Bytes::new() };
    bytes(&EnsureAnswer {
        success: true,
        user_id: user.id,
        auth0_id: user.auth0_id.clone(),
        email: user.email.clone(),
        name: user.name.clone(),
        credits: *available,
        credits_total: *credits_total,
        plan: user.plan.clone(),
        is_active: user.is_active,
        created: *created,
    })
}

/// The answer of the writer as an HTTP answer, marked when it was given before.
#[must_use]
pub fn answered(answer: Answer) -> Response {
    let mut response = json_bytes(answer.body);
    if answer.replayed {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// A user as its reader sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Profile {
    /// The id in the identity provider.
    user_id: ExternalId,
    /// The same.
    auth0_id: ExternalId,
    /// The integer row id.
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: UserRowId,
    /// The e-mail address.
    #[schema(max_length = 254)]
    email: Option<String>,
    /// The name.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// What can be spent now.
    credits: Credits,
    /// The same under its other name.
    credits_remaining: Credits,
    /// All that was ever given.
    credits_total: Credits,
    /// The plan.
    #[schema(max_length = 50)]
    plan: String,
    /// The state of the subscription.
    #[schema(max_length = 50)]
    subscription_status: String,
    /// Whether the user may come in.
    is_active: bool,
    /// When `ensure` made it.
    created_at: Timestamp,
}

impl Profile {
    /// The same user let in, or not.
    pub(super) fn active(self, is_active: bool) -> Self {
        Self { is_active, ..self }
    }

    /// Shows a user, with what is in its account.
    #[must_use]
    pub fn new(user: User, available: Credits, credits_total: Credits) -> Self {
        Self {
            user_id: user.auth0_id.clone(),
            auth0_id: user.auth0_id,
            id: user.id,
            email: user.email,
            name: user.name,
            credits: available,
            credits_remaining: available,
            credits_total,
            plan: user.plan,
            subscription_status: user.subscription_status,
            is_active: user.is_active,
            created_at: user.created_at,
        }
    }
}

/// A live user as its reader sees it.
///
/// # Errors
/// 404 when there is none.
pub(super) async fn profile(app: &App, id: &ExternalId) -> Result<Profile, ApiError> {
    let not_found = || ApiError::user_not_found(id.as_str());
    let user = store::find(&app.db, id).await?.ok_or_else(not_found)?;
    let account = app.balances.account(user.id).await?.ok_or_else(not_found)?;
    Ok(Profile::new(user, account.available(app.clock.now()), account.credits_total))
}

/// Tell the caller who it is
///
/// 404 before `ensure`.
#[utoipa::path(
    get, path = "/api/v1/users/me", tag = "Users", operation_id = "get_me", security(("bearer" = [])),
    responses((status = 200, body = Profile, description = "The caller's user")),
)]
pub async fn get_me(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, ApiError> {
    let Some(subject) = caller.subject() else {
        return Err(ApiError::forbidden("A service key has no user of its own"));
    };
    Ok(json(&profile(&app, subject).await?))
}

/// Read a user
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}", tag = "Users", operation_id = "get_user", params(UserPath),
    security(("bearer" = []), ("service_key" = ["users:read"])),
    responses((status = 200, body = Envelope<Profile>, description = "The user")),
)]
pub async fn get_user(State(app): State<Arc<App>>, on: CanReadUser) -> Result<Response, ApiError> {
    let profile = profile(&app, &on.user.auth0_id).await?;
    Ok(json(&Envelope::new("User retrieved successfully", app.clock.now(), profile)))
}

/// What to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PatchRequest {
    /// The new e-mail address.
    email: Option<Email>,
    /// The new name.
    name: Option<Name>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// Change a user's name or e-mail
#[utoipa::path(
    patch, path = "/api/v1/users/{user_id}", tag = "Users", operation_id = "update_user", params(UserPath),
    security(("bearer" = []), ("service_key" = ["users:write"])),
    request_body(content = PatchRequest, example = json!({"name": "Ada Lovelace"})),
    responses((status = 200, body = Envelope<Profile>, description = "The changed user")),
)]
pub async fn update_user(
    State(app): State<Arc<App>>,
    on: CanWriteUser,
    Input { value, once }: Input<PatchRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    if value.email.is_none() && value.name.is_none() {
        return Err(ApiError::invalid(["body", "name"], "either name or email must be given"));
    }
    let command = Command::Patch(Patch { auth0_id: on.user.auth0_id, email: value.email, name: value.name });
    let clock = app.clock.clone();
    let changed = move |done: &Done| match done {
        Done::User { user, available, credits_total, .. } => {
            let profile = Profile::new((**user).clone(), *available, *credits_total);
            bytes(&Envelope::new("User updated successfully", clock.now(), profile))
        }
        _ => bytes::Bytes::new(),
    };
    let ticket = once.ticket(on.caller.principal.caller());
    Ok(answered(app.writer.submit(command, ticket, changed).await?))
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedUser {
    /// The user.
    user_id: ExternalId,
    /// Always true.
    deleted: bool,
    /// Whether its personal data is gone for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<bool>,
}

/// How a user is deleted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// Whether its personal data goes for good; it cannot come back then.
    #[param(value_type = Option<bool>, example = false)]
    erase: Option<Flag>,
}

/// Delete a user
///
/// From now on every route answers 404 for it, and its e-mail address is free. Its ledger is kept;
/// a later `ensure` of the same id brings the account back as it stood, without a second welcome
/// grant. With `erase=true` its personal data is gone for good when the answer comes: names, sessions,
/// files, texts of usage and of the ledger. What remains are numbers under a pseudonym; the same id is a
/// stranger then. 503 says that it has begun and goes on by itself.
#[utoipa::path(
    delete, path = "/api/v1/users/{user_id}", tag = "Users", operation_id = "delete_user", params(UserPath, DeleteQuery),
    security(("bearer" = []), ("service_key" = ["users:write"])),
    responses((status = 200, body = Envelope<DeletedUser>, description = "It is gone")),
)]
pub async fn delete_user(
    State(app): State<Arc<App>>,
    on: CanWriteUser,
    Query(query): Query<DeleteQuery>,
) -> Result<Response, ApiError> {
    if subscriptions::store::is_renewed_by_stripe(&app.db, on.user.row).await? {
        return Err(ApiError::conflict(
            "A plan that is paid through Stripe is in force; it must be cancelled first",
        ));
    }
    let own = on.caller.subject() == Some(&on.user.auth0_id);
    let user_id = on.user.auth0_id;
    let erased = query.erase.is_some_and(|erase| erase.0);
    if erased {
        crate::audit::note("erase", true);
        let by = if own { "self".to_owned() } else { on.caller.principal.caller() };
        erase::begin(&app, on.user.row, &by).await.map_err(|error| match error {
            WriteError::Refused(_) => ApiError::conflict(MERGING),
            other => other.into(),
        })?;
        erase::finish(&app, on.user.row).await.map_err(going_on)?;
    } else {
        if merge::is_under_way(&app, on.user.row).await? {
            return Err(ApiError::conflict(MERGING));
        }
        app.writer.execute(Command::Delete(Delete { auth0_id: user_id.clone() })).await?;
    }
    let message = format!("User {user_id} {} successfully", if erased { "erased" } else { "deleted" });
    let answer = DeletedUser { user_id, deleted: true, erased: erased.then_some(true) };
    Ok(json(&Envelope::new(message, app.clock.now(), answer)))
}

/// Export a user
///
/// Everything that is kept about the user as one ZIP archive: JSON Lines per kind (profile, identities,
/// transactions, grants, holds, usage, sessions, messages, memories, files, subscriptions, payments), the
/// files as they were uploaded, and `manifest.json` at the end. It is a stream: one that breaks off has no
/// end and cannot be opened. At most 4 are written at a time; 503 otherwise.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/export", tag = "Users", operation_id = "export_user", params(UserPath),
    security(("bearer" = []),
        ("service_key" = ["users:read", "usage:read", "credits:read", "sessions:read", "files:read"])),
    responses((status = 200, body = Vec<u8>, content_type = "application/zip", description = "The archive")),
)]
pub async fn export_user(State(app): State<Arc<App>>, on: CanExport) -> Result<Response, ApiError> {
    let turn = Arc::clone(&app.export_turns).try_acquire_owned();
    let turn = turn.map_err(|_| {
        ApiError::unavailable("Too many exports are under way; try again", "no turn for an export")
    })?;
    let name = format!("attachment; filename=\"user-{}.zip\"", on.user.row);
    let pieces = export::begin(app, on.user, turn);
    let pieces =
        futures_util::stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces)));
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(HeaderValue::from_str(&name).ok().map(|name| (CONTENT_DISPOSITION, name)));
    Ok(response)
}

/// Why a user can be neither deleted nor erased now.
const MERGING: &str = "The user is being merged with another one, or is suspended";

/// What is said of an erasure that broke off: the job finishes it.
fn going_on(error: WriteError) -> ApiError {
    ApiError::unavailable(
        "The erasure has begun and goes on by itself; something is not available now",
        error.to_string(),
    )
}

/// What the writer refused, with the user as the caller named it.
#[must_use]
pub fn refused(error: WriteError, user: &ExternalId) -> ApiError {
    match error {
        WriteError::Credits(Rejection::UnknownAccount) | WriteError::UsageUser(..) => {
            ApiError::user_not_found(user.as_str())
        }
        other => other.into(),
    }
}

/// Refuses a body that names another user than the path does.
///
/// # Errors
/// 400 that names the field.
pub fn same_user(
    auth0_id: &ExternalId,
    row: UserRowId,
    named: Option<&UserKey>,
    field: &str,
) -> Result<(), ApiError> {
    match named {
        Some(named) if !named.names(auth0_id, row) => {
            Err(ApiError::invalid(["body", field], "must be the user of the path"))
        }
        _ => Ok(()),
    }
}
