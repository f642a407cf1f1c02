//! The route by which back ends have tokens issued for their users.

use super::user_token::{LIFETIME_MAX_S, LIFETIME_S};
use super::{Principal, Scope, Scopes};
use crate::app::App;
use crate::auth::grants::{Caller, TokenIssuer};
use crate::http::many::Many;
use crate::http::{ApiError, Input, json};
use crate::keys::request::scopes;
use crate::users::store;
use crate::{audit, measure};
use axum::extract::State;
use axum::response::Response;
use kernel::{Count, ExternalId, Text, Timestamp, UserKey};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// For whom a token is, and what it is good for.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UserTokenRequest {
    /// The user.
    #[schema(value_type = UserKey)]
    user_id: Option<UserKey>,
    /// What it is good for, on that user alone: none that the key itself lacks, and neither `admin` nor `tokens:issue`.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 32, max_length = 50)]
    scopes: Many<Text<1, 50>, 32>,
    /// How long it lives, in seconds: 1 to 3600; 300 when absent.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 3600)]
    expires_in: Option<Count>,
}

/// A token for a user.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserToken {
    /// Always true.
    success: bool,
    /// The token, to be sent as `Authorization: Bearer …`.
    #[schema(max_length = 8192)]
    token: String,
    /// The same token, as OAuth clients look for it.
    #[schema(max_length = 8192)]
    access_token: String,
    /// Always `bearer`.
    #[schema(max_length = 10)]
    token_type: &'static str,
    /// The user.
    user_id: ExternalId,
    /// What it is good for.
    #[schema(max_items = 32, max_length = 50)]
    scopes: Vec<&'static str>,
    /// How long it lives, in seconds.
    #[schema(minimum = 1, maximum = 3600)]
    expires_in: u32,
    /// When it ends.
    expires_at: Timestamp,
    /// When it was issued.
    timestamp: Timestamp,
}

/// Issue a token for a user
///
/// Short-lived, for one user and a few scopes, so that a browser can ask for its own balance without a back end in between. It does
/// what a user may do to itself, as far as its scopes reach: routes that no scope is named for refuse it. It ends
/// with its time, with the user, and when the key that had it issued is revoked. 404 for an unknown user.
#[utoipa::path(
    post, path = "/auth/user-tokens", tag = "Auth", operation_id = "create_user_token",
    security(("bearer" = []), ("service_key" = ["tokens:issue"])),
    request_body(content = UserTokenRequest, example = json!({"user_id": "auth0|test123", "scopes": ["credits:read"], "expires_in": 300})),
    responses((status = 200, body = UserToken, description = "The token", links(
            ("balance" = (operation_id = "get_balance", parameters(("user_id" = "$response.body#/user_id")))),
        ), example = json!({
            "success": true, "token": "eyJ0eXAi…", "access_token": "eyJ0eXAi…", "token_type": "bearer", "user_id": "auth0|test123",
            "scopes": ["credits:read"], "expires_in": 300, "expires_at": "2025-07-27T00:16:26.000000Z",
            "timestamp": "2025-07-27T00:11:26.479685Z"})),
        (status = 404, body = crate::http::docs::Error, description = "There is no such user.")),
)]
pub async fn create_user_token(
    State(app): State<Arc<App>>,
    TokenIssuer { caller }: TokenIssuer,
    Input { value, .. }: Input<UserTokenRequest>,
) -> Result<Response, ApiError> {
    let scopes = granted(&caller, scopes(&value.scopes)?)?;
    let lifetime = value.expires_in.map_or(LIFETIME_S, Count::get);
    if !(1..=LIFETIME_MAX_S).contains(&lifetime) {
        return Err(ApiError::invalid(
            ["body", "expires_in"],
            format!("must be 1 to {LIFETIME_MAX_S} seconds"),
        ));
    }
    let named = value.user_id.ok_or_else(|| ApiError::missing(["body", "user_id"]))?;
    let found = store::find_key(&app, &named, false).await?;
    let user = found.ok_or_else(|| ApiError::user_not_found(named.as_external().as_str()))?;
    audit::target(|| format!("user:{}", user.row.0));
    audit::note("scopes", scopes.to_string());
    audit::note("expires_in", lifetime);
    let by = match &caller.principal {
        Principal::Service(service) => format!("key:{}", service.key_id),
        Principal::User(_) => "admin".to_owned(),
    };
    let tokens = app.auth.user_tokens().ok_or_else(|| ApiError::internal("no tokens are issued"))?;
    let token = tokens.issue(&user.auth0_id, scopes, by, lifetime).await?;
    measure::user_token_issued();
    let now = app.clock.now();
    let end = Timestamp::from_micros(now.seconds().saturating_mul(1_000_000));
    Ok(json(&UserToken {
        success: true,
        access_token: token.clone(),
        token,
        token_type: "bearer",
        user_id: user.auth0_id,
        scopes: scopes.iter().map(Scope::as_str).collect(),
        expires_in: lifetime,
        expires_at: end.plus(Duration::from_secs(u64::from(lifetime))),
        timestamp: now,
    }))
}

/// The scopes, unless they are more than the caller has, or than a user's token can have.
fn granted(caller: &Caller, asked: Scopes) -> Result<Scopes, ApiError> {
    for scope in [Scope::Admin, Scope::TokensIssue] {
        if asked.contains(scope) {
            return Err(ApiError::invalid(["body", "scopes"], format!("must not contain {scope}")));
        }
    }
    match &caller.principal {
        Principal::Service(service) if !service.scopes.covers(asked) => {
            Err(ApiError::forbidden("A key gives no scope that it does not have itself"))
        }
        _ => Ok(asked),
    }
}
