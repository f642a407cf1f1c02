//! `/mcp`: messages over Streamable HTTP, one in a request, without sessions.
//!
//! Around it is what is around every route. Here the order is: `Host` and `Origin`, credentials, the body within its
//! limit, the count; then the SDK reads the message and [`super::server`] answers it.

use super::message::Message;
use super::server::{REVISIONS, Server};
use super::{Asking, Mcp, guard};
use crate::app::App;
use crate::auth::authenticator::API_KEY;
use crate::auth::grants::Caller;
use crate::http::around::OwnWords;
use crate::http::input::{RawBody, is_json};
use crate::http::{ApiError, Within};
use crate::telemetry::traces;
use axum::body::{Body, to_bytes};
use axum::extract::FromRequest as _;
use axum::http::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// The most bytes of a sentence in which the SDK refuses a request.
const WORDS_MAX_BYTES: usize = 64 * 1024;

/// Which revision a client speaks, where there was a handshake.
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The code of JSON-RPC for a text that is no JSON.
const PARSE_ERROR: i32 = -32_700;
/// The code of JSON-RPC for JSON that is no message.
const INVALID_REQUEST: i32 = -32_600;

/// Takes messages over HTTP.
#[derive(Clone)]
pub struct Transport {
    mcp: Arc<Mcp>,
    sdk: StreamableHttpService<Server, NeverSessionManager>,
}

impl Transport {
    /// One over what every message can reach.
    #[must_use]
    pub fn over(mcp: &Arc<Mcp>) -> Self {
        // Whoever may come in was looked at before, and the body was read within its limit.
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_sse_keep_alive(None)
            .with_max_request_body_bytes(usize::MAX)
            .disable_allowed_hosts()
            .disable_allowed_origins();
        let server = Server::over(Arc::clone(mcp));
        let sdk = StreamableHttpService::new(move || Ok(server.clone()), Arc::default(), config);
        Self { mcp: Arc::clone(mcp), sdk }
    }

    /// Answers a request.
    pub async fn serve(self, request: Request<Body>) -> Response {
        self.answer(request).await.unwrap_or_else(ApiError::into_response)
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response, ApiError> {
        let app = &self.mcp.app;
        guard::check(&app.config, request.uri(), request.headers())?;
        let (parts, body) = request.into_parts();
        let caller = Caller::uncounted(&parts, app).await?;
        if parts.method != Method::POST {
            // No session is kept, so there is nothing to read on or to end.
            app.rate_limiter.authenticated(caller.facts(), &caller.principal).await?;
            let refused = ApiError::of_status(StatusCode::METHOD_NOT_ALLOWED).into_response();
            return Ok(([(ALLOW, HeaderValue::from_static("POST"))], refused).into_response());
        }
        app.rate_limiter.look(caller.facts(), &caller.principal)?;
        if !is_json(&parts.headers) {
            return Err(ApiError::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let mut parts = parts;
        let RawBody { body, room, .. } =
            RawBody::from_request(Request::from_parts(parts.clone(), body), app).await?;
        let message = match read(&body) {
            Ok(message) => message,
            Err(refused) => {
                app.rate_limiter.authenticated(caller.facts(), &caller.principal).await?;
                return Ok(refused);
            }
        };
        let (method, params) = (message.method().to_owned(), message.params());
        if !params.stands_for_an_operation(&method, &self.mcp.tools) {
            app.rate_limiter.authenticated(caller.facts(), &caller.principal).await?;
        }
        if method != "initialize" && params.spoken().is_none() {
            known_revision(&parts.headers)?;
        }
        let id = message.id();
        let credentials = credentials(&mut parts.headers);
        parts.extensions.insert(Asking {
            credentials,
            within: Within {
                outer: caller.shared_facts(),
                parent: traces::current().or_else(|| caller.facts().parent.clone()),
                room: Arc::new(Mutex::new(room)),
            },
            arguments: params.into_arguments().filter(|_| method == "tools/call"),
            caller: caller.clone(),
        });
        let response = self.sdk.handle(for_the_sdk(parts, body.clone())).await;
        if caller.facts().rate.get().is_none() {
            // Nothing was done that is counted elsewhere.
            app.rate_limiter.authenticated(caller.facts(), &caller.principal).await?;
        }
        answered(app, response.map(Body::new), id).await
    }
}

/// Refuses a revision that is not spoken; without the header it is one of the older ones, which begin with a handshake.
fn known_revision(headers: &HeaderMap) -> Result<(), ApiError> {
    let spoken = |value: &HeaderValue| REVISIONS.iter().any(|one| value == one.as_str());
    if headers.get_all(VERSION).iter().all(spoken) {
        return Ok(());
    }
    let all: Vec<&str> = REVISIONS.iter().map(rmcp::model::ProtocolVersion::as_str).collect();
    Err(ApiError::invalid(["header", "MCP-Protocol-Version"], format!("must be one of {}", all.join(", "))))
}

/// What the caller proved itself by; the SDK has no use for it.
fn credentials(headers: &mut HeaderMap) -> HeaderMap {
    let mut taken = HeaderMap::new();
    for name in [AUTHORIZATION, API_KEY] {
        for mut value in headers.get_all(&name).iter().cloned() {
            value.set_sensitive(true);
            taken.append(name.clone(), value);
        }
        headers.remove(&name);
    }
    taken
}

/// Reads what a message says it is.
fn read(body: &Bytes) -> Result<Message<'_>, Response> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(refused(PARSE_ERROR, "The message must be JSON in UTF-8", None));
    };
    let trimmed = text.trim_ascii_start();
    let message = match serde_json::from_str::<Message<'_>>(text) {
        Ok(message) if trimmed.starts_with('{') => message,
        _ if serde_json::from_str::<Value>(text).is_err() => {
            return Err(refused(PARSE_ERROR, "The message must be valid JSON", None));
        }
        _ if trimmed.starts_with('[') => {
            return Err(refused(INVALID_REQUEST, "Messages are sent one by one, not in a list", None));
        }
        _ => {
            return Err(refused(
                INVALID_REQUEST,
                "The message must be an object of JSON-RPC, each member given once",
                None,
            ));
        }
    };
    let id = message.id();
    if id.as_ref().is_some_and(|id| !id.is_string() && !id.is_i64()) {
        return Err(refused(INVALID_REQUEST, "id: must be a text or a whole number of 64 bits", None));
    }
    if message.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
        return Err(refused(INVALID_REQUEST, "jsonrpc: must be \"2.0\"", id));
    }
    Ok(message)
}

