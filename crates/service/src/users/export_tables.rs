//! What an export says of each table: its columns, and how their integers are meant.

use crate::db::row::Cell;
use crate::db::{DbError, FromRow, Row, Weigh};
use kernel::{Credits, Timestamp, Usd};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::RawValue;

/// The values of a row. The first two are its place in the list.
#[derive(Debug)]
pub struct Cells(Vec<Cell>);

impl Cells {
    /// Where the row stands in its list.
    #[must_use]
    pub fn place(&self) -> (i64, i64) {
        let int = |at: usize| match self.0.get(at) {
            Some(Cell::Int(int)) => *int,
            _ => 0,
        };
        (int(0), int(1))
    }
}

impl FromRow for Cells {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        row.cells().map(Self)
    }
}

impl Weigh for Cells {
    fn weight(&self) -> usize {
        self.0
            .iter()
            .map(|cell| match cell {
                Cell::Text(text) => text.len(),
                _ => 0,
            })
            .sum()
    }
}

/// What a column means.
#[derive(Debug, Clone, Copy)]
pub enum Meaning {
    /// The value as it is.
    Plain,
    /// Microseconds since 1970.
    Instant,
    /// Micro-credits.
    Credits,
    /// Nano-dollars.
    Usd,
    /// A JSON text.
    Json,
    /// Zero or one.
    Flag,
}

/// A table of the export.
pub struct Table {
    /// The archive's member.
    pub name: &'static str,
    /// Reads a page: the owner is `$1`, the place before is `$2` and `$3`, the limit `$4`.
    pub sql: &'static str,
    columns: &'static [(&'static str, Meaning)],
}

impl Table {
    /// A row as a JSON object.
    #[must_use]
    pub const fn line<'a>(&'a self, row: &'a Cells) -> Line<'a> {
        Line { columns: self.columns, row }
    }
}

/// A row with the names of its columns.
pub struct Line<'a> {
    columns: &'static [(&'static str, Meaning)],
    row: &'a Cells,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.columns.len()))?;
        // Behind the two that are its place.
        for ((name, meaning), cell) in self.columns.iter().zip(self.row.0.iter().skip(2)) {
            match (cell, meaning) {
                (Cell::Int(int), Meaning::Instant) => {
                    object.serialize_entry(name, &Timestamp::from_micros(*int))?
                }
                (Cell::Int(int), Meaning::Credits) => {
                    object.serialize_entry(name, &Credits::from_micro(*int))?
                }
                (Cell::Int(int), Meaning::Usd) => {
                    object.serialize_entry(name, &Usd::from_nano(i128::from(*int)))?
                }
                (Cell::Int(int), Meaning::Flag) => object.serialize_entry(name, &(*int != 0))?,
                (Cell::Text(text), Meaning::Json) => match serde_json::from_str::<&RawValue>(text) {
                    Ok(json) => object.serialize_entry(name, json)?,
                    Err(_) => object.serialize_entry(name, text)?,
                },
                (Cell::Int(int), _) => object.serialize_entry(name, int)?,
                (Cell::Text(text), _) => object.serialize_entry(name, text)?,
                (Cell::Bool(yes), _) => object.serialize_entry(name, yes)?,
                (Cell::Null, _) => object.serialize_entry(name, &())?,
            }
        }
        object.end()
    }
}

/// A table whose rows stand in the order of two integers: condition, order, columns with their meaning and,
/// where it is more than a column, the expression.
macro_rules! table {
    (@sql $name:literal) => { $name };
    (@sql $name:literal $sql:literal) => { $sql };
    ($member:literal, $from:literal, $first:literal, $second:literal,
        [$($name:literal $(= $sql:literal)? $meaning:ident),+ $(,)?]) => {
        Table {
            name: $member,
            sql: concat!(
                "SELECT ", $first, ", ", $second, $(", ", table!(@sql $name $($sql)?)),+, " FROM ", $from, " = $1 AND (",
                $first, ", ", $second, ") > ($2, $3) ORDER BY ", $first, ", ", $second, " LIMIT $4"
            ),
            columns: &[$(($name, Meaning::$meaning)),+],
        }
    };
}

