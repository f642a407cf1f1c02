//! Routes for those who run the service: what it is, how it feels, its numbers, and a request that
//! does nothing, which is the measure of all others.

pub mod numbers;
pub mod process;

use crate::app::App;
use crate::auth::grants::Caller;
use crate::http::{ApiError, Envelope, Input, json};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use kernel::{JsonObject, Timestamp};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use utoipa::ToSchema;

/// What answers here.
#[derive(Debug, Serialize, ToSchema)]
pub struct Root {
    /// The service's name, `APP_NAME`.
    #[schema(max_length = 100)]
    service: String,
    /// Always `operational`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// The binary's version, or `APP_VERSION`.
    #[schema(max_length = 100)]
    version: String,
    /// When the answer was made.
    timestamp: Timestamp,
}

/// Tell what answers here
#[utoipa::path(get, path = "/", tag = "Service", operation_id = "get_root", security(()),
    responses((status = 200, body = Root, description = "The service")))]
pub async fn get_root(State(app): State<Arc<App>>) -> Response {
    json(&Root {
        service: app.config.app_name.clone(),
        status: "operational",
        version: app.config.app_version.clone(),
        timestamp: app.clock.now(),
    })
}

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `healthy` or `unhealthy`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// When it was checked.
    timestamp: Timestamp,
    /// The service as older clients look for it.
    services: Services,
    /// `operational` or `degraded`.
    #[schema(max_length = 20)]
    uptime: &'static str,
    /// How long it has been running, in seconds.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    uptime_seconds: i64,
    /// What was checked.
    checks: Checks,
}

/// What was checked.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checks {
    /// `ok` or `down`.
    #[schema(max_length = 20)]
    database: &'static str,
    /// `sqlite` or `postgres`.
    #[schema(max_length = 20)]
    engine: &'static str,
    /// `ok`, `stale` while a provider's keys cannot be refreshed, or `unavailable` while its tokens cannot be
    /// checked, for its keys were never fetched.
    #[schema(max_length = 20)]
    token_keys: &'static str,
    /// `ok` or `down`.
    #[schema(max_length = 20)]
    object_store: &'static str,
    /// Where files are kept: `local` or `s3`.
    #[schema(max_length = 20)]
    file_store: &'static str,
    /// Where requests are counted: `off`, `memory`, `redis`, or `redis_down_local` while Redis does not answer.
    #[schema(max_length = 20)]
    rate_limiter: &'static str,
    /// How many changes wait to be written.
    #[schema(minimum = 0, maximum = 1_000_000)]
    waiting_writes: usize,
}

/// The service as older clients look for it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Services {
    /// `success` or `error`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// The parts.
    data: ServiceData,
}

/// The parts of the service.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceData {
    /// Always `UserServiceV2`.
    #[schema(max_length = 30)]
    service: &'static str,
    /// `operational` or `degraded`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// The binary's version, or `APP_VERSION`.
    #[schema(max_length = 100)]
    version: String,
    /// `active` or `down`.
    #[schema(max_length = 20)]
    repository: &'static str,
    /// What it can do.
    #[schema(max_items = 20, max_length = 50)]
    features: &'static [&'static str],
}

/// The literal list that clients of every version look for.
const FEATURES: &[&str] = &["user_management", "credit_management", "subscription_integration", "analytics"];

/// Check the service and what it stands on
///
/// 503 and `unhealthy` when the database or the object store does not answer.
#[utoipa::path(get, path = "/health", tag = "Service", operation_id = "get_health", security(()),
    responses(
        (status = 200, body = Health, description = "All is well"),
        (status = 503, body = Health, description = "The database or the object store does not answer")))]
pub async fn get_health(State(app): State<Arc<App>>) -> Response {
    let (database, files) = (app.db.ping().await.is_ok(), app.files.healthy().await);
    let up = database && files;
    let word = |good, bad| if up { good } else { bad };
    let now = app.clock.now();
    let mut response = json(&Health {
        status: word("healthy", "unhealthy"),
        timestamp: now,
        services: Services {
            status: word("success", "error"),
            data: ServiceData {
                service: "UserServiceV2",
                status: word("operational", "degraded"),
                version: app.config.app_version.clone(),
                repository: if database { "active" } else { "down" },
                features: FEATURES,
            },
        },
        uptime: word("operational", "degraded"),
        uptime_seconds: now.seconds() - app.started_at.seconds(),
        checks: Checks {
            database: if database { "ok" } else { "down" },
            engine: app.db.engine(),
            token_keys: app.auth.key_state().as_str(),
            object_store: if files { "ok" } else { "down" },
            file_store: app.files.objects.name(),
            rate_limiter: app.rate_limiter.state(),
            waiting_writes: app.writer.waiting(),
        },
    });
    if !up {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// A probe's answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Probe {
    /// `alive`, `ready`, `draining` or `unavailable`.
    #[schema(max_length = 20)]
    status: &'static str,
}

/// Tell that the process runs
#[utoipa::path(get, path = "/health/live", tag = "Service", operation_id = "get_live", security(()),
    responses((status = 200, body = Probe, description = "It runs")))]
pub async fn get_live() -> Response {
    json(&Probe { status: "alive" })
}

/// Tell whether requests should be sent here
///
/// 503 while the service stops or the database does not answer.
#[utoipa::path(get, path = "/health/ready", tag = "Service", operation_id = "get_ready", security(()),
    responses(
        (status = 200, body = Probe, description = "Send them"),
        (status = 503, body = Probe, description = "Send them elsewhere")))]
pub async fn get_ready(State(app): State<Arc<App>>) -> Response {
    let status = if app.draining.load(Ordering::Relaxed) {
        "draining"
    } else if app.db.ping().await.is_err() {
        "unavailable"
    } else {
        return json(&Probe { status: "ready" });
    };
    let mut response = json(&Probe { status });
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// Do nothing
///
/// Authenticates, reads the body, and answers: what every other request costs at least. For
/// measuring.
#[utoipa::path(post, path = "/api/v1/noop", tag = "Service", operation_id = "noop",
    security(("bearer" = []), ("service_key" = [])),
    request_body(content = JsonObject, example = json!({"anything": true})),
    responses((status = 200, body = Envelope<JsonObject>, description = "Nothing was done")))]
pub async fn noop(
    State(app): State<Arc<App>>,
    _caller: Caller,
    _input: Input<JsonObject>,
) -> Result<Response, ApiError> {
    Ok(json(&Envelope::new("Nothing was done", app.clock.now(), JsonObject::default())))
}
