//! Prices as answers show them.

use super::Rates;
use super::book::{Alias, Book, Model};
use super::rates::Tier;
use super::version::PriceVersion;
use crate::db::Weigh;
use kernel::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// A version of a model's price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PriceView {
    /// The model's canonical name.
    #[schema(max_length = 200)]
    model: String,
    /// The version: 1, 2, 3 and so on for each model.
    #[schema(minimum = 1, maximum = 1_000)]
    version: i64,
    /// From when it is in force.
    effective_at: Timestamp,
    /// When it was written.
    created_at: Timestamp,
    /// Who offers the model.
    #[schema(max_length = 100)]
    provider: Option<String>,
    /// What it is for: `chat`, `embedding`, `image_generation` and so on.
    #[schema(max_length = 50)]
    mode: Option<String>,
    /// How many tokens go in at most.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    max_input_tokens: Option<i64>,
    /// How many tokens come out at most.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    max_output_tokens: Option<i64>,
    /// US dollars per unit, by pool.
    rates: Rates,
    /// Rates of calls with a long prompt.
    #[schema(max_items = 10)]
    tiers: Vec<Tier>,
    /// Where it comes from: `starter`, `import`, or what an admin said.
    #[schema(max_length = 500)]
    source: String,
}

impl From<&PriceVersion> for PriceView {
    fn from(version: &PriceVersion) -> Self {
        let tariff = version.tariff.clone();
        Self {
            model: version.model.to_string(),
            version: version.version,
            effective_at: version.effective_at,
            created_at: version.created_at,
            provider: tariff.provider,
            mode: tariff.mode,
            max_input_tokens: tariff.max_input_tokens,
            max_output_tokens: tariff.max_output_tokens,
            rates: tariff.rates,
            tiers: tariff.tiers,
            source: version.source.clone(),
        }
    }
}

impl Weigh for PriceView {
    fn weight(&self) -> usize {
        // The texts, and roughly what a rate takes.
        let rates = self.rates.given().count() + self.tiers.len() * 8;
        self.model.len() + self.source.len() + 50 * rates + 200
    }
}

/// Another name of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AliasView {
    /// The other name, in lower case.
    #[schema(max_length = 1000)]
    alias: String,
    /// From when it means the model.
    effective_at: Timestamp,
}

impl From<&Alias> for AliasView {
    fn from(alias: &Alias) -> Self {
        Self { alias: alias.alias.clone(), effective_at: alias.effective_at }
    }
}

/// A model's price with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelView {
    /// The name that was asked for.
    #[schema(max_length = 200)]
    asked: String,
    /// The model that it means.
    #[schema(max_length = 200)]
    model: String,
    /// At which instant.
    at: Timestamp,
    /// The version that was in force then; none before the first.
    in_force: Option<PriceView>,
    /// Every version, the newest first.
    #[schema(max_items = 1_000)]
    versions: Vec<PriceView>,
    /// The model's other names.
    #[schema(max_items = 1_000)]
    aliases: Vec<AliasView>,
}

/// How many other names of a model are shown.
const ALIASES_SHOWN: usize = 1_000;

impl ModelView {
    /// A model of a book, as it was at an instant.
    #[must_use]
    pub fn new(book: &Book, asked: &str, model: &Model, at: Timestamp) -> Self {
        Self {
            asked: asked.to_owned(),
            model: model.name.to_string(),
            at,
            in_force: model.at(at).map(PriceView::from),
            versions: model.versions.iter().rev().map(PriceView::from).collect(),
            aliases: book
                .aliases_of(&model.name)
                .into_iter()
                .take(ALIASES_SHOWN)
                .map(AliasView::from)
                .collect(),
        }
    }
}
