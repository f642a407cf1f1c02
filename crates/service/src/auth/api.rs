//! Routes of authentication: development tokens, and what is configured.

use crate::app::App;
use crate::auth::dev_token;
use crate::config::Environment;
use crate::http::{ApiError, Input, json};
use axum::extract::State;
use axum::response::Response;
use kernel::{Email, ExternalId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// For whom a development token is.
#[derive(Debug, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DevTokenRequest {
    /// Who the token says it is.
    #[param(pattern = "^[A-Za-z0-9._@+:|-]{1,255}$", min_length = 1, max_length = 255, value_type = String)]
    user_id: ExternalId,
    /// The address that it carries.
    #[param(min_length = 3, max_length = 254, value_type = Option<String>)]
    email: Option<Email>,
}

/// A token for development.
#[derive(Debug, Serialize, ToSchema)]
pub struct DevToken {
    /// The token.
    #[schema(max_length = 8192)]
    token: String,
    /// The same token, as OAuth clients look for it.
    #[schema(max_length = 8192)]
    access_token: String,
    /// Always `bearer`.
    #[schema(max_length = 10)]
    token_type: &'static str,
    /// Who it says it is.
    user_id: ExternalId,
    /// The address that it carries.
    email: Option<Email>,
    /// How long it is valid, in seconds.
    #[schema(minimum = 1, maximum = 86400)]
    expires_in: i64,
    /// Whose tokens it looks like.
    #[schema(max_length = 20)]
    provider: &'static str,
    /// When it was made.
    timestamp: Timestamp,
}

/// Make a development token
///
/// Only with `ENVIRONMENT=development`; elsewhere the route does not exist. The fields come as a
/// query or as JSON. The token is HS256, signed with the Supabase secret, valid for an hour.
#[utoipa::path(
    post, path = "/auth/dev-token", tag = "Auth", operation_id = "create_dev_token", security(()),
    params(
        ("user_id" = Option<String>, Query, description = "Who the token says it is.", min_length = 1,
         max_length = 255, pattern = "^[A-Za-z0-9._@+:|-]{1,255}$", example = "auth0|test123"),
        ("email" = Option<String>, Query, description = "The address that it carries.", min_length = 3,
         max_length = 254, example = "test@test.com"),
    ),
    request_body(content = Option<DevTokenRequest>, example = json!({"user_id": "auth0|test123", "email": "test@test.com"})),
    responses((status = 200, body = DevToken, description = "The token",
        links(("ensure" = (operation_id = "ensure_user", description = "Make the user with this token."))),
        example = json!({
        "token": "eyJ0eXAi…", "access_token": "eyJ0eXAi…", "token_type": "bearer", "user_id": "auth0|test123",
        "email": "test@test.com", "expires_in": 3600, "provider": "supabase", "timestamp": "2025-07-27T00:11:26.479685Z"}))),
)]
pub async fn create_dev_token(
    State(app): State<Arc<App>>,
    input: Result<Input<DevTokenRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let no_route = || ApiError::of_status(axum::http::StatusCode::NOT_FOUND);
    if app.config.environment != Environment::Development {
        return Err(no_route());
    }
    let supabase = app.config.supabase.as_ref().ok_or_else(no_route)?;
    let DevTokenRequest { user_id, email } = input?.value;
    let now = app.clock.now();
    let token = dev_token::mint(&supabase.jwt_secret, &user_id, email.as_ref(), now);
    Ok(json(&DevToken {
        access_token: token.clone(),
        token,
        token_type: "bearer",
        user_id,
        email,
        expires_in: dev_token::LIFETIME_S,
        provider: "supabase",
        timestamp: now,
    }))
}

/// What is configured.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuthInfo {
    /// Always `multi-provider`.
    #[schema(max_length = 30)]
    status: &'static str,
    /// The providers.
    info: Providers,
    /// When the answer was made.
    timestamp: Timestamp,
}

/// The identity providers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Providers {
    /// Which are switched on.
    #[schema(max_items = 10, max_length = 20)]
    available_providers: Vec<&'static str>,
    /// The setting `AUTH_PROVIDER`.
    #[schema(max_length = 20)]
    default_provider: &'static str,
    /// Whether Auth0 is switched on.
    auth0_enabled: bool,
    /// Whether Supabase is switched on.
    supabase_enabled: bool,
    /// Which of them have what they need to check tokens.
    #[schema(max_items = 10, max_length = 20)]
    configured_providers: Vec<&'static str>,
}

/// Tell which identity providers are accepted
///
/// `AUTH_PROVIDER` switches them on; `configured_providers` lists those that have their settings.
#[utoipa::path(
    get, path = "/auth/info", tag = "Auth", operation_id = "get_auth_info", security(()),
    responses((status = 200, body = AuthInfo, description = "The providers", example = json!({
        "status": "multi-provider", "info": {"available_providers": ["auth0", "supabase"], "default_provider": "both",
        "auth0_enabled": true, "supabase_enabled": true, "configured_providers": ["supabase"]},
        "timestamp": "2025-07-27T00:11:26.479685Z"}))),
)]
pub async fn get_auth_info(State(app): State<Arc<App>>) -> Response {
    let chosen = app.config.auth_provider;
    let named = |auth0: bool, supabase: bool| {
        [(auth0, "auth0"), (supabase, "supabase")]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| name)
            .collect()
    };
    json(&AuthInfo {
        status: "multi-provider",
        info: Providers {
            available_providers: named(chosen.uses_auth0(), chosen.uses_supabase()),
            default_provider: chosen.as_str(),
            auth0_enabled: chosen.uses_auth0(),
            supabase_enabled: chosen.uses_supabase(),
            configured_providers: named(app.config.auth0.is_some(), app.config.supabase.is_some()),
        },
        timestamp: app.clock.now(),
    })
}
