//! Usage records. No I/O. What a record says is shared, so that passing it on copies nothing.

use crate::charges::ChargeMark;
use crate::db::{DbError, FromRow, Row, Weigh};
use kernel::{Credits, ExternalId, JsonObject, Timestamp, UserRowId};
use std::sync::Arc;

/// What a caller reports, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUsage {
    /// Whose usage.
    pub user: UserRowId,
    /// The same user, as the caller names it.
    pub auth0_id: ExternalId,
    /// When it happened; now when absent.
    pub created_at: Option<Timestamp>,
    /// Counts once for ever per user.
    pub event_id: Option<String>,
    /// What it says.
    pub facts: Arc<UsageFacts>,
}

/// What a usage record says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageFacts {
    /// What kind of event.
    pub event_type: String,
    /// Which endpoint was called.
    pub endpoint: String,
    /// In which session; any text.
    pub session_id: Option<String>,
    /// In which trace.
    pub trace_id: Option<String>,
    /// Credits that were charged for it, elsewhere.
    pub credits_charged: Credits,
    /// Nano-dollars that it cost.
    pub cost_usd: i64,
    /// How the cost was found.
    pub calculation_method: String,
    /// All tokens.
    pub tokens_used: i64,
    /// Tokens in.
    pub prompt_tokens: i64,
    /// Tokens out.
    pub completion_tokens: i64,
    /// The model.
    pub model_name: Option<String>,
    /// Its provider.
    pub provider: Option<String>,
    /// The tool.
    pub tool_name: Option<String>,
    /// The operation.
    pub operation_name: Option<String>,
    /// The caller's data on billing.
    pub billing_metadata: JsonObject,
    /// The caller's data on the request.
    pub request_data: JsonObject,
    /// The caller's data on the response.
    pub response_data: JsonObject,
}

/// A usage record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    /// The integer id.
    pub id: i64,
    /// Whose usage.
    pub user: UserRowId,
    /// When it happened.
    pub created_at: Timestamp,
    /// When it was written here.
    pub recorded_at: Timestamp,
    /// Counts once for ever per user.
    pub event_id: Option<String>,
    /// What it says.
    pub facts: Arc<UsageFacts>,
    /// How it was paid for, where it was charged.
    pub charge: Option<ChargeMark>,
}

/// Write records, all or each on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What to write.
    pub records: Vec<NewUsage>,
    /// Whether one bad record refuses all.
    pub atomic: bool,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was written.
    Recorded(Box<UsageRecord>),
    /// Its event was recorded before, by this record.
    Duplicate(Box<UsageRecord>),
    /// Its user is unknown or deleted.
    UnknownUser(ExternalId),
}

/// The columns of [`UsageRecord`], in the order that its `FromRow` reads them.
macro_rules! usage_columns {
    () => {
        "id, user_id, created_at, recorded_at, event_type, endpoint, session_id, trace_id, credits_charged, \
         cost_usd, calculation_method, tokens_used, prompt_tokens, completion_tokens, model_name, provider, \
         tool_name, operation_name, billing_metadata, request_data, response_data, event_id, \
         charge_status, charge_seq, credits_due, pools"
    };
}
pub(crate) use usage_columns;

impl FromRow for UsageRecord {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: row.int(0)?,
            user: UserRowId(row.int(1)?),
            created_at: Timestamp::from_micros(row.int(2)?),
            recorded_at: Timestamp::from_micros(row.int(3)?),
            facts: Arc::new(UsageFacts {
                event_type: row.text(4)?,
                endpoint: row.text(5)?,
                session_id: row.optional_text(6)?,
                trace_id: row.optional_text(7)?,
                credits_charged: Credits::from_micro(row.int(8)?),
                cost_usd: row.int(9)?,
                calculation_method: row.text(10)?,
                tokens_used: row.int(11)?,
                prompt_tokens: row.int(12)?,
                completion_tokens: row.int(13)?,
                model_name: row.optional_text(14)?,
                provider: row.optional_text(15)?,
                tool_name: row.optional_text(16)?,
                operation_name: row.optional_text(17)?,
                billing_metadata: JsonObject::from_stored(row.text(18)?),
                request_data: JsonObject::from_stored(row.text(19)?),
                response_data: JsonObject::from_stored(row.text(20)?),
            }),
            event_id: row.optional_text(21)?,
            charge: charge(row)?,
        })
    }
}

fn charge(row: &Row<'_>) -> Result<Option<ChargeMark>, DbError> {
    let Some(status) = row.optional_text(22)? else { return Ok(None) };
    Ok(Some(ChargeMark {
        status: status.parse().map_err(|rule| DbError::Internal(format!("charge_status {rule}")))?,
        entry_seq: row.optional_int(23)?,
        due: row.optional_int(24)?.map(Credits::from_micro),
        pools: row.optional_text(25)?,
    }))
}

impl Weigh for UsageRecord {
    fn weight(&self) -> usize {
        let facts = &self.facts;
        [&facts.billing_metadata, &facts.request_data, &facts.response_data]
            .map(|data| data.as_str().len())
            .iter()
            .sum()
    }
}
