//! A change of a model's price: what an admin asks, held against the rules and the book. No I/O.

use super::book::{Alias, Book};
use super::litellm::TIERS_MAX;
use super::names::{self, folded};
use super::rates::Tier;
use super::version::{PriceVersion, Tariff};
use super::{Rates, edits, import};
use crate::auth::grants::Caller;
use crate::http::ApiError;
use crate::writer::Edit;
use kernel::{Count, Text, Timestamp};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use utoipa::ToSchema;

/// How many other names one change may give.
const ALIASES_MAX: usize = 50;

/// What a model costs from now on.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PriceRequest {
    /// US dollars per unit, by pool: per token, not per million.
    rates: Rates,
    /// Rates of whole calls whose prompt is longer than so many tokens.
    #[serde(default)]
    #[schema(max_items = 10)]
    tiers: Vec<Tier>,
    /// Who offers the model.
    provider: Option<Text<1, 100>>,
    /// What it is for: `chat`, `embedding` and so on.
    mode: Option<Text<1, 50>>,
    /// How many tokens go in at most.
    max_input_tokens: Option<Count>,
    /// How many tokens come out at most.
    max_output_tokens: Option<Count>,
    /// From when it is in force, later than the version before; now when absent.
    effective_at: Option<Timestamp>,
    /// Other names that mean this model from then on.
    #[serde(default)]
    #[schema(max_items = 50, value_type = Vec<String>, max_length = 200)]
    aliases: Vec<Text<1, 200>>,
    /// Where the price comes from, for people; `admin` when absent.
    source: Option<Text<1, 500>>,
}

impl PriceRequest {
    /// What it says, where it breaks no rule.
    fn tariff(&self) -> Result<Tariff, ApiError> {
        let refuse = |field: &str, rule: String| Err(ApiError::invalid(["body", field], rule));
        if self.rates.is_empty() {
            return refuse("rates", "must have at least one rate".to_owned());
        }
        if self.tiers.len() > TIERS_MAX {
            return refuse("tiers", format!("must be at most {TIERS_MAX}"));
        }
        let mut tiers = self.tiers.clone();
        tiers.sort_by_key(|tier| tier.above);
        if tiers.iter().any(|tier| !(1..=i64::from(Count::MAX)).contains(&tier.above)) {
            return refuse("tiers", format!("must begin above 1 to {} tokens", Count::MAX));
        }
        if tiers.windows(2).any(|pair| pair[0].above == pair[1].above) {
            return refuse("tiers", "must begin above different numbers of tokens".to_owned());
        }
        let tokens =
            |count: Option<Count>| count.map(|count| i64::from(count.get())).filter(|count| *count > 0);
        Ok(Tariff {
            provider: self.provider.as_ref().map(|text| text.as_str().to_owned()),
            mode: self.mode.as_ref().map(|text| text.as_str().to_owned()),
            max_input_tokens: tokens(self.max_input_tokens),
            max_output_tokens: tokens(self.max_output_tokens),
            rates: self.rates,
            tiers,
        })
    }

    /// The names that it adds; those that mean the model already are left alone.
    fn new_aliases(&self, book: &Book, model: &Arc<str>, from: Timestamp) -> Result<Vec<Alias>, ApiError> {
        let refuse = |rule: String| Err(ApiError::invalid(["body", "aliases"], rule));
        if self.aliases.len() > ALIASES_MAX {
            return refuse(format!("must be at most {ALIASES_MAX}"));
        }
        let wanted: BTreeSet<String> = self.aliases.iter().map(|alias| folded(alias.as_str())).collect();
        let mut added = Vec::new();
        for alias in wanted {
            if let Err(rule) = names::check(&alias) {
                return refuse(rule);
            }
            if alias == folded(model) || book.model(&alias).is_some() {
                return refuse(format!("must be other names, and {alias} is a model of its own"));
            }
            match book.alias(&alias) {
                Some(known) if known.model == *model => {}
                Some(known) if known.effective_at >= from => {
                    return refuse(format!(
                        "must be free, and {alias} means {} from {}",
                        known.model, known.effective_at
                    ));
                }
                _ => added.push(Alias { alias, effective_at: from, model: Arc::clone(model) }),
            }
        }
        Ok(added)
    }
}

/// A change that is to be written.
pub struct Change {
    /// The version as it then stands.
    pub version: PriceVersion,
    /// What adds it; nothing where it is there already.
    pub edit: Option<Edit>,
}

/// Decides a change against the book.
///
/// # Errors
/// 400 that names the field, or 409 where there is no room.
pub fn decide(
    book: &Book,
    model: &Arc<str>,
    request: &PriceRequest,
    caller: &Caller,
    now: Timestamp,
) -> Result<Change, ApiError> {
    let tariff = request.tariff()?;
    let from = request.effective_at.unwrap_or(now);
    let aliases = request.new_aliases(book, model, from)?;
    let last = book.model(model).and_then(|model| model.last());
    if let Some(last) = last.filter(|last| last.tariff == tariff) {
        let edit = (!aliases.is_empty()).then(|| edits::add(&[], &aliases, now));
        return Ok(Change { version: last.clone(), edit });
    }
    let version = match import::may_add(book, model, from, 0) {
        Ok(version) => version,
        Err(rule) if last.is_some_and(|last| last.effective_at >= from) => {
            return Err(ApiError::invalid(["body", "effective_at"], format!("must be later: {rule}")));
        }
        Err(full) => return Err(ApiError::conflict(format!("There is no room for another version: {full}"))),
    };
    let version = PriceVersion {
        model: Arc::clone(model),
        version,
        effective_at: from,
        created_at: now,
        tariff,
        source: request.source.as_ref().map_or("admin", Text::as_str).to_owned(),
        actor: caller.principal.caller(),
    };
    let edit = edits::add(std::slice::from_ref(&version), &aliases, now);
    Ok(Change { version, edit: Some(edit) })
}
