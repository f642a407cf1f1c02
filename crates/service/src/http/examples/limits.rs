//! The examples of spending limits: 500 credits a month, and 100 000 tokens of each session in five hours.

use super::envelope;
use serde_json::{Value, json};

const MONTH_ENDS: &str = "2025-08-01T00:00:00.000000Z";

/// The example of an operation's answer.
pub(super) fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "list_limits" => envelope("Retrieved 2 limits", json!([monthly(), burst()])),
        "replace_limits" => envelope("Set 2 limits", json!([bare(monthly()), bare(burst())])),
        "check_limits" => envelope(
            "Spending limit reached: monthly. Remaining: 474.5 credits, Required: 480",
            json!({"allowed": false, "denial": denial(), "limits": [monthly()]}),
        ),
        _ => return None,
    })
}

fn monthly() -> Value {
    json!({
        "id": "monthly", "per": "user", "value": null, "unit": "credits", "window": "month", "amount": 500,
        "source": "user", "used": 25.5, "held": 0, "remaining": 474.5, "resets_at": MONTH_ENDS,
    })
}

fn burst() -> Value {
    json!({
        "id": "burst", "per": "session", "value": null, "unit": "tokens", "window": "5h", "amount": 100_000,
        "source": "user", "used": null, "held": null, "remaining": null, "resets_at": null,
        "values": [{"value": "4da97cfa-b95f-4898-8b7d-2786ff703ce0", "used": 1250, "held": 0, "remaining": 98_750,
            "resets_at": "2025-07-27T05:15:00.000000Z"}],
        "more_values": false,
    })
}

fn bare(mut limit: Value) -> Value {
    let set = ["id", "per", "value", "unit", "window", "amount", "source"];
    if let Some(members) = limit.as_object_mut() {
        members.retain(|name, _| set.contains(&name.as_str()));
    }
    limit
}

fn denial() -> Value {
    json!({
        "limit": "monthly", "unit": "credits", "per": "user", "value": null, "window": "month", "amount": 500,
        "used": 25.5, "held": 0, "remaining": 474.5, "requested": 480, "resets_at": MONTH_ENDS, "retryable": true,
    })
}
