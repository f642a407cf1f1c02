//! Traps of usage objects: what is within what, what disagrees, and that nothing a caller sends panics.

use super::*;
use crate::prices::model::Pool;
use proptest::prelude::*;
use serde_json::{Value, json};

fn seen(usage: &Value) -> Normalized {
    let raw = serde_json::value::to_raw_value(usage).expect("JSON");
    read(&raw).unwrap_or_else(|error| panic!("{usage}: {error}"))
}

fn refused(text: &str) -> String {
    let raw: Box<RawValue> = serde_json::from_str(text).expect("JSON");
    read(&raw).expect_err(text).to_string()
}

fn pools(usage: &Value) -> Vec<(&'static str, i64)> {
    seen(usage).quantities.used().map(|(pool, quantity)| (pool.as_str(), quantity)).collect()
}

#[test]
fn cached_tokens_are_within_the_prompt_or_beside_it_as_the_provider_counts() {
    let want = vec![("input", 200), ("cached_input", 800), ("output", 50)];
    for usage in [
        json!({"prompt_tokens": 1000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 800}}),
        json!({"input_tokens": 1000, "output_tokens": 50, "input_tokens_details": {"cached_tokens": 800}}),
        json!({"prompt_tokens": 1000, "completion_tokens": 50, "prompt_cache_hit_tokens": 800, "prompt_cache_miss_tokens": 200}),
        json!({"input_tokens": 200, "output_tokens": 50, "cache_read_input_tokens": 800}),
        json!({"input_tokens": 1000, "output_tokens": 50, "cache_read_input_tokens": 800, "total_tokens": 1050}),
        json!({"promptTokenCount": 1000, "candidatesTokenCount": 50, "cachedContentTokenCount": 800}),
        json!({"inputTokens": 200, "outputTokens": 50, "cacheReadInputTokens": 800, "totalTokens": 1050}),
        json!({"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 50, "gen_ai.usage.cache_read.input_tokens": 800}),
        json!({"input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050, "input_token_details": {"cache_read": 800}}),
    ] {
        assert_eq!(pools(&usage), want, "{usage}");
        let sums = seen(&usage);
        assert_eq!(
            (sums.prompt_tokens, sums.completion_tokens, sums.total_tokens),
            (1000, 50, 1050),
            "{usage}"
        );
    }
}

#[test]
fn the_total_tells_where_thoughts_are() {
    let usage = |reasoning: i64, total: i64| {
        json!({"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": total,
            "completion_tokens_details": {"reasoning_tokens": reasoning}})
    };
    assert_eq!(pools(&usage(60, 110)), [("input", 10), ("output", 40), ("reasoning", 60)]);
    assert_eq!(pools(&usage(60, 170)), [("input", 10), ("output", 100), ("reasoning", 60)]);
    assert_eq!(pools(&usage(600, 710)), [("input", 10), ("output", 100), ("reasoning", 600)]);
    // A total that fits neither is not believed; one beyond both sides holds thoughts that are not named.
    assert_eq!(pools(&usage(60, 130)), [("input", 10), ("output", 40), ("reasoning", 60)]);
    assert_eq!(pools(&usage(0, 130)), [("input", 10), ("output", 100), ("reasoning", 20)]);
    let gemini = |total: i64| json!({"promptTokenCount": 10, "candidatesTokenCount": 100, "thoughtsTokenCount": 60, "totalTokenCount": total});
    assert_eq!(pools(&gemini(170)), [("input", 10), ("output", 100), ("reasoning", 60)]);
    assert_eq!(pools(&gemini(110)), [("input", 10), ("output", 40), ("reasoning", 60)]);
}

#[test]
fn cached_tokens_of_unknown_kind_are_text_as_far_as_there_is_any() {
    let usage = json!({"input_tokens": 100, "output_tokens": 0,
        "input_token_details": {"text_tokens": 30, "audio_tokens": 70, "cached_tokens": 50}});
    assert_eq!(pools(&usage), [("cached_input", 30), ("audio_input", 50), ("cached_audio_input", 20)]);
    let usage = json!({"input_tokens": 100, "output_tokens": 0, "input_token_details":
        {"text_tokens": 30, "audio_tokens": 70, "cached_tokens": 50, "cached_tokens_details": {"audio_tokens": 45}}});
    let want = [("input", 25), ("cached_input", 5), ("audio_input", 25), ("cached_audio_input", 45)];
    assert_eq!(pools(&usage), want);
}

#[test]
fn what_a_cache_keeps_for_an_hour_is_apart() {
    let usage = json!({"input_tokens": 3, "output_tokens": 4, "cache_creation_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60}});
    let want = vec![("input", 3), ("cache_write", 40), ("cache_write_1h", 60), ("output", 4)];
    assert_eq!(pools(&usage), want);
    let usage = json!({"inputTokens": 3, "outputTokens": 4, "cacheWriteInputTokens": 100, "cacheDetails":
        [{"ttl": "1h", "inputTokens": 60}, {"ttl": "5m", "inputTokens": 40}]});
    assert_eq!(pools(&usage), want);
}

#[test]
fn compactions_are_added_and_other_iterations_are_not() {
    let usage = json!({"input_tokens": 23, "output_tokens": 10, "iterations": [
        {"type": "compaction", "input_tokens": 180, "output_tokens": 35, "cache_read_input_tokens": 7},
        {"type": "message", "input_tokens": 23, "output_tokens": 10},
        {"type": "advisor_message", "model": "another", "input_tokens": 900, "output_tokens": 90}]});
    assert_eq!(pools(&usage), [("input", 203), ("cached_input", 7), ("output", 45)]);
}

#[test]
fn numbers_are_read_in_every_form_that_providers_write() {
    let usage = json!({"prompt_tokens": "19", "completion_tokens": 5.0, "total_tokens": null});
    assert_eq!(pools(&usage), [("input", 19), ("output", 5)]);
    for seconds in ["3.0", "2.9991", "3"] {
        let raw: Box<RawValue> =
            serde_json::from_str(&format!(r#"{{"type":"duration","seconds":{seconds}}}"#)).expect("JSON");
        assert_eq!(read(&raw).expect("read").quantities.get(Pool::Second), 3000, "{seconds}");
    }
}

#[test]
fn a_refusal_names_the_field_and_the_rule() {
    let whole = "must be a whole number from 0 to 2147483647";
    for (text, wanted) in [
        (r#"{"prompt_tokens":-1}"#, format!("usage.prompt_tokens {whole}")),
        (r#"{"prompt_tokens":1.5}"#, format!("usage.prompt_tokens {whole}")),
        (r#"{"prompt_tokens":2147483648}"#, format!("usage.prompt_tokens {whole}")),
        (r#"{"prompt_tokens":"1e3"}"#, format!("usage.prompt_tokens {whole}")),
        (r#"{"prompt_tokens":true}"#, format!("usage.prompt_tokens {whole}")),
        (
            r#"{"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":-1}}}"#,
            format!("usage.usage.prompt_tokens_details.cached_tokens {whole}"),
        ),
        (
            r#"{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}"#,
            "usage.prompt_tokens_details.cached_tokens must not be more than all that went in, of which it is a part".to_owned(),
        ),
        (
            r#"{"prompt_tokens":1,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}"#,
            "usage.completion_tokens_details.reasoning_tokens must not be more than all that came out, of which it is a part".to_owned(),
        ),
        (
            r#"{"promptTokenCount":9,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":10}]}"#,
            "usage.promptTokensDetails must not be more than all that went in, of which it is a part".to_owned(),
        ),
        (
            r#"{"promptTokenCount":9,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":0.5}]}"#,
            format!("usage.promptTokensDetails[0].tokenCount {whole}"),
        ),
        (
            r#"{"input_tokens":1,"cache_creation_input_tokens":5,"cache_creation":{"ephemeral_1h_input_tokens":6}}"#,
            "usage.cache_creation.ephemeral_1h_input_tokens must not be more than usage.cache_creation_input_tokens, of which it is a part".to_owned(),
        ),
        (
            r#"{"prompt_tokens":5,"prompt_tokens_details":[1]}"#,
            "usage.prompt_tokens_details must be a JSON object".to_owned(),
        ),
        (
            r#"{"prompt_tokens":5,"input_tokens":6}"#,
            "usage.input_tokens must be the same as usage.prompt_tokens".to_owned(),
        ),
        (
            r#"{"input_tokens":50,"cache_read_input_tokens":5,"input_tokens_details":{"cached_tokens":5}}"#,
            "usage.cache_read_input_tokens must not stand beside usage.input_tokens_details.cached_tokens, which counts within input_tokens".to_owned(),
        ),
        (
            r#"{"prompt_tokens":5,"usage":{"prompt_tokens":5}}"#,
            "usage.usage must not stand beside other counts of the same call".to_owned(),
        ),
        (
            r#"{"type":"duration","seconds":-0.5}"#,
            "usage.seconds must be a number from 0 to 2147483.647".to_owned(),
        ),
        (r#"{"prompt_tokens":5,"model":5}"#, "usage.model must be a text".to_owned()),
        ("{}", "usage must have a field that counts what a provider used".to_owned()),
        (r#"{"cost":1,"prompt_tokens":null}"#, "usage must have a field that counts what a provider used".to_owned()),
        ("[]", "usage must be a JSON object".to_owned()),
        (
            r#"{"prompt_tokens":2147483647,"completion_tokens":1}"#,
            "usage must come to at most 2147483647 tokens".to_owned(),
        ),
    ] {
        assert_eq!(refused(text), wanted, "{text}");
    }
    let foreign = refused(r#"{"inputTokens":5,"outputTokens":1,"cachedInputTokens":4}"#);
    assert!(foreign.starts_with("usage.cachedInputTokens must be left out"), "{foreign}");
}

#[test]
fn every_limit_refuses() {
    let large = format!(r#"{{"prompt_tokens":1,"x":"{}"}}"#, "x".repeat(JsonObject::MAX_BYTES));
    assert_eq!(refused(&large), "usage must be at most 65536 bytes of JSON");
    let deep = format!(r#"{{"prompt_tokens":1,"x":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    assert_eq!(refused(&deep), "usage must be nested at most 64 levels deep");
    let entries = vec!["{}"; ENTRIES_MAX + 1].join(",");
    let long = format!(r#"{{"promptTokenCount":1,"promptTokensDetails":[{entries}]}}"#);
    assert_eq!(refused(&long), "usage.promptTokensDetails must have at most 256 entries");
    let many: String = (0..=FIELDS_MAX).map(|n| format!(r#","{n}":0"#)).collect();
    assert_eq!(refused(&format!(r#"{{"prompt_tokens":1{many}}}"#)), "usage must have at most 256 fields");
    let name = "m".repeat(201);
    let named = format!(r#"{{"prompt_tokens":1,"model":"{name}"}}"#);
    assert_eq!(refused(&named), "usage.model must be 1 to 200 characters");
}

/// Names that mean something somewhere, so that arbitrary objects are near to real ones.
const NAMES: [&str; 48] = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
    "input_token_details",
    "output_token_details",
    "cached_tokens_details",
    "cached_tokens",
    "audio_tokens",
    "image_tokens",
    "reasoning_tokens",
    "thinking_tokens",
    "cache_write_tokens",
    "cache_read",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "iterations",
    "type",
    "seconds",
    "prompt_audio_seconds",
    "citation_tokens",
    "num_search_queries",
    "promptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "cachedContentTokenCount",
    "toolUsePromptTokenCount",
    "totalTokenCount",
    "promptTokensDetails",
    "cacheTokensDetails",
    "candidatesTokensDetails",
    "modality",
    "tokenCount",
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheWriteInputTokens",
    "cacheDetails",
    "billed_units",
    "usage",
];

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => (0i64..200).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => prop_oneof![Just("AUDIO"), Just("IMAGE"), Just("compaction"), Just("duration"), Just("12"), Just("")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| {
        let name = proptest::sample::select(&NAMES[..]).prop_map(str::to_owned);
        prop_oneof![
            4 => proptest::collection::btree_map(name, inner.clone(), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            1 => proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
        ]
    })
}

/// What holds of everything that is read.
fn holds(seen: &Normalized) {
    use Pool::{
        AudioInput, AudioOutput, CacheWrite, CacheWrite1h, CachedAudioInput, CachedInput, ImageInput,
        ImageOutput, Input, Output, Reasoning,
    };
    let sum = |pools: &[Pool]| pools.iter().map(|pool| seen.quantities.get(*pool)).sum::<i64>();
    let into = [Input, CachedInput, CacheWrite, CacheWrite1h, AudioInput, CachedAudioInput, ImageInput];
    assert_eq!(sum(&into), seen.prompt_tokens);
    assert_eq!(sum(&[Output, Reasoning, AudioOutput, ImageOutput]), seen.completion_tokens);
    assert_eq!(seen.prompt_tokens + seen.completion_tokens, seen.total_tokens);
    assert!(seen.total_tokens <= i64::from(Count::MAX));
    assert!(Pool::ALL.iter().all(|pool| seen.quantities.get(*pool) >= 0), "{seen:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn whatever_is_sent_is_read_into_pools_that_sum_or_is_refused(usage in arbitrary_json()) {
        let raw = serde_json::value::to_raw_value(&usage).expect("JSON");
        match read(&raw) {
            Ok(seen) => holds(&seen),
            Err(error) => prop_assert!(error.field.starts_with("usage") && error.rule.starts_with("must ")),
        }
    }

    #[test]
    fn parts_that_fit_are_never_refused_nor_lost(
        text in 0i64..1000, audio in 0i64..1000, image in 0i64..1000, cached in 0i64..3000, out in 0i64..1000, thoughts in 0i64..1000,
    ) {
        let whole = text + audio + image;
        let cached = cached.min(whole);
        let usage = json!({"prompt_tokens": whole, "completion_tokens": out + thoughts,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio, "image_tokens": image},
            "completion_tokens_details": {"reasoning_tokens": thoughts}});
        let seen = seen(&usage);
        holds(&seen);
        let pool = |pool| seen.quantities.get(pool);
        prop_assert_eq!(pool(Pool::CachedInput) + pool(Pool::CachedAudioInput), cached);
        prop_assert_eq!(pool(Pool::Reasoning), thoughts);
    }
}
