//! Which price a name means, with every trap that names set.

use super::*;
use crate::prices::version::Tariff;
use crate::prices::{Pool, Rates, fallback_version};
use kernel::Rate;
use proptest::prelude::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn version(model: &str, provider: &str, number: i64, from: i64) -> PriceVersion {
    let rates = Rates::default().with(Pool::Input, Rate::from_femto(number).expect("a rate"));
    let provider = Some(provider.to_owned()).filter(|provider| !provider.is_empty());
    PriceVersion {
        model: model.into(),
        version: number,
        effective_at: at(from),
        tariff: Tariff { provider, rates, ..Tariff::default() },
        ..fallback_version(Rate::ZERO)
    }
}

/// A book of models with their providers, all in force since 1970.
fn book(models: &[(&str, &str)]) -> Book {
    let versions = models.iter().map(|(model, provider)| version(model, provider, 1, 0)).collect();
    Book::new(1, versions, Vec::new())
}

fn meant<'a>(book: &'a Book, model: &str, provider: Option<&str>) -> Option<&'a str> {
    book.resolve(model, provider, at(10)).map(|version| &*version.model)
}

#[test]
fn a_date_at_the_end_is_no_part_of_a_name() {
    let book = book(&[
        ("gpt-4", "openai"),
        ("gpt-4o", "openai"),
        ("gpt-4o-2024-05-13", "openai"),
        ("claude-3-5-sonnet", "anthropic"),
        ("gpt-4o-realtime", "openai"),
    ]);
    for (asked, model) in [
        ("gpt-4", Some("gpt-4")),
        ("gpt-4-0613", Some("gpt-4")),
        ("GPT-4-0613", Some("gpt-4")),
        ("openai/gpt-4-0613", Some("gpt-4")),
        ("gpt-4o-2024-08-06", Some("gpt-4o")),
        ("gpt-4o-2024-05-13", Some("gpt-4o-2024-05-13")),
        ("gpt-4o-20240513", Some("gpt-4o-2024-05-13")),
        ("claude-3-5-sonnet-20241022", Some("claude-3-5-sonnet")),
        ("claude-3-5-sonnet@20241022", Some("claude-3-5-sonnet")),
        ("claude-3-5-sonnet-latest", Some("claude-3-5-sonnet")),
        ("gpt-4o-realtime-preview-2024-12-17", Some("gpt-4o-realtime")),
        ("gpt-4-mini", None),
        ("gpt-4-32k", None),
        ("gpt-4o-mini", None),
        ("gpt-4-preview", None),
        ("gpt-4-1024", None),
        ("gpt", None),
        ("", None),
        ("gpt-4-", None),
        ("4-0613", None),
    ] {
        assert_eq!(meant(&book, asked, None), model, "{asked}");
    }
}

#[test]
fn a_name_whose_dated_forms_are_known_means_the_newest() {
    let book = book(&[
        ("claude-sonnet-4-20250514", "anthropic"),
        ("claude-sonnet-4-20260101", "anthropic"),
        ("mistral/mistral-large-latest", "mistral"),
        ("mistral/mistral-large-2512", "mistral"),
        ("x-0613", "one"),
        ("x-1106", "two"),
    ]);
    assert_eq!(meant(&book, "claude-sonnet-4", None), Some("claude-sonnet-4-20260101"));
    assert_eq!(meant(&book, "claude-sonnet-4@20250514", None), Some("claude-sonnet-4-20250514"));
    assert_eq!(meant(&book, "claude-sonnet-4-20991231", None), Some("claude-sonnet-4-20260101"));
    assert_eq!(meant(&book, "mistral-large", None), Some("mistral/mistral-large-latest"));
    assert_eq!(meant(&book, "mistral/mistral-large", None), Some("mistral/mistral-large-latest"));
    assert_eq!(meant(&book, "x", None), None, "two providers, and nobody says which");
    assert_eq!(meant(&book, "x", Some("two")), Some("x-1106"));
}

#[test]
fn a_provider_may_stand_before_a_name_or_beside_it() {
    let book = book(&[
        ("gpt-4", "openai"),
        ("azure/gpt-4", "azure"),
        ("gemini/gemini-2.5-pro", "gemini"),
        ("gemini-2.5-flash", "vertex_ai-language-models"),
        ("groq/llama-3", "groq"),
        ("together_ai/llama-3", "together_ai"),
        ("deepseek-chat", "deepseek"),
        ("lone", ""),
    ]);
    for (asked, provider, model) in [
        ("gpt-4", None, Some("gpt-4")),
        ("gpt-4", Some(""), Some("gpt-4")),
        ("gpt-4", Some("openai"), Some("gpt-4")),
        ("gpt-4", Some("azure"), Some("azure/gpt-4")),
        ("azure/gpt-4", None, Some("azure/gpt-4")),
        ("openai/gpt-4", None, Some("gpt-4")),
        ("openai/gpt-4", Some("openai"), Some("gpt-4")),
        ("models/gemini-2.5-flash", None, Some("gemini-2.5-flash")),
        ("google/gemini-2.5-flash", None, Some("gemini-2.5-flash")),
        ("gemini-2.5-pro", None, Some("gemini/gemini-2.5-pro")),
        ("gemini-2.5-pro", Some("gcp.gemini"), Some("gemini/gemini-2.5-pro")),
        ("llama-3", None, None),
        ("llama-3", Some("groq"), Some("groq/llama-3")),
        ("llama-3", Some("nobody"), None),
        ("deepinfra/deepseek-chat", None, None),
        ("openai/lone", None, None),
        ("/gpt-4", None, None),
        ("gpt-4/", None, None),
        ("openai//gpt-4", None, None),
    ] {
        assert_eq!(meant(&book, asked, provider), model, "{asked} {provider:?}");
    }
}

