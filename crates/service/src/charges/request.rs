//! What a caller sends to charge for usage, and how it is priced.

use super::{Charge, ChargeStatus, OnInsufficient, canonical};
use crate::app::App;
use crate::auth::grants::{Caller, UserRef};
use crate::credits::context::{Basis, Context};
use crate::credits::holds_api::{given, tags};
use crate::credits::ledger::{Measure, Note};
use crate::http::ApiError;
use crate::http::input::from_json;
use crate::prices::pricing::counted;
use crate::prices::quotes::Used;
use crate::prices::rates::prompt_tokens;
use crate::prices::{Explanation, Pool, Quantities, Terms, quote, usage};
use crate::usage::api::UsageRequest;
use crate::usage::model::UsageFacts;
use crate::usage::{NewUsage, UsageRecord};
use kernel::{Charge as Price, JsonObject, Text, Timestamp, UserKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A usage record to price and to pay for: every field of a usage record, and these.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "only described: the two parts are read one after the other")]
pub struct ChargeRequest {
    /// The record.
    #[serde(flatten)]
    record: UsageRequest,
    /// How it is paid.
    #[serde(flatten)]
    payment: Payment,
}

/// What a charge says beside its usage record.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Payment {
    /// What it costs; priced by the model's price when absent.
    credits: Option<Price>,
    /// The usage object as the provider answered it, or OpenTelemetry attributes `gen_ai.*`: read into
    /// disjoint pools, so that cached tokens are not counted twice.
    #[schema(value_type = Option<Object>)]
    usage: Option<Box<RawValue>>,
    /// How much of each pool, instead of `usage` and of the token counts.
    pools: Option<Used>,
    /// What becomes of it when the account cannot pay or a spending limit denies it: `reject` when absent.
    on_insufficient: Option<OnInsufficient>,
    /// What the product calls it; the event type when absent.
    feature: Option<Text<0, 100>>,
    /// The key that it is spent with, where limits are about keys; the caller's own key when absent.
    key: Option<Text<0, 255>>,
    /// Up to 20 tags, where limits are about tags.
    #[schema(max_items = 20)]
    tags: Option<Vec<Text<1, 100>>>,
    /// What to write beside the transaction.
    description: Option<Text<0, 1000>>,
    /// Anything else about the transaction.
    metadata: Option<JsonObject>,
}

/// A charge as it was sent, read but not priced.
#[derive(Debug)]
pub struct Sent {
    record: UsageRequest,
    payment: Payment,
}

impl Sent {
    /// Reads both parts.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read(body: &RawValue) -> Result<Self, ApiError> {
        let text = body.get().as_bytes();
        Ok(Self { record: from_json(text, "body")?, payment: from_json(text, "body")? })
    }

    /// Whose usage it says it is.
    #[must_use]
    pub const fn user(&self) -> Option<&UserKey> {
        self.record.user_id.as_ref()
    }

    /// Prices it, on the terms of the user's plan.
    ///
    /// # Errors
    /// 400 that names the field: also where the model has no price, and `UNKNOWN_MODEL` is `reject`.
    pub fn into_charge(
        self,
        app: &App,
        caller: &Caller,
        user: UserRef,
        terms: &Terms,
        note: Note,
    ) -> Result<Charge, ApiError> {
        let Self { record, payment } = self;
        let now = app.clock.now();
        let counted = record.counts_tokens() || payment.usage.is_some() || payment.pools.is_some();
        let mut new = record.into_new(user, now, app.config.contents)?;
        let quantities = quantities(&mut new, &payment)?;
        let at = new.created_at.unwrap_or(now);
        let rated = rate(app, &mut new, &quantities, payment.credits, terms, at)?;
        let facts = Arc::make_mut(&mut new.facts);
        let (status, pricing) = match rated {
            Rated::Named => (ChargeStatus::Charged, None),
            Rated::Unpriced => (ChargeStatus::Unpriced, None),
            // What was not counted must not cost nothing by an oversight.
            Rated::Priced(explanation) | Rated::Fallback(explanation)
                if explanation.lines.is_empty() && !counted =>
            {
                let rule = "Field required: token counts, usage, pools or credits say what to charge for";
                return Err(ApiError::invalid(["body", "usage"], rule));
            }
            Rated::Priced(explanation) => {
                facts.credits_charged = explanation.credits;
                facts.cost_usd = explanation.cost_usd.nano();
                facts.calculation_method = "price_book".to_owned();
                (ChargeStatus::Charged, Some(pricing_text(&explanation)?))
            }
            Rated::Fallback(explanation) => {
                facts.credits_charged = explanation.credits;
                facts.cost_usd = explanation.cost_usd.nano();
                facts.calculation_method = "fallback".to_owned();
                (ChargeStatus::Fallback, Some(pricing_text(&explanation)?))
            }
        };
        let provider = facts.provider.as_deref();
        let context = Context {
            model: facts.model_name.as_deref().map(|model| canonical(app, model, provider, at)),
            feature: Some(given(payment.feature).unwrap_or_else(|| facts.event_type.clone())),
            session: facts.session_id.clone(),
            key: given(payment.key).or_else(|| caller.key()),
            tags: tags(payment.tags)?,
        };
        let measure = Measure { cost_usd: facts.cost_usd, tokens: facts.tokens_used };
        let description = payment.description.map(Text::into_string);
        Ok(Charge {
            status,
            pools: Some(pools_text(&quantities)),
            basis: Basis { context, pricing },
            measure,
            on_insufficient: payment.on_insufficient.unwrap_or(OnInsufficient::Reject),
            note: Note { description, metadata: payment.metadata.unwrap_or_default(), ..note },
            new,
        })
    }
}

