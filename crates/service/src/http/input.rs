//! Reading what a caller sends: a JSON body, a query, or both.
//!
//! Old clients send some commands as a query and newer ones as JSON; [`Input`] takes either, and a
//! field of the body wins over the query's. Numbers may come as strings. Mistakes name the field
//! and the rule.

use crate::app::App;
use crate::http::{ApiError, Invalid, RequestFacts};
use crate::writer::{IdempotencyKey, Ticket};
use aws_lc_rs::digest::{Context, SHA256};
use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How many bytes the large bodies under way may take together, those of waiting writes included:
/// as much as one body may have, and at least this much. The next one waits, unread.
pub const BODY_ROOM_BYTES: usize = 16 * 1024 * 1024;
/// Up to this size a body is small, and does not count.
const SMALL_BODY_BYTES: usize = 16 * 1024;
/// How long a large body waits for room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest idempotency key.
pub const KEY_MAX: usize = 255;

/// How much of a body that is too large is read all the same, in bytes.
pub const PASSED_OVER_MAX: usize = 64 * 1024 * 1024;
/// How long the next part of it may take; whoever sends nothing gets the answer.
pub const PASSED_OVER_PAUSE: Duration = Duration::from_millis(300);

/// What a caller sent, read as a `T`; at most `JSON_BODY_LIMIT_BYTES`.
#[derive(Debug)]
pub struct Input<T> {
    /// What it says.
    pub value: T,
    /// What is needed to do it once.
    pub once: Once,
}

/// The same for a batch; at most `BATCH_BODY_LIMIT_BYTES`.
#[derive(Debug)]
pub struct BatchInput<T>(pub Input<T>);

/// The idempotency key of a request, if it has one, and the room that its body takes.
#[derive(Debug)]
pub struct Once {
    key: Option<(String, [u8; 32])>,
    room: Option<OwnedSemaphorePermit>,
}

impl Once {
    /// What the writer needs of it, with the key scoped to its caller.
    #[must_use]
    pub fn ticket(self, caller: String) -> Ticket {
        let key = self.key.map(|(key, fingerprint)| IdempotencyKey { caller, key, fingerprint });
        Ticket { key, room: self.room }
    }

    /// The key as the caller wrote it.
    #[must_use]
    pub fn key_text(&self) -> Option<String> {
        self.key.as_ref().map(|(key, _)| key.clone())
    }
}

/// The idempotency key of a request whose body is a stream: taken before the body is read, and good
/// once it is known what the body said.
#[derive(Debug)]
pub struct StreamKey(Option<String>, Parts);

impl StreamKey {
    /// Takes the key of the header or the query.
    ///
    /// # Errors
    /// 400 when it cannot be used.
    pub fn of(parts: &Parts) -> Result<Self, ApiError> {
        let query = parts.uri.query().filter(|query| !query.is_empty());
        Ok(Self(key_text(&parts.headers, &[], query)?, parts.clone()))
    }

    /// What is needed to do it once; `content` stands for the body.
    #[must_use]
    pub fn once(self, content: &[u8]) -> Once {
        Once { key: self.0.map(|key| (key, fingerprint(&self.1, content))), room: None }
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Input<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, ApiError> {
        read(request, app, app.config.json_body_limit_bytes).await
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for BatchInput<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, ApiError> {
        read(request, app, app.config.batch_body_limit_bytes).await.map(Self)
    }
}

/// A body as it came, for whoever checks a signature over it; at most `JSON_BODY_LIMIT_BYTES`.
#[derive(Debug)]
pub struct RawBody {
    /// The headers.
    pub headers: HeaderMap,
    /// The bytes.
    pub body: Bytes,
    /// The room that they take.
    pub room: Option<OwnedSemaphorePermit>,
}

impl FromRequest<Arc<App>> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body, room) = collect(request, app, app.config.json_body_limit_bytes).await?;
        Ok(Self { headers: parts.headers, body, room })
    }
}

/// Reads a body within a limit, and within the memory for bodies.
async fn collect(
    request: Request<Body>,
    app: &App,
    limit: usize,
) -> Result<(Parts, Bytes, Option<OwnedSemaphorePermit>), ApiError> {
    let (parts, mut body) = request.into_parts();
    let announced = announced(&parts.headers, &body);
    if announced.is_some_and(|length| length > limit) {
        // Whoever waits for a word before sending the body gets the answer instead.
        if !parts.headers.contains_key(EXPECT) {
            pass_over(&mut body).await;
        }
        return Err(too_large(limit));
    }
    let within = parts.extensions.get::<Arc<RequestFacts>>().and_then(|facts| facts.within.as_ref());
    let room = match within {
        // The body is a part of the other's. To wait for more room with that one's in hand would be to wait for each other.
        Some(within) => within.room.lock().take(),
        None => take_room(app, announced.unwrap_or(limit)).await?,
    };
    let body = read_body(body, limit).await?;
    Ok((parts, body, room))
}

