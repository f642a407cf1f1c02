//! What answers look like: the examples of the OpenAPI document.
//!
//! They tell one story: `auth0|test123` is made, uses a model, pays for it, and is given credits. A
//! test holds each example against the schema of its answer.

mod admin;
mod files;
mod ledger;
mod limits;
mod payments;
mod prices;
mod sessions;
mod subscriptions;
mod users;
mod webhooks;

use serde_json::{Value, json};

const NOW: &str = "2025-07-27T00:11:26.479685Z";
const WELCOME_ENDS: &str = "2025-08-26T00:11:26.479685Z";

/// The example of an operation's answer, where its handler has none of its own.
#[must_use]
pub fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "get_root" => {
            json!({"service": "User Service", "status": "operational", "version": "0.1.0", "timestamp": NOW})
        }
        "get_health" => health(),
        "get_live" => json!({"status": "alive"}),
        "get_ready" => json!({"status": "ready"}),
        "noop" => envelope("Nothing was done", json!({})),
        "get_me" => profile(),
        "get_user" => envelope("User retrieved successfully", profile()),
        "list_users" => list("Retrieved 1 users", users::listed()),
        "suspend_user" => {
            envelope("User auth0|test123 suspended", with(profile(), "is_active", json!(false)))
        }
        "merge_users" => envelope(
            "User auth0|test123 merged",
            json!({"user_id": "auth0|test123", "merged_row": 113, "credits_moved": 250.5}),
        ),
        "reactivate_user" => envelope("User auth0|test123 reactivated", profile()),
        "update_user" => envelope("User updated successfully", profile()),
        "delete_user" => envelope(
            "User auth0|test123 deleted successfully",
            json!({"user_id": "auth0|test123", "deleted": true}),
        ),
        "record_usage" => envelope("Usage recorded successfully", record()),
        "list_usage" => list("Retrieved 1 usage records", record()),
        "get_usage_stats" => envelope("Statistics retrieved successfully", statistics()),
        "record_usage_batch" => envelope("Recorded 1 usage records", batch()),
        "consume_credits" => consumed(),
        "recharge_credits" => envelope("Successfully recharged 1000 credits", recharge()),
        "refund_credits" => envelope("Successfully refunded 5 credits", refund()),
        "create_grant" => envelope("Successfully granted 250 credits", grant_entry()),
        "list_grants" => list("Retrieved 1 grants", grant()),
        "get_balance" => balance(),
        "list_transactions" => list("Retrieved 1 transactions", spending()),
        other => {
            return sessions::answer(other)
                .or_else(|| admin::answer(other))
                .or_else(|| files::answer(other))
                .or_else(|| ledger::answer(other))
                .or_else(|| limits::answer(other))
                .or_else(|| payments::answer(other))
                .or_else(|| prices::answer(other))
                .or_else(|| subscriptions::answer(other))
                .or_else(|| webhooks::answer(other));
        }
    })
}

fn envelope(message: &str, data: Value) -> Value {
    json!({"success": true, "status": "success", "message": message, "timestamp": NOW, "data": data})
}

fn list(message: &str, row: Value) -> Value {
    let mut answer = envelope(message, json!([row]));
    answer["pagination"] =
        json!({"limit": 50, "offset": 0, "returned": 1, "has_more": false, "next_cursor": null});
    answer
}

fn health() -> Value {
    json!({
        "status": "healthy", "timestamp": NOW,
        "services": {"status": "success", "data": {
            "service": "UserServiceV2", "status": "operational", "version": "0.1.0", "repository": "active",
            "features": ["user_management", "credit_management", "subscription_integration", "analytics"],
        }},
        "uptime": "operational", "uptime_seconds": 86_400,
        "checks": {"database": "ok", "engine": "sqlite", "token_keys": "ok", "object_store": "ok",
            "file_store": "local", "rate_limiter": "memory", "waiting_writes": 0},
    })
}

