//! `STORE_CONTENT=false`: what is said is nowhere, and everything else is as it was.

use crate::support::{column, session, with_settings};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Actor, Answer, Engine, TestApp};
use user_service::db::{Db, DbError, FromRow, Row};

/// A word that nobody says but this story.
const CANARY: &str = "zqcanary7";

struct Text(String);

impl FromRow for Text {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        row.text(0).map(Self)
    }
}

/// How often the canary stands in the database: in its files, or in any row of any table.
async fn hits(app: &TestApp) -> usize {
    let inside = app.inside();
    let texts: Vec<Vec<u8>> = match &inside.db {
        Db::Sqlite(_) => {
            let files = ["story.db", "story.db-wal"].map(|name| app.data_dir().join(name));
            files.iter().map(|file| std::fs::read(file).expect("a file of the database")).collect()
        }
        Db::Postgres(_) => {
            let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
            let mut texts = Vec::new();
            for Text(table) in inside.db.query::<Text>(tables, vec![]).await.expect("the tables") {
                let sql = format!("SELECT COALESCE(string_agg(t::text, ' '), '') FROM {table} t");
                let rows = inside.db.query::<Text>(Box::leak(sql.into_boxed_str()), vec![]).await;
                texts.extend(rows.expect("the rows").into_iter().map(|Text(text)| text.into_bytes()));
            }
            texts
        }
    };
    // PostgreSQL shows bytes, as answers are kept, by their digits.
    let digits: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let count = |text: &[u8], of: &str| text.windows(of.len()).filter(|part| *part == of.as_bytes()).count();
    texts.iter().map(|text| count(text, CANARY) + count(text, &digits)).sum()
}

/// Asks twice with one key, and insists on the same answer.
async fn twice(actor: &Actor, method: Method, path: &str, body: &Value) -> Answer {
    let key = format!("{method} {}", path.replace('/', "-"));
    let ask =
        async || actor.request(method.clone(), path).header("idempotency-key", &key).json(body).send().await;
    let (first, again) = (ask().await, ask().await);
    assert_eq!((first.status, &first.body), (200, &again.body), "{path}: {}", first.text());
    if method == Method::POST {
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{path}");
    }
    first
}

/// Says the canary wherever something can be said; gives the session's path.
async fn say_everywhere(app: &TestApp) -> String {
    let alice = &app.alice;
    alice.ensure().await;
    let said = json!({"text": CANARY});
    let sessions = alice.own("/sessions");
    let made =
        twice(alice, Method::POST, &sessions, &json!({"title": "A trip", "conversation_data": said})).await;
    let path = format!("/api/v1/sessions/{}", made.json()["session_id"].as_str().expect("an id"));
    let messages = format!("{path}/messages");
    let call = json!([{"function": {"name": "weather", "arguments": CANARY}}]);
    let message = json!({"role": "user", "content": format!("Hello {CANARY}"), "tokens_used": 5, "cost_usd": 0.001,
        "tool_calls": call, "metadata": {"client": "web"}});
    let _ = twice(alice, Method::POST, &messages, &message).await.ok();
    let _ = alice.post_query(&format!("{messages}?role=user&content={CANARY}&tokens_used=1")).await.ok();
    let many = json!({"messages": [{"role": "assistant", "tool_calls": call}, {"role": "tool", "content": CANARY, "tokens_used": 2}]});
    let _ = twice(alice, Method::POST, &format!("{messages}/batch"), &many).await.ok();
    let _ = twice(alice, Method::POST, &format!("{path}/memory"), &json!({"content": CANARY})).await.ok();
    let _ = twice(alice, Method::PUT, &format!("{path}/summary"), &json!({"summary": CANARY})).await.ok();
    let _ = twice(alice, Method::PATCH, &path, &json!({"conversation_data": said})).await.ok();
    let record = json!({"user_id": "auth0|alice", "event_type": "ai_chat", "tokens_used": 7, "cost_usd": 0.5,
        "billing_metadata": {"tier": "pro"}, "request_data": said, "response_data": said});
    let _ = twice(alice, Method::POST, &alice.own("/usage"), &record).await.ok();
    let _ =
        twice(alice, Method::POST, "/api/v1/usage/batch", &json!({"records": [record, record]})).await.ok();
    let mut charge = record.clone();
    charge["credits"] = json!(2);
    let _ = twice(&app.backend, Method::POST, &alice.own("/charges"), &charge).await.ok();
    let _ = twice(&app.backend, Method::POST, "/api/v1/charges/batch", &json!({"charges": [charge, charge]}))
        .await
        .ok();
    path
}

