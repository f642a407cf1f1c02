//! §6: sessions.

use crate::support::{NOW, column, envelope, masked, session};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Actor, Engine, TestApp, both_engines};

const ENDS: &str = "2025-08-26T00:11:26.479685Z";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn row(more: Value) -> Value {
    let mut row = json!({
        "id": "<id>", "session_id": "<uuid>", "user_id": "auth0|alice", "title": null, "conversation_data": {},
        "status": "active", "metadata": {}, "is_active": true, "message_count": 0, "total_tokens": 0, "total_cost": 0,
        "session_summary": null, "created_at": NOW, "updated_at": NOW, "last_activity": NOW, "expires_at": ENDS,
    });
    if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
        row.extend(more);
    }
    row
}

async fn put(actor: &Actor, path: &str, body: Value) -> testkit::Answer {
    actor.request("PUT".parse().expect("a method"), path).json(&body).send().await
}

/// The public ids of a list of sessions.
async fn listed(actor: &Actor, query: &str) -> Vec<Value> {
    column(&actor.get(&actor.own(&format!("/sessions{query}"))).await.data(), "title")
}

both_engines! {
    async fn a_session_is_begun_read_and_listed_as_documented(app: TestApp) {
        app.alice.ensure().await;
        let body = json!({"user_id": "auth0|alice", "title": "A trip", "conversation_data": {"n": 1.10}, "metadata": {"client": "web"}});
        let created = app.alice.post(&app.alice.own("/sessions"), body).await.ok();
        let expected = row(json!({"title": "A trip", "conversation_data": {"n": 1.10}, "metadata": {"client": "web"}}));
        assert_eq!(masked(created.clone()), json!({
            "success": true, "session_id": "<uuid>", "user_id": "auth0|alice", "status": "active", "message_count": 0,
            "created_at": NOW, "message": "Session created successfully", "timestamp": NOW, "data": expected,
        }));
        let path = format!("/api/v1/sessions/{}", created["session_id"].as_str().expect("an id"));
        assert_eq!(app.alice.get(&path).await.ok(), json!({
            "success": true, "status": "success", "message": "Session retrieved successfully", "timestamp": NOW, "data": created["data"],
        }));
        let list = app.alice.get(&app.alice.own("/sessions")).await.ok();
        assert_eq!(list["message"], "Retrieved 1 sessions");
        assert_eq!(list["data"], json!([created["data"]]));
        assert_eq!(app.backend.get(&path).await.data(), created["data"]);
    }

    async fn everything_may_be_left_out(app: TestApp) {
        app.alice.ensure().await;
        let created = app.alice.post_query(&app.alice.own("/sessions")).await.ok();
        assert_eq!(masked(created["data"].clone()), row(json!({})));
        let named = app.alice.post_query(&app.alice.own("/sessions?title=From%20a%20query&metadata=%7B%22a%22:1%7D")).await.ok();
        assert_eq!(masked(named["data"].clone()), row(json!({"title": "From a query", "metadata": {"a": 1}})));
    }

    async fn the_list_is_newest_first_and_comes_in_pages(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let _ = session(&app.bob).await;
        for n in 0..7 {
            if n % 3 == 0 {
                app.advance(Duration::from_secs(1));
            }
            let _ = app.alice.post(&app.alice.own("/sessions"), json!({"title": n.to_string()})).await.ok();
        }
        let all = ["6", "5", "4", "3", "2", "1", "0"].map(Value::from);
        assert_eq!(listed(&app.alice, "").await, all);
        assert_eq!(listed(&app.alice, "?limit=2&offset=3").await, all[3..5]);
        let mut walked = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = app.alice.get(&app.alice.own(&format!("/sessions?limit=3{cursor}"))).await.ok();
            walked.extend(column(&page["data"], "title"));
            match page["pagination"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(walked, all);
        assert_eq!(listed(&app.alice, "?active_only=true").await, all);
        assert_eq!(listed(&app.alice, "?active_only=false").await, all);
        app.alice.get(&app.alice.own("/sessions?active_only=yes")).await.refuses_field(&["query", "active_only"], "must be true or false");
        app.alice.get(&app.alice.own("/sessions?limit=0")).await.refuses_field(&["query", "limit"], "1 to 1000");
    }

    async fn a_page_ends_before_its_rows_weigh_too_much(app: TestApp) {
        app.alice.ensure().await;
        let large = json!({"conversation_data": {"x": "y".repeat(60_000)}, "metadata": {"x": "y".repeat(60_000)}});
        for _ in 0..40 {
            let _ = app.alice.post(&app.alice.own("/sessions"), large.clone()).await.ok();
        }
        let page = app.alice.get(&app.alice.own("/sessions")).await.ok();
        let pagination = &page["pagination"];
        assert_eq!((&pagination["returned"], &pagination["has_more"]), (&json!(34), &json!(true)));
        let next = pagination["next_cursor"].as_str().expect("a cursor");
        let rest = app.alice.get(&app.alice.own(&format!("/sessions?cursor={next}"))).await.ok();
        assert_eq!((&rest["pagination"]["returned"], &rest["pagination"]["has_more"]), (&json!(6), &json!(false)));
    }

    async fn the_status_is_set_by_query_or_json(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let done = app.alice.request("PUT".parse().expect("a method"), &format!("{path}/status?status=completed")).send().await;
        assert_eq!(done.ok(), envelope("Session status updated to completed", json!(true)));
        let row = app.alice.get(&path).await.data();
        assert_eq!((&row["status"], &row["is_active"]), (&json!("completed"), &json!(false)));
        assert_eq!(listed(&app.alice, "?active_only=true").await, Vec::<Value>::new());
        for status in ["active", "paused", "completed", "archived", "expired"] {
            let done = put(&app.alice, &format!("{path}/status"), json!({"status": status})).await.ok();
            assert_eq!(done["message"], format!("Session status updated to {status}"));
            let row = app.alice.get(&path).await.data();
            assert_eq!((&row["status"], &row["is_active"]), (&json!(status), &json!(status == "active")));
        }
        for (bad, rule) in [
            (json!({"status": "done"}), "must be active, paused, completed, archived or expired"),
            (json!({"status": "ACTIVE"}), "must be active"),
            (json!({"status": null}), "string"),
        ] {
            put(&app.alice, &format!("{path}/status"), bad).await.refuses_field(&["body", "status"], rule);
        }
        put(&app.alice, &format!("{path}/status"), json!({})).await.refuses_field(&["body", "status"], "required");
    }

    async fn title_data_and_summary_are_changed(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        app.advance(Duration::from_secs(60));
        let changed = app.alice.patch(&path, json!({"title": "New", "metadata": {"a": 1}})).await.ok();
        assert_eq!(changed["message"], "Session updated successfully");
        let later = "2025-07-27T00:12:26.479685Z";
        assert_eq!(masked(changed["data"].clone()), row(json!({"title": "New", "metadata": {"a": 1}, "updated_at": later})));
        assert_eq!(app.alice.get(&path).await.data(), changed["data"]);
        let summarised = put(&app.alice, &format!("{path}/summary"), json!({"summary": "Short"})).await.ok();
        assert_eq!(summarised["data"], true);
        let read = app.alice.get(&path).await.data();
        assert_eq!((&read["session_summary"], &read["title"]), (&json!("Short"), &json!("New")));
        app.alice.patch(&path, json!({})).await.refuses_field(&["body", "title"], "must be given");
        app.alice.patch(&path, json!({"title": "x".repeat(501)})).await.refuses_field(&["body", "title"], "0 to 500 characters");
        app.alice.patch(&path, json!({"metadata": []})).await.refuses_field(&["body", "metadata"], "must be a JSON object");
        put(&app.alice, &format!("{path}/summary"), json!({})).await.refuses_field(&["body", "summary"], "required");
    }

    async fn a_session_expires_at_its_instant_and_a_message_revives_it(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        app.advance(30 * DAY - Duration::from_micros(1));
        assert_eq!(listed(&app.alice, "?active_only=true").await.len(), 1);
        app.advance(Duration::from_micros(1));
        let row = app.alice.get(&path).await.data();
        assert_eq!((&row["status"], &row["is_active"], &row["expires_at"]), (&json!("expired"), &json!(false), &json!(ENDS)));
        assert_eq!(listed(&app.alice, "?active_only=true").await.len(), 0);
        assert_eq!(listed(&app.alice, "").await.len(), 1);
        app.advance(DAY);
        app.sweep().await;
        assert_eq!(app.alice.get(&path).await.data(), row, "swept or not, it is the same");
        let _ = app.alice.post(&format!("{path}/messages"), json!({"role": "user", "content": "Still there?"})).await.ok();
        let row = app.alice.get(&path).await.data();
        assert_eq!((&row["status"], &row["is_active"]), (&json!("active"), &json!(true)));
        assert_eq!((&row["last_activity"], &row["expires_at"]), (&json!("2025-08-27T00:11:26.479685Z"), &json!("2025-09-26T00:11:26.479685Z")));
        assert_eq!(listed(&app.alice, "?active_only=true").await.len(), 1);
    }

    async fn a_deleted_session_is_gone_with_all_that_hangs_on_it(app: TestApp) {
        app.alice.ensure().await;
        let (path, other) = (session(&app.alice).await, session(&app.alice).await);
        let id = path.rsplit('/').next().expect("an id").to_owned();
        for session in [&path, &other] {
            let _ = app.alice.post(&format!("{session}/messages"), json!({"role": "user", "content": "zebra"})).await.ok();
            let _ = app.alice.post(&format!("{session}/memory"), json!({"content": "striped"})).await.ok();
        }
        let gone = app.alice.delete(&path).await.ok();
        assert_eq!(gone, envelope(&format!("Session {id} deleted successfully"), json!({"session_id": id, "deleted": true})));
        for swept in [false, true] {
            app.alice.get(&path).await.refuses(404, "SessionNotFoundException", &format!("Session not found: {id}"));
            assert_eq!(app.alice.delete(&path).await.status, 404);
            for rest in ["/messages", "/memory", "/usage"] {
                assert_eq!(app.alice.get(&format!("{path}{rest}")).await.status, 404, "{rest}");
            }
            assert_eq!(app.alice.post(&format!("{path}/messages"), json!({"role": "user", "content": "x"})).await.status, 404);
            assert_eq!(put(&app.alice, &format!("{path}/status"), json!({"status": "active"})).await.status, 404);
            let found = app.alice.get(&app.alice.own("/messages/search?q=zebra")).await.data();
            assert_eq!(found.as_array().map(Vec::len), Some(1), "swept: {swept}");
            assert_eq!(listed(&app.alice, "").await.len(), 1);
            app.sweep().await;
        }
        assert_eq!(app.alice.get(&format!("{other}/memory")).await.data().as_array().map(Vec::len), Some(1));
    }

    async fn a_session_names_what_was_used_in_it(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let id = path.rsplit('/').next().expect("an id").to_owned();
        for (n, session) in [(1, json!(id)), (2, json!("another")), (3, json!(null)), (4, json!(id))] {
            let _ = app.alice.post(&app.alice.own("/usage"), json!({"event_type": "x", "tokens_used": n, "session_id": session})).await.ok();
        }
        let used = app.alice.get(&format!("{path}/usage")).await.ok();
        assert_eq!(used["message"], "Retrieved 2 usage records");
        assert_eq!(column(&used["data"], "tokens_used"), [4, 1]);
        assert_eq!(app.alice.get(&format!("{path}/usage?event_type=y")).await.data(), json!([]));
    }

    async fn what_is_no_session_is_refused(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/sessions");
        app.alice.post(&path, json!({"user_id": "auth0|bob"})).await.refuses_field(&["body", "user_id"], "must be the user of the path");
        app.alice.post(&path, json!({"title": "x".repeat(501)})).await.refuses_field(&["body", "title"], "0 to 500 characters");
        app.alice.post(&path, json!({"title": "a\0b"})).await.refuses_field(&["body", "title"], "NUL");
        app.alice.post(&path, json!({"metadata": "x"})).await.refuses_field(&["body", "metadata"], "must be a JSON object");
        app.alice.post(&path, json!({"conversation_data": {"x": "y".repeat(70_000)}})).await.refuses_field(&["body", "conversation_data"], "at most 65536 bytes");
        assert_eq!(app.alice.get(&path).await.data(), json!([]));
        for id in ["x", "4da97cfa-b95f-4898-8b7d-2786ff703ce0", "%00", "%7C", "..%2F..", &"9".repeat(300)] {
            let answer = app.alice.get(&format!("/api/v1/sessions/{id}")).await;
            assert_eq!(answer.with(404)["error_code"], "SessionNotFoundException", "{id}");
        }
    }

    async fn the_same_key_begins_one_session(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/sessions");
        let first = app.alice.post_once("k", &path, json!({"title": "Once"})).await;
        let again = app.alice.post_once("k", &path, json!({"title": "Once"})).await;
        assert_eq!((first.body.clone(), again.header("idempotent-replayed")), (again.body.clone(), Some("true")));
        assert_eq!(app.alice.post_once("k", &path, json!({"title": "Other"})).await.status, 422);
        assert_eq!(listed(&app.alice, "").await, ["Once"]);
    }

    async fn sessions_of_a_deleted_user_are_unknown_until_it_is_back(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        let message = json!({"role": "user", "content": "x"});
        let _ = app.alice.post(&format!("{path}/messages"), message.clone()).await.ok();
        let _ = app.alice.delete(&app.alice.own("")).await.ok();
        assert_eq!(app.backend.get(&path).await.status, 404);
        assert_eq!(app.backend.post(&format!("{path}/messages"), message.clone()).await.status, 404);
        assert_eq!(app.backend.post(&app.alice.own("/sessions"), json!({})).await.status, 404);
        app.alice.ensure().await;
        assert_eq!(app.alice.get(&path).await.data()["message_count"], 1);
        let _ = app.alice.post(&format!("{path}/messages"), message).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_may_live_for_ever() {
    let app = TestApp::start_with(Engine::Sqlite, &[("SESSION_DAYS", "0")]).await;
    app.alice.ensure().await;
    let path = session(&app.alice).await;
    let _ = app.alice.post(&format!("{path}/messages"), json!({"role": "user", "content": "x"})).await.ok();
    app.advance(4000 * DAY);
    let row = app.alice.get(&path).await.data();
    assert_eq!((&row["status"], &row["expires_at"]), (&json!("active"), &Value::Null));
    app.finish().await;
}
