//! Routes of usage: record, history, statistics. The batch is in [`super::batch`].

use super::model::{NewUsage, Outcome, Record, UsageFacts, UsageRecord};
use super::stats::{self, Stats, StatsFilter};
use super::store::{self, UsageFilter};
use crate::app::App;
use crate::auth::grants::{CanReadUsage, CanWriteUsage, UserRef};
use crate::charges::ChargeStatus;
use crate::config::Contents;
use crate::http::envelope::bytes as to_bytes;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, Query, json};
use crate::users::api::{UserPath, answered, refused, same_user};
use crate::writer::{Command, Done};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use kernel::{
    Charge, Cost, Count, Credits, ExternalId, JsonObject, Text, Timestamp, Usd, UserKey, UserRowId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{IntoParams, ToSchema};

/// How many rows the history has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;
/// More records than a user will have, and the largest number that every JSON reader keeps exact.
const MOST_RECORDS: f64 = 9_007_199_254_740_991.0;
/// How far ahead of our clock an event may be.
const FUTURE_MAX: Duration = Duration::from_secs(5 * 60);

/// A call, an event, anything that was used. Only `event_type` is required.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UsageRequest {
    /// Whose usage: the user of the path, where there is one.
    pub user_id: Option<UserKey>,
    /// What kind of event.
    event_type: Text<1, 100>,
    /// Which endpoint was called.
    endpoint: Option<Text<0, 500>>,
    /// In which session; any text.
    session_id: Option<Text<0, 255>>,
    /// In which trace.
    trace_id: Option<Text<0, 255>>,
    /// Credits that were charged for it; nothing is deducted here.
    credits_charged: Option<Charge>,
    /// What it cost.
    cost_usd: Option<Cost>,
    /// `cost_usd` under its other name.
    cost: Option<Cost>,
    /// How the cost was found; `unknown` when absent.
    calculation_method: Option<Text<0, 100>>,
    /// All tokens; prompt and completion together when absent.
    tokens_used: Option<Count>,
    /// Tokens in.
    prompt_tokens: Option<Count>,
    /// `prompt_tokens` under its other name.
    input_tokens: Option<Count>,
    /// Tokens out.
    completion_tokens: Option<Count>,
    /// `completion_tokens` under its other name.
    output_tokens: Option<Count>,
    /// The model.
    model_name: Option<Text<0, 200>>,
    /// Its provider.
    provider: Option<Text<0, 100>>,
    /// The tool.
    tool_name: Option<Text<0, 200>>,
    /// The operation.
    operation_name: Option<Text<0, 200>>,
    /// Anything about billing.
    billing_metadata: Option<JsonObject>,
    /// `billing_metadata` under its other name.
    request_metadata: Option<JsonObject>,
    /// Anything about the request.
    request_data: Option<JsonObject>,
    /// Anything about the response.
    response_data: Option<JsonObject>,
    /// When it happened: at most 5 minutes ahead of our clock; now when absent.
    created_at: Option<Timestamp>,
    /// Counts once for ever per user; the same again is a duplicate.
    event_id: Option<Text<1, 255>>,
}

impl UsageRequest {
    /// Whether it says how many tokens went in or out, be it none.
    #[must_use]
    pub const fn counts_tokens(&self) -> bool {
        self.prompt_tokens.is_some()
            || self.input_tokens.is_some()
            || self.completion_tokens.is_some()
            || self.output_tokens.is_some()
    }

