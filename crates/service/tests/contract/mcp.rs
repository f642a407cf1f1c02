//! Tools for agents at `/mcp`: what they are, what they do, and what they refuse, over HTTP.

mod hostile;
mod lines;
mod tools;

use crate::support::with;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::schema::faults;
use testkit::{Actor, Answer, TestApp, both_engines};

/// The revisions that are spoken.
const OLDER: [&str; 2] = ["2025-06-18", "2025-11-25"];
const NEWEST: &str = "2026-07-28";

/// Sends a message as it is.
pub async fn send(actor: &Actor, message: &Value) -> Answer {
    actor.post("/mcp", message.clone()).await
}

/// Asks with a method, and gives the result.
pub async fn ask(actor: &Actor, method: &str, params: Value) -> Value {
    let answer =
        send(actor, &json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})).await.ok();
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)), "{method}: {answer}");
    assert!(answer["result"].is_object(), "{method}: {answer}");
    answer["result"].clone()
}

/// Asks with a method that is refused, and gives the error.
pub async fn refused(actor: &Actor, method: &str, params: Value) -> Value {
    let answer =
        send(actor, &json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})).await.json();
    assert!(answer["error"].is_object(), "{method}: {answer}");
    answer["error"].clone()
}

/// Calls a tool, and holds what comes back against what the tool says that it answers.
pub async fn called(actor: &Actor, tool: &str, arguments: Value) -> Value {
    let result = ask(actor, "tools/call", json!({"name": tool, "arguments": arguments})).await;
    let listed = ask(actor, "tools/list", json!({})).await;
    let listed = listed["tools"].as_array().into_iter().flatten().find(|one| one["name"] == tool);
    if let Some(listed) = listed {
        let found = faults(&listed["outputSchema"], &result["structuredContent"]);
        assert!(found.is_empty(), "{tool}: {found:#?} in {result}");
    }
    result
}

/// Calls a tool that does what it is for, and gives what it answers.
pub async fn done(actor: &Actor, tool: &str, arguments: Value) -> Value {
    let result = called(actor, tool, arguments).await;
    assert_eq!(result["isError"], false, "{tool}: {result}");
    let said = &result["structuredContent"];
    assert_eq!(said["success"], true, "{tool}: {result}");
    let text = result["content"][0]["text"].as_str().expect("a text");
    assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), *said, "{tool}: the text says the same");
    said.clone()
}

/// Calls a tool that is refused, and gives what to act on.
pub async fn fails(actor: &Actor, tool: &str, arguments: Value) -> Value {
    let result = called(actor, tool, arguments).await;
    assert_eq!(result["isError"], true, "{tool}: {result}");
    let said = &result["structuredContent"];
    assert_eq!(said["success"], false, "{tool}: {result}");
    let text = result["content"][0]["text"].as_str().expect("a text");
    assert!(text.starts_with(said["message"].as_str().expect("a sentence")), "{tool}: {result}");
    said.clone()
}

