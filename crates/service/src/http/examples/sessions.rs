//! The examples of sessions: a trip is planned.

use super::{NOW, WELCOME_ENDS, envelope, list};
use serde_json::{Value, json};

const SESSION: &str = "4da97cfa-b95f-4898-8b7d-2786ff703ce0";

/// The example of an operation's answer.
pub(super) fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "create_session" => json!({
            "success": true, "session_id": SESSION, "user_id": "auth0|test123", "status": "active", "message_count": 0,
            "created_at": NOW, "message": "Session created successfully", "timestamp": NOW, "data": session(),
        }),
        "list_sessions" => list("Retrieved 1 sessions", session()),
        "get_session" => envelope("Session retrieved successfully", session()),
        "update_session" => envelope("Session updated successfully", session()),
        "set_session_status" => envelope("Session status updated to completed", json!(true)),
        "set_session_summary" => envelope("Session summary updated successfully", json!(true)),
        "delete_session" => envelope(
            &format!("Session {SESSION} deleted successfully"),
            json!({"session_id": SESSION, "deleted": true}),
        ),
        "list_session_usage" => list("Retrieved 1 usage records", super::record()),
        "add_message" => envelope("Message added to session", message()),
        "add_messages" => envelope(
            "Added 1 messages to session",
            json!({"added": 1, "message_ids": ["ad941213-9d10-4be0-9052-5665fd5fa033"]}),
        ),
        "list_messages" => list("Retrieved 1 messages", message()),
        "update_message" => envelope("Message updated successfully", message()),
        "search_messages" => list("Found 1 messages", message()),
        "add_memory" => envelope("Memory added to session", memory()),
        "list_memories" => list("Retrieved 1 memories", memory()),
        "delete_memory" => envelope("Memory deleted successfully", json!({"id": 1, "deleted": true})),
        _ => return None,
    })
}

fn session() -> Value {
    json!({
        "id": 789, "session_id": SESSION, "user_id": "auth0|test123", "title": "Planning a trip",
        "conversation_data": {"language": "en"}, "status": "active", "metadata": {"client": "web"}, "is_active": true,
        "message_count": 0, "total_tokens": 0, "total_cost": 0, "session_summary": null, "created_at": NOW,
        "updated_at": NOW, "last_activity": NOW, "expires_at": WELCOME_ENDS,
    })
}

fn message() -> Value {
    json!({
        "id": "ad941213-9d10-4be0-9052-5665fd5fa033", "session_id": SESSION, "user_id": "auth0|test123",
        "message_type": "chat", "role": "user", "content": "Hello", "tool_calls": null, "tool_call_id": null,
        "message_metadata": {}, "tokens_used": 5, "cost_usd": 0.001, "is_summary_candidate": true,
        "importance_score": 0.5, "created_at": NOW, "updated_at": NOW,
    })
}

fn memory() -> Value {
    json!({
        "id": 1, "session_id": SESSION, "user_id": "auth0|test123", "memory_type": "preference",
        "content": "Prefers trains to flights.", "metadata": {"source": "message 12"}, "created_at": NOW,
    })
}
