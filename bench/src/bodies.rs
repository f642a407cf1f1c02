//! The bodies that callers send: a consume, one usage record, a gateway's batch, a long history.

use crate::users::User;
use crate::wall;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// The smallest consume; a no-op carries the very same bytes.
pub const CONSUME: &str = r#"{"amount":0.000001,"description":"bench"}"#;
/// What one `CONSUME` takes, in micro-credits.
pub const CONSUME_MICROS: i128 = 1;

/// A call of a model, priced by the book that the service begins with.
pub const CHARGE: &str = r#"{"event_type":"ai_chat","model_name":"gpt-4","provider":"openai","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
/// What one `CHARGE` takes, in micro-credits: (0.00003 + 0.00006) USD at 500 credits each.
pub const CHARGE_MICROS: i128 = 45_000;

const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;
const MODELS: [(&str, &str); 4] = [
    ("gpt-4", "openai"),
    ("gpt-3.5-turbo", "openai"),
    ("claude-3-haiku", "anthropic"),
    ("gemini-pro", "google"),
];
const EVENT_TYPES: [&str; 3] = ["ai_chat", "api_call", "embedding"];
/// Stands in a batch's text where the request's own id goes.
const ID_MARK: &str = "@ID@";

/// A usage record with every documented field, as an AI product reports one call.
pub fn usage(number: usize) -> Value {
    let (model, provider) = MODELS[number % MODELS.len()];
    let (prompt, completion) = (400 + number * 37 % 1600, 50 + number * 53 % 700);
    json!({
        "session_id": format!("sess_{:012x}", number * 7919), "trace_id": format!("trace_{:016x}", number * 104_729),
        "endpoint": "/api/chat/completion", "event_type": EVENT_TYPES[number % EVENT_TYPES.len()],
        "credits_charged": 5.5, "cost_usd": 0.011, "calculation_method": "gpt4_pricing",
        "tokens_used": prompt + completion, "prompt_tokens": prompt, "completion_tokens": completion,
        "model_name": model, "provider": provider, "tool_name": "chat_service",
        "operation_name": "generate_response",
        "billing_metadata": {"request_id": format!("req_{number:08x}"), "billing_tier": "pro", "region": "us-east-1"},
        "request_data": {"temperature": 0.7, "max_tokens": 500},
        "response_data": {"finish_reason": "stop", "model_version": "gpt-4-0613"},
    })
}

/// A batch of `records` records spread over `users`, as the text between the ids of the request: every
/// record's `event_id` begins with the request's id, so that no batch ever repeats another.
pub fn batch(users: &[User], records: usize, now: DateTime<Utc>) -> Vec<String> {
    let rows: Vec<Value> = (0..records)
        .map(|number| {
            let mut row = usage(number);
            row["user_id"] = json!(users[number % users.len()].id);
            row["event_id"] = json!(format!("evt-{ID_MARK}-{number:05}"));
            // A gateway sends what happened over the last minute, oldest first.
            let micros_ago = 60_000_000 - (number as i64) * 60_000_000 / records as i64;
            row["created_at"] = json!(wall::rfc3339(wall::shifted(now, -micros_ago)));
            row
        })
        .collect();
    json!({ "records": rows }).to_string().split(ID_MARK).map(str::to_owned).collect()
}

/// Records `range` of a history of `total` records of `user`, evenly over the 90 days before `now`.
pub fn history(user: &User, total: usize, range: std::ops::Range<usize>, now: DateTime<Utc>) -> String {
    let step = 90 * DAY_MICROS / total as i64;
    let rows: Vec<Value> = range
        .map(|number| {
            let (model, provider) = MODELS[number % MODELS.len()];
            let at = wall::shifted(now, number as i64 * step - 90 * DAY_MICROS);
            json!({
                "user_id": user.id, "event_type": EVENT_TYPES[number % EVENT_TYPES.len()],
                "credits_charged": "0.25", "cost_usd": "0.000125", "prompt_tokens": 300, "completion_tokens": 40,
                "model_name": model, "provider": provider, "created_at": wall::rfc3339(at),
                "event_id": format!("history-{number}"),
            })
        })
        .collect();
    json!({ "records": rows }).to_string()
}

/// A range inside those 90 days whose ends fall on no hour, so that both must be counted from rows.
pub fn ragged_range(now: DateTime<Utc>) -> String {
    let (start, end) = (
        wall::shifted(now, -77 * DAY_MICROS - 1_234_567_891),
        wall::shifted(now, -3 * DAY_MICROS - 777_777_777),
    );
    format!("?start_date={}&end_date={}", wall::rfc3339(start), wall::rfc3339(end))
}
