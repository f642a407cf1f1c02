//! Who is not let in at `/mcp`, and messages that are none.

use super::{ask, refused};
use serde_json::{Value, json};
use testkit::{Engine, TestApp, both_engines};

fn list() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
}

both_engines! {
    async fn nobody_comes_in_without_proof(app: TestApp) {
        let garbage = app.bearing("Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl");
        for stranger in [&app.anon, &garbage, &app.with_key("usk_wrong")] {
            for method in [reqwest::Method::POST, reqwest::Method::GET, reqwest::Method::DELETE] {
                let answer = stranger.request(method, "/mcp").json(&list()).send().await;
                answer.refuses(401, "AuthenticationException", "Could not validate credentials");
                assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
            }
        }
        app.alice.ensure().await;
        let _ = app.admin.post(&app.alice.own("/suspend"), json!({})).await.ok();
        app.alice.post("/mcp", list()).await.refuses(403, "AuthorizationException", "This account is suspended");
    }

    async fn a_page_of_another_site_is_refused(app: TestApp) {
        for (header, value) in [("host", "evil.example"), ("host", "localhost.evil.example:8100"), ("origin", "https://evil.example"), ("origin", "null")] {
            for actor in [&app.alice, &app.anon] {
                let answer = actor.request(reqwest::Method::POST, "/mcp").header(header, value).json(&list()).send().await;
                assert_eq!((answer.status, answer.json()["error_code"].clone()), (403, json!("AuthorizationException")), "{header}: {value}");
            }
        }
        for (header, value) in [("host", "localhost:1"), ("host", "[::1]"), ("origin", "http://localhost:3000"), ("origin", "http://127.0.0.1:9")] {
            let _ = app.alice.request(reqwest::Method::POST, "/mcp").header(header, value).json(&list()).send().await.ok();
        }
    }

    async fn what_is_no_message_is_refused_in_the_words_of_the_protocol(app: TestApp) {
        for (text, code, says) in [
            ("", -32700, "valid JSON"),
            ("{", -32700, "valid JSON"),
            ("null", -32600, "object"),
            ("\"tools/list\"", -32600, "object"),
            ("[]", -32600, "one by one"),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600, "one by one"),
            ("{}", -32600, "jsonrpc"),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600, "jsonrpc"),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32600, ""),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600, "object"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}"#, -32600, "once"),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600, "id"),
            (r#"{"jsonrpc":"2.0","id":99999999999999999999999,"method":"ping"}"#, -32600, "id"),
            (r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#, -32600, "id"),
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, -32600, ""),
        ] {
            let answer = app.alice.post_text("/mcp", text).await;
            let error = answer.with(400)["error"].clone();
            assert_eq!(error["code"], code, "{text}: {error}");
            assert!(error["message"].as_str().is_some_and(|message| message.contains(says)), "{text}: {error}");
        }
        let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"credits_balance","arguments":{{"a":{}1{}}}}}}}"#, "[".repeat(5000), "]".repeat(5000));
        let too_deep = app.alice.post_text("/mcp", deep).await.with(400);
        assert_eq!((&too_deep["error"]["code"], &too_deep["id"]), (&json!(-32600), &json!(1)));
        let bytes = app.alice.request(reqwest::Method::POST, "/mcp").header("content-type", "application/json").body(&b"{\"jsonrpc\":\"\xff\"}"[..]).send().await;
        assert_eq!(bytes.with(400)["error"]["code"], -32700);

        for (method, params, code) in [
            ("no/such", json!({}), -32601),
            ("tools/call", json!({}), -32602),
            ("tools/call", json!({"name": "no_such_tool", "arguments": {}}), -32602),
            ("tools/call", json!({"name": "credits_balance", "arguments": []}), -32602),
            ("tools/list", json!({"cursor": "x"}), -32602),
            ("resources/read", json!({"uri": 7}), -32602),
            ("logging/setLevel", json!({"level": "debug"}), -32601),
            ("resources/subscribe", json!({"uri": "user://a/balance"}), -32601),
            ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "why_was_i_charged"}, "argument": {"name": "user", "value": "a"}}), -32601),
        ] {
            assert_eq!(refused(&app.alice, method, params.clone()).await["code"], code, "{method} {params}");
        }
        assert_eq!(ask(&app.alice, "ping", json!({})).await, json!({}), "it still answers");
    }

    async fn what_http_has_to_say_is_said_as_everywhere(app: TestApp) {
        for method in [reqwest::Method::GET, reqwest::Method::DELETE, reqwest::Method::PUT] {
            let answer = app.alice.request(method, "/mcp").header("accept", "text/event-stream").send().await;
            answer.refuses(405, "MethodNotAllowedException", "The route does not have this method");
            assert_eq!(answer.header("allow"), Some("POST"));
        }
        let ask = || app.alice.request(reqwest::Method::POST, "/mcp");
        let text = ask().header("content-type", "text/plain").body(list().to_string()).send().await;
        text.refuses(415, "UnsupportedMediaTypeException", "The body must be application/json");
        let events = ask().header("accept", "text/event-stream").json(&list()).send().await;
        assert_eq!(events.with(406)["error_code"], "ValidationException");
        for accept in ["application/jsonx", "application/json;q=0", "text/html, application/xml"] {
            let answer = ask().header("accept", accept).json(&list()).send().await;
            assert_eq!(answer.status, 406, "{accept}: {}", answer.text());
        }
        for accept in ["application/json", "*/*", "text/event-stream, application/json;q=0.5"] {
            let answer = ask().header("accept", accept).json(&list()).send().await;
            assert_eq!(answer.ok()["result"]["tools"].as_array().map(Vec::len), Some(16), "{accept}");
            assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
            assert_eq!(answer.header("mcp-session-id"), None, "no session is kept");
        }
        let large = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x".repeat(1024 * 1024)}});
        app.alice.post("/mcp", large).await.refuses(413, "PayloadTooLargeException", "The body must be at most 1048576 bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_name_the_hosts() {
    let settings = [
        ("MCP_ALLOWED_HOSTS", "agents.internal"),
        ("PUBLIC_URL", "https://users.example.com"),
        ("MAX_CONCURRENT_REQUESTS", "1"),
    ];
    let app = TestApp::start_with(Engine::Sqlite, &settings).await;
    app.alice.ensure().await;
    // One request at a time is enough: what a tool asks is part of its message.
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "credits_balance", "arguments": {}}});
    for host in ["agents.internal:9", "users.example.com", "localhost"] {
        let answer = app
            .alice
            .request(reqwest::Method::POST, "/mcp")
            .header("host", host)
            .json(&call)
            .send()
            .await
            .ok();
        assert_eq!(answer["result"]["structuredContent"]["data"], 1000, "{host}");
    }
    assert_eq!(
        app.alice
            .request(reqwest::Method::POST, "/mcp")
            .header("host", "other.internal")
            .json(&call)
            .send()
            .await
            .status,
        403
    );
    app.finish().await;
}
