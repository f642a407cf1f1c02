//! The examples of payments: `auth0|test123` buys credits for 29.99 dollars.

use super::{NOW, envelope, list};
use serde_json::{Value, json};

/// The example of an operation's answer.
pub(super) fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "list_packs" => {
            json!({"packs": {"small": {"name": "5 000 credits", "price": 10.0, "credits": 5000}}, "currency": "USD"})
        }
        "create_payment_intent" => {
            json!({"success": true, "payment_intent_id": "pi_3PExample", "client_secret": "pi_3PExample_secret_x",
                "amount": 2999, "currency": "usd", "status": "requires_payment_method", "payment_id": 1, "credits": 14_995})
        }
        "create_checkout" => {
            json!({"success": true, "session_id": "cs_test_1", "checkout_url": CHECKOUT, "url": CHECKOUT,
                "success_url": "https://example.com/done", "cancel_url": "https://example.com/plans", "payment_id": 2})
        }
        "create_portal" => {
            json!({"success": true, "url": "https://billing.stripe.com/p/session/test_1", "return_url": "https://example.com/account"})
        }
        "list_payments" => list("Retrieved 1 payments", payment(0)),
        "get_auto_top_up" => envelope("Automatic top-up retrieved", top_up()),
        "set_auto_top_up" => envelope("Automatic top-up set", top_up()),
        "delete_auto_top_up" => {
            envelope("Automatic top-up removed", json!({"user_id": "auth0|test123", "deleted": true}))
        }
        "refund_payment" => envelope("Money was given back", payment(500)),
        "take_stripe_event" => {
            json!({"success": true, "processed": true, "duplicate": false, "event_id": "evt_1", "event_type": "invoice.paid"})
        }
        "list_stripe_events" => list("Retrieved 1 events", event()),
        "replay_stripe_event" => envelope("The event was taken in again", event()),
        _ => return None,
    })
}

const CHECKOUT: &str = "https://checkout.stripe.com/c/pay/cs_test_1";

fn payment(refunded: i64) -> Value {
    json!({"payment_id": 1, "user_id": "auth0|test123", "kind": "credits", "item": null, "amount": 2999, "currency": "usd",
        "status": "succeeded", "amount_received": 2999, "amount_refunded": refunded, "disputed": false, "credits": 14_995,
        "credits_reclaimed": refunded * 5, "credits_owed": 0, "payment_intent_id": "pi_3PExample", "invoice_id": null, "failure": null,
        "created_at": NOW, "updated_at": NOW})
}

fn top_up() -> Value {
    json!({"user_id": "auth0|test123", "enabled": true, "threshold": 500, "pack": "small", "monthly_max": 10_000,
        "month_spent": 1000, "has_payment_method": true, "failures": 0, "failure": null, "next_attempt_at": null,
        "updated_at": NOW})
}

fn event() -> Value {
    json!({"event_id": "evt_1", "event_type": "invoice.paid", "object_id": "in_1", "customer_id": "cus_1", "status": "processed",
        "attempts": 1, "next_attempt_at": null, "error": null, "created_at": NOW, "received_at": NOW, "processed_at": NOW})
}
