//! What callers send about limits, and the rules for it.

use super::model::{Dimension, Limit, Spend, Unit};
use super::source::{PLAN_PREFIX, Source};
use super::window::Window;
use crate::credits::context::Context;
use crate::credits::holds_api::tags;
use crate::credits::ledger::Measure;
use crate::http::input::from_json;
use crate::http::{ApiError, Invalid};
use kernel::decimal::{self, DecimalError};
use kernel::{Charge, Cost, Count, Credits, Text};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::HashSet;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The most characters of a limit's name, as the type of a request has it.
const ID_MAX_CHARS: usize = 100;

/// All limits of a user but those of its plan.
#[derive(Debug, Deserialize, ToSchema)]
pub struct LimitsRequest {
    /// 0 to 80 limits; what is not among them is gone, but for the limits of the user's plan.
    #[schema(max_items = 80)]
    limits: Vec<LimitRequest>,
}

/// One limit.
#[derive(Debug, Deserialize, ToSchema)]
pub struct LimitRequest {
    /// Its name, which denials give; no two alike, and none that begins with `plan:`.
    id: Text<1, 100>,
    /// What is counted apart; `user` when absent.
    per: Option<Dimension>,
    /// Only this session, model, tag or key; each counted on its own when absent. Not for `user`.
    value: Option<Text<1, 255>>,
    /// What is counted.
    unit: Unit,
    /// Over which time.
    window: Window,
    /// How much; 0 denies everything.
    amount: LimitAmount,
}

/// The literal of an amount, whose places and most follow from the unit.
#[derive(Debug)]
pub struct LimitAmount(String);

impl LimitAmount {
    fn within(&self, unit: Unit) -> Result<i64, DecimalError> {
        let (most, most_text) = unit.max();
        match decimal::parse(&self.0, unit.places(), most, most_text)? {
            amount if amount < 0 => Err(DecimalError::Negative),
            amount => Ok(amount),
        }
    }
}

impl<'de> Deserialize<'de> for LimitAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decimal::literal(deserializer).map(Self)
    }
}

impl PartialSchema for LimitAmount {
    fn schema() -> RefOr<Schema> {
        let about = "0 or more: credits to 6 decimal places, US dollars to 9, tokens and requests whole.";
        let number = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Number))
            .minimum(Some(0.0))
            .maximum(Some(9_007_199_254_740_991.0));
        let text = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .pattern(Some("^[0-9]{1,16}(\\.[0-9]{1,9})?$"))
            .min_length(Some(1))
            .max_length(Some(decimal::LITERAL_MAX_CHARS));
        OneOfBuilder::new().description(Some(about)).item(number).item(text).into()
    }
}

impl ToSchema for LimitAmount {
    fn name() -> Cow<'static, str> {
        "LimitAmount".into()
    }
}

impl LimitsRequest {
    /// The limits, where they keep the rules that bind them to each other.
    ///
    /// # Errors
    /// 400 that names the limit's place, its field and the rule.
    pub fn limits(self) -> Result<Vec<Limit>, ApiError> {
        let limits = self.alike()?;
        match Source::User.room().holds(&limits) {
            Ok(()) => Ok(limits),
            Err(rule) => Err(ApiError::invalid(["body", "limits"], rule)),
        }
    }

    /// The limits without regard to how many they are.
    fn alike(self) -> Result<Vec<Limit>, ApiError> {
        let mut ids = HashSet::new();
        let mut limits = Vec::with_capacity(self.limits.len());
        for (place, request) in self.limits.into_iter().enumerate() {
            let limit = request.limit().map_err(|(field, rule)| invalid(place, field, rule))?;
            if !ids.insert(limit.id.clone()) {
                return Err(invalid(place, "id", "must be another than those of the other limits"));
            }
            limits.push(limit);
        }
        Ok(limits)
    }
}

