//! Credits: what users spend. One credit is 1 000 000 micro-credits, stored as `i64`.

use crate::decimal::{self, DecimalError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, fmt, ops::Neg};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

const PLACES: u32 = 6;
const MAX_TEXT: &str = "9000000000000";
const MAX_NUMBER: f64 = 9_000_000_000_000.0;

/// An exact number of credits in micro-credits; balances and signed ledger amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Credits(i64);

impl Credits {
    /// No credits.
    pub const ZERO: Self = Self(0);
    /// The most that one amount, one balance or one account's lifetime total may be: 9 × 10¹² credits.
    pub const MAX: Self = Self(9_000_000_000_000_000_000);

    /// From micro-credits (millionths of a credit).
    #[must_use]
    pub const fn from_micro(micro: i64) -> Self {
        Self(micro)
    }

    /// From whole credits.
    #[must_use]
    pub const fn whole(credits: i32) -> Self {
        Self(credits as i64 * 1_000_000)
    }

    /// In micro-credits.
    #[must_use]
    pub const fn micro(self) -> i64 {
        self.0
    }

    /// The sum, or nothing when it would pass [`Credits::MAX`] in either direction.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sum = self.0.checked_add(other.0)?;
        (sum.unsigned_abs() <= Self::MAX.0.unsigned_abs()).then_some(Self(sum))
    }

    /// The difference, or nothing when it would pass [`Credits::MAX`] in either direction.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Self(other.0.checked_neg()?))
    }

    /// The amount without its sign.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.abs())
    }
}

impl Neg for Credits {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal::format(i128::from(self.0), PLACES))
    }
}

impl Serialize for Credits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal::serialize(i128::from(self.0), PLACES, serializer)
    }
}

impl PartialSchema for Credits {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Number)
            .description(Some("Credits, exact to 6 decimal places."))
            .minimum(Some(-MAX_NUMBER))
            .maximum(Some(MAX_NUMBER))
            .into()
    }
}

impl ToSchema for Credits {
    fn name() -> Cow<'static, str> {
        "Credits".into()
    }
}

/// Credits that a caller asks to move: more than zero, at most [`Credits::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(Credits);

impl Amount {
    /// Takes credits that are more than zero.
    ///
    /// # Errors
    /// [`DecimalError::NotPositive`] for zero and below.
    pub fn new(credits: Credits) -> Result<Self, DecimalError> {
        if credits > Credits::ZERO { Ok(Self(credits)) } else { Err(DecimalError::NotPositive) }
    }

    /// The credits.
    #[must_use]
    pub const fn credits(self) -> Credits {
        self.0
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let micro = parse(&decimal::literal(deserializer)?).map_err(D::Error::custom)?;
        Self::new(Credits(micro)).map_err(D::Error::custom)
    }
}

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        decimal_input("Credits to move: more than 0, at most 6 decimal places.", PLACES, MAX_NUMBER, true)
    }
}

impl ToSchema for Amount {
    fn name() -> Cow<'static, str> {
        "Amount".into()
    }
}

/// Credits that a usage record says were charged: zero or more, at most [`Credits::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Charge(Credits);

impl Charge {
    /// The credits.
    #[must_use]
    pub const fn credits(self) -> Credits {
        self.0
    }
}

impl<'de> Deserialize<'de> for Charge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let micro = parse(&decimal::literal(deserializer)?).map_err(D::Error::custom)?;
        if micro < 0 {
            return Err(D::Error::custom(DecimalError::Negative));
        }
        Ok(Self(Credits(micro)))
    }
}

impl PartialSchema for Charge {
    fn schema() -> RefOr<Schema> {
        decimal_input("Credits charged: 0 or more, at most 6 decimal places.", PLACES, MAX_NUMBER, false)
    }
}

impl ToSchema for Charge {
    fn name() -> Cow<'static, str> {
        "Charge".into()
    }
}

/// Credits to move in either direction: not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed(Credits);

impl Signed {
    /// The credits, with their sign.
    #[must_use]
    pub const fn credits(self) -> Credits {
        self.0
    }
}

impl<'de> Deserialize<'de> for Signed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match parse(&decimal::literal(deserializer)?).map_err(D::Error::custom)? {
            0 => Err(D::Error::custom("must not be 0")),
            // The parser bounds what is above zero; below it the same holds.
            micro if micro < -Credits::MAX.0 => Err(D::Error::custom(DecimalError::TooLarge(MAX_TEXT))),
            micro => Ok(Self(Credits(micro))),
        }
    }
}

