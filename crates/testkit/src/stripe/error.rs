//! What the fake refuses, in the shape of Stripe's errors.

use serde_json::{Value, json};

/// A refusal: its status and the fields of `error`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    error: Value,
}

impl Refusal {
    /// An error of one of Stripe's types.
    pub(super) fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        Self { status, error: json!({"type": kind, "message": message.into()}) }
    }

    /// A request that Stripe does not take.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// An object that is not there.
    pub(super) fn missing(noun: &str, id: &str, param: &str) -> Self {
        let refusal = Self::new(404, "invalid_request_error", format!("No such {noun}: '{id}'"));
        refusal.code("resource_missing").param(param)
    }

    /// A card that does not pay.
    pub(super) fn declined(decline_code: &str) -> Self {
        let (code, message) = if decline_code == "authentication_required" {
            (decline_code, "Your card was declined. This transaction requires authentication.")
        } else {
            ("card_declined", "Your card was declined.")
        };
        Self::new(402, "card_error", message).code(code).with("decline_code", json!(decline_code))
    }

    /// What a fault answers with that status.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            402 => Self::declined("generic_decline"),
            429 => Self::new(429, "invalid_request_error", "Request rate limit exceeded.").code("rate_limit"),
            400..=499 => Self::new(status, "invalid_request_error", "The request cannot be processed."),
            _ => Self::new(status, "api_error", "Something went wrong on Stripe's end."),
        }
    }

    pub(super) fn code(self, code: &str) -> Self {
        let link = format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-"));
        self.with("code", json!(code)).with("doc_url", json!(link))
    }

    pub(super) fn param(self, param: &str) -> Self {
        self.with("param", json!(param))
    }

    pub(super) fn with(mut self, field: &str, value: Value) -> Self {
        self.error[field] = value;
        self
    }

    /// The answer's body.
    pub(super) fn body(&self) -> Value {
        json!({"error": self.error})
    }
}
