//! Endpoints that ask for something else, and those that are made at the same time.

use super::{ENDPOINTS, newest, numbers, place_all, register, run};
use serde_json::json;
use std::collections::HashSet;
use testkit::{TestApp, both_engines};
use user_service::webhooks::delivery::store;
use user_service::webhooks::edits;
use user_service::webhooks::model::SignatureKind;
use user_service::webhooks::request::{Change, NewEndpoint};
use user_service::webhooks::secret::SigningKey;
use user_service::writer::Command;

async fn spend(app: &TestApp, amount: i64) {
    let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": amount})).await.ok();
}

both_engines! {
    async fn what_an_endpoint_asks_for_counts_for_all_that_its_cursor_has_yet_to_reach(app: TestApp) {
        let path = register(&app, json!({"event_types": ["credit.granted"], "enabled": false})).await;
        let _ = register(&app, json!({"event_types": ["credit.consumed"], "enabled": false})).await;
        app.alice.ensure().await;
        place_all(&app).await;
        let before = newest(&app).await;
        spend(&app, 1).await;
        place_all(&app).await;
        let id = numbers(&app, "SELECT MIN(id) FROM webhook_endpoints").await[0];
        let head = newest(&app).await;
        let ahead = async || {
            let read = store::ahead(&app.inside().db, (id, &HashSet::new()), (before, head), 100).await.expect("a read");
            read.events.into_iter().map(|event| event.event.event_type).collect::<Vec<_>>()
        };
        assert!(ahead().await.is_empty());
        let _ = app.backend.patch(&path, json!({"event_types": ["credit.consumed"]})).await.ok();
        assert_eq!(ahead().await, ["credit.consumed"]);
    }

    async fn endpoints_that_are_made_at_the_same_time_are_counted(app: TestApp) {
        run(&app, "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 95) INSERT INTO webhook_endpoints \
            (endpoint_id, url, event_types, user_ids, headers, status, created_at, created_by, updated_at, revision, position, leased_until) \
            SELECT 'ep_' || i, 'https://example.com/', '[\"*\"]', '[]', '{}', 'disabled', 1, 'cli', 1, 1, 0, 0 FROM n").await;
        let inside = app.inside();
        let mut made = tokio::task::JoinSet::new();
        for n in 1..=16 {
            let url = Some("https://example.com/".parse().expect("an address"));
            let settings = Change { url, event_types: Some(vec!["credit.*".to_owned()]), enabled: Some(false), ..Change::default() };
            let asked = NewEndpoint { settings, signing: SigningKey::fresh(SignatureKind::V1) };
            let mut edit = edits::create(&inside.db, &format!("ep_new{n}"), &asked, "cli", app.now());
            // As if they came from so many processes: each in a transaction of its own.
            edit.user = kernel::UserRowId(n);
            let writer = inside.writer.clone();
            made.spawn(async move { writer.execute(Command::Edit(edit)).await.is_ok() });
        }
        let made = made.join_all().await.into_iter().filter(|made| *made).count();
        let there = numbers(&app, "SELECT COUNT(*) FROM webhook_endpoints").await;
        assert_eq!((made, there), (5, vec![100]));
        let refused = app.backend.post(ENDPOINTS, json!({"url": "https://example.com/", "event_types": ["*"]})).await;
        refused.refuses(409, "ConflictException", "There are 100 webhook endpoints; delete those that are not needed");
    }
}