/// A refusal in the words of JSON-RPC.
fn refused(code: i32, message: &str, id: Option<Value>) -> Response {
    let body = json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}});
    let mut response =
        (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response();
    response.extensions_mut().insert(OwnWords);
    response
}

/// The request as the SDK wants it. Every answer is JSON, so whoever takes JSON or anything may come.
fn for_the_sdk(mut parts: axum::http::request::Parts, body: Bytes) -> Request<Body> {
    const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
    let headers = &mut parts.headers;
    let lines = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let takes_json = !headers.contains_key(ACCEPT) || lines.flat_map(|line| line.split(',')).any(is_of_json);
    if takes_json {
        headers.insert(ACCEPT, BOTH);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, body.len().into());
    Request::from_parts(parts, Body::from(body))
}

/// Whether an entry of `Accept` takes JSON, and not with a quality of none.
fn is_of_json(entry: &str) -> bool {
    let mut parts = entry.split(';').map(|part| part.trim().to_ascii_lowercase());
    let kind = parts.next().unwrap_or_default();
    let none =
        |part: String| part.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0));
    matches!(kind.as_str(), "application/json" | "application/*" | "*/*") && !parts.any(none)
}

/// The SDK's answer as this service gives it: a refusal in the words of JSON-RPC stays, another one gets the body
/// of all errors.
async fn answered(app: &App, mut response: Response, id: Option<Value>) -> Result<Response, ApiError> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    if response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json") {
        response.extensions_mut().insert(OwnWords);
        return Ok(response);
    }
    let words = to_bytes(response.into_body(), WORDS_MAX_BYTES).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    if status.is_server_error() {
        return Err(ApiError::internal(format!("{}: {words}", app.config.app_name)));
    }
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        return Ok(refused(
            INVALID_REQUEST,
            "The message is none that JSON-RPC knows, or leads too deep",
            id,
        ));
    }
    let message = words.split_once(": ").map_or(&*words, |(_, rest)| rest);
    Err(ApiError { message: message.chars().take(300).collect(), ..ApiError::of_status(status) })
}
