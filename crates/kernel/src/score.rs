//! Scores between 0 and 1, and flags that old clients send as text.

use crate::{credits::decimal_input, decimal};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::borrow::Cow;
use utoipa::openapi::{
    RefOr, Schema,
    schema::{ObjectBuilder, OneOfBuilder, Type},
};
use utoipa::{PartialSchema, ToSchema};

const PLACES: u32 = 6;
const MAX_MILLIONTHS: i64 = 1_000_000;

/// How important something is: 0 to 1, exact to 6 decimal places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score(i64);

impl Score {
    /// The middle: neither important nor unimportant.
    pub const HALF: Self = Self(MAX_MILLIONTHS / 2);

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> i64 {
        self.0
    }

    /// From millionths that were once taken from a score.
    #[must_use]
    pub const fn from_millionths(millionths: i64) -> Self {
        Self(millionths)
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal::serialize(self.0.into(), PLACES, serializer)
    }
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let literal = decimal::literal(deserializer)?;
        match decimal::parse(&literal, PLACES, MAX_MILLIONTHS, "1") {
            Ok(millionths) if millionths >= 0 => Ok(Self(millionths)),
            _ => Err(D::Error::custom("must be a number from 0 to 1 with at most 6 decimal places")),
        }
    }
}

impl PartialSchema for Score {
    fn schema() -> RefOr<Schema> {
        decimal_input("0 to 1, at most 6 decimal places.", PLACES, 1.0, false)
    }
}

impl ToSchema for Score {
    fn name() -> Cow<'static, str> {
        "Score".into()
    }
}

/// True or false, as JSON has it or as the text `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Truth(bool),
            Text(String),
        }
        let given =
            Given::deserialize(deserializer).map_err(|_| D::Error::custom("must be true or false"))?;
        match given {
            Given::Truth(truth) => Ok(Self(truth)),
            Given::Text(text) if text == "true" => Ok(Self(true)),
            Given::Text(text) if text == "false" => Ok(Self(false)),
            Given::Text(_) => Err(D::Error::custom("must be true or false")),
        }
    }
}

impl PartialSchema for Flag {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true", "false"]));
        OneOfBuilder::new().item(ObjectBuilder::new().schema_type(Type::Boolean)).item(text).into()
    }
}

impl ToSchema for Flag {
    fn name() -> Cow<'static, str> {
        "Flag".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_exact_and_within_bounds() {
        let score: Score = serde_json::from_str("0.5").expect("a score");
        assert_eq!((score, score.millionths()), (Score::HALF, 500_000));
        for (text, shown) in [("\"0.25\"", "0.25"), ("1", "1"), ("0", "0"), ("1e-6", "0.000001")] {
            let score: Score = serde_json::from_str(text).expect(text);
            assert_eq!(serde_json::to_string(&score).expect("json"), shown);
        }
        for bad in ["-0.1", "1.1", "0.0000001", "true", "\"\"", "NaN"] {
            assert!(serde_json::from_str::<Score>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_come_as_truths_and_as_texts() {
        for (text, truth) in [("true", true), ("false", false), ("\"true\"", true), ("\"false\"", false)] {
            assert_eq!(serde_json::from_str::<Flag>(text).expect(text), Flag(truth));
        }
        for bad in ["1", "\"yes\"", "null", "\"True\""] {
            assert!(serde_json::from_str::<Flag>(bad).is_err(), "{bad}");
        }
    }
}