fn pricing_text(explanation: &Explanation) -> Result<JsonObject, ApiError> {
    serde_json::to_string(explanation)
        .map(JsonObject::from_stored)
        .map_err(|error| ApiError::internal(format!("an explanation cannot be written: {error}")))
}

/// How the price of a charge was found.
enum Rated {
    /// The caller named it.
    Named,
    /// By the price book.
    Priced(Box<Explanation>),
    /// At the fallback rate.
    Fallback(Box<Explanation>),
    /// Not at all, for now.
    Unpriced,
}

fn rate(
    app: &App,
    new: &mut NewUsage,
    quantities: &Quantities,
    credits: Option<Price>,
    terms: &Terms,
    at: Timestamp,
) -> Result<Rated, ApiError> {
    let facts = Arc::make_mut(&mut new.facts);
    if let Some(credits) = credits {
        facts.credits_charged = credits.credits();
        return Ok(Rated::Named);
    }
    let Some(model) = facts.model_name.as_deref() else {
        return Err(ApiError::invalid(["body", "credits"], "Field required where no model_name is given"));
    };
    if let Some(version) = app.prices.book().resolve(model, facts.provider.as_deref(), at) {
        return Ok(Rated::Priced(Box::new(quote(version, model, quantities, terms)?)));
    }
    if let Some(version) = app.config.prices.fallback() {
        return Ok(Rated::Fallback(Box::new(quote(&version, model, quantities, terms)?)));
    }
    if app.config.prices.records_unknown() {
        facts.credits_charged = kernel::Credits::ZERO;
        return Ok(Rated::Unpriced);
    }
    Err(ApiError::invalid(["body", "model_name"], format!("no price is known for the model {model}")))
}

/// How much of each pool was used; what the record does not say itself is taken from there.
fn quantities(new: &mut NewUsage, payment: &Payment) -> Result<Quantities, ApiError> {
    let facts = Arc::make_mut(&mut new.facts);
    if let Some(Used(pools)) = &payment.pools {
        if payment.usage.is_some() {
            return Err(ApiError::invalid(["body", "pools"], "must not be given together with usage"));
        }
        let quantities = counted(pools).map_err(|rule| ApiError::invalid(["body", "pools"], rule))?;
        let out = [Pool::Output, Pool::Reasoning, Pool::AudioOutput, Pool::ImageOutput];
        let (prompt, completion) =
            (prompt_tokens(&quantities), out.iter().map(|pool| quantities.get(*pool)).sum::<i64>());
        let max = i64::from(kernel::Count::MAX);
        if prompt + completion > max {
            return Err(ApiError::invalid(["body", "pools"], format!("must come to at most {max} tokens")));
        }
        say_tokens(facts, prompt, completion);
        return Ok(quantities);
    }
    let Some(sent) = &payment.usage else {
        return Ok(Quantities::default()
            .with(Pool::Input, facts.prompt_tokens)
            .with(Pool::Output, facts.completion_tokens));
    };
    let read = usage::read(sent)?;
    if facts.model_name.is_none() {
        facts.model_name = read.model;
    }
    if facts.provider.is_none() {
        facts.provider = read.provider;
    }
    say_tokens(facts, read.prompt_tokens, read.completion_tokens);
    Ok(read.quantities)
}

fn say_tokens(facts: &mut UsageFacts, prompt: i64, completion: i64) {
    if facts.prompt_tokens == 0 && facts.completion_tokens == 0 {
        (facts.prompt_tokens, facts.completion_tokens) = (prompt, completion);
        if facts.tokens_used == 0 {
            facts.tokens_used = prompt + completion;
        }
    }
}

/// The column `pools`: what was used, pool by pool.
fn pools_text(quantities: &Quantities) -> String {
    let used: BTreeMap<&str, i64> = quantities.used().map(|(pool, count)| (pool.as_str(), count)).collect();
    serde_json::to_string(&used).unwrap_or_default()
}

/// What a record's column `pools` says.
#[must_use]
pub fn pools_of(record: &UsageRecord) -> Quantities {
    let text = record.charge.as_ref().and_then(|mark| mark.pools.as_deref()).unwrap_or("{}");
    let used: BTreeMap<Pool, i64> = serde_json::from_str(text).unwrap_or_default();
    used.into_iter().fold(Quantities::default(), |all, (pool, count)| all.with(pool, count))
}
