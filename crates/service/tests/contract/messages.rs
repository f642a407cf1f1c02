//! §6: messages.

use crate::support::{NOW, column, envelope, masked, session};
use serde_json::{Value, json};
use testkit::{Answer, TestApp, both_engines};

fn row(more: Value) -> Value {
    let mut row = json!({
        "id": "<uuid>", "session_id": "<uuid>", "user_id": "auth0|alice", "message_type": "chat", "role": "user",
        "content": "Hello", "tool_calls": null, "tool_call_id": null, "message_metadata": {}, "tokens_used": 0,
        "cost_usd": 0, "is_summary_candidate": true, "importance_score": 0.5, "created_at": NOW, "updated_at": NOW,
    });
    if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
        row.extend(more);
    }
    row
}

/// The sums that a session keeps.
async fn totals(app: &TestApp, path: &str) -> [Value; 3] {
    let row = app.alice.get(path).await.data();
    ["message_count", "total_tokens", "total_cost"].map(|name| row[name].clone())
}

async fn contents(app: &TestApp, path: &str, query: &str) -> Vec<Value> {
    column(&app.alice.get(&format!("{path}/messages{query}")).await.data(), "content")
}

both_engines! {
    async fn a_message_is_added_by_query_or_json(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let by_query = format!("{path}/messages?role=user&content=Hello&message_type=chat&tokens_used=5&cost_usd=0.001");
        let added = app.alice.post_query(&by_query).await.ok();
        let expected = row(json!({"tokens_used": 5, "cost_usd": 0.001}));
        assert_eq!(masked(added.clone()), envelope("Message added to session", expected.clone()));
        let by_json = json!({"role": "user", "content": "Hello", "message_type": "chat", "tokens_used": 5, "cost_usd": 0.001});
        let same = app.alice.post(&format!("{path}/messages"), by_json).await.ok();
        assert_eq!(masked(same.clone()), envelope("Message added to session", expected));
        assert_ne!(same["data"]["id"], added["data"]["id"]);
        let list = app.alice.get(&format!("{path}/messages")).await.ok();
        assert_eq!(list["message"], "Retrieved 2 messages");
        assert_eq!(list["pagination"]["limit"], 100);
        assert_eq!(list["data"], json!([added["data"], same["data"]]));
        assert_eq!(totals(&app, &path).await, [json!(2), json!(10), json!(0.002)]);
    }

    async fn a_message_carries_what_models_and_tools_say(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let calls = json!([{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Kyoto\"}"}}]);
        let asked = app.alice.post(&format!("{path}/messages"), json!({
            "role": "assistant", "tool_calls": calls, "metadata": {"model": "gpt-4"}, "importance_score": 0.9, "is_summary_candidate": false,
            "message_type": "tool_call", "cost_usd": "0.000000001",
        })).await.data();
        assert_eq!(masked(asked), row(json!({
            "role": "assistant", "content": "", "tool_calls": calls, "message_metadata": {"model": "gpt-4"}, "importance_score": 0.9,
            "is_summary_candidate": false, "message_type": "tool_call", "cost_usd": 1e-9,
        })));
        let answered = app.alice.post(&format!("{path}/messages"), json!({
            "role": "tool", "content": "18 °C", "tool_call_id": "call_1", "message_metadata": {"ms": 12},
        })).await.data();
        assert_eq!(masked(answered), row(json!({"role": "tool", "content": "18 °C", "tool_call_id": "call_1", "message_metadata": {"ms": 12}})));
        assert_eq!(totals(&app, &path).await, [json!(2), json!(0), json!(1e-9)]);
    }

    async fn two_hundred_at_once_are_counted_exactly(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let calls: Vec<_> = (0..200).map(|n| {
            let (alice, path) = (app.alice.clone(), format!("{path}/messages"));
            tokio::spawn(async move { alice.post(&path, json!({"role": "user", "content": n.to_string(), "tokens_used": 3, "cost_usd": 0.01})).await.ok() })
        }).collect();
        for call in calls {
            let _ = call.await.expect("an answer");
        }
        assert_eq!(totals(&app, &path).await, [json!(200), json!(600), json!(2)]);
        let all = contents(&app, &path, "?limit=1000").await;
        assert_eq!(all.len(), 200);
        assert_eq!(contents(&app, &path, "?limit=1000").await, all, "the order is stable");
        let mut walked = Vec::new();
        for offset in (0..200).step_by(30) {
            walked.extend(contents(&app, &path, &format!("?limit=30&offset={offset}")).await);
        }
        assert_eq!(walked, all);
        let mut backwards = contents(&app, &path, "?limit=50&order=desc").await;
        backwards.reverse();
        assert_eq!(backwards, all[150..]);
        let mut middle = contents(&app, &path, "?limit=50&offset=50&order=desc").await;
        middle.reverse();
        assert_eq!(middle, all[100..150]);
    }

    async fn cursors_walk_both_ways_without_gaps(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let messages: Vec<Value> = (0..25).map(|n| json!({"role": "user", "content": n.to_string()})).collect();
        let _ = app.alice.post(&format!("{path}/messages/batch"), json!({"messages": messages})).await.ok();
        let forwards: Vec<Value> = (0..25).map(|n| json!(n.to_string())).collect();
        let backwards: Vec<Value> = forwards.iter().rev().cloned().collect();
        for (order, expected) in [("asc", &forwards), ("desc", &backwards)] {
            let (mut walked, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = app.alice.get(&format!("{path}/messages?limit=4&order={order}{cursor}")).await.ok();
                walked.extend(column(&page["data"], "content"));
                match page["pagination"]["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(&walked, expected, "{order}");
        }
        app.alice.get(&format!("{path}/messages?order=up")).await.refuses_field(&["query", "order"], "asc");
    }

    async fn many_are_added_all_or_none(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let batch = format!("{path}/messages/batch");
        let two = json!({"messages": [{"role": "user", "content": "a", "tokens_used": 1}, {"role": "assistant", "content": "b", "cost_usd": 0.5}]});
        let added = app.alice.post_once("b1", &batch, two.clone()).await;
        assert_eq!(added.ok()["message"], "Added 2 messages to session");
        assert_eq!(added.ok()["data"]["added"], 2);
        let again = app.alice.post_once("b1", &batch, two).await;
        assert_eq!((again.body.clone(), again.header("idempotent-replayed")), (added.body.clone(), Some("true")));
        let ids = column(&app.alice.get(&format!("{path}/messages")).await.data(), "id");
        assert_eq!(json!(ids), added.ok()["data"]["message_ids"]);
        app.alice.post(&batch, json!({"messages": []})).await.refuses_field(&["body", "messages"], "1 to 1000 messages");
        let many: Vec<Value> = (0..1001).map(|_| json!({"role": "user", "content": "x"})).collect();
        app.alice.post(&batch, json!({"messages": many})).await.refuses_field(&["body", "messages"], "1 to 1000 messages");
        let bad = json!({"messages": [{"role": "user", "content": "good"}, {"role": "user"}]});
        app.alice.post(&batch, bad).await.refuses_field(&["body", "messages", "1", "content"], "required");
        let bad = json!({"messages": [{"role": "user", "content": "good"}, {"role": "robot", "content": "x"}]});
        app.alice.post(&batch, bad).await.refuses_field(&["body", "messages", "1", "role"], "must be user, assistant, system or tool");
        assert_eq!(totals(&app, &path).await, [json!(2), json!(1), json!(0.5)]);
        let full: Vec<Value> = (0..1000).map(|n| json!({"role": "user", "content": n.to_string()})).collect();
        let _ = app.alice.post(&batch, json!({"messages": full})).await.ok();
        assert_eq!(contents(&app, &path, "?offset=1000").await, ["998", "999"]);
    }

    async fn a_message_is_rated_but_never_rewritten(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let message = app.alice.post(&format!("{path}/messages"), json!({"role": "user", "content": "Hello", "metadata": {"a": 1}})).await.data();
        let at = format!("{path}/messages/{}", message["id"].as_str().expect("an id"));
        app.advance(std::time::Duration::from_secs(1));
        let rated = app.alice.patch(&at, json!({"is_summary_candidate": false, "importance_score": 0.25, "content": "Changed"})).await.data();
        let expected = row(json!({
            "is_summary_candidate": false, "importance_score": 0.25, "message_metadata": {"a": 1}, "updated_at": "2025-07-27T00:11:27.479685Z",
        }));
        assert_eq!(masked(rated.clone()), expected);
        assert_eq!(app.alice.get(&format!("{path}/messages")).await.data(), json!([rated]));
        app.alice.patch(&at, json!({"importance_score": 1.5})).await.refuses_field(&["body", "importance_score"], "0 to 1");
        let other = session(&app.alice).await;
        let stray = format!("{other}/messages/{}", message["id"].as_str().expect("an id"));
        assert_eq!(app.alice.patch(&stray, json!({"importance_score": 1})).await.status, 404);
        assert_eq!(app.alice.patch(&format!("{path}/messages/x"), json!({"importance_score": 1})).await.status, 404);
    }

    async fn what_is_no_message_is_refused(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let messages = format!("{path}/messages");
        for (bad, field, rule) in [
            (json!({"content": "x"}), "role", "required"),
            (json!({"role": "user"}), "content", "required"),
            (json!({"role": "User", "content": "x"}), "role", "must be user, assistant, system or tool"),
            (json!({"role": "user", "content": "a\0"}), "content", "NUL"),
            (json!({"role": "user", "content": "x", "tokens_used": -1}), "tokens_used", "0"),
            (json!({"role": "user", "content": "x", "tokens_used": 1.5}), "tokens_used", "whole number"),
            (json!({"role": "user", "content": "x", "cost_usd": -0.1}), "cost_usd", "negative"),
            (json!({"role": "user", "content": "x", "tool_calls": {}}), "tool_calls", "must be a JSON array"),
            (json!({"role": "user", "content": "x", "message_type": ""}), "message_type", "1 to 50"),
            (json!({"role": "user", "content": "x", "importance_score": "high"}), "importance_score", "0 to 1"),
            (json!({"role": "user", "content": "x", "is_summary_candidate": 1}), "is_summary_candidate", "true or false"),
        ] {
            let answer = app.alice.post(&messages, bad.clone()).await;
            assert_eq!(answer.status, 400, "{bad}");
            answer.refuses_field(&["body", field], rule);
        }
        app.alice.post_query(&format!("{messages}?role=user")).await.refuses_field(&["body", "content"], "required");
        assert_eq!(totals(&app, &path).await, [json!(0), json!(0), json!(0)]);
    }

    async fn a_content_has_at_most_256_kib(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let path = format!("{path}/messages");
        let say = |content: String| app.alice.post_text(&path, json!({"role": "user", "content": content}).to_string());
        let full = "é".repeat(128 * 1024);
        assert_eq!(say(full.clone()).await.data()["content"], full);
        say(format!("{full}.")).await.refuses_field(&["body", "content"], "at most 262144 bytes");
        let words: String = (0..36_000).map(|n| format!("w{n} ")).collect();
        let _ = say(words).await.ok();
        let _ = say("\u{fdfa}".repeat(80_000)).await.ok();
        let _ = say("x".repeat(256 * 1024)).await.ok();
        let _ = say("\\ ' : & | ! ( ) * \" <-> 'a':1 \u{202e}\u{feff}".repeat(1000)).await.ok();
        // Pages stay small: 4 MiB hold eight of these in the largest case.
        for _ in 0..20 {
            let _ = say(full.clone()).await.ok();
        }
        let page = app.alice.get(&format!("{path}?limit=1000")).await;
        assert!(page.body.len() < 6 * 1024 * 1024, "{}", page.body.len());
        assert_eq!(page.ok()["pagination"]["has_more"], true);
    }

    async fn the_same_key_adds_one_message(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let calls: Vec<_> = (0..20).map(|_| {
            let (alice, path) = (app.alice.clone(), format!("{path}/messages"));
            tokio::spawn(async move { alice.post_once("m1", &path, json!({"role": "user", "content": "Once"})).await })
        }).collect();
        let mut answers: Vec<Answer> = Vec::new();
        for call in calls {
            answers.push(call.await.expect("an answer"));
        }
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
        assert_eq!(totals(&app, &path).await[0], 1);
    }

    async fn a_program_needs_the_scope_for_sessions(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let added = app.backend.post(&format!("{path}/messages"), json!({"role": "system", "content": "Be kind."})).await.data();
        assert_eq!(added["user_id"], "auth0|alice");
        app.bob.ensure().await;
        let foreign = app.bob.post(&format!("{path}/messages"), json!({"role": "user", "content": "x"})).await;
        assert_eq!(foreign.with(403)["error_code"], "AuthorizationException");
        assert_eq!(app.bob.get(&format!("{path}/messages")).await.status, 403);
    }
}
