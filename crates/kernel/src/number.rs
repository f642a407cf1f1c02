//! Whole numbers that arrive as a JSON number or, from old clients and queries, as a string.

use crate::decimal;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::borrow::Cow;
use utoipa::openapi::{
    RefOr, Schema,
    schema::{ObjectBuilder, OneOfBuilder, Type},
};
use utoipa::{PartialSchema, ToSchema};

/// A count such as tokens: 0 to 2 147 483 647.
///
/// The bound keeps sums over billions of records within 63 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Count(u32);

impl Count {
    /// The largest count.
    pub const MAX: u32 = 2_147_483_647;

    /// The count, at most [`Count::MAX`].
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The sum, held at [`Count::MAX`].
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).min(Self::MAX))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        whole(deserializer, 0, i64::from(Self::MAX), "2147483647").map(|n| Self(n as u32))
    }
}

impl PartialSchema for Count {
    fn schema() -> RefOr<Schema> {
        integer_input("A whole number.", 0.0, f64::from(Self::MAX))
    }
}

impl ToSchema for Count {
    fn name() -> Cow<'static, str> {
        "Count".into()
    }
}

/// A row id that a caller refers to: 1 to 2⁵³ − 1, so that every JSON reader keeps it exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId(i64);

impl RecordId {
    const MAX: i64 = 9_007_199_254_740_991;

    /// The id.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        whole(deserializer, 1, Self::MAX, "9007199254740991").map(Self)
    }
}

impl PartialSchema for RecordId {
    fn schema() -> RefOr<Schema> {
        integer_input("The id of a record.", 1.0, Self::MAX as f64)
    }
}

impl ToSchema for RecordId {
    fn name() -> Cow<'static, str> {
        "RecordId".into()
    }
}

fn whole<'de, D: Deserializer<'de>>(
    deserializer: D,
    min: i64,
    max: i64,
    max_text: &'static str,
) -> Result<i64, D::Error> {
    let value = decimal::parse(&decimal::literal(deserializer)?, 0, max, max_text).map_err(|e| match e {
        decimal::DecimalError::TooPrecise(_) => D::Error::custom("must be a whole number"),
        other => D::Error::custom(other),
    })?;
    if value < min {
        return Err(D::Error::custom(format_args!("must be at least {min}")));
    }
    Ok(value)
}

fn integer_input(description: &str, min: f64, max: f64) -> RefOr<Schema> {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(Some(max));
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[0-9]{1,16}$"))
        .min_length(Some(1))
        .max_length(Some(16));
    OneOfBuilder::new().description(Some(description)).item(number).item(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_whole_and_bounded() {
        assert_eq!(serde_json::from_str::<Count>("\"1250\"").expect("a count").get(), 1250);
        assert_eq!(serde_json::from_str::<Count>("5.0").expect("a count").get(), 5);
        for (text, rule) in [
            ("-1", "must be at least 0"),
            ("1.5", "must be a whole number"),
            ("2147483648", "must be at most 2147483647"),
        ] {
            let error = serde_json::from_str::<Count>(text).expect_err(text).to_string();
            assert!(error.starts_with(rule), "{text}: {error}");
        }
    }
}
