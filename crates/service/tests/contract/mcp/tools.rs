//! Each tool by what it does, and by what it refuses.

use super::{ask, called, done, fails, refused, send};
use crate::support::{balance, masked};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::{Engine, TestApp, both_engines};

/// The reasons for which an argument was refused, by its place.
fn invalid(refused: &Value) -> Value {
    refused["details"]["invalid"][0].clone()
}

both_engines! {
    async fn every_tool_does_what_it_is_for(app: TestApp) {
        let mut used = BTreeSet::new();
        let mut tool = async |actor: &testkit::Actor, name: &str, arguments: Value| {
            used.insert(name.to_owned());
            done(actor, name, arguments).await
        };
        let status = tool(&app.alice, "user_service_status", json!({})).await;
        assert_eq!((&status["success"], &status["status"]), (&json!(true), &json!("healthy")));
        let who = json!({"auth0_id": "auth0|alice", "email": "alice@example.com", "name": "Alice"});
        let made = tool(&app.backend, "user_ensure_exists", who.clone()).await;
        assert_eq!((&made["created"], &made["credits"]), (&json!(true), &json!(1000)));
        assert_eq!(tool(&app.backend, "user_ensure_exists", who).await["created"], false);
        let named = json!({"auth0_id": "auth0|alice"});
        assert_eq!(tool(&app.backend, "user_get_info", named.clone()).await["data"]["email"], "alice@example.com");
        assert_eq!(tool(&app.backend, "user_get_info", json!({"user_id": made["user_id"]})).await["data"]["auth0_id"], "auth0|alice");
        assert_eq!(tool(&app.alice, "user_get_info", json!({})).await["data"]["auth0_id"], "auth0|alice");

        let spent = tool(&app.alice, "credits_consume", json!({"amount": 25.5, "reason": "a question"})).await;
        assert_eq!((&spent["remaining_credits"], &spent["data"]["description"]), (&json!(974.5), &json!("a question")));
        assert_eq!(tool(&app.backend, "credits_consume", json!({"user_id": "auth0|alice", "amount": "0.5", "reason": "more"})).await["balance"], 974);
        assert_eq!(tool(&app.alice, "credits_balance", named.clone()).await["data"], 974);

        let price = json!({"rates": {"input": "0.000001", "output": "0.000002"}});
        let _ = app.admin.request(reqwest::Method::PUT, "/api/v1/prices/a-model").json(&price).send().await.ok();
        let quoted = tool(&app.alice, "credits_quote", json!({"model": "a-model", "prompt_tokens": 1000, "completion_tokens": 500})).await;
        assert!(quoted["data"].is_object(), "{quoted}");
        let charged = tool(&app.alice, "usage_charge", json!({"event_type": "chat", "credits": 4, "event_id": "e1", "model_name": "a-model"})).await;
        assert_eq!((&charged["data"]["credits"], &charged["data"]["available"]), (&json!(4), &json!(970)));
        assert_eq!(tool(&app.alice, "usage_charge", json!({"event_type": "chat", "credits": 4, "event_id": "e1", "model_name": "a-model"})).await["data"]["duplicate"], true);

        let held = tool(&app.alice, "credits_hold", json!({"amount": 10})).await;
        assert_eq!(held["available"], 960);
        let captured = tool(&app.alice, "credits_capture", json!({"hold_id": held["hold_id"], "amount": 7.25})).await;
        assert_eq!((&captured["data"]["status"], &captured["data"]["captured"]), (&json!("captured"), &json!(7.25)));
        let other = tool(&app.alice, "credits_hold", json!({"amount": 100})).await;
        assert_eq!(tool(&app.alice, "credits_release", json!({"hold_id": other["hold_id"]})).await["data"]["status"], "released");
        assert_eq!(balance(&app.alice).await, 962.75);

        let _ = app.backend.post(&app.alice.own("/usage"), json!({"event_type": "chat", "tokens_used": 7})).await.ok();
        assert_eq!(tool(&app.alice, "usage_stats", json!({"event_type": "chat", "start_date": "2025-07-01"})).await["data"]["total_records"], 2);
        let session = tool(&app.alice, "session_create", json!({"title": "A talk"})).await["session_id"].clone();
        let said = tool(&app.alice, "session_append", json!({"session_id": session, "role": "user", "content": "Hello"})).await;
        assert_eq!(said["data"]["content"], "Hello");
        let read = tool(&app.alice, "session_messages", json!({"session_id": session, "limit": 1, "order": "desc"})).await;
        assert_eq!(read["data"][0]["content"], "Hello");
        let within = tool(&app.alice, "limits_check", json!({"credits": 5})).await;
        assert!(within["data"].is_object(), "{within}");
        let why = tool(&app.alice, "transaction_explain", json!({"transaction_id": spent["transaction_id"]})).await;
        assert!(why["data"]["sentences"][0].is_string(), "{why}");
        let all: BTreeSet<String> = user_service::mcp::table::TOOLS.iter().map(|row| row.name.to_owned()).collect();
        assert_eq!(used, all, "each tool was called");
    }

    async fn a_refusal_says_what_to_act_on(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let lacks = fails(&app.alice, "credits_consume", json!({"amount": 5000})).await;
        assert_eq!(masked(lacks), json!({
            "success": false, "error": "InsufficientCreditsException", "message": "Insufficient credits. Available: 1000, Required: 5000", "status": 400,
            "details": {"operation": "consume_credits", "user_id": "auth0|alice", "available": 1000, "required": 5000, "retryable": false, "top_up_url": null}, "request_id": "<request>",
        }));
        for (tool, arguments) in [("credits_hold", json!({"amount": 1000.5})), ("usage_charge", json!({"event_type": "chat", "credits": 1000.5}))] {
            let lacks = fails(&app.alice, tool, arguments).await;
            let details = &lacks["details"];
            assert_eq!((&lacks["status"], &details["required"], &details["available"]), (&json!(402), &json!(1000.5), &json!(1000)), "{tool}");
            assert!(details.as_object().is_some_and(|all| all.contains_key("top_up_url") && all.contains_key("retryable")), "{tool}");
        }
        for (actor, tool, arguments, status, code) in [
            (&app.bob, "credits_balance", json!({"auth0_id": "auth0|alice"}), 403, "AuthorizationException"),
            (&app.bob, "credits_consume", json!({"user_id": "auth0|alice", "amount": 1}), 403, "AuthorizationException"),
            (&app.bob, "user_ensure_exists", json!({"auth0_id": "auth0|alice"}), 403, "AuthorizationException"),
            (&app.backend, "user_get_info", json!({"auth0_id": "auth0|nobody"}), 404, "UserNotFoundException"),
            (&app.alice, "session_messages", json!({"session_id": "no/such session"}), 404, "SessionNotFoundException"),
            (&app.alice, "credits_capture", json!({"hold_id": "hld_1_999"}), 404, "NotFoundException"),
            (&app.alice, "transaction_explain", json!({"transaction_id": "txn_1_999"}), 404, "NotFoundException"),
        ] {
            let refused = fails(actor, tool, arguments).await;
            assert_eq!((&refused["status"], &refused["error"]), (&json!(status), &json!(code)), "{tool}: {refused}");
        }
        let session = done(&app.alice, "session_create", json!({})).await["session_id"].clone();
        for (actor, tool, arguments, loc, msg) in [
            (&app.alice, "credits_consume", json!({"amount": -1}), json!(["arguments", "amount"]), "must be greater than 0"),
            (&app.alice, "credits_consume", json!({}), json!(["arguments", "amount"]), "Field required"),
            (&app.alice, "credits_consume", json!({"amount": 1, "ammount": 2}), json!(["arguments", "ammount"]), "is no argument of this tool"),
            (&app.alice, "credits_balance", json!({"user_id": "auth0|alice", "auth0_id": "auth0|alice"}), json!(["arguments", "auth0_id"]), "must not be given together with user_id"),
            (&app.alice, "credits_balance", json!({"auth0_id": ["auth0|alice"]}), json!(["arguments", "auth0_id"]), "must be a text"),
            (&app.alice, "credits_balance", json!({"auth0_id": ""}), json!(["arguments", "auth0_id"]), "must not be empty"),
            (&app.backend, "credits_balance", json!({}), json!(["arguments", "auth0_id"]), "Field required"),
            (&app.alice, "user_get_info", json!({"auth0_id": "me"}), json!(["arguments", "auth0_id"]), "must not be me"),
            (&app.alice, "user_get_info", json!({"auth0_id": "ensure"}), json!(["arguments", "auth0_id"]), "must not be ensure"),
            (&app.backend, "user_get_info", json!({"auth0_id": "|".repeat(22_000)}), json!(["arguments", "auth0_id"]), "must be at most 4096 bytes"),
            (&app.alice, "usage_stats", json!({"model_name": "m".repeat(5000)}), json!(["arguments", "model_name"]), "must be at most 4096 bytes"),
            (&app.backend, "credits_balance", json!({"auth0_id": "../../health"}), json!(["arguments", "auth0_id"]), "must be"),
            (&app.alice, "credits_capture", json!({"amount": 1}), json!(["arguments", "hold_id"]), "Field required"),
            (&app.alice, "session_messages", json!({"session_id": session, "limit": 0}), json!(["arguments", "limit"]), "must be"),
            (&app.alice, "credits_consume", json!({"amount": 1, "idempotency_key": "k\n"}), json!(["arguments", "idempotency_key"]), "printable ASCII"),
            (&app.alice, "credits_consume", json!({"amount": 1, "idempotency_key": "k".repeat(256)}), json!(["arguments", "idempotency_key"]), "1 to 255 printable ASCII"),
        ] {
            let refused = fails(actor, tool, arguments.clone()).await;
            assert_eq!((&refused["status"], &refused["error"]), (&json!(400), &json!("ValidationException")), "{tool} {arguments}: {refused}");
            let wrong = invalid(&refused);
            assert_eq!(wrong["loc"], loc, "{tool} {arguments}: {refused}");
            assert!(wrong["msg"].as_str().is_some_and(|found| found.contains(msg)), "{tool} {arguments}: {refused}");
        }
        assert_eq!(balance(&app.alice).await, 1000, "nothing was done");
    }

    async fn a_key_does_it_once(app: TestApp) {
        app.alice.ensure().await;
        let spend = json!({"amount": 10, "reason": "once", "idempotency_key": "k1"});
        let first = called(&app.alice, "credits_consume", spend.clone()).await;
        for _ in 0..3 {
            assert_eq!(called(&app.alice, "credits_consume", spend.clone()).await, first, "the same answer, byte for byte");
        }
        assert_eq!(balance(&app.alice).await, 990);
        let other = fails(&app.alice, "credits_consume", json!({"amount": 11, "reason": "once", "idempotency_key": "k1"})).await;
        assert_eq!((&other["status"], &other["error"]), (&json!(422), &json!("IdempotencyMismatch")));
        // Another caller's key of the same name is another key.
        let _ = done(&app.backend, "credits_consume", json!({"auth0_id": "auth0|alice", "amount": 10, "reason": "once", "idempotency_key": "k1"})).await;
        assert_eq!(balance(&app.alice).await, 980);
        // A refused call uses no key up.
        let _ = fails(&app.alice, "credits_hold", json!({"amount": 5000, "idempotency_key": "k2"})).await;
        let _ = done(&app.alice, "credits_hold", json!({"amount": 5, "idempotency_key": "k2"})).await;
    }

    async fn a_decimal_keeps_all_its_places(app: TestApp) {
        app.alice.ensure().await;
        let amount = "4000000000000.000001";
        let _ = app.backend.post_text(&app.alice.own("/credits/recharge"), format!("{{\"amount\": {amount}}}")).await.ok();
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"credits_consume","arguments":{{"amount":{amount}}}}}}}"#);
        let answer = app.alice.post_text("/mcp", call).await.ok();
        let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
        assert!(text.contains(&format!("\"consumed_amount\":{amount}")), "{text}");
        assert_eq!(balance(&app.alice).await, 1000);
        let twice = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"credits_consume","arguments":{"amount":1,"amount":2}}}"#;
        let refused = app.alice.post_text("/mcp", twice).await.ok();
        assert_eq!(refused["result"]["isError"], true, "{refused}");
        assert_eq!(balance(&app.alice).await, 1000);
    }

    async fn what_the_api_writes_down_is_written_down(app: TestApp) {
        let who = json!({"auth0_id": "auth0|carol", "email": "carol@example.com", "name": "Carol"});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "user_ensure_exists", "arguments": who}});
        let request = app.backend.request(reqwest::Method::POST, "/mcp").header("x-request-id", "req-9").json(&message);
        let made = request.send().await;
        assert_eq!((made.ok()["result"]["isError"].clone(), made.header("x-request-id")), (json!(false), Some("req-9")));
        let rows = app.admin.get("/api/v1/admin/audit").await.data();
        assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
        let row = &rows[0];
        assert_eq!((&row["action"], &row["actor"], &row["request_id"]), (&json!("ensure_user"), &json!("key:bootstrap"), &json!("req-9")));
        assert_eq!(row["client_ip"], "127.0.0.1", "it is the agent's address");
        let spent = done(&app.admin, "credits_consume", json!({"auth0_id": "auth0|carol", "amount": 1})).await;
        let rows = app.admin.get("/api/v1/admin/audit").await.data();
        assert_eq!(rows[0]["action"], "consume_credits", "{rows}");
        let why = done(&app.admin, "transaction_explain", json!({"user_id": "auth0|carol", "transaction_id": spent["transaction_id"]})).await;
        assert_eq!(why["data"]["actor"], "user:auth0|admin");
    }

    async fn a_user_reads_what_it_is_and_has_and_asks_why(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let listed = ask(&app.alice, "resources/list", json!({})).await;
        let own: Vec<&str> = listed["resources"].as_array().expect("a list").iter().filter_map(|one| one["uri"].as_str()).collect();
        assert_eq!(own, ["user://auth0%7Calice/profile", "user://auth0%7Calice/balance"]);
        let templates = ask(&app.backend, "resources/templates/list", json!({})).await;
        assert_eq!(templates["resourceTemplates"][1]["uriTemplate"], "user://{auth0_id}/balance");
        for (actor, uri) in [(&app.alice, own[1]), (&app.backend, "user://auth0|alice/balance")] {
            let read = ask(actor, "resources/read", json!({"uri": uri})).await;
            assert_eq!((&read["contents"][0]["uri"], &read["contents"][0]["mimeType"]), (&json!(uri), &json!("application/json")));
            let text: Value = serde_json::from_str(read["contents"][0]["text"].as_str().expect("a text")).expect("JSON");
            assert_eq!(text["data"], 1000);
        }
        let of_another = refused(&app.bob, "resources/read", json!({"uri": "user://auth0%7Calice/profile"})).await;
        assert_eq!((&of_another["code"], &of_another["data"]["status"]), (&json!(-32602), &json!(403)), "{of_another}");
        for uri in ["user://auth0%7Cnobody/profile", "user://auth0%7Calice/secrets", "file:///etc/passwd"] {
            let refused = refused(&app.backend, "resources/read", json!({"uri": uri})).await;
            assert_eq!((&refused["code"], &refused["data"]["uri"]), (&json!(-32002), &json!(uri)));
        }

        let prompts = ask(&app.alice, "prompts/list", json!({})).await;
        assert_eq!(prompts["prompts"][0]["name"], "why_was_i_charged");
        let spent = done(&app.alice, "credits_consume", json!({"amount": 3, "reason": "a drawing"})).await;
        let given = json!({"name": "why_was_i_charged", "arguments": {"transaction_id": spent["transaction_id"]}});
        let prompt = ask(&app.alice, "prompts/get", given).await;
        let text = prompt["messages"][0]["content"]["text"].as_str().expect("a text");
        assert!(text.contains(spent["transaction_id"].as_str().expect("an id")) && text.contains("a drawing"), "{text}");
        for (actor, arguments, code) in [
            (&app.alice, json!({}), -32602),
            (&app.alice, json!({"transaction_id": "txn_1_999"}), -32002),
            (&app.bob, json!({"transaction_id": spent["transaction_id"], "user": "auth0|alice"}), -32602),
            (&app.alice, json!({"transaction_id": spent["transaction_id"], "usr": "auth0|alice"}), -32602),
        ] {
            let refused = refused(actor, "prompts/get", json!({"name": "why_was_i_charged", "arguments": arguments})).await;
            assert_eq!(refused["code"], code, "{refused}");
        }
        assert_eq!(refused(&app.alice, "prompts/get", json!({"name": "nothing"})).await["code"], -32602);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_counted_as_what_it_stands_for_and_once() {
    let settings =
        [("RATE_LIMIT_ENABLED", "true"), ("RATE_LIMIT_REQUESTS", "3"), ("RATE_LIMIT_WRITE_REQUESTS", "2")];
    let app = TestApp::start_with(Engine::Sqlite, &settings).await;
    app.alice.ensure().await;
    let call = |name: &str, arguments: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}});
    // The one write that is left; the message itself takes nothing from the reads.
    let spent = send(&app.alice, &call("credits_consume", json!({"amount": 1}))).await;
    assert_eq!(spent.ok()["result"]["isError"], false);
    assert_eq!(spent.header("ratelimit"), Some("\"write\";r=0;t=60"));
    let refused = send(&app.alice, &call("credits_consume", json!({"amount": 1}))).await.ok();
    let said = &refused["result"]["structuredContent"];
    assert_eq!(
        (&said["status"], &said["error"], &said["details"]["retry_after"]),
        (&json!(429), &json!("RateLimitExceededException"), &json!(30))
    );
    assert_eq!(
        send(&app.alice, &call("credits_balance", json!({}))).await.header("ratelimit"),
        Some("\"read\";r=2;t=20")
    );
    // Whatever stands for nothing is one read: a list, a status, a mistake.
    assert_eq!(
        send(&app.alice, &call("user_service_status", json!({}))).await.header("ratelimit"),
        Some("\"read\";r=1;t=40")
    );
    assert_eq!(
        send(&app.alice, &call("no_such_tool", json!({}))).await.header("ratelimit"),
        Some("\"read\";r=0;t=60")
    );
    for message in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        call("no_such_tool", json!({})),
        json!([]),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
    ] {
        let refused = send(&app.alice, &message).await;
        refused.refuses(429, "RateLimitExceededException", "Too many requests; try again in 20 s");
    }
    // Nor is anything read of whoever has nothing left.
    let headers = "content-type: application/json\r\ncontent-length: 900000\r\nconnection: close";
    let token = testkit::actors::sign(
        &testkit::actors::claims(&json!({"sub": "auth0|alice"}), app.now()),
        testkit::app::JWT_SECRET,
    );
    let unread = app
        .raw(format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{headers}\r\n\r\n"
        ))
        .await;
    assert!(unread.starts_with("HTTP/1.1 429"), "{unread}");
    app.finish().await;
}
