//! What answers say of limits.

use super::model::{Dimension, Limit, Unit};
use super::rules::{Denial, Standing};
use super::source::Source;
use super::window::Window;
use crate::http::ApiError;
use axum::http::StatusCode;
use kernel::{Timestamp, decimal};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

/// So much of a unit, exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    parts: i128,
    unit: Unit,
}

impl Quantity {
    fn of(unit: Unit, parts: impl Into<i128>) -> Self {
        Self { parts: parts.into(), unit }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal::serialize(self.parts, self.unit.places(), serializer)
    }
}

impl PartialSchema for Quantity {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Number)
            .description(Some("In the limit's unit: credits to 6 decimal places, US dollars to 9, tokens and requests whole."))
            .minimum(Some(0.0))
            .maximum(Some(1e18))
            .into()
    }
}

impl ToSchema for Quantity {
    fn name() -> Cow<'static, str> {
        "LimitQuantity".into()
    }
}

/// A limit as it was set.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LimitView {
    /// Its name.
    #[schema(max_length = 100)]
    id: String,
    /// What is counted apart.
    per: Dimension,
    /// The one session, model, tag or key; null where each is counted on its own, and for the user.
    #[schema(max_length = 255)]
    value: Option<String>,
    /// What is counted.
    unit: Unit,
    /// Over which time.
    window: Window,
    /// How much may be spent.
    amount: Quantity,
    /// Who set it: the user's plan, or whoever sent it for the user.
    source: Source,
}

impl LimitView {
    /// The view of a limit.
    #[must_use]
    pub fn of(limit: &Limit) -> Self {
        Self {
            id: limit.id.clone(),
            per: limit.per,
            value: limit.value.clone(),
            unit: limit.unit,
            window: limit.window,
            amount: Quantity::of(limit.unit, limit.amount),
            source: limit.source(),
        }
    }
}

/// A limit of which a part is spent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LimitAlert {
    /// Its name.
    #[schema(max_length = 100)]
    id: String,
    /// What is counted apart.
    per: Dimension,
    /// Which session, model, tag or key this is about; null for a limit of the user.
    #[schema(max_length = 255)]
    value: Option<String>,
    /// What is counted.
    unit: Unit,
    /// Over which time.
    window: Window,
    /// How much may be spent.
    amount: Quantity,
    /// What was spent in the window.
    used: Quantity,
    /// When less will be used than now.
    resets_at: Option<Timestamp>,
}

impl LimitAlert {
    /// How a limit stands under one value.
    #[must_use]
    pub fn new(limit: &Limit, value: &str, standing: Standing) -> Self {
        Self {
            id: limit.id.clone(),
            per: limit.per,
            value: (limit.per != Dimension::User).then(|| value.to_owned()),
            unit: limit.unit,
            window: limit.window,
            amount: Quantity::of(limit.unit, limit.amount),
            used: Quantity::of(limit.unit, standing.used),
            resets_at: standing.resets_at,
        }
    }
}

/// A limit and how it stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LimitStatus {
    /// Its name.
    #[schema(max_length = 100)]
    id: String,
    /// What is counted apart.
    per: Dimension,
    /// The one session, model, tag or key; null where each is counted on its own, and for the user.
    #[schema(max_length = 255)]
    value: Option<String>,
    /// What is counted.
    unit: Unit,
    /// Over which time.
    window: Window,
    /// How much may be spent.
    amount: Quantity,
    /// Who set it: the user's plan, or whoever sent it for the user.
    source: Source,
    /// What was spent in the window; null where each value is counted on its own.
    used: Option<Quantity>,
    /// What open holds set aside.
    held: Option<Quantity>,
    /// What can still be spent.
    remaining: Option<Quantity>,
    /// When less will be used than now: a calendar window's end, or when the oldest part leaves a rolling
    /// one; null where nothing will change.
    resets_at: Option<Timestamp>,
    /// Where each value is counted on its own: those with use in the window, in order, at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100)]
    values: Option<Vec<ValueStatus>>,
    /// Whether there are more values than those.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_values: Option<bool>,
}

/// How a limit stands under one value.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ValueStatus {
    /// The session, model, tag or key.
    #[schema(max_length = 255)]
    value: String,
    /// What was spent in the window.
    used: Quantity,
    /// What open holds set aside.
    held: Quantity,
    /// What can still be spent.
    remaining: Quantity,
    /// When less will be used than now.
    resets_at: Option<Timestamp>,
}

impl LimitStatus {
    /// A limit that counts one thing.
    #[must_use]
    pub fn one(limit: &Limit, standing: Standing) -> Self {
        let quantity = |parts: i128| Some(Quantity::of(limit.unit, parts));
        Self {
            used: quantity(standing.used),
            held: quantity(standing.held.into()),
            remaining: quantity(standing.remaining.into()),
            resets_at: standing.resets_at,
            ..Self::each(limit, None)
        }
    }