/// The limits of a plan, from the same JSON list that the route takes, and by the same rules. Their names are
/// as they stand there: with [`PLAN_PREFIX`] before each they have room in an account.
///
/// # Errors
/// What breaks which rule.
pub fn parse_list(json: &str) -> Result<Vec<Limit>, String> {
    // By itself first: what is put around it must not close what it leaves open.
    serde_json::from_str::<IgnoredAny>(json).map_err(|error| format!("limits: {error}"))?;
    let request = format!("{{\"limits\":{json}}}");
    let parsed = from_json::<LimitsRequest>(request.as_bytes(), "body").and_then(LimitsRequest::alike);
    let limits = parsed.map_err(|error| {
        error.message.strip_prefix("Invalid input: ").unwrap_or(&error.message).to_owned()
    })?;
    let prefixed = |limit: &Limit| Limit { id: format!("{PLAN_PREFIX}{}", limit.id), ..limit.clone() };
    let of_plan: Vec<Limit> = limits.iter().map(prefixed).collect();
    if let Some(place) = of_plan.iter().position(|limit| limit.id.chars().count() > ID_MAX_CHARS) {
        let most = ID_MAX_CHARS - PLAN_PREFIX.len();
        return Err(format!("limits.{place}.id: must have at most {most} characters in a plan"));
    }
    Source::Plan.room().holds(&of_plan).map_err(|rule| format!("limits: {rule}"))?;
    Ok(limits)
}

impl LimitRequest {
    fn limit(self) -> Result<Limit, (&'static str, String)> {
        let per = self.per.unwrap_or_default();
        if per == Dimension::User && self.value.is_some() {
            return Err(("value", "must be absent where per is user".to_owned()));
        }
        let amount = self.amount.within(self.unit).map_err(|rule| ("amount", rule.to_string()))?;
        if Source::of(self.id.as_str()) == Source::Plan {
            return Err(("id", format!("must not begin with {PLAN_PREFIX} as those of plans do")));
        }
        let value = self.value.map(Text::into_string);
        Ok(Limit { id: self.id.into_string(), per, value, unit: self.unit, window: self.window, amount })
    }
}

fn invalid(place: usize, field: &str, rule: impl Into<String>) -> ApiError {
    let loc = ["body", "limits", &place.to_string(), field].map(str::to_owned).to_vec();
    ApiError::all_invalid(vec![Invalid { kind: "value_error", loc, msg: rule.into() }])
}

/// A spend that is only asked about.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CheckRequest {
    /// Credits; 0 when absent.
    credits: Option<Charge>,
    /// Cost in US dollars; 0 when absent.
    cost_usd: Option<Cost>,
    /// Tokens; 0 when absent.
    tokens_used: Option<Count>,
    /// How many charges; 1 when absent.
    requests: Option<Count>,
    /// The session.
    session_id: Option<Text<1, 255>>,
    /// The model.
    model_name: Option<Text<1, 200>>,
    /// The service key that will ask; the caller's own when absent.
    key: Option<Text<1, 255>>,
    /// The tags: up to 20.
    #[schema(max_items = 20)]
    tags: Option<Vec<Text<1, 100>>>,
}

/// How much a question is about.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    credits: Credits,
    measure: Measure,
    requests: i64,
}

impl CheckRequest {
    /// What the spend is for, and how much it is: with the caller's own key where it names none, and the
    /// model by the name that `canonical` gives it.
    ///
    /// # Errors
    /// 400 when there are too many tags.
    pub fn asked(
        self,
        own_key: Option<String>,
        canonical: impl Fn(&str) -> String,
    ) -> Result<(Context, Asked), ApiError> {
        let count = |count: Option<Count>, absent| count.map_or(absent, |count| i64::from(count.get()));
        let context = Context {
            model: self.model_name.map(|model| canonical(model.as_str())),
            feature: None,
            session: self.session_id.map(Text::into_string),
            key: self.key.map(Text::into_string).or(own_key),
            tags: tags(self.tags)?,
        };
        let cost_usd = self.cost_usd.unwrap_or_default().nano();
        let asked = Asked {
            credits: self.credits.unwrap_or_default().credits(),
            measure: Measure { cost_usd, tokens: count(self.tokens_used, 0) },
            requests: count(self.requests, 1),
        };
        Ok((context, asked))
    }
}

