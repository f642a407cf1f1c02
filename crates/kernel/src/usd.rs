//! US dollars, exact to 9 decimal places, stored as `i64` nano-dollars.

use crate::{credits::decimal_input, decimal};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::borrow::Cow;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

const PLACES: u32 = 9;
const MAX_NANO: i64 = 9_000_000_000_000_000_000;
const MAX_TEXT: &str = "9000000000";
const MAX_NUMBER: f64 = 9_000_000_000.0;

/// An exact sum of US dollars in answers; sums may pass what one input may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Usd(i128);

impl Usd {
    /// From nano-dollars (billionths of a dollar).
    #[must_use]
    pub const fn from_nano(nano: i128) -> Self {
        Self(nano)
    }

    /// As nano-dollars; what one record may cost always fits.
    #[must_use]
    pub fn nano(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal::serialize(self.0, PLACES, serializer)
    }
}

impl PartialSchema for Usd {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Number)
            .description(Some("US dollars, exact to 9 decimal places."))
            .minimum(Some(0.0))
            .maximum(Some(1e20))
            .into()
    }
}

impl ToSchema for Usd {
    fn name() -> Cow<'static, str> {
        "Usd".into()
    }
}

/// What a call cost: zero or more, at most 9 × 10⁹ dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost(i64);

impl Cost {
    /// In nano-dollars.
    #[must_use]
    pub const fn nano(self) -> i64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let literal = decimal::literal(deserializer)?;
        let nano = decimal::parse(&literal, PLACES, MAX_NANO, MAX_TEXT).map_err(D::Error::custom)?;
        if nano < 0 {
            return Err(D::Error::custom(decimal::DecimalError::Negative));
        }
        Ok(Self(nano))
    }
}

impl PartialSchema for Cost {
    fn schema() -> RefOr<Schema> {
        decimal_input("US dollars: 0 or more, at most 9 decimal places.", PLACES, MAX_NUMBER, false)
    }
}

impl ToSchema for Cost {
    fn name() -> Cow<'static, str> {
        "Cost".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiny_cost_survives() {
        let cost: Cost = serde_json::from_str("0.00000015").expect("a cost");
        assert_eq!(cost.nano(), 150);
        let usd = Usd::from_nano(i128::from(cost.nano()));
        assert_eq!(serde_json::to_string(&usd).expect("json"), "0.00000015");
    }

    #[test]
    fn a_negative_or_finer_cost_is_refused() {
        assert!(serde_json::from_str::<Cost>("-0.1").is_err());
        assert!(serde_json::from_str::<Cost>("0.0000000001").is_err());
    }
}
