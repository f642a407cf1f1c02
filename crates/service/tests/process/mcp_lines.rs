//! `user-service mcp`, spoken to by lines: what no good client sends, the end of the input, signals, what is missing, and a log that
//! tells nothing of what was said.

use crate::mcp_odd::{LIMIT, called, odd, ping, quiet};
use crate::{PROGRAM, verify_ledger};
use serde_json::{Value, json};
use std::process::Stdio;
use testkit::process::{Place, SERVICE_KEY};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// How often a message of many is sent.
const MANY: usize = 40;

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
    let mut alone =
        Agent::with(&place, &["mcp", "--url", "http://127.0.0.1:9"], &[("MCP_TOKEN", SERVICE_KEY)]);
    alone.send(ping(&json!(1)).as_bytes()).await;
    let told = alone.answer(&json!(1)).await;
    assert!(told["error"]["message"].as_str().is_some_and(|why| why.contains("127.0.0.1:9")), "{told}");
    assert_eq!(alone.ended().await, Some(0));
}

/// Its log is read by others than those who speak with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_of_its_log_tells_what_was_said() {
    let place = Place::sqlite();
    let mut agent = Agent::with(&place, &["mcp"], &[("LOG_LEVEL", "trace"), ("MCP_TOKEN", SERVICE_KEY)]);
    agent.handshake().await;
    let user = json!({"auth0_id": "auth0|canary", "email": "canary@example.com", "name": "Canary"});
    let made = agent.call("canary-1", "user_ensure_exists", &user).await;
    assert_eq!(made["result"]["structuredContent"]["created"], true, "{made}");
    let spend =
        json!({"auth0_id": "auth0|canary", "amount": 1, "reason": "canary", "idempotency_key": "canary"});
    let _ = agent.call("canary-2", "credits_consume", &spend).await;
    let _ = agent.call("canary-3", "canary", &json!({"canary": "canary"})).await;
    for (_, body) in odd() {
        agent.send(&[b"canary", &*body].concat()).await;
    }
    assert_eq!(agent.ended().await, Some(0));
    let log = agent.log().await;
    assert!(log.contains("\"/mcp\""), "each message has its line: {log}");
    assert!(!log.to_lowercase().contains("canary"), "{log}");
    assert!(!log.contains(SERVICE_KEY), "{log}");
}

/// `user-service mcp`, spoken to by lines.
struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    log: Option<JoinHandle<Vec<u8>>>,
}

impl Agent {
    fn start(place: &Place, token: &str) -> Self {
        Self::with(place, &["mcp"], &[("MCP_TOKEN", token)])
    }

    fn with(place: &Place, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let settings = PROGRAM.environment(place, settings);
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
        let mut stderr = child.stderr.take().expect("piped");
        // Read all the time, or it would wait for us.
        let log = tokio::spawn(async move {
            let mut log = Vec::new();
            let _ = stderr.read_to_end(&mut log).await;
            log
        });
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { input: child.stdin.take(), child, output, log: Some(log) }
    }

    /// All that it wrote to standard error, once it has ended.
    async fn log(&mut self) -> String {
        let log = self.log.take().expect("asked once").await.expect("it was read");
        String::from_utf8_lossy(&log).into_owned()
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
