//! From a tool's arguments to the request that it stands for, and from the answer back.

use super::refusal::Refusal;
use super::tools::{Place, Tool};
use super::{Asking, Mcp, PLAIN};
use crate::http::ApiError;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Request};
use bytes::Bytes;
use percent_encoding::utf8_percent_encode;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use tower::ServiceExt as _;

/// The most bytes of an answer that become a tool's result; a page of messages has at most 4 MiB and a message.
const ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The most bytes of an argument that goes into the address of a request; past `URI_MAX_BYTES` together it is 414.
const ARGUMENT_MAX_BYTES: usize = 4096;

/// Arguments by name, as they were written.
pub type Arguments = BTreeMap<String, Box<RawValue>>;

/// An answer that is no refusal: its bytes, and what they say.
#[derive(Debug)]
pub struct Done {
    /// As the REST API wrote it.
    pub text: String,
    /// The same, read.
    pub value: Value,
}

impl Mcp {
    /// Makes the request of a tool, and hands it to the routes.
    ///
    /// # Errors
    /// What refused it.
    pub async fn ask(&self, asking: &Asking, tool: &Tool, arguments: Arguments) -> Result<Done, Refusal> {
        let request_id = &asking.within.outer.id;
        let request =
            request(asking, tool, arguments).map_err(|error| Refusal::of_arguments(&error, request_id))?;
        let Ok(response) = self.routes.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, ANSWER_MAX_BYTES).await.map_err(|_| {
            let error = ApiError::internal("an answer is longer than a tool's result may be");
            Refusal::of_arguments(&error, request_id)
        })?;
        let mut value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if !parts.status.is_success() {
            return Err(Refusal::of_answer(parts.status, &parts.headers, &value));
        }
        let Some(members) = value.as_object_mut() else {
            let error = ApiError::internal("an answer that is to be a tool's result is no object");
            return Err(Refusal::of_arguments(&error, request_id));
        };
        let text = if members.contains_key("success") {
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            members.insert("success".to_owned(), true.into());
            value.to_string()
        };
        Ok(Done { text, value })
    }
}

/// Reads a tool's arguments, each named once.
///
/// # Errors
/// They are no object, or one is given twice.
pub fn read(arguments: Option<&RawValue>) -> Result<Arguments, ApiError> {
    struct Fields(Arguments);

    impl<'de> Deserialize<'de> for Fields {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Members).map(Self)
        }
    }

    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Arguments;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Arguments, A::Error> {
            let mut fields = Arguments::new();
            while let Some((name, value)) = members.next_entry::<String, Box<RawValue>>()? {
                if fields.contains_key(&name) {
                    return Err(serde::de::Error::custom(format!("{name} must be given once")));
                }
                fields.insert(name, value);
            }
            Ok(fields)
        }
    }

    let Some(arguments) = arguments else { return Ok(Arguments::new()) };
    match serde_json::from_str::<Fields>(arguments.get()) {
        Ok(Fields(fields)) => Ok(fields),
        Err(error) => {
            let text = error.to_string();
            let text = text.rfind(" at line ").map_or(&*text, |at| &text[..at]);
            Err(ApiError::invalid(["body", "arguments"], text))
        }
    }
}

fn request(asking: &Asking, tool: &Tool, arguments: Arguments) -> Result<Request<Body>, ApiError> {
    let mut path = tool.route.clone();
    let mut query = form_urlencoded::Serializer::new(String::new());
    let mut asked = false;
    let mut body = Arguments::new();
    let mut key = None;
    let mut users = Vec::new();
    for (name, value) in arguments {
        let Some(place) = tool.places.get(&name) else {
            let name: String = name.chars().take(100).collect();
            return Err(ApiError::invalid(["body", &name], "is no argument of this tool"));
        };
        if value.get() == "null" {
            continue;
        }
        match place {
            Place::User => users.push((name, value)),
            Place::Path => path = filled(tool, &path, (&name, &name), &text(&name, &value)?)?,
            Place::Query => {
                let value = text(&name, &value)?;
                fits(&name, value.len())?;
                query.append_pair(&name, &value);
                asked = true;
            }
            Place::Body => {
                body.insert(name, value);
            }
            Place::Key => key = Some(key_header(&value)?),
        }
    }
    if tool.row.names_user {
        let user = user(asking, users)?;
        if path.contains("{user_id}") {
            path = filled(tool, &path, ("user_id", "auth0_id"), &text("auth0_id", &user)?)?;
        } else {
            body.insert("auth0_id".to_owned(), user);
        }
    }
    if let Some((_, rest)) = path.split_once('{') {
        let name = rest.split('}').next().unwrap_or_default();
        return Err(ApiError::missing(["body", name]));
    }
    if asked {
        path = format!("{path}?{}", query.finish());
    }
    let takes_body = tool.method != axum::http::Method::GET;
    let body = if takes_body { serde_json::to_vec(&body).unwrap_or_default() } else { Vec::new() };
    built(asking, tool, &path, body.into(), key)
}

