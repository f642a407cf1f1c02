//! §6: what is remembered of a session.

use crate::support::{NOW, column, envelope, masked, session};
use serde_json::json;
use testkit::both_engines;

both_engines! {
    async fn memory_is_added_listed_and_forgotten(app: TestApp) {
        app.alice.ensure().await;
        let path = format!("{}/memory", session(&app.alice).await);
        let added = app.alice.post(&path, json!({"memory_type": "preference", "content": "Trains", "metadata": {"n": 12}})).await.ok();
        assert_eq!(masked(added.clone()), envelope("Memory added to session", json!({
            "id": "<id>", "session_id": "<uuid>", "user_id": "auth0|alice", "memory_type": "preference", "content": "Trains",
            "metadata": {"n": 12}, "created_at": NOW,
        })));
        let plain = app.alice.post_query(&format!("{path}?content=Window%20seat")).await.data();
        assert_eq!((&plain["memory_type"], &plain["metadata"]), (&json!("conversation"), &json!({})));
        assert_eq!(app.alice.get(&path).await.data(), json!([plain, added["data"]]));
        assert_eq!(app.alice.get(&format!("{path}?memory_type=preference")).await.data(), json!([added["data"]]));
        assert_eq!(app.alice.get(&format!("{path}?limit=1&offset=1")).await.data(), json!([added["data"]]));
        let id = added["data"]["id"].clone();
        assert_eq!(app.alice.delete(&format!("{path}/{id}")).await.data(), json!({"id": id, "deleted": true}));
        for gone in [id.to_string(), "0".to_owned(), "x".to_owned(), "99999999999999999999".to_owned()] {
            assert_eq!(app.alice.delete(&format!("{path}/{gone}")).await.with(404)["error_code"], "NotFoundException");
        }
        assert_eq!(column(&app.alice.get(&path).await.data(), "content"), ["Window seat"]);
    }

    async fn what_is_no_memory_is_refused(app: TestApp) {
        app.alice.ensure().await;
        let path = format!("{}/memory", session(&app.alice).await);
        app.alice.post(&path, json!({})).await.refuses_field(&["body", "content"], "required");
        app.alice.post(&path, json!({"content": {"a": 1}})).await.refuses_field(&["body", "content"], "string");
        app.alice.post(&path, json!({"content": "x".repeat(262_145)})).await.refuses_field(&["body", "content"], "at most 262144 bytes");
        app.alice.post(&path, json!({"content": "x", "memory_type": ""})).await.refuses_field(&["body", "memory_type"], "1 to 50");
        assert_eq!(app.alice.get(&path).await.data(), json!([]));
    }

    async fn a_session_remembers_a_thousand_things(app: TestApp) {
        app.alice.ensure().await;
        let path = format!("{}/memory", session(&app.alice).await);
        let calls: Vec<_> = (0..1_010).map(|n| {
            let (alice, path) = (app.alice.clone(), path.clone());
            tokio::spawn(async move { alice.post(&path, json!({"content": n.to_string()})).await.status })
        }).collect();
        let mut full = 0;
        for call in calls {
            match call.await.expect("an answer") {
                200 => {}
                409 => full += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!(full, 10);
        let rows = app.alice.get(&format!("{path}?limit=1000")).await.ok();
        assert_eq!((&rows["pagination"]["returned"], &rows["pagination"]["has_more"]), (&json!(1000), &json!(false)));
        let _ = app.alice.delete(&format!("{path}/{}", rows["data"][0]["id"])).await.ok();
        let _ = app.alice.post(&path, json!({"content": "again"})).await.ok();
        app.alice.post(&path, json!({"content": "full"})).await
            .refuses(409, "ConflictException", "The session remembers 1000 things already; forget one first");
    }
}
