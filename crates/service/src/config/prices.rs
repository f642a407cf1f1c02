//! Settings of prices: credits per dollar, what plans pay on top, and models that nobody knows.

use super::source::{ConfigError, Reader};
use crate::prices::{CreditsPerUsd, Markup, PriceVersion, Terms, fallback_version};
use kernel::{Rate, decimal};
use std::collections::BTreeMap;

const CREDITS_RULE: &str = "be a number above 0 and at most 1000000000 with at most 6 decimal places";
const MARKUP_RULE: &str = "be a comma list of plan=markup with a number from 0 to 1000 and at most 4 decimal places, and * for every other plan";
const UNKNOWN_RULE: &str = "be reject, fallback or record";
const FALLBACK_RULE: &str = "be a number from 0 to 1000000 with at most 9 decimal places";
/// A dollar for a million tokens, to 9 places, is so many femto-dollars for one: the places are the same.
const FALLBACK_PLACES: u32 = 9;

/// What becomes of a charge for a model that has no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownModel {
    /// It is refused.
    Reject,
    /// Its tokens cost `FALLBACK_USD_PER_MILLION_TOKENS`.
    Fallback,
    /// Its usage is kept without a price.
    Record,
}

impl UnknownModel {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "reject" => Some(Self::Reject),
            "fallback" => Some(Self::Fallback),
            "record" => Some(Self::Record),
            _ => None,
        }
    }
}

/// What each plan pays for a dollar of cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Markups {
    plans: BTreeMap<String, Markup>,
    other: Markup,
}

impl Markups {
    /// The markup of a plan.
    #[must_use]
    pub fn of(&self, plan: &str) -> Markup {
        self.plans.get(plan).copied().unwrap_or(self.other)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut plans = BTreeMap::new();
        for part in text.split(',') {
            let (plan, markup) = part.split_once('=')?;
            let (plan, markup) = (plan.trim(), Markup::parse(markup.trim())?);
            if plan.is_empty() || plans.insert(plan.to_owned(), markup).is_some() {
                return None;
            }
        }
        let other = plans.remove("*")?;
        Some(Self { plans, other })
    }
}

/// Every setting of prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceSettings {
    /// `CREDITS_PER_USD`.
    pub credits_per_usd: CreditsPerUsd,
    /// `PRICE_MARKUP`.
    pub markups: Markups,
    /// `UNKNOWN_MODEL`.
    pub unknown_model: UnknownModel,
    /// `FALLBACK_USD_PER_MILLION_TOKENS`, for one token.
    pub fallback_rate: Rate,
}

impl PriceSettings {
    /// How a cost becomes credits for a user of a plan.
    #[must_use]
    pub fn terms(&self, plan: &str) -> Terms {
        Terms { credits_per_usd: self.credits_per_usd, markup: self.markups.of(plan) }
    }

    /// The same for every user, where no plan has a markup of its own.
    #[must_use]
    pub fn terms_of_all(&self) -> Option<Terms> {
        self.markups.plans.is_empty().then(|| self.terms(""))
    }

    /// Whether usage of a model without a price is kept without one.
    #[must_use]
    pub fn records_unknown(&self) -> bool {
        self.unknown_model == UnknownModel::Record
    }

    /// The price of a model without one, where `UNKNOWN_MODEL=fallback`.
    #[must_use]
    pub fn fallback(&self) -> Option<PriceVersion> {
        (self.unknown_model == UnknownModel::Fallback).then(|| fallback_version(self.fallback_rate))
    }
}

pub(super) fn settings(reader: &mut Reader) -> Result<PriceSettings, ConfigError> {
    let per_usd = |text: &str| CreditsPerUsd::parse(text).filter(|credits| credits.is_positive());
    Ok(PriceSettings {
        credits_per_usd: reader.parse("CREDITS_PER_USD", CREDITS_RULE, per_usd)?,
        markups: reader.parse("PRICE_MARKUP", MARKUP_RULE, Markups::parse)?,
        unknown_model: reader.parse("UNKNOWN_MODEL", UNKNOWN_RULE, UnknownModel::parse)?,
        fallback_rate: reader.parse("FALLBACK_USD_PER_MILLION_TOKENS", FALLBACK_RULE, per_million)?,
    })
}

/// A rate for one token from dollars for a million.
fn per_million(text: &str) -> Option<Rate> {
    let limit = 1_000_000 * 10i64.pow(FALLBACK_PLACES);
    Rate::from_femto(decimal::parse(text, FALLBACK_PLACES, limit, "1000000").ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::loaded;

    fn load(vars: &[(&str, &str)]) -> Result<PriceSettings, String> {
        loaded(vars).map(|config| config.prices)
    }

    #[test]
    fn a_dollar_is_500_credits_and_nobody_pays_more_than_the_cost() {
        let prices = load(&[]).expect("settings");
        let terms = prices.terms("free");
        assert_eq!((terms.credits_per_usd.to_string(), terms.markup), ("500".to_owned(), Markup::ONE));
        assert_eq!((prices.unknown_model, prices.fallback()), (UnknownModel::Reject, None));
        assert_eq!(prices.fallback_rate, Rate::parse("0.00001").expect("a rate"));
    }

    #[test]
    fn plans_have_markups_and_unknown_models_a_policy() {
        let vars = [
            ("PRICE_MARKUP", "free=1.5, pro=1.2,*=1"),
            ("UNKNOWN_MODEL", "Fallback"),
            ("FALLBACK_USD_PER_MILLION_TOKENS", "2.5"),
            ("CREDITS_PER_USD", "0.000001"),
        ];
        let prices = load(&vars).expect("settings");
        let markup = |plan| prices.terms(plan).markup.to_string();
        assert_eq!([markup("free"), markup("pro"), markup("other"), markup("*")], ["1.5", "1.2", "1", "1"]);
        let fallback = prices.fallback().expect("a price");
        assert_eq!(fallback, fallback_version(Rate::parse("0.0000025").expect("a rate")));
        assert_eq!(load(&[("UNKNOWN_MODEL", "record")]).expect("settings").fallback(), None);
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (key, rule, bad) in [
            ("CREDITS_PER_USD", CREDITS_RULE, &["0", "-1", "1000000001", "0.0000001", "x"][..]),
            (
                "PRICE_MARKUP",
                MARKUP_RULE,
                &["1", "free=1", "*=-1", "*=1001", "*=1.00001", "*=1,*=2", "=1,*=1", "*=x"],
            ),
            ("UNKNOWN_MODEL", UNKNOWN_RULE, &["accept"]),
            ("FALLBACK_USD_PER_MILLION_TOKENS", FALLBACK_RULE, &["-1", "1000001", "0.0000000001", "x"]),
        ] {
            for text in bad {
                let refused = load(&[(key, text)]).expect_err(text);
                assert!(refused.starts_with(&format!("{key} must {rule}")), "{refused}");
            }
        }
    }
}
