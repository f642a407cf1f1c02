//! The examples of plans and subscriptions: `auth0|test123` has the free plan since it was made.

use super::{NOW, WELCOME_ENDS, envelope};
use serde_json::{Value, json};

/// The example of an operation's answer.
pub(super) fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "list_plans" => {
            json!({"plans": {"free": free()}, "currency": "USD", "billing_cycle": "monthly"})
        }
        "get_entitlements" => envelope(
            "Entitlements retrieved successfully",
            json!({"user_id": "auth0|test123", "plan": "free", "plan_version": VERSION,
                "features": ["basic_ai", "limited_requests"]}),
        ),
        "check_entitlement" => envelope(
            "The feature is not included",
            json!({"feature": "advanced_ai", "allowed": false, "reason": "not_in_plan", "plan": "free",
                "available_in": "pro"}),
        ),
        "create_subscription" | "set_subscription" => subscribed("Subscription is in force"),
        "get_current_subscription" | "get_subscription" => subscribed("Subscription retrieved successfully"),
        "cancel_current_subscription" | "cancel_subscription" => subscribed("Subscription cancelled"),
        "resume_subscription" => subscribed("Subscription resumed"),
        _ => return None,
    })
}

const VERSION: &str = "free@9f2c4e01b7aa";

fn free() -> Value {
    json!({"name": "Free", "price_monthly": 0, "credits": 1000, "features": ["basic_ai", "limited_requests"],
        "duration_days": 30, "recommended": false})
}

fn subscribed(message: &str) -> Value {
    let subscription = json!({
        "id": 1, "user_id": "auth0|test123", "plan_type": "free", "plan_version": VERSION, "provider": "free",
        "status": "active", "current_period_start": NOW, "current_period_end": WELCOME_ENDS, "ends_at": null,
        "cancel_at_period_end": false, "next_plan_version": null, "canceled_at": null, "created_at": NOW,
    });
    let mut answer = envelope(message, subscription.clone());
    answer["subscription"] = subscription;
    answer["plan_config"] = free();
    answer
}
