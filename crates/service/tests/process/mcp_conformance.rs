//! The conformance suite of the Model Context Protocol against `/mcp`, in every revision that the service speaks.
//!
//! The suite was made for libraries: many of its scenarios call tools, resources and prompts of its own, which a product does
//! not have. [`MET`] are those that a server of tools, resources and prompts can meet, [`NOT_OURS`] the others, each with its
//! reason. A scenario that is on neither list fails the test, so that a newer suite is looked at.

use crate::PROGRAM;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use testkit::process::{Place, Running};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// How long one run of the suite may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// The most that a header of the suite has.
const HEADER_MAX_BYTES: usize = 16 * 1024;
/// A result's folder is `server-<scenario>-<instant>`; as long is the end of its name.
const INSTANT_CHARS: usize = "-2026-07-28T00-00-00-000Z".len();

/// The revisions of the protocol.
const REVISIONS: [&str; 3] = ["2025-06-18", "2025-11-25", "2026-07-28"];

/// Scenarios of which every check must pass, in every revision that has them.
const MET: [&str; 11] = [
    "caching",
    "dns-rebinding-protection",
    "http-header-validation",
    "ping",
    "prompts-list",
    "resources-list",
    "sep-2164-resource-not-found",
    "server-initialize",
    "server-sse-multiple-streams",
    "server-stateless",
    "tools-list",
];

/// In this revision the suite asks by a session, and none are kept.
const BY_SESSION: (&str, &str) = ("2025-11-25", "server-sse-multiple-streams");

/// Checks within them that say themselves that they cannot be made without a tool of the suite's own, or that the suite makes of
/// one of its tools.
const UNTESTABLE: [&str; 4] = [
    "sep-2575-http-server-no-independent-requests-on-stream",
    "sep-2575-missing-capability-http-400",
    "sep-2575-server-no-log-without-loglevel",
    "sep-2575-server-rejects-undeclared-capability",
];

