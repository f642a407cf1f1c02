//! `POST /api/v1/quote`: what a call would cost, before it is made.

use super::api::unknown;
use super::model::{Pool, Quantities};
use super::pricing::{Explanation, Quantity, counted, quote};
use super::rates::by_pool;
use super::terms::{Terms, TooMuch};
use super::usage;
use super::version::PriceVersion;
use crate::app::App;
use crate::auth::Principal;
use crate::auth::grants::Caller;
use crate::http::{ApiError, Envelope, Input, json};
use crate::users;
use axum::extract::State;
use axum::response::Response;
use kernel::{Count, Credits, Text, Timestamp, Usd};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{ObjectBuilder, Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The plan of a user who is not known yet.
const NEW_PLAN: &str = "free";

/// A call that might be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct QuoteRequest {
    /// The model.
    model: Text<1, 200>,
    /// Who offers it, where the name alone does not say.
    provider: Option<Text<0, 100>>,
    /// Tokens in, cached ones included.
    prompt_tokens: Option<Count>,
    /// The same under its other name; `prompt_tokens` wins.
    input_tokens: Option<Count>,
    /// Tokens out.
    completion_tokens: Option<Count>,
    /// The same under its other name; `completion_tokens` wins.
    output_tokens: Option<Count>,
    /// Tokens in that the provider reads from its cache; they are part of `prompt_tokens`.
    cached_tokens: Option<Count>,
    /// The usage object of such a call as the provider answers it, instead of the token counts.
    #[schema(value_type = Option<Object>)]
    usage: Option<Box<RawValue>>,
    /// How much of each pool, instead of all that; seconds with up to 3 decimal places.
    pools: Option<Used>,
    /// The most tokens that may come out; the model's own limit when absent.
    max_tokens: Option<Count>,
    /// Whose markup: for service keys and admins; a user's is that of its own plan.
    plan: Option<Text<1, 100>>,
    /// When the call is made; now when absent.
    at: Option<Timestamp>,
}

/// How much of each pool is used.
#[derive(Debug)]
pub struct Used(pub BTreeMap<Pool, Quantity>);

impl<'de> Deserialize<'de> for Used {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        by_pool(deserializer).map(Self)
    }
}

impl PartialSchema for Used {
    fn schema() -> RefOr<Schema> {
        let quantity = || Ref::from_schema_name("Quantity");
        let object = ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false)));
        Pool::ALL.iter().fold(object, |object, pool| object.property(pool.as_str(), quantity())).into()
    }
}

impl ToSchema for Used {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Quantity::name().into(), Quantity::schema()));
    }
}

/// What a call would cost.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quoted {
    /// The model that was asked for.
    #[schema(max_length = 200)]
    model: String,
    /// The model whose price was taken.
    #[schema(max_length = 200)]
    price_model: String,
    /// Which version of it.
    #[schema(minimum = 0, maximum = 1_000)]
    price_version: i64,
    /// The plan whose markup was taken; absent where no plan is known.
    #[schema(max_length = 100)]
    plan: Option<String>,
    /// What it costs.
    cost_usd: Usd,
    /// The same in credits.
    credits: Credits,
    /// Why.
    explanation: Explanation,
    /// What it costs at most; absent where nothing says how much may come out.
    maximum: Option<Maximum>,
}

/// What a call costs when as much comes out as may.
#[derive(Debug, Serialize, ToSchema)]
pub struct Maximum {
    /// How many tokens come out.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    output_tokens: i64,
    /// What the call costs then.
    cost_usd: Usd,
    /// The same in credits.
    credits: Credits,
}

