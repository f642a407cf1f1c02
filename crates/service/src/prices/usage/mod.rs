//! What a provider says that a call used, read into pools. No I/O.
//!
//! Providers count the same tokens in different ways: here the cached ones are within the prompt, there
//! beside it; here thoughts are within the completion, there beside it. What always holds of a
//! [`Normalized`]: each token is in one pool, the pools of what went in sum to `prompt_tokens`, those of
//! what came out to `completion_tokens`, and none is below 0. What cannot be read so is refused with the
//! field and the rule. Each rule is written down in `docs/usage-objects.md`.
//!
//! Reading order: `fields` (numbers by their names), `parts` (a whole and what is within it), `shape`
//! (whose object it is), then a file for each way of counting.

mod anthropic;
mod bedrock;
mod cohere;
mod fields;
mod gemini;
mod openai;
mod otel;
mod parts;
mod shape;
#[cfg(test)]
mod tests;

use super::model::Quantities;
use fields::Fields;
use kernel::{Count, JsonObject, Text};
use parts::Sides;
use serde_json::value::RawValue;

pub use fields::{ENTRIES_MAX, FIELDS_MAX};
pub use shape::Shape;

/// What a usage object says, each token once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalized {
    /// How much of each pool.
    pub quantities: Quantities,
    /// Whose object it was.
    pub shape: Shape,
    /// The model, where the object names it.
    pub model: Option<String>,
    /// The provider, where the object names it.
    pub provider: Option<String>,
    /// Tokens in, those included that were read from a cache or written to it.
    pub prompt_tokens: i64,
    /// Tokens out, thoughts included.
    pub completion_tokens: i64,
    /// Tokens in and out.
    pub total_tokens: i64,
}

/// Why a usage object is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct UsageError {
    /// The field, by its path: `usage.prompt_tokens_details.cached_tokens`.
    pub field: String,
    /// The rule that it breaks: `must be …`.
    pub rule: String,
}

impl UsageError {
    pub(crate) fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }
}

/// Reads a usage object as the provider answered it, or the `gen_ai.*` attributes of a span.
///
/// At most 64 KiB and 64 levels deep. A whole answer is read too, if its usage is in `usage`,
/// `usageMetadata`, `amazon-bedrock-invocationMetrics` or `meta`.
///
/// # Errors
/// The field that cannot be read, and the rule: a number that is no count, a part that is more than its
/// whole, two fields that say different things, or no known field at all.
pub fn read(usage: &RawValue) -> Result<Normalized, UsageError> {
    JsonObject::new(usage.get()).map_err(|rule| UsageError::new("usage", rule))?;
    let outer = Fields::of(usage.get(), "usage")?;
    let (inner, shape) = shape::find(&outer)?;
    let fields = inner.as_ref().unwrap_or(&outer);
    let mut sides = match shape {
        Shape::Anthropic => anthropic::read(fields)?,
        Shape::Gemini => gemini::read(fields)?,
        Shape::BedrockConverse | Shape::BedrockInvoke => bedrock::read(fields)?,
        Shape::Cohere => cohere::read(fields)?,
        Shape::Otel => otel::read(fields)?,
        _ => openai::read(fields, shape)?,
    };
    if sides.model.is_none() {
        sides.model = named(fields, &["model", "modelVersion", "model_version"])?;
    }
    if sides.model.is_none() && inner.is_some() {
        sides.model = named(&outer, &["model", "modelVersion", "model_version"])?;
    }
    normalized(sides, shape)
}

/// The first of these texts that is there.
fn named(fields: &Fields<'_>, names: &[&str]) -> Result<Option<String>, UsageError> {
    for name in names {
        if let Some(text) = fields.text(name)?.filter(|text| !text.is_empty()) {
            let text = Text::<1, 200>::new(text).map_err(|rule| UsageError::new(fields.path(name), rule))?;
            return Ok(Some(text.into_string()));
        }
    }
    Ok(None)
}

fn normalized(sides: Sides, shape: Shape) -> Result<Normalized, UsageError> {
    let mut quantities = sides.others;
    sides.prompt.fill(&mut quantities)?;
    sides.completion.fill(&mut quantities)?;
    let (prompt_tokens, completion_tokens) = (sides.prompt.whole, sides.completion.whole);
    let total_tokens = prompt_tokens + completion_tokens;
    if total_tokens > i64::from(Count::MAX) {
        return Err(UsageError::new("usage", format!("must come to at most {} tokens", Count::MAX)));
    }
    let Sides { model, provider, .. } = sides;
    Ok(Normalized { quantities, shape, model, provider, prompt_tokens, completion_tokens, total_tokens })
}