/// What a product cannot meet, and why.
const NOT_OURS: &[(&str, &str)] = &[
    ("completion-complete", "nothing is completed: ids are not to be guessed"),
    ("elicitation-sep1034-defaults", ASKS),
    ("elicitation-sep1330-enums", ASKS),
    ("http-custom-header-server-validation", FIXTURE),
    ("input-required-result-basic-elicitation", ASKS),
    ("input-required-result-basic-list-roots", ASKS),
    ("input-required-result-basic-sampling", ASKS),
    ("input-required-result-capability-check", ASKS),
    ("input-required-result-ignore-extra-params", ASKS),
    ("input-required-result-missing-input-response", ASKS),
    ("input-required-result-multi-round", ASKS),
    ("input-required-result-multiple-input-requests", ASKS),
    ("input-required-result-non-tool-request", ASKS),
    ("input-required-result-request-state", ASKS),
    ("input-required-result-result-type", ASKS),
    ("input-required-result-tampered-state", ASKS),
    ("input-required-result-unsupported-methods", ASKS),
    ("input-required-result-validate-input", ASKS),
    ("json-schema-2020-12", FIXTURE),
    ("logging-set-level", "logs are for operators, not for agents"),
    ("prompts-get-embedded-resource", FIXTURE),
    ("prompts-get-simple", FIXTURE),
    ("prompts-get-with-args", FIXTURE),
    ("prompts-get-with-image", FIXTURE),
    ("resources-read-binary", FIXTURE),
    ("resources-read-text", FIXTURE),
    ("resources-subscribe", "nothing is subscribed to: replicas keep no sessions"),
    ("resources-templates-read", FIXTURE),
    ("resources-unsubscribe", "nothing is subscribed to: replicas keep no sessions"),
    ("server-session-lifecycle", "no sessions are kept: any replica answers any request"),
    ("server-sse-polling", FIXTURE),
    ("tools-call-audio", FIXTURE),
    ("tools-call-elicitation", FIXTURE),
    ("tools-call-embedded-resource", FIXTURE),
    ("tools-call-error", FIXTURE),
    ("tools-call-image", FIXTURE),
    ("tools-call-mixed-content", FIXTURE),
    ("tools-call-sampling", FIXTURE),
    ("tools-call-simple-text", FIXTURE),
    ("tools-call-with-logging", FIXTURE),
    ("tools-call-with-progress", FIXTURE),
];
const FIXTURE: &str = "it calls a tool, a resource or a prompt of the suite's own";
const ASKS: &str = "no tool asks back: what is needed stands in its arguments";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_that_a_product_can_meet_is_met() {
    let place = Place::sqlite();
    let service = PROGRAM.start(&place, &[("RATE_LIMIT_ENABLED", "false")]).await;
    let front = Front::start(service.address, user_of(&service).await).await;
    let mut wrong = Vec::new();
    for revision in REVISIONS {
        let scenarios = asked(front.address, revision).await;
        for (scenario, checks) in &scenarios {
            if MET.contains(&scenario.as_str()) {
                eprintln!("{revision} {scenario}: {}", counted(checks));
            }
            wrong.extend(
                judged(revision, scenario, checks).into_iter().map(|what| format!("{revision}: {what}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(service.stop().await.code, Some(0));
}

/// The token of a user, who has resources of its own.
async fn user_of(service: &Running) -> String {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let token = http.post(service.url("/auth/dev-token?user_id=auth0%7Cconformance&email=suite@example.com"));
    let token: Value = token.send().await.expect("an answer").json().await.expect("JSON");
    let token = token["token"].as_str().expect("a token").to_owned();
    let made = http.post(service.url("/api/v1/users/ensure")).bearer_auth(&token);
    let made = made.json(&json!({"name": "Suite"})).send().await.expect("an answer");
    assert_eq!(made.status(), 200, "{made:?}");
    token
}

/// What is wrong with the answers to a scenario.
fn judged(revision: &str, scenario: &str, checks: &[Value]) -> Vec<String> {
    let failed = |check: &&Value| check["status"] == "FAILURE";
    let told = |check: &Value| format!("{scenario}: {}: {}", text(check, "id"), text(check, "errorMessage"));
    if MET.contains(&scenario) && (revision, scenario) != BY_SESSION {
        let ours = checks.iter().filter(failed).filter(|check| !UNTESTABLE.contains(&text(check, "id")));
        let looked = checks.iter().any(|check| check["status"] == "SUCCESS");
        let nothing = (!looked).then(|| format!("{scenario}: nothing was checked"));
        return ours.map(told).chain(nothing).collect();
    }
    if (revision, scenario) == BY_SESSION || NOT_OURS.iter().any(|(named, _)| *named == scenario) {
        // Whatever is refused must be refused in time, and in words of the protocol.
        let always = |check: &&Value| matches!(text(check, "id"), "wire-schema-valid" | "scenario-timeout");
        return checks.iter().filter(failed).filter(always).map(told).collect();
    }
    vec![format!("{scenario} is on no list; {:?}", checks.iter().map(told).collect::<Vec<_>>())]
}

/// How many checks passed, and which the suite only warns of.
fn counted(checks: &[Value]) -> String {
    let passed = checks.iter().filter(|check| check["status"] == "SUCCESS").count();
    let warned = checks.iter().filter(|check| check["status"] == "WARNING").map(|check| text(check, "id"));
    format!("{passed} passed {}", warned.collect::<Vec<_>>().join(" "))
}

fn text<'a>(check: &'a Value, field: &str) -> &'a str {
    check[field].as_str().unwrap_or_default()
}

/// Runs the suite in a revision; gives the checks of each scenario.
async fn asked(to: SocketAddr, revision: &str) -> BTreeMap<String, Vec<Value>> {
    let suite =
        std::env::var_os("TEST_MCP_CONFORMANCE").expect("TEST_MCP_CONFORMANCE names no suite: run ./test");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("http://{to}/mcp");
    let ended = Command::new(suite)
        .args(["server", "--url", &url, "--suite", "all", "--spec-version", revision, "--output-dir"])
        .arg(folder.path())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(LIMIT, ended).await.expect("it ends in time").expect("it starts");
    let mut scenarios = BTreeMap::new();
    for entry in std::fs::read_dir(folder.path()).expect("the results") {
        let entry = entry.expect("a result");
        let name = entry.file_name().to_string_lossy().into_owned();
        let checks = std::fs::read(entry.path().join("checks.json")).unwrap_or_default();
        let Ok(checks) = serde_json::from_slice(&checks) else { continue };
        let scenario = name.strip_prefix("server-").and_then(|rest| rest.get(..rest.len() - INSTANT_CHARS));
        let _ = scenarios.insert(scenario.expect("a scenario").to_owned(), checks);
    }
    assert!(!scenarios.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    scenarios
}

/// A proxy that adds a credential to each request, because the suite has none. Everything else is passed on as it is, the
/// headers that say where a page came from too.
struct Front {
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Front {
    async fn start(upstream: SocketAddr, credential: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, upstream, credential.clone()));
            }
        });
        Self { address, accepting }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Passes one request and its answer; the next one comes over a connection of its own.
async fn pass(mut client: TcpStream, upstream: SocketAddr, credential: String) -> Option<()> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        let mut chunk = [0; 4096];
        let more = client.read(&mut chunk).await.ok().filter(|more| *more > 0)?;
        read.extend_from_slice(&chunk[..more]);
        assert!(read.len() < HEADER_MAX_BYTES, "a header of the suite is small");
    };
    let header = String::from_utf8_lossy(&read[..end]).into_owned();
    let own = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
    let kept: Vec<&str> = header.split("\r\n").filter(own).collect();
    let added = format!("\r\nauthorization: Bearer {credential}\r\nconnection: close");
    let mut server = TcpStream::connect(upstream).await.ok()?;
    server.write_all((kept.join("\r\n") + &added).as_bytes()).await.ok()?;
    server.write_all(&read[end..]).await.ok()?;
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    Some(())
}
