//! From dollars to credits: how many credits a dollar is, and what a plan pays on top.

use super::wide::Wide;
use kernel::{Credits, ExactUsd, decimal};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

/// Dollars have 18 places, credits per dollar 6, markups 4, and micro-credits take 6 back.
const TO_MICRO_PLACES: u32 = 18 + 6 + 4 - 6;
/// The places of a product of all three.
const PRODUCT_PLACES: usize = 18 + 6 + 4;

/// A cost is beyond what a call can cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cost is more than one call can cost: 9000000000 US dollars or 9000000000000 credits")]
pub struct TooMuch;

/// Makes a number of fixed places that is read from its literal and written as one.
macro_rules! fixed {
    ($(#[$doc:meta])* $name:ident: $places:literal places, $max:literal at most) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(i64);

        impl $name {
            /// Its decimal places.
            pub const PLACES: u32 = $places;

            /// Reads a decimal literal: 0 or more.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let limit = $max * 10i64.pow(Self::PLACES);
                decimal::parse(text, Self::PLACES, limit, "").ok().filter(|n| *n >= 0).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&decimal::format(self.0.into(), Self::PLACES))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                decimal::serialize(self.0.into(), Self::PLACES, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = decimal::literal(deserializer)?;
                Self::parse(&text).ok_or_else(|| D::Error::custom("must be a number of its kind"))
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0.0)).maximum(Some(f64::from($max))).into()
            }
        }

        impl ToSchema for $name {}
    };
}

fixed!(
    /// How many credits a US dollar is: more than 0 in the settings, 6 decimal places.
    CreditsPerUsd: 6 places, 1_000_000_000 at most
);
fixed!(
    /// What a plan pays for a dollar of cost: 1 is the cost itself, 4 decimal places.
    Markup: 4 places, 1000 at most
);

impl CreditsPerUsd {
    /// Whether a dollar is worth anything.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// What so many cents are, rounded down; nothing where it is more than credits can say.
    #[must_use]
    pub fn of_cents(self, cents: i64) -> Option<Credits> {
        let micro = i128::from(self.0) * i128::from(cents.max(0)) / 100;
        i64::try_from(micro).ok().map(Credits::from_micro).filter(|credits| *credits <= Credits::MAX)
    }
}

impl Markup {
    /// The cost itself.
    pub const ONE: Self = Self(10_000);
}

/// How a cost becomes credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// `CREDITS_PER_USD`.
    pub credits_per_usd: CreditsPerUsd,
    /// The plan's part of `PRICE_MARKUP`.
    pub markup: Markup,
}

impl Terms {
    /// The product of a cost and both factors, with [`PRODUCT_PLACES`] places.
    fn product(&self, cost: ExactUsd) -> Wide {
        // Both factors are not negative, and their product is at most 10¹⁵ × 10⁷.
        let factor = i128::from(self.credits_per_usd.0) * i128::from(self.markup.0);
        Wide::product(cost.atto().unsigned_abs(), factor.unsigned_abs())
    }

    /// The credits before they are rounded, as an exact literal.
    #[must_use]
    pub fn exact(&self, cost: ExactUsd) -> String {
        self.product(cost).decimal(PRODUCT_PLACES)
    }
}

/// The credits that a cost is, rounded half up to a micro-credit, once.
///
/// # Errors
/// [`TooMuch`].
pub fn to_credits(cost: ExactUsd, terms: &Terms) -> Result<Credits, TooMuch> {
    if cost < ExactUsd::ZERO || cost > ExactUsd::MAX {
        return Err(TooMuch);
    }
    let micro = terms.product(cost).scaled_down(TO_MICRO_PLACES).ok_or(TooMuch)?;
    let credits = Credits::from_micro(micro);
    if credits > Credits::MAX { Err(TooMuch) } else { Ok(credits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms(credits_per_usd: &str, markup: &str) -> Terms {
        Terms {
            credits_per_usd: CreditsPerUsd::parse(credits_per_usd).expect("credits per dollar"),
            markup: Markup::parse(markup).expect("a markup"),
        }
    }

    #[test]
    fn credits_are_rounded_half_up_once() {
        let atto = |text: &str| -> ExactUsd { serde_json::from_str(text).expect("dollars") };
        for (cost, per_usd, markup, micro) in [
            ("0.051", "500", "1", 25_500_000),
            ("0.000000001", "500", "1", 1),
            ("0.000000000999999999", "500", "1", 0),
            ("0.000000000999999999", "500", "1.0001", 1),
            ("1", "0.000001", "0.5", 1),
            ("1", "0.000001", "0.4999", 0),
            ("0", "1000000000", "1000", 0),
            ("9000000000", "1000", "1", 9_000_000_000_000_000_000),
        ] {
            let credits = to_credits(atto(cost), &terms(per_usd, markup));
            assert_eq!(credits, Ok(Credits::from_micro(micro)), "{cost} {per_usd} {markup}");
        }
        assert_eq!(to_credits(ExactUsd::MAX, &terms("1000000000", "1000")), Err(TooMuch));
        assert_eq!(to_credits(ExactUsd::from_atto(ExactUsd::MAX.atto() + 1), &terms("1", "1")), Err(TooMuch));
        assert_eq!(to_credits(ExactUsd::from_atto(-1), &terms("1", "1")), Err(TooMuch));
    }

    #[test]
    fn the_factors_are_bounded() {
        assert_eq!(CreditsPerUsd::parse("0.0000001"), None);
        assert_eq!(CreditsPerUsd::parse("1000000000.1"), None);
        assert_eq!(Markup::parse("1.00001"), None);
        assert_eq!(Markup::parse("-1"), None);
        assert_eq!(Markup::parse("1001"), None);
        assert_eq!(serde_json::to_string(&Markup::parse("1.25")).expect("json"), "1.25");
    }

    proptest! {
        #[test]
        fn small_costs_are_those_of_integers(atto in 0i128..10i128.pow(20), per_usd in 1i64..1_000_000, markup in 0i64..100_000) {
            let terms = Terms { credits_per_usd: CreditsPerUsd(per_usd), markup: Markup(markup) };
            let product = atto * i128::from(per_usd) * i128::from(markup);
            let unit = 10i128.pow(TO_MICRO_PLACES);
            let expected = (product + unit / 2) / unit;
            prop_assert_eq!(to_credits(ExactUsd::from_atto(atto), &terms).map(|c| i128::from(c.micro())), Ok(expected));
        }
    }
}
