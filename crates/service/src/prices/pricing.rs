//! What a call costs by a version of a price: exact, pool by pool, and explained.

use super::rates::prompt_tokens;
use super::terms::{CreditsPerUsd, Markup, Terms, TooMuch, to_credits};
use super::{Pool, PriceVersion, Quantities};
use kernel::{Charge, Cost, Count, Credits, ExactUsd, Rate, Timestamp, Usd, decimal};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

/// What every explanation says of the prompt.
pub const NOTE: &str = "Prompt tokens include cached ones; each token is counted in one pool.";
/// Seconds are counted in thousandths; everything else is written as if it were.
const QUANTITY_PLACES: u32 = 3;

/// How much of a pool was used, in thousandths, so that seconds and whole things are written alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity(i128);

impl Quantity {
    /// Of a pool, so much as [`Quantities`] has it.
    #[must_use]
    pub fn of(pool: Pool, quantity: i64) -> Self {
        Self(if pool == Pool::Second { quantity.into() } else { i128::from(quantity) * 1_000 })
    }

    /// The same as [`Quantities`] has it: thousandths of seconds, whole numbers of everything else, and of each
    /// at most as many units as a [`Count`] holds.
    #[must_use]
    pub fn counted(self, pool: Pool) -> Option<i64> {
        let unit = if pool == Pool::Second { 1 } else { 1_000 };
        let fits = (0..=i128::from(Count::MAX) * 1_000).contains(&self.0) && self.0 % unit == 0;
        fits.then(|| i64::try_from(self.0 / unit).ok())?
    }
}

/// How much of each pool a caller says.
///
/// # Errors
/// The rule that one of them breaks.
pub fn counted(pools: &BTreeMap<Pool, Quantity>) -> Result<Quantities, &'static str> {
    let rule = "must be whole numbers from 0 to 2147483647, seconds with up to 3 decimal places";
    pools.iter().try_fold(Quantities::default(), |all, (pool, quantity)| {
        Ok(all.with(*pool, quantity.counted(*pool).ok_or(rule)?))
    })
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal::serialize(self.0, QUANTITY_PLACES, serializer)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let literal = decimal::literal(deserializer)?;
        let thousandths = decimal::parse(&literal, QUANTITY_PLACES, i64::MAX, "9000000000000000");
        thousandths.map(|n| Self(n.into())).map_err(D::Error::custom)
    }
}

impl PartialSchema for Quantity {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0.0)).maximum(Some(9e15));
        object.description(Some("How much was used; seconds with 3 decimal places.")).into()
    }
}

impl ToSchema for Quantity {
    fn name() -> Cow<'static, str> {
        "Quantity".into()
    }
}

/// What one pool costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// The pool.
    pub pool: Pool,
    /// How much of it.
    pub quantity: Quantity,
    /// What one costs.
    pub unit_price_usd: Rate,
    /// What all cost, not rounded.
    pub cost_usd: ExactUsd,
}

/// What a call costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priced {
    /// Pool by pool, those that have a rate.
    pub lines: Vec<Line>,
    /// All of it, not rounded.
    pub total: ExactUsd,
    /// Pools that were used and have no rate, their own or another's; they cost nothing.
    pub unpriced_pools: Vec<Pool>,
    /// How many tokens of prompt the tier that was used begins above.
    pub tier: Option<i64>,
}

/// What a call used: one that says nothing of requests is one, where its model has a price for that.
fn as_a_call(version: &PriceVersion, quantities: &Quantities) -> Quantities {
    let priced = version.rate(Pool::Request, prompt_tokens(quantities)).is_some();
    if priced && quantities.get(Pool::Request) == 0 { quantities.with(Pool::Request, 1) } else { *quantities }
}

