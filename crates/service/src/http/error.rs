//! The one error that every route answers with.
//!
//! Slices turn their refusals into an [`ApiError`]; [`super::around`] writes its body, because
//! only there are the request's id, path and wanted media type known. What a 5xx is about goes to
//! the log, never to the caller.

use crate::auth::AuthError;
use crate::credits::Rejection;
use crate::db::DbError;
use crate::users;
use crate::writer::WriteError;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// One thing that is wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Invalid {
    /// What kind of mistake: `missing`, `value_error`, `json_invalid`.
    #[serde(rename = "type")]
    #[schema(max_length = 50)]
    pub kind: &'static str,
    /// Where it is: `body`, `query`, `path` or `header`, then the field.
    #[schema(max_items = 70, min_items = 1, max_length = 300)]
    pub loc: Vec<String>,
    /// The rule that it breaks.
    #[schema(max_length = 1000)]
    pub msg: String,
}

/// An error on its way to the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The contract's `error_code`.
    pub code: &'static str,
    /// One sentence for people.
    pub message: String,
    /// What is wrong with the input, field by field.
    pub invalid: Vec<Invalid>,
    /// More for programs.
    pub details: Map<String, Value>,
    /// When to try again, in seconds.
    pub retry_after: Option<u32>,
    /// What happened inside, for the log alone.
    pub inside: Option<String>,
}

impl ApiError {
    /// An error with a status, a code and a sentence.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            invalid: Vec::new(),
            details: Map::new(),
            retry_after: None,
            inside: None,
        }
    }

    /// 400: one field of the input breaks a rule.
    #[must_use]
    pub fn invalid(loc: [&str; 2], msg: impl Into<String>) -> Self {
        let invalid = Invalid { kind: "value_error", loc: loc.map(str::to_owned).to_vec(), msg: msg.into() };
        Self::all_invalid(vec![invalid])
    }

    /// 400: a field is missing.
    #[must_use]
    pub fn missing(loc: [&str; 2]) -> Self {
        let loc = loc.map(str::to_owned).to_vec();
        Self::all_invalid(vec![Invalid { kind: "missing", loc, msg: "Field required".to_owned() }])
    }

    /// The same for input that is a part of a larger one: `body.content` within `messages`, `3` is
    /// `body.messages.3.content`.
    #[must_use]
    pub fn within(self, place: &[&str]) -> Self {
        let mut invalid = self.invalid;
        for one in &mut invalid {
            one.loc.splice(1..1, place.iter().map(|part| (*part).to_owned()));
        }
        Self::all_invalid(invalid)
    }

    /// 400: the input breaks rules.
    #[must_use]
    pub fn all_invalid(invalid: Vec<Invalid>) -> Self {
        let named = invalid.iter().map(|i| match i.loc.get(1..) {
            Some(field) if !field.is_empty() => format!("{}: {}", field.join("."), i.msg),
            _ => i.msg.clone(),
        });
        let message = format!("Invalid input: {}", named.collect::<Vec<_>>().join("; "));
        Self { invalid, ..Self::new(StatusCode::BAD_REQUEST, "ValidationException", message) }
    }

    /// 403.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AuthorizationException", message)
    }

    /// 404 for a user, as the caller named it.
    #[must_use]
    pub fn user_not_found(user: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "UserNotFoundException", format!("User not found: {user}"))
            .detail("user_id", user.into())
    }

    /// 404 for anything else.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFoundException", message)
    }

    /// 409.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "ConflictException", message)
    }

    /// 503: trying again later makes sense.
    #[must_use]
    pub fn unavailable(message: impl Into<String>, inside: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            inside: Some(inside.into()),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
        }
    }

    /// 500: a bug. The caller learns nothing of the inside.
    #[must_use]
    pub fn internal(inside: impl Into<String>) -> Self {
        Self {
            inside: Some(inside.into()),
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal server error")
        }
    }

    /// An error of that status when nothing more is known.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::NOT_FOUND => ("NotFoundException", "There is no such route"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("MethodNotAllowedException", "The route does not have this method")
            }
            StatusCode::PAYLOAD_TOO_LARGE => ("PayloadTooLargeException", "The body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ("UnsupportedMediaTypeException", "The body must be application/json")
            }
            StatusCode::REQUEST_TIMEOUT => ("RequestTimeoutException", "The request took too long"),
            StatusCode::URI_TOO_LONG => ("UriTooLongException", "The address must be at most 8 KiB"),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                ("HeaderTooLargeException", "The header must be at most 16 KiB")
            }
            status if status.is_client_error() => ("ValidationException", "Invalid request"),
            _ => return Self::internal(format!("a route answered {status}")),
        };
        Self::new(status, code, message)
    }

    /// Adds a detail for programs.
    #[must_use]
    pub fn detail(mut self, name: &str, value: Value) -> Self {
        self.details.insert(name.to_owned(), value);
        self
    }
}