    /// The record that it asks for, with as much of its contents as is kept.
    ///
    /// # Errors
    /// 400 when it says that it happened too far ahead; `loc` begins with `place`.
    pub fn into_new(self, user: UserRef, now: Timestamp, contents: Contents) -> Result<NewUsage, ApiError> {
        if self.created_at.is_some_and(|at| at > now.plus(FUTURE_MAX)) {
            return Err(ApiError::invalid(["body", "created_at"], "must be at most 5 minutes in the future"));
        }
        let prompt_tokens = self.prompt_tokens.or(self.input_tokens).unwrap_or_default();
        let completion_tokens = self.completion_tokens.or(self.output_tokens).unwrap_or_default();
        let tokens_used = self.tokens_used.unwrap_or(prompt_tokens.saturating_add(completion_tokens));
        Ok(NewUsage {
            user: user.row,
            auth0_id: user.auth0_id,
            created_at: self.created_at,
            event_id: self.event_id.map(Text::into_string),
            facts: Arc::new(UsageFacts {
                event_type: self.event_type.into_string(),
                endpoint: self.endpoint.map(Text::into_string).unwrap_or_default(),
                session_id: given(self.session_id),
                trace_id: given(self.trace_id),
                credits_charged: self.credits_charged.unwrap_or_default().credits(),
                cost_usd: self.cost_usd.or(self.cost).unwrap_or_default().nano(),
                calculation_method: given(self.calculation_method).unwrap_or_else(|| "unknown".to_owned()),
                tokens_used: tokens_used.get().into(),
                prompt_tokens: prompt_tokens.get().into(),
                completion_tokens: completion_tokens.get().into(),
                model_name: given(self.model_name),
                provider: given(self.provider),
                tool_name: given(self.tool_name),
                operation_name: given(self.operation_name),
                billing_metadata: self.billing_metadata.or(self.request_metadata).unwrap_or_default(),
                request_data: contents.of(self.request_data).unwrap_or_default(),
                response_data: contents.of(self.response_data).unwrap_or_default(),
            }),
        })
    }
}

/// A text that says something; old clients send empty ones for absent.
fn given<const MAX: usize>(text: Option<Text<0, MAX>>) -> Option<String> {
    text.map(Text::into_string).filter(|text| !text.is_empty())
}

/// A usage record.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageView {
    /// The integer id.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: i64,
    /// Whose usage.
    user_id: ExternalId,
    /// In which session.
    #[schema(max_length = 255)]
    session_id: Option<String>,
    /// In which trace.
    #[schema(max_length = 255)]
    trace_id: Option<String>,
    /// Which endpoint was called.
    #[schema(max_length = 500)]
    endpoint: String,
    /// What kind of event.
    #[schema(max_length = 100)]
    event_type: String,
    /// Credits that were charged for it.
    credits_charged: Credits,
    /// What it cost.
    cost_usd: Usd,
    /// How the cost was found.
    #[schema(max_length = 100)]
    calculation_method: String,
    /// All tokens.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    tokens_used: i64,
    /// Tokens in.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    prompt_tokens: i64,
    /// Tokens out.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    completion_tokens: i64,
    /// The model.
    #[schema(max_length = 200)]
    model_name: Option<String>,
    /// Its provider.
    #[schema(max_length = 100)]
    provider: Option<String>,
    /// The tool.
    #[schema(max_length = 200)]
    tool_name: Option<String>,
    /// The operation.
    #[schema(max_length = 200)]
    operation_name: Option<String>,
    /// Anything about billing.
    billing_metadata: JsonObject,
    /// Anything about the request.
    request_data: JsonObject,
    /// Anything about the response.
    response_data: JsonObject,
    /// When it happened.
    created_at: Timestamp,
    /// The event that it counts once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 255)]
    event_id: Option<String>,
    /// How it was paid for, where it was charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    charge_status: Option<ChargeStatus>,
    /// What of its charge was not paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    credits_due: Option<Credits>,
}

impl UsageView {
    /// Shows a record.
    #[must_use]
    pub fn new(record: UsageRecord, user_id: &ExternalId) -> Self {
        let facts = Arc::unwrap_or_clone(record.facts);
        Self {
            id: record.id,
            user_id: user_id.clone(),
            session_id: facts.session_id,
            trace_id: facts.trace_id,
            endpoint: facts.endpoint,
            event_type: facts.event_type,
            credits_charged: facts.credits_charged,
            cost_usd: Usd::from_nano(facts.cost_usd.into()),
            calculation_method: facts.calculation_method,
            tokens_used: facts.tokens_used,
            prompt_tokens: facts.prompt_tokens,
            completion_tokens: facts.completion_tokens,
            model_name: facts.model_name,
            provider: facts.provider,
            tool_name: facts.tool_name,
            operation_name: facts.operation_name,
            billing_metadata: facts.billing_metadata,
            request_data: facts.request_data,
            response_data: facts.response_data,
            created_at: record.created_at,
            event_id: record.event_id,
            charge_status: record.charge.as_ref().map(|mark| mark.status),
            credits_due: record.charge.and_then(|mark| mark.due),
        }
    }
}