/// Prices what was used.
///
/// # Errors
/// [`TooMuch`].
pub fn price(version: &PriceVersion, quantities: &Quantities) -> Result<Priced, TooMuch> {
    let prompt = prompt_tokens(quantities);
    let tier = version.tier(prompt).map(|tier| tier.above);
    let mut priced = Priced { lines: Vec::new(), total: ExactUsd::ZERO, unpriced_pools: Vec::new(), tier };
    for (pool, quantity) in quantities.used() {
        let Some(rate) = version.rate(pool, prompt) else {
            priced.unpriced_pools.push(pool);
            continue;
        };
        let quantity = Quantity::of(pool, quantity);
        if !(0..=i128::from(i64::MAX)).contains(&quantity.0) {
            return Err(TooMuch);
        }
        let cost_usd = ExactUsd::of(rate, quantity.0).ok_or(TooMuch)?;
        priced.total = priced.total.checked_add(cost_usd).ok_or(TooMuch)?;
        priced.lines.push(Line { pool, quantity, unit_price_usd: rate, cost_usd });
    }
    if priced.total < ExactUsd::ZERO || priced.total > ExactUsd::MAX { Err(TooMuch) } else { Ok(priced) }
}

/// Why a call costs what it costs; kept as JSON with the ledger's entry, and read back as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The model that was asked for.
    #[schema(max_length = 200)]
    pub model: String,
    /// The model whose price was taken.
    #[schema(max_length = 200)]
    pub price_model: String,
    /// Which version of it; 0 is the price that stands in for an unknown model.
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub price_version: i64,
    /// From when that version is in force.
    pub effective_at: Timestamp,
    /// How many tokens of prompt the tier begins above, where the prompt was long enough for one.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub tier: Option<i64>,
    /// What each pool costs.
    #[schema(max_items = 20)]
    pub lines: Vec<Line>,
    /// Pools that were used and have no rate; they cost nothing.
    #[schema(max_items = 20)]
    pub unpriced_pools: Vec<Pool>,
    /// What all cost, not rounded.
    pub exact_cost_usd: ExactUsd,
    /// The same, rounded half up to a nano-dollar.
    #[serde(deserialize_with = "read_usd")]
    pub cost_usd: Usd,
    /// How many credits a dollar is.
    pub credits_per_usd: CreditsPerUsd,
    /// What the plan pays for a dollar of cost.
    pub markup: Markup,
    /// The credits, rounded half up to a micro-credit.
    #[serde(deserialize_with = "read_credits")]
    pub credits: Credits,
    /// All of it as one line.
    #[schema(max_length = 5000)]
    pub arithmetic: String,
    /// What is to be known of the pools.
    #[schema(max_length = 200)]
    pub note: String,
}

fn read_usd<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
    Cost::deserialize(deserializer).map(|cost| Usd::from_nano(cost.nano().into()))
}

fn read_credits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Credits, D::Error> {
    Charge::deserialize(deserializer).map(Charge::credits)
}

/// Prices what was used and explains it. Dollars are rounded once, and credits once, each from the exact cost.
///
/// # Errors
/// [`TooMuch`].
pub fn quote(
    version: &PriceVersion,
    asked: &str,
    quantities: &Quantities,
    terms: &Terms,
) -> Result<Explanation, TooMuch> {
    let priced = price(version, &as_a_call(version, quantities))?;
    let credits = to_credits(priced.total, terms)?;
    Ok(Explanation {
        model: asked.to_owned(),
        price_model: version.model.to_string(),
        price_version: version.version,
        effective_at: version.effective_at,
        tier: priced.tier,
        arithmetic: arithmetic(&priced, terms, credits),
        lines: priced.lines,
        unpriced_pools: priced.unpriced_pools,
        exact_cost_usd: priced.total,
        cost_usd: Usd::from_nano(priced.total.nano_rounded()),
        credits_per_usd: terms.credits_per_usd,
        markup: terms.markup,
        credits,
        note: NOTE.to_owned(),
    })
}

/// `(800 × 0.00003 + 450 × 0.00006) USD × 500 × 1 = 25.5 credits`.
fn arithmetic(priced: &Priced, terms: &Terms, credits: Credits) -> String {
    let product = |line: &Line| {
        format!("{} × {}", decimal::format(line.quantity.0, QUANTITY_PLACES), line.unit_price_usd)
    };
    let sum: Vec<String> = priced.lines.iter().map(product).collect();
    let sum = if sum.is_empty() { "0".to_owned() } else { sum.join(" + ") };
    let (exact, rounded) = (terms.exact(priced.total), credits.to_string());
    let (per_usd, markup) = (terms.credits_per_usd, terms.markup);
    let end = if exact == rounded { exact } else { format!("{exact}, rounded half up to {rounded}") };
    format!("({sum}) USD × {per_usd} × {markup} = {end} credits")
}

#[cfg(test)]
mod tests;
