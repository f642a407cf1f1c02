//! Agents over the official Python SDK: every tool by HTTP and by stdin and stdout, and budgets that hold. What they do is in
//! `mcp/tools.py` and `mcp/loop.py`.

use crate::{PROGRAM, verify_ledger};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::process::{JWT_SECRET, Place, Running, SERVICE_KEY};
use tokio::process::Command;

/// How long a story of agents may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);
/// Agents ask often.
const UNLIMITED: (&str, &str) = ("RATE_LIMIT_ENABLED", "false");

either_engine!(every_tool_by_http, every_tool_by_stdio, ten_credits_are_the_most_that_agents_spend);

async fn every_tool_by_http(place: Place) {
    let service = PROGRAM.start(&place, &[UNLIMITED]).await;
    told("tools.py", &json!({"url": service.url("/mcp")})).await;
    ended(&place, service).await;
}

async fn every_tool_by_stdio(place: Place) {
    if place.is_postgres() {
        // Beside running services it changes no schema.
        let early = PROGRAM.run(&place, &["mcp"], &[("MCP_TOKEN", SERVICE_KEY)]).await;
        assert!(early.code == Some(2) && early.stderr.contains("user-service migrate"), "{}", early.stderr);
        assert_eq!(PROGRAM.run(&place, &["migrate"], &[]).await.code, Some(0));
    }
    let settings = PROGRAM.environment(&place, &[UNLIMITED]);
    let by_stdio = json!({"command": [PROGRAM.0, "mcp"], "env": settings, "cwd": place.folder()});
    told("tools.py", &by_stdio).await;
    verify_ledger(&place).await;
}

async fn ten_credits_are_the_most_that_agents_spend(place: Place) {
    let service = PROGRAM.start(&place, &[UNLIMITED, ("WELCOME_CREDITS", "0")]).await;
    told("loop.py", &json!({"url": service.url("/mcp")})).await;
    ended(&place, service).await;
}

/// A service that runs is reached by stdin and stdout too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tool_by_stdio_of_a_service_that_runs() {
    let place = Place::sqlite();
    let service = PROGRAM.start(&place, &[UNLIMITED]).await;
    let command = json!([PROGRAM.0, "mcp", "--url", service.url("")]);
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    told("tools.py", &json!({"command": command, "env": {}, "cwd": elsewhere.path()})).await;
    let left = std::fs::read_dir(elsewhere.path()).expect("a folder").count();
    assert_eq!(left, 0, "what only passes messages on keeps nothing");
    ended(&place, service).await;
}

/// Stops the service; its log has no error, and its ledger is sound.
async fn ended(place: &Place, service: Running) {
    let ended = service.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let broken = ended.stdout.lines().find(|line| line.contains("\"ERROR\"") || line.contains("panicked"));
    assert_eq!(broken, None, "nothing broke inside");
    verify_ledger(place).await;
}

/// Lets agents do what a script says, with a service that is reached as `service` says.
async fn told(script: &str, service: &Value) {
    let python =
        std::env::var_os("TEST_PYTHON").expect("TEST_PYTHON names no Python with the SDK: run ./test");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/mcp");
    let asked = Command::new(python)
        .arg(format!("{folder}/{script}"))
        .env("MCP_SERVICE", service.to_string())
        .env("MCP_SERVICE_KEY", SERVICE_KEY)
        .env("MCP_JWT_SECRET", JWT_SECRET)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(LIMIT, asked).await.expect("it ends in time").expect("it starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}{}", said(&ended.stdout), said(&ended.stderr));
}