impl Asked {
    /// The spend.
    #[must_use]
    pub fn of(self, context: &Context) -> Spend<'_> {
        Spend { requests: self.requests, ..context.spend(self.credits, self.measure) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn limits(limits: Value) -> Result<Vec<Limit>, ApiError> {
        from_json::<LimitsRequest>(json!({"limits": limits}).to_string().as_bytes(), "body")?.limits()
    }

    #[test]
    fn amounts_are_exact_in_their_unit() {
        for (unit, amount, wanted) in [
            ("credits", json!(500), 500_000_000),
            ("credits", json!("0.000001"), 1),
            ("credits", json!(0), 0),
            ("usd", json!(0.000_000_001), 1),
            ("usd", json!("9000000000"), 9_000_000_000_000_000_000),
            ("tokens", json!(100_000), 100_000),
            ("requests", json!("9007199254740991"), 9_007_199_254_740_991),
        ] {
            let made = limits(json!([{"id": "a", "unit": unit, "window": "month", "amount": amount}]));
            assert_eq!(made.expect("a limit")[0].amount, wanted, "{unit} {amount}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_named_by_its_place() {
        let good = json!({"id": "a", "unit": "tokens", "window": "5h", "amount": 1});
        for (change, field, rule) in [
            (json!({"window": "5w"}), "window", "must be hour, day, week, month, or 1m to 366d"),
            (json!({"window": 5}), "window", "invalid type"),
            (json!({"unit": "euro"}), "unit", "unknown variant"),
            (json!({"per": "team"}), "per", "unknown variant"),
            (json!({"per": "user", "value": "x"}), "value", "must be absent"),
            (json!({"value": "x"}), "value", "must be absent"),
            (json!({"per": "session", "value": ""}), "value", "1 to 255 characters"),
            (json!({"id": ""}), "id", "1 to 100 characters"),
            (json!({"id": "x".repeat(101)}), "id", "1 to 100 characters"),
            (json!({"id": "a\u{0}"}), "id", "NUL"),
            (json!({"id": "first"}), "id", "must be another"),
            (json!({"id": "plan:a"}), "id", "must not begin with plan:"),
            (json!({"amount": 0.5}), "amount", "at most 0 decimal places"),
            (json!({"amount": -1}), "amount", "must not be negative"),
            (json!({"amount": "many"}), "amount", "must be a number"),
            (json!({"amount": 9_007_199_254_740_992_i64}), "amount", "at most 9007199254740991"),
            (json!({"unit": "credits", "amount": 0.000_000_1}), "amount", "at most 6 decimal places"),
            (json!({"unit": "usd", "amount": 9_000_000_001_i64}), "amount", "at most 9000000000"),
        ] {
            let mut bad = good.clone();
            bad.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
            let first = json!({"id": "first", "unit": "usd", "window": "day", "amount": "1.5"});
            let error = limits(json!([first, bad])).expect_err(rule);
            assert_eq!(error.invalid[0].loc, ["body", "limits", "1", field], "{change}");
            assert!(error.invalid[0].msg.contains(rule), "{change}: {}", error.invalid[0].msg);
        }
        let error = limits(json!([{"unit": "usd", "window": "day", "amount": 1}])).expect_err("no name");
        assert_eq!(error.invalid[0].loc, ["body", "limits", "0", "id"]);
    }

    #[test]
    fn a_set_is_bounded_by_number_by_kind_and_by_size() {
        let made = |count: usize, per: &str, id: usize| {
            let all = (0..count).map(|place| {
                let id = format!("{place:0>id$}");
                json!({"id": id, "per": per, "unit": "tokens", "window": "day", "amount": 1})
            });
            limits(all.collect())
        };
        assert_eq!(made(80, "user", 1).expect("as many as may be").len(), 80);
        assert_eq!(made(15, "tag", 100).expect("as many as may be").len(), 15);
        let values = |count: usize, value: &str| {
            let all = (0..count).map(|place| {
                json!({"id": place.to_string(), "per": "session", "value": value, "unit": "tokens", "window": "day", "amount": 1})
            });
            limits(all.collect())
        };
        assert!(values(80, &"x".repeat(200)).is_ok());
        for (refused, rule) in [
            (made(81, "user", 1), "at most 80 limits, has 81"),
            (made(16, "tag", 1), "at most 15 limits that count each value on its own"),
            (values(80, &"é".repeat(255)), "at most 24576 bytes"),
        ] {
            let error = refused.expect_err(rule);
            assert_eq!(error.invalid[0].loc, ["body", "limits"]);
            assert!(error.invalid[0].msg.contains(rule), "{}", error.invalid[0].msg);
        }
    }

    #[test]
    fn a_plans_list_is_read_like_a_request_and_fits_its_own_room() {
        let made = |count: usize, change: Value| {
            let all = (0..count).map(|place| {
                let mut limit =
                    json!({"id": place.to_string(), "unit": "usd", "window": "month", "amount": 0.25});
                limit
                    .as_object_mut()
                    .expect("an object")
                    .extend(change.as_object().expect("an object").clone());
                limit
            });
            parse_list(&all.collect::<Value>().to_string())
        };
        let parsed = made(1, json!({})).expect("a limit");
        let (per, unit, window) = (Dimension::User, Unit::Usd, super::super::window::Window::Month);
        let wanted = Limit { id: "0".to_owned(), per, value: None, unit, window, amount: 250_000_000 };
        assert_eq!(parsed, [wanted], "its name is left to whoever sets it");
        let session = json!({"per": "session"});
        assert_eq!(
            (made(20, json!({})).map(|all| all.len()), made(5, session.clone()).map(|all| all.len())),
            (Ok(20), Ok(5))
        );
        assert!(made(1, json!({"id": "x".repeat(95)})).is_ok());
        for (refused, rule) in [
            (made(21, json!({})), "limits: must have at most 20 limits, has 21"),
            (made(6, session), "limits: must have at most 5 limits that count each value on its own"),
            (
                made(20, json!({"per": "tag", "value": "é".repeat(255)})),
                "limits: must take at most 8192 bytes",
            ),
            (
                made(1, json!({"id": "x".repeat(96)})),
                "limits.0.id: must have at most 95 characters in a plan",
            ),
            (made(2, json!({"id": "a"})), "limits.1.id: must be another than those of the other limits"),
            (made(1, json!({"id": "plan:a"})), "limits.0.id: must not begin with plan: as those of plans do"),
            (made(1, json!({"amount": -1})), "limits.0.amount: must not be negative"),
            (parse_list("[{"), "limits: EOF while parsing an object at line 1 column 2"),
        ] {
            assert_eq!(refused, Err(rule.to_owned()));
        }
    }

    #[test]
    fn a_question_has_at_most_twenty_tags() {
        let asked = |tags: usize| {
            let tags: Vec<String> = (0..tags).map(|tag| tag.to_string()).collect();
            let body = json!({"tags": tags, "tokens_used": "7", "model_name": "gpt-4-0613"}).to_string();
            let request: CheckRequest = serde_json::from_str(&body).expect("a request");
            request.asked(Some("main".to_owned()), |model| model.replace("-0613", ""))
        };
        let (context, twenty) = asked(20).expect("twenty");
        let spend = twenty.of(&context);
        assert_eq!((spend.tags.len(), spend.tokens, spend.requests), (20, 7, 1));
        assert_eq!((spend.key, spend.model), (Some("main"), Some("gpt-4")));
        assert_eq!(asked(21).expect_err("too many").invalid[0].loc, ["body", "tags"]);
    }
}