/// Record usage
///
/// Nothing is deducted. With an `event_id` it counts once for ever: the same again answers with
/// the record that is there.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/usage", tag = "Usage", operation_id = "record_usage",
    params(UserPath), security(("bearer" = []), ("service_key" = ["usage:write"])),
    request_body(content = UsageRequest, example = json!({
        "session_id": "sess_abc123def456", "trace_id": "trace_xyz789abc",
        "endpoint": "/api/chat/completion", "event_type": "ai_chat", "credits_charged": 5.5, "cost_usd": 0.011,
        "calculation_method": "gpt4_pricing", "tokens_used": 1250, "prompt_tokens": 800, "completion_tokens": 450,
        "model_name": "gpt-4", "provider": "openai", "tool_name": "chat_service",
        "operation_name": "generate_response",
        "billing_metadata": {"request_id": "req_abc123", "billing_tier": "pro", "region": "us-east-1"},
        "request_data": {"temperature": 0.7, "max_tokens": 500},
        "response_data": {"finish_reason": "stop", "model_version": "gpt-4-0613"}})),
    responses((status = 200, body = Envelope<UsageView>, description = "The record", links(
        ("history" = (operation_id = "list_usage", parameters(("user_id" = "$response.body#/data/user_id")))),
        ("statistics" = (operation_id = "get_usage_stats", parameters(("user_id" = "$response.body#/data/user_id")))),
        ("consume" = (operation_id = "consume_credits", parameters(("user_id" = "$response.body#/data/user_id")))),
    ))),
)]
pub async fn record_usage(
    State(app): State<Arc<App>>,
    on: CanWriteUsage,
    Input { value, once }: Input<UsageRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let new = value.into_new(on.user.clone(), app.clock.now(), app.config.contents)?;
    let (clock, auth0_id) = (app.clock.clone(), on.user.auth0_id.clone());
    let respond = move |done: &Done| match done {
        Done::Usage(outcomes) => match outcomes.first() {
            Some(Outcome::Recorded(record) | Outcome::Duplicate(record)) => {
                let view = UsageView::new((**record).clone(), &auth0_id);
                to_bytes(&Envelope::new("Usage recorded successfully", clock.now(), view))
            }
            _ => Bytes::new(),
        },
        _ => Bytes::new(),
    };
    let ticket = once.ticket(on.caller.principal.caller());
    let command = Command::Usage(Record { records: vec![new], atomic: true });
    let answer = app.writer.submit(command, ticket, respond).await;
    Ok(answered(answer.map_err(|error| refused(error, &on.user.auth0_id))?))
}

/// Which records are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// Not before: a date or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2025-01-01")]
    start_date: Option<Timestamp>,
    /// Not after: a date (its first instant) or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2099-12-31T23:59:59Z")]
    end_date: Option<Timestamp>,
    /// Of this type only.
    #[param(value_type = Option<String>, max_length = 100)]
    event_type: Option<Text<0, 100>>,
    /// Of this model only.
    #[param(value_type = Option<String>, max_length = 200)]
    model_name: Option<Text<0, 200>>,
    /// Of this provider only.
    #[param(value_type = Option<String>, max_length = 100)]
    provider: Option<Text<0, 100>>,
    /// Of this session only.
    #[param(value_type = Option<String>, max_length = 255)]
    session_id: Option<Text<0, 255>>,
}

/// List usage
///
/// Newest first, by the time of the event. A page ends before its limit where its
/// rows pass 4 MiB.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/usage", tag = "Usage", operation_id = "list_usage",
    params(UserPath, UsageQuery, PageQuery), security(("bearer" = []), ("service_key" = ["usage:read"])),
    responses((status = 200, body = Envelope<Vec<UsageView>>, description = "The records")),
)]
pub async fn list_usage(
    State(app): State<Arc<App>>,
    on: CanReadUsage,
    Query(query): Query<UsageQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let filter = query.filter(&page, None);
    history(&app, on.user.row, &on.user.auth0_id, &filter, &page).await
}

impl UsageQuery {
    /// The records that are wanted, of a session when one is given.
    #[must_use]
    pub fn filter(self, page: &Page, session_id: Option<String>) -> UsageFilter {
        UsageFilter {
            start: self.start_date,
            end: self.end_date,
            event_type: given(self.event_type),
            model_name: given(self.model_name),
            provider: given(self.provider),
            session_id: session_id.or_else(|| given(self.session_id)),
            after: page.after,
            offset: page.offset,
            limit: page.limit(LIMIT_DEFAULT),
        }
    }
}

