//! Costs, to the last digit.

use super::*;
use crate::prices::version::Tariff;
use crate::prices::{Rates, fallback_version, rates::Tier};
use proptest::prelude::*;

fn rate(text: &str) -> Rate {
    Rate::parse(text).expect(text)
}

fn version(rates: &[(Pool, &str)], tiers: &[(i64, &[(Pool, &str)])]) -> PriceVersion {
    let all = |rates: &[(Pool, &str)]| {
        rates.iter().fold(Rates::default(), |all, (pool, text)| all.with(*pool, rate(text)))
    };
    let tiers = tiers.iter().map(|(above, rates)| Tier { above: *above, rates: all(rates) }).collect();
    PriceVersion {
        model: "m".into(),
        version: 3,
        tariff: Tariff { rates: all(rates), tiers, ..Tariff::default() },
        ..fallback_version(Rate::ZERO)
    }
}

fn terms(per_usd: &str, markup: &str) -> Terms {
    Terms {
        credits_per_usd: CreditsPerUsd::parse(per_usd).expect("credits per dollar"),
        markup: Markup::parse(markup).expect("a markup"),
    }
}

fn total(version: &PriceVersion, used: &[(Pool, i64)]) -> String {
    let quantities = used.iter().fold(Quantities::default(), |all, (pool, n)| all.with(*pool, *n));
    price(version, &quantities).expect("a price").total.to_string()
}

#[test]
fn a_call_is_explained_in_one_line() {
    let gpt4 = version(&[(Pool::Input, "0.00003"), (Pool::Output, "0.00006")], &[]);
    let used = Quantities::default().with(Pool::Input, 800).with(Pool::Output, 450);
    let found = quote(&gpt4, "gpt-4-0613", &used, &terms("500", "1")).expect("a quote");
    assert_eq!(found.arithmetic, "(800 × 0.00003 + 450 × 0.00006) USD × 500 × 1 = 25.5 credits");
    assert_eq!(found.credits, Credits::from_micro(25_500_000));
    let text = serde_json::to_string(&found).expect("json");
    assert_eq!(
        text,
        r#"{"model":"gpt-4-0613","price_model":"m","price_version":3,"effective_at":"1970-01-01T00:00:00.000000Z","tier":null,"lines":[{"pool":"input","quantity":800,"unit_price_usd":0.00003,"cost_usd":0.024},{"pool":"output","quantity":450,"unit_price_usd":0.00006,"cost_usd":0.027}],"unpriced_pools":[],"exact_cost_usd":0.051,"cost_usd":0.051,"credits_per_usd":500,"markup":1,"credits":25.5,"arithmetic":"(800 × 0.00003 + 450 × 0.00006) USD × 500 × 1 = 25.5 credits","note":"Prompt tokens include cached ones; each token is counted in one pool."}"#
    );
    assert_eq!(serde_json::from_str::<Explanation>(&text).expect("an explanation"), found);
}

#[test]
fn rounding_is_said_and_done_once() {
    let cheap = version(&[(Pool::Input, "0.000000000000001")], &[]);
    let used = Quantities::default().with(Pool::Input, 1);
    let found = quote(&cheap, "m", &used, &terms("500", "1.0001")).expect("a quote");
    assert_eq!(
        found.arithmetic,
        "(1 × 0.000000000000001) USD × 500 × 1.0001 = 0.00000000000050005, rounded half up to 0 credits"
    );
    // A million of them are not a million zeros.
    let many = Quantities::default().with(Pool::Input, 1_000_000_000);
    assert_eq!(
        quote(&cheap, "m", &many, &terms("500", "1")).expect("a quote").credits,
        Credits::from_micro(500)
    );
    let none = quote(&cheap, "m", &Quantities::default(), &terms("500", "1")).expect("a quote");
    assert_eq!((none.arithmetic.as_str(), none.credits), ("(0) USD × 500 × 1 = 0 credits", Credits::ZERO));
    let free = quote(&cheap, "m", &many, &terms("500", "0")).expect("a quote");
    assert_eq!(free.credits, Credits::ZERO);
}

#[test]
fn a_pool_without_a_rate_takes_that_of_its_kind() {
    let plain = version(&[(Pool::Input, "2"), (Pool::Output, "3")], &[]);
    for pool in Pool::ALL {
        let priced = price(&plain, &Quantities::default().with(*pool, 1)).expect("a price");
        let (cost, unpriced) = match pool {
            Pool::Image | Pool::Request | Pool::Second | Pool::Search | Pool::Character => ("0", vec![*pool]),
            Pool::Output | Pool::Reasoning | Pool::AudioOutput | Pool::ImageOutput => ("3", Vec::new()),
            _ => ("2", Vec::new()),
        };
        assert_eq!((priced.total.to_string().as_str(), priced.unpriced_pools), (cost, unpriced), "{pool}");
    }
    let nearer = version(
        &[(Pool::Input, "2"), (Pool::CachedInput, "0.5"), (Pool::CacheWrite, "2.5"), (Pool::AudioInput, "8")],
        &[],
    );
    assert_eq!(total(&nearer, &[(Pool::CacheWrite1h, 1)]), "2.5");
    assert_eq!(total(&nearer, &[(Pool::CachedAudioInput, 1)]), "0.5");
    let silent = version(&[(Pool::Second, "0.0001")], &[]);
    let priced = price(&silent, &Quantities::default().with(Pool::Input, 5)).expect("a price");
    assert_eq!(priced.unpriced_pools, [Pool::Input], "never a silent zero");
}

