//! §1: the same key and the same request, the same answer.

use crate::support::{balance, masked};
use serde_json::{Value, json};
use testkit::both_engines;

both_engines! {
    async fn the_first_answer_is_given_again_byte_for_byte(app: TestApp) {
        app.alice.ensure().await;
        let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 10})).await.ok()["transaction_id"].clone();
        let posts: [(&str, Value); 6] = [
            ("/credits/consume", json!({"amount": 1.5, "description": "é🦀"})),
            ("/credits/recharge", json!({"amount": 2})),
            ("/credits/grants", json!({"amount": 4})),
            ("/credits/refund", json!({"transaction_id": spent, "amount": 1})),
            ("/usage", json!({"event_type": "x"})),
            ("", json!({"auth0_id": "auth0|alice", "name": "Again"})),
        ];
        for (n, (path, body)) in posts.into_iter().enumerate() {
            let path = if path.is_empty() { "/api/v1/users/ensure".to_owned() } else { app.alice.own(path) };
            let first = app.backend.post_once(&format!("key {n}"), &path, body.clone()).await;
            assert_eq!((first.status, first.header("idempotent-replayed")), (200, None), "{path}: {}", first.text());
            let before = balance(&app.alice).await;
            app.advance(std::time::Duration::from_secs(24 * 3600));
            let again = app.backend.post_once(&format!("key {n}"), &path, body.clone()).await;
            assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")), "{path}");
            assert_eq!(first.body, again.body, "{path}");
            assert_eq!(balance(&app.alice).await, before, "{path}");
            // The body's own key is the same key.
            let mut other = body;
            other["idempotency_key"] = format!("key {n}").into();
            app.backend.post(&path, other).await
                .refuses(422, "IdempotencyMismatch", "The idempotency key was used before with a different request");
        }
        let patched = app.alice.request("PATCH".parse().expect("a method"), &app.alice.own("")).header("idempotency-key", "patch")
            .json(&json!({"name": "Once"})).send().await;
        let again = app.alice.request("PATCH".parse().expect("a method"), &app.alice.own("")).header("idempotency-key", "patch")
            .json(&json!({"name": "Once"})).send().await;
        assert_eq!((patched.status, &patched.body), (200, &again.body));
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }

    async fn another_request_with_the_key_is_a_mismatch(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        let _ = app.alice.post_once("k", &path, json!({"amount": 1})).await.ok();
        for (path, body) in [
            (path.clone(), json!({"amount": 2})), (path.clone(), json!({"amount": "1"})), (format!("{path}?x=1"), json!({"amount": 1})),
            (app.alice.own("/usage"), json!({"event_type": "x"})),
        ] {
            let refused = app.alice.post_once("k", &path, body).await.with(422);
            assert_eq!(refused["error_code"], "IdempotencyMismatch", "{path}");
        }
        assert_eq!(balance(&app.alice).await, 999);
        // The path's spelling does not matter, only what it names.
        let raw = app.alice.post_once("k", &path.replace("%7C", "|"), json!({"amount": 1})).await;
        assert_eq!((raw.status, raw.header("idempotent-replayed")), (200, Some("true")));
    }

    async fn a_key_in_the_body_does_the_same(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        let body = json!({"amount": 1, "idempotency_key": "in the body"});
        let first = app.alice.post(&path, body.clone()).await;
        let again = app.alice.post(&path, body).await;
        assert_eq!((first.status, &first.body), (200, &again.body));
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(balance(&app.alice).await, 999);
    }

    async fn a_failed_attempt_does_not_burn_the_key(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        let _ = app.alice.post_once("k", &path, json!({"amount": 0})).await.with(400);
        let _ = app.alice.post_once("k", &path, json!({"amount": 5000})).await.with(400);
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 4000})).await.ok();
        let late = app.alice.post_once("k", &path, json!({"amount": 5000})).await;
        assert_eq!((late.status, late.header("idempotent-replayed")), (200, None));
        assert_eq!(balance(&app.alice).await, 0);
    }

    async fn callers_keep_their_keys_apart(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        for (caller, user) in [(&app.alice, &app.alice), (&app.bob, &app.bob), (&app.backend, &app.alice), (&app.admin, &app.alice)] {
            let answer = caller.post_once("shared", &user.own("/credits/consume"), json!({"amount": 1})).await;
            assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None));
        }
        assert_eq!((balance(&app.alice).await, balance(&app.bob).await), (json!(997), json!(999)));
    }

    async fn a_key_is_1_to_255_printable_ascii_characters(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/usage");
        for good in ["x".repeat(255), "a b".to_owned(), "!~".to_owned()] {
            assert_eq!(app.alice.post_once(&good, &path, json!({"event_type": "x"})).await.status, 200);
            let _ = app.alice.post(&path, json!({"event_type": "x", "idempotency_key": format!("{}.", &good[1..])})).await.ok();
        }
        for bad in [String::new(), "x".repeat(256), "é".to_owned(), "tab\there".to_owned()] {
            app.alice.post_once(&bad, &path, json!({"event_type": "x"})).await.refuses_field(&["header", "Idempotency-Key"], "1 to 255 printable ASCII");
            app.alice.post(&path, json!({"event_type": "x", "idempotency_key": bad})).await.refuses_field(&["body", "idempotency_key"], "1 to 255 printable ASCII");
        }
    }

    async fn fifty_concurrent_calls_with_one_key_have_one_effect(app: TestApp) {
        app.alice.ensure().await;
        let calls: Vec<_> = (0..50).map(|_| {
            let alice = app.alice.clone();
            tokio::spawn(async move { alice.post_once("k", &alice.own("/credits/consume"), json!({"amount": 1})).await })
        }).collect();
        let (mut first, mut bodies) = (0, Vec::new());
        for call in calls {
            let answer = call.await.expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            first += i32::from(answer.header("idempotent-replayed").is_none());
            bodies.push(answer.body);
        }
        assert_eq!(first, 1);
        assert!(bodies.iter().all(|body| *body == bodies[0]));
        assert_eq!(balance(&app.alice).await, 999);
    }

    async fn one_key_sent_for_many_users_at_once_counts_for_one(app: TestApp) {
        let users: Vec<_> = (0..12).map(|n| app.user(&format!("many|{n}"))).collect();
        for user in &users {
            user.ensure().await;
        }
        for round in 0..5 {
            let calls: Vec<_> = users.iter().map(|user| {
                let (backend, path, key) = (app.backend.clone(), user.own("/credits/consume"), format!("round {round}"));
                tokio::spawn(async move { backend.post_once(&key, &path, json!({"amount": 1})).await.status })
            }).collect();
            let mut statuses = Vec::new();
            for call in calls {
                statuses.push(call.await.expect("an answer"));
            }
            statuses.sort_unstable();
            assert_eq!((statuses[0], &statuses[1..]), (200, &[422; 11][..]), "round {round}");
        }
        let mut spent = 0;
        for user in &users {
            spent += 1000 - balance(user).await.as_i64().expect("a whole balance");
        }
        assert_eq!(spent, 5);
    }

    async fn a_mismatch_tells_nothing_of_the_first_request(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        let _ = app.alice.post_once("k", &path, json!({"amount": 1, "description": "secret"})).await.ok();
        let refused = app.alice.post_once("k", &path, json!({"amount": 2})).await.with(422);
        assert_eq!(masked(refused)["error_details"], json!({"operation": "consume_credits", "user_id": "auth0|alice", "timestamp": crate::support::NOW}));
    }
}
