//! §3 and §4: tokens for development, and users.

use crate::support::{NOW, balance, envelope, error, masked};
use serde_json::json;
use testkit::actors::user_path;
use testkit::both_engines;

const ENSURE: &str = "/api/v1/users/ensure";

both_engines! {
    async fn the_documented_dev_token_opens_the_documented_flow(app: TestApp) {
        let answer = app.anon.post_query("/auth/dev-token?user_id=auth0%7Ctest123&email=test@test.com").await.ok();
        let token = answer["token"].as_str().expect("a token").to_owned();
        assert_eq!(answer, json!({
            "token": token, "access_token": token, "token_type": "bearer", "user_id": "auth0|test123",
            "email": "test@test.com", "expires_in": 3600, "provider": "supabase", "timestamp": NOW,
        }));
        let user = app.bearing(&format!("Bearer {token}"));
        let made = user.post(ENSURE, json!({"auth0_id": "auth0|test123", "email": "test@test.com", "name": "Test User"})).await.ok();
        assert_eq!(masked(made), json!({
            "success": true, "user_id": "<row id>", "auth0_id": "auth0|test123", "email": "test@test.com", "name": "Test User",
            "credits": 1000, "credits_total": 1000, "plan": "free", "is_active": true, "created": true,
        }));
        app.advance(std::time::Duration::from_secs(3600 + 59));
        let _ = user.get("/api/v1/users/me").await.ok();
        app.advance(std::time::Duration::from_secs(1));
        user.get("/api/v1/users/me").await.refuses(401, "AuthenticationException", "Could not validate credentials");
    }

    async fn a_dev_token_comes_as_query_or_json_and_is_validated(app: TestApp) {
        let by_json = app.anon.post("/auth/dev-token", json!({"user_id": "plain.name"})).await.ok();
        assert_eq!((&by_json["user_id"], &by_json["email"]), (&json!("plain.name"), &json!(null)));
        for (body, field, rule) in [
            (json!({}), "user_id", "Field required"),
            (json!({"user_id": ""}), "user_id", "1 to 255 characters"),
            (json!({"user_id": "a b"}), "user_id", "1 to 255 characters"),
            (json!({"user_id": "a", "email": "nope"}), "email", "must be an e-mail address"),
        ] {
            app.anon.post("/auth/dev-token", body).await.refuses_field(&["body", field], rule);
        }
        app.anon.post_query("/auth/dev-token?user_id=a&email=@").await.refuses_field(&["query", "email"], "e-mail");
    }

    async fn ensure_refreshes_name_and_email_and_is_created_once(app: TestApp) {
        let first = app.alice.ensure().await;
        assert_eq!(first["created"], true);
        let again = app.alice.post(ENSURE, json!({"email": "new@example.com", "name": "  Alice Lovelace ", "extra": [1]})).await.ok();
        assert_eq!(masked(again), json!({
            "success": true, "user_id": "<row id>", "auth0_id": "auth0|alice", "email": "new@example.com", "name": "Alice Lovelace",
            "credits": 1000, "credits_total": 1000, "plan": "free", "is_active": true, "created": false,
        }));
        // Either name of the id, when it is the token's own.
        for body in [json!({"auth0_id": "auth0|alice"}), json!({"user_id": "auth0|alice"})] {
            assert_eq!(app.alice.post(ENSURE, body).await.ok()["user_id"], first["user_id"]);
        }
        let transactions = app.alice.get(&app.alice.own("/credits/transactions")).await.data();
        assert_eq!(transactions.as_array().map(Vec::len), Some(1), "one welcome grant");
    }

    async fn ensure_refuses_what_is_not_the_callers(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let refused = app.alice.post(ENSURE, json!({"auth0_id": "auth0|bob"})).await.with(403);
        assert_eq!(masked(refused), error("AuthorizationException", "auth0_id must be the token's own sub", json!({"operation": "ensure_user"})));
        app.alice.post(ENSURE, json!({"user_id": "auth0|nobody"})).await.refuses(403, "AuthorizationException", "auth0_id must be the token's own sub");
        app.alice.post(ENSURE, json!({"email": "BOB@example.com"})).await
            .refuses(409, "ConflictException", "email: the address belongs to another user");
        for (body, field, rule) in [
            (json!({"email": "nope"}), "email", "must be an e-mail address"),
            (json!({"email": ""}), "email", "must be an e-mail address"),
            (json!({"name": ""}), "name", "1 to 200 characters"),
            (json!({"name": "   "}), "name", "1 to 200 characters"),
            (json!({"name": "x".repeat(201)}), "name", "1 to 200 characters"),
            (json!({"name": 7}), "name", ""),
            (json!({"auth0_id": "a b"}), "auth0_id", "1 to 255 characters"),
        ] {
            app.alice.post(ENSURE, body).await.refuses_field(&["body", field], rule);
        }
        let _ = app.alice.post(ENSURE, json!({"name": "é".repeat(200)})).await.ok();
        app.anon.post(ENSURE, json!({})).await.refuses(401, "AuthenticationException", "Could not validate credentials");
    }

    async fn addresses_of_every_script_are_kept_as_written(app: TestApp) {
        for (n, email) in ["ä@exämple.de", "Mixed.Case+tag@Example.ORG", "用户@例子.广告"].into_iter().enumerate() {
            let made = app.backend.post(ENSURE, json!({"auth0_id": format!("script|{n}"), "email": email})).await.ok();
            assert_eq!(made["email"], email);
            let token = app.anon.post("/auth/dev-token", json!({"user_id": format!("script|{n}"), "email": email})).await.ok();
            let me = app.bearing(&format!("Bearer {}", token["token"].as_str().expect("a token"))).get("/api/v1/users/me").await.ok();
            assert_eq!(me["email"], email);
        }
        let taken = app.backend.post(ENSURE, json!({"auth0_id": "script|9", "email": "Ä@EXÄMPLE.DE"})).await;
        taken.refuses(409, "ConflictException", "email: the address belongs to another user");
    }

    async fn an_address_wanted_by_many_goes_to_one(app: TestApp) {
        let calls: Vec<_> = (0..30).map(|n| {
            let backend = app.backend.clone();
            let body = json!({"auth0_id": format!("many|{n}"), "email": "one@example.com"});
            tokio::spawn(async move { backend.post(ENSURE, body).await.status })
        }).collect();
        let mut statuses = Vec::new();
        for call in calls {
            statuses.push(call.await.expect("an answer"));
        }
        statuses.sort_unstable();
        assert_eq!((statuses[0], &statuses[1..]), (200, &[409; 29][..]));
    }

    async fn concurrent_patches_all_hold_together(app: TestApp) {
        app.alice.ensure().await;
        let calls: Vec<_> = (0..30).map(|n| {
            let alice = app.alice.clone();
            tokio::spawn(async move {
                let body = if n % 2 == 0 { json!({"name": format!("n{n}")}) } else { json!({"email": format!("n{n}@example.com")}) };
                alice.patch(&alice.own(""), body).await.status
            })
        }).collect();
        for call in calls {
            assert_eq!(call.await.expect("an answer"), 200);
        }
        let me = app.alice.get("/api/v1/users/me").await.ok();
        assert!(me["name"].as_str().is_some_and(|name| name.starts_with('n')), "{me}");
        assert!(me["email"].as_str().is_some_and(|email| email.starts_with('n')), "{me}");
    }

    async fn a_program_ensures_any_user_but_must_name_it(app: TestApp) {
        app.backend.post(ENSURE, json!({"email": "x@example.com"})).await.refuses_field(&["body", "auth0_id"], "Field required");
        let made = app.backend.post(ENSURE, json!({"auth0_id": "google-oauth2|1078", "email": "g@example.com"})).await.ok();
        assert_eq!((&made["created"], &made["name"], &made["email"]), (&json!(true), &json!(null), &json!("g@example.com")));
        let made = app.admin.post(ENSURE, json!({"auth0_id": "4da97cfa-b95f-4898-8b7d-2786ff703ce0", "name": "By Admin"})).await.ok();
        assert_eq!((&made["created"], &made["email"]), (&json!(true), &json!(null)));
    }

    async fn a_hundred_concurrent_first_calls_make_one_user_and_one_grant(app: TestApp) {
        let calls: Vec<_> = (0..100).map(|_| {
            let alice = app.alice.clone();
            tokio::spawn(async move { alice.ensure().await })
        }).collect();
        let mut created = 0;
        let mut rows = std::collections::BTreeSet::new();
        for call in calls {
            let answer = call.await.expect("an answer");
            created += i32::from(answer["created"] == true);
            rows.insert(answer["user_id"].as_i64());
        }
        assert_eq!((created, rows.len()), (1, 1));
        assert_eq!(balance(&app.alice).await, 1000);
        let transactions = app.alice.get(&app.alice.own("/credits/transactions")).await.data();
        assert_eq!(transactions.as_array().map(Vec::len), Some(1));
    }

    async fn me_is_404_before_ensure_and_whole_after(app: TestApp) {
        let refused = app.alice.get("/api/v1/users/me").await.with(404);
        assert_eq!(masked(refused), error("UserNotFoundException", "User not found: auth0|alice", json!({"operation": "get_me", "user_id": "auth0|alice"})));
        app.alice.ensure().await;
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 0.25})).await.ok();
        let profile = json!({
            "user_id": "auth0|alice", "auth0_id": "auth0|alice", "id": "<id>", "email": "alice@example.com", "name": "Alice",
            "credits": 999.75, "credits_remaining": 999.75, "credits_total": 1000, "plan": "free", "subscription_status": "free",
            "is_active": true, "created_at": NOW,
        });
        assert_eq!(masked(app.alice.get("/api/v1/users/me").await.ok()), profile);
        let wanted = envelope("User retrieved successfully", profile);
        assert_eq!(masked(app.alice.get(&app.alice.own("")).await.ok()), wanted);
        assert_eq!(masked(app.backend.get(&app.alice.own("")).await.ok()), wanted);
        app.backend.get("/api/v1/users/me").await.refuses(403, "AuthorizationException", "A service key has no user of its own");
    }

    async fn a_user_is_reached_by_every_spelling_of_its_id(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].clone();
        for path in ["/api/v1/users/auth0%7Calice".to_owned(), "/api/v1/users/auth0%7calice".to_owned(),
            "/api/v1/users/auth0|alice".to_owned(), format!("/api/v1/users/{row}")] {
            assert_eq!(app.alice.get(&path).await.data()["user_id"], "auth0|alice", "{path}");
            assert_eq!(app.alice.get(&format!("{path}/credits/balance")).await.data(), 1000, "{path}");
        }
        // The pipe really arrives raw.
        let raw = app.raw(&format!("GET /api/v1/users/auth0|alice HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {}\r\n\r\n", testkit::app::SERVICE_KEY)).await;
        assert!(raw.starts_with("HTTP/1.1 200 OK"), "{raw}");
        for id in ["google-oauth2|107812345", "4da97cfa-b95f-4898-8b7d-2786ff703ce0", "a.b_c@d+e:f-g", &"x".repeat(255)] {
            let user = app.user(id);
            let _ = app.backend.post(ENSURE, json!({"auth0_id": id})).await.ok();
            assert_eq!(user.get(&user.own("")).await.data()["auth0_id"], id);
        }
        for bad in ["a%20b", "%C3%A4", "a%2Fb", "a%00b", &"x".repeat(256), "a~b", "a%25b"] {
            app.backend.get(&user_path(bad, "")).await.refuses_field(&["path", "user_id"], "1 to 255 characters");
        }
        app.backend.get("/api/v1/users/%FF").await.refuses_field(&["path", "user_id"], "");
    }

    async fn short_digits_name_a_row_and_so_can_be_nobodys_id(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].to_string();
        let digits = app.user(&row);
        // They are alice's row, whoever else's token carries them.
        digits.get(&digits.own("")).await.refuses(403, "AuthorizationException", "This user's resources are not yours");
        for answer in [
            digits.post("/api/v1/users/ensure", json!({"name": "D"})).await,
            app.backend.post("/api/v1/users/ensure", json!({"auth0_id": "123456789012345"})).await,
        ] {
            answer.refuses_field(&["body", "auth0_id"], "must not be 1 to 15 digits alone, which is how a row id is named");
        }
        assert_eq!(app.backend.get(&format!("/api/v1/users/{row}")).await.data()["auth0_id"], "auth0|alice");
        assert_eq!(app.backend.get(&format!("/api/v1/users/0{row}")).await.with(404)["error_code"], "UserNotFoundException");
        let google = app.user("107851234567890123456");
        google.ensure().await;
        assert_eq!(google.get(&google.own("")).await.data()["auth0_id"], "107851234567890123456");
    }

    async fn patch_changes_what_it_names(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let path = app.alice.own("");
        let changed = app.alice.patch(&path, json!({"name": "Ada Lovelace"})).await.ok();
        assert_eq!(masked(changed), envelope("User updated successfully", json!({
            "user_id": "auth0|alice", "auth0_id": "auth0|alice", "id": "<id>", "email": "alice@example.com", "name": "Ada Lovelace",
            "credits": 1000, "credits_remaining": 1000, "credits_total": 1000, "plan": "free", "subscription_status": "free",
            "is_active": true, "created_at": NOW,
        })));
        assert_eq!(app.backend.patch(&path, json!({"email": "ada@example.com", "user_id": "auth0|alice"})).await.data()["email"], "ada@example.com");
        app.alice.patch(&path, json!({"email": "bob@example.com"})).await
            .refuses(409, "ConflictException", "email: the address belongs to another user");
        app.alice.patch(&path, json!({})).await.refuses_field(&["body", "name"], "either name or email");
        app.alice.patch(&path, json!({"name": "x", "user_id": "auth0|bob"})).await.refuses_field(&["body", "user_id"], "must be the user of the path");
        app.alice.patch(&path, json!({"name": " "})).await.refuses_field(&["body", "name"], "1 to 200 characters");
        assert_eq!(app.alice.get("/api/v1/users/me").await.ok()["name"], "Ada Lovelace");
        // The address that alice gave up is free.
        assert_eq!(app.bob.patch(&app.bob.own(""), json!({"email": "alice@example.com"})).await.data()["email"], "alice@example.com");
    }

    async fn deleting_amid_other_calls_costs_no_5xx(app: TestApp) {
        app.alice.ensure().await;
        let calls: Vec<_> = (0..90).map(|n| {
            let alice = app.alice.clone();
            tokio::spawn(async move {
                match n % 9 {
                    0 => alice.delete(&alice.own("")).await,
                    1 => alice.post(ENSURE, json!({})).await,
                    2 => alice.patch(&alice.own(""), json!({"name": format!("n{n}")})).await,
                    3 => alice.post(&alice.own("/usage"), json!({"event_type": "x"})).await,
                    4 => alice.post(&alice.own("/credits/recharge"), json!({"amount": 1})).await,
                    5 => alice.get(&alice.own("/credits/balance")).await,
                    6 => alice.get("/api/v1/users/me").await,
                    7 => alice.post("/api/v1/usage/batch", json!({"records": [{"event_type": "x"}]})).await,
                    _ => alice.post(&alice.own("/credits/consume"), json!({"amount": 1})).await,
                }.status
            })
        }).collect();
        for call in calls {
            let status = call.await.expect("an answer");
            assert!([200, 404].contains(&status), "{status}");
        }
        app.alice.ensure().await;
        let transactions = app.alice.get(&app.alice.own("/credits/transactions?transaction_type=grant")).await.data();
        assert_eq!(transactions.as_array().map(Vec::len), Some(1), "one welcome grant");
    }

    async fn a_deleted_user_is_gone_everywhere_and_comes_back_as_it_stood(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].clone();
        let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 400})).await.ok();
        let gone = app.alice.delete(&app.alice.own("")).await.ok();
        assert_eq!(masked(gone), envelope("User auth0|alice deleted successfully", json!({"user_id": "auth0|alice", "deleted": true})));
        for path in ["", "/usage", "/usage/stats", "/credits/balance", "/credits/transactions", "/credits/grants"] {
            app.backend.get(&app.alice.own(path)).await.refuses(404, "UserNotFoundException", "User not found: auth0|alice");
            app.alice.get(&app.alice.own(path)).await.refuses(404, "UserNotFoundException", "User not found: auth0|alice");
        }
        for (path, body) in [
            ("/credits/consume", json!({"amount": 1})), ("/credits/recharge", json!({"amount": 1})), ("/credits/grants", json!({"amount": 1})),
            ("/credits/refund", json!({"transaction_id": spent["transaction_id"]})), ("/usage", json!({"event_type": "call"})),
        ] {
            let refused = app.backend.post(&app.alice.own(path), body).await.with(404);
            assert_eq!(refused["error_code"], "UserNotFoundException", "{path}");
        }
        let _ = app.backend.patch(&app.alice.own(""), json!({"name": "x"})).await.with(404);
        let _ = app.backend.delete(&app.alice.own("")).await.with(404);
        let batch = app.backend.post("/api/v1/usage/batch", json!({"records": [{"user_id": "auth0|alice", "event_type": "call"}]})).await.data();
        assert_eq!((&batch["recorded"], &batch["failed"]), (&json!(0), &json!(1)));
        // Its address is free, and it comes back without it and without a second welcome grant.
        let _ = app.bob.post(ENSURE, json!({"email": "alice@example.com"})).await.ok();
        let back = app.backend.post(ENSURE, json!({"auth0_id": "auth0|alice"})).await.ok();
        assert_eq!(back, json!({
            "success": true, "user_id": row, "auth0_id": "auth0|alice", "email": null, "name": "Alice",
            "credits": 600, "credits_total": 1000, "plan": "free", "is_active": true, "created": false,
        }));
        assert_eq!(app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 600})).await.ok()["balance"], 0);
    }
}
