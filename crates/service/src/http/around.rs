//! What happens around every request, in one place.
//!
//! Request id → limits of the header → a place among the requests under way → the limits of rates → the
//! route, within the time limit and with panics caught → the error body where there is an error → common
//! headers → one log line and the metrics.

use crate::app::App;
use crate::http::client_ip::Peer;
use crate::http::{ApiError, RequestFacts, Within};
use crate::rate_limits::Class;
use crate::telemetry::traces::RequestSpan;
use crate::{measure, rate_limits};
use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::Either;
use serde_json::{Map, Value, json};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The most bytes that all header names and values of a request may have.
pub const HEADER_MAX_BYTES: usize = 16 * 1024;

/// The longest address of a request, in bytes.
pub const URI_MAX_BYTES: usize = 8 * 1024;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What stands for the route of a request that has none.
const NO_ROUTE: &str = "(none)";

/// Stands in the extensions of an answer that says itself what is wrong; its body is left as it is.
#[derive(Debug, Clone, Copy)]
pub struct OwnWords;

/// What is kept of a request for its error body and its log line.
struct Asked {
    method: Method,
    path: String,
    route: Option<MatchedPath>,
    wants_problem: bool,
    facts: Arc<RequestFacts>,
    /// The trace's id, where the request belongs to one.
    trace_id: Option<String>,
    error_code: OnceLock<&'static str>,
}