#[test]
fn a_long_prompt_moves_the_whole_call_into_its_tier() {
    let tiered = version(
        &[(Pool::Input, "1"), (Pool::CachedInput, "0.1"), (Pool::Output, "5")],
        &[(200, &[(Pool::Input, "2"), (Pool::Output, "7")]), (272, &[(Pool::Input, "3")])],
    );
    assert_eq!(total(&tiered, &[(Pool::Input, 200), (Pool::Output, 1)]), "205", "200 is not above 200");
    assert_eq!(total(&tiered, &[(Pool::Input, 201), (Pool::Output, 1)]), "409");
    // Cached tokens count towards the length, and keep their own rate where the tier has none.
    assert_eq!(total(&tiered, &[(Pool::Input, 100), (Pool::CachedInput, 101)]), "210.1");
    // What a tier does not say is as usual, not as in the tier below it.
    assert_eq!(total(&tiered, &[(Pool::Input, 273), (Pool::Output, 1)]), "824");
    let used = Quantities::default().with(Pool::Input, 201);
    assert_eq!(quote(&tiered, "m", &used, &terms("1", "1")).expect("a quote").tier, Some(200));
    assert_eq!(total(&tiered, &[(Pool::Output, 1_000)]), "5000", "what comes out does not count");
}

#[test]
fn seconds_are_counted_in_thousandths() {
    let whisper = version(&[(Pool::Second, "0.000100000000001")], &[]);
    let used = Quantities::default().with(Pool::Second, 12_345);
    let found = quote(&whisper, "m", &used, &terms("500", "1")).expect("a quote");
    assert_eq!(found.exact_cost_usd.to_string(), "0.001234500000012345");
    assert!(found.arithmetic.starts_with("(12.345 × 0.000100000000001) USD"), "{}", found.arithmetic);
    let text = serde_json::to_string(&found).expect("json");
    assert_eq!(serde_json::from_str::<Explanation>(&text).expect("an explanation"), found);
}

#[test]
fn what_no_call_can_cost_is_refused() {
    let dear = version(&[(Pool::Input, "9000"), (Pool::Output, "9000")], &[]);
    for (input, output) in [(1_000_001, 0), (600_000, 600_000), (i64::MAX, i64::MAX), (-1, 0)] {
        let used = Quantities::default().with(Pool::Input, input).with(Pool::Output, output);
        assert_eq!(price(&dear, &used), Err(TooMuch), "{input} {output}");
    }
    let used = Quantities::default().with(Pool::Input, 1_000_000);
    assert_eq!(price(&dear, &used).map(|priced| priced.total), Ok(ExactUsd::MAX));
    assert_eq!(quote(&dear, "m", &used, &terms("1000000000", "1000")), Err(TooMuch));
}

#[test]
fn the_fallback_prices_every_token_alike() {
    let fallback = fallback_version(rate("0.00001"));
    assert_eq!((&*fallback.model, fallback.version), ("fallback", 0));
    assert_eq!(
        total(&fallback, &[(Pool::CachedInput, 1), (Pool::Reasoning, 1), (Pool::AudioOutput, 1)]),
        "0.00003"
    );
}

proptest! {
    #[test]
    fn the_total_is_the_sum_of_its_lines_and_reads_back(
        rates in proptest::collection::vec(proptest::option::of(0..=1_000_000_000_000i64), Pool::ALL.len()),
        used in proptest::collection::vec(0..=2_147_483_647i64, Pool::ALL.len()),
        above in 1..=5_000_000_000i64,
        tier in 0..=1_000_000_000_000i64,
    ) {
        let mut base = Rates::default();
        let mut quantities = Quantities::default();
        for ((pool, femto), used) in Pool::ALL.iter().zip(rates).zip(used) {
            femto.and_then(Rate::from_femto).into_iter().for_each(|rate| base.set(*pool, rate));
            quantities.set(*pool, used);
        }
        let tier = Tier { above, rates: Rates::default().with(Pool::Input, Rate::from_femto(tier).expect("a rate")) };
        let tariff = Tariff { rates: base, tiers: vec![tier], ..Tariff::default() };
        let version = PriceVersion { tariff, ..fallback_version(Rate::ZERO) };
        let found = quote(&version, "m", &quantities, &terms("500", "1.5")).expect("a quote");
        let sum: i128 = found.lines.iter().map(|line| line.cost_usd.atto()).sum();
        prop_assert_eq!(found.exact_cost_usd.atto(), sum);
        prop_assert_eq!(found.lines.len() + found.unpriced_pools.len(), quantities.used().count());
        let text = serde_json::to_string(&found).expect("json");
        prop_assert_eq!(serde_json::from_str::<Explanation>(&text).expect("an explanation"), found);
    }
}
