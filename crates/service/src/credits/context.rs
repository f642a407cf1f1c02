//! What a debit is for, and which credits may pay for it.

use super::ledger::Measure;
use crate::limits::{Limit, Spend};
use kernel::{Credits, JsonObject, Text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most models, or features, that one scope names.
pub const SCOPE_MAX: usize = 100;
/// The most tags of one debit.
pub const TAGS_MAX: usize = 20;

/// What a debit is for: by this, grants are in scope and spending limits apply.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Context {
    /// The model, by the name that the price book has for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the product calls it; the event type of a charge that names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The key that it was spent with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The caller's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Context {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A debit for it, as spending limits see it.
    #[must_use]
    pub fn spend(&self, credits: Credits, measure: Measure) -> Spend<'_> {
        Spend {
            credits,
            cost_usd: measure.cost_usd,
            tokens: measure.tokens,
            requests: 1,
            key: self.key.as_deref(),
            session: self.session.as_deref(),
            model: self.model.as_deref(),
            tags: &self.tags,
        }
    }

    /// Whether a limit counts it under that value.
    #[must_use]
    pub fn counts_under(&self, limit: &Limit, value: &str) -> bool {
        self.spend(Credits::ZERO, Measure::default()).values(limit).contains(&value)
    }
}

/// What a debit rests on: kept with its entry, under the entry's hash.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Basis {
    /// What it was for.
    #[serde(default, skip_serializing_if = "Context::is_empty")]
    pub context: Context,
    /// How its amount was found, as [`crate::prices`] explains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<JsonObject>,
}

impl Basis {
    /// The same, or nothing where it says nothing.
    #[must_use]
    pub fn given(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

/// What the credits of a grant may be spent on: one of the models and one of the features, where
/// any are named. A name that ends in `*` stands for all that begin like it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Scope {
    /// Models; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Text<1, 200>>, max_items = 100)]
    pub models: Vec<String>,
    /// Features; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Text<1, 100>>, max_items = 100)]
    pub features: Vec<String>,
}

impl Scope {
    /// Whether it allows everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.models.is_empty() && self.features.is_empty()
    }

    /// Whether a debit for that is in scope.
    #[must_use]
    pub fn covers(&self, context: &Context) -> bool {
        named(&self.models, context.model.as_deref()) && named(&self.features, context.feature.as_deref())
    }
}

fn named(patterns: &[String], name: Option<&str>) -> bool {
    let matches = |pattern: &String, name: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    patterns.is_empty() || name.is_some_and(|name| patterns.iter().any(|pattern| matches(pattern, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(models: &[&str], features: &[&str]) -> Scope {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Scope { models: texts(models), features: texts(features) }
    }

    #[test]
    fn a_scope_covers_what_it_names() {
        let call = Context {
            model: Some("gpt-4o".to_owned()),
            feature: Some("chat".to_owned()),
            ..Context::default()
        };
        for (scope, covers) in [
            (scope(&[], &[]), true),
            (scope(&["gpt-4o"], &[]), true),
            (scope(&["gpt-4"], &[]), false),
            (scope(&["gpt-4*"], &[]), true),
            (scope(&["claude-3", "gpt-4o"], &["chat"]), true),
            (scope(&["gpt-4o"], &["images"]), false),
            (scope(&[], &["chat"]), true),
        ] {
            assert_eq!(scope.covers(&call), covers, "{scope:?}");
            let says_nothing = scope.is_open();
            assert_eq!(scope.covers(&Context::default()), says_nothing, "{scope:?} of an unnamed debit");
        }
    }

    #[test]
    fn a_basis_is_written_as_it_is_read() {
        for text in [
            "{}",
            r#"{"context":{"model":"m","tags":["a","b"]}}"#,
            r#"{"context":{"feature":"chat"},"pricing":{"cost_usd":0.10,"lines":[]}}"#,
        ] {
            let basis: Basis = serde_json::from_str(text).expect(text);
            assert_eq!(serde_json::to_string(&basis).expect("json"), text);
        }
    }
}
