//! What answers about charges, holds and corrections look like.

use super::{NOW, envelope, list, record, spending};
use serde_json::{Value, json};

/// The example of an operation's answer.
#[must_use]
pub fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "create_charge" => envelope("Usage charged successfully", charge()),
        "create_charges" => envelope("Charged 1 usage records", charges()),
        "rerate_usage" => envelope(
            "Rated 3 usage records",
            json!({"rerated": 2, "unpaid": 1, "unchanged": 0, "next_after": null}),
        ),
        "create_hold" => held("Credits held", hold("open")),
        "tick_hold" => held("Hold ticked", hold("open")),
        "extend_hold" => held("Hold extended", hold("open")),
        "release_hold" => settled("Hold released", hold("released"), None),
        "capture_hold" => settled("Hold captured", hold("captured"), Some(capture())),
        "get_hold" => envelope("Hold retrieved successfully", hold("captured")),
        "list_holds" => list("Retrieved 1 holds", hold("open")),
        "adjust_credits" => envelope("Successfully adjusted by 2.5 credits", adjustment()),
        "void_grant" => envelope("Successfully voided 250 credits", reversal()),
        "set_credit_limit" => {
            envelope("Credit limit set", json!({"credit_limit": 5000, "owed": 0, "available": 5974.5}))
        }
        "explain_transaction" => envelope("Transaction explained", explanation()),
        "verify_ledger" => envelope("The account is sound", verification()),
        "get_ledger_verification" => envelope("Verification retrieved successfully", verification()),
        _ => return None,
    })
}

fn pricing() -> Value {
    json!({
        "model": "gpt-4", "price_model": "gpt-4", "price_version": 1, "effective_at": "1970-01-01T00:00:00.000000Z",
        "lines": [
            {"pool": "input", "quantity": 800, "unit_price_usd": 0.00003, "cost_usd": 0.024},
            {"pool": "output", "quantity": 450, "unit_price_usd": 0.00006, "cost_usd": 0.027}],
        "cost_usd": 0.051, "credits_per_usd": 500, "markup": 1, "credits": 25.5,
        "arithmetic": "(800 × 0.00003 + 450 × 0.00006) USD × 500 × 1 = 25.5 credits",
    })
}

fn charge() -> Value {
    let mut usage = record();
    usage["credits_charged"] = json!(25.5);
    usage["cost_usd"] = json!(0.051);
    usage["calculation_method"] = json!("price_book");
    json!({
        "status": "charged", "credits": 25.5, "available": 974.5, "duplicate": false, "usage": usage,
        "transaction": spending(), "pricing": pricing(),
    })
}

fn charges() -> Value {
    json!({"charged": 1, "duplicates": 0, "failed": 1, "results": [
        {"index": 0, "status": "charged", "charge": charge()},
        {"index": 1, "status": "failed", "error_code": "InsufficientCreditsException",
         "message": "Insufficient credits. Available: 974.5, Required: 1000000",
         "error_details": {"available": 974.5, "required": 1_000_000, "retryable": false, "top_up_url": null}}]})
}

fn hold(status: &str) -> Value {
    let captured = status == "captured";
    json!({
        "hold_id": "hld_112_1", "user_id": "auth0|test123", "status": status, "amount": 10, "ticked": 2.5,
        "captured": if captured { 7.25 } else { 0.0 }, "short_by": 0, "on_expiry": "capture_ticked",
        "created_at": NOW, "expires_at": "2025-07-27T00:21:26.479685Z",
        "settled_at": (status != "open").then_some(NOW), "transaction_id": captured.then_some("txn_112_9"),
        "model_name": "gpt-4", "feature": null, "session_id": null, "tags": [], "description": "a long answer",
        "metadata": {},
    })
}

fn held(message: &str, hold: Value) -> Value {
    json!({"success": true, "status": "success", "message": message, "timestamp": NOW, "hold_id": "hld_112_1",
        "available": 964.5, "data": hold})
}

fn settled(message: &str, hold: Value, transaction: Option<Value>) -> Value {
    let mut answer = json!({"success": true, "status": "success", "message": message, "timestamp": NOW,
        "hold_id": "hld_112_1", "data": hold});
    if let Some(transaction) = transaction {
        answer["transaction"] = transaction;
    }
    answer
}

fn entry(id: i64, kind: &str, amount: f64, before: f64, after: f64) -> Value {
    json!({
        "id": 2000 + id, "transaction_id": format!("txn_112_{id}"), "user_id": "auth0|test123",
        "transaction_type": kind, "amount": amount, "balance_before": before, "balance_after": after,
        "credits_amount": amount, "credits_before": before, "credits_after": after, "usage_record_id": null,
        "reference_id": null, "description": null, "metadata": {}, "created_at": NOW,
    })
}

fn capture() -> Value {
    let mut entry = entry(9, "capture", 7.25, 974.5, 967.25);
    entry["hold_id"] = json!("hld_112_1");
    entry
}

fn adjustment() -> Value {
    let mut entry = entry(10, "adjust", 2.5, 967.25, 964.75);
    entry["description"] = json!("counted twice");
    entry
}

fn reversal() -> Value {
    let mut entry = entry(11, "reversal", 250.0, 1214.75, 964.75);
    entry["reverses"] = json!("txn_112_7");
    entry["description"] = json!("the payment was charged back");
    entry
}

fn explanation() -> Value {
    json!({
        "transaction": spending(),
        "sentences": ["25.5 credits were spent.",
            "(800 × 0.00003 + 450 × 0.00006) USD × 500 × 1 = 25.5 credits",
            "25.5 of grant grt_112_1.", "The balance went from 1000 to 974.5."],
        "context": {"model": "gpt-4", "feature": "ai_chat"}, "pricing": pricing(),
        "funded_by": [{"grant_id": "grt_112_1", "amount": 25.5, "source": "signup", "priority": 0,
            "expires_at": "2025-08-26T00:11:26.479685Z"}],
        "issued": null, "hold_id": null, "counter_account": "spent", "actor": "key:bootstrap", "request_id": "req_1",
        "idempotency_key": "chat-1",
        "prev_hash": "6f1f3c0d6a0f2d5b7f4f0d3e3f5a1b2c6f1f3c0d6a0f2d5b7f4f0d3e3f5a1b2c",
        "hash": "0b7e5c1d9a8f2d5b7f4f0d3e3f5a1b2c6f1f3c0d6a0f2d5b7f4f0d3e3f5a1b2d",
    })
}

fn verification() -> Value {
    json!({"running_since": null, "last": {"sound": true, "accounts": 1, "entries": 11, "balance": 964.75,
        "resealed": 0, "first_bad": null, "started_at": NOW, "finished_at": NOW}})
}