/// What every request of the newest revision carries.
fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": NEWEST,
        "io.modelcontextprotocol/clientInfo": {"name": "a story", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// Sends a message of the newest revision, with what it wants in headers.
async fn send_newest(actor: &Actor, method: &str, params: Value) -> Answer {
    let name = params["name"].as_str().or(params["uri"].as_str()).map(str::to_owned);
    let params = with(params, json!({"_meta": meta()}));
    let mut request = actor
        .request(reqwest::Method::POST, "/mcp")
        .header("mcp-protocol-version", NEWEST)
        .header("mcp-method", method)
        .header("accept", "application/json, text/event-stream");
    if let Some(name) = name {
        request = request.header("mcp-name", name);
    }
    request.json(&json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": params})).send().await
}

both_engines! {
    async fn each_handshake_is_answered_in_its_own_revision(app: TestApp) {
        for (asked, agreed) in [(OLDER[0], OLDER[0]), (OLDER[1], OLDER[1]), ("2024-11-05", OLDER[1]), ("2099-01-01", OLDER[1])] {
            let hello = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "a story", "version": "1"}});
            let answer = ask(&app.alice, "initialize", hello).await;
            assert_eq!(answer["protocolVersion"], agreed, "{asked}: {answer}");
            assert_eq!(answer["capabilities"], json!({"tools": {}, "resources": {}, "prompts": {}}));
            assert_eq!(answer["serverInfo"]["name"], "user-service");
            assert_eq!(answer["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
            assert!(answer["instructions"].as_str().is_some_and(|text| text.contains("credits_hold")));
            let heard = app.alice.request(reqwest::Method::POST, "/mcp").header("mcp-protocol-version", agreed)
                .json(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).send().await;
            assert_eq!((heard.status, heard.text().as_str()), (202, ""));
            assert_eq!(ask(&app.alice, "ping", json!({})).await, json!({}));
        }
        // The newest has no handshake: every request says what it speaks.
        let found = send_newest(&app.alice, "server/discover", json!({})).await.ok();
        assert_eq!(found["result"]["supportedVersions"], json!([OLDER[0], OLDER[1], NEWEST]), "{found}");
        let listed = send_newest(&app.alice, "tools/list", json!({})).await.ok();
        assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(16));
        assert_eq!((&listed["result"]["resultType"], &listed["result"]["cacheScope"]), (&json!("complete"), &json!("private")));
        let made = send_newest(&app.alice, "tools/call", json!({"name": "user_ensure_exists", "arguments": {}})).await.ok();
        assert_eq!(made["result"]["structuredContent"]["created"], true, "{made}");
        let unknown = send_newest(&app.alice, "sampling/nothing", json!({})).await;
        assert_eq!((unknown.status, unknown.json()["error"]["code"].clone()), (404, json!(-32601)));
        let lies = app.alice.request(reqwest::Method::POST, "/mcp").header("mcp-protocol-version", NEWEST).header("mcp-method", "tools/list")
            .json(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "credits_balance", "arguments": {}, "_meta": meta()}})).send().await;
        assert_eq!((lies.status, lies.json()["error"]["code"].clone()), (400, json!(-32020)), "{}", lies.text());
        for odd in ["1999-01-01", "2024-11-05", "2025-03-26", "x"] {
            let answer = app.alice.request(reqwest::Method::POST, "/mcp").header("mcp-protocol-version", odd)
                .json(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).send().await;
            answer.refuses_field(&["header", "MCP-Protocol-Version"], "must be one of 2025-06-18, 2025-11-25, 2026-07-28");
        }
    }

    async fn the_tools_are_listed_as_the_documentation_lists_them(app: TestApp) {
        let listed = ask(&app.alice, "tools/list", json!({})).await;
        let tools = listed["tools"].as_array().expect("a list").clone();
        let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/mcp.md")).expect("docs/mcp.md");
        let rows: Vec<&str> = documented.lines().filter(|line| line.starts_with("| `") && line.contains("`POST /") || line.starts_with("| `") && line.contains("`GET /")).collect();
        let mut wanted = Vec::new();
        for tool in &tools {
            let name = tool["name"].as_str().expect("a name");
            for schema in ["inputSchema", "outputSchema"] {
                assert_eq!(tool[schema]["type"], "object", "{name}");
                assert!(!tool[schema].to_string().contains("$ref"), "{name}");
                let _ = faults(&tool[schema], &json!({}));
            }
            assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
            assert_eq!(tool["annotations"]["openWorldHint"], false, "{name}");
            for text in [&tool["title"], &tool["description"]] {
                assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{name}");
            }
            for (argument, schema) in tool["inputSchema"]["properties"].as_object().into_iter().flatten() {
                assert!(schema["description"].is_string(), "{name}.{argument}: {schema}");
            }
            wanted.push(row(&app, tool));
        }
        assert!(rows == wanted, "the table of docs/mcp.md should read:\n{}", wanted.join("\n"));
    }

    async fn only_what_the_scopes_allow_is_listed(app: TestApp) {
        let names = async |actor: &Actor| -> BTreeSet<String> {
            let listed = ask(actor, "tools/list", json!({})).await;
            listed["tools"].as_array().expect("a list").iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
        };
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let anybody = ["user_service_status", "credits_quote"];
        for everything in [&app.alice, &app.backend, &app.admin] {
            assert_eq!(names(everything).await.len(), 16);
        }
        let (_, reader) = crate::keys::make(&app, "credits:read", json!({})).await;
        let may: Vec<&str> = anybody.into_iter().chain(["credits_balance", "limits_check", "transaction_explain"]).collect();
        assert_eq!(names(&reader).await, set(&may));
        assert_eq!(ask(&reader, "resources/templates/list", json!({})).await["resourceTemplates"].as_array().map(Vec::len), Some(1));
        assert_eq!(ask(&reader, "resources/list", json!({})).await["resources"], json!([]), "a program has none of its own");
        let (_, other) = crate::keys::make(&app, "files:read", json!({})).await;
        assert_eq!(names(&other).await, set(&anybody));
        assert_eq!(ask(&other, "prompts/list", json!({})).await["prompts"], json!([]));
        // A user's token that is good for one thing lists that one.
        app.alice.ensure().await;
        let issued = app.backend.post("/auth/user-tokens", json!({"user_id": "auth0|alice", "scopes": ["credits:spend"], "expires_in": 600})).await.ok();
        let spender = app.bearing(&format!("Bearer {}", issued["token"].as_str().expect("a token")));
        let may: Vec<&str> = anybody.into_iter().chain(["credits_consume", "credits_hold", "credits_capture", "credits_release"]).collect();
        assert_eq!(names(&spender).await, set(&may));
        let _ = done(&spender, "credits_consume", json!({"amount": 1})).await;
        let refused = fails(&spender, "credits_balance", json!({})).await;
        assert_eq!((&refused["status"], &refused["message"]), (&json!(403), &json!("The token lacks the scope credits:read")));
    }
}

/// The row of the documentation's table for a tool.
fn row(app: &TestApp, tool: &Value) -> String {
    let name = tool["name"].as_str().expect("a name");
    let of_tool = user_service::mcp::table::TOOLS.iter().find(|row| row.name == name).expect(name);
    let found =
        app.document.operations().find(|(_, _, operation)| operation["operationId"] == of_tool.operation);
    let (path, method, _) = found.expect(of_tool.operation);
    let required: Vec<&str> =
        tool["inputSchema"]["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let needed = required.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let hints = &tool["annotations"];
    let words = [("readOnlyHint", "reads"), ("destructiveHint", "changes"), ("idempotentHint", "repeats")];
    let effect: Vec<&str> =
        words.iter().filter(|(hint, _)| hints[hint] == true).map(|(_, word)| *word).collect();
    let user = if of_tool.names_user { "user" } else { "" };
    format!(
        "| `{name}` | `{} {}` | {user} | {needed} | {} |",
        method.to_uppercase(),
        path.replace('|', "\\|"),
        effect.join(", ")
    )
}
