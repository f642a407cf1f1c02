//! The flat table of routes. Paths and methods stand at the handlers, beside their documentation.

use crate::app::App;
use crate::audit::{self, api as audit_log};
use crate::auth::{api as auth, user_token_api as user_tokens};
use crate::charges::{api as charges, batch as charge_batch, rerate};
use crate::config::CorsOrigins;
use crate::credits::verify::watch;
use crate::credits::{corrections, explain, grants_api as grants, holds_api as holds};
use crate::files::{api as files, direct, serve, upload};
use crate::http::harden::{by_https, harden};
use crate::http::{ApiError, around, compress, docs};
use crate::keys::api as keys;
use crate::limits::api as limits;
use crate::mcp::transport::Transport;
use crate::mcp::{self, Mcp};
use crate::payments::api as payments;
use crate::payments::top_up_api as top_up;
use crate::plans::api as plans;
use crate::prices::{api as prices, intake, quotes};
use crate::sessions::{api as sessions, memory, messages, search};
use crate::stripe::api as stripe;
use crate::subscriptions::api as subscriptions;
use crate::users::{directory, merge_api, suspend};
use crate::webhooks::{api as webhooks, deliveries_api as deliveries, types as event_types};
use crate::{
    credits::api as credits, live::api as live, ops, usage::api as usage, usage::batch, users::api as users,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::routing::any;
use axum::{Router, middleware};
use std::sync::Arc;
use std::time::Duration;
use tower::util::MapResponseLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Every route, and the document that describes them.
pub fn table() -> (Router<Arc<App>>, OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(docs::base())
        .routes(routes!(ops::get_root))
        .routes(routes!(ops::get_health))
        .routes(routes!(ops::get_live))
        .routes(routes!(ops::get_ready))
        .routes(routes!(ops::numbers::get_metrics))
        .routes(routes!(ops::noop))
        .routes(routes!(auth::create_dev_token))
        .routes(routes!(auth::get_auth_info))
        .routes(routes!(users::ensure_user))
        .routes(routes!(directory::list_users))
        .routes(routes!(users::get_me))
        .routes(routes!(users::get_user, users::update_user, users::delete_user))
        .routes(routes!(users::export_user))
        .routes(routes!(suspend::suspend_user))
        .routes(routes!(suspend::reactivate_user))
        .routes(routes!(merge_api::merge_users))
        .routes(routes!(usage::record_usage, usage::list_usage))
        .routes(routes!(usage::get_usage_stats))
        .routes(routes!(batch::record_usage_batch))
        .routes(routes!(credits::consume_credits))
        .routes(routes!(credits::recharge_credits))
        .routes(routes!(credits::refund_credits))
        .routes(routes!(grants::create_grant, grants::list_grants))
        .routes(routes!(credits::get_balance))
        .routes(routes!(credits::list_transactions))
        .routes(routes!(explain::explain_transaction))
        .routes(routes!(corrections::adjust_credits))
        .routes(routes!(corrections::void_grant))
        .routes(routes!(corrections::set_credit_limit))
        .routes(routes!(holds::create_hold, holds::list_holds))
        .routes(routes!(holds::get_hold))
        .routes(routes!(holds::tick_hold))
        .routes(routes!(holds::extend_hold))
        .routes(routes!(holds::capture_hold))
        .routes(routes!(holds::release_hold))
        .routes(routes!(limits::list_limits, limits::replace_limits))
        .routes(routes!(limits::check_limits))
        .routes(routes!(charges::create_charge))
        .routes(routes!(charge_batch::create_charges))
        .routes(routes!(rerate::rerate_usage))
        .routes(routes!(watch::verify_ledger, watch::get_ledger_verification))
        .routes(routes!(sessions::create_session, sessions::list_sessions))
        .routes(routes!(sessions::get_session, sessions::update_session, sessions::delete_session))
        .routes(routes!(sessions::set_session_status))
        .routes(routes!(sessions::set_session_summary))
        .routes(routes!(sessions::list_session_usage))
        .routes(routes!(messages::add_message, messages::list_messages))
        .routes(routes!(messages::add_messages))
        .routes(routes!(messages::update_message))
        .routes(routes!(memory::add_memory, memory::list_memories))
        .routes(routes!(memory::delete_memory))
        .routes(routes!(search::search_messages))
        .routes(routes!(live::watch_session))
        .routes(routes!(live::watch_user))
        .routes(routes!(upload::upload_file))
        .routes(routes!(files::list_files, files::delete_file))
        .routes(routes!(files::get_file_info))
        .routes(routes!(files::download_file))
        .routes(routes!(direct::create_upload_url))
        .routes(routes!(direct::complete_upload))
        .routes(routes!(plans::list_plans))
        .routes(routes!(plans::get_entitlements))
        .routes(routes!(plans::check_entitlement))
        .routes(routes!(subscriptions::create_subscription))
        .routes(routes!(subscriptions::get_current_subscription))
        .routes(routes!(subscriptions::cancel_current_subscription))
        .routes(routes!(subscriptions::get_subscription, subscriptions::set_subscription))
        .routes(routes!(subscriptions::cancel_subscription))
        .routes(routes!(subscriptions::resume_subscription))
        .routes(routes!(payments::list_packs))
        .routes(routes!(payments::create_payment_intent))
        .routes(routes!(payments::create_checkout))
        .routes(routes!(payments::create_portal))
        .routes(routes!(payments::list_payments))
        .routes(routes!(payments::refund_payment))
        .routes(routes!(top_up::get_auto_top_up, top_up::set_auto_top_up, top_up::delete_auto_top_up))
        .routes(routes!(event_types::list_event_types))
        .routes(routes!(stripe::take_stripe_event))
        .routes(routes!(stripe::list_stripe_events))
        .routes(routes!(stripe::replay_stripe_event))
        .routes(routes!(prices::list_prices))
        .routes(routes!(intake::import_prices))
        .routes(routes!(prices::get_price, prices::put_price))
        .routes(routes!(quotes::get_quote))
        .routes(routes!(user_tokens::create_user_token))
        .routes(routes!(keys::create_key, keys::list_keys))
        .routes(routes!(keys::get_key, keys::update_key, keys::revoke_key))
        .routes(routes!(keys::rotate_key))
        .routes(routes!(webhooks::create_webhook_endpoint, webhooks::list_webhook_endpoints))
        .routes(routes!(
            webhooks::get_webhook_endpoint,
            webhooks::update_webhook_endpoint,
            webhooks::delete_webhook_endpoint
        ))
        .routes(routes!(webhooks::rotate_webhook_secret))
        .routes(routes!(webhooks::enable_webhook_endpoint))
        .routes(routes!(webhooks::disable_webhook_endpoint))
        .routes(routes!(deliveries::test_webhook_endpoint))
        .routes(routes!(deliveries::list_webhook_deliveries))
        .routes(routes!(deliveries::get_webhook_delivery))
        .routes(routes!(deliveries::resend_webhook_delivery))
        .routes(routes!(deliveries::recover_webhook_deliveries))
        .routes(routes!(audit_log::list_audit_log))
        .routes(routes!(serve::get_local_file, serve::put_local_file))
        .split_for_parts();
    (router, docs::complete(document))
}

/// The whole service as a router: the table, the pages of documentation, and what is around them.
pub fn router(app: Arc<App>, routes: Router<Arc<App>>, document: &OpenApi) -> Router {
    let https = by_https(&app.config);
    let mcp = Transport::over(&Mcp::new(Arc::clone(&app), within(&app, routes.clone()), document));
    routes
        .merge(docs::pages(document))
        .route(mcp::ROUTE, any(move |request| mcp.clone().serve(request)))
        .fallback(|| async { ApiError::of_status(StatusCode::NOT_FOUND) })
        // The first is the outermost.
        .layer((
            compress::layer(),
            MapResponseLayer::new(move |response| harden(https, response)),
            cors(&app),
            middleware::from_fn_with_state(Arc::clone(&app), around::run),
            middleware::from_fn_with_state(Arc::clone(&app), audit::around::run),
        ))
        .with_state(app)
}

/// The routes for requests that are made within the service: with all that decides, and nothing that is about a
/// connection.
fn within(app: &Arc<App>, routes: Router<Arc<App>>) -> Router {
    routes
        .fallback(|| async { ApiError::of_status(StatusCode::NOT_FOUND) })
        .layer((
            middleware::from_fn_with_state(Arc::clone(app), around::run),
            middleware::from_fn_with_state(Arc::clone(app), audit::around::run),
        ))
        .with_state(Arc::clone(app))
}

fn cors(app: &App) -> CorsLayer {
    let named = |name: &'static str| HeaderName::from_static(name);
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(AllowHeaders::list([
            named("authorization"),
            named("content-type"),
            named("accept"),
            named("x-api-key"),
            named("x-request-id"),
            named("idempotency-key"),
            named("last-event-id"),
            named("traceparent"),
            named("mcp-protocol-version"),
            named("mcp-method"),
            named("mcp-name"),
        ]))
        .expose_headers([
            named("x-request-id"),
            named("idempotent-replayed"),
            named("retry-after"),
            named("ratelimit-policy"),
            named("ratelimit"),
            named("x-ratelimit-limit"),
            named("x-ratelimit-remaining"),
            named("x-ratelimit-reset"),
        ])
        .allow_credentials(app.config.cors_allow_credentials)
        .max_age(Duration::from_secs(600));
    match &app.config.cors_origins {
        CorsOrigins::Any => layer.allow_origin(AllowOrigin::any()),
        CorsOrigins::These(origins) => layer.allow_origin(AllowOrigin::list(
            origins.iter().filter_map(|origin| origin.parse::<HeaderValue>().ok()),
        )),
    }
}
