//! The golden set: usage objects as providers answer them, and what they come to, worked out by hand.
//! Its `README.md` says how it was made.

use kernel::Rate;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::Path;
use user_service::prices::usage::{self, Normalized};
use user_service::prices::version::Tariff;
use user_service::prices::{
    CreditsPerUsd, Markup, Pool, PriceVersion, Quantities, Rates, Terms, fallback_version, quote,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    source: String,
    model: String,
    usage: Box<RawValue>,
    shape: String,
    named_model: Option<String>,
    named_provider: Option<String>,
    quantities: BTreeMap<String, i64>,
    prompt_tokens: i64,
    completion_tokens: i64,
    price_of: String,
    prices: BTreeMap<String, String>,
    arithmetic: String,
    cost_usd: String,
    credits: String,
}

impl Case {
    fn quantities(&self) -> Quantities {
        let pools = self.quantities.iter();
        pools.fold(Quantities::default(), |all, (pool, quantity)| {
            all.with(pool.parse().unwrap_or_else(|rule| panic!("{}: {pool} {rule}", self.name)), *quantity)
        })
    }

    /// The price of each pool that is used.
    fn prices(&self) -> BTreeMap<Pool, Rate> {
        let price = |(pool, text): (&String, &String)| {
            (pool.parse().expect("a pool"), Rate::parse(text).expect("a price"))
        };
        self.prices.iter().map(price).collect()
    }
}

/// Every case of every file, with the file's name.
fn cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/usage");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a file");
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let found: Vec<Case> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        cases.extend(found.into_iter().map(|case| (file.clone(), case)));
    }
    cases
}

/// What the quantities come to at these prices, by the service's own pricing: dollars exactly, and credits.
fn priced(quantities: &Quantities, prices: &BTreeMap<Pool, Rate>) -> (String, String) {
    let rates = prices.iter().fold(Rates::default(), |rates, (pool, rate)| rates.with(*pool, *rate));
    let version = PriceVersion {
        tariff: Tariff { rates, ..Tariff::default() },
        ..fallback_version(Rate::parse("0").expect("a rate"))
    };
    let terms = Terms {
        credits_per_usd: CreditsPerUsd::parse("500").expect("credits per dollar"),
        markup: Markup::ONE,
    };
    let explained = quote(&version, "golden", quantities, &terms).expect("a price");
    assert!(explained.unpriced_pools.is_empty(), "every used pool has its price: {explained:?}");
    (serde_json::to_string(&explained.exact_cost_usd).expect("json"), explained.credits.to_string())
}

fn read(case: &Case) -> Normalized {
    usage::read(&case.usage).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

#[test]
fn every_payload_is_read_into_the_quantities_worked_out_by_hand() {
    let cases = cases();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    for (file, case) in cases {
        let seen = read(&case);
        let place = format!("{file}: {} ({}, {})", case.name, case.source, case.model);
        assert_eq!(seen.quantities, case.quantities(), "{place}");
        assert_eq!(seen.shape.as_str(), case.shape, "{place}");
        assert_eq!(seen.prompt_tokens, case.prompt_tokens, "{place}");
        assert_eq!(seen.completion_tokens, case.completion_tokens, "{place}");
        assert_eq!(seen.total_tokens, case.prompt_tokens + case.completion_tokens, "{place}");
        assert_eq!(seen.model, case.named_model, "{place}");
        assert_eq!(seen.provider, case.named_provider, "{place}");
    }
}

#[test]
fn every_payload_costs_what_was_worked_out_by_hand() {
    for (file, case) in cases() {
        let (cost_usd, credits) = priced(&read(&case).quantities, &case.prices());
        let place = format!("{file}: {} at the prices of {}: {}", case.name, case.price_of, case.arithmetic);
        assert_eq!((cost_usd, credits), (case.cost_usd, case.credits), "{place}");
    }
}

#[test]
fn every_way_of_counting_has_a_case() {
    let mut without: Vec<&str> = "openai_chat openai_responses openai_embedding openai_audio openai_image \
        openai_realtime langchain anthropic gemini bedrock_converse bedrock_invoke cohere otel plain"
        .split_whitespace()
        .collect();
    for (_, case) in cases() {
        without.retain(|shape| *shape != case.shape);
    }
    assert!(without.is_empty(), "no case of {without:?}");
}
