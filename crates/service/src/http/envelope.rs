//! The envelope that answers come in.

use crate::http::page::Pagination;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use kernel::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// `success`, `status`, `message`, `timestamp` and the answer itself as `data`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Envelope<T> {
    /// Always true; an error has a body of its own.
    #[schema(example = true)]
    pub success: bool,
    /// Always `success`.
    #[schema(example = "success", max_length = 20)]
    pub status: &'static str,
    /// One sentence for people.
    #[schema(max_length = 300)]
    pub message: String,
    /// When the answer was made.
    pub timestamp: Timestamp,
    /// The answer.
    pub data: T,
    /// Where a list stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Pagination>,
}

impl<T: Serialize> Envelope<T> {
    /// Wraps an answer.
    #[must_use]
    pub fn new(message: impl Into<String>, timestamp: Timestamp, data: T) -> Self {
        Self { success: true, status: "success", message: message.into(), timestamp, data, pagination: None }
    }

    /// The same with where the list stands.
    #[must_use]
    pub fn paged(self, pagination: Pagination) -> Self {
        Self { pagination: Some(pagination), ..self }
    }
}

/// The JSON text of an answer.
#[must_use]
pub fn bytes(answer: &impl Serialize) -> Bytes {
    // Answers are structs of texts and numbers, which always serialise.
    serde_json::to_vec(answer).unwrap_or_default().into()
}

/// A 200 with that JSON text.
#[must_use]
pub fn json_bytes(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A 200 with an answer as JSON.
#[must_use]
pub fn json(answer: &impl Serialize) -> Response<Body> {
    json_bytes(bytes(answer))
}
