//! The examples of webhooks: an endpoint is registered, tested, and told.

use super::{NOW, envelope, list};
use serde_json::{Value, json};

/// The example of an operation's answer.
pub(super) fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "create_webhook_endpoint" => {
            envelope("Webhook endpoint created; its secret is shown only now", issued())
        }
        "rotate_webhook_secret" => envelope("Secret rotated; the new one is shown only now", issued()),
        "list_webhook_endpoints" => list("Retrieved 1 webhook endpoints", endpoint()),
        "get_webhook_endpoint" => envelope("Webhook endpoint retrieved successfully", endpoint()),
        "update_webhook_endpoint" => envelope("Webhook endpoint updated successfully", endpoint()),
        "delete_webhook_endpoint" => envelope("Webhook endpoint deleted successfully", endpoint()),
        "enable_webhook_endpoint" => envelope("Webhook endpoint enabled", endpoint()),
        "disable_webhook_endpoint" => {
            let mut endpoint = endpoint();
            (endpoint["status"], endpoint["disabled_reason"], endpoint["disabled_at"]) =
                ("disabled".into(), "by_request".into(), NOW.into());
            envelope("Webhook endpoint disabled", endpoint)
        }
        "test_webhook_endpoint" => envelope(
            "The test event is sent",
            json!({"event_id": "evt_1041", "event_type": "credit.consumed"}),
        ),
        "list_webhook_deliveries" => list("Retrieved 1 deliveries", delivery()),
        "get_webhook_delivery" => {
            let mut sent = delivery();
            sent["payload"] = json!({"id": "evt_1041", "type": "credit.consumed", "event_type": "credit_consumed",
                "user_id": "auth0|test123", "timestamp": NOW, "sequence": 1041, "amount": 25.5, "balance_after": 974.5,
                "data": {"transaction_id": "txn_112_2"}});
            envelope("Delivery retrieved successfully", sent)
        }
        "resend_webhook_delivery" => {
            let mut again = delivery();
            (again["status"], again["next_attempt_at"]) = ("pending".into(), NOW.into());
            envelope("The event is sent again", again)
        }
        "recover_webhook_deliveries" => envelope(
            "12 events are sent again",
            json!({"recovered": 12, "has_more": false, "next_since": null}),
        ),
        _ => return None,
    })
}

fn endpoint() -> Value {
    json!({"id": "ep_4kT9bXw2QzR7mN0sVcLd", "url": "https://hooks.example.com/user-service", "description": "billing",
        "event_types": ["credit.*", "alert.webhook_disabled"], "user_ids": [], "headers": {"authorization": "***"},
        "signature": "v1", "public_key": null, "status": "enabled", "disabled_reason": null, "disabled_at": null,
        "failing_since": null, "overlap_ends_at": null, "created_at": NOW, "created_by": "key:k3Jx9TqLm2", "updated_at": NOW})
}

fn issued() -> Value {
    let mut endpoint = endpoint();
    // What stands for the secret is that of the specification's own example.
    endpoint["secret"] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into();
    endpoint
}

fn delivery() -> Value {
    json!({"event_id": "evt_1041", "event_type": "credit.consumed", "user_id": "auth0|test123", "created_at": NOW,
        "status": "delivered", "next_attempt_at": null, "attempts": [{"at": NOW, "status_code": 204, "duration_ms": 38,
        "error": null, "excerpt": null}], "updated_at": NOW})
}