async fn read<T: DeserializeOwned>(
    request: Request<Body>,
    app: &App,
    limit: usize,
) -> Result<Input<T>, ApiError> {
    let (parts, body, room) = collect(request, app, limit).await?;
    if !body.is_empty() && !is_json(&parts.headers) {
        return Err(ApiError::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let query = parts.uri.query().filter(|query| !query.is_empty());
    let value = match (body.is_empty(), query) {
        (true, query) => from_json(&query_json(query.unwrap_or_default())?, "query")?,
        (false, None) => from_json(&body, "body")?,
        (false, Some(query)) => from_json(&merged(&body, query)?, "body")?,
    };
    let key = key_text(&parts.headers, &body, query)?.map(|key| (key, fingerprint(&parts, &body)));
    Ok(Input { value, once: Once { key, room } })
}

/// How large a body says it is; nothing when it only comes to an end.
#[must_use]
pub fn announced(headers: &HeaderMap, body: &Body) -> Option<usize> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.or_else(|| body.is_end_stream().then_some(0))
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("The body must be at most {limit} bytes");
    ApiError { message, ..ApiError::of_status(StatusCode::PAYLOAD_TOO_LARGE) }
}

/// Takes a large body's share of the memory for bodies before any of it is read; small ones need none.
async fn take_room(app: &App, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
    if bytes <= SMALL_BODY_BYTES {
        return Ok(None);
    }
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    let room = Arc::clone(&app.body_room).acquire_many_owned(kib);
    match tokio::time::timeout(ROOM_TIMEOUT, room).await {
        Ok(Ok(room)) => Ok(Some(room)),
        _ => Err(ApiError::unavailable(
            "Too many large requests are under way; try again",
            "no room for the body",
        )),
    }
}

async fn read_body(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(&mut body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            pass_over(&mut body).await;
            Err(too_large(limit))
        }
        Err(_) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "ValidationException",
            "The body did not arrive whole",
        )),
    }
}

/// Reads on and keeps nothing: a connection that closes while its caller still sends is broken to
/// the caller, who then never reads why.
pub async fn pass_over(body: &mut Body) {
    let mut passed = 0;
    while passed < PASSED_OVER_MAX {
        match tokio::time::timeout(PASSED_OVER_PAUSE, body.frame()).await {
            Ok(Some(Ok(frame))) => passed += frame.data_ref().map_or(0, Bytes::len),
            Ok(Some(Err(_)) | None) | Err(_) => return,
        }
    }
}

