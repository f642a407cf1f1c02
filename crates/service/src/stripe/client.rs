//! Asking Stripe: one call at a time, each change under a key that follows from its cause.
//!
//! The same cause has the same key, so a call that is repeated after a crash, a time-out or a lost
//! answer has its effect once. What fails for a moment is tried again with a growing, jittered
//! pause; what Stripe refuses is not.

use super::breaker::Breaker;
use crate::config::Stripe;
use crate::http::ApiError;
use crate::measure;
use crate::telemetry::traces;
use axum::http::StatusCode;
use kernel::Clock;
use opentelemetry::KeyValue;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use stripe::{IdempotencyKey, RequestStrategy, StripeError};
use stripe_client_core::{RequestBuilder, StripeMethod};

/// How long one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(8);
/// How many attempts a call has.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles, and up to as much again is added by chance.
const PAUSE: Duration = Duration::from_millis(200);
/// How many rows a list has at once.
const LIST_ROWS: usize = 100;
/// How many rows of a list are read at most.
pub const LIST_MAX: usize = 100_000;

/// Why Stripe did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The card was declined, or it needs its owner: Stripe's sentence and code.
    #[error("{message}")]
    Declined {
        /// Stripe's sentence.
        message: String,
        /// Stripe's code, such as `card_declined`.
        code: String,
    },
    /// There is no such object.
    #[error("{0}")]
    NotFound(String),
    /// Stripe does not take the request: a setting of the account, or a bug.
    #[error("{0}")]
    Refused(String),
    /// It broke, and says so again to whoever asks under the same key; the effect is unknown.
    #[error("{0}")]
    Broken(String),
    /// It did not answer, or not in a way that can be understood; the effect is unknown.
    #[error("{0}")]
    Unavailable(String),
}

impl CallError {
    /// The error as a label.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Declined { .. } => "declined",
            Self::NotFound(_) => "not_found",
            Self::Refused(_) => "refused",
            Self::Broken(_) => "broken",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Whether asking again may help.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Broken(_))
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Declined { message, code } => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "PaymentDeclinedException", message)
                    .detail("code", code.into())
            }
            CallError::NotFound(message) | CallError::Refused(message) => {
                Self::unavailable("Stripe refused the request; the service's log says why", message)
            }
            CallError::Broken(message) | CallError::Unavailable(message) => {
                Self::unavailable("Stripe is not available; try again", message)
            }
        }
    }
}

/// The way to one Stripe account.
pub struct Client {
    inner: stripe::Client,
    breaker: Breaker,
    clock: Clock,
    /// Whether it moves real money.
    pub live: bool,
}

