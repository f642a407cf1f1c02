//! What many stories need: comparing whole answers, and the two times of a story.

use serde_json::{Value, json};
use testkit::{Actor, Engine, TestApp};

/// What the clock shows until a story moves it.
pub const NOW: &str = "2025-07-27T00:11:26.479685Z";

/// An answer with the values that differ from run to run replaced by what they are.
///
/// The clock stands still, so times are exact; only the ids of rows and requests are not ours.
pub fn masked(mut answer: Value) -> Value {
    mask(&mut answer);
    answer
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "id" if value.is_number() => *value = "<id>".into(),
                    "user_id" if value.is_number() => *value = "<row id>".into(),
                    "id" | "session_id" if value.as_str().is_some_and(is_uuid) => *value = "<uuid>".into(),
                    "request_id" if value.is_string() => *value = "<request>".into(),
                    "transaction_id" | "grant_id" | "hold_id" | "reverses" | "issued"
                        if value.is_string() =>
                    {
                        // The place within the account is part of the story; the account's row is not.
                        let text = value.as_str().unwrap_or_default();
                        let kind = text.split('_').next().unwrap_or_default();
                        let place = text.rsplit('_').next().unwrap_or_default();
                        *value = format!("{kind}_<row>_{place}").into();
                    }
                    _ => mask(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        _ => {}
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().filter(|b| *b == b'-').count() == 4
}

/// The envelope that an answer comes in.
pub fn envelope(message: &str, data: Value) -> Value {
    json!({"success": true, "status": "success", "message": message, "timestamp": NOW, "data": data})
}

/// The body of an error, whole.
pub fn error(code: &str, message: &str, details: Value) -> Value {
    let mut all = json!({"timestamp": NOW});
    if let (Value::Object(all), Value::Object(details)) = (&mut all, details) {
        all.extend(details);
    }
    json!({
        "success": false, "status": "error", "message": message, "error_code": code, "error_details": all,
        "detail": message, "request_id": "<request>", "timestamp": NOW,
    })
}

/// Tells a story on a service with settings of its own, on each engine.
pub async fn with_settings(settings: &[(&str, &str)], story: impl AsyncFn(&TestApp)) {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::start_with(engine, settings).await;
        story(&app).await;
        app.finish().await;
    }
}

/// The balance in parts.
pub async fn parts(actor: &Actor) -> Value {
    actor.get(&actor.own("/credits/balance")).await.ok()["balance"].take()
}

/// The transactions of a user, newest first.
pub async fn transactions(actor: &Actor) -> Value {
    actor.get(&actor.own("/credits/transactions?limit=1000")).await.data()
}

/// A transaction as answers show it, its ids masked: type, place, amount, balance before and after.
pub fn transaction(kind: &str, place: i64, amount: f64, before: f64, after: f64) -> Value {
    // Whole numbers are written without a point.
    let number = |n: f64| if n.fract() == 0.0 { json!(n as i64) } else { json!(n) };
    let (amount, before, after) = (number(amount), number(before), number(after));
    json!({
        "id": "<id>", "transaction_id": format!("txn_<row>_{place}"), "user_id": "auth0|alice", "transaction_type": kind,
        "amount": amount, "balance_before": before, "balance_after": after,
        "credits_amount": amount, "credits_before": before, "credits_after": after,
        "usage_record_id": null, "reference_id": null, "description": null, "metadata": {}, "created_at": NOW,
    })
}

/// An object with other members, where they are there, and more.
pub fn with(mut value: Value, members: Value) -> Value {
    if let (Value::Object(all), Value::Object(members)) = (&mut value, members) {
        all.extend(members);
    }
    value
}

/// What a user can spend now, as the service says.
pub async fn balance(actor: &Actor) -> Value {
    actor.get(&actor.own("/credits/balance")).await.data()
}

/// Begins a session of a user, and gives its path.
pub async fn session(actor: &Actor) -> String {
    let created = actor.post(&actor.own("/sessions"), json!({})).await.ok();
    format!("/api/v1/sessions/{}", created["session_id"].as_str().expect("an id"))
}

/// One member of each row of a list.
pub fn column(rows: &Value, name: &str) -> Vec<Value> {
    rows.as_array().map(|rows| rows.iter().map(|row| row[name].clone()).collect()).unwrap_or_default()
}

/// Small numbers that look random and are the same in every run.
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64, which needs no crate.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}
