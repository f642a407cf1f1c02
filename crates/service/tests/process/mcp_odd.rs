//! What no good client sends, to `/mcp` and to `user-service mcp`: it is refused in the protocol's words, nothing breaks, and the
//! next message is answered as ever.

use crate::{PROGRAM, verify_ledger};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use testkit::process::{Place, Running, SERVICE_KEY};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// How often a message of many is sent.
const MANY: usize = 40;
/// How many large messages are sent at once, and the memory that they may take; without room it would be many times as much.
const LARGE: usize = 300;
const GROWN_MAX_KIB: u64 = 250 * 1024;

/// Bodies that are no message, or none that can be answered well.
fn odd() -> Vec<(&'static str, Vec<u8>)> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_lines_are_refused_and_only_messages_come_out() {
    let place = Place::sqlite();
    let mut agent = Agent::start(&place, SERVICE_KEY);
    agent.handshake().await;
    for (number, (what, body)) in odd().into_iter().enumerate() {
        // A line ends a message here, so what has none cannot be told from what follows.
        agent.send(&body).await;
        let told = agent.asked(&json!(format!("after {number}"))).await;
        assert_eq!(told["result"], json!({}), "after {what}");
    }
    agent.send(&vec![b'x'; 3 << 20]).await;
    assert_eq!(agent.asked(&json!("after a long line")).await["result"], json!({}));
    assert_eq!(agent.ended().await, Some(0));
    verify_ledger(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_input_is_the_end_and_what_was_asked_before_is_answered() {
    let place = Place::sqlite();
    let mut agent = Agent::start(&place, SERVICE_KEY);
    agent.handshake().await;
    let user = json!({"auth0_id": "auth0|piped", "email": "piped@example.com", "name": "Piped"});
    let made = agent.call("first", "user_ensure_exists", &user).await;
    assert_eq!(made["result"]["structuredContent"]["created"], true, "{made}");
    let spend = json!({"auth0_id": "auth0|piped", "amount": 1, "reason": "one of many"});
    for number in 0..MANY {
        agent.send(called(&json!(number), "credits_consume", &spend).as_bytes()).await;
    }
    // Half a message is none.
    agent.write(br#"{"jsonrpc":"2.0","id":"half","method":"tools/call","params":{"name":"credits_con"#).await;
    let (code, answers) = agent.closed().await;
    assert_eq!(code, Some(0));
    let done = answers.iter().filter(|told| told["result"]["structuredContent"]["success"] == true).count();
    assert_eq!(done, MANY, "{answers:?}");
    let spent = place.value("SELECT COUNT(*) FROM credit_entries WHERE transaction_type = 'consume'").await;
    assert_eq!(spent, MANY.to_string());
    verify_ledger(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_it() {
    let place = Place::sqlite();
    let mut agent = Agent::start(&place, SERVICE_KEY);
    agent.handshake().await;
    let pid = agent.child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(sent.is_ok_and(|status| status.success()), "SIGTERM is sent");
    let status = tokio::time::timeout(LIMIT, agent.child.wait()).await.expect("it ends").expect("our child");
    assert_eq!(status.code(), Some(0));
    verify_ledger(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_said_where_people_read_it() {
    let place = Place::sqlite();
    let ended = PROGRAM.run(&place, &["mcp"], &[]).await;
    assert_eq!(
        (ended.stdout.as_str(), ended.code.is_some_and(|code| code != 0)),
        ("", true),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("MCP_TOKEN"), "{}", ended.stderr);
    // A token that nobody made is known by the first message.
    let mut stranger = Agent::start(&place, "nonsense");
    stranger.send(ping(&json!(1)).as_bytes()).await;
    let told = stranger.answer(&json!(1)).await;
    assert_eq!(told["error"]["data"]["error"], "AuthenticationException", "{told}");
    assert!(!told.to_string().contains("nonsense"), "{told}");
    assert_eq!(stranger.ended().await, Some(0));
    // The file belongs to the service that runs; that one can be asked instead.
    let service = PROGRAM.start(&place, &[]).await;
    let ended = PROGRAM.run(&place, &["mcp"], &[("MCP_TOKEN", SERVICE_KEY)]).await;
    assert_eq!(
        (ended.stdout.as_str(), ended.code.is_some_and(|code| code != 0)),
        ("", true),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("--url"), "{}", ended.stderr);
    quiet(&place, service).await;
    // Nobody is there: each message is answered all the same.
    let mut alone = Agent::with(&place, &["mcp", "--url", "http://127.0.0.1:9"], SERVICE_KEY);
    alone.send(ping(&json!(1)).as_bytes()).await;
    let told = alone.answer(&json!(1)).await;
    assert!(told["error"]["message"].as_str().is_some_and(|why| why.contains("127.0.0.1:9")), "{told}");
    assert_eq!(alone.ended().await, Some(0));
}

fn ping(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string()
}

fn called(id: &Value, tool: &str, arguments: &Value) -> String {
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
async fn quiet(place: &Place, service: Running) {
    let ended = service.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let broken = ended.stdout.lines().find(|line| line.contains("\"ERROR\"") || line.contains("panicked"));
    assert_eq!(broken, None, "nothing broke inside");
    verify_ledger(place).await;
}

/// `user-service mcp`, spoken to by lines.
struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Agent {
    fn start(place: &Place, token: &str) -> Self {
        Self::with(place, &["mcp"], token)
    }

    fn with(place: &Place, arguments: &[&str], token: &str) -> Self {
        let settings = PROGRAM.environment(place, &[("MCP_TOKEN", token)]);
        let mut child = Command::new(PROGRAM.0)
            .args(arguments)
            .env_clear()
            .envs(settings)
            .current_dir(place.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut log = child.stderr.take().expect("piped");
        // Read, or it would wait for us.
        tokio::spawn(async move { log.read_to_end(&mut Vec::new()).await });
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { input: child.stdin.take(), child, output }
    }

    async fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("it is open");
        tokio::time::timeout(LIMIT, input.write_all(bytes)).await.expect("it reads").expect("it runs");
        input.flush().await.expect("it runs");
    }

    async fn send(&mut self, message: &[u8]) {
        self.write(&[message, b"\n"].concat()).await;
    }

    /// The next message; a line that is none fails the story.
    async fn next(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(LIMIT, self.output.next_line()).await.expect("it answers");
        let line = line.expect("a text")?;
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(told["jsonrpc"], "2.0", "{line}");
        Some(told)
    }

    /// The answer of that id; what comes before it is about what was odd.
    async fn answer(&mut self, id: &Value) -> Value {
        loop {
            let told = self.next().await.expect("it goes on");
            if told["id"] == *id {
                return told;
            }
            assert!(
                told.get("error").is_some()
                    || told["result"]["isError"] == true
                    || told["result"] == json!({}),
                "{told}"
            );
        }
    }

    async fn asked(&mut self, id: &Value) -> Value {
        self.send(ping(id).as_bytes()).await;
        self.answer(id).await
    }

    async fn call(&mut self, id: &str, tool: &str, arguments: &Value) -> Value {
        self.send(called(&json!(id), tool, arguments).as_bytes()).await;
        self.answer(&json!(id)).await
    }

    async fn handshake(&mut self) {
        let client = json!({"name": "odd", "version": "1"});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        let begin = json!({"jsonrpc": "2.0", "id": "begin", "method": "initialize", "params": params});
        self.send(begin.to_string().as_bytes()).await;
        assert_eq!(self.answer(&json!("begin")).await["result"]["protocolVersion"], "2025-11-25");
        self.send(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    }

    /// Closes its input; gives its exit code and what it still said.
    async fn closed(&mut self) -> (Option<i32>, Vec<Value>) {
        drop(self.input.take());
        let mut answers = Vec::new();
        while let Some(told) = self.next().await {
            answers.push(told);
        }
        let status =
            tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends").expect("our child");
        (status.code(), answers)
    }

    async fn ended(&mut self) -> Option<i32> {
        self.closed().await.0
    }
}
