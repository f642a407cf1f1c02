//! §2 and §3: what the service says of itself, its pages, and what is around every request.

use crate::support::NOW;
use serde_json::json;
use testkit::{Engine, TestApp, both_engines};

both_engines! {
    async fn the_root_and_the_documented_health(app: TestApp) {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(app.anon.get("/").await.ok(), json!({"service": "User Service", "status": "operational", "version": version, "timestamp": NOW}));
        app.advance(std::time::Duration::from_secs(90));
        let mut health = app.anon.get("/health").await.ok();
        let engine = health["checks"]["engine"].take();
        assert!(engine == "sqlite" || engine == "postgres");
        assert_eq!(health, json!({
            "status": "healthy", "timestamp": "2025-07-27T00:12:56.479685Z",
            "services": {"status": "success", "data": {
                "service": "UserServiceV2", "status": "operational", "version": version, "repository": "active",
                "features": ["user_management", "credit_management", "subscription_integration", "analytics"],
            }},
            "uptime": "operational", "uptime_seconds": 90,
            "checks": {"database": "ok", "engine": null, "token_keys": "ok", "object_store": "ok", "file_store": "local", "rate_limiter": "off", "waiting_writes": 0},
        }));
        assert_eq!(app.anon.get("/health/live").await.ok(), json!({"status": "alive"}));
        assert_eq!(app.anon.get("/health/ready").await.ok(), json!({"status": "ready"}));
    }

    async fn the_documented_auth_info(app: TestApp) {
        assert_eq!(app.anon.get("/auth/info").await.ok(), json!({
            "status": "multi-provider",
            "info": {"available_providers": ["auth0", "supabase"], "default_provider": "both", "auth0_enabled": true,
                "supabase_enabled": true, "configured_providers": ["supabase"],
                "issuers": [{"provider": "supabase", "issuer": "supabase", "keys": "secret"}]},
            "timestamp": NOW,
        }));
    }

    async fn request_ids_are_taken_made_and_echoed(app: TestApp) {
        let ask = |name: &'static str, value: &'static str| {
            let request = app.anon.request("GET".parse().expect("a method"), "/health/live").header(name, value);
            async move { request.send().await.header("x-request-id").expect("an id").to_owned() }
        };
        assert_eq!(ask("x-request-id", "my-request.1").await, "my-request.1");
        assert_eq!(ask("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").await, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(ask("x-request-id", "no spaces").await.len(), 36);
        assert_eq!(ask("traceparent", "garbage").await.len(), 36);
        assert_ne!(ask("x-other", "a").await, ask("x-other", "a").await);
        let refused = app.anon.request("GET".parse().expect("a method"), "/api/v1/users/me").header("x-request-id", "r-7").send().await;
        assert_eq!((refused.with(401)["request_id"].as_str(), refused.header("x-request-id")), (Some("r-7"), Some("r-7")));
    }

    async fn browsers_of_configured_origins_may_call(app: TestApp) {
        let preflight = |origin: &'static str| {
            let request = app.anon.request("OPTIONS".parse().expect("a method"), "/api/v1/users/auth0%7Ca/credits/consume")
                .header("origin", origin).header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization,content-type,idempotency-key");
            async move { request.send().await }
        };
        let allowed = preflight("http://localhost:3000").await;
        assert_eq!(allowed.status, 200);
        assert_eq!(allowed.header("access-control-allow-origin"), Some("http://localhost:3000"));
        assert_eq!(allowed.header("access-control-allow-credentials"), Some("true"));
        for (header, word) in [("access-control-allow-methods", "PATCH"), ("access-control-allow-headers", "idempotency-key"), ("access-control-allow-headers", "authorization")] {
            assert!(allowed.header(header).is_some_and(|value| value.contains(word)), "{header}: {word}");
        }
        assert_eq!(preflight("https://evil.example").await.header("access-control-allow-origin"), None);
        let simple = app.anon.request("GET".parse().expect("a method"), "/auth/info").header("origin", "http://localhost:5173").send().await;
        assert_eq!(simple.header("access-control-allow-origin"), Some("http://localhost:5173"));
        assert!(simple.header("access-control-expose-headers").is_some_and(|value| value.contains("x-request-id")));
        // An error answer carries them too, or the page could not read it.
        let refused = app.anon.request("GET".parse().expect("a method"), "/api/v1/users/me").header("origin", "http://localhost:5173").send().await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("http://localhost:5173")));
    }

    async fn the_pages_load_nothing_from_elsewhere(app: TestApp) {
        for path in ["/docs/", "/redoc", "/redoc/redoc.standalone.js", "/redoc/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/swagger-initializer.js"] {
            let page = app.anon.get(path).await;
            assert_eq!(page.status, 200, "{path}");
            assert!(page.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'self'")), "{path}");
            if path.ends_with('/') || path == "/redoc" {
                let text = page.text();
                assert!(!text.contains("src=\"http") && !text.contains("href=\"http") && !text.contains("//cdn"), "{path}: {text}");
            }
        }
        let moved = app.anon.get("/docs").await;
        assert!(moved.status == 200 || moved.header("location").is_some_and(|to| to.ends_with("/docs/")), "{}", moved.status);
        assert_eq!(app.anon.get("/openapi.json").await.ok()["openapi"], "3.1.0");
    }

    async fn the_numbers_count_requests(app: TestApp) {
        let _ = app.anon.get("/health/live").await.ok();
        let numbers = app.anon.get("/metrics").await;
        assert_eq!(numbers.status, 200);
        assert!(numbers.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
        assert!(numbers.text().contains("/health/live"), "{}", numbers.text());
    }

    async fn every_answer_forbids_sniffing_and_storing(app: TestApp) {
        app.alice.ensure().await;
        for answer in [app.alice.get("/api/v1/users/me").await, app.anon.get("/api/v1/users/me").await, app.anon.get("/nowhere").await] {
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }

    async fn head_answers_as_get_does_without_a_body(app: TestApp) {
        let head = app.anon.request("HEAD".parse().expect("a method"), "/health/live").send().await;
        assert_eq!((head.status, head.body.len(), head.header("content-type")), (200, 0, Some("application/json")));
    }

    async fn a_noop_reads_and_answers(app: TestApp) {
        let done = app.alice.post("/api/v1/noop", json!({"any": ["thing"]})).await.ok();
        assert_eq!(done, json!({"success": true, "status": "success", "message": "Nothing was done", "timestamp": NOW, "data": {}}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_switched_off_is_not_there() {
    let settings =
        [("ENVIRONMENT", "staging"), ("METRICS_ENABLED", "false"), ("CORS_ORIGINS", "https://app.example")];
    let app = TestApp::start_with(Engine::Sqlite, &settings).await;
    app.anon.post("/auth/dev-token", json!({"user_id": "a"})).await.refuses(
        404,
        "NotFoundException",
        "There is no such route",
    );
    app.anon.post_query("/auth/dev-token?user_id=%00").await.refuses(
        404,
        "NotFoundException",
        "There is no such route",
    );
    app.anon.get("/metrics").await.refuses(404, "NotFoundException", "There is no such route");
    // Only development lets a user recharge itself.
    app.alice.ensure().await;
    let refused = app.alice.post(&app.alice.own("/credits/recharge"), json!({"amount": 1})).await;
    refused.refuses(
        403,
        "AuthorizationException",
        "A user cannot do this; it needs a service key or an admin",
    );
    let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 1})).await.ok();
    app.finish().await;
}
