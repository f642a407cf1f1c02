//! The examples of what operators do: a key is made, and what was done is read.

use super::{NOW, envelope, list};
use serde_json::{Value, json};

/// The example of an operation's answer.
pub(super) fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "list_audit_log" => list(
            "Retrieved 1 entries of the audit log",
            json!({"id": 7, "at": NOW, "actor": "key:k3Jx9TqLm2", "actor_subject": null, "action": "create_grant", "target": "user:112",
                "request_id": "req_abc123", "client_ip": "203.0.113.9", "details": {"transaction_id": "txn_112_4", "amount": 250}}),
        ),
        "create_key" => envelope("Key created; it is shown only now", issued()),
        "rotate_key" => envelope("Key rotated; its new secret is shown only now", issued()),
        "get_key" => envelope("Key retrieved successfully", key()),
        "update_key" => envelope("Key updated successfully", key()),
        "list_keys" => list("Retrieved 1 keys", key()),
        "revoke_key" => {
            let mut key = key();
            (key["status"], key["revoked_at"]) = ("revoked".into(), NOW.into());
            envelope("Key revoked successfully", key)
        }
        "list_event_types" => {
            let kind = crate::webhooks::EventType::CreditConsumed;
            let described = crate::webhooks::types::EventTypeView::new(kind);
            envelope("Retrieved 1 event types", json!([described]))
        }
        _ => return None,
    })
}

fn key() -> Value {
    json!({"key_id": "k3Jx9TqLm2", "name": "chat back end", "scopes": ["users:write", "usage:write"], "status": "active",
        "requests_per_minute": 6000, "allowed_ips": ["203.0.113.0/24"], "created_at": NOW, "created_by": "user:7",
        "expires_at": "2030-01-01T00:00:00.000000Z", "last_used_at": null, "revoked_at": null, "overlap_ends_at": null})
}

fn issued() -> Value {
    let mut key = key();
    // What stands for the secret has a wrong checksum.
    key["key"] = "usk_k3Jx9TqLm2_00000000000000000000000000000000000000".into();
    key
}
