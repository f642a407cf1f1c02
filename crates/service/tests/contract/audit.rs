//! The audit log: what operators and keys did is written with what they did, once, and stays.

use crate::support::column;
use serde_json::{Value, json};
use testkit::{Actor, Engine, TestApp, both_engines};
use user_service::writer::{Command, Edit, Statement};

/// The rows that a query finds, newest first.
async fn log(app: &TestApp, query: &str) -> Vec<Value> {
    let found = app.admin.get(&format!("/api/v1/admin/audit{query}")).await.data();
    found.as_array().expect("a list").clone()
}

async fn actions(app: &TestApp, query: &str) -> Vec<Value> {
    column(&Value::Array(log(app, query).await), "action")
}

/// Tries to change rows behind the service's back.
async fn tamper(app: &TestApp, sql: &'static str) -> bool {
    let edit = Edit::new(kernel::UserRowId(0), vec![Statement::any(sql, Vec::new())]);
    app.inside().writer.execute(Command::Edit(edit)).await.is_ok()
}

async fn ensured(user: &Actor) -> String {
    format!("user:{}", user.ensure().await["user_id"])
}

both_engines! {
    async fn what_a_key_does_is_written_with_what_it_did(app: TestApp) {
        let alice = ensured(&app.alice).await;
        assert_eq!(log(&app, "").await, Vec::<Value>::new(), "what users do to themselves is not in it");
        let given = app.backend.request(reqwest::Method::POST, &app.alice.own("/credits/grants"))
            .header("x-request-id", "req-7").json(&json!({"amount": 25.5})).send().await.data();
        let rows = log(&app, "").await;
        assert_eq!(rows.len(), 1);
        let mut row = rows[0].clone();
        assert!(row["id"].as_i64().is_some_and(|id| id > 0));
        row["id"] = json!(1);
        let at = app.now().to_string();
        assert_eq!(row, json!({
            "id": 1, "at": at, "actor": "key:bootstrap", "actor_subject": null, "action": "create_grant", "target": alice, "request_id": "req-7",
            "client_ip": rows[0]["client_ip"], "details": {"transaction_id": given["transaction_id"], "amount": 25.5},
        }));
    }

    async fn one_effect_has_one_row(app: TestApp) {
        let alice = ensured(&app.alice).await;
        let grants = app.alice.own("/credits/grants");
        for _ in 0..3 {
            let _ = app.backend.post_once("k", &grants, json!({"amount": 1})).await.ok();
            let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 2, "reference_id": "pi_1"})).await.ok();
            let _ = app.backend.post("/api/v1/users/ensure", json!({"auth0_id": "auth0|carol", "email": "carol@example.com"})).await.ok();
        }
        assert_eq!(actions(&app, &format!("?target={alice}")).await, ["recharge_credits", "create_grant"]);
        assert_eq!(actions(&app, "?action=ensure_user").await, ["ensure_user"]);
        // What is refused has none, whoever refuses it.
        assert_eq!(app.backend.post(&grants, json!({"amount": -1})).await.status, 400);
        assert_eq!(app.backend.post(&app.alice.own("/credits/grants/grt_9_9/void"), json!({})).await.status, 404);
        assert_eq!(app.backend.post(&app.alice.own("/credits/adjust"), json!({"amount": -5000})).await.status, 400);
        assert_eq!(app.alice.post(&grants, json!({"amount": 1})).await.status, 403);
        assert_eq!(app.backend.post_once("k", &grants, json!({"amount": 2})).await.status, 422);
        assert_eq!(log(&app, "").await.len(), 3);
    }

    async fn what_admins_do_bears_their_name_and_no_personal_data(app: TestApp) {
        let alice = ensured(&app.alice).await;
        // An admin who never was a user, and one who is.
        let _ = app.admin.post(&app.alice.own("/credits/grants"), json!({"amount": 1})).await.ok();
        let _ = app.admin.request(reqwest::Method::PUT, "/api/v1/prices/acme-x").json(&json!({"rates": {"input": 0.1, "output": 0.2}})).send().await.ok();
        let admin = ensured(&app.admin).await;
        let _ = app.admin.post("/api/v1/admin/ledger/verify", json!({})).await;
        let _ = app.admin.patch(&app.alice.own(""), json!({"email": "new@example.com"})).await.ok();
        let _ = app.admin.delete(&app.alice.own("")).await.ok();
        let rows = log(&app, "").await;
        let seen: Vec<_> = rows.iter().map(|row| (row["action"].clone(), row["target"].clone())).collect();
        assert_eq!(seen, [
            (json!("delete_user"), json!(alice)), (json!("update_user"), json!(alice)), (json!("verify_ledger"), json!(null)),
            (json!("ensure_user"), json!(admin)), (json!("put_price"), json!("model:acme-x")), (json!("create_grant"), json!(alice)),
        ]);
        let stranger = rows[5]["actor"].as_str().expect("an actor");
        assert!(stranger.starts_with("admin:"), "{stranger}");
        assert_eq!((&rows[4]["actor"], &rows[5]["actor_subject"]), (&json!(stranger), &json!("auth0|admin")));
        assert_eq!((&rows[0]["actor"], &rows[0]["actor_subject"]), (&json!(admin), &json!(null)));
        assert_eq!(actions(&app, &format!("?actor={stranger}")).await, ["ensure_user", "put_price", "create_grant"]);
        let text = json!(rows).to_string();
        assert!(!text.contains("example.com") && !text.contains("alice"), "{text}");
    }

    async fn what_is_hot_is_left_to_the_ledger(app: TestApp) {
        app.alice.ensure().await;
        let own = |rest: &str| app.alice.own(rest);
        let _ = app.backend.post(&own("/credits/consume"), json!({"amount": 1})).await.ok();
        let _ = app.backend.post(&own("/usage"), json!({"event_type": "x"})).await.ok();
        let _ = app.backend.post(&own("/charges"), json!({"event_type": "x", "credits": 1})).await.ok();
        let _ = app.backend.post(&own("/sessions"), json!({})).await.ok();
        let _ = app.backend.get(&own("")).await.ok();
        assert_eq!(log(&app, "").await, Vec::<Value>::new());
        // What an admin does is in it, and what is removed, whoever does it.
        let _ = app.admin.post(&own("/credits/consume"), json!({"amount": 1})).await.ok();
        for by in [&app.backend, &app.admin, &app.alice] {
            let session = app.alice.post(&own("/sessions"), json!({})).await.ok()["session_id"].as_str().expect("an id").to_owned();
            let _ = by.delete(&format!("/api/v1/sessions/{session}")).await.ok();
        }
        assert_eq!(actions(&app, "").await, ["delete_session", "delete_session", "consume_credits"]);
    }

    async fn rows_are_only_ever_added(app: TestApp) {
        app.alice.ensure().await;
        for n in 1..=3 {
            let _ = app.backend.post(&app.alice.own("/credits/grants"), json!({"amount": n})).await.ok();
        }
        let before = log(&app, "").await;
        for sql in ["UPDATE audit_log SET actor = 'cli'", "DELETE FROM audit_log", "DELETE FROM audit_log WHERE id = 1"] {
            assert!(!tamper(&app, sql).await, "{sql}");
        }
        assert_eq!(log(&app, "").await, before);
    }

    async fn the_log_is_read_page_by_page(app: TestApp) {
        app.alice.ensure().await;
        let mut seen = Vec::new();
        for n in 1..=5 {
            if n == 4 { app.advance(std::time::Duration::from_secs(60)); }
            let _ = app.backend.post(&app.alice.own("/credits/grants"), json!({"amount": n})).await.ok();
        }
        let mut next = String::new();
        loop {
            let page = app.admin.get(&format!("/api/v1/admin/audit?limit=2{next}")).await.ok();
            seen.extend(page["data"].as_array().expect("rows").iter().map(|row| row["details"]["amount"].clone()));
            let Some(cursor) = page["pagination"]["next_cursor"].as_str() else { break };
            next = format!("&cursor={cursor}");
        }
        assert_eq!(seen, [5, 4, 3, 2, 1]);
        assert_eq!(log(&app, "?start_date=2025-07-27T00:12:00Z").await.len(), 2);
        assert_eq!(log(&app, "?end_date=2025-07-27T00:12:00Z&actor=key:bootstrap&action=create_grant").await.len(), 3);
        assert_eq!(log(&app, "?actor=cli").await.len(), 0);
        for (query, field) in [("?limit=0", "limit"), ("?actor=", "actor"), ("?start_date=x", "start_date"), ("?cursor=x", "cursor")] {
            app.admin.get(&format!("/api/v1/admin/audit{query}")).await.refuses_field(&["query", field], "");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_leave_one_row_each() {
    let app = TestApp::start(Engine::Sqlite).await;
    app.alice.ensure().await;
    let (path, backend) = (app.alice.own("/credits/grants"), &app.backend);
    let grants = (0..40).map(|n| backend.post(&path, json!({"amount": if n % 4 == 0 { 0 } else { 1 }})));
    let granted = futures_util::future::join_all(grants).await;
    assert_eq!(granted.iter().filter(|answer| answer.status == 200).count(), 30);
    assert_eq!(log(&app, "?limit=100").await.len(), 30);
    app.finish().await;
}
