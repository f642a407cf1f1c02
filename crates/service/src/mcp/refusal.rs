//! What an agent hears when it is refused: a sentence, and what to act on.

use crate::http::ApiError;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Map, Value, json};

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The status of the same refusal in the REST API.
    pub status: StatusCode,
    /// One sentence for people.
    pub message: String,
    /// The same for programs: `error`, `message`, `details`.
    pub told: Value,
}

impl Refusal {
    /// That of an answer of the REST API.
    #[must_use]
    pub fn of_answer(status: StatusCode, headers: &HeaderMap, body: &Value) -> Self {
        // Only health has no code: it says in its own words what is wrong.
        let Some(code) = body["error_code"].as_str() else {
            let mut details = Map::new();
            details.insert("answer".to_owned(), body.clone());
            return Self::new(status, "ServiceUnavailable", "The service is not healthy", details, None);
        };
        let mut details = body["error_details"].as_object().cloned().unwrap_or_default();
        details.remove("timestamp");
        if let Some(invalid) = body["detail"].as_array() {
            details.insert("invalid".to_owned(), invalid.iter().map(argument).collect());
        }
        let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        if let Some(after) = after {
            details.entry("retry_after").or_insert_with(|| after.into());
        }
        let message = body["message"].as_str().unwrap_or("Refused");
        Self::new(status, code, message, details, body["request_id"].as_str())
    }

    /// That of arguments from which no request can be made.
    #[must_use]
    pub fn of_arguments(error: &ApiError, request_id: &str) -> Self {
        if error.status.is_server_error() {
            let inside = error.inside.as_deref().unwrap_or("unknown");
            tracing::error!(request_id, error_code = error.code, inside, "a tool failed");
        }
        let mut details = error.details.clone();
        let invalid = error.invalid.iter().map(|one| argument(&json!(one))).collect();
        details.insert("invalid".to_owned(), invalid);
        Self::new(error.status, error.code, &error.message, details, Some(request_id))
    }

    fn new(
        status: StatusCode,
        code: &str,
        message: &str,
        details: Map<String, Value>,
        request_id: Option<&str>,
    ) -> Self {
        let mut told = json!({
            "success": false,
            "error": code,
            "message": message,
            "status": status.as_u16(),
            "details": details,
        });
        if let Some(id) = request_id {
            told["request_id"] = id.into();
        }
        let message = match told["details"]["top_up_url"].as_str() {
            Some(page) => format!("{message}. More can be bought at {page}"),
            None => message.to_owned(),
        };
        Self { status, message, told }
    }

    /// The result of a tool.
    #[must_use]
    pub fn into_result(self) -> CallToolResult {
        let mut result = CallToolResult::error(vec![ContentBlock::text(self.message)]);
        result.structured_content = Some(self.told);
        result
    }

    /// The error of a method that is no tool.
    #[must_use]
    pub fn into_error(self) -> ErrorData {
        match self.status {
            StatusCode::NOT_FOUND => ErrorData::resource_not_found(self.message, Some(self.told)),
            status if status.is_server_error() => ErrorData::internal_error(self.message, Some(self.told)),
            _ => ErrorData::invalid_params(self.message, Some(self.told)),
        }
    }
}

/// One thing that is wrong with the input, by the name that it has among a tool's arguments.
fn argument(invalid: &Value) -> Value {
    let loc = invalid["loc"].as_array().cloned().unwrap_or_default();
    let mut place = vec![json!("arguments")];
    match (loc.first().and_then(Value::as_str), loc.get(1).and_then(Value::as_str)) {
        (Some("path"), Some("user_id")) => place.push("auth0_id".into()),
        (Some("header"), Some("Idempotency-Key")) => place.push("idempotency_key".into()),
        _ => place.extend(loc.into_iter().skip(1)),
    }
    json!({"type": invalid["type"], "loc": place, "msg": invalid["msg"]})
}
