//! `/metrics`: what was counted, and what is looked up when somebody asks.
//!
//! A look takes microseconds and waits for nothing but the database's and the store's answer, for a second at
//! most: a monitor must get its page above all when something is wrong.

use super::process;
use crate::app::App;
use crate::auth::KeyState;
use crate::http::ApiError;
use crate::measure;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long what the service stands on may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(1);

/// Read the numbers
///
/// Prometheus text. 404 with `METRICS_ENABLED=false`.
#[utoipa::path(get, path = "/metrics", tag = "Service", operation_id = "get_metrics", security(()),
    responses((status = 200, content_type = "text/plain", body = String, description = "The numbers")))]
pub async fn get_metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let metrics = app.metrics.as_ref().ok_or_else(|| ApiError::of_status(StatusCode::NOT_FOUND))?;
    look(&app).await;
    let mut page = metrics.render();
    process::write(&mut page);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(CONTENT_TYPE, kind)], page).into_response())
}

/// Looks up what is not counted as it happens.
async fn look(app: &App) {
    measure::traffic();
    measure::queue(app.writer.waiting(), app.writer.waiting_max());
    measure::build(env!("CARGO_PKG_VERSION"), app.db.engine());
    measure::rate_limit_keys(app.rate_limiter.keys());
    app.db.observe();
    if let Some(stripe) = &app.stripe {
        measure::stripe_breaker(stripe.is_cut_off());
    }
    let runtime = tokio::runtime::Handle::current().metrics();
    measure::runtime(runtime.num_workers(), runtime.num_alive_tasks(), runtime.global_queue_depth());
    let (database, files) =
        tokio::join!(timeout(PATIENCE, app.db.ping()), timeout(PATIENCE, app.files.healthy()));
    measure::dependency("database", matches!(database, Ok(Ok(()))));
    measure::dependency("object_store", files == Ok(true));
    measure::dependency("token_keys", app.auth.key_state() != KeyState::Unavailable);
    app.auth.measure();
}