/// Quote a call
///
/// What a call would cost by the price book, and what it costs at most when `max_tokens` come out. Nothing is
/// charged. A model without a price is 404, unless `UNKNOWN_MODEL=fallback` gives it one.
#[utoipa::path(
    post, path = "/api/v1/quote", tag = "Prices", operation_id = "get_quote",
    security(("bearer" = []), ("service_key" = [])),
    request_body(content = QuoteRequest, example = json!({
        "model": "gpt-4", "provider": "openai", "prompt_tokens": 800, "completion_tokens": 450, "max_tokens": 1000})),
    responses((status = 200, body = Envelope<Quoted>, description = "The quote")),
)]
pub async fn get_quote(
    State(app): State<Arc<App>>,
    caller: Caller,
    Input { value, .. }: Input<QuoteRequest>,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let quantities = value.quantities()?;
    let plan = plan(&app, &caller, value.plan.as_ref().map(Text::as_str)).await?;
    let terms = app.config.prices.terms(plan.as_deref().unwrap_or_default());
    let book = app.prices.book();
    let (model, provider) = (value.model.as_str(), value.provider.as_ref().map(Text::as_str));
    let fallback = app.config.prices.fallback();
    let version = book.resolve(model, provider, value.at.unwrap_or(now)).or(fallback.as_ref());
    let version = version.ok_or_else(|| unknown(model))?;
    let explanation = quote(version, model, &quantities, &terms)?;
    let limit = value.max_tokens.map(|max| max.get().into()).or(version.tariff.max_output_tokens);
    let maximum = limit.map(|limit| maximum(version, &quantities, limit, &terms)).transpose()?;
    let quoted = Quoted {
        model: explanation.model.clone(),
        price_model: explanation.price_model.clone(),
        price_version: explanation.price_version,
        cost_usd: explanation.cost_usd,
        credits: explanation.credits,
        plan,
        explanation,
        maximum,
    };
    Ok(json(&Envelope::new("Quote calculated successfully", now, quoted)))
}

impl From<usage::UsageError> for ApiError {
    fn from(error: usage::UsageError) -> Self {
        let loc = std::iter::once("body").chain(error.field.split('.')).map(str::to_owned).collect();
        Self::all_invalid(vec![crate::http::Invalid { kind: "value_error", loc, msg: error.rule }])
    }
}

impl From<TooMuch> for ApiError {
    fn from(error: TooMuch) -> Self {
        Self::all_invalid(vec![crate::http::Invalid {
            kind: "value_error",
            loc: vec!["body".to_owned()],
            msg: error.to_string(),
        }])
    }
}

impl QuoteRequest {
    /// How much of each pool it means.
    fn quantities(&self) -> Result<Quantities, ApiError> {
        let refuse = |field: &str, rule: &str| Err(ApiError::invalid(["body", field], rule));
        let (prompt, completion) =
            (self.prompt_tokens.or(self.input_tokens), self.completion_tokens.or(self.output_tokens));
        let tokens = [prompt, completion, self.cached_tokens];
        let [prompt, completion, cached] = tokens.map(|count| i64::from(count.unwrap_or_default().get()));
        if let Some(Used(pools)) = &self.pools {
            if tokens.iter().any(Option::is_some) || self.usage.is_some() {
                return refuse("pools", "must not be given together with token counts or usage");
            }
            return counted(pools).or_else(|rule| refuse("pools", rule));
        }
        if let Some(sent) = &self.usage {
            if tokens.iter().any(Option::is_some) {
                return refuse("usage", "must not be given together with token counts");
            }
            return Ok(usage::read(sent)?.quantities);
        }
        if cached > prompt {
            return refuse("cached_tokens", "must be at most prompt_tokens, which include them");
        }
        Ok(Quantities::default()
            .with(Pool::Input, prompt - cached)
            .with(Pool::CachedInput, cached)
            .with(Pool::Output, completion))
    }
}

/// What a call costs when so many tokens come out. Thinking may be dearer than speaking, so the dearer counts.
fn maximum(
    version: &PriceVersion,
    quantities: &Quantities,
    output_tokens: i64,
    terms: &Terms,
) -> Result<Maximum, TooMuch> {
    let all_of = |pool, other| {
        let quantities = quantities.with(pool, output_tokens).with(other, 0);
        quote(version, &version.model, &quantities, terms)
    };
    let said = all_of(Pool::Output, Pool::Reasoning)?;
    let thought = all_of(Pool::Reasoning, Pool::Output)?;
    let dearer = if thought.exact_cost_usd > said.exact_cost_usd { thought } else { said };
    Ok(Maximum { output_tokens, cost_usd: dearer.cost_usd, credits: dearer.credits })
}

/// Whose markup is taken: a user's own plan's, or the one that a program names.
async fn plan(app: &App, caller: &Caller, named: Option<&str>) -> Result<Option<String>, ApiError> {
    let own = match &caller.principal {
        Principal::Service(_) => return Ok(named.map(str::to_owned)),
        Principal::User(user) if user.admin && named.is_some() => return Ok(named.map(str::to_owned)),
        Principal::User(user) => users::store::find(&app.db, &user.subject).await?,
    };
    let own = own.map_or_else(|| NEW_PLAN.to_owned(), |user| user.plan);
    match named {
        Some(named) if named != own => {
            Err(ApiError::invalid(["body", "plan"], format!("must be your own, which is {own}")))
        }
        _ => Ok(Some(own)),
    }
}