/// The answer with a user's records.
///
/// # Errors
/// 503 when the database is down.
pub async fn history(
    app: &App,
    user: UserRowId,
    auth0_id: &ExternalId,
    filter: &UsageFilter,
    page: &Page,
) -> Result<Response, ApiError> {
    let found = store::history(&app.db, user, filter).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |record| (record.created_at.micros(), record.id));
    let rows: Vec<UsageView> =
        found.rows.into_iter().map(|record| UsageView::new(record, auth0_id)).collect();
    let message = format!("Retrieved {} usage records", rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), rows).paged(pagination)))
}

/// Which records are counted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// Not before: a date or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2025-01-01")]
    start_date: Option<Timestamp>,
    /// Not after: a date (its first instant) or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2099-12-31T23:59:59Z")]
    end_date: Option<Timestamp>,
    /// Of this type only.
    #[param(value_type = Option<String>, max_length = 100)]
    event_type: Option<Text<0, 100>>,
    /// Of this model only.
    #[param(value_type = Option<String>, max_length = 200)]
    model_name: Option<Text<0, 200>>,
}

/// What was used, in numbers.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatsView {
    /// How many records.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    total_records: i64,
    /// Credits that were charged; the sum may pass what one amount may be.
    #[schema(value_type = f64, minimum = 0, maximum = 1e20)]
    total_credits_charged: WideCredits,
    /// What it cost.
    total_cost_usd: Usd,
    /// Tokens.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    total_tokens_used: i64,
    /// Records by event type.
    #[schema(schema_with = counts)]
    by_event_type: BTreeMap<String, i64>,
    /// Records by model.
    #[schema(schema_with = counts)]
    by_model: BTreeMap<String, i64>,
    /// Records by provider.
    #[schema(schema_with = counts)]
    by_provider: BTreeMap<String, i64>,
    /// What was asked for.
    date_range: DateRange,
}

/// Numbers of records by a name that callers choose.
fn counts() -> ObjectBuilder {
    let count = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(MOST_RECORDS));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(ObjectBuilder::new().schema_type(Type::String).max_length(Some(200))))
        .additional_properties(Some(Schema::from(count)))
        .max_properties(Some(1_000_000))
}

/// A sum of credits that may pass what one amount may be; exact all the same.
#[derive(Debug)]
pub struct WideCredits(pub i128);

impl Serialize for WideCredits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        kernel::decimal::serialize(self.0, 6, serializer)
    }
}

/// A span of time, both ends included; open where absent.
#[derive(Debug, Serialize, ToSchema)]
pub struct DateRange {
    /// The first instant.
    start_date: Option<Timestamp>,
    /// The last instant.
    end_date: Option<Timestamp>,
}

impl StatsView {
    fn new(stats: Stats, start_date: Option<Timestamp>, end_date: Option<Timestamp>) -> Self {
        Self {
            total_records: stats.total.records,
            total_credits_charged: WideCredits(stats.total.credits.value()),
            total_cost_usd: Usd::from_nano(stats.total.cost.value()),
            total_tokens_used: stats.total.tokens,
            by_event_type: stats.by_event_type,
            by_model: stats.by_model,
            by_provider: stats.by_provider,
            date_range: DateRange { start_date, end_date },
        }
    }
}

/// Sum usage up
///
/// Exact over every record of the span, however many.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/usage/stats", tag = "Usage", operation_id = "get_usage_stats",
    params(UserPath, StatsQuery), security(("bearer" = []), ("service_key" = ["usage:read"])),
    responses((status = 200, body = Envelope<StatsView>, description = "The statistics")),
)]
pub async fn get_usage_stats(
    State(app): State<Arc<App>>,
    on: CanReadUsage,
    Query(query): Query<StatsQuery>,
) -> Result<Response, ApiError> {
    let filter = StatsFilter {
        start: query.start_date,
        end: query.end_date,
        event_type: given(query.event_type),
        model_name: given(query.model_name),
    };
    let stats = stats::stats(&app.db, on.user.row, &filter).await?;
    let view = StatsView::new(stats, query.start_date, query.end_date);
    Ok(json(&Envelope::new("Statistics retrieved successfully", app.clock.now(), view)))
}
