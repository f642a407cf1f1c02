//! What no good client sends to `/mcp`: it is refused in the protocol's words, nothing breaks, and the next message is answered as
//! ever. The same by stdin and stdout is in `mcp_lines.rs`.

use crate::{PROGRAM, verify_ledger};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::process::{Place, Running, SERVICE_KEY};

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// How many large messages are sent at once, and the memory that they may take; without room it would be many times as much.
const LARGE: usize = 300;
const GROWN_MAX_KIB: u64 = 250 * 1024;

/// Bodies that are no message, or none that can be answered well.
pub(crate) fn odd() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let nested = |depth: usize| {
        let arguments = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"credits_quote","arguments":{{"model":{arguments}}}}}}}"#
        )
    };
    vec![
        ("nothing", Vec::new()),
        ("no JSON", text("hello")),
        ("half a message", text(r#"{"jsonrpc":"2.0","id":1,"method":"pi"#)),
        ("a number", text("7")),
        ("null", text("null")),
        ("an empty object", text("{}")),
        ("an empty batch", text("[]")),
        (
            "a batch",
            text(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]"#),
        ),
        ("no version", text(r#"{"id":1,"method":"ping"}"#)),
        ("another version", text(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#)),
        ("a method that is a number", text(r#"{"jsonrpc":"2.0","id":1,"method":7}"#)),
        ("no method that there is", text(r#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#)),
        ("a null id", text(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#)),
        ("an id that is an object", text(r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#)),
        ("an id with a fraction", text(r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#)),
        ("params that are a text", text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"x"}"#)),
        ("a call of nothing", text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#)),
        (
            "arguments that are a list",
            text(
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"credits_quote","arguments":[1]}}"#,
            ),
        ),
        ("an answer to no question", text(r#"{"jsonrpc":"2.0","id":99,"result":{}}"#)),
        ("an error to no question", text(r#"{"jsonrpc":"2.0","id":99,"error":{"code":-1,"message":"no"}}"#)),
        ("bytes that are no UTF-8", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}".to_vec()),
        (
            "half a surrogate",
            text(
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"credits_quote","arguments":{"model":"\ud800"}}}"#,
            ),
        ),
        ("a mark of byte order", text("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}")),
        ("nested too deep", nested(100_000).into_bytes()),
        ("nested deep", nested(120).into_bytes()),
        (
            "an id of a million digits",
            format!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#, "9".repeat(1_000_000)).into_bytes(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_bodies_are_refused() {
    let place = Place::sqlite();
    let service = PROGRAM.start(&place, &[("RATE_LIMIT_ENABLED", "false")]).await;
    for (what, body) in odd() {
        let (status, answer) = posted(&service, body, &[]).await;
        assert!(status.is_client_error() || status.is_success(), "{what}: {status} {answer}");
        let told: Result<Value, _> = serde_json::from_str(payload(&answer));
        let refused =
            told.as_ref().is_ok_and(|told| told.get("error").is_some() || told["result"]["isError"] == true);
        let ignored = status == StatusCode::ACCEPTED && answer.is_empty();
        assert!(refused || ignored || status.is_client_error(), "{what}: {status} {answer}");
        assert!(!answer.contains("panicked"), "{what}: {answer}");
    }
    let long =
        json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {"x": "y".repeat(1 << 20)}}});
    let (status, answer) = posted(&service, long.to_string().into_bytes(), &[]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
    // An id comes back as it was sent.
    for id in
        [json!(0), json!(-1), json!(i64::MAX), json!(""), json!("x".repeat(10_000)), json!("\u{1f44b}\n\"")]
    {
        let (status, answer) = posted(&service, ping(&id).into_bytes(), &[]).await;
        let told: Value = serde_json::from_str(payload(&answer)).expect("a message");
        assert_eq!((status, &told["id"], &told["result"]), (StatusCode::OK, &id, &json!({})), "{answer}");
    }
    quiet(&place, service).await;
}

/// Messages become several times as large while they are read, so as many large ones as there is room for are read at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_wait_for_room() {
    let place = Place::sqlite();
    let service = PROGRAM.start(&place, &[("RATE_LIMIT_ENABLED", "false")]).await;
    let unknown = "00000000-0000-4000-8000-000000000000";
    let large = json!({"session_id": unknown, "role": "user", "content": "y".repeat(1_000_000)});
    let body = bytes::Bytes::from(called(&json!(1), "session_append", &large));
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let before = service.memory("VmHWM");
    let sent = (0..LARGE).map(|_| {
        let request = http.post(service.url("/mcp")).bearer_auth(SERVICE_KEY).body(body.clone());
        request.header("content-type", "application/json").header("accept", "application/json").send()
    });
    for answer in futures_util::future::join_all(sent).await {
        let status = answer.expect("an answer").status();
        assert!(matches!(status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE), "{status}");
    }
    let grown = service.memory("VmHWM") - before;
    eprintln!("{LARGE} large messages took {grown} KiB");
    assert!(grown < GROWN_MAX_KIB, "{grown} KiB");
    quiet(&place, service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_headers_and_methods_are_refused() {
    let place = Place::sqlite();
    let service = PROGRAM.start(&place, &[("RATE_LIMIT_ENABLED", "false")]).await;
    let body = ping(&json!(1));
    // (header, its value, whether it is taken)
    let headers = [
        ("accept", "application/json, text/event-stream", true),
        ("accept", "text/event-stream, application/json;q=0.5", true),
        ("accept", "image/png", false),
        ("content-type", "text/plain", false),
        ("content-type", "application/x-www-form-urlencoded", false),
        ("content-type", "application/json; charset=utf-8", true),
        ("mcp-protocol-version", "2025-06-18", true),
        ("mcp-protocol-version", "2025-11-25", true),
        ("mcp-protocol-version", "1999-01-01", false),
        ("mcp-protocol-version", "%%%", false),
        ("mcp-session-id", "no-such-session", true),
        ("origin", "https://evil.example.com", false),
        ("origin", "null", false),
        ("host", "evil.example.com", false),
        ("host", "localhost.evil.example.com", false),
        ("host", "localhost", true),
    ];
    for (name, value, taken) in headers {
        let (status, answer) = posted(&service, body.clone().into_bytes(), &[(name, value)]).await;
        assert_eq!(status.is_success(), taken, "{name}: {value}: {status} {answer}");
        assert!(!status.is_server_error(), "{name}: {value}: {status} {answer}");
    }
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    // No stream is kept open for what a server might say by itself, and there are no sessions to end.
    for method in [Method::GET, Method::DELETE, Method::PUT, Method::PATCH] {
        let request = http.request(method.clone(), service.url("/mcp")).bearer_auth(SERVICE_KEY);
        let answer = request.header("accept", "text/event-stream").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert!(answer.headers().contains_key("allow"), "{method}: says what is allowed");
    }
    for credential in [
        None,
        Some("Bearer nonsense"),
        Some("Basic YTpi"),
        Some("Bearer usk_00000000000000000000000000000000"),
    ] {
        let request =
            http.post(service.url("/mcp")).header("content-type", "application/json").body(body.clone());
        let request = request.header("accept", "application/json, text/event-stream");
        let request =
            credential.into_iter().fold(request, |request, value| request.header("authorization", value));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{credential:?}");
        assert!(answer.headers().contains_key("www-authenticate"), "{credential:?}: says how to come in");
    }
    quiet(&place, service).await;
}

/// The smallest message.
pub(crate) fn ping(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string()
}

/// A call of a tool.
pub(crate) fn called(id: &Value, tool: &str, arguments: &Value) -> String {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
}

/// Posts a body as a client of an older revision would, with other headers in place of the usual ones.
async fn posted(service: &Running, body: Vec<u8>, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut all = reqwest::header::HeaderMap::new();
    let usual = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    for (name, value) in usual.iter().chain(headers) {
        let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        let _ = all.insert(name, value.parse().expect("a value"));
    }
    let request = http.post(service.url("/mcp")).bearer_auth(SERVICE_KEY).headers(all).body(body);
    let answer = tokio::time::timeout(LIMIT, request.send()).await.expect("in time").expect("an answer");
    (answer.status(), answer.text().await.expect("a text"))
}

/// The message in an answer, which may be an event of a stream.
fn payload(answer: &str) -> &str {
    let mut events = answer.lines().filter_map(|line| line.strip_prefix("data:").map(str::trim));
    events.rfind(|data| !data.is_empty()).unwrap_or(answer)
}

/// Stops the service; nothing broke in it.
pub(crate) async fn quiet(place: &Place, service: Running) {
    let ended = service.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let broken = ended.stdout.lines().find(|line| line.contains("\"ERROR\"") || line.contains("panicked"));
    assert_eq!(broken, None, "nothing broke inside");
    verify_ledger(place).await;
}
