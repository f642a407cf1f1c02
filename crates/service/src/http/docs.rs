//! The OpenAPI document and its pages, which need no network.
//!
//! Handlers describe what is their own. [`complete`] adds what is the same everywhere: the errors a
//! route can answer with, the headers it takes and gives, and how callers prove who they are.

use crate::app::App;
use crate::http::page::LIMIT_MAX;
use crate::http::{Invalid, examples};
use crate::rate_limits::{Class, headers as rate_headers};
use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use kernel::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, RefOr, Required, ResponseBuilder};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};

/// The body of every error.
#[derive(Serialize, ToSchema)]
pub struct Error {
    /// Always false.
    success: bool,
    /// Always `error`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// One sentence for people.
    #[schema(max_length = 20_000)]
    message: String,
    /// The kind of error, for programs.
    #[schema(max_length = 100)]
    error_code: &'static str,
    /// More for programs: the operation, the user, and what the kind of error has to say.
    #[schema(value_type = kernel::JsonObject)]
    error_details: Value,
    /// The message again, or, for invalid input, what is wrong field by field.
    detail: Detail,
    /// The request's id, as in `X-Request-ID` and in the log.
    #[schema(max_length = 128)]
    request_id: String,
    /// When.
    timestamp: Timestamp,
}

/// The message, or what is wrong field by field.
#[derive(Serialize)]
pub struct Detail;

impl PartialSchema for Detail {
    fn schema() -> RefOr<Schema> {
        let sentence = ObjectBuilder::new().schema_type(Type::String).max_length(Some(20_000));
        let fields = ArrayBuilder::new()
            .items(utoipa::openapi::Ref::from_schema_name("Invalid"))
            .min_items(Some(1))
            .max_items(Some(100));
        OneOfBuilder::new().item(sentence).item(fields).into()
    }
}

impl ToSchema for Detail {
    fn name() -> Cow<'static, str> {
        "Detail".into()
    }
}