/// The tables whose rows name the user.
pub const OF_USER: &[Table] = &[
    table!("profile.jsonl", "users WHERE id", "id", "created_at", [
        "id" Plain, "auth0_id" Plain, "email" Plain, "name" Plain, "plan" Plain, "plan_version" Plain,
        "subscription_status" Plain, "is_active" Flag, "suspended_at" Instant, "suspension_reason" Plain,
        "created_at" Instant, "updated_at" Instant,
    ]),
    table!("identities.jsonl", "user_identities WHERE user_id", "created_at", "merged_from", [
        "auth0_id" Plain, "merged_from" Plain, "created_at" Instant,
    ]),
    table!("credits/account.jsonl", "credit_accounts WHERE user_id", "user_id", "version", [
        "balance" Credits, "held" Credits, "credits_total" Credits, "credit_limit" Credits, "spending_limits" Json,
        "updated_at" Instant,
    ]),
    table!("credits/transactions.jsonl", "credit_entries WHERE user_id", "seq", "id", [
        "id" Plain, "transaction_id" = "'txn_' || user_id || '_' || seq" Plain, "transaction_type" Plain,
        "amount" Credits, "balance_before" Credits, "balance_after" Credits, "usage_record_id" Plain,
        "hold_id" Plain, "reverses" Plain, "reference_id" Plain, "description" Plain, "metadata" Json,
        "funded_by" Json, "grant_terms" Json, "basis" Json, "actor" Plain, "request_id" Plain,
        "idempotency_key" Plain, "created_at" Instant,
    ]),
    table!("credits/grants.jsonl", "credit_grants WHERE user_id", "seq", "seq", [
        "grant_id" = "'grt_' || user_id || '_' || seq" Plain, "source" Plain, "amount" Credits, "remaining" Credits,
        "priority" Plain, "scope" Json, "rollover" Json, "voided" Flag, "effective_at" Instant, "expires_at" Instant,
    ]),
    table!("credits/holds.jsonl", "credit_holds WHERE user_id", "n", "n", [
        "hold_id" = "'hld_' || user_id || '_' || n" Plain, "status" Plain, "amount" Credits, "ticked" Credits,
        "on_expiry" Plain, "context" Json, "description" Plain, "metadata" Json, "actor" Plain, "request_id" Plain,
        "idempotency_key" Plain, "captured" Credits, "created_at" Instant, "expires_at" Instant, "settled_at" Instant,
    ]),
    table!("usage.jsonl", "usage_records WHERE user_id", "created_at", "id", [
        "id" Plain, "event_type" Plain, "event_id" Plain, "endpoint" Plain, "session_id" Plain, "trace_id" Plain,
        "credits_charged" Credits, "cost_usd" Usd, "calculation_method" Plain, "tokens_used" Plain,
        "prompt_tokens" Plain, "completion_tokens" Plain, "model_name" Plain, "provider" Plain, "tool_name" Plain,
        "operation_name" Plain, "billing_metadata" Json, "request_data" Json, "response_data" Json,
        "charge_status" Plain, "credits_due" Credits, "created_at" Instant, "recorded_at" Instant,
    ]),
    table!("sessions.jsonl", "sessions WHERE deleted_at IS NULL AND user_id", "created_at", "id", [
        "session_id" Plain, "title" Plain, "status" Plain, "message_count" Plain, "total_tokens" Plain,
        "session_summary" Plain, "conversation_data" Json, "metadata" Json, "created_at" Instant,
        "updated_at" Instant, "last_activity" Instant, "expires_at" Instant,
    ]),
    table!("files.jsonl", "files WHERE status = 'stored' AND user_id", "created_at", "id", [
        "file_id" Plain, "path" Plain, "file_name" Plain, "content_type" Plain, "size" Plain, "sha256" Plain,
        "created_at" Instant,
    ]),
    table!("subscriptions.jsonl", "subscriptions WHERE user_id", "id", "id", [
        "plan" Plain, "plan_version" Plain, "provider" Plain, "status" Plain, "period_start" Instant,
        "period_end" Instant, "ends_at" Instant, "cancel_at_period_end" Flag, "canceled_at" Instant,
        "canceled_by" Plain, "created_at" Instant, "updated_at" Instant,
    ]),
    table!("payments.jsonl", "payments WHERE user_id", "id", "id", [
        "id" Plain, "kind" Plain, "item" Plain, "amount" Plain, "currency" Plain, "credits" Credits, "status" Plain,
        "payment_intent" Plain, "invoice" Plain, "checkout" Plain, "subscription" Plain, "received" Plain,
        "refunded" Plain, "disputed" Plain, "failure" Plain, "created_at" Instant, "updated_at" Instant,
    ]),
    table!("stripe_customer.jsonl", "stripe_customers WHERE user_id", "user_id", "created_at", [
        "customer" Plain, "payment_method" Plain, "created_at" Instant,
    ]),
    table!("auto_top_up.jsonl", "auto_top_ups WHERE user_id", "user_id", "threshold", [
        "enabled" Flag, "threshold" Credits, "pack" Plain, "monthly_max" Plain, "month" Plain, "month_spent" Plain,
        "failure" Plain, "updated_at" Instant,
    ]),
    table!("audit.jsonl", "audit_log a JOIN users u ON a.target = 'user:' || u.id WHERE u.id", "a.at", "a.id", [
        "at" = "a.at" Instant, "action" = "a.action" Plain, "actor" = "a.actor" Plain,
        "request_id" = "a.request_id" Plain, "details" = "a.details" Json,
    ]),
];

/// The tables whose rows name a session.
pub const OF_SESSION: &[Table] = &[
    table!("messages.jsonl", "messages WHERE session_row", "seq", "id", [
        "id" = "message_id" Plain,
        "session_id" = "(SELECT s.session_id FROM sessions s WHERE s.id = messages.session_row)" Plain,
        "role" Plain, "content" Plain, "content_stored" Flag, "message_type" Plain, "tool_calls" Json, "tool_call_id" Plain,
        "metadata" Json, "tokens_used" Plain, "cost_usd" Usd, "created_at" Instant, "updated_at" Instant,
    ]),
    table!("memories.jsonl", "session_memories WHERE session_row", "created_at", "id", [
        "id" Plain, "session_id" = "(SELECT s.session_id FROM sessions s WHERE s.id = session_memories.session_row)" Plain,
        "memory_type" Plain, "content" Plain, "content_stored" Flag, "metadata" Json, "created_at" Instant,
    ]),
];
