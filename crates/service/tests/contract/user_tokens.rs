//! Tokens for users: a browser asks for its own balance, and for nothing else.

use crate::keys::make;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Actor, TestApp, both_engines};

const TOKENS: &str = "/auth/user-tokens";

async fn issue(by: &Actor, user: &Actor, scopes: Value) -> Value {
    by.post(TOKENS, json!({"user_id": user.id(), "scopes": scopes})).await.ok()
}

fn browser(app: &TestApp, issued: &Value) -> Actor {
    app.bearing(&format!("Bearer {}", issued["token"].as_str().expect("a token")))
}

both_engines! {
    async fn a_browser_asks_for_its_own_balance_and_for_nothing_else(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].clone();
        app.bob.ensure().await;
        let issued = issue(&app.backend, &app.alice, json!(["credits:read"])).await;
        assert_eq!((&issued["expires_in"], &issued["token_type"], &issued["user_id"], &issued["scopes"]),
            (&json!(300), &json!("bearer"), &json!("auth0|alice"), &json!(["credits:read"])));
        assert_eq!((&issued["expires_at"], &issued["access_token"]), (&json!("2025-07-27T00:16:26.000000Z"), &issued["token"]));
        let browser = browser(&app, &issued);
        for path in [app.alice.own("/credits/balance"), format!("/api/v1/users/{row}/credits/transactions")] {
            let _ = browser.get(&path).await.ok();
        }
        let lacks = |scope: &str| format!("The token lacks the scope {scope}");
        let refused = |answer: testkit::Answer, says: &str| answer.refuses(403, "AuthorizationException", says);
        refused(browser.get(&app.alice.own("")).await, &lacks("users:read"));
        refused(browser.get(&app.alice.own("/usage")).await, &lacks("usage:read"));
        refused(browser.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await, &lacks("credits:spend"));
        refused(browser.post("/api/v1/users/ensure", json!({})).await, &lacks("users:write"));
        refused(browser.get("/api/v1/users/me").await, "A token with scopes is not good for this");
        refused(browser.post("/api/v1/payments/create-intent", json!({"amount": 100})).await, "A token with scopes is not good for this");
        refused(browser.get("/api/v1/admin/audit").await, &lacks("admin"));
        refused(browser.post(TOKENS, json!({"user_id": "auth0|alice", "scopes": ["credits:read"]})).await, &lacks("tokens:issue"));
        refused(browser.get(&app.bob.own("/credits/balance")).await, "This user's resources are not yours");
        let log = app.admin.get("/api/v1/admin/audit?action=create_user_token").await.data();
        assert_eq!((&log[0]["target"], &log[0]["details"]), (&json!(format!("user:{row}")), &json!({"scopes": "credits:read", "expires_in": 300})));
    }

    async fn what_a_user_may_not_do_to_itself_no_token_lets_it(app: TestApp) {
        app.alice.ensure().await;
        let able = browser(&app, &issue(&app.backend, &app.alice, json!(["credits:*", "users:*"])).await);
        assert_eq!(able.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok()["balance"], 999);
        assert_eq!(able.post(&app.alice.own("/credits/grants"), json!({"amount": 1})).await.status, 403);
        assert_eq!(able.patch(&app.alice.own(""), json!({"name": "A"})).await.status, 200);
    }

    async fn a_token_ends_with_its_time_its_key_and_its_user(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let path = app.alice.own("/credits/balance");
        let (id, program) = make(&app, "tokens:issue credits:read", json!({})).await;
        let of_key = browser(&app, &issue(&program, &app.alice, json!(["credits:read"])).await);
        let of_admin = browser(&app, &issue(&app.admin, &app.alice, json!(["credits:read"])).await);
        let short = app.backend.post(TOKENS, json!({"user_id": "auth0|alice", "scopes": ["credits:read"], "expires_in": 2})).await.ok();
        let short = browser(&app, &short);
        for token in [&of_key, &of_admin, &short] {
            let _ = token.get(&path).await.ok();
        }
        // One call for both, and a stream ends with the token that it was opened with.
        assert_eq!(short.request("HEAD".parse().expect("a method"), &path).send().await.status, 200);
        let watcher = app.backend.post(TOKENS, json!({"user_id": "auth0|alice", "scopes": ["credits:read", "usage:read"], "expires_in": 2})).await.ok();
        let mut stream = browser(&app, &watcher).watch(&app.alice.own("/events")).await;
        assert_eq!(stream.take(2).await.len(), 2);
        app.advance(Duration::from_secs(2));
        assert_eq!(short.get(&path).await.status, 401);
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
        assert!(stream.rest().await.is_empty());
        let _ = app.admin.delete(&format!("/api/v1/admin/keys/{id}")).await.ok();
        assert_eq!((of_key.get(&path).await.status, of_admin.get(&path).await.status), (401, 200));
        let _ = app.alice.delete(&app.alice.own("")).await.ok();
        assert_eq!(of_admin.get(&path).await.status, 404);
    }

    async fn nobody_gives_more_than_it_has(app: TestApp) {
        app.alice.ensure().await;
        let ask = |scopes: Value| json!({"user_id": "auth0|alice", "scopes": scopes});
        let (_, program) = make(&app, "tokens:issue credits:read", json!({})).await;
        program.post(TOKENS, ask(json!(["credits:read", "credits:spend"]))).await
            .refuses(403, "AuthorizationException", "A key gives no scope that it does not have itself");
        let (_, other) = make(&app, "credits:read", json!({})).await;
        other.post(TOKENS, ask(json!(["credits:read"]))).await.refuses(403, "AuthorizationException", "The key lacks the scope tokens:issue");
        assert_eq!(app.alice.post(TOKENS, ask(json!(["credits:read"]))).await.status, 403);
        for (body, field, rule) in [
            (ask(json!(["admin"])), "scopes", "must not contain admin"),
            (ask(json!(["tokens:issue"])), "scopes", "must not contain tokens:issue"),
            (ask(json!([])), "scopes", "1 to 32"),
            (ask(json!(["fly"])), "scopes", "is none of"),
            (json!({"user_id": "auth0|alice", "scopes": ["credits:read"], "expires_in": 0}), "expires_in", "1 to 3600"),
            (json!({"user_id": "auth0|alice", "scopes": ["credits:read"], "expires_in": 3601}), "expires_in", "1 to 3600"),
            (json!({"scopes": ["credits:read"]}), "user_id", "Field required"),
        ] {
            app.backend.post(TOKENS, body).await.refuses_field(&["body", field], rule);
        }
        let unknown = app.backend.post(TOKENS, json!({"user_id": "auth0|nobody", "scopes": ["credits:read"]})).await;
        unknown.refuses(404, "UserNotFoundException", "User not found: auth0|nobody");
    }

    async fn tokens_of_different_issuers_never_mix(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/balance");
        let issued = issue(&app.backend, &app.alice, json!(["credits:read"])).await["token"].as_str().expect("a token").to_owned();
        let parts: Vec<&str> = issued.split('.').collect();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).expect("base64")).expect("claims");
        assert_eq!((&claims["iss"], &claims["aud"], &claims["azp"]), (&json!("user-service"), &json!("user-service"), &json!("key:bootstrap")));
        // The same claims, signed by the identity provider's secret: under its header and under ours.
        let theirs = testkit::actors::sign(&claims, testkit::app::JWT_SECRET);
        let forged = format!("{}.{}", parts[0], theirs.split_once('.').expect("a token").1);
        let more = URL_SAFE_NO_PAD.encode(crate::support::with(claims, json!({"scope": "credits:read users:write"})).to_string());
        for bad in [theirs, forged, format!("{}.{more}.{}", parts[0], parts[2]), format!("{}..{}", parts[0], parts[2]), format!("{}.", parts[0])] {
            assert_eq!(app.bearing(&format!("Bearer {bad}")).get(&path).await.status, 401, "{bad}");
        }
        assert_eq!(app.bearing(&format!("Bearer {issued}")).get(&path).await.status, 200);
    }
}
