//! Tokens of a real OpenID Connect provider: found by discovery, in force as long as their keys are published.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kernel::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::oidc::{AUDIENCE, OidcProvider};
use testkit::{Actor, Engine, TestApp};

async fn with(provider: &OidcProvider, words: &str) -> TestApp {
    let issuer = format!("{} name=idp audience={AUDIENCE} {words}", provider.url());
    TestApp::start_with(Engine::Sqlite, &[("OIDC_ISSUERS", &issuer)]).await
}

fn access(tokens: &Value) -> &str {
    tokens["access_token"].as_str().expect("a token")
}

fn bearing(app: &TestApp, token: &str) -> Actor {
    app.bearing(&format!("Bearer {token}"))
}

async fn status(app: &TestApp, token: &str) -> u16 {
    bearing(app, token).post("/api/v1/noop", json!({})).await.status
}

/// The provider's clock goes; the service's is set after it, to when the token was made.
fn catch_up(app: &TestApp, token: &str) {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Value = serde_json::from_slice(&claims.expect("claims")).expect("claims");
    let made = Timestamp::from_micros(claims["iat"].as_i64().expect("iat") * 1_000_000);
    let ahead = u64::try_from(made.micros() - app.now().micros()).expect("later");
    app.advance(Duration::from_micros(ahead));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_programs_of_a_real_provider_come_in() {
    let provider = OidcProvider::start(&["r1", "e1"]).await;
    let app = with(&provider, "user_prefix=idp| admin_claim=groups admin_role=Admins services=true").await;
    for alg in ["rs", "es"] {
        let login = provider.login(alg, "ada").await;
        if alg == "rs" {
            catch_up(&app, access(&login));
        }
        let ada = bearing(&app, access(&login));
        let made =
            ada.post("/api/v1/users/ensure", json!({"email": "ada@example.com", "name": "Ada"})).await.ok();
        assert_eq!((&made["auth0_id"], &made["created"]), (&json!("idp|ada"), &json!(alg == "rs")));
        assert_eq!(ada.get("/api/v1/users/me").await.ok()["auth0_id"], "idp|ada");
        // A user's token names scopes of ours, and gains nothing by it.
        let grant = ada.post("/api/v1/users/idp%7Cada/credits/grants", json!({"amount": 5})).await;
        assert_eq!(grant.status, 403);
        // An ID token is for the web page that asked for it.
        assert_eq!(status(&app, login["id_token"].as_str().expect("a token")).await, 401);

        let root = provider.login(alg, "root").await;
        let verified = bearing(&app, access(&root)).get("/api/v1/users/idp%7Cada").await;
        assert_eq!(verified.status, 200, "an admin by the group's name");

        let program = bearing(&app, &provider.program(alg, "users:read credits:spend").await);
        assert_eq!(program.get("/api/v1/users/idp%7Cada").await.ok()["data"]["auth0_id"], "idp|ada");
        let _ = program.post("/api/v1/users/idp%7Cada/credits/consume", json!({"amount": 1})).await.ok();
        let grant = program.post("/api/v1/users/idp%7Cada/credits/grants", json!({"amount": 5})).await;
        grant.refuses(403, "AuthorizationException", "The key lacks the scope credits:grant");
        let narrow = bearing(&app, &provider.program(alg, "credits:spend").await);
        assert_eq!(narrow.get("/api/v1/users/idp%7Cada").await.status, 403);
    }
    let info = app.anon.get("/auth/info").await.ok();
    assert_eq!(info["info"]["configured_providers"], json!(["supabase", "idp"]));
    assert_eq!(
        info["info"]["issuers"][0],
        json!({"provider": "idp", "issuer": provider.url(), "keys": "published"})
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_without_a_restart() {
    let provider = OidcProvider::start(&["r1", "e1"]).await;
    let app = with(&provider, "").await;
    let old = provider.login("rs", "ada").await;
    catch_up(&app, access(&old));
    assert_eq!(status(&app, access(&old)).await, 200);

    // The new key signs at once; what the old one signed goes on while it is published.
    provider.rotate(&["r2", "r1", "e1"]).await;
    let new = provider.login("rs", "ada").await;
    assert_eq!(status(&app, access(&new)).await, 200);
    assert_eq!(status(&app, access(&old)).await, 200);

    // The old key is taken back. The next look, here because of a third key, ends its tokens.
    provider.rotate(&["r3", "r2", "e1"]).await;
    let third = provider.login("rs", "ada").await;
    assert_eq!(status(&app, access(&third)).await, 401, "the last look was less than 30 s ago");
    app.advance(Duration::from_secs(30));
    assert_eq!(status(&app, access(&third)).await, 200);
    assert_eq!(status(&app, access(&old)).await, 401);
    assert_eq!(status(&app, access(&new)).await, 200);

    // A provider that went away keeps its users.
    drop(provider);
    app.advance(Duration::from_secs(60));
    assert_eq!(status(&app, access(&third)).await, 200);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_stay_outside_unless_their_issuer_may_speak_for_them() {
    let provider = OidcProvider::start(&["r1", "e1"]).await;
    let app = with(&provider, "").await;
    let program = provider.program("rs", "users:read").await;
    catch_up(&app, &program);
    assert_eq!(status(&app, &program).await, 401);
    app.finish().await;
}
