//! `POST /usage/rerate`: what had no price, or only the fallback rate, is rated once its model has one.

use crate::support::{balance, column, transactions, with_settings};
use serde_json::{Value, json};
use testkit::{Actor, TestApp};

const PATH: &str = "/api/v1/usage/rerate";

/// A call of a new model with so many tokens in.
pub async fn call(actor: &Actor, model: &str, tokens: i64) -> Value {
    let body = json!({"event_type": "chat", "model_name": model, "prompt_tokens": tokens, "on_insufficient": "record"});
    actor.post(&actor.own("/charges"), body).await.data()
}

/// Gives a model a price, in dollars for a token in, that was in force all along.
pub async fn price(app: &TestApp, model: &str, dollars: &str) {
    let body = json!({"rates": {"input": dollars}, "effective_at": "2025-01-01"});
    let _ = app
        .admin
        .request("PUT".parse().expect("a method"), &format!("/api/v1/prices/{model}"))
        .json(&body)
        .send()
        .await
        .ok();
}

async fn rerate(app: &TestApp, body: Value) -> Value {
    app.admin.post(PATH, body).await.data()
}

fn done(rerated: i64, unpaid: i64, unchanged: i64) -> Value {
    json!({"rerated": rerated, "unpaid": unpaid, "unchanged": unchanged, "next_after": null})
}

