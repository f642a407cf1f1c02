//! The examples of what operators do: a key is made, and what was done is read.

use super::{NOW, list};
use serde_json::{Value, json};

/// The example of an operation's answer.
pub(super) fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "list_audit_log" => list(
            "Retrieved 1 entries of the audit log",
            json!({"id": 7, "at": NOW, "actor": "key:k3Jx9TqLm2", "actor_subject": null, "action": "create_grant", "target": "user:112",
                "request_id": "req_abc123", "client_ip": "203.0.113.9", "details": {"transaction_id": "txn_112_4", "amount": 250}}),
        ),
        _ => return None,
    })
}
