//! §5: usage records.

use crate::support::{NOW, balance, column, envelope, masked};
use serde_json::{Value, json};
use testkit::both_engines;

fn documented(user: &str) -> Value {
    json!({
        "user_id": user, "session_id": "sess_abc123def456", "trace_id": "trace_xyz789abc", "endpoint": "/api/chat/completion",
        "event_type": "ai_chat", "credits_charged": 5.5, "cost_usd": 0.011, "calculation_method": "gpt4_pricing",
        "tokens_used": 1250, "prompt_tokens": 800, "completion_tokens": 450, "model_name": "gpt-4", "provider": "openai",
        "tool_name": "chat_service", "operation_name": "generate_response",
        "billing_metadata": {"request_id": "req_abc123", "billing_tier": "pro", "region": "us-east-1"},
        "request_data": {"temperature": 0.7, "max_tokens": 500},
        "response_data": {"finish_reason": "stop", "model_version": "gpt-4-0613"},
    })
}

both_engines! {
    async fn the_documented_record_comes_back_with_all_its_fields(app: TestApp) {
        app.alice.ensure().await;
        let answer = app.alice.post(&app.alice.own("/usage"), documented("auth0|alice")).await.ok();
        let mut wanted = documented("auth0|alice");
        wanted["id"] = "<id>".into();
        wanted["created_at"] = NOW.into();
        assert_eq!(wanted.as_object().map(serde_json::Map::len), Some(20));
        // `request_id` inside the caller's own metadata is hidden by the mask in both.
        wanted["billing_metadata"]["request_id"] = "<request>".into();
        assert_eq!(masked(answer.clone()), envelope("Usage recorded successfully", wanted.clone()));
        assert_eq!(balance(&app.alice).await, 1000, "recording deducts nothing");
        let list = app.alice.get(&app.alice.own("/usage")).await.ok();
        assert_eq!(list["message"], "Retrieved 1 usage records");
        assert_eq!(list["data"][0], answer["data"]);
    }

    async fn only_the_event_type_is_required(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/usage");
        let answer = app.alice.post(&path, json!({"event_type": "ping"})).await.data();
        assert_eq!(masked(answer), json!({
            "id": "<id>", "user_id": "auth0|alice", "session_id": null, "trace_id": null, "endpoint": "", "event_type": "ping",
            "credits_charged": 0, "cost_usd": 0, "calculation_method": "unknown", "tokens_used": 0, "prompt_tokens": 0,
            "completion_tokens": 0, "model_name": null, "provider": null, "tool_name": null, "operation_name": null,
            "billing_metadata": {}, "request_data": {}, "response_data": {}, "created_at": NOW,
        }));
        app.alice.post(&path, json!({"endpoint": "/x"})).await.refuses_field(&["body", "event_type"], "Field required");
        let by_query = app.alice.post_query(&format!("{path}?event_type=q&prompt_tokens=7&cost=0.5")).await.data();
        assert_eq!((&by_query["tokens_used"], &by_query["cost_usd"]), (&json!(7), &json!(0.5)));
    }

    async fn old_names_of_fields_are_taken_and_new_ones_win(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/usage");
        let data = app.alice.post(&path, json!({
            "event_type": "a", "input_tokens": "30", "output_tokens": 12, "cost": "0.00000015", "request_metadata": {"a": 1},
        })).await;
        assert!(data.text().contains("\"cost_usd\":0.00000015,"), "{}", data.text());
        let data = data.data();
        assert_eq!((&data["prompt_tokens"], &data["completion_tokens"], &data["tokens_used"]), (&json!(30), &json!(12), &json!(42)));
        assert_eq!(data["billing_metadata"], json!({"a": 1}));
        let data = app.alice.post(&path, json!({
            "event_type": "a", "input_tokens": 1, "prompt_tokens": 2, "output_tokens": 3, "completion_tokens": 4, "tokens_used": 5,
            "cost": 6, "cost_usd": 7, "request_metadata": {"old": true}, "billing_metadata": {"new": true},
        })).await.data();
        assert_eq!((&data["prompt_tokens"], &data["completion_tokens"], &data["tokens_used"]), (&json!(2), &json!(4), &json!(5)));
        assert_eq!((&data["cost_usd"], &data["billing_metadata"]), (&json!(7), &json!({"new": true})));
    }

    async fn every_limit_holds_at_its_edge_and_refuses_one_past_it(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/usage");
        let texts = [("event_type", 100), ("endpoint", 500), ("session_id", 255), ("trace_id", 255), ("calculation_method", 100),
            ("model_name", 200), ("provider", 100), ("tool_name", 200), ("operation_name", 200), ("event_id", 255)];
        for (field, most) in texts {
            for text in ["x".repeat(most), "é".repeat(most), "🦀".repeat(most)] {
                let mut body = json!({"event_type": "edge"});
                body[field] = text.clone().into();
                assert_eq!(app.alice.post(&path, body).await.data()[field], text.as_str(), "{field}");
            }
            let mut body = json!({"event_type": "edge"});
            body[field] = "x".repeat(most + 1).into();
            app.alice.post(&path, body).await.refuses_field(&["body", field], &format!("to {most} characters"));
        }
        for (field, most, past) in [
            ("tokens_used", "2147483647", "2147483648"), ("prompt_tokens", "2147483647", "2147483648"),
            ("completion_tokens", "2147483647", "2147483648"), ("input_tokens", "2147483647", "2147483648"),
            ("output_tokens", "2147483647", "2147483648"), ("credits_charged", "9000000000000", "9000000000000.000001"),
        ] {
            let _ = app.alice.post_text(&path, format!("{{\"event_type\":\"edge\",\"{field}\":{most}}}")).await.ok();
            app.alice.post_text(&path, format!("{{\"event_type\":\"edge\",\"{field}\":{past}}}")).await
                .refuses_field(&["body", field], &format!("must be at most {most}"));
        }
        for field in ["tokens_used", "prompt_tokens", "completion_tokens", "credits_charged", "cost_usd", "cost", "input_tokens", "output_tokens"] {
            for value in ["-1", "\"-1\"", "\"x\"", "true", "[]"] {
                app.alice.post_text(&path, format!("{{\"event_type\":\"edge\",\"{field}\":{value}}}")).await.refuses_field(&["body", field], "must");
            }
        }
        for (field, value) in [("credits_charged", "0.0000001"), ("cost_usd", "0.0000000001"), ("tokens_used", "1.5")] {
            app.alice.post_text(&path, format!("{{\"event_type\":\"edge\",\"{field}\":{value}}}")).await.refuses_field(&["body", field], "must");
        }
        app.alice.post(&path, json!({"event_type": ""})).await.refuses_field(&["body", "event_type"], "1 to 100 characters");
        app.alice.post(&path, json!({"event_type": "x", "event_id": ""})).await.refuses_field(&["body", "event_id"], "1 to 255 characters");
        let both = app.alice.post(&path, json!({"event_type": "x", "prompt_tokens": 2_147_483_647, "completion_tokens": 2_147_483_647})).await.data();
        assert_eq!(both["tokens_used"], 2_147_483_647, "the sum is held at the largest count");
    }

    async fn objects_are_kept_as_they_came_up_to_64_kib(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/usage");
        let text = r#"{"event_type":"x","request_data":{"big":123456789012345678901234567890,"exact":1.10,"nul":"\u0000","crab":"🦀"}}"#;
        let answer = app.alice.post_text(&path, text).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let kept = r#""request_data":{"big":123456789012345678901234567890,"exact":1.10,"nul":"\u0000","crab":"🦀"}"#;
        assert!(answer.text().contains(kept), "{}", answer.text());
        assert!(app.alice.get(&path).await.text().contains(kept));
        let filled = |bytes: usize| json!({"event_type": "x", "response_data": {"a": "x".repeat(bytes - 8)}});
        let _ = app.alice.post(&path, filled(64 * 1024)).await.ok();
        app.alice.post(&path, filled(64 * 1024 + 1)).await.refuses_field(&["body", "response_data"], "at most 65536 bytes");
        for value in [json!([]), json!(7), json!("text"), json!(true)] {
            app.alice.post(&path, json!({"event_type": "x", "billing_metadata": value})).await
                .refuses_field(&["body", "billing_metadata"], "must be a JSON object");
        }
        let nested = |levels: usize| format!("{{\"event_type\":\"x\",\"request_data\":{}1{}}}", "{\"a\":".repeat(levels), "}".repeat(levels));
        let _ = app.alice.post_text(&path, nested(64)).await.ok();
        app.alice.post_text(&path, nested(65)).await.refuses_field(&["body", "request_data"], "64 levels deep");
    }

    async fn an_event_may_be_five_minutes_ahead_and_any_time_ago(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/usage");
        for (given, kept) in [
            ("2025-07-27T00:16:26.479685Z", "2025-07-27T00:16:26.479685Z"),
            ("2025-07-27T02:11:26+02:00", "2025-07-27T00:11:26.000000Z"),
            ("2025-07-26T12:00:00", "2025-07-26T12:00:00.000000Z"),
            ("2025-07-26", "2025-07-26T00:00:00.000000Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
        ] {
            let data = app.alice.post(&path, json!({"event_type": "x", "created_at": given})).await.data();
            assert_eq!(data["created_at"], kept);
        }
        app.alice.post(&path, json!({"event_type": "x", "created_at": "2025-07-27T00:16:26.479686Z"})).await
            .refuses_field(&["body", "created_at"], "at most 5 minutes in the future");
        for bad in ["yesterday", "", "2025-02-30", "1969-12-31T23:59:59Z", "10000-01-01"] {
            app.alice.post(&path, json!({"event_type": "x", "created_at": bad})).await.refuses_field(&["body", "created_at"], "must be a date");
        }
        let rows = app.alice.get(&path).await.data();
        assert_eq!(column(&rows, "created_at"), [
            "2025-07-27T00:16:26.479685Z", "2025-07-27T00:11:26.000000Z", "2025-07-26T12:00:00.000000Z",
            "2025-07-26T00:00:00.000000Z", "1970-01-01T00:00:00.000000Z",
        ]);
    }

    async fn an_event_counts_once_for_ever_per_user(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let path = app.alice.own("/usage");
        let first = app.alice.post(&path, json!({"event_type": "x", "event_id": "evt_1", "tokens_used": 5})).await.data();
        assert_eq!(first["event_id"], "evt_1");
        app.advance(std::time::Duration::from_secs(400 * 24 * 3600));
        let again = app.alice.post(&path, json!({"event_type": "other", "event_id": "evt_1", "tokens_used": 9})).await.data();
        assert_eq!(again, first);
        let bobs = app.bob.post(&app.bob.own("/usage"), json!({"event_type": "x", "event_id": "evt_1"})).await.data();
        assert_ne!(bobs["id"], first["id"]);
        let calls: Vec<_> = (0..40).map(|_| {
            let (alice, path) = (app.alice.clone(), path.clone());
            tokio::spawn(async move { alice.post(&path, json!({"event_type": "x", "event_id": "evt_2"})).await.data()["id"].clone() })
        }).collect();
        let mut ids = Vec::new();
        for call in calls {
            ids.push(call.await.expect("an answer"));
        }
        assert!(ids.iter().all(|id| *id == ids[0]));
        let stats = app.alice.get(&app.alice.own("/usage/stats")).await.data();
        assert_eq!((&stats["total_records"], &stats["total_tokens_used"]), (&json!(2), &json!(5)));
    }

    async fn the_history_is_filtered_by_what_is_asked(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/usage");
        for (at, kind, model, provider, session) in [
            ("2025-07-01T00:00:00Z", "chat", "gpt-4", "openai", "s1"),
            ("2025-07-02T00:00:00Z", "chat", "claude", "anthropic", "s1"),
            ("2025-07-03T00:00:00Z", "embed", "gpt-4", "openai", "s2"),
        ] {
            let _ = app.alice.post(&path, json!({
                "event_type": kind, "model_name": model, "provider": provider, "session_id": session, "created_at": at,
            })).await.ok();
        }
        for (filter, days) in [
            ("", &["03", "02", "01"][..]),
            ("event_type=chat", &["02", "01"]),
            ("model_name=gpt-4", &["03", "01"]),
            ("provider=anthropic", &["02"]),
            ("session_id=s1", &["02", "01"]),
            ("event_type=chat&model_name=gpt-4&provider=openai&session_id=s1", &["01"]),
            ("event_type=CHAT", &[]),
            ("start_date=2025-07-02", &["03", "02"]),
            ("end_date=2025-07-02", &["02", "01"]),
            ("start_date=2025-07-02&end_date=2025-07-02", &["02"]),
            ("start_date=2025-07-02T00:00:00.000001Z", &["03"]),
            ("end_date=2025-07-01T23:59:59.999999Z", &["01"]),
            ("start_date=2025-07-02T02:00:00%2B02:00", &["03", "02"]),
            ("start_date=2025-07-02T02:00:00+02:00", &["03", "02"]),
            ("start_date=2025-07-03T00:00:00&end_date=2025-07-01", &[]),
        ] {
            let rows = app.alice.get(&format!("{path}?{filter}")).await.data();
            let found: Vec<String> = column(&rows, "created_at").iter().map(|at| at.as_str().unwrap_or_default()[8..10].to_owned()).collect();
            assert_eq!(found, days, "{filter}");
        }
        for (bad, field) in [("start_date=x", "start_date"), ("end_date=2025-13-01", "end_date"), ("start_date=", "start_date"), ("end_date=1753574400", "end_date")] {
            app.alice.get(&format!("{path}?{bad}")).await.refuses_field(&["query", field], "must be a date");
            app.alice.get(&format!("{}?{bad}", app.alice.own("/usage/stats"))).await.refuses_field(&["query", field], "must be a date");
        }
    }

    async fn the_body_must_name_the_user_of_the_path_or_nobody(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].clone();
        app.bob.ensure().await;
        let path = app.alice.own("/usage");
        app.alice.post(&path, json!({"event_type": "x", "user_id": "auth0|bob"})).await.refuses_field(&["body", "user_id"], "must be the user of the path");
        for own in [json!("auth0|alice"), row.clone(), json!(row.to_string()), json!(null)] {
            let _ = app.alice.post(&path, json!({"event_type": "x", "user_id": own})).await.ok();
        }
    }
}