/// Statistics are exactly what the records sum to.
async fn assert_sums(actor: &Actor) {
    let stats = actor.get(&actor.own("/usage/stats")).await.data();
    let rows = actor.get(&actor.own("/usage?limit=1000")).await.data();
    let sum = |name: &str| column(&rows, name).iter().map(|n| n.as_f64().expect("a number")).sum::<f64>();
    for (total, part) in [
        ("total_credits_charged", "credits_charged"),
        ("total_cost_usd", "cost_usd"),
        ("total_tokens_used", "tokens_used"),
    ] {
        assert!(
            (stats[total].as_f64().expect("a number") - sum(part)).abs() < 1e-9,
            "{total}: {stats} {rows}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_no_price_is_rated_once() {
    with_settings(&[("UNKNOWN_MODEL", "record")], async |app| {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let first = call(&app.alice, "new", 1000).await;
        let _ = call(&app.alice, "other", 1000).await;
        let _ = call(&app.bob, "new", 2_000_000).await;
        assert_eq!(rerate(app, json!({})).await, done(0, 0, 3), "nothing has a price yet");
        price(app, "new", "0.001").await;
        assert_eq!(rerate(app, json!({"model_name": "other"})).await, done(0, 0, 1));
        // Two at once rate it once.
        let (one, two) = tokio::join!(
            rerate(app, json!({"model_name": "new"})),
            rerate(app, json!({"model_name": "new"}))
        );
        let sum = |name: &str| one[name].as_i64().unwrap_or(0) + two[name].as_i64().unwrap_or(0);
        assert_eq!((sum("rerated"), sum("unpaid")), (1, 1));
        assert_eq!(rerate(app, json!({})).await, done(0, 0, 1));
        let rows = transactions(&app.alice).await;
        assert_eq!(column(&rows, "transaction_type"), ["adjust", "grant"]);
        assert_eq!(
            (&rows[0]["amount"], &rows[0]["description"], &rows[0]["usage_record_id"]),
            (&json!(500), &json!("Rated later"), &first["usage"]["id"])
        );
        let usage = app.alice.get(&app.alice.own("/usage?model_name=new")).await.data();
        assert_eq!(
            (&usage[0]["charge_status"], &usage[0]["credits_charged"], &usage[0]["cost_usd"]),
            (&json!("rerated"), &json!(500), &json!(1))
        );
        assert_eq!(usage[0]["calculation_method"], "price_book");
        // Bob's two thousand dollars are more than he has: the record says what is due.
        let usage = app.bob.get(&app.bob.own("/usage")).await.data();
        assert_eq!(
            (&usage[0]["charge_status"], &usage[0]["credits_due"], &usage[0]["credits_charged"]),
            (&json!("unpaid"), &json!(1_000_000), &json!(0))
        );
        assert_eq!((balance(&app.alice).await, balance(&app.bob).await), (json!(500), json!(1000)));
        let id = rows[0]["transaction_id"].as_str().expect("an id").to_owned();
        let explained =
            app.alice.get(&app.alice.own(&format!("/credits/transactions/{id}/explain"))).await.data();
        assert_eq!(
            (&explained["pricing"]["price_model"], &explained["context"]["model"]),
            (&json!("new"), &json!("new"))
        );
        assert_sums(&app.alice).await;
        assert_sums(&app.bob).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_charged_at_the_fallback_rate_is_corrected_either_way() {
    // The fallback is a hundredth of a dollar for a token in, five credits.
    let settings = [("UNKNOWN_MODEL", "fallback"), ("FALLBACK_USD_PER_MILLION_TOKENS", "10000")];
    with_settings(&settings, async |app| {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let dearer = call(&app.alice, "dearer", 20).await;
        let cheaper = call(&app.alice, "cheaper", 20).await;
        let _ = call(&app.alice, "equal", 20).await;
        assert_eq!((&dearer["status"], &dearer["credits"]), (&json!("fallback"), &json!(100)));
        // Bob has little left, so the dearer price cannot be paid; part of what Alice paid came back already.
        let _ = call(&app.bob, "dearer", 150).await;
        let refund = json!({"transaction_id": cheaper["transaction"]["transaction_id"], "amount": 40});
        let _ = app.backend.post(&app.alice.own("/credits/refund"), refund).await.ok();
        for (model, dollars) in [("dearer", "0.02"), ("cheaper", "0.001"), ("equal", "0.01")] {
            price(app, model, dollars).await;
        }
        assert_eq!(balance(&app.alice).await, 740);
        let rated = app.admin.post_once("k", PATH, json!({})).await;
        assert_eq!(rated.data(), done(3, 1, 0));
        let again = app.admin.post_once("k", PATH, json!({})).await;
        assert_eq!(
            (again.body.as_slice(), again.header("idempotent-replayed")),
            (rated.body.as_slice(), Some("true"))
        );
        assert_eq!(app.admin.post_once("k", PATH, json!({"limit": 5})).await.status, 422);
        assert_eq!(rerate(app, json!({})).await, done(0, 0, 0));
        // 100 more for the dearer one; the cheaper one cost 10, and of its 100 only 60 were left to give back.
        let rows = transactions(&app.alice).await;
        let mut moved: Vec<String> = column(&rows, "transaction_type")
            .iter()
            .zip(column(&rows, "amount"))
            .map(|(kind, amount)| format!("{kind} {amount}"))
            .collect();
        moved.sort();
        assert_eq!(
            moved,
            [
                "\"adjust\" 100",
                "\"consume\" 100",
                "\"consume\" 100",
                "\"consume\" 100",
                "\"grant\" 1000",
                "\"refund\" 40",
                "\"refund\" 60"
            ]
        );
        assert_eq!(balance(&app.alice).await, 700);
        let due = app.bob.get(&app.bob.own("/usage")).await.data();
        assert_eq!(
            (&due[0]["charge_status"], &due[0]["credits_due"], &due[0]["credits_charged"]),
            (&json!("unpaid"), &json!(750), &json!(750))
        );
        assert_sums(&app.alice).await;
        assert_sums(&app.bob).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rating_goes_on_where_it_stopped_and_leaves_deleted_users_alone() {
    with_settings(&[("UNKNOWN_MODEL", "record")], async |app| {
        app.alice.ensure().await;
        app.bob.ensure().await;
        for _ in 0..5 {
            let _ = call(&app.alice, "new", 1).await;
        }
        let _ = call(&app.bob, "new", 1).await;
        let _ = app.bob.delete(&app.bob.own("")).await.ok();
        price(app, "new", "0.001").await;
        let (mut body, mut rerated, mut unchanged, mut goes) = (json!({"limit": 2}), 0, 0, 0);
        loop {
            let part = rerate(app, body.clone()).await;
            rerated += part["rerated"].as_i64().expect("a count");
            unchanged += part["unchanged"].as_i64().expect("a count");
            goes += 1;
            if part["next_after"].is_null() {
                break;
            }
            body["after"] = part["next_after"].clone();
        }
        assert_eq!((rerated, unchanged), (5, 1));
        assert!((3..=4).contains(&goes), "{goes}");
        assert_eq!(balance(&app.alice).await, 997.5);
        for (body, field) in [
            (json!({"limit": 0}), "limit"),
            (json!({"limit": 1001}), "limit"),
            (json!({"after": -1}), "after"),
            (json!({"model_name": ""}), "model_name"),
        ] {
            let refused = app.admin.post(PATH, body).await.with(400);
            assert_eq!(refused["detail"][0]["loc"], json!(["body", field]));
        }
        assert_eq!(app.backend.post(PATH, json!({})).await.status, 403);
    })
    .await;
}
