//! A price of a model: what it says, and from when it is in force. No I/O.

use super::rates::{Rates, Tier};
use super::{Pool, rates};
use kernel::{Rate, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The name of the price that stands in where a model is unknown and the settings want it.
pub const FALLBACK: &str = "fallback";

/// What a price says, as it is stored; two that say the same are the same price.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tariff {
    /// Who offers the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What it is for: `chat`, `embedding`, `image_generation` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// How many tokens go in at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_input_tokens: Option<i64>,
    /// How many tokens come out at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<i64>,
    /// The usual rates.
    pub rates: Rates,
    /// The rates of long prompts, the shortest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
}

/// One version of a model's price. It is never changed: a change is a new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceVersion {
    /// The model's canonical name.
    pub model: Arc<str>,
    /// Its number: 1, 2, 3 and so on for each model.
    pub version: i64,
    /// From when it is in force.
    pub effective_at: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
    /// What it says.
    pub tariff: Tariff,
    /// Where it comes from: `starter`, `import`, or what an admin said.
    pub source: String,
    /// Who wrote it.
    pub actor: String,
}

impl PriceVersion {
    /// The tier of a prompt of so many tokens, where it is long enough for one.
    #[must_use]
    pub fn tier(&self, prompt_tokens: i64) -> Option<&Tier> {
        self.tariff.tiers.iter().rev().find(|tier| prompt_tokens > tier.above)
    }

    /// The rate that a pool is charged at in a call whose prompt is that long.
    #[must_use]
    pub fn rate(&self, pool: Pool, prompt_tokens: i64) -> Option<Rate> {
        rates::rate_of(&self.tariff.rates, self.tier(prompt_tokens), pool)
    }
}

/// The price that stands in where a model is unknown and `UNKNOWN_MODEL=fallback`: one rate for every token.
#[must_use]
pub fn fallback_version(per_token: Rate) -> PriceVersion {
    let rates = Rates::default().with(Pool::Input, per_token).with(Pool::Output, per_token);
    PriceVersion {
        model: FALLBACK.into(),
        version: 0,
        effective_at: Timestamp::default(),
        created_at: Timestamp::default(),
        tariff: Tariff { rates, ..Tariff::default() },
        source: "FALLBACK_USD_PER_MILLION_TOKENS".to_owned(),
        actor: "system".to_owned(),
    }
}
