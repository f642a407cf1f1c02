//! The directory of users, and who is locked out of it.

use crate::support::{NOW, balance, column, masked, session};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::actors::user_path;
use testkit::{Actor, TestApp, both_engines};

const USERS: &str = "/api/v1/users";
const LOCKED: &str = "This account is suspended";

async fn ids(app: &TestApp, query: &str) -> Vec<Value> {
    column(&app.admin.get(&format!("{USERS}?{query}")).await.data(), "auth0_id")
}

async fn suspend(app: &TestApp, user: &Actor) -> Value {
    let path = user.own("/suspend");
    app.admin.post(&path, json!({"reason": "A chargeback is open"})).await.ok()
}

both_engines! {
    async fn an_admin_finds_users_by_how_their_names_begin(app: TestApp) {
        for (id, email, name) in [
            ("auth0|ada", "Ada@Example.com", "Ada Lovelace"),
            ("google-oauth2|1", "émile@example.org", "Émile Borel"),
            ("auth0|alan", "alan@example.com", "Alan 100%_Turing"),
        ] {
            let body = json!({"auth0_id": id, "email": email, "name": name});
            let _ = app.backend.post("/api/v1/users/ensure", body).await.ok();
            app.advance(Duration::from_secs(1));
        }
        let row = app.backend.get(&user_path("auth0|ada", "")).await.data()["id"].clone();
        for (query, found) in [
            ("", vec!["auth0|alan", "google-oauth2|1", "auth0|ada"]),
            ("query=auth0%7Ca", vec!["auth0|alan", "auth0|ada"]),
            ("query=AUTH0%7Ca", vec![]),
            ("query=ADA", vec!["auth0|ada"]),
            ("query=ada@example.com", vec!["auth0|ada"]),
            ("query=%C3%89MILE", vec!["google-oauth2|1"]),
            ("query=Alan%20100%25_", vec!["auth0|alan"]),
            ("query=lovelace", vec![]),
            ("query=%25", vec![]),
            (&format!("query={row}"), vec!["auth0|ada"]),
            ("plan=free&query=a", vec!["auth0|alan", "auth0|ada"]),
            ("plan=pro", vec![]),
            ("is_active=true&limit=1", vec!["auth0|alan"]),
            ("is_active=false", vec![]),
        ] {
            assert_eq!(ids(&app, query).await, found, "{query}");
        }
        let one = app.admin.get(&format!("{USERS}?query=auth0%7Cada")).await.data()[0].take();
        assert_eq!(one["id"], row);
        assert_eq!(one["created_at"], NOW);
        let mut one = one;
        one["id"] = json!(1);
        assert_eq!(one, json!({
            "user_id": "auth0|ada", "auth0_id": "auth0|ada", "id": 1, "email": "Ada@Example.com", "name": "Ada Lovelace",
            "plan": "free", "subscription_status": "free", "is_active": true, "suspended_at": null, "suspension_reason": null,
            "created_at": NOW, "updated_at": NOW,
        }));
    }

    async fn its_pages_hang_together_and_the_deleted_are_not_in_it(app: TestApp) {
        for n in 0..5 {
            let _ = app.user(&format!("auth0|n{n}")).ensure().await;
        }
        let _ = app.user("auth0|n2").delete(&user_path("auth0|n2", "")).await.ok();
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = app.admin.get(&format!("{USERS}?query=auth0%7Cn&limit=2{cursor}")).await.ok();
            found.extend(column(&page["data"], "auth0_id"));
            let Some(next) = page["pagination"]["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        found.sort_by_key(Value::to_string);
        assert_eq!(found, ["auth0|n0", "auth0|n1", "auth0|n3", "auth0|n4"]);
        app.admin.get(&format!("{USERS}?query={}", "x".repeat(255))).await.refuses_field(&["query", "query"], "0 to 254 characters");
        app.admin.get(&format!("{USERS}?is_active=maybe")).await.refuses_field(&["query", "is_active"], "");
        app.alice.get(USERS).await.refuses(403, "AuthorizationException", "This needs an admin");
    }

    async fn a_suspended_user_is_out_at_once_with_its_live_token(app: TestApp) {
        app.alice.ensure().await;
        let of_alice = session(&app.alice).await;
        let hold = app.alice.post(&app.alice.own("/credits/holds"), json!({"amount": 10})).await.ok();
        let hold = app.alice.own(&format!("/credits/holds/{}", hold["hold_id"].as_str().expect("an id")));
        let mut stream = app.alice.watch(&app.alice.own("/events")).await;
        let mut messages = app.alice.watch(&format!("{of_alice}/events")).await;
        let _ = stream.take(2).await;
        let answer = suspend(&app, &app.alice).await;
        assert_eq!(answer["message"], "User auth0|alice suspended");
        let mut profile = app.admin.get(&app.alice.own("")).await.data();
        assert_eq!(answer["data"], profile);
        assert_eq!(profile["is_active"].take(), false);
        // Its streams end, and every route refuses it.
        assert!(stream.next().await.is_none() && messages.next().await.is_none());
        for path in ["/api/v1/users/me", &app.alice.own(""), &app.alice.own("/credits/balance"), &of_alice, &app.bob.own(""), "/api/v1/prices"] {
            app.alice.get(path).await.refuses(403, "AuthorizationException", LOCKED);
        }
        app.alice.post("/api/v1/users/ensure", json!({})).await.refuses(403, "AuthorizationException", LOCKED);
        app.alice.delete(&app.alice.own("?erase=true")).await.refuses(403, "AuthorizationException", LOCKED);
        // A key spends nothing new for it.
        for (path, body) in [
            ("/credits/consume", json!({"amount": 1})),
            ("/charges", json!({"event_type": "x", "credits": 1})),
            ("/credits/holds", json!({"amount": 1})),
        ] {
            app.backend.post(&app.alice.own(path), body).await.refuses(403, "AuthorizationException", LOCKED);
        }
        let batch = json!({"charges": [{"user_id": "auth0|alice", "event_type": "x", "credits": 1}]});
        let batch = app.backend.post("/api/v1/charges/batch", batch).await.data();
        assert_eq!((&batch["failed"], &batch["results"][0]["message"]), (&json!(1), &json!(LOCKED)));
        // What is open is settled, what happened is recorded, and an admin may do everything.
        let _ = app.backend.post(&format!("{hold}/capture"), json!({"amount": 4})).await.ok();
        let _ = app.backend.post(&app.alice.own("/usage"), json!({"event_type": "x"})).await.ok();
        assert_eq!(app.backend.get(&app.alice.own("/credits/balance")).await.data(), 996);
        let _ = app.admin.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
        let listed = app.admin.get(&format!("{USERS}?is_active=false")).await.data();
        assert_eq!((&listed[0]["suspended_at"], &listed[0]["suspension_reason"]), (&json!(NOW), &json!("A chargeback is open")));
        let ensured = app.backend.post("/api/v1/users/ensure", json!({"auth0_id": "auth0|alice"})).await.ok();
        assert_eq!(ensured["is_active"], false);
        // And in again.
        let back = app.admin.post(&app.alice.own("/reactivate"), json!({})).await.ok();
        assert_eq!((&back["message"], &back["data"]["is_active"]), (&json!("User auth0|alice reactivated"), &json!(true)));
        assert_eq!(balance(&app.alice).await, 995);
        let me = app.alice.get("/api/v1/users/me").await.ok();
        assert_eq!(me["is_active"], true);
    }

    async fn a_suspension_holds_over_deletion_and_is_for_admins_only(app: TestApp) {
        app.alice.ensure().await;
        let _ = suspend(&app, &app.alice).await;
        let _ = app.backend.delete(&app.alice.own("")).await.ok();
        app.alice.post("/api/v1/users/ensure", json!({})).await.refuses(403, "AuthorizationException", LOCKED);
        app.admin.ensure().await;
        app.admin.post(&app.admin.own("/suspend"), json!({})).await.refuses(409, "ConflictException", "An admin cannot suspend itself");
        app.bob.ensure().await;
        let key = "suspend-1";
        let once = app.admin.post_once(key, &app.bob.own("/suspend"), json!({"reason": "x"})).await.ok();
        let again = app.admin.post_once(key, &app.bob.own("/suspend"), json!({"reason": "x"})).await.ok();
        assert_eq!(masked(once), masked(again));
        app.admin.post(&app.bob.own("/suspend"), json!({"reason": "x".repeat(1001)})).await.refuses_field(&["body", "reason"], "0 to 1000 characters");
    }
}
