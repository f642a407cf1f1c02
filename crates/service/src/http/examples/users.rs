//! The examples of the directory and of privacy.

use super::NOW;
use serde_json::{Value, json};

/// A user as the directory shows it.
pub(super) fn listed() -> Value {
    json!({
        "user_id": "auth0|test123", "auth0_id": "auth0|test123", "id": 112, "email": "test@test.com", "name": "Test User",
        "plan": "free", "subscription_status": "free", "is_active": false, "suspended_at": NOW,
        "suspension_reason": "A chargeback is open", "created_at": NOW, "updated_at": NOW,
    })
}
