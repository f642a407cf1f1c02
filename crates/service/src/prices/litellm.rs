//! Price lists in LiteLLM's layout: an object of models, each an object of fields. No I/O.
//!
//! Rates are read from their literals, never through a float. Fields that price something which has no
//! pool here (batches, priority, pixels, pages) are passed over and named; a model of which nothing else
//! is priced is left out, and so is one whose other rates are all zero: it would be a silent zero.

use super::rates::{Rates, Tier};
use super::version::Tariff;
use super::{Pool, names};
use kernel::{Count, Rate};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// How many models one list may have.
pub const MODELS_MAX: usize = 20_000;
/// How many fields of one model are looked at.
const FIELDS_MAX: usize = 500;
/// How many tiers one model may have.
pub const TIERS_MAX: usize = 10;
/// A field that means pictures made or pictures sent.
const PER_IMAGE: &str = "input_cost_per_image";
/// The layout's own example, which is no model.
const SAMPLE: &str = "sample_spec";

/// The members of a JSON object in their order, each as it was written.
#[derive(Debug)]
pub struct Members<const MAX: usize>(pub Vec<(String, Box<RawValue>)>);

impl<'de, const MAX: usize> Deserialize<'de> for Members<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<const MAX: usize>;

        impl<'de, const MAX: usize> Visitor<'de> for Object<MAX> {
            type Value = Members<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<MAX>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() == MAX {
                        return Err(A::Error::custom(format_args!("must have at most {MAX} members")));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A whole price list.
pub type List = Members<MODELS_MAX>;

/// What a list says of a model.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it costs.
    pub tariff: Tariff,
    /// Fields that price something else, by name.
    pub ignored: Vec<String>,
    /// Fields whose literal has more places than a rate, and was rounded half up.
    pub rounded: Vec<String>,
}

/// Reads one model.
///
/// # Errors
/// Why it is left out, in one sentence.
pub fn read(model: &str, text: &RawValue) -> Result<Listed, String> {
    if model == SAMPLE {
        return Err("the layout's own example".to_owned());
    }
    names::check(model)?;
    let fields: Members<FIELDS_MAX> = serde_json::from_str(text.get())
        .map_err(|_| format!("must be an object of at most {FIELDS_MAX} fields"))?;
    let mut reading = Reading::default();
    for (name, value) in &fields.0 {
        reading.field(name, value, 0)?;
    }
    reading.finish()
}

/// A model while its fields are read.
#[derive(Debug, Default)]
struct Reading {
    tariff: Tariff,
    /// Rates by the tokens above which they hold; 0 is the usual ones.
    rates: BTreeMap<i64, Rates>,
    ignored: BTreeMap<String, bool>,
    rounded: Vec<String>,
    /// What a picture costs by a field that means pictures made only where that is what a model is for.
    per_image: Option<(String, String)>,
}

impl Reading {
    /// Reads a field; `above` is the tier that it stands in.
    fn field(&mut self, name: &str, value: &RawValue, above: i64) -> Result<(), String> {
        let text = value.get();
        match name {
            _ if text == "null" => {}
            "litellm_provider" => self.tariff.provider = short(text, 100),
            "mode" => self.tariff.mode = short(text, 50),
            "max_input_tokens" => self.tariff.max_input_tokens = count(text),
            "max_output_tokens" => self.tariff.max_output_tokens = count(text),
            "search_context_cost_per_query" => return self.search(name, text),
            PER_IMAGE => self.per_image = Some((name.to_owned(), text.to_owned())),
            "tiered_pricing" => return self.tiered(name, text),
            _ => match pool_of(name) {
                Some((pool, tier)) => return self.rate(name, pool, tier.max(above), text),
                None if prices_something(name) => self.ignore(name, text),
                None => {}
            },
        }
        Ok(())
    }

    fn rate(&mut self, name: &str, pool: Pool, above: i64, text: &str) -> Result<(), String> {
        let literal = text.trim_matches('"');
        let (rate, rounded) = Rate::parse_rounding(literal).map_err(|rule| format!("{name} {rule}"))?;
        if rounded {
            self.rounded.push(name.to_owned());
        }
        let rates = self.rates.entry(above).or_default();
        // Where two fields price one pool, the dearer counts.
        if rates.get(pool).is_none_or(|known| known < rate) {
            rates.set(pool, rate);
        }
        Ok(())
    }

    /// A search costs what one of medium size does.
    fn search(&mut self, name: &str, text: &str) -> Result<(), String> {
        let Ok(Members(sizes)) = serde_json::from_str::<Members<FIELDS_MAX>>(text) else {
            self.ignore(name, "1");
            return Ok(());
        };
        let medium = sizes.iter().find(|(size, _)| size.ends_with("_medium")).or(sizes.first());
        medium.map_or(Ok(()), |(_, value)| self.rate(name, Pool::Search, 0, value.get()))
    }

    /// A list of ranges of the prompt's length, each with fields of its own.
    fn tiered(&mut self, name: &str, text: &str) -> Result<(), String> {
        let ranges: Vec<Members<FIELDS_MAX>> =
            serde_json::from_str(text).map_err(|_| format!("{name} must be a list of objects"))?;
        for range in ranges {
            let from = range.0.iter().find(|(member, _)| member == "range");
            let from =
                from.and_then(|(_, value)| serde_json::from_str::<(Count, Box<RawValue>)>(value.get()).ok());
            let Some((from, _)) = from else {
                return Err(format!("{name} must say the range of each of its prices"));
            };
            for (member, value) in range.0.iter().filter(|(member, _)| member != "range") {
                self.field(member, value, from.get().into())?;
            }
        }
        Ok(())
    }

    fn ignore(&mut self, name: &str, text: &str) {
        let free = Rate::parse_rounding(text.trim_matches('"')).is_ok_and(|(rate, _)| rate == Rate::ZERO);
        self.ignored.insert(name.to_owned(), !free);
    }

    /// Pictures made are priced by either of two fields; on models for other things one of them is about pictures in.
    fn pictures(&mut self) -> Result<(), String> {
        let Some((name, text)) = self.per_image.take() else { return Ok(()) };
        let makes_pictures = self.tariff.mode.as_ref().is_some_and(|mode| mode.starts_with("image_"));
        let priced = self.rates.get(&0).is_some_and(|rates| rates.get(Pool::Image).is_some());
        if makes_pictures && !priced {
            return self.rate(&name, Pool::Image, 0, &text);
        }
        self.ignore(&name, &text);
        Ok(())
    }

    fn finish(mut self) -> Result<Listed, String> {
        self.pictures()?;
        let base = self.rates.remove(&0).unwrap_or_default();
        let costs = |rates: &Rates| rates.given().any(|(_, rate)| rate > Rate::ZERO);
        let priced_elsewhere: Vec<&str> =
            self.ignored.iter().filter(|(_, costs)| **costs).map(|(name, _)| name.as_str()).collect();
        if base.is_empty() || (!costs(&base) && !priced_elsewhere.is_empty()) {
            return Err(match priced_elsewhere.is_empty() {
                true => "no price".to_owned(),
                false => format!(
                    "no price per token, picture, call, second or character; only {}",
                    priced_elsewhere.join(", ")
                ),
            });
        }
        if self.rates.len() > TIERS_MAX {
            return Err(format!("more than {TIERS_MAX} tiers"));
        }
        self.tariff.rates = base;
        self.tariff.tiers = self.rates.into_iter().map(|(above, rates)| Tier { above, rates }).collect();
        Ok(Listed { tariff: self.tariff, ignored: self.ignored.into_keys().collect(), rounded: self.rounded })
    }
}

/// The pool that a field prices, and the tokens of prompt above which it does.
fn pool_of(field: &str) -> Option<(Pool, i64)> {
    let (name, above) = match field.strip_suffix("k_tokens").and_then(|rest| rest.rsplit_once("_above_")) {
        Some((name, thousands)) => (name, thousands.parse::<u16>().ok().map(i64::from)? * 1_000),
        None => (field, 0),
    };
    let pool = match name {
        "input_cost_per_token" => Pool::Input,
        "output_cost_per_token" => Pool::Output,
        "cache_read_input_token_cost" | "input_cost_per_token_cache_hit" => Pool::CachedInput,
        "cache_creation_input_token_cost" => Pool::CacheWrite,
        "cache_creation_input_token_cost_above_1hr" => Pool::CacheWrite1h,
        "output_cost_per_reasoning_token" => Pool::Reasoning,
        "input_cost_per_audio_token" => Pool::AudioInput,
        "cache_read_input_audio_token_cost" => Pool::CachedAudioInput,
        "output_cost_per_audio_token" => Pool::AudioOutput,
        "input_cost_per_image_token" => Pool::ImageInput,
        "output_cost_per_image_token" => Pool::ImageOutput,
        "output_cost_per_image" => Pool::Image,
        "input_cost_per_request" => Pool::Request,
        // Rerankers and search engines, whose usage objects count searches.
        "input_cost_per_query" => Pool::Search,
        "input_cost_per_second" | "output_cost_per_second" | "output_cost_per_video_per_second" => {
            Pool::Second
        }
        "input_cost_per_character" | "output_cost_per_character" => Pool::Character,
        _ => return None,
    };
    Some((pool, above))
}

/// Whether a field is about money at all.
fn prices_something(field: &str) -> bool {
    ["cost", "price", "pricing"].iter().any(|word| field.contains(word))
}

/// A text of at most so many characters; others say nothing.
fn short(text: &str, max: usize) -> Option<String> {
    let text: String = serde_json::from_str(text).ok()?;
    ((1..=max).contains(&text.chars().count()) && !text.chars().any(char::is_control)).then_some(text)
}

/// A whole number of tokens above 0; others say nothing.
fn count(text: &str) -> Option<i64> {
    let count: Count = serde_json::from_str(text).ok()?;
    (count.get() > 0).then(|| count.get().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(model: &str, text: &str) -> Result<Listed, String> {
        read(model, &RawValue::from_string(text.to_owned()).expect("JSON"))
    }

    fn tariff(text: &str) -> String {
        serde_json::to_string(&listed("m", text).expect("a model").tariff).expect("json")
    }

    #[test]
    fn rates_are_taken_from_their_literals() {
        let text = r#"{"litellm_provider":"openai","mode":"chat","max_input_tokens":8192,"max_output_tokens":"none",
            "input_cost_per_token":3e-05,"output_cost_per_token":6.0e-05,"cache_read_input_token_cost":1.25e-06,
            "input_cost_per_token_batches":1.5e-05,"supports_vision":true,"source":"https://example.com"}"#;
        let found = listed("gpt-4", text).expect("a model");
        assert_eq!(found.ignored, ["input_cost_per_token_batches"]);
        assert_eq!(found.rounded, Vec::<String>::new());
        assert_eq!(
            tariff(text),
            r#"{"provider":"openai","mode":"chat","max_input_tokens":8192,"rates":{"input":0.00003,"cached_input":0.00000125,"output":0.00006}}"#
        );
    }

    #[test]
    fn long_prompts_have_tiers_in_either_form() {
        let above = r#"{"input_cost_per_token":1e-6,"output_cost_per_token":2e-6,
            "input_cost_per_token_above_272k_tokens":3e-6,"input_cost_per_token_above_128k_tokens":2e-6,
            "output_cost_per_token_above_128k_tokens":4e-6,"cache_creation_input_token_cost_above_1hr_above_200k_tokens":5e-6,
            "input_cost_per_token_above_272k_tokens_batches":9e-6}"#;
        assert_eq!(
            tariff(above),
            r#"{"rates":{"input":0.000001,"output":0.000002},"tiers":[{"above":128000,"rates":{"input":0.000002,"output":0.000004}},{"above":200000,"rates":{"cache_write_1h":0.000005}},{"above":272000,"rates":{"input":0.000003}}]}"#
        );
        let ranges = r#"{"tiered_pricing":[{"range":[0,256000.0],"input_cost_per_token":5e-08,"output_cost_per_token":4e-07},
            {"range":[256000.0,1e6],"input_cost_per_token":2.5e-07}]}"#;
        assert_eq!(
            tariff(ranges),
            r#"{"rates":{"input":0.00000005,"output":0.0000004},"tiers":[{"above":256000,"rates":{"input":0.00000025}}]}"#
        );
    }

    #[test]
    fn of_two_fields_for_one_pool_the_dearer_counts() {
        let seconds = r#"{"input_cost_per_second":0.0001,"output_cost_per_second":0.0}"#;
        assert_eq!(tariff(seconds), r#"{"rates":{"second":0.0001}}"#);
        let search = r#"{"input_cost_per_token":1e-6,"search_context_cost_per_query":
            {"search_context_size_low":0.01,"search_context_size_medium":0.02,"search_context_size_high":0.03}}"#;
        assert_eq!(tariff(search), r#"{"rates":{"input":0.000001,"search":0.02}}"#);
        let picture = r#"{"input_cost_per_image":0.04,"mode":"image_generation"}"#;
        assert_eq!(tariff(picture), r#"{"mode":"image_generation","rates":{"image":0.04}}"#);
        let sent = listed("m", r#"{"input_cost_per_image":0.04,"mode":"chat","input_cost_per_token":1}"#)
            .expect("a model");
        assert_eq!((sent.tariff.rates.get(Pool::Image), sent.ignored), (None, vec![PER_IMAGE.to_owned()]));
    }

    #[test]
    fn what_would_be_a_silent_zero_is_left_out() {
        for (text, why) in [
            ("{}", "no price"),
            (r#"{"mode":"chat","max_input_tokens":1}"#, "no price"),
            (
                r#"{"input_cost_per_pixel":1e-8}"#,
                "no price per token, picture, call, second or character; only input_cost_per_pixel",
            ),
            (
                r#"{"input_cost_per_pixel":1e-8,"output_cost_per_token":0.0}"#,
                "no price per token, picture, call, second or character; only input_cost_per_pixel",
            ),
            (r#"{"input_cost_per_token":-1}"#, "input_cost_per_token must not be negative"),
            (r#"{"input_cost_per_token":1e9}"#, "input_cost_per_token must be at most 9000"),
            (r#"{"input_cost_per_token":true}"#, "input_cost_per_token must be a number"),
            (r#"{"input_cost_per_token":[1]}"#, "input_cost_per_token must be a number"),
            (
                r#"{"tiered_pricing":[{"input_cost_per_token":1}]}"#,
                "tiered_pricing must say the range of each of its prices",
            ),
            (r#"{"tiered_pricing":7}"#, "tiered_pricing must be a list of objects"),
            ("7", "must be an object of at most 500 fields"),
            (&format!("{{{}\"x\":1}}", "\"f\":1,".repeat(500)), "must be an object of at most 500 fields"),
        ] {
            assert_eq!(listed("m", text), Err(why.to_owned()), "{text}");
        }
        assert_eq!(listed(SAMPLE, "{}"), Err("the layout's own example".to_owned()));
        assert!(
            listed("m", r#"{"input_cost_per_token":0,"output_cost_per_token":0.0}"#).is_ok(),
            "free on purpose"
        );
        let many: String =
            (1..=11).map(|n| format!(r#","input_cost_per_token_above_{n}k_tokens":1"#)).collect();
        assert_eq!(
            listed("m", &format!(r#"{{"input_cost_per_token":1{many}}}"#)),
            Err("more than 10 tiers".to_owned())
        );
    }

    #[test]
    fn what_has_too_many_places_is_rounded_and_said_to_be() {
        let found = listed("m", r#"{"input_cost_per_token":2.9999900000000002e-06}"#).expect("a model");
        assert_eq!(found.rounded, ["input_cost_per_token"]);
        assert_eq!(found.tariff.rates.get(Pool::Input).map(Rate::femto), Some(2_999_990_000));
    }

    #[test]
    fn a_list_is_bounded() {
        let members: String = (0..3).map(|n| format!(r#","m{n}":1"#)).collect();
        let text = format!("{{{}}}", &members[1..]);
        assert_eq!(serde_json::from_str::<Members<3>>(&text).expect("three").0.len(), 3);
        let error = serde_json::from_str::<Members<2>>(&text).expect_err("too many").to_string();
        assert!(error.starts_with("must have at most 2 members"), "{error}");
    }
}