/// Whether a body says that it is JSON, or does not say what it is.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(CONTENT_TYPE) else { return true };
    media_type.to_str().is_ok_and(|text| {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

/// What is said of a text that is no JSON.
const INVALID_JSON: (&str, &str) = ("json_invalid", "must be valid JSON in UTF-8");

/// Reads a JSON object, and says which field breaks which rule.
///
/// # Errors
/// 400 with the place, which begins with `part`.
pub fn from_json<T: DeserializeOwned>(text: &[u8], part: &str) -> Result<T, ApiError> {
    // A list would be read by position, and nothing documents positions.
    if text.trim_ascii_start().first() != Some(&b'{') {
        let valid = serde_json::from_slice::<IgnoredAny>(text).is_ok();
        let (kind, msg) = if valid { ("value_error", "must be a JSON object") } else { INVALID_JSON };
        let loc = vec![part.to_owned()];
        return Err(ApiError::all_invalid(vec![Invalid { kind, loc, msg: msg.to_owned() }]));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|e| {
        let path = e.path().to_string();
        mistake(part, &path, e.inner(), text)
    })?;
    deserializer.end().map_err(|e| mistake(part, ".", &e, text))?;
    Ok(value)
}

fn mistake(part: &str, path: &str, error: &serde_json::Error, body: &[u8]) -> ApiError {
    let mut loc = vec![part.to_owned()];
    // A word where another kind of value stands is called a mistake of the syntax, which it is not.
    let of_syntax = !error.is_data();
    if of_syntax && serde_json::from_slice::<IgnoredAny>(body).is_err() {
        let (kind, msg) = INVALID_JSON;
        return ApiError::all_invalid(vec![Invalid { kind, loc, msg: msg.to_owned() }]);
    }
    if path != "." {
        // `?` stands for a key that is none of the names there are.
        let fields = path.split(['.', '[', ']']).filter(|field| !matches!(*field, "" | "?"));
        loc.extend(fields.map(|field| field.chars().take(100).collect()));
    }
    let text = error.to_string();
    // serde_json adds where in the text it was, which the place already says.
    let text = text.rfind(" at line ").map_or(&*text, |at| &text[..at]);
    let text = if of_syntax && text == "expected value" { "has a value of the wrong kind" } else { text };
    if let Some(field) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        loc.push(field.to_owned());
        let msg = "Field required".to_owned();
        return ApiError::all_invalid(vec![Invalid { kind: "missing", loc, msg }]);
    }
    if let Some(field) = text.strip_prefix("duplicate field `").and_then(|rest| rest.strip_suffix('`')) {
        loc.push(field.to_owned());
        let msg = "must be given once".to_owned();
        return ApiError::all_invalid(vec![Invalid { kind: "value_error", loc, msg }]);
    }
    let msg = text.chars().take(300).collect();
    ApiError::all_invalid(vec![Invalid { kind: "value_error", loc, msg }])
}

/// A query as a JSON object of texts, so that both forms are read by the same types.
fn query_json(query: &str) -> Result<Vec<u8>, ApiError> {
    Ok(serde_json::to_vec(&query_fields(query)?).unwrap_or_default())
}

/// The fields of a query; of a field that is repeated the last one counts.
fn query_fields(query: &str) -> Result<BTreeMap<String, String>, ApiError> {
    // A `+` is a space in a query, and bytes that are no UTF-8 are refused, not replaced.
    let spaced = query.replace('+', " ");
    if percent_encoding::percent_decode_str(&spaced).decode_utf8().is_err() {
        let loc = vec!["query".to_owned()];
        let msg = "must be UTF-8".to_owned();
        return Err(ApiError::all_invalid(vec![Invalid { kind: "value_error", loc, msg }]));
    }
    Ok(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

/// The body with those fields of the query that it does not have itself.
fn merged(body: &[u8], query: &str) -> Result<Vec<u8>, ApiError> {
    let mut fields: BTreeMap<String, Box<RawValue>> = from_json(body, "body")?;
    for (name, value) in query_fields(query)? {
        if let Ok(value) = serde_json::value::to_raw_value(&value) {
            fields.entry(name).or_insert(value);
        }
    }
    Ok(serde_json::to_vec(&fields).unwrap_or_default())
}

/// The key that the header, the body or the query names; all that do must name the same.
///
/// A key that cannot be used is refused, never passed over: its request may be sent again.
fn key_text(headers: &HeaderMap, body: &[u8], query: Option<&str>) -> Result<Option<String>, ApiError> {
    #[derive(Deserialize)]
    struct Keyed {
        #[serde(default)]
        idempotency_key: Option<String>,
    }
    const FIELD: &str = "idempotency_key";
    let field_in = |part| if part == "header" { "Idempotency-Key" } else { FIELD };
    let refuse = |part| {
        ApiError::invalid([part, field_in(part)], "must be 1 to 255 printable ASCII characters, given once")
    };
    let mut keys: Vec<(&str, String)> = Vec::new();
    for value in headers.get_all("idempotency-key") {
        keys.push(("header", value.to_str().map_err(|_| refuse("header"))?.to_owned()));
    }
    // Looking for the name first spares most bodies a second reading; `\\u` may hide it.
    let hidden = |name: &[u8]| body.windows(name.len()).any(|window| window == name);
    if hidden(FIELD.as_bytes()) || hidden(b"\\u") {
        let keyed = serde_json::from_slice::<Keyed>(body).map_err(|_| refuse("body"))?;
        keys.extend(keyed.idempotency_key.map(|key| ("body", key)));
    }
    if let Some(query) = query {
        keys.extend(query_fields(query)?.remove(FIELD).map(|key| ("query", key)));
    }
    for (part, key) in &keys {
        let printable = key.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if !(1..=KEY_MAX).contains(&key.len()) || !printable {
            return Err(refuse(part));
        }
        if *key != keys[0].1 {
            return Err(ApiError::invalid([part, field_in(part)], "must be the same wherever it is given"));
        }
    }
    Ok(keys.into_iter().next().map(|(_, key)| key))
}

/// What makes two requests the same: method, path, query and body.
fn fingerprint(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let path = percent_encoding::percent_decode_str(parts.uri.path()).decode_utf8_lossy();
    let mut context = Context::new(&SHA256);
    for part in [parts.method.as_str(), &path, parts.uri.query().unwrap_or_default()] {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    context.update(body);
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

/// What a query says, read as a `T`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let json = query_json(parts.uri.query().unwrap_or_default())?;
        from_json(&json, "query").map(Self)
    }
}