/// Runs a request.
pub async fn run(State(app): State<Arc<App>>, mut request: Request<Body>, next: Next) -> Response {
    let started = Instant::now();
    let _in_flight = measure::asked(request.body().size_hint().exact().unwrap_or(0));
    let peer = request.extensions().get::<Peer>().copied();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let template = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let class = app.operations.class(request.method(), template);
    let within = request.extensions_mut().remove::<Within>();
    let facts = match &within {
        Some(within) => RequestFacts::within(within, class),
        None => RequestFacts::of(request.headers(), peer, &app.config.trusted_proxies, class),
    };
    let span = app
        .traces
        .as_ref()
        .map(|traces| traces.begin(measure::verb(request.method()), template, facts.parent.as_ref()));
    let asked = Asked {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        route,
        wants_problem: wants_problem(request.headers()),
        trace_id: span
            .as_ref()
            .map(RequestSpan::trace_id)
            .or_else(|| Some(facts.parent.as_ref()?.trace_id())),
        error_code: OnceLock::new(),
        facts: Arc::clone(&facts),
    };
    request.extensions_mut().insert(facts);

    let sizes = (uri_bytes(&request), header_bytes(&request));
    // Held until the answer begins, so that an event stream takes no place for as long as it lives.
    // What is asked for another request has that one's.
    let place = if within.is_none() { app.request_room.try_acquire().ok() } else { None };
    let admitted = place.is_some() || within.is_some();
    let mut response = if let Err(refusal) = admit(&app, sizes, &asked, admitted).await {
        error_response(&app, &asked, refusal)
    } else {
        let route = match &span {
            Some(span) => Either::Left(span.trace().scope(next.run(request))),
            None => Either::Right(next.run(request)),
        };
        let route = AssertUnwindSafe(route).catch_unwind();
        match tokio::time::timeout(time_limit(&app, &asked), route).await {
            Ok(Ok(response)) => with_error_body(&app, &asked, response),
            Ok(Err(_)) => error_response(&app, &asked, ApiError::internal("the handler panicked")),
            Err(_) => error_response(&app, &asked, ApiError::of_status(StatusCode::REQUEST_TIMEOUT)),
        }
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        app.rate_limiter.failed(&asked.facts).await;
    }
    let headers = response.headers_mut();
    if let Some(decision) = asked.facts.rate.get() {
        rate_limits::headers::write(headers, decision, app.clock.now());
        if let Some(within) = &within {
            let _ = within.outer.rate.set(*decision);
        }
    }
    if let Ok(id) = HeaderValue::from_str(&asked.facts.id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.entry("cache-control").or_insert(HeaderValue::from_static("no-store"));

    let took = started.elapsed();
    let route = asked.route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let status = response.status().as_u16();
    let bytes = response.body().size_hint().exact().unwrap_or(0);
    measure::request(&asked.method, route, status, bytes, took);
    tracing::info!(
        target: "user_service::request",
        request_id = %asked.facts.id,
        method = %asked.method,
        route,
        status,
        ms = took.as_micros() as f64 / 1000.0,
        principal = asked.facts.principal(),
        error_code = asked.error_code.get(),
        trace_id = asked.trace_id,
        "request"
    );
    if let Some(span) = span {
        if let Ok(name) = HeaderValue::from_str(&span.traceparent()) {
            response.headers_mut().insert(TRACEPARENT, name);
        }
        span.end(status, asked.facts.principal(), asked.error_code.get().copied());
    }
    response
}

/// What is refused before anybody looks at what it asks for.
async fn admit(app: &App, (uri, header): (usize, usize), asked: &Asked, place: bool) -> Result<(), ApiError> {
    if uri > URI_MAX_BYTES {
        return Err(ApiError::of_status(StatusCode::URI_TOO_LONG));
    }
    if header > HEADER_MAX_BYTES {
        return Err(ApiError::of_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    if !place && asked.facts.class != Class::Exempt {
        measure::request_shed();
        let inside = "MAX_CONCURRENT_REQUESTS are under way";
        return Err(ApiError::unavailable("The service is busy; try again", inside));
    }
    app.rate_limiter.before(&asked.facts).await
}

/// How long a request may take: what carries a file has longer.
fn time_limit(app: &App, asked: &Asked) -> Duration {
    let uploads =
        [(Method::POST, "/api/v1/users/{user_id}/files/upload"), (Method::PUT, "/files/{*file_path}")];
    let route = asked.route.as_ref().map_or("", MatchedPath::as_str);
    if uploads.iter().any(|(method, path)| asked.method == *method && route == *path) {
        app.config.upload_timeout
    } else {
        app.config.request_timeout
    }
}

/// The size of the request line's address and the headers.
fn header_bytes(request: &Request<Body>) -> usize {
    let headers = request.headers().iter();
    uri_bytes(request) + headers.map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>()
}

fn uri_bytes(request: &Request<Body>) -> usize {
    request.uri().path_and_query().map_or(0, |address| address.as_str().len())
}

fn wants_problem(headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accepts.is_some_and(|accept| accept.to_ascii_lowercase().contains("application/problem+json"))
}

/// Writes the body of an error that a route answered with, or of one that the router made itself.
fn with_error_body(app: &App, asked: &Asked, mut response: Response) -> Response {
    let status = response.status();
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if response.extensions().get::<OwnWords>().is_some() => return response,
        // Health says itself what is wrong.
        None if !status.is_client_error() => return response,
        None => ApiError::of_status(status),
    };
    let mut written = error_response(app, asked, error);
    // A 405 keeps its `Allow`.
    for (name, value) in response.headers() {
        if *name != "content-length" && *name != CONTENT_TYPE {
            written.headers_mut().entry(name).or_insert(value.clone());
        }
    }
    written
}

fn error_response(app: &App, asked: &Asked, error: ApiError) -> Response {
    let _ = asked.error_code.set(error.code);
    if error.status.is_server_error() {
        tracing::error!(
            request_id = %asked.facts.id,
            error_code = error.code,
            trace_id = asked.trace_id,
            inside = error.inside.as_deref().unwrap_or("unknown"),
            "request failed"
        );
    }
    let (media_type, body) = if asked.wants_problem {
        ("application/problem+json", problem_body(asked, &error))
    } else {
        ("application/json", error_body(app, asked, &error))
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Some(seconds) = error.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if error.status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"user-service\", error=\"invalid_token\"");
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn error_body(app: &App, asked: &Asked, error: &ApiError) -> Value {
    let now = json!(app.clock.now());
    let detail = if error.invalid.is_empty() { json!(error.message) } else { json!(error.invalid) };
    json!({
        "success": false,
        "status": "error",
        "message": error.message,
        "error_code": error.code,
        "error_details": details(app, asked, error, now.clone()),
        "detail": detail,
        "request_id": &*asked.facts.id,
        "timestamp": now,
    })
}

fn details(app: &App, asked: &Asked, error: &ApiError, now: Value) -> Map<String, Value> {
    let mut details = error.details.clone();
    let route = asked.route.as_ref().map(MatchedPath::as_str);
    if let Some(operation) = route.and_then(|route| app.operations.name(&asked.method, route)) {
        details.entry("operation").or_insert_with(|| operation.into());
    }
    if let Some(user) = user_in(&asked.path) {
        details.entry("user_id").or_insert_with(|| user.into());
    }
    details.insert("timestamp".to_owned(), now);
    details
}

/// The user that a path is about, if it names one.
fn user_in(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/api/v1/users/")?;
    let user = rest.split('/').next().filter(|user| !matches!(*user, "" | "me" | "ensure"))?;
    let decoded = percent_encoding::percent_decode_str(user).decode_utf8().ok()?;
    Some(decoded.chars().take(255).collect())
}

/// The same error as RFC 9457 has it.
fn problem_body(asked: &Asked, error: &ApiError) -> Value {
    let mut body = json!({
        "type": "about:blank",
        "title": error.status.canonical_reason().unwrap_or("Error"),
        "status": error.status.as_u16(),
        "detail": error.message,
        "instance": asked.path,
        "error_code": error.code,
        "request_id": &*asked.facts.id,
    });
    if let Some(members) = body.as_object_mut() {
        members.extend(error.details.clone());
        if !error.invalid.is_empty() {
            members.insert("errors".to_owned(), json!(error.invalid));
        }
    }
    body
}
