//! `POST …/charges`: the record, its price and its payment in one, or none of them.

use crate::support::{
    NOW, balance, column, envelope, error, masked, transaction, transactions, with, with_settings,
};
use serde_json::{Value, json};
use testkit::{Actor, both_engines};

/// The documented call: 800 tokens in and 450 out of gpt-4 are 0.051 dollars, 25.5 credits.
fn call() -> Value {
    json!({"event_type": "ai_chat", "model_name": "gpt-4-0613", "provider": "openai",
        "usage": {"prompt_tokens": 800, "completion_tokens": 450, "total_tokens": 1250}})
}

fn pricing() -> Value {
    json!({
        "model": "gpt-4-0613", "price_model": "gpt-4", "price_version": 1, "effective_at": "1970-01-01T00:00:00.000000Z", "tier": null,
        "lines": [
            {"pool": "input", "quantity": 800, "unit_price_usd": 0.000_03, "cost_usd": 0.024},
            {"pool": "output", "quantity": 450, "unit_price_usd": 0.000_06, "cost_usd": 0.027},
        ],
        "unpriced_pools": [], "exact_cost_usd": 0.051, "cost_usd": 0.051, "credits_per_usd": 500, "markup": 1, "credits": 25.5,
        "arithmetic": "(800 × 0.00003 + 450 × 0.00006) USD × 500 × 1 = 25.5 credits",
        "note": "Prompt tokens include cached ones; each token is counted in one pool.",
    })
}

fn record() -> Value {
    json!({
        "id": "<id>", "user_id": "auth0|alice", "session_id": null, "trace_id": null, "endpoint": "", "event_type": "ai_chat",
        "credits_charged": 25.5, "cost_usd": 0.051, "calculation_method": "price_book", "tokens_used": 1250, "prompt_tokens": 800,
        "completion_tokens": 450, "model_name": "gpt-4-0613", "provider": "openai", "tool_name": null, "operation_name": null,
        "billing_metadata": {}, "request_data": {}, "response_data": {}, "created_at": NOW, "charge_status": "charged",
    })
}

async fn charge(actor: &Actor, body: Value) -> Value {
    actor.post(&actor.own("/charges"), body).await.data()
}

/// What is written anywhere by charging.
async fn written(actor: &Actor) -> [Value; 3] {
    let usage = actor.get(&actor.own("/usage?limit=1000")).await.data();
    let stats = actor.get(&actor.own("/usage/stats")).await.data();
    [usage, stats, transactions(actor).await]
}