impl IntoResponse for ApiError {
    /// An empty answer that carries the error to [`super::around`], which writes the body.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::KeysUnavailable => {
                Self::unavailable("Tokens cannot be checked right now", "no signing keys were ever fetched")
            }
            AuthError::Unavailable => {
                Self::unavailable("The database is not available", "a service key cannot be looked up")
            }
            AuthError::Address => Self::forbidden("The key may not be used from this address"),
            AuthError::Missing | AuthError::Invalid => Self::new(
                StatusCode::UNAUTHORIZED,
                "AuthenticationException",
                "Could not validate credentials",
            ),
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(inside) | DbError::Conflict(inside) => {
                Self::unavailable("The database is not available", inside)
            }
            DbError::Refused(_) => Self::internal(error.to_string()),
            DbError::Internal(inside) => Self::internal(inside),
        }
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let message = rejection.to_string();
        // A rule of one field is written `field: rule`.
        let of_field = |message: &str| match message.split_once(": ") {
            Some((field, rule)) => Self::invalid(["body", field], rule),
            None => Self::new(StatusCode::BAD_REQUEST, "ValidationException", message),
        };
        match rejection {
            Rejection::UnknownAccount => Self::new(StatusCode::NOT_FOUND, "UserNotFoundException", message),
            Rejection::Insufficient { available, required, .. } => {
                Self::new(StatusCode::BAD_REQUEST, "InsufficientCreditsException", message)
                    .detail("available", json!(available))
                    .detail("required", json!(required))
            }
            Rejection::LimitExceeded(denial) => Self::from(&*denial),
            Rejection::UnknownTransaction(_) | Rejection::UnknownHold(_) | Rejection::UnknownGrant => {
                Self::not_found(message)
            }
            Rejection::ReferenceTaken { .. }
            | Rejection::TooManyGrants
            | Rejection::TooManyHolds
            | Rejection::HoldsTooLarge
            | Rejection::NothingToVoid
            | Rejection::ReclaimExceeds { .. }
            | Rejection::OwesTooMuch
            | Rejection::GrantHeld { .. }
            | Rejection::HoldSettled { .. } => Self::conflict(message),
            Rejection::TooMuch
            | Rejection::ForeignUsage
            | Rejection::NotRefundable(_)
            | Rejection::RefundExceeds { .. }
            | Rejection::RolloverWithoutEnd
            | Rejection::TickFalls { .. }
            | Rejection::BadPeriod => of_field(&message),
        }
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Credits(rejection) => rejection.into(),
            WriteError::Users(users::Rejection::NotFound(id)) => Self::user_not_found(id.as_str()),
            WriteError::Users(users::Rejection::EmailTaken) => Self::conflict(error.to_string()),
            WriteError::UsageUser(at, id) => {
                let mut error = Self::user_not_found(id.as_str());
                error.message = format!("records[{at}].user_id: User not found: {id}");
                error
            }
            WriteError::Charge(place, refusal) => {
                let refusal = Self::from(*refusal);
                let place = format!("charges[{place}]");
                Self { message: format!("{place}: {}", refusal.message), ..refusal }
            }
            WriteError::UnknownSession => {
                Self::new(StatusCode::NOT_FOUND, "SessionNotFoundException", error.to_string())
            }
            // Whoever sends an edit with conditions says itself what they mean.
            WriteError::Refused(_) => Self::internal(error.to_string()),
            WriteError::IdempotencyMismatch => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "IdempotencyMismatch",
                "The idempotency key was used before with a different request",
            ),
            WriteError::Overloaded => {
                Self::unavailable("Too many requests are waiting; try again", "the writer's queue is full")
            }
            WriteError::Unavailable(inside) => Self::unavailable("The database is not available", inside),
            WriteError::Internal(inside) => Self::internal(inside),
        }
    }
}