impl PartialSchema for Signed {
    fn schema() -> RefOr<Schema> {
        use utoipa::openapi::schema::{OneOfBuilder, SchemaType};
        let number = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Number))
            .minimum(Some(-MAX_NUMBER))
            .maximum(Some(MAX_NUMBER));
        let text = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .pattern(Some(format!("^-?[0-9]{{1,13}}(\\.[0-9]{{1,{PLACES}}})?$")))
            .min_length(Some(1))
            .max_length(Some(decimal::LITERAL_MAX_CHARS));
        let description = "Credits to give, or to take when below 0: not 0, at most 6 decimal places.";
        OneOfBuilder::new().description(Some(description)).item(number).item(text).into()
    }
}

impl ToSchema for Signed {
    fn name() -> Cow<'static, str> {
        "Signed".into()
    }
}

fn parse(literal: &str) -> Result<i64, DecimalError> {
    decimal::parse(literal, PLACES, Credits::MAX.0, MAX_TEXT)
}

/// The schema of a decimal that arrives as a number or as a string.
pub(crate) fn decimal_input(description: &str, places: u32, maximum: f64, positive: bool) -> RefOr<Schema> {
    use utoipa::openapi::schema::{OneOfBuilder, SchemaType};
    let number = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Number)).maximum(Some(maximum));
    let number = if positive { number.exclusive_minimum(Some(0.0)) } else { number.minimum(Some(0.0)) };
    let text = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(format!("^[0-9]{{1,13}}(\\.[0-9]{{1,{places}}})?$")))
        .min_length(Some(1))
        .max_length(Some(decimal::LITERAL_MAX_CHARS));
    OneOfBuilder::new().description(Some(description)).item(number).item(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_arrives_as_number_or_string_and_is_more_than_zero() {
        for text in ["25.5", "\"25.5\"", "2.55e1"] {
            let amount: Amount = serde_json::from_str(text).expect(text);
            assert_eq!(amount.credits().micro(), 25_500_000);
        }
        for (text, rule) in [
            ("0", "must be greater than 0"),
            ("-1", "must be greater than 0"),
            ("0.0000001", "must have at most 6 decimal places"),
            ("9000000000001", "must be at most 9000000000000"),
            ("true", "must be a number"),
            ("null", "must be a number"),
            ("\"ten\"", "must be a number"),
            ("[1]", "must be a number"),
        ] {
            let error = serde_json::from_str::<Amount>(text).expect_err(text).to_string();
            assert!(error.starts_with(rule), "{text}: {error}");
        }
    }

    #[test]
    fn a_correction_goes_either_way_but_not_nowhere() {
        for (text, micro) in [("-2.5", -2_500_000), ("\"3\"", 3_000_000), ("-9000000000000", -Credits::MAX.0)]
        {
            assert_eq!(serde_json::from_str::<Signed>(text).expect(text).credits().micro(), micro);
        }
        for (text, rule) in [
            ("0", "must not be 0"),
            ("-0.0", "must not be 0"),
            ("-0.0000001", "must have at most 6 decimal places"),
            ("-9000000000001", "must be at most 9000000000000"),
        ] {
            let error = serde_json::from_str::<Signed>(text).expect_err(text).to_string();
            assert!(error.starts_with(rule), "{text}: {error}");
        }
    }

    #[test]
    fn answers_carry_the_shortest_exact_literal() {
        for (micro, text) in [
            (1_000_000_000, "1000"),
            (923_500_000, "923.5"),
            (1, "0.000001"),
            (-25_500_000, "-25.5"),
            (Credits::MAX.micro() - 1, "8999999999999.999999"),
        ] {
            assert_eq!(serde_json::to_string(&Credits(micro)).expect("json"), text);
        }
    }

    #[test]
    fn sums_past_the_maximum_are_refused() {
        assert_eq!(Credits::MAX.checked_add(Credits(1)), None);
        assert_eq!(Credits::MAX.checked_add(Credits::MAX), None);
        assert_eq!(Credits(-1).checked_sub(Credits::MAX), None);
        assert_eq!(Credits(5).checked_sub(Credits(7)), Some(Credits(-2)));
    }
}
