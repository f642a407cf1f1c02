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
    let supabase = app.config.supabase.as_ref();
    let secret = supabase.and_then(|supabase| supabase.jwt_secret.as_ref()).ok_or_else(no_route)?;
    let DevTokenRequest { user_id, email } = input?.value;
    let now = app.clock.now();
    let token = dev_token::mint(secret, &user_id, email.as_ref(), now);
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
    /// Which are switched on: by `AUTH_PROVIDER`, and the names of `OIDC_ISSUERS`.
    #[schema(max_items = 30, max_length = 255)]
    available_providers: Vec<String>,
    /// The setting `AUTH_PROVIDER`.
    #[schema(max_length = 20)]
    default_provider: &'static str,
    /// Whether Auth0 is switched on.
    auth0_enabled: bool,
    /// Whether Supabase is switched on.
    supabase_enabled: bool,
    /// Which of them have what they need to check tokens.
    #[schema(max_items = 30, max_length = 255)]
    configured_providers: Vec<String>,
    /// What a token's `iss` may be, and how its signature is checked.
    #[schema(max_items = 60)]
    issuers: Vec<AcceptedIssuer>,
}

/// An issuer whose tokens are accepted.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedIssuer {
    /// The provider's name here.
    #[schema(max_length = 255)]
    provider: String,
    /// What a token's `iss` must be, to the letter.
    #[schema(max_length = 2000)]
    issuer: String,
    /// `published` for keys that the issuer publishes, `secret` for the shared secret (HS256).
    #[schema(max_length = 20)]
    keys: &'static str,
}

/// Tell which identity providers are accepted
///
/// `AUTH_PROVIDER` and `OIDC_ISSUERS` switch them on; `configured_providers` lists those that have their settings,
/// `issuers` whose tokens they are.
#[utoipa::path(
    get, path = "/auth/info", tag = "Auth", operation_id = "get_auth_info", security(()),
    responses((status = 200, body = AuthInfo, description = "The providers", example = json!({
        "status": "multi-provider", "info": {"available_providers": ["auth0", "supabase"], "default_provider": "both",
        "auth0_enabled": true, "supabase_enabled": true, "configured_providers": ["supabase"],
        "issuers": [{"provider": "supabase", "issuer": "supabase", "keys": "secret"}]},
        "timestamp": "2025-07-27T00:11:26.479685Z"}))),
)]
pub async fn get_auth_info(State(app): State<Arc<App>>) -> Response {
    let (config, chosen) = (&app.config, app.config.auth_provider);
    let named = |auth0: bool, supabase: bool| -> Vec<String> {
        let fixed = [(auth0, "auth0"), (supabase, "supabase")].into_iter();
        let fixed = fixed.filter(|(on, _)| *on).map(|(_, name)| name.to_owned());
        fixed.chain(config.oidc.iter().map(|issuer| issuer.terms.name.clone())).collect()
    };
    let issuers = app.auth.issuers().map(|(provider, issuer, published)| AcceptedIssuer {
        provider: provider.to_owned(),
        issuer: issuer.to_owned(),
        keys: if published { "published" } else { "secret" },
    });
    json(&AuthInfo {
        status: "multi-provider",
        info: Providers {
            available_providers: named(chosen.uses_auth0(), chosen.uses_supabase()),
            default_provider: chosen.as_str(),
            auth0_enabled: chosen.uses_auth0(),
            supabase_enabled: chosen.uses_supabase(),
            configured_providers: named(config.auth0.is_some(), config.supabase.is_some()),
            issuers: issuers.collect(),
        },
        timestamp: app.clock.now(),
    })
}