fn profile() -> Value {
    json!({
        "user_id": "auth0|test123", "auth0_id": "auth0|test123", "id": 112, "email": "test@test.com", "name": "Test User",
        "credits": 974.5, "credits_remaining": 974.5, "credits_total": 1000, "plan": "free",
        "subscription_status": "free", "is_active": true, "created_at": NOW,
    })
}

fn record() -> Value {
    json!({
        "id": 1001, "user_id": "auth0|test123", "session_id": "sess_abc123def456", "trace_id": "trace_xyz789abc",
        "endpoint": "/api/chat/completion", "event_type": "ai_chat", "credits_charged": 5.5, "cost_usd": 0.011,
        "calculation_method": "gpt4_pricing", "tokens_used": 1250, "prompt_tokens": 800, "completion_tokens": 450,
        "model_name": "gpt-4", "provider": "openai", "tool_name": "chat_service",
        "operation_name": "generate_response", "billing_metadata": {"billing_tier": "pro"},
        "request_data": {"temperature": 0.7}, "response_data": {"finish_reason": "stop"}, "created_at": NOW,
    })
}

fn statistics() -> Value {
    json!({
        "total_records": 150, "total_credits_charged": 750.5, "total_cost_usd": 15.01, "total_tokens_used": 225_000,
        "by_event_type": {"ai_chat": 120, "api_call": 30}, "by_model": {"gpt-4": 100, "gpt-3.5-turbo": 50},
        "by_provider": {"openai": 140, "anthropic": 10},
        "date_range": {"start_date": "2025-01-01T00:00:00.000000Z", "end_date": "2025-07-25T23:59:59.000000Z"},
    })
}

fn batch() -> Value {
    json!({"recorded": 1, "duplicates": 0, "failed": 1, "results": [
        {"index": 0, "status": "recorded", "id": 1001},
        {"index": 1, "status": "failed", "error_code": "UserNotFoundException", "message": "User not found: auth0|user2"},
    ]})
}

/// A transaction; `seq` is its place in the account.
fn transaction(kind: &str, seq: i64, amount: f64, before: f64, after: f64) -> Value {
    json!({
        "id": 2000 + seq, "transaction_id": format!("txn_112_{seq}"), "user_id": "auth0|test123", "transaction_type": kind,
        "amount": amount, "balance_before": before, "balance_after": after,
        "credits_amount": amount, "credits_before": before, "credits_after": after,
        "usage_record_id": null, "reference_id": null, "description": null, "metadata": {}, "created_at": NOW,
    })
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn spending() -> Value {
    with(transaction("consume", 2, 25.5, 1000.0, 974.5), "usage_record_id", json!(1001))
}

fn consumed() -> Value {
    json!({
        "success": true, "status": "success", "remaining_credits": 974.5, "consumed_amount": 25.5, "balance": 974.5,
        "transaction_id": "txn_112_2", "message": "Successfully consumed 25.5 credits", "timestamp": NOW,
        "data": spending(),
    })
}

fn recharge() -> Value {
    let entry = transaction("recharge", 3, 1000.0, 974.5, 1974.5);
    with(entry, "reference_id", json!("stripe_pi_abc123def456"))
}

fn refund() -> Value {
    with(transaction("refund", 4, 5.0, 1974.5, 1979.5), "reverses", json!("txn_112_2"))
}

fn grant_entry() -> Value {
    with(transaction("grant", 5, 250.0, 1979.5, 2229.5), "description", json!("Launch week"))
}

fn grant() -> Value {
    json!({
        "grant_id": "grt_112_1", "transaction_id": "txn_112_1", "source": "signup", "amount": 1000, "remaining": 974.5,
        "priority": 0, "effective_at": NOW, "expires_at": WELCOME_ENDS, "expired": false, "voided": false,
    })
}

fn balance() -> Value {
    let mut answer = envelope("Credit balance retrieved successfully", json!(974.5));
    answer["balance"] = json!({
        "available": 974.5, "held": 0, "total": 974.5, "credits_total": 1000, "credit_limit": 0, "owed": 0, "scoped": [],
        "expiring": [{"grant_id": "grt_112_1", "amount": 974.5, "expires_at": WELCOME_ENDS}],
    });
    answer
}
