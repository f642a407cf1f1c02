//! Sessions for the cases of messages: made before the rows, filled where a case wants a history.

use crate::Fallible;
use crate::api::{Api, data};
use crate::users::{User, concurrently, concurrently_few};
use serde::Deserialize;
use serde_json::{Value, json};

/// How many messages one set-up request adds.
const ADDED_AT_ONCE: usize = 1_000;
/// What people and models say, in the lengths in which they say it.
const SAID: [&str; 4] = [
    "Could you compare the night train from Vienna to Venice with a flight, prices and luggage included?",
    "Yes, please.",
    "The night train takes about eleven hours and costs from 30 to 120 euros depending on the class; two large bags \
     are free. A flight takes an hour and ten minutes, usually 40 to 150 euros, and checked luggage is 25 to 45 euros \
     extra. Door to door the flight saves about five hours, but the train saves a night in a hotel.",
    "Book me a bed in a three-berth compartment on the fourteenth, and remind me the day before to pack earplugs.",
];

/// A message as an AI product adds it.
pub fn message(number: usize) -> Value {
    let role = ["user", "assistant"][number % 2];
    let content = SAID[number % SAID.len()];
    json!({"role": role, "content": content, "tokens_used": content.len() / 4, "cost_usd": 0.0003})
}

/// Begins a session of each user, and gives their paths.
pub async fn begin(api: &Api, users: &[User]) -> Fallible<Vec<String>> {
    #[derive(Deserialize)]
    struct Created {
        session_id: String,
    }
    concurrently(users, |user| async {
        let body = api.post(&user.path("/sessions"), json!({"title": "bench"}).to_string()).await?;
        Ok(format!("/api/v1/sessions/{}", data::<Created>(&body)?.session_id))
    })
    .await
}

/// Adds so many messages to a session.
pub async fn fill(api: &Api, session: &str, messages: usize) -> Fallible<()> {
    let starts: Vec<usize> = (0..messages).step_by(ADDED_AT_ONCE).collect();
    let add = |start: &usize| {
        let messages: Vec<Value> = (*start..(start + ADDED_AT_ONCE).min(messages)).map(message).collect();
        let body = json!({"messages": messages}).to_string();
        async move { api.post(&format!("{session}/messages/batch"), body).await.map(drop) }
    };
    concurrently_few(&starts, add).await.map(drop)
}