async fn totals(app: &TestApp, path: &str) -> Value {
    let row = app.alice.get(path).await.data();
    let stats = app.alice.get(&app.alice.own("/usage/stats")).await.data();
    json!([
        row["message_count"],
        row["total_tokens"],
        row["total_cost"],
        stats["total_records"],
        stats["total_tokens_used"],
        stats["total_cost_usd"],
        crate::support::balance(&app.alice).await
    ])
}

fn expected() -> Value {
    json!([4, 8, 0.001, 6, 42, 3, 994])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_said_is_stored_and_everything_is_counted() {
    with_settings(&[("STORE_CONTENT", "false")], async |app| {
        let path = say_everywhere(app).await;
        assert_eq!(hits(app).await, 0, "the canary was stored");
        let row = app.alice.get(&path).await.data();
        assert_eq!(
            (&row["conversation_data"], &row["session_summary"], &row["title"]),
            (&json!({}), &json!(""), &json!("A trip"))
        );
        let listed = app.alice.get(&format!("{path}/messages")).await.data();
        assert_eq!(column(&listed, "content"), ["", "", "", ""]);
        assert_eq!(column(&listed, "tool_calls"), [Value::Null, Value::Null, Value::Null, Value::Null]);
        assert_eq!(column(&listed, "content_stored"), [false, false, false, false]);
        assert_eq!(column(&listed, "tokens_used"), [5, 1, 0, 2]);
        assert_eq!(listed[0]["message_metadata"], json!({"client": "web"}), "metadata is the caller's own");
        let memory = app.alice.get(&format!("{path}/memory")).await.data();
        assert_eq!((&memory[0]["content"], &memory[0]["content_stored"]), (&json!(""), &json!(false)));
        for record in app.alice.get(&app.alice.own("/usage")).await.data().as_array().expect("records") {
            assert_eq!((&record["request_data"], &record["response_data"]), (&json!({}), &json!({})));
            assert_eq!(record["billing_metadata"], json!({"tier": "pro"}));
        }
        for q in [CANARY, "hello"] {
            let found = app.alice.get(&app.alice.own(&format!("/messages/search?q={q}"))).await.data();
            assert_eq!(found, json!([]));
        }
        let streamed = app.alice.watch_after(&format!("{path}/events"), "0").await.take(4).await;
        assert!(
            streamed.iter().all(|event| event.data["content"] == ""),
            "a stream says no more than the list"
        );
        assert_eq!(totals(app, &path).await, expected());
        // What is wrong with contents is said all the same.
        let long = json!({"role": "user", "content": "x".repeat(256 * 1024 + 1)});
        let _ = app.alice.post(&format!("{path}/messages"), long).await.with(400);
        let _ = app.alice.post(&format!("{path}/messages"), json!({"role": "user"})).await.with(400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_default_it_is_all_there() {
    with_settings(&[], async |app| {
        let path = say_everywhere(app).await;
        assert!(hits(app).await > 20, "the search for the canary finds it where it is");
        let listed = app.alice.get(&format!("{path}/messages")).await.data();
        assert!(column(&listed, "content_stored").iter().all(Value::is_null), "said only where it is false");
        let found = app.alice.get(&app.alice.own(&format!("/messages/search?q={CANARY}"))).await.data();
        assert_eq!(column(&found, "role"), ["tool", "user", "user"]);
        assert_eq!(totals(app, &path).await, expected());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_says_how_it_was_taken_whatever_the_setting_is_now() {
    let app = TestApp::start(Engine::Sqlite).await;
    app.alice.ensure().await;
    let path = session(&app.alice).await;
    let _ = app.alice.post(&format!("{path}/messages"), json!({"role": "user", "content": ""})).await.ok();
    let say = json!({"role": "user", "content": "Hello"});
    let _ = app.alice.post(&format!("{path}/messages"), say.clone()).await.ok();
    // As a process with the other setting would have written it.
    let inside = app.inside();
    let sql = "UPDATE messages SET content = '', content_stored = 0 WHERE content = 'Hello'";
    let statement = user_service::writer::Statement::one(sql, vec![]);
    let edit = user_service::writer::Edit::new(kernel::UserRowId(1), vec![statement]);
    inside.writer.execute(user_service::writer::Command::Edit(edit)).await.expect("an edit");
    drop(inside);
    let _ = app.alice.post(&format!("{path}/messages"), say).await.ok();
    let listed = app.alice.get(&format!("{path}/messages")).await.data();
    assert_eq!(column(&listed, "content"), ["", "", "Hello"]);
    assert_eq!(column(&listed, "content_stored"), [Value::Null, json!(false), Value::Null]);
    app.finish().await;
}