/// An error as RFC 9457 has it, for `Accept: application/problem+json`.
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`.
    #[serde(rename = "type")]
    #[schema(max_length = 100)]
    kind: &'static str,
    /// What the status means.
    #[schema(max_length = 100)]
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// One sentence for people.
    #[schema(max_length = 20_000)]
    detail: String,
    /// The path that was asked for.
    #[schema(max_length = 20_000)]
    instance: String,
    /// The kind of error, for programs.
    #[schema(max_length = 100)]
    error_code: &'static str,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "User Service",
        description = "Everything an AI product must know of its users: who they are, what they used, and what \
            they may still spend. Credits are exact to 6 decimal places, US dollars to 9; instants are RFC 3339 in \
            UTC with microseconds.",
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "Users", description = "Who they are."),
        (name = "Usage", description = "What they used; recording deducts nothing."),
        (name = "Credits", description = "What they may still spend: a prepaid ledger that is never overdrawn."),
        (name = "Charges", description = "Usage, its price and its payment in one transaction."),
        (name = "Holds", description = "Credits set aside for work whose cost is known only when it is done."),
        (name = "Limits", description = "How much may be spent in which window of time."),
        (name = "Subscriptions", description = "Which plan they have, and what it lets them do."),
        (name = "Payments", description = "What they pay for, through Stripe, and what it tells."),
        (name = "Admin", description = "What operators ask."),
        (name = "Prices", description = "What models cost, in dollars and in credits, from when on, and why."),
        (name = "Sessions", description = "What they said, and what is remembered of it."),
        (name = "Files", description = "What they uploaded."),
        (name = "Auth", description = "Tokens for development, and which providers are accepted."),
        (name = "Admin", description = "Service keys, and the log of what was done with them and by admins."),
        (name = "Webhooks", description = "Who is told of what happens, and what became of telling it."),
        (name = "Service", description = "Health, numbers, and a request that does nothing."),
    ),
    components(schemas(Error, Problem, Invalid)),
)]
struct Base;

/// The document before any route is in it.
#[must_use]
pub fn base() -> OpenApi {
    let mut document = Base::openapi();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .bearer_format("JWT")
                .description(Some("A token of Supabase or Auth0; a service key (`usk_…`) is taken here too."))
                .build(),
        ),
    );
    components.add_security_scheme(
        "service_key",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            "X-API-Key",
            "A service key. The scopes that it needs stand with each operation.",
        ))),
    );
    document
}

/// The document with what is the same for every route.
#[must_use]
pub fn complete(mut document: OpenApi) -> OpenApi {
    // A path that takes any number of steps has a name of its own in the router's language.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    for item in document.paths.paths.values_mut() {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::PUT, &mut item.put),
            (Method::PATCH, &mut item.patch),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                complete_operation(&method, operation);
            }
        }
    }
    for schema in document.components.iter_mut().flat_map(|components| components.schemas.values_mut()) {
        bound_list(schema);
    }
    document
}

/// Every list comes in pages, so the rows of an envelope are at most a page.
fn bound_list(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::Object(envelope)) = schema else { return };
    if let Some(RefOr::T(Schema::Array(rows))) = envelope.properties.get_mut("data") {
        rows.max_items.get_or_insert(LIMIT_MAX as usize);
    }
}

/// What spends or sets aside credits, or is denied by a spending limit.
const PAID: [&str; 5] = ["consume_credits", "create_charge", "create_charges", "create_hold", "tick_hold"];

fn complete_operation(method: &Method, operation: &mut Operation) {
    let public = is_public(operation);
    let has_body = operation.request_body.is_some();
    let name = operation.operation_id.clone().unwrap_or_default();
    let switchable = matches!(name.as_str(), "create_dev_token" | "get_metrics");
    let limited = Class::of(method, &name, public) != Class::Exempt;
    let paid = PAID.contains(&name.as_str());
    let watched = matches!(name.as_str(), "watch_session" | "watch_user");
    let bought = matches!(name.as_str(), "create_payment_intent" | "create_checkout" | "create_subscription");
    let parameters = operation.parameters.get_or_insert_default();
    let takes_something = has_body || !parameters.is_empty();
    let in_path = parameters
        .iter()
        .any(|parameter| matches!(parameter, RefOr::T(p) if p.parameter_in == ParameterIn::Path));
    let keyed = (*method == Method::POST || *method == Method::PATCH || *method == Method::PUT)
        && !matches!(
            name.as_str(),
            "noop"
                | "create_dev_token"
                | "create_user_token"
                | "create_key"
                | "rotate_key"
                | "update_key"
                | "create_webhook_endpoint"
                | "update_webhook_endpoint"
                | "rotate_webhook_secret"
                | "enable_webhook_endpoint"
                | "disable_webhook_endpoint"
                | "put_local_file"
                | "get_quote"
                | "check_limits"
                | "check_entitlement"
                | "verify_ledger"
                | "create_portal"
                | "take_stripe_event"
                | "replay_stripe_event"
        );
    parameters.push(
        header_parameter("X-Request-ID", "Taken where it is 1 to 128 of `A-Z a-z 0-9 . _ : / + = -` and no key or token, echoed, logged and put in errors; made otherwise.", 128)
            .into(),
    );
    if keyed {
        let about = "1 to 255 printable ASCII characters. The same key with the same request answers what the first did, \
                     byte for byte, with `Idempotent-Replayed: true`; with another request it is 422. Kept 30 days. A \
                     failed request does not use the key up. `idempotency_key` in the body does the same.";
        parameters.push(header_parameter("Idempotency-Key", about, 255).into());
    }
    let possible = [
        (
            400,
            takes_something,
            "The input breaks a rule, which `detail` names field by field; on consume, and on adjust below zero, also: not enough credits.",
        ),
        (401, !public, "No token, or one that is not accepted."),
        (
            402,
            paid,
            "Not enough credits (`required`, `available`, `retryable`, `top_up_url`), or a spending limit denies it.",
        ),
        (403, !public, "Not the caller's to do."),
        (404, in_path || !public, "There is no such user, transaction, price or subscription."),
        (404, switchable, "The route is switched off by the settings."),
        (408, true, "The request took longer than `REQUEST_TIMEOUT_SECONDS`."),
        (
            409,
            keyed || matches!(name.as_str(), "delete_user" | "replay_stripe_event" | "update_key"),
            "It conflicts with what is there.",
        ),
        (413, has_body, "The body is larger than 1 MiB, a batch larger than 16 MiB."),
        (414, true, "The address is longer than 8 KiB."),
        (415, has_body, "The body is not JSON."),
        (422, keyed, "The idempotency key was used before with a different request."),
        (402, bought, "The card was declined; `error_details.code` says why in Stripe's words."),
        (
            429,
            bought,
            "The user has 100 payments open that began within a day, or sent too many requests (`Retry-After`).",
        ),
        (
            429,
            watched,
            "The user has 20 event streams open, or sent too many requests; `Retry-After` says when to try again.",
        ),
        (429, limited, "Too many requests; `Retry-After` says when to try again."),
        (431, true, "The header is larger than 16 KiB."),
        (500, true, "A bug; the body says nothing of the inside."),
        (
            503,
            true,
            "The database is down, too much is waiting, or too many requests are under way; `Retry-After` says when to try again.",
        ),
    ];
    let responses = &mut operation.responses.responses;
    for (status, applies, about) in possible {
        if applies {
            responses.entry(status.to_string()).or_insert_with(|| error_response(about).into());
        }
    }
    if let (Some(RefOr::T(response)), Some(example)) = (responses.get_mut("200"), examples::answer(&name))
        && let Some(RefOr::T(content)) = response.content.get_mut("application/json")
    {
        content.example.get_or_insert(example);
    }
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        let mut header = |name: &str, about: &str| {
            let schema =
                Schema::Object(ObjectBuilder::new().schema_type(Type::String).max_length(Some(1000)).build());
            let header = HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build();
            response.headers.insert(name.to_owned(), header.into());
        };
        header("X-Request-ID", "The request's id.");
        header(
            "traceparent",
            "While traces are on: the request's own span, in the caller's trace where it has one.",
        );
        match status.as_str() {
            "200" if keyed => {
                header("Idempotent-Replayed", "`true` when this is the answer to an earlier request.")
            }
            "302" => header("Location", "The address."),
            "401" => header("WWW-Authenticate", "`Bearer …`"),
            "429" | "503" => header("Retry-After", "Seconds until trying again makes sense."),
            _ => {}
        }
        if limited && (status.starts_with('2') || status == "429") {
            rate_headers::ALL.iter().for_each(|(name, about)| header(name, about));
        }
    }
    operation.extensions.get_or_insert_with(Extensions::default);
}

/// Whether nobody need prove who it is.
pub(super) fn is_public(operation: &Operation) -> bool {
    operation.security.as_ref().is_none_or(|all| all.iter().all(|one| *one == Default::default()))
}

fn header_parameter(name: &str, about: &str, max: usize) -> utoipa::openapi::path::Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(max))
        .pattern(Some("^[!-~]+$"));
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

fn error_response(about: &str) -> utoipa::openapi::Response {
    let content =
        |name| ContentBuilder::new().schema(Some(utoipa::openapi::Ref::from_schema_name(name))).build();
    ResponseBuilder::new()
        .description(about)
        .content("application/json", content("Error"))
        .content("application/problem+json", content("Problem"))
        .build()
}

/// Whether a route is one of [`pages`].
pub(super) fn is_page(route: &str) -> bool {
    route == "/openapi.json" || ["/docs", "/redoc"].iter().any(|page| route.starts_with(page))
}

/// Redoc's own bundle, so that the page needs no network (MIT, see `assets/README.md`).
const REDOC: &[u8] = include_bytes!("../../assets/redoc.standalone.js");
const REDOC_PAGE: &str = include_str!("../../assets/redoc.html");
const REDOC_START: &str = include_str!("../../assets/redoc-start.js");
/// Everything comes from here; the pages bring their styles inline, and Redoc searches in a worker.
const PAGE_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
    worker-src 'self' blob:; script-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";

/// `/openapi.json`, `/docs` (Swagger UI) and `/redoc`.
pub fn pages(document: &OpenApi) -> Router<Arc<App>> {
    let text: Arc<str> = document.to_json().unwrap_or_default().into();
    let config = utoipa_swagger_ui::Config::new(["/openapi.json"]).try_it_out_enabled(true);
    let swagger: Router<Arc<App>> = utoipa_swagger_ui::SwaggerUi::new("/docs").config(config).into();
    Router::new()
        .merge(swagger)
        .route("/redoc", get(|| async { of_type("text/html; charset=utf-8", REDOC_PAGE) }))
        .route("/redoc/start.js", get(|| async { of_type("text/javascript; charset=utf-8", REDOC_START) }))
        .route(
            "/redoc/redoc.standalone.js",
            get(|| async { of_type("text/javascript; charset=utf-8", REDOC) }),
        )
        .layer(axum::middleware::map_response(with_policy))
        .route("/openapi.json", get(move || async move { of_type("application/json", text.to_string()) }))
}

async fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert("cache-control", HeaderValue::from_static("max-age=3600"));
    response
}

fn of_type(kind: &'static str, body: impl axum::response::IntoResponse) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}