fn built(
    asking: &Asking,
    tool: &Tool,
    path: &str,
    body: Bytes,
    key: Option<HeaderValue>,
) -> Result<Request<Body>, ApiError> {
    let length = body.len();
    let request = Request::builder().method(tool.method.clone()).uri(path).body(Body::from(body));
    let mut request = request.map_err(|error| ApiError::internal(error.to_string()))?;
    let headers = request.headers_mut();
    headers.extend(asking.credentials.clone());
    if length > 0 {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if let Some(key) = key {
        headers.insert("idempotency-key", key);
    }
    request.extensions_mut().insert(asking.within.clone());
    Ok(request)
}

/// The user that the arguments name, or the caller itself.
fn user(asking: &Asking, mut named: Vec<(String, Box<RawValue>)>) -> Result<Box<RawValue>, ApiError> {
    if named.len() > 1 {
        return Err(ApiError::invalid(["body", "auth0_id"], "must not be given together with user_id"));
    }
    if let Some((_, user)) = named.pop() {
        return Ok(user);
    }
    let own = asking.caller.subject().and_then(|own| serde_json::value::to_raw_value(own.as_str()).ok());
    own.ok_or_else(|| ApiError::missing(["body", "auth0_id"]))
}

/// A path with a name replaced by what it stands for, which the caller knows under another name.
fn filled(tool: &Tool, path: &str, (name, known): (&str, &str), value: &str) -> Result<String, ApiError> {
    if value.is_empty() {
        return Err(ApiError::invalid(["body", known], "must not be empty"));
    }
    // Otherwise the request would be of another operation.
    if tool.reserved.contains(value) {
        return Err(ApiError::invalid(
            ["body", known],
            format!("must not be {value}, which names something else"),
        ));
    }
    let value = utf8_percent_encode(value, &PLAIN).to_string();
    fits(known, value.len())?;
    Ok(path.replace(&format!("{{{name}}}"), &value))
}

/// Refuses an argument that makes the address of its request too long.
fn fits(name: &str, bytes: usize) -> Result<(), ApiError> {
    if bytes <= ARGUMENT_MAX_BYTES {
        return Ok(());
    }
    Err(ApiError::invalid(["body", name], format!("must be at most {ARGUMENT_MAX_BYTES} bytes")))
}

/// What goes into a path or a query: texts, and numbers and words as they were written.
fn text(name: &str, value: &RawValue) -> Result<String, ApiError> {
    match serde_json::from_str::<Value>(value.get()) {
        Ok(Value::String(text)) => Ok(text),
        Ok(Value::Number(_) | Value::Bool(_)) => Ok(value.get().to_owned()),
        _ => Err(ApiError::invalid(["body", name], "must be a text")),
    }
}

fn key_header(value: &RawValue) -> Result<HeaderValue, ApiError> {
    let key = serde_json::from_str::<String>(value.get()).ok();
    let key = key.filter(|key| key.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && key.trim() == key);
    let header = key.and_then(|key| HeaderValue::from_str(&key).ok());
    header.ok_or_else(|| {
        ApiError::invalid(
            ["body", "idempotency_key"],
            "must be 1 to 255 printable ASCII characters without spaces at its ends",
        )
    })
}