    /// The same about one value of a limit that counts each on its own.
    #[must_use]
    pub fn under(self, value: &str) -> Self {
        let value = (self.per != Dimension::User).then(|| value.to_owned());
        Self { value, ..self }
    }

    /// A limit that counts each value on its own: those that were found, and whether there are more.
    #[must_use]
    pub fn each(limit: &Limit, found: Option<(Vec<(String, Standing)>, bool)>) -> Self {
        let LimitView { id, per, value, unit, window, amount, source } = LimitView::of(limit);
        let more_values = found.as_ref().map(|(_, more)| *more);
        let values = found.map(|(values, _)| {
            values.into_iter().map(|(value, standing)| ValueStatus::of(limit, value, standing)).collect()
        });
        let (used, held, remaining, resets_at) = (None, None, None, None);
        Self {
            id,
            per,
            value,
            unit,
            window,
            amount,
            source,
            used,
            held,
            remaining,
            resets_at,
            values,
            more_values,
        }
    }
}

impl ValueStatus {
    fn of(limit: &Limit, value: String, standing: Standing) -> Self {
        Self {
            value,
            used: Quantity::of(limit.unit, standing.used),
            held: Quantity::of(limit.unit, standing.held),
            remaining: Quantity::of(limit.unit, standing.remaining),
            resets_at: standing.resets_at,
        }
    }
}

/// What a spend would be answered.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CheckView {
    /// Whether it fits every limit.
    pub allowed: bool,
    /// The limit that stands in the way longest.
    pub denial: Option<DenialView>,
    /// Every limit that is about the spend, with the value that it counts.
    #[schema(max_items = 480)]
    pub limits: Vec<LimitStatus>,
}

/// A limit that a spend does not fit: the details of `SpendingLimitExceededException`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DenialView {
    /// The limit's id.
    #[schema(max_length = 100)]
    limit: String,
    /// What it counts.
    unit: Unit,
    /// What it counts apart.
    per: Dimension,
    /// Which session, model, tag or key.
    #[schema(max_length = 255)]
    value: Option<String>,
    /// Over which time.
    window: Window,
    /// The limit.
    amount: Quantity,
    /// What was spent in the window.
    used: Quantity,
    /// What open holds set aside.
    held: Quantity,
    /// What can still be spent.
    remaining: Quantity,
    /// What was asked for.
    requested: Quantity,
    /// When the same spend would fit, if nothing else is spent; null where time alone will not do.
    resets_at: Option<Timestamp>,
    /// Whether the same spend can ever pass.
    retryable: bool,
}

impl From<&Denial> for DenialView {
    fn from(denial: &Denial) -> Self {
        let quantity = |parts: i64| Quantity::of(denial.unit, parts);
        Self {
            limit: denial.limit.clone(),
            unit: denial.unit,
            per: denial.per,
            value: denial.value.clone(),
            window: denial.window,
            amount: quantity(denial.amount),
            used: Quantity::of(denial.unit, denial.used),
            held: quantity(denial.held),
            remaining: quantity(denial.remaining),
            requested: quantity(denial.requested),
            resets_at: denial.resets_at,
            retryable: denial.retryable(),
        }
    }
}

impl From<&Denial> for ApiError {
    /// 402 with the denial's numbers.
    fn from(denial: &Denial) -> Self {
        let mut error =
            Self::new(StatusCode::PAYMENT_REQUIRED, "SpendingLimitExceededException", denial.to_string());
        if let Ok(Value::Object(details)) = serde_json::to_value(DenialView::from(denial)) {
            error.details = details;
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_denial_is_402_with_exact_numbers_in_its_unit() {
        let denial = Denial {
            limit: "monthly".to_owned(),
            per: Dimension::Model,
            value: Some("gpt-4".to_owned()),
            unit: Unit::Usd,
            window: Window::Month,
            amount: 5_000_000_000,
            used: 4_750_000_000,
            held: 0,
            remaining: 250_000_000,
            requested: 1_000_000_000,
            resets_at: Some("2025-08-01".parse().expect("a date")),
        };
        let error = ApiError::from(&denial);
        let said = (error.status.as_u16(), error.code, error.message.as_str());
        let message = "Spending limit reached: monthly. Remaining: 0.25 usd, Required: 1";
        assert_eq!(said, (402, "SpendingLimitExceededException", message));
        assert_eq!(
            serde_json::to_string(&error.details).expect("json"),
            r#"{"amount":5,"held":0,"limit":"monthly","per":"model","remaining":0.25,"requested":1,"resets_at":"2025-08-01T00:00:00.000000Z","retryable":true,"unit":"usd","used":4.75,"value":"gpt-4","window":"month"}"#
        );
        let blocked = Denial { amount: 0, remaining: 0, resets_at: None, value: None, ..denial };
        let details = ApiError::from(&blocked).details;
        assert_eq!((&details["retryable"], &details["resets_at"]), (&json!(false), &Value::Null));
    }
}
