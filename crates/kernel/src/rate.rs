//! What one unit of something costs, and sums of such costs before they are rounded.
//!
//! A token costs far less than a nano-dollar's multiple: a [`Rate`] has 15 decimal places, and an
//! [`ExactUsd`] 18, because seconds are counted in thousandths. Nothing is rounded between them.

use crate::{credits::decimal_input, decimal, decimal::DecimalError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, fmt};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

const PLACES: u32 = 15;
const MAX_FEMTO: i64 = 9_000_000_000_000_000_000;
const MAX_TEXT: &str = "9000";
const MAX_NUMBER: f64 = 9_000.0;
const EXACT_PLACES: u32 = 18;
const NANO_PER_EXACT: i128 = 1_000_000_000;

/// US dollars per unit: 0 to 9000, exact to 15 decimal places; femto-dollars in an `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rate(i64);

impl Rate {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// In femto-dollars (10⁻¹⁵ dollars).
    #[must_use]
    pub const fn femto(self) -> i64 {
        self.0
    }

    /// From femto-dollars, 0 to 9 × 10¹⁸ of them.
    #[must_use]
    pub fn from_femto(femto: i64) -> Option<Self> {
        (0..=MAX_FEMTO).contains(&femto).then_some(Self(femto))
    }

    /// Reads a decimal literal without rounding it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        Self::positive(decimal::parse(text, PLACES, MAX_FEMTO, MAX_TEXT)?)
    }

    /// Reads a decimal literal, rounds more than 15 places half up, and says whether it did.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse_rounding(text: &str) -> Result<(Self, bool), DecimalError> {
        let (femto, rounded) = decimal::parse_rounding(text, PLACES, MAX_FEMTO, MAX_TEXT)?;
        Ok((Self::positive(femto)?, rounded))
    }

    const fn positive(femto: i64) -> Result<Self, DecimalError> {
        if femto < 0 { Err(DecimalError::Negative) } else { Ok(Self(femto)) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal::format(self.0.into(), PLACES))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal::serialize(self.0.into(), PLACES, serializer)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&decimal::literal(deserializer)?).map_err(D::Error::custom)
    }
}

impl PartialSchema for Rate {
    fn schema() -> RefOr<Schema> {
        decimal_input("US dollars per unit: at most 15 decimal places.", PLACES, MAX_NUMBER, false)
    }
}

impl ToSchema for Rate {
    fn name() -> Cow<'static, str> {
        "Rate".into()
    }
}

/// A cost before it is rounded: 0 or more, exact to 18 decimal places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ExactUsd(i128);

impl ExactUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most that one call may cost: 9 × 10⁹ dollars, as [`crate::Cost`] has it.
    pub const MAX: Self = Self(9_000_000_000 * 1_000_000_000_000_000_000);

    /// From atto-dollars (10⁻¹⁸ dollars).
    #[must_use]
    pub const fn from_atto(atto: i128) -> Self {
        Self(atto)
    }

    /// In atto-dollars.
    #[must_use]
    pub const fn atto(self) -> i128 {
        self.0
    }

    /// So many thousandths of a unit at a rate; nothing where no number holds it.
    #[must_use]
    pub fn of(rate: Rate, thousandths: i128) -> Option<Self> {
        i128::from(rate.0).checked_mul(thousandths).map(Self)
    }

    /// The sum; nothing where no number holds it.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// In nano-dollars, rounded half up.
    #[must_use]
    pub const fn nano_rounded(self) -> i128 {
        (self.0 + NANO_PER_EXACT / 2).div_euclid(NANO_PER_EXACT)
    }
}

impl fmt::Display for ExactUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal::format(self.0, EXACT_PLACES))
    }
}

impl Serialize for ExactUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal::serialize(self.0, EXACT_PLACES, serializer)
    }
}

impl<'de> Deserialize<'de> for ExactUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let literal = decimal::literal(deserializer)?;
        // Whole dollars and their rest each fit where both together may not.
        let (whole, rest) = literal.split_once('.').unwrap_or((&literal, "0"));
        let dollars = decimal::parse(whole, 0, 9_000_000_000, "9000000000").map_err(D::Error::custom)?;
        let rest = decimal::parse(&format!("0.{rest}"), EXACT_PLACES, i64::MAX, "1");
        let atto =
            i128::from(dollars) * 10i128.pow(EXACT_PLACES) + i128::from(rest.map_err(D::Error::custom)?);
        if dollars < 0 || literal.starts_with('-') {
            return Err(D::Error::custom(DecimalError::Negative));
        }
        Ok(Self(atto))
    }
}

impl PartialSchema for ExactUsd {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Number)
            .description(Some("US dollars before rounding, exact to 18 decimal places."))
            .minimum(Some(0.0))
            .maximum(Some(9_000_000_000.0))
            .into()
    }
}

impl ToSchema for ExactUsd {
    fn name() -> Cow<'static, str> {
        "ExactUsd".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rate_is_read_from_its_literal_and_never_through_a_float() {
        for (text, femto) in
            [("1.25e-06", 1_250_000_000), ("0.00003", 30_000_000_000), ("\"2e-15\"", 2), ("9000", MAX_FEMTO)]
        {
            let rate: Rate = serde_json::from_str(text).expect(text);
            assert_eq!(rate.femto(), femto, "{text}");
        }
        for (text, rule) in [
            ("1e-16", "must have at most 15 decimal places"),
            ("9000.1", "must be at most 9000"),
            ("-1", "must not be negative"),
            ("true", "must be a number"),
        ] {
            let error = serde_json::from_str::<Rate>(text).expect_err(text).to_string();
            assert!(error.starts_with(rule), "{text}: {error}");
        }
        let (rate, rounded) = Rate::parse_rounding("2.9999900000000002e-06").expect("a rate");
        assert_eq!((rate.femto(), rounded), (2_999_990_000, true));
        assert_eq!(serde_json::to_string(&rate).expect("json"), "0.00000299999");
    }

    #[test]
    fn costs_are_rounded_once_and_half_up() {
        for (atto, nano) in [(499_999_999, 0), (500_000_000, 1), (1_499_999_999, 1), (0, 0)] {
            assert_eq!(ExactUsd::from_atto(atto).nano_rounded(), nano);
        }
    }

    proptest! {
        #[test]
        fn an_exact_cost_is_read_back(atto in 0..=ExactUsd::MAX.atto()) {
            let cost = ExactUsd::from_atto(atto);
            let text = serde_json::to_string(&cost).expect("json");
            prop_assert_eq!(serde_json::from_str::<ExactUsd>(&text).expect("a cost"), cost);
        }
    }
}