both_engines! {
    async fn a_call_is_recorded_priced_and_paid_in_one(app: TestApp) {
        app.alice.ensure().await;
        let body = with(call(), json!({"event_id": "e1", "description": "a chat", "metadata": {"k": 1.50}, "tags": ["b", "a", "b"]}));
        let mut answer = app.alice.post(&app.alice.own("/charges"), body).await.ok();
        assert_eq!(answer["data"]["transaction"]["usage_record_id"], answer["data"]["usage"]["id"]);
        answer["data"]["transaction"]["usage_record_id"] = Value::Null;
        assert_eq!(masked(answer), envelope("Usage charged successfully", json!({
            "status": "charged", "credits": 25.5, "available": 974.5, "duplicate": false, "usage": with(record(), json!({"event_id": "e1"})),
            "transaction": with(transaction("consume", 2, 25.5, 1000.0, 974.5), json!({"description": "a chat", "metadata": {"k": 1.50}})),
            "pricing": pricing(),
        })));
        let [usage, stats, entries] = written(&app.alice).await;
        assert_eq!(masked(usage), json!([with(record(), json!({"event_id": "e1"}))]));
        assert_eq!(stats["total_credits_charged"], 25.5);
        assert_eq!((&stats["total_cost_usd"], &stats["total_tokens_used"], &stats["by_model"]), (&json!(0.051), &json!(1250), &json!({"gpt-4-0613": 1})));
        assert_eq!(column(&entries, "transaction_type"), ["consume", "grant"]);
        assert_eq!(balance(&app.alice).await, 974.5);
    }

    async fn an_event_is_charged_once_for_ever(app: TestApp) {
        app.alice.ensure().await;
        let body = with(call(), json!({"event_id": "once"}));
        let first = charge(&app.alice, body.clone()).await;
        let calls: Vec<_> = (0..30).map(|_| {
            let (alice, body) = (app.alice.clone(), body.clone());
            tokio::spawn(async move { charge(&alice, body).await })
        }).collect();
        for call in calls {
            let again = call.await.expect("an answer");
            assert_eq!(again, with(first.clone(), json!({"duplicate": true})));
        }
        // Whatever else it says by now, the event was charged.
        let other = charge(&app.alice, json!({"event_type": "x", "credits": 900, "event_id": "once"})).await;
        assert_eq!((&other["credits"], &other["usage"]), (&json!(25.5), &first["usage"]));
        // What was only recorded was paid by nobody, and says so.
        let _ = app.alice.post(&app.alice.own("/usage"), json!({"event_type": "x", "event_id": "recorded"})).await.ok();
        let recorded = charge(&app.alice, json!({"event_type": "x", "credits": 1, "event_id": "recorded"})).await;
        assert_eq!((&recorded["status"], &recorded["duplicate"], &recorded["transaction"]), (&json!("unpaid"), &json!(true), &Value::Null));
        // Another user's event of that name is another event.
        app.bob.ensure().await;
        assert_eq!(charge(&app.bob, body).await["duplicate"], false);
        assert_eq!(balance(&app.alice).await, 974.5);
    }

    async fn thirty_first_calls_of_one_event_charge_once(app: TestApp) {
        app.alice.ensure().await;
        let calls: Vec<_> = (0..30).map(|n| {
            let alice = app.alice.clone();
            tokio::spawn(async move { charge(&alice, json!({"event_type": "x", "credits": n + 1, "event_id": "race"})).await })
        }).collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("an answer"));
        }
        assert_eq!(answers.iter().filter(|answer| answer["duplicate"] == false).count(), 1);
        assert!(answers.iter().all(|answer| answer["transaction"] == answers[0]["transaction"]));
        let [usage, _, entries] = written(&app.alice).await;
        assert_eq!((usage.as_array().map(Vec::len), entries.as_array().map(Vec::len)), (Some(1), Some(2)));
    }

    async fn credits_that_are_named_are_charged_as_they_are(app: TestApp) {
        app.alice.ensure().await;
        let named = charge(&app.alice, json!({"event_type": "image", "credits": "12.000001", "cost_usd": 0.02, "credits_charged": 99})).await;
        assert_eq!((&named["status"], &named["credits"], &named["pricing"]), (&json!("charged"), &json!(12.000_001), &Value::Null));
        assert_eq!((&named["usage"]["credits_charged"], &named["usage"]["cost_usd"]), (&json!(12.000_001), &json!(0.02)));
        // A model that nobody knows may be named, where its price is.
        assert_eq!(charge(&app.alice, json!({"event_type": "x", "model_name": "nope", "credits": 1})).await["credits"], 1);
        for free in [json!({"credits": 0}), json!({"model_name": "gpt-4", "prompt_tokens": 0})] {
            let free = charge(&app.alice, with(json!({"event_type": "x"}), free)).await;
            assert_eq!((&free["status"], &free["credits"], &free["transaction"]), (&json!("free"), &json!(0), &Value::Null));
        }
        let [usage, stats, entries] = written(&app.alice).await;
        assert_eq!(column(&usage, "charge_status"), ["free", "free", "charged", "charged"]);
        assert_eq!((&stats["total_records"], &stats["total_credits_charged"]), (&json!(4), &json!(13.000_001)));
        assert_eq!(column(&entries, "transaction_type"), ["consume", "consume", "grant"]);
    }

    async fn a_charge_that_does_not_say_what_it_costs_is_refused(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/charges");
        for (body, field, rule) in [
            (json!({"event_type": "x"}), "credits", "Field required where no model_name is given"),
            (json!({"event_type": "x", "credits_charged": 5}), "credits", "Field required where no model_name is given"),
            (json!({"event_type": "x", "model_name": "gpt-4"}), "usage", "Field required: token counts"),
            (json!({"event_type": "x", "model_name": "nope", "prompt_tokens": 1}), "model_name", "no price is known for the model nope"),
            (json!({"credits": 1}), "event_type", "Field required"),
            (json!({"event_type": "x", "credits": 1, "user_id": "auth0|bob"}), "user_id", "must be the user of the path"),
            (json!({"event_type": "x", "credits": 1, "created_at": "2025-07-27T00:16:26.479686Z"}), "created_at", "at most 5 minutes"),
        ] {
            app.alice.post(&path, body).await.refuses_field(&["body", field], rule);
        }
        assert_eq!(written(&app.alice).await[0], json!([]));
    }

    async fn what_cannot_be_paid_is_402_and_nothing_is_written(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/charges");
        let before = written(&app.alice).await;
        let dear = json!({"event_type": "ai_chat", "credits": 1000.5, "event_id": "dear"});
        let answer = app.alice.post_once("key", &path, dear.clone()).await.with(402);
        let says = "Insufficient credits. Available: 1000, Required: 1000.5";
        assert_eq!(masked(answer), error("InsufficientCreditsException", says, json!({
            "operation": "create_charge", "user_id": "auth0|alice", "available": 1000, "required": 1000.5, "retryable": false, "top_up_url": null,
        })));
        assert_eq!(written(&app.alice).await, before);
        // What a hold has set aside may come back.
        let _ = app.alice.post(&app.alice.own("/credits/holds"), json!({"amount": 300})).await.ok();
        let answer = app.alice.post(&path, json!({"event_type": "x", "credits": 701})).await.with(402);
        let details = &answer["error_details"];
        assert_eq!((&details["available"], &details["required"], &details["retryable"]), (&json!(700), &json!(701), &json!(true)));
        assert_eq!(written(&app.alice).await, before);
        // Neither the event nor the key is used up.
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 500})).await.ok();
        let paid = app.alice.post_once("key", &path, dear).await.data();
        assert_eq!((&paid["status"], &paid["duplicate"], &paid["available"]), (&json!("charged"), &json!(false), &json!(199.5)));
    }

    async fn a_record_may_be_kept_although_it_is_not_paid(app: TestApp) {
        app.alice.ensure().await;
        let body = json!({"event_type": "ai_chat", "credits": 1000.5, "on_insufficient": "record", "event_id": "kept"});
        let kept = app.alice.post(&app.alice.own("/charges"), body.clone()).await.ok();
        assert_eq!(kept["message"], "Usage recorded, not paid");
        let data = &kept["data"];
        assert_eq!((&data["status"], &data["credits"], &data["credits_due"], &data["transaction"]), (&json!("unpaid"), &json!(0), &json!(1000.5), &Value::Null));
        let [usage, stats, entries] = written(&app.alice).await;
        assert_eq!((&usage[0]["charge_status"], &usage[0]["credits_due"], &usage[0]["credits_charged"]), (&json!("unpaid"), &json!(1000.5), &json!(0)));
        assert_eq!((&stats["total_records"], &stats["total_credits_charged"]), (&json!(1), &json!(0)));
        assert_eq!(column(&entries, "transaction_type"), ["grant"]);
        assert_eq!(charge(&app.alice, body).await, with(data.clone(), json!({"duplicate": true})));
        let could = charge(&app.alice, json!({"event_type": "x", "credits": 1, "on_insufficient": "record"})).await;
        assert_eq!((&could["status"], &could["available"]), (&json!("charged"), &json!(999)));
    }

    async fn a_charge_with_a_key_is_replayed_byte_for_byte(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/charges");
        let first = app.alice.post_once("k", &path, call()).await;
        app.advance(std::time::Duration::from_secs(3600));
        let again = app.alice.post_once("k", &path, call()).await;
        assert_eq!((first.status, again.status, again.header("idempotent-replayed")), (200, 200, Some("true")));
        assert_eq!(first.body, again.body);
        let other = app.alice.post_once("k", &path, json!({"event_type": "x", "credits": 1})).await.with(422);
        assert_eq!(other["error_code"], "IdempotencyMismatch");
        assert_eq!(balance(&app.alice).await, 974.5);
    }

    async fn usage_is_read_as_providers_answer_it(app: TestApp) {
        app.alice.ensure().await;
        for (model, usage, tokens) in [
            ("gpt-4o", json!({"input_tokens": 2000, "input_tokens_details": {"cached_tokens": 1500}, "output_tokens": 300,
                "output_tokens_details": {"reasoning_tokens": 100}, "total_tokens": 2300}), [2000, 300]),
            ("claude-haiku-4-5", json!({"input_tokens": 100, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 50, "output_tokens": 20}), [1050, 20]),
            ("gemini-2.5-flash", json!({"promptTokenCount": 1000, "cachedContentTokenCount": 600, "candidatesTokenCount": 50, "thoughtsTokenCount": 30, "totalTokenCount": 1080}), [1000, 80]),
        ] {
            let quoted = app.alice.post("/api/v1/quote", json!({"model": model, "usage": usage})).await.data();
            let data = charge(&app.alice, json!({"event_type": "ai_chat", "model_name": model, "usage": usage})).await;
            assert_eq!((&data["credits"], &data["pricing"]), (&quoted["credits"], &quoted["explanation"]), "{model}");
            assert_eq!([&data["usage"]["prompt_tokens"], &data["usage"]["completion_tokens"]], [&json!(tokens[0]), &json!(tokens[1])], "{model}");
        }
        // The object names the model itself, where the record does not.
        let data = charge(&app.alice, json!({"event_type": "x", "usage": {"model": "gpt-4", "usage": {"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10}}})).await;
        assert_eq!((&data["usage"]["model_name"], &data["credits"]), (&json!("gpt-4"), &json!(0.15)));
        let pools = charge(&app.alice, json!({"event_type": "x", "model_name": "gpt-4", "pools": {"input": 10, "output": "10"}})).await;
        assert_eq!((&pools["credits"], &pools["usage"]["tokens_used"]), (&json!(0.45), &json!(20)));
    }

    async fn old_usage_is_priced_as_of_its_time(app: TestApp) {
        app.alice.ensure().await;
        let put = |price: i32| app.admin.request("PUT".parse().expect("a method"), "/api/v1/prices/acme").json(&json!({"rates": {"input": price}})).send();
        let _ = put(1).await.ok();
        app.advance(std::time::Duration::from_secs(60));
        let _ = put(2).await.ok();
        let at = |created_at: &str| json!({"event_type": "x", "model_name": "acme", "prompt_tokens": "0", "pools": {"input": 1}, "created_at": created_at, "on_insufficient": "record"});
        let old = charge(&app.alice, at(NOW)).await;
        assert_eq!((&old["credits"], &old["pricing"]["price_version"]), (&json!(500), &json!(1)));
        let new = charge(&app.alice, at("2025-07-27T00:12:26.479685Z")).await;
        assert_eq!(new["credits_due"], 1000);
        app.alice.post(&app.alice.own("/charges"), at("2025-07-27T00:11:26.479684Z")).await
            .refuses_field(&["body", "model_name"], "no price is known");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_where_to_buy_more() {
    with_settings(&[("TOP_UP_URL", "https://example.com/credits"), ("WELCOME_CREDITS", "0")], async |app| {
        app.alice.ensure().await;
        for (path, body) in
            [("/charges", json!({"event_type": "x", "credits": 1})), ("/credits/holds", json!({"amount": 1}))]
        {
            let refused = app.alice.post(&app.alice.own(path), body).await.with(402);
            assert_eq!(refused["error_details"]["top_up_url"], "https://example.com/credits", "{path}");
        }
        // The documented route keeps its documented answer.
        let refused =
            app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.with(400);
        assert_eq!(refused["error_code"], "InsufficientCreditsException");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_without_a_price_is_charged_at_the_fallback_rate_where_that_is_the_policy() {
    with_settings(&[("UNKNOWN_MODEL", "fallback")], async |app| {
        app.alice.ensure().await;
        let data = charge(
            &app.alice,
            json!({"event_type": "x", "model_name": "nope", "prompt_tokens": 1000, "completion_tokens": 200}),
        )
        .await;
        assert_eq!((&data["status"], &data["credits"]), (&json!("fallback"), &json!(6)));
        assert_eq!(
            (&data["usage"]["calculation_method"], &data["usage"]["cost_usd"]),
            (&json!("fallback"), &json!(0.012))
        );
        app.alice
            .post(&app.alice.own("/charges"), json!({"event_type": "x", "model_name": "nope"}))
            .await
            .refuses_field(&["body", "usage"], "Field required: token counts");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_without_a_price_is_kept_to_be_rated_where_that_is_the_policy() {
    with_settings(&[("UNKNOWN_MODEL", "record")], async |app| {
        app.alice.ensure().await;
        let body =
            json!({"event_type": "x", "model_name": "nope", "prompt_tokens": 1000, "credits_charged": 7});
        let kept = app.alice.post(&app.alice.own("/charges"), body.clone()).await.ok();
        assert_eq!(kept["message"], "Usage recorded, to be rated later");
        assert_eq!(
            (&kept["data"]["status"], &kept["data"]["credits"], &kept["data"]["transaction"]),
            (&json!("unpriced"), &json!(0), &Value::Null)
        );
        assert_eq!(balance(&app.alice).await, 1000);
        // A limit that denies it does not make it free: it is still to be rated.
        let limit = json!({"limits": [{"id": "one", "unit": "requests", "window": "day", "amount": 0}]});
        let _ = app
            .backend
            .request("PUT".parse().expect("a method"), &app.alice.own("/limits"))
            .json(&limit)
            .send()
            .await
            .ok();
        let denied = charge(&app.alice, with(body.clone(), json!({"on_insufficient": "record"}))).await;
        assert_eq!(denied["status"], "unpriced");
        let refused = app.alice.post(&app.alice.own("/charges"), body).await.with(402);
        assert_eq!(refused["error_code"], "SpendingLimitExceededException");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_pay_their_markup() {
    with_settings(&[("PRICE_MARKUP", "free=1.5,*=3"), ("CREDITS_PER_USD", "100")], async |app| {
        app.alice.ensure().await;
        assert_eq!(charge(&app.alice, call()).await["credits"], 7.65);
        let batch = json!({"charges": [with(call(), json!({"user_id": "auth0|alice"}))]});
        let answer = app.backend.post("/api/v1/charges/batch", batch).await.data();
        assert_eq!(answer["results"][0]["charge"]["credits"], 7.65);
    })
    .await;
}
