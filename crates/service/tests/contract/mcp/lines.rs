//! Messages in lines, as `user-service mcp --url` carries them to a running service.

use serde_json::{Value, json};
use std::sync::Arc;
use testkit::{TestApp, both_engines};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, duplex};
use user_service::mcp::stdio::{Bridge, LINE_MAX_BYTES, Service};

/// Writes all lines, ends the input, and gives the messages that come out, by id.
async fn carried(app: &TestApp, token: &str, lines: &str) -> Vec<Value> {
    sent(&app.url(), token, lines).await
}

/// The same to whatever answers at an address.
async fn over(url: &str, lines: &str) -> Vec<Value> {
    sent(url, "usk_a", lines).await
}

async fn sent(url: &str, token: &str, lines: &str) -> Vec<Value> {
    let service = Service::at(url).expect("a client");
    let bridge = Bridge::new(service, &kernel::Secret::new(token.to_owned())).expect("a token");
    let (mut tell, hear) = duplex(1024);
    let (answers, mut out) = duplex(1024);
    let running = tokio::spawn(Arc::clone(&bridge).run(BufReader::new(hear), answers));
    let text = lines.to_owned();
    let telling = tokio::spawn(async move {
        tell.write_all(text.as_bytes()).await.expect("the input is read");
    });
    let mut said = String::new();
    out.read_to_string(&mut said).await.expect("the output");
    telling.await.expect("told");
    running.await.expect("no panic").expect("it ends in peace");
    let mut messages: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no message: {line}")))
        .collect();
    messages.sort_by_key(|message| message["id"].to_string());
    messages
}

/// One message in a line.
fn line(id: u32, method: &str, params: Value) -> String {
    format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}

both_engines! {
    async fn lines_become_messages_and_answers_lines(app: TestApp) {
        app.alice.ensure().await;
        let issued = app.backend.post("/auth/user-tokens", json!({"user_id": "auth0|alice", "scopes": ["credits:read"], "expires_in": 600})).await.ok();
        let token = issued["token"].as_str().expect("a token");
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a story", "version": "1"}});
        let lines = [
            line(1, "initialize", hello),
            "\n  \r\n".to_owned(),
            format!("{}\n", json!({"jsonrpc": "2.0", "method": "notifications/initialized"})),
            line(2, "tools/call", json!({"name": "credits_balance", "arguments": {}})),
            line(3, "tools/call", json!({"name": "credits_consume", "arguments": {"amount": 1}})),
            line(4, "resources/read", json!({"uri": "user://auth0|alice/balance"})),
            line(5, "no/such", json!({})),
            "this is no message\n".to_owned(),
            // The last line has no end.
            line(6, "ping", json!({})).trim_end().to_owned(),
        ];
        let said = carried(&app, token, &lines.concat()).await;
        assert_eq!(said.len(), 7, "{said:?}");
        assert_eq!(said[0]["result"]["protocolVersion"], "2025-11-25");
        assert_eq!(said[1]["result"]["structuredContent"]["data"], 1000);
        assert_eq!(said[2]["result"]["structuredContent"]["message"], "The token lacks the scope credits:spend");
        assert_eq!(said[3]["result"]["contents"][0]["mimeType"], "application/json");
        assert_eq!(said[4]["error"]["code"], -32601);
        assert_eq!(said[5]["result"], json!({}));
        assert_eq!((&said[6]["id"], &said[6]["error"]["code"]), (&Value::Null, &json!(-32700)));
        // The newest revision says in each message what it speaks.
        let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientInfo": {"name": "a", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {}}, "name": "credits_balance", "arguments": {}});
        let said = carried(&app, token, &line(1, "tools/call", meta)).await;
        assert_eq!((&said[0]["result"]["isError"], &said[0]["result"]["resultType"]), (&json!(false), &json!("complete")), "{said:?}");
    }

    async fn who_is_refused_hears_it_in_the_words_of_the_protocol(app: TestApp) {
        let said = carried(&app, "usk_wrong", &line(1, "ping", json!({}))).await;
        assert_eq!(said[0]["error"]["message"], "Could not validate credentials");
        assert_eq!(said[0]["error"]["data"]["status"], 401);
        let quiet = format!("{}\n", json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        assert_eq!(carried(&app, "usk_wrong", &quiet).await, Vec::<Value>::new(), "a notification has no answer");
    }
}

/// A service that answers every request with these bytes, after a while.
async fn answering(bytes: &'static str, after: std::time::Duration) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while !asked.ends_with(b"}\n") && stream.read_buf(&mut asked).await.is_ok_and(|read| read > 0)
                {
                }
                tokio::time::sleep(after).await;
                let _ = stream.write_all(bytes.as_bytes()).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_answers_every_message_is_answered_and_no_id_twice_at_once() {
    let moved =
        "HTTP/1.1 301 Moved Permanently\r\nlocation: /\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let broken = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 10\r\nconnection: close\r\n\r\ndata: {}\n\n";
    let none = std::time::Duration::ZERO;
    for (bytes, says) in [
        (moved, "--url must name its final address"),
        (broken, "502 Bad Gateway and no message"),
        (stream, "200 OK and no message"),
    ] {
        let said = over(&answering(bytes, none).await, &line(1, "ping", json!({}))).await;
        let message = said[0]["error"]["message"].as_str().expect("a sentence");
        assert!(said.len() == 1 && said[0]["id"] == 1 && message.contains(says), "{said:?}");
    }
    let slow = answering(broken, std::time::Duration::from_millis(300)).await;
    let said = over(&slow, &[line(1, "ping", json!({})), line(1, "ping", json!({}))].concat()).await;
    let mut messages: Vec<&str> = said.iter().filter_map(|one| one["error"]["message"].as_str()).collect();
    messages.sort_unstable();
    assert_eq!(messages.len(), 2, "{said:?}");
    assert!(messages[1].contains("being answered"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_too_long_is_passed_over_and_a_service_that_is_gone_is_named() {
    let service = Service::at("http://127.0.0.1:1/").expect("a client");
    let bridge = Bridge::new(service, &kernel::Secret::new("usk_a".to_owned())).expect("a token");
    let (mut tell, hear) = duplex(1 << 16);
    let (answers, out) = duplex(1 << 16);
    let running = tokio::spawn(bridge.run(BufReader::new(hear), answers));
    let mut out = BufReader::new(out).lines();
    let long = vec![b'x'; LINE_MAX_BYTES + 1000];
    tell.write_all(&long).await.expect("read");
    tell.write_all(b"\n").await.expect("read");
    tell.write_all(line(1, "ping", json!({})).as_bytes()).await.expect("read");
    let too_long: Value =
        serde_json::from_str(&out.next_line().await.expect("a line").expect("a line")).expect("JSON");
    assert_eq!((&too_long["id"], &too_long["error"]["code"]), (&Value::Null, &json!(-32600)));
    let gone: Value =
        serde_json::from_str(&out.next_line().await.expect("a line").expect("a line")).expect("JSON");
    let message = gone["error"]["message"].as_str().expect("a sentence");
    assert!(gone["id"] == 1 && message.starts_with("http://127.0.0.1:1/mcp does not answer"), "{gone}");
    drop(tell);
    running.await.expect("no panic").expect("it ends in peace");
}
