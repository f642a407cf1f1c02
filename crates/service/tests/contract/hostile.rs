//! What nobody sane sends: refused with a 4xx or kept faithfully, never a 5xx.

use crate::support::balance;
use serde_json::{Value, json};
use testkit::both_engines;

/// Texts that break naive programs.
const TEXTS: [&str; 9] = [
    "'; DROP TABLE users; --",
    "\u{202e}evil\u{200b}",
    "🦀👨‍👩‍👧‍👦",
    "\u{fffd}\u{ffff}",
    "line\nbreak\ttab\r",
    "\u{1}\u{1f}\u{7f}",
    "%00%ff",
    "\\u0000",
    "{{7*7}}${x}",
];

both_engines! {
    async fn a_key_that_cannot_be_used_is_refused_and_never_passed_over(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        let rule = "must be 1 to 255 printable ASCII characters, given once";
        for body in [
            r#"{"amount":1,"idempotency_key":77}"#,
            r#"{"amount":1,"idempotency_key":{"a":1}}"#,
            r#"{"amount":1,"idempotency_key":"a","idempotency_key":"a"}"#,
            r#"{"amount":1,"idempotency\u005fkey":""}"#,
        ] {
            app.alice.post_text(&path, body).await.refuses_field(&["body", "idempotency_key"], rule);
        }
        let query = format!("{path}?amount=1&idempotency_key=qq");
        let first = app.alice.post_query(&query).await;
        let again = app.alice.post_query(&query).await;
        assert_eq!((first.text(), again.header("idempotent-replayed")), (again.text(), Some("true")));
        let differing = app.alice.post_once("k", &path, json!({"amount": 1, "idempotency_key": "other"})).await;
        differing.refuses_field(&["body", "idempotency_key"], "must be the same wherever it is given");
        assert_eq!(balance(&app.alice).await, 999);
    }

    async fn a_list_is_no_object_and_half_a_character_no_text(app: TestApp) {
        app.alice.ensure().await;
        for body in ["[5,null,null,null,null,null,null,null]", "[]", "null", "5"] {
            let answer = app.alice.post_text(&app.alice.own("/credits/consume"), body).await;
            answer.refuses_field(&["body"], "must be a JSON object");
        }
        let half = r#"{"event_type":"x","request_data":{"k":"\ud800"}}"#;
        let answer = app.alice.post_text(&app.alice.own("/usage"), half).await;
        answer.refuses_field(&["body", "request_data"], "must hold whole characters only");
        let twice = app.alice.post_text(&app.alice.own("/credits/consume"), r#"{"amount":1,"amount":2}"#).await;
        twice.refuses_field(&["body", "amount"], "must be given once");
        assert_eq!(balance(&app.alice).await, 1000);
    }

    async fn odd_texts_are_kept_as_they_came(app: TestApp) {
        app.alice.ensure().await;
        for text in TEXTS {
            let record = app.alice.post(&app.alice.own("/usage"), json!({
                "event_type": text, "endpoint": text, "model_name": text, "provider": text, "session_id": text, "event_id": text, "request_data": {text: text},
            })).await.data();
            let listed = app.alice.get(&app.alice.own("/usage?limit=1")).await.data();
            for field in ["event_type", "endpoint", "model_name", "provider", "session_id", "event_id"] {
                assert_eq!(record[field], text);
            }
            assert_eq!(record["request_data"][text], text);
            assert_eq!(app.alice.get(&app.alice.own("/usage")).await.data().as_array().map(|rows| rows.contains(&record)), Some(true));
            assert!(listed.is_array());
            let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1, "description": text, "metadata": {text: [text]}})).await.data();
            assert_eq!((&spent["description"], &spent["metadata"][text][0]), (&json!(text), &json!(text)));
            let granted = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 1, "reference_id": text})).await.data();
            assert_eq!(granted["reference_id"], text);
        }
        let stats = app.alice.get(&app.alice.own("/usage/stats")).await.data();
        for text in TEXTS {
            assert_eq!(stats["by_event_type"][text], 1, "{text:?}");
        }
    }

    async fn nul_is_refused_wherever_it_cannot_be_kept(app: TestApp) {
        app.alice.ensure().await;
        for field in ["event_type", "endpoint", "session_id", "model_name", "event_id"] {
            let mut body = json!({"event_type": "x"});
            body[field] = "a\u{0}b".into();
            app.alice.post(&app.alice.own("/usage"), body).await.refuses_field(&["body", field], "NUL");
        }
        app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1, "description": "\u{0}"})).await.refuses_field(&["body", "description"], "NUL");
        app.alice.post(&app.alice.own("/credits/recharge"), json!({"amount": 1, "reference_id": "\u{0}"})).await.refuses_field(&["body", "reference_id"], "NUL");
        app.alice.patch(&app.alice.own(""), json!({"name": "a\u{0}b"})).await.refuses_field(&["body", "name"], "NUL");
        let _ = app.alice.post("/api/v1/users/ensure", json!({"email": "a\u{0}@b.de"})).await.with(400);
        for query in ["event_type=%00", "model_name=%00", "session_id=a%00b"] {
            assert_eq!(app.alice.get(&app.alice.own(&format!("/usage?{query}"))).await.status, 400, "{query}");
        }
        for query in ["event_type=%FF", "limit=%FF", "start_date=%00"] {
            assert_eq!(app.alice.get(&app.alice.own(&format!("/usage?{query}"))).await.status, 400, "{query}");
        }
        // Within an object the text is an escape, and is kept as one.
        let kept = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1, "metadata": {"a\u{0}": "\u{0}"}})).await.data();
        assert_eq!(kept["metadata"], json!({"a\u{0}": "\u{0}"}));
    }

    async fn bytes_that_are_no_text_are_refused(app: TestApp) {
        app.alice.ensure().await;
        let bodies: [&[u8]; 5] = [b"{\"amount\":1,\"description\":\"\xff\"}", b"\xff\xfe{\"amount\":1}", b"{\"amount\":1,\"description\":\"\\ud800\"}", b"\x00", b"{\"amount\":1,\"metadata\":{\"a\":\"\xc3\x28\"}}"];
        for body in bodies {
            let answer = app.alice.post_text(&app.alice.own("/credits/consume"), body.to_vec()).await;
            assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(body), answer.text());
        }
        assert_eq!(balance(&app.alice).await, 1000);
    }

    async fn a_field_that_comes_twice_is_refused(app: TestApp) {
        app.alice.ensure().await;
        for body in ["{\"amount\":1,\"amount\":2}", "{\"amount\":1,\"description\":\"a\",\"description\":\"b\"}"] {
            assert_eq!(app.alice.post_text(&app.alice.own("/credits/consume"), body).await.status, 400, "{body}");
        }
        // Fields that nobody reads may.
        assert_eq!(app.alice.post_text(&app.alice.own("/credits/consume"), "{\"amount\":1,\"x\":1,\"x\":2}").await.status, 200);
        assert_eq!(app.alice.post_text(&app.alice.own("/credits/consume"), "{\"amount\":1,\"metadata\":{\"x\":1,\"x\":2},\"service\":\"s\"}").await.status, 200);
        assert_eq!(balance(&app.alice).await, 998);
    }

    async fn deep_and_large_json_is_refused_or_kept(app: TestApp) {
        app.alice.ensure().await;
        let consume = app.alice.own("/credits/consume");
        for levels in [65, 127, 128, 129, 1_000, 100_000] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let deep = format!("{}1{}", open.repeat(levels), close.repeat(levels));
                let in_metadata = app.alice.post_text(&consume, format!("{{\"amount\":1,\"metadata\":{{\"x\":{deep}}}}}")).await;
                assert_eq!(in_metadata.status, 400, "{levels}");
                let ignored = app.alice.post_text(&consume, format!("{{\"amount\":0,\"ignored\":{deep}}}")).await;
                assert_eq!(ignored.status, 400, "{levels}");
                let _ = app.alice.post_text("/api/v1/noop", deep).await.with(400);
            }
        }
        let large = |bytes: usize| json!({"amount": 1, "metadata": {"a": "x".repeat(bytes - 8)}});
        assert_eq!(app.alice.post(&consume, large(64 * 1024)).await.data()["metadata"]["a"].as_str().map(str::len), Some(64 * 1024 - 8));
        app.alice.post(&consume, large(64 * 1024 + 1)).await.refuses_field(&["body", "metadata"], "at most 65536 bytes");
        app.alice.post(&consume, large(1_000_000)).await.refuses_field(&["body", "metadata"], "at most 65536 bytes");
        let wide: serde_json::Map<String, Value> = (0..5_000).map(|n| (n.to_string(), json!(n))).collect();
        let wide = app.alice.post(&consume, json!({"amount": 1, "metadata": wide})).await;
        assert!(wide.status == 200 || wide.status == 400, "{}", wide.text());
    }

    async fn strange_requests_get_an_answer_that_is_no_5xx(app: TestApp) {
        app.alice.ensure().await;
        let key = testkit::app::SERVICE_KEY;
        for (line, wanted) in [("nonsense", "400"), ("GET /health\u{1} HTTP/1.1", "400"), ("GET /health HTTP/9.9", "")] {
            // Whoever cannot write a request still hears so.
            let answer = app.raw(format!("{line}\r\nHost: x\r\n\r\n")).await;
            assert!(wanted.is_empty() || answer.starts_with(&format!("HTTP/1.1 {wanted} ")), "{line}: {answer}");
        }
        for (line, headers) in [
            ("GET /api/v1/users/%zz HTTP/1.1", ""), ("GET /api/v1/users/a?limit=%zz HTTP/1.1", ""), ("GET //api/v1//users HTTP/1.1", ""),
            ("GET /api/v1/users/../../health HTTP/1.1", ""), ("BREW /health HTTP/1.1", ""), ("GET * HTTP/1.1", ""),
            ("POST /api/v1/noop HTTP/1.1", "Content-Length: 5\r\nContent-Length: 6\r\n"), ("POST /api/v1/noop HTTP/1.1", "Content-Length: -1\r\n"),
            ("GET /health HTTP/9.9", ""), ("nonsense", ""), ("GET /health/live HTTP/1.1", "X-Request-ID: \u{1}\r\n"),
            ("GET /api/v1/users/me HTTP/1.1", "Authorization: Bearer \u{e9}\u{e9}\r\n"), ("OPTIONS * HTTP/1.1", ""),
            ("GET /api/v1/users/a/usage?limit=1&limit=2 HTTP/1.1", ""), ("GET /health/live HTTP/1.0", ""),
        ] {
            let answer = app.raw(format!("{line}\r\nHost: x\r\nConnection: close\r\nX-API-Key: {key}\r\n{headers}\r\n")).await;
            let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
            assert!(answer.is_empty() || (status.len() == 3 && !status.starts_with('5')), "{line}: {answer}");
        }
        let _ = app.anon.get("/health").await.ok();
    }
}