#[test]
fn the_version_in_force_is_the_last_that_began() {
    let versions = [(1, 100), (2, 200), (3, 300)].map(|(number, from)| version("m", "p", number, from));
    let book = Book::new(1, versions.into_iter().rev().collect(), Vec::new());
    for (when, number) in [
        (0, None),
        (99, None),
        (100, Some(1)),
        (199, Some(1)),
        (200, Some(2)),
        (300, Some(3)),
        (9_999, Some(3)),
    ] {
        assert_eq!(book.resolve("m", None, at(when)).map(|found| found.version), number, "{when}");
        assert_eq!(book.resolve("p/m", None, at(when)).map(|found| found.version), number, "{when}");
    }
    assert_eq!(book.rows, 3);
}

#[test]
fn a_price_of_its_own_counts_from_its_day_on() {
    let versions = vec![version("gpt-4", "openai", 1, 0), version("gpt-4-0613", "openai", 7, 100)];
    let book = Book::new(1, versions, Vec::new());
    assert_eq!(book.resolve("gpt-4-0613", None, at(99)).map(|found| found.version), Some(1));
    assert_eq!(book.resolve("gpt-4-0613", None, at(100)).map(|found| found.version), Some(7));
}

#[test]
fn an_alias_means_what_it_was_last_given() {
    let alias =
        |model: &str, from| Alias { alias: "best".to_owned(), effective_at: at(from), model: model.into() };
    let versions = vec![version("a", "p", 1, 0), version("b", "p", 1, 0), version("BEST", "p", 1, 500)];
    let book = Book::new(1, versions, vec![alias("b", 200), alias("a", 100)]);
    let meant = |name: &str, when| book.resolve(name, None, at(when)).map(|found| found.model.to_string());
    assert_eq!(meant("best", 99), None);
    assert_eq!(meant("best", 100).as_deref(), Some("a"));
    assert_eq!(meant("Best", 200).as_deref(), Some("b"));
    assert_eq!(meant("best-0613", 200).as_deref(), Some("b"));
    assert_eq!(meant("p/best", 200).as_deref(), Some("b"));
    assert_eq!(meant("BEST", 500).as_deref(), Some("BEST"), "a name as it is written goes first");
    assert_eq!(book.aliases_of("a").len(), 1);
    assert_eq!(book.alias("BEST").map(|alias| &*alias.model), Some("b"));
}

#[test]
fn upper_and_lower_case_are_the_same_unless_both_exist() {
    let book = book(&[("Llama-3", "meta"), ("llama-3", "other"), ("MiniMax-M3", "minimax")]);
    assert_eq!(meant(&book, "llama-3", None), Some("llama-3"));
    assert_eq!(meant(&book, "Llama-3", None), Some("Llama-3"));
    assert_eq!(meant(&book, "minimax-m3", None), Some("MiniMax-M3"));
    assert_eq!(meant(&book, "MINIMAX/minimax-m3", None), Some("MiniMax-M3"));
}

#[test]
fn the_starter_book_prices_the_common_models() {
    let versions = crate::prices::shelf::starter(at(0)).expect("a starter list");
    let book = Book::new(0, versions, Vec::new());
    assert!((60..=150).contains(&book.models().len()), "{}", book.models().len());
    let found = book.resolve("gpt-4-0613", Some("openai"), at(0)).expect("a price");
    assert_eq!((&*found.model, found.version, found.effective_at), ("gpt-4", 1, at(0)));
    assert_eq!(found.rate(Pool::Input, 0), Rate::parse("0.00003").ok());
    assert_eq!(found.rate(Pool::Output, 0), Rate::parse("0.00006").ok());
    for (asked, provider) in [
        ("gpt-4o-2024-08-06", None),
        ("openai/gpt-4o-mini", None),
        ("gpt-4o", Some("azure")),
        ("claude-sonnet-4-5-20250929", Some("anthropic")),
        ("gemini-2.5-pro", Some("google")),
        ("mistral-large-latest", None),
        ("deepseek-chat", Some("deepseek")),
        ("text-embedding-3-small", None),
        ("whisper-1", None),
        ("tts-1", None),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", Some("aws.bedrock")),
    ] {
        assert!(book.resolve(asked, provider, at(0)).is_some(), "{asked}");
    }
    // Azure's own price is not in the starter, so the model's price is that of its maker.
    assert_eq!(book.resolve("azure/gpt-4o", None, at(0)).map(|found| &*found.model), Some("gpt-4o"));
    assert!(book.resolve("gpt-4-mini", None, at(0)).is_none());
}

proptest! {
    #[test]
    fn any_name_is_answered_and_every_model_finds_itself(
        name in "[-a-z0-9/@:.]{0,30}",
        provider in proptest::option::of("[a-z_.]{0,10}"),
    ) {
        let book = book(&[("gpt-4", "openai"), ("a/b-0613", "a"), ("a/b-latest", "a"), ("c@20240101", "c")]);
        let _ = book.resolve(&name, provider.as_deref(), at(10));
        for model in book.models() {
            prop_assert_eq!(book.resolve(&model.name, None, at(10)).map(|found| &found.model), Some(&model.name));
        }
    }
}
