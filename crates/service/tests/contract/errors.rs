//! §1: one body for all errors, in both of its forms.

use crate::support::{NOW, error, masked};
use serde_json::{Value, json};
use testkit::app::SERVICE_KEY;
use testkit::{Engine, TestApp, both_engines};

const GET: reqwest::Method = reqwest::Method::GET;
const POST: reqwest::Method = reqwest::Method::POST;

both_engines! {
    async fn an_unknown_user_is_404_with_the_documented_body(app: TestApp) {
        let answer = app.backend.get("/api/v1/users/auth0%7Cnonexistent").await.with(404);
        let message = "User not found: auth0|nonexistent";
        assert_eq!(masked(answer), error("UserNotFoundException", message, json!({"operation": "get_user", "user_id": "auth0|nonexistent"})));
    }

    async fn invalid_input_names_its_field(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        let mut answer = app.alice.post(&path, json!({"reason": "x"})).await.with(400);
        assert_eq!(answer["detail"].take(), json!([{"type": "missing", "loc": ["body", "amount"], "msg": "Field required"}]));
        answer["detail"] = "Invalid input: amount: Field required".into();
        assert_eq!(masked(answer), error(
            "ValidationException", "Invalid input: amount: Field required",
            json!({"operation": "consume_credits", "user_id": "auth0|alice"}),
        ));
    }

    async fn without_proof_of_identity_it_is_401_with_a_challenge(app: TestApp) {
        app.alice.ensure().await;
        let token = |claims: Value| app.with_claims(&claims);
        let now = app.now().seconds();
        let good = json!({"aud": "authenticated", "iss": "supabase", "sub": "auth0|alice", "exp": now + 60});
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            claims
        };
        let mut without_exp = good.clone();
        without_exp.as_object_mut().expect("claims").remove("exp");
        assert_eq!(token(good.clone()).get("/api/v1/users/me").await.status, 200);
        let callers = [
            ("nobody", app.anon.clone()),
            ("empty", app.bearing("")),
            ("basic", app.bearing("Basic YTpi")),
            ("garbage", app.bearing("Bearer garbage")),
            ("three parts", app.bearing("Bearer a.b.c")),
            ("no algorithm", app.bearing("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhdXRoMHxhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.")),
            ("unknown key", app.bearing("Bearer usk_unknown")),
            ("expired", token(with("exp", json!(now - 60)))),
            ("never expires", token(without_exp)),
            ("not yet", token(with("nbf", json!(now + 61)))),
            ("wrong audience", token(with("aud", json!("somebody")))),
            ("wrong issuer", token(with("iss", json!("https://evil.example/")))),
            ("no subject", token(with("sub", json!("")))),
            ("wrong signature", app.bearing(&format!("Bearer {}", testkit::actors::sign(&good, "another-secret-that-is-long-enough-too")))),
        ];
        for (why, caller) in callers {
            let answer = caller.get("/api/v1/users/me").await;
            assert_eq!(answer.status, 401, "{why}");
            assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer ")), "{why}");
            let message = "Could not validate credentials";
            assert_eq!(masked(answer.json()), error("AuthenticationException", message, json!({"operation": "get_me"})), "{why}");
        }
        // The service key is taken in either header.
        let _ = app.bearing(&format!("Bearer {SERVICE_KEY}")).get(&app.alice.own("")).await.ok();
    }

    async fn unknown_routes_are_404_and_wrong_methods_405_with_allow(app: TestApp) {
        let answer = app.anon.get("/api/v2/users").await.with(404);
        assert_eq!(masked(answer), error("NotFoundException", "There is no such route", json!({})));
        for (method, path, allowed) in [
            ("DELETE", "/api/v1/users/ensure", "POST"), ("PUT", "/api/v1/users/a", "PATCH"), ("POST", "/health", "GET"),
            ("GET", "/api/v1/usage/batch", "POST"), ("PUT", "/api/v1/users/a/credits/consume", "POST"),
        ] {
            let answer = app.backend.request(method.parse().expect("a method"), path).send().await;
            assert_eq!(answer.with(405)["error_code"], "MethodNotAllowedException", "{method} {path}");
            assert!(answer.header("allow").is_some_and(|allow| allow.contains(allowed)), "{method} {path}: {:?}", answer.header("allow"));
        }
    }

    async fn errors_come_as_problems_to_those_who_accept_them(app: TestApp) {
        app.alice.ensure().await;
        let ask = |method, path: &str, body: Value| {
            app.alice.request(method, path).header("accept", "application/problem+json, application/json;q=0.5").json(&body).send()
        };
        let answer = ask(POST, &app.alice.own("/credits/consume"), json!({"amount": 5000})).await;
        assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/problem+json")));
        assert_eq!(masked(answer.json()), json!({
            "type": "about:blank", "title": "Bad Request", "status": 400,
            "detail": "Insufficient credits. Available: 1000, Required: 5000",
            "instance": "/api/v1/users/auth0%7Calice/credits/consume", "error_code": "InsufficientCreditsException",
            "request_id": "<request>", "available": 1000, "required": 5000, "retryable": false, "top_up_url": null,
        }));
        let answer = ask(POST, &app.alice.own("/credits/consume"), json!({})).await.with(400);
        assert_eq!(answer["errors"], json!([{"type": "missing", "loc": ["body", "amount"], "msg": "Field required"}]));
        assert_eq!(ask(GET, "/nowhere", json!({})).await.with(404)["title"], "Not Found");
        let answer = app.anon.request(GET, "/api/v1/users/me").header("accept", "application/problem+json").send().await;
        assert_eq!((answer.with(401)["title"].as_str(), answer.header("www-authenticate").is_some()), (Some("Unauthorized"), true));
        // What succeeds is no problem.
        assert_eq!(ask(GET, "/api/v1/users/me", json!({})).await.header("content-type"), Some("application/json"));
    }

    async fn bodies_past_their_limit_are_413(app: TestApp) {
        app.alice.ensure().await;
        let consume = app.alice.own("/credits/consume");
        let padded = |bytes: usize| {
            let frame = "{\"amount\":1,\"x\":\"\"}".len();
            format!("{{\"amount\":1,\"x\":\"{}\"}}", "x".repeat(bytes - frame))
        };
        assert_eq!(app.alice.post_text(&consume, padded(1 << 20)).await.status, 200);
        app.alice.post_text(&consume, padded((1 << 20) + 1)).await
            .refuses(413, "PayloadTooLargeException", "The body must be at most 1048576 bytes");
        let chunked = format!(
            "POST {consume} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {SERVICE_KEY}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            (1 << 20) + 1, padded((1 << 20) + 1),
        );
        let answer = app.raw(&chunked).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        let batch = |bytes: usize| {
            let frame = "{\"records\":[],\"x\":\"\"}".len();
            format!("{{\"records\":[],\"x\":\"{}\"}}", "x".repeat(bytes - frame))
        };
        app.backend.post_text("/api/v1/usage/batch", batch(16 << 20)).await.refuses_field(&["body", "records"], "1 to 10000");
        app.backend.post_text("/api/v1/usage/batch", batch((16 << 20) + 1)).await
            .refuses(413, "PayloadTooLargeException", "The body must be at most 16777216 bytes");
        assert_eq!(crate::support::balance(&app.alice).await, 999);
    }

    async fn a_header_past_its_limit_is_431(app: TestApp) {
        let ask = |bytes: usize| app.anon.request(GET, "/health/live").header("x-padding", "x".repeat(bytes)).send();
        assert_eq!(ask(15 * 1024).await.status, 200);
        ask(16 * 1024).await.refuses(431, "HeaderTooLargeException", "The header must be at most 16 KiB");
        let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
        let answer = app.raw(format!("GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{many}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let vast = "x".repeat(200 * 1024);
        let answer = app.raw(format!("GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-vast: {vast}\r\n\r\n")).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    async fn a_body_that_is_not_json_is_415_or_400(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        let send = |kind: &str, body: &'static str| app.alice.request(POST, &path).header("content-type", kind).body(body).send();
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", ""] {
            send(kind, "{\"amount\":1}").await.refuses(415, "UnsupportedMediaTypeException", "The body must be application/json");
        }
        for kind in ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"] {
            assert_eq!(send(kind, "{\"amount\":1}").await.status, 200, "{kind}");
        }
        assert_eq!(app.alice.request(POST, &path).body("{\"amount\":1}").send().await.status, 200, "no type at all");
        for text in ["{", "{\"amount\":1", "amount=1", "{\"amount\":1}x", "{\"amount\":01}", "{'amount':1}", "\u{feff}{\"amount\":1}"] {
            let refused = app.alice.post_text(&path, text).await.with(400);
            assert_eq!(refused["detail"][0]["type"], "json_invalid", "{text}: {refused}");
            assert_eq!(refused["timestamp"], NOW);
        }
        for text in ["[]", "1", "\"x\"", "null", "true", "[{\"amount\":1}]"] {
            assert_eq!(app.alice.post_text(&path, text).await.with(400)["error_code"], "ValidationException", "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_408() {
    let app = TestApp::start_with(Engine::Sqlite, &[("REQUEST_TIMEOUT_SECONDS", "1")]).await;
    app.alice.ensure().await;
    let head =
        format!("POST /api/v1/noop HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {SERVICE_KEY}\r\n");
    let answer =
        app.raw(format!("{head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{\"a\"")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"error_code\":\"RequestTimeoutException\""), "{answer}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_follow_their_settings() {
    let settings =
        [("JSON_BODY_LIMIT_BYTES", "1024"), ("BATCH_BODY_LIMIT_BYTES", "2048"), ("CORS_ORIGINS", "*")];
    let app = TestApp::start_with(Engine::Sqlite, &settings).await;
    app.alice.ensure().await;
    let body = |bytes: usize| json!({"x": "x".repeat(bytes - 8)});
    assert_eq!(app.alice.post("/api/v1/noop", body(1024)).await.status, 200);
    app.alice.post("/api/v1/noop", body(1025)).await.refuses(
        413,
        "PayloadTooLargeException",
        "The body must be at most 1024 bytes",
    );
    let refused = app.alice.post("/api/v1/usage/batch", body(2049)).await;
    refused.refuses(413, "PayloadTooLargeException", "The body must be at most 2048 bytes");
    let open = app.anon.request(GET, "/auth/info").header("origin", "https://anywhere.example").send().await;
    assert_eq!(open.header("access-control-allow-origin"), Some("*"));
    assert_eq!(open.header("access-control-allow-credentials"), None);
    app.finish().await;
}
