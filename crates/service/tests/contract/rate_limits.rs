//! How often a caller may ask. The buckets are in memory here; `process/rate_limits.rs` has Redis.

use serde_json::json;
use std::time::Duration;
use testkit::{Answer, Engine, TestApp};

/// The service with limits, and with other settings.
async fn limited(settings: &[(&str, &str)]) -> TestApp {
    let mut all = vec![("RATE_LIMIT_ENABLED", "true")];
    all.extend_from_slice(settings);
    TestApp::start_with(Engine::Sqlite, &all).await
}

fn headers(answer: &Answer) -> [Option<&str>; 6] {
    let names =
        ["ratelimit-policy", "ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    let [policy, limit, most, remaining, reset] = names.map(|name| answer.header(name));
    [policy, limit, most, remaining, reset, answer.header("retry-after")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_hears_what_is_left_and_when_to_come_back() {
    let app = limited(&[("RATE_LIMIT_REQUESTS", "3"), ("RATE_LIMIT_WRITE_REQUESTS", "2")]).await;
    app.alice.ensure().await;
    let now = app.now().seconds();
    // A route that finds a user and asks for a permission counts once.
    let balance = app.alice.own("/credits/balance");
    for left in [2, 1, 0] {
        let answer = app.alice.get(&balance).await;
        let _ = answer.ok();
        let (remaining, full) = (left.to_string(), 20 * (3 - left));
        let reset = (now + full).to_string();
        assert_eq!(
            headers(&answer),
            [
                Some("\"read\";q=3;w=60"),
                Some(format!("\"read\";r={left};t={full}").as_str()),
                Some("3"),
                Some(remaining.as_str()),
                Some(reset.as_str()),
                None
            ]
        );
    }
    let refused = app.alice.get("/api/v1/users/me").await;
    let body = refused.with(429);
    assert_eq!(body["error_code"], "RateLimitExceededException");
    assert_eq!(body["message"], "Too many requests; try again in 20 s");
    let details = &body["error_details"];
    assert_eq!(
        (&details["bucket"], &details["limit"], &details["window_seconds"]),
        (&json!("read"), &json!(3), &json!(60))
    );
    assert_eq!(headers(&refused)[5], Some("20"));
    assert_eq!(refused.header("ratelimit"), Some("\"read\";r=0;t=60"));

    // Changes have a bucket of their own, and so has everybody else; a service key has a large one.
    let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await;
    let _ = spent.ok();
    assert_eq!(spent.header("ratelimit-policy"), Some("\"write\";q=2;w=60"));
    let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.with(429);
    app.bob.ensure().await;
    let _ = app.bob.get("/api/v1/users/me").await.ok();
    assert_eq!(app.backend.get(&balance).await.header("ratelimit-policy"), Some("\"service\";q=600000;w=60"));
    assert_eq!(app.admin.get(&balance).await.header("ratelimit-policy"), Some("\"service\";q=600000;w=60"));

    app.advance(Duration::from_secs(19));
    let _ = app.alice.get(&balance).await.with(429);
    app.advance(Duration::from_secs(1));
    let _ = app.alice.get(&balance).await.ok();
    let _ = app.alice.get(&balance).await.with(429);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_guesses_is_refused_before_its_guess_is_looked_at() {
    let app = limited(&[("RATE_LIMIT_FAILURES", "3")]).await;
    for _ in 0..10 {
        // Whoever authenticates well is not counted there, whatever comes of it.
        let _ = app.backend.get("/api/v1/users/nobody").await.with(404);
        let _ = app.alice.post("/api/v1/admin/ledger/verify", json!({})).await.with(403);
    }
    let guess = app.bearing("Bearer guess");
    let _ = guess.get("/api/v1/users/me").await.with(401);
    let _ = app.anon.get("/api/v1/users/me").await.with(401);
    let _ = guess.get("/api/v1/users/me").await.with(401);
    let refused = guess.get("/api/v1/users/me").await;
    assert_eq!(refused.with(429)["message"], "Too many failed attempts to authenticate; try again in 20 s");
    assert_eq!(refused.header("ratelimit"), Some("\"failures\";r=0;t=60"));
    // A right guess is not told from a wrong one.
    let _ = app.backend.get("/api/v1/users/nobody").await.with(429);
    let _ = app.anon.get("/health").await.ok();
    let _ = app.anon.get("/api/v1/subscriptions/plans").await.ok();
    app.advance(Duration::from_secs(20));
    let _ = app.backend.get("/api/v1/users/nobody").await.with(404);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_authentication_is_counted_by_address_and_probes_are_not() {
    let app = limited(&[("RATE_LIMIT_PUBLIC_REQUESTS", "2")]).await;
    let plans = "/api/v1/subscriptions/plans";
    assert_eq!(app.anon.get(plans).await.header("ratelimit"), Some("\"public\";r=1;t=30"));
    let _ = app.anon.get("/no/such/route").await.with(404);
    let refused = app.anon.get(plans).await;
    assert_eq!(refused.with(429)["error_code"], "RateLimitExceededException");
    let _ = app.anon.get("/no/such/route").await.with(429);
    for _ in 0..5 {
        for path in ["/", "/health", "/health/live", "/health/ready"] {
            let answer = app.anon.get(path).await;
            let _ = answer.ok();
            assert_eq!(headers(&answer), [None; 6]);
        }
        let asked = "OPTIONS /api/v1/users/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: http://localhost:3000\r\nAccess-Control-Request-Method: GET\r\n\r\n";
        assert!(app.raw(asked).await.starts_with("HTTP/1.1 200 "));
    }
    let page = app.raw("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(
        page.contains("rate_limit_decisions_total{class=\"public\",outcome=\"refused\",backend=\"memory\"}"),
        "{page}"
    );
    assert!(page.contains("\nrate_limit_keys "), "{page}");
    // Whoever proves who it is has a bucket of its own.
    app.alice.ensure().await;
    assert_eq!(app.anon.get("/health").await.ok()["checks"]["rate_limiter"], "memory");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_is_the_one_that_a_trusted_proxy_names() {
    for (trusted, statuses) in [("127.0.0.1", [200, 200, 429, 200]), ("", [200, 429, 429, 429])] {
        let app = limited(&[("RATE_LIMIT_PUBLIC_REQUESTS", "1"), ("TRUSTED_PROXIES", trusted)]).await;
        let mut seen = [0; 4];
        // The third is the second again, by another path through the network; the last is in another /64.
        let said = ["192.0.2.1", "6.6.6.6, 2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"];
        for (status, said) in seen.iter_mut().zip(said) {
            let request = app.anon.request(reqwest::Method::GET, "/api/v1/subscriptions/plans");
            *status = request.header("x-forwarded-for", said).send().await.status;
        }
        assert_eq!(seen, statuses, "{trusted}");
        app.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_limited_on_a_desk() {
    let app = TestApp::start(Engine::Sqlite).await;
    assert_eq!(app.anon.get("/health").await.ok()["checks"]["rate_limiter"], "off");
    assert_eq!(headers(&app.anon.get("/api/v1/subscriptions/plans").await), [None; 6]);
    app.finish().await;
}
