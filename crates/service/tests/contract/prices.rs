//! §8 of the ledger's rules: what models cost, from when on, and what a call would cost.

use crate::support::{NOW, column, envelope};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Actor, Answer, Engine, TestApp, both_engines};

const EPOCH: &str = "1970-01-01T00:00:00.000000Z";

/// Changes a price.
async fn put(actor: &Actor, model: &str, body: Value) -> Answer {
    let path = format!("/api/v1/prices/{}", model.replace('/', "%2F"));
    actor.request("PUT".parse().expect("a method"), &path).json(&body).send().await
}

/// A price of so many dollars for a token in.
fn costs(input: &str) -> Value {
    json!({"rates": {"input": input}})
}

async fn quote(actor: &Actor, body: Value) -> Value {
    actor.post("/api/v1/quote", body).await.data()
}

both_engines! {
    async fn a_fresh_start_can_price_the_documented_call(app: TestApp) {
        let price = json!({
            "model": "gpt-4", "version": 1, "effective_at": EPOCH, "created_at": NOW, "provider": "openai", "mode": "chat",
            "max_input_tokens": 8192, "max_output_tokens": 4096, "rates": {"input": 0.000_03, "output": 0.000_06},
            "tiers": [], "source": "starter",
        });
        let found = app.alice.get("/api/v1/prices/gpt-4-0613").await.ok();
        assert_eq!(found, envelope("Prices retrieved successfully", json!({
            "asked": "gpt-4-0613", "model": "gpt-4", "at": NOW, "in_force": price, "versions": [price], "aliases": [],
        })));
        let asked = json!({"model": "gpt-4-0613", "provider": "openai", "prompt_tokens": 800, "completion_tokens": 450, "max_tokens": "1000"});
        let quoted = app.alice.post("/api/v1/quote", asked).await.ok();
        assert_eq!(quoted, envelope("Quote calculated successfully", json!({
            "model": "gpt-4-0613", "price_model": "gpt-4", "price_version": 1, "plan": "free", "cost_usd": 0.051, "credits": 25.5,
            "explanation": {
                "model": "gpt-4-0613", "price_model": "gpt-4", "price_version": 1, "effective_at": EPOCH, "tier": null,
                "lines": [
                    {"pool": "input", "quantity": 800, "unit_price_usd": 0.000_03, "cost_usd": 0.024},
                    {"pool": "output", "quantity": 450, "unit_price_usd": 0.000_06, "cost_usd": 0.027},
                ],
                "unpriced_pools": [], "exact_cost_usd": 0.051, "cost_usd": 0.051, "credits_per_usd": 500, "markup": 1, "credits": 25.5,
                "arithmetic": "(800 × 0.00003 + 450 × 0.00006) USD × 500 × 1 = 25.5 credits",
                "note": "Prompt tokens include cached ones; each token is counted in one pool.",
            },
            "maximum": {"output_tokens": 1000, "cost_usd": 0.084, "credits": 42},
        })));
    }

    async fn the_list_is_searched_and_paged(app: TestApp) {
        let all = app.alice.get("/api/v1/prices?limit=1000").await.ok();
        let names = column(&all["data"], "model");
        assert!(names.len() >= 60 && names.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()), "{names:?}");
        assert_eq!(all["pagination"], json!({"limit": 1000, "offset": 0, "returned": names.len(), "has_more": false, "next_cursor": null}));
        let (mut walked, mut path) = (Vec::new(), "/api/v1/prices?limit=25".to_owned());
        loop {
            let page = app.backend.get(&path).await.ok();
            walked.extend(column(&page["data"], "model"));
            let Some(cursor) = page["pagination"]["next_cursor"].as_str() else { break };
            path = format!("/api/v1/prices?limit=25&cursor={cursor}");
        }
        assert_eq!(walked, names);
        let part = app.alice.get("/api/v1/prices?limit=2&offset=3").await.data();
        assert_eq!(column(&part, "model"), names[3..5]);
        let found = app.alice.get("/api/v1/prices?query=GPT-4O-MINI&provider=openai&mode=chat&limit=1").await.ok();
        assert_eq!(found["data"][0]["model"], "gpt-4o-mini");
        assert_eq!(app.alice.get("/api/v1/prices?query=nothing-like-it").await.data(), json!([]));
        app.alice.get("/api/v1/prices?limit=0").await.refuses_field(&["query", "limit"], "1 to 1000");
        app.alice.get(&format!("/api/v1/prices?query={}", "x".repeat(201))).await.refuses_field(&["query", "query"], "0 to 200");
    }

    async fn a_change_counts_from_its_instant_on_and_changes_nothing_before(app: TestApp) {
        let first = put(&app.admin, "acme/large-1", json!({
            "rates": {"input": "0.000001", "output": 0.000_002, "cached_input": 0.000_000_000_000_001}, "provider": "acme", "mode": "chat",
            "tiers": [{"above": 200_000, "rates": {"input": 0.000_002}}, {"above": 1000, "rates": {"output": 3}}],
            "max_output_tokens": 4096, "aliases": ["Large"], "source": "a contract",
        })).await.ok();
        assert_eq!(first, envelope("Price changed successfully", json!({
            "model": "acme/large-1", "version": 1, "effective_at": NOW, "created_at": NOW, "provider": "acme", "mode": "chat",
            "max_input_tokens": null, "max_output_tokens": 4096,
            "rates": {"input": 0.000_001, "output": 0.000_002, "cached_input": 1e-15},
            "tiers": [{"above": 1000, "rates": {"output": 3}}, {"above": 200_000, "rates": {"input": 0.000_002}}], "source": "a contract",
        })));
        let later = json!({"rates": {"input": 5}, "effective_at": "2025-08-01T00:00:00Z"});
        assert_eq!(put(&app.admin, "acme/large-1", later).await.data()["version"], 2);
        let in_force = |at: &'static str| {
            let (alice, path) = (app.alice.clone(), format!("/api/v1/prices/acme%2Flarge-1?at={at}"));
            async move { alice.get(&path).await.data()["in_force"]["version"].clone() }
        };
        assert_eq!(in_force("2025-07-27T00:11:26.479684Z").await, Value::Null, "before the first version");
        assert_eq!(in_force(NOW).await, 1);
        assert_eq!(in_force("2025-07-31T23:59:59.999999Z").await, 1);
        assert_eq!(in_force("2025-08-01").await, 2);
        let history = app.alice.get("/api/v1/prices/large").await.data();
        assert_eq!(column(&history["versions"], "version"), [2, 1]);
        assert_eq!(history["aliases"], json!([{"alias": "large", "effective_at": NOW}]));
        // History is not changed, not even by a version between two others.
        for at in ["2025-07-30T00:00:00Z", "2025-08-01T00:00:00Z", "1990-01-01"] {
            let answer = put(&app.admin, "acme/large-1", json!({"rates": {"input": 1}, "effective_at": at})).await;
            answer.refuses_field(&["body", "effective_at"], "must be later: its version 2 is in force from 2025-08-01T00:00:00.000000Z");
        }
        // The same again says so, and adds nothing.
        let again = put(&app.admin, "acme/large-1", json!({"rates": {"input": 5}})).await.ok();
        assert_eq!((&again["message"], &again["data"]["version"]), (&json!("The price says so already"), &json!(2)));
        let asked = |at: &str| json!({"model": "large", "input_tokens": 10, "at": at});
        assert_eq!(quote(&app.alice, asked(NOW)).await["cost_usd"], 0.000_01);
        assert_eq!(quote(&app.alice, asked("2025-08-02")).await["cost_usd"], 50);
    }

    async fn names_come_with_slashes_and_what_else_they_have(app: TestApp) {
        for model in ["a/b/c", "anthropic.claude-x-v2:0", "claude@20241022", "gpt-4.1", "ü"] {
            let done = put(&app.admin, model, costs("1")).await.data();
            assert_eq!(done["model"], model);
            let path = format!("/api/v1/prices/{}", model.replace('/', "%2F"));
            assert_eq!(app.alice.get(&path).await.data()["model"], model);
        }
        // As it is, which the document's own template does not describe.
        let token = testkit::actors::sign(
            &testkit::actors::claims(&json!({"sub": "auth0|alice"}), app.now()), testkit::app::JWT_SECRET);
        let raw = app.raw(format!("GET /api/v1/prices/a/b/c HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")).await;
        assert!(raw.starts_with("HTTP/1.1 200") && raw.contains("\"model\":\"a/b/c\""), "{raw}");
        let long = "x".repeat(201);
        for bad in ["a b", "a%20b", "x%2F", "%2Fx", "a%0Ab", &long] {
            let path = format!("/api/v1/prices/{}", bad.replace(' ', "%20"));
            app.alice.get(&path).await.refuses_field(&["path", "model"], "must be 1 to 200 characters");
            let put = app.admin.request("PUT".parse().expect("a method"), &path).json(&costs("1")).send().await;
            put.refuses_field(&["path", "model"], "must be 1 to 200 characters");
        }
        assert_eq!(app.alice.get("/api/v1/prices/%ff").await.with(400)["error_code"], "ValidationException");
        app.alice.get("/api/v1/prices/import").await.refuses(405, "MethodNotAllowedException", "The route does not have this method");
    }

    async fn what_is_no_price_is_refused_by_its_field(app: TestApp) {
        for (body, field, rule) in [
            (json!({}), "rates", "required"),
            (json!({"rates": {}}), "rates", "at least one rate"),
            (json!({"rates": {"tokens": 1}}), "rates", "must be one of input, cached_input"),
            (json!({"rates": {"input": -1}}), "rates", "must not be negative"),
            (json!({"rates": {"input": 9001}}), "rates", "must be at most 9000"),
            (json!({"rates": {"input": "1e-16"}}), "rates", "at most 15 decimal places"),
            (json!({"rates": {"input": null}}), "rates", "must be a number"),
            (json!({"rates": [1]}), "rates", "an object of pools"),
            (json!({"rates": {"input": 1}, "tiers": [{"above": 0, "rates": {}}]}), "tiers", "must begin above 1"),
            (json!({"rates": {"input": 1}, "tiers": [{"above": 1, "rates": {}}, {"above": 1, "rates": {}}]}), "tiers", "different numbers"),
            (json!({"rates": {"input": 1}, "tiers": vec![json!({"above": 1, "rates": {}}); 11]}), "tiers", "at most 10"),
            (json!({"rates": {"input": 1}, "effective_at": "soon"}), "effective_at", "must be a date"),
            (json!({"rates": {"input": 1}, "provider": ""}), "provider", "1 to 100"),
            (json!({"rates": {"input": 1}, "max_output_tokens": -1}), "max_output_tokens", "at least 0"),
            (json!({"rates": {"input": 1}, "aliases": ["gpt-4"]}), "aliases", "gpt-4 is a model of its own"),
            (json!({"rates": {"input": 1}, "aliases": ["M"]}), "aliases", "m is a model of its own"),
            (json!({"rates": {"input": 1}, "aliases": ["a b"]}), "aliases", "without spaces"),
            (json!({"rates": {"input": 1}, "aliases": vec!["x"; 51]}), "aliases", "at most 50"),
        ] {
            let body_text = body.to_string();
            let answer = put(&app.admin, "m", body).await;
            let refused = answer.with(400);
            assert_eq!(refused["detail"][0]["loc"][1], field, "{body_text}: {refused}");
            let said = refused["detail"][0]["msg"].as_str().unwrap_or_default();
            assert!(said.contains(rule), "{body_text}: {said}");
        }
        let twice = app.admin.request("PUT".parse().expect("a method"), "/api/v1/prices/m")
            .header("content-type", "application/json").body(r#"{"rates":{"input":1,"input":2}}"#).send().await;
        assert!(twice.with(400)["message"].as_str().is_some_and(|text| text.contains("the pool input must be given once")));
        app.admin.get("/api/v1/prices/m").await.refuses(404, "NotFoundException", "No price is known for the model: m");
    }

    async fn a_name_that_is_taken_is_given_to_nobody_else_at_once(app: TestApp) {
        let named = |at: &str, rate: i32| json!({"rates": {"input": rate}, "aliases": ["best"], "effective_at": at});
        let _ = put(&app.admin, "one", named("2025-01-01", 1)).await.ok();
        put(&app.admin, "two", named("2025-01-01", 2)).await.refuses_field(&["body", "aliases"], "best means one from 2025-01-01T00:00:00.000000Z");
        let _ = put(&app.admin, "two", named("2025-02-01", 2)).await.ok();
        let meant = |at: &'static str| {
            let (alice, path) = (app.alice.clone(), format!("/api/v1/prices/best?at={at}"));
            async move { alice.get(&path).await.data()["model"].clone() }
        };
        assert_eq!((meant("2025-01-15").await, meant("2025-02-01").await), (json!("one"), json!("two")));
        // A name alone, where the price stays as it is.
        let _ = put(&app.admin, "two", json!({"rates": {"input": 2}, "aliases": ["second"]})).await.ok();
        assert_eq!(app.alice.get("/api/v1/prices/second").await.data()["versions"].as_array().map(Vec::len), Some(1));
    }

    async fn a_key_makes_a_change_once(app: TestApp) {
        let send = |key: &'static str, input: &'static str| {
            let request = app.admin.request("PUT".parse().expect("a method"), "/api/v1/prices/m");
            async move { request.header("idempotency-key", key).json(&costs(input)).send().await }
        };
        let first = send("k1", "1").await;
        let again = send("k1", "1").await;
        assert_eq!((first.status, first.text(), again.header("idempotent-replayed")), (200, again.text(), Some("true")));
        send("k1", "2").await.refuses(422, "IdempotencyMismatch", "The idempotency key was used before with a different request");
        let unchanged = send("k2", "1").await;
        app.advance(Duration::from_secs(1));
        assert_eq!(send("k2", "1").await.text(), unchanged.text());
        let list = json!({"x": {"input_cost_per_token": 1e-6}});
        let imported = app.admin.post_once("k3", "/api/v1/prices/import", list.clone()).await;
        app.advance(Duration::from_secs(1));
        let replayed = app.admin.post_once("k3", "/api/v1/prices/import", list).await;
        assert_eq!((replayed.text(), replayed.header("idempotent-replayed")), (imported.text(), Some("true")));
        let other = app.admin.post_once("k3", "/api/v1/prices/import", json!({"y": {"input_cost_per_token": 1e-6}})).await;
        assert_eq!(other.with(422)["error_code"], "IdempotencyMismatch");
        assert_eq!(app.admin.get("/api/v1/prices/y").await.status, 404, "a mismatch writes nothing");
    }

    async fn a_list_is_imported_once(app: TestApp) {
        let list: Value = serde_json::from_str(include_str!("../data/prices.json")).expect("JSON");
        let import = |list: Value| async { app.admin.post("/api/v1/prices/import", list).await.ok() };
        let done = import(list.clone()).await;
        assert_eq!(done["message"], "Imported 4 prices, 6 unchanged, 4 skipped");
        let of = |done: &Value, model: &str| {
            let rows = done["data"]["models"].as_array().cloned().unwrap_or_default();
            rows.into_iter().find(|row| row["model"] == model).unwrap_or_default()
        };
        assert_eq!(of(&done, "gpt-4"), json!({"model": "gpt-4", "status": "unchanged", "version": 1, "why": null, "ignored": [], "rounded": []}));
        assert_eq!(of(&done, "gpt-4-0613"), json!({"model": "gpt-4-0613", "status": "imported", "version": 1, "why": null,
            "ignored": ["input_cost_per_token_batches", "output_cost_per_token_batches"], "rounded": []}));
        assert_eq!(of(&done, "databricks/databricks-claude-sonnet-4-1")["rounded"], json!(["input_cost_per_token", "output_cost_per_token"]));
        assert_eq!(of(&done, "azure/hd/1024-x-1024/dall-e-3")["why"], "no price per token, picture, call, second or character; only input_cost_per_pixel");
        assert_eq!(of(&done, "sample_spec")["why"], "the layout's own example");
        let tiers = app.alice.get("/api/v1/prices/dashscope%2Fqwen-flash").await.data()["in_force"]["tiers"].clone();
        assert_eq!(tiers, json!([{"above": 256_000, "rates": {"input": 2.5e-7, "output": 2e-6}}]));
        app.advance(Duration::from_secs(1));
        assert_eq!(import(list.clone()).await["message"], "Imported 0 prices, 10 unchanged, 4 skipped");
        // One that differs is a new version, and where history would change it is left out.
        let mut dearer = list;
        dearer["gpt-4"]["input_cost_per_token"] = json!(1);
        let path = "/api/v1/prices/import?effective_at=2025-07-27T00:11:26.479685Z";
        let done = app.admin.post(path, dearer.clone()).await.ok();
        assert_eq!((&done["data"]["imported"], &of(&done, "gpt-4")["version"]), (&json!(1), &json!(2)));
        dearer["gpt-4"]["input_cost_per_token"] = json!(2);
        let done = app.admin.post(path, dearer).await.ok();
        assert_eq!(of(&done, "gpt-4")["why"], format!("its version 2 is in force from {NOW}, and history is not changed"));
        for (body, loc) in [("[]", vec!["body"]), ("{", vec!["body"]), ("{} x", vec!["body"])] {
            app.admin.post_text("/api/v1/prices/import", body).await.refuses_field(&loc, "must be");
        }
        let odd = import(json!({"": {}, "a b": {"input_cost_per_token": 1}, "n": 7, "import": {}})).await;
        assert_eq!(odd["message"], "Imported 0 prices, 0 unchanged, 4 skipped");
        let many: String = (0..20_001).map(|n| format!("\"m{n}\":0,")).collect();
        let answer = app.admin.post_text("/api/v1/prices/import", format!("{{{}}}", &many[..many.len() - 1])).await;
        assert!(answer.with(400)["message"].as_str().is_some_and(|text| text.contains("at most 20000 members")));
    }

    async fn a_quote_counts_pools_and_says_what_has_no_price(app: TestApp) {
        let cached = json!({"model": "gpt-4o", "prompt_tokens": 1000, "cached_tokens": 400, "completion_tokens": 0});
        let found = quote(&app.alice, cached).await;
        assert_eq!(found["explanation"]["arithmetic"], "(600 × 0.0000025 + 400 × 0.00000125) USD × 500 × 1 = 1 credits");
        let sound = json!({"model": "whisper-1", "pools": {"second": "12.5", "search": 1}});
        let found = quote(&app.backend, sound).await;
        assert_eq!((&found["cost_usd"], &found["explanation"]["unpriced_pools"]), (&json!(0.00125), &json!(["search"])));
        assert_eq!((&found["plan"], &found["maximum"]), (&Value::Null, &Value::Null));
        let long = quote(&app.alice, json!({"model": "gemini-2.5-pro", "prompt_tokens": 200_001})).await;
        assert_eq!((&long["explanation"]["tier"], &long["explanation"]["lines"][0]["unit_price_usd"]), (&json!(200_000), &json!(0.000_002_5)));
        assert_eq!(long["maximum"]["output_tokens"], 65_535, "the model's own limit");
        let nothing = quote(&app.alice, json!({"model": "gpt-4"})).await;
        assert_eq!((&nothing["credits"], &nothing["maximum"]["output_tokens"]), (&json!(0), &json!(4096)));
        let unknown = app.alice.post("/api/v1/quote", json!({"model": "gpt-4-mini", "prompt_tokens": 1})).await;
        unknown.refuses(404, "NotFoundException", "No price is known for the model: gpt-4-mini");
        assert_eq!(unknown.json()["error_details"]["model"], "gpt-4-mini");
        let early = json!({"model": "late", "at": "2025-01-01"});
        let _ = put(&app.admin, "late", costs("1")).await.ok();
        assert_eq!(app.alice.post("/api/v1/quote", early).await.status, 404, "before its first version a model has no price");
        for (body, field, rule) in [
            (json!({}), "model", "required"),
            (json!({"model": ""}), "model", "1 to 200"),
            (json!({"model": "gpt-4", "prompt_tokens": -1}), "prompt_tokens", "at least 0"),
            (json!({"model": "gpt-4", "prompt_tokens": 1.5}), "prompt_tokens", "whole number"),
            (json!({"model": "gpt-4", "prompt_tokens": 1, "cached_tokens": 2}), "cached_tokens", "at most prompt_tokens"),
            (json!({"model": "gpt-4", "prompt_tokens": 1, "pools": {"input": 1}}), "pools", "together with token counts"),
            (json!({"model": "gpt-4", "pools": {"input": 1.5}}), "pools", "whole numbers"),
            (json!({"model": "gpt-4", "pools": {"input": -1}}), "pools", "whole numbers"),
            (json!({"model": "gpt-4", "pools": {"input": 2_147_483_648_i64}}), "pools", "whole numbers"),
            (json!({"model": "gpt-4", "pools": {"words": 1}}), "pools", "must be one of input, cached_input"),
            (json!({"model": "gpt-4", "at": "then"}), "at", "must be a date"),
            (json!({"model": "gpt-4", "plan": "pro"}), "plan", "must be your own, which is free"),
        ] {
            app.alice.post("/api/v1/quote", body).await.refuses_field(&["body", field], rule);
        }
        let _ = put(&app.admin, "gold", costs("9000")).await.ok();
        app.alice.post("/api/v1/quote", json!({"model": "gold", "prompt_tokens": 1_000_001})).await.refuses_field(&["body"], "more than one call can cost");
    }

    async fn another_process_sees_a_change_soon(app: TestApp) {
        let inside = app.inside();
        let before = inside.prices.book();
        // What another replica would do: rows, and the revision moved on.
        let now = app.now();
        let version = user_service::prices::PriceVersion {
            model: "elsewhere".into(), created_at: now, effective_at: now, version: 1,
            ..user_service::prices::fallback_version(kernel::Rate::ZERO)
        };
        let edit = user_service::prices::edits::add(&[version], &[], now);
        inside.writer.execute(user_service::writer::Command::Edit(edit.clone())).await.expect("written");
        let again = inside.writer.execute(user_service::writer::Command::Edit(edit)).await;
        assert!(again.is_err(), "a version is written once");
        let seen = async {
            while inside.prices.book().resolve("elsewhere", None, now).is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("it is followed");
        assert!(before.resolve("elsewhere", None, now).is_none(), "a book does not change under its reader");
    }

    async fn changes_at_once_are_versions_one_after_the_other(app: TestApp) {
        let calls: Vec<_> = (1..=8).map(|n| {
            let admin = app.admin.clone();
            let body = json!({"rates": {"input": n}, "effective_at": format!("2026-01-0{n}")});
            tokio::spawn(async move { put(&admin, "busy", body).await.status })
        }).collect();
        let mut done = 0;
        for call in calls {
            match call.await.expect("an answer") {
                200 => done += 1,
                400 | 409 => {}
                other => panic!("{other}"),
            }
        }
        let found = app.alice.get("/api/v1/prices/busy?at=2027-01-01").await.data();
        let versions: Vec<i64> = column(&found["versions"], "version").iter().filter_map(Value::as_i64).collect();
        assert_eq!(versions, (1..=done).rev().collect::<Vec<i64>>());
        let instants = column(&found["versions"], "effective_at");
        assert!(instants.windows(2).all(|pair| pair[0].as_str() > pair[1].as_str()), "{instants:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_say_what_a_dollar_is_and_what_an_unknown_model_costs() {
    let settings = [
        ("CREDITS_PER_USD", "100"),
        ("PRICE_MARKUP", "free=2,pro=1.5,*=1"),
        ("UNKNOWN_MODEL", "fallback"),
        ("FALLBACK_USD_PER_MILLION_TOKENS", "20"),
    ];
    let app = TestApp::start_with(Engine::Sqlite, &settings).await;
    app.alice.ensure().await;
    let asked = json!({"model": "gpt-4", "prompt_tokens": 1000});
    let of_plan = |plan: &str| json!({"model": "gpt-4", "prompt_tokens": 1000, "plan": plan});
    assert_eq!(quote(&app.alice, asked.clone()).await["credits"], 6);
    assert_eq!(quote(&app.alice, of_plan("free")).await["credits"], 6);
    assert_eq!(quote(&app.backend, asked).await["credits"], 3);
    assert_eq!(quote(&app.backend, of_plan("pro")).await["credits"], 4.5);
    assert_eq!(quote(&app.admin, of_plan("pro")).await["credits"], 4.5);
    let unknown =
        quote(&app.backend, json!({"model": "nobody-knows", "prompt_tokens": 100, "completion_tokens": 50}))
            .await;
    assert_eq!((&unknown["price_model"], &unknown["price_version"]), (&json!("fallback"), &json!(0)));
    assert_eq!((&unknown["cost_usd"], &unknown["credits"]), (&json!(0.003), &json!(0.3)));
    app.finish().await;
}