impl Client {
    /// The way to the account that the settings name.
    ///
    /// # Errors
    /// A sentence when the address or the key cannot be used.
    pub fn new(settings: &Stripe, clock: Clock) -> Result<Self, String> {
        let inner = stripe::ClientBuilder::new(settings.secret_key.expose())
            .url(format!("{}/", settings.api_base))
            .timeout(ATTEMPT_MAX)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { inner, breaker: Breaker::default(), clock, live: settings.live() })
    }

    /// Whether requests fail at once, because Stripe did not answer the last ones.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.breaker.is_open(self.clock.now())
    }

    /// Changes something, once per `cause`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        form: &Value,
        cause: &str,
    ) -> Result<T, CallError> {
        self.call(StripeMethod::Post, path, Some(form), Some(cause)).await
    }

    /// Ends something, once per `cause`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str, cause: &str) -> Result<T, CallError> {
        self.call(StripeMethod::Delete, path, None, Some(cause)).await
    }

    /// Reads something.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &Value) -> Result<T, CallError> {
        let query = query.as_object().is_some_and(|query| !query.is_empty()).then_some(query);
        self.call(StripeMethod::Get, path, query, None).await
    }

    /// Reads a whole list, page by page, newest first; at most [`LIST_MAX`] rows.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list<T: DeserializeOwned + Listed>(
        &self,
        path: &str,
        query: &Value,
    ) -> Result<Vec<T>, CallError> {
        let mut rows: Vec<T> = Vec::new();
        let mut query = query.clone();
        query["limit"] = json!(LIST_ROWS);
        loop {
            let page: super::object::List<T> = self.get(path, &query).await?;
            rows.extend(page.data);
            match rows.last() {
                Some(last) if page.has_more && rows.len() < LIST_MAX => {
                    query["starting_after"] = json!(last.id())
                }
                _ => return Ok(rows),
            }
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: StripeMethod,
        path: &str,
        params: Option<&Value>,
        cause: Option<&str>,
    ) -> Result<T, CallError> {
        let mut attempt = 0;
        loop {
            if !self.breaker.allows(self.clock.now()) {
                return Err(CallError::Unavailable("it did not answer the last requests".to_owned()));
            }
            let began = Instant::now();
            let wait =
                traces::wait("stripe.request", || [KeyValue::new("http.request.method", verb(method))]);
            let answer = self.attempt(method, path, params, cause).await;
            drop(wait);
            measure::stripe_request(
                answer.as_ref().map_or_else(CallError::word, |_| "done"),
                began.elapsed(),
            );
            match &answer {
                Err(error) if error.passes() => self.breaker.failed(self.clock.now()),
                _ => self.breaker.succeeded(),
            }
            attempt += 1;
            match answer {
                Err(error) if error.passes() && attempt < ATTEMPTS => {
                    tokio::time::sleep(pause(attempt)).await
                }
                Err(error) => return Err(error),
                Ok(text) => {
                    return serde_json::from_str(&text)
                        .map_err(|error| CallError::Unavailable(format!("{path}: {error}")));
                }
            }
        }
    }

    async fn attempt(
        &self,
        method: StripeMethod,
        path: &str,
        params: Option<&Value>,
        cause: Option<&str>,
    ) -> Result<String, CallError> {
        let request = RequestBuilder::new(method, path);
        let request = match (method, params) {
            (StripeMethod::Get, Some(query)) => request.query(query),
            (_, Some(form)) => request.form(form),
            (_, None) => request,
        };
        let strategy = match cause {
            Some(cause) => RequestStrategy::Idempotent(
                IdempotencyKey::new(cause).map_err(|error| CallError::Refused(error.to_string()))?,
            ),
            None => RequestStrategy::Once,
        };
        let request = request.customize::<miniserde::json::Value>().request_strategy(strategy);
        match request.send(&self.inner).await {
            Ok(value) => Ok(miniserde::json::to_string(&value)),
            Err(error) => Err(told(error)),
        }
    }
}

/// What has an id by which the next page of a list is asked for.
pub trait Listed {
    /// It.
    fn id(&self) -> &str;
}

/// What Stripe said, in our words.
fn told(error: StripeError) -> CallError {
    let StripeError::Stripe(said, status) = error else { return CallError::Unavailable(error.to_string()) };
    let message = said.message.clone().unwrap_or_else(|| format!("Stripe answered {status}"));
    let code = said.code.as_ref().map_or_else(String::new, |code| code.as_str().to_owned());
    match status {
        402 => CallError::Declined {
            message,
            code: if code.is_empty() { "card_declined".to_owned() } else { code },
        },
        404 => CallError::NotFound(message),
        // A key that is in flight, or a busy object.
        409 => CallError::Unavailable(message),
        500 => CallError::Broken(format!("500: {message}")),
        424 | 429 | 501.. => CallError::Unavailable(format!("{status}: {message}")),
        _ => CallError::Refused(format!("{status} {code}: {message}")),
    }
}

const fn verb(method: StripeMethod) -> &'static str {
    match method {
        StripeMethod::Get => "GET",
        StripeMethod::Post => "POST",
        StripeMethod::Delete => "DELETE",
    }
}

fn pause(attempt: u32) -> Duration {
    let base = PAUSE * 2_u32.saturating_pow(attempt - 1);
    let mut chance = [0; 1];
    // Without chance the pause is only less spread.
    let _ = aws_lc_rs::rand::fill(&mut chance);
    base + base * u32::from(chance[0]) / 255
}
