//! What bodies of events look like: the API's own examples of the same things, so they tell one story. A test holds each
//! against its schema.

use super::EventType;
use crate::http::examples::answer;
use serde_json::{Map, Value, json};

/// When the story happens.
pub(super) const NOW: &str = "2025-07-27T00:11:26.479685Z";
const EARLIER: &str = "2025-07-22T00:11:26.479685Z";

/// What the event has of its own.
#[must_use]
pub fn body(kind: EventType) -> Map<String, Value> {
    match own(kind) {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// The `data` of an operation's answer.
fn data(operation: &str) -> Value {
    answer(operation).map(|mut answer| answer["data"].take()).unwrap_or_default()
}

fn first(operation: &str) -> Value {
    data(operation).as_array_mut().and_then(Vec::pop).unwrap_or_default()
}

fn with(mut value: Value, members: Value) -> Value {
    if let (Value::Object(all), Value::Object(members)) = (&mut value, members) {
        all.extend(members);
    }
    value
}

fn credit(transaction: Value) -> Value {
    json!({"amount": transaction["amount"], "balance_after": transaction["balance_after"], "data": transaction})
}

fn hold(operation: &str, status: &str) -> Value {
    let hold = with(data(operation), json!({"status": status}));
    json!({"hold_id": hold["hold_id"], "amount": hold["amount"], "data": hold})
}

fn user(changes: Value) -> Value {
    json!({"data": with(data("get_user"), changes)})
}

fn usage(changes: Value) -> Value {
    let silent = json!({"request_data": {}, "response_data": {}});
    let record = with(with(data("record_usage"), silent), changes);
    json!({
        "usage_record_id": record["id"], "usage_event_type": record["event_type"],
        "credits_charged": record["credits_charged"], "cost_usd": record["cost_usd"],
        "tokens_used": record["tokens_used"], "data": record,
    })
}

fn session(status: &str) -> Value {
    let silent = json!({"conversation_data": {}, "status": status, "is_active": status == "active"});
    let session = with(data("get_session"), silent);
    json!({"session_id": session["session_id"], "data": session})
}

fn message() -> Value {
    let said = data("add_message");
    let names =
        ["id", "session_id", "user_id", "message_type", "role", "tokens_used", "cost_usd", "created_at"];
    let told: Map<String, Value> =
        names.into_iter().map(|name| (name.to_owned(), said[name].clone())).collect();
    json!({
        "session_id": said["session_id"], "message_id": said["id"], "tokens_used": said["tokens_used"],
        "cost_usd": said["cost_usd"], "data": told,
    })
}

fn subscription(changes: Value) -> Value {
    let subscription = with(data("get_subscription"), changes);
    json!({"plan_type": subscription["plan_type"], "data": subscription})
}

fn payment(amount: i64, changes: Value) -> Value {
    let payment = with(first("list_payments"), changes);
    json!({"amount": amount, "currency": payment["currency"], "data": payment})
}

fn limit(percent: i64, used: i64) -> Value {
    json!({"limit_id": "daily", "percent": percent, "data": {
        "id": "daily", "per": "user", "value": null, "unit": "credits", "window": "day", "amount": 100, "used": used,
        "resets_at": "2025-07-28T00:00:00.000000Z",
    }})
}

fn account() -> Value {
    json!({"user_id": "auth0|test123", "available": 74.5, "held": 0, "balance": 74.5, "credit_limit": 0})
}

fn own(kind: EventType) -> Value {
    use EventType as E;
    match kind {
        E::CreditConsumed => credit(data("consume_credits")),
        E::CreditRecharged => credit(data("recharge_credits")),
        E::CreditGranted => credit(data("create_grant")),
        E::CreditRefunded => credit(data("refund_credits")),
        E::CreditReversed => credit(data("void_grant")),
        E::CreditExpired => credit(with(
            data("void_grant"),
            json!({"transaction_type": "expire", "description": null, "reverses": null}),
        )),
        E::CreditAdjusted => credit(data("adjust_credits")),
        E::CreditLowBalance => json!({"available": 74.5, "threshold": 100, "data": account()}),
        E::CreditLimitChanged => {
            json!({"credit_limit": 5000, "data": with(account(), json!({"credit_limit": 5000, "available": 5074.5}))})
        }
        E::HoldCreated => hold("create_hold", "open"),
        E::HoldExtended => hold("extend_hold", "open"),
        E::HoldTicked => hold("tick_hold", "open"),
        E::HoldCaptured => hold("capture_hold", "captured"),
        E::HoldReleased => hold("release_hold", "released"),
        E::HoldExpired => hold("capture_hold", "expired"),
        E::UserCreated | E::UserUpdated | E::UserDeleted | E::UserRestored | E::UserReactivated => {
            user(json!({}))
        }
        E::UserSuspended => user(json!({"is_active": false})),
        E::UserMerged => json!({
            "merged_from": "google-oauth2|1078",
            "data": {"user_id": "auth0|test123", "merged_from": "google-oauth2|1078"},
        }),
        E::UsageRecorded => usage(json!({})),
        E::UsageRated => usage(json!({"charge_status": "rerated", "calculation_method": "price_book"})),
        E::SessionCreated | E::SessionUpdated | E::SessionActivated | E::SessionDeleted => session("active"),
        E::SessionMessageAdded => message(),
        E::SessionPaused => session("paused"),
        E::SessionCompleted => session("completed"),
        E::SessionArchived => session("archived"),
        E::SessionExpired => session("expired"),
        E::SubscriptionCreated | E::SubscriptionUpdated | E::SubscriptionRenewed | E::SubscriptionResumed => {
            subscription(json!({}))
        }
        E::SubscriptionPastDue => subscription(json!({"status": "past_due", "provider": "stripe"})),
        E::SubscriptionCanceled => subscription(json!({"cancel_at_period_end": true, "canceled_at": NOW})),
        E::SubscriptionEnded => subscription(json!({"status": "canceled", "canceled_at": NOW})),
        E::PaymentSucceeded => payment(2999, json!({})),
        E::PaymentFailed => payment(2999, unpaid("failed")),
        E::PaymentCanceled => payment(2999, unpaid("canceled")),
        E::PaymentRefunded => payment(500, json!({"amount_refunded": 500, "credits_reclaimed": 2500})),
        E::PaymentDisputed => payment(2999, json!({"disputed": true})),
        E::AlertLimitThreshold => limit(80, 82),
        E::AlertLimitReached => limit(100, 100),
        E::AlertTopUpDisabled => json!({
            "reason": "Your card was declined.", "data": {"user_id": "auth0|test123", "payment_id": 1},
        }),
        E::AlertWebhookDisabled => {
            json!({"endpoint_id": "ep_4kT9bXw2QzR7mN0sVcLd", "reason": "failing", "data": {
                "endpoint_id": "ep_4kT9bXw2QzR7mN0sVcLd", "url": "https://hooks.example.com/user-service",
                "failing_since": EARLIER, "disabled_at": NOW,
            }})
        }
        E::AlertLedgerMismatch => {
            let rule = "its hash is not the hash of what it says";
            json!({"rule": rule, "data": {
                "sound": false, "accounts": 1, "entries": 11, "balance": 964.75, "resealed": 0,
                "first_bad": {"table": "credit_entries", "row": "txn_112_9", "rule": rule},
                "started_at": NOW, "finished_at": NOW,
            }})
        }
    }
}

fn unpaid(status: &str) -> Value {
    json!({"status": status, "amount_received": 0, "credits": 0, "failure": "Your card was declined."})
}
