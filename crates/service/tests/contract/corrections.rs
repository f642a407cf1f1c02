//! What operators correct: adjustments, credit limits, refunds of what was charged; and what an account was.

use crate::support::{NOW, balance, column, envelope, masked, parts, transaction, transactions, with};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Answer, TestApp, both_engines};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn adjust(app: &TestApp, body: Value) -> Answer {
    app.backend.post(&app.alice.own("/credits/adjust"), body).await
}

async fn limit(app: &TestApp, credits: i64) -> Value {
    let request = app.backend.request("PUT".parse().expect("a method"), &app.alice.own("/credits/limit"));
    request.json(&json!({"credit_limit": credits})).send().await.data()
}

async fn consume(app: &TestApp, amount: i64) -> Answer {
    app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": amount})).await
}

/// The balance as it was.
async fn at(app: &TestApp, instant: &str) -> Value {
    app.alice.get(&app.alice.own(&format!("/credits/balance?at={instant}"))).await.ok()["balance"].take()
}

both_engines! {
    async fn a_balance_is_adjusted_either_way(app: TestApp) {
        app.alice.ensure().await;
        let spent = consume(&app, 10).await.ok()["transaction_id"].clone();
        let record = app.alice.post(&app.alice.own("/usage"), json!({"event_type": "x"})).await.data()["id"].clone();
        let up = adjust(&app, json!({"amount": 2.5, "description": "counted twice", "transaction_id": spent, "metadata": {"case": 1}})).await.ok();
        assert_eq!(masked(up), envelope("Successfully adjusted by 2.5 credits", with(transaction("adjust", 3, 2.5, 990.0, 992.5),
            json!({"reverses": "txn_<row>_2", "description": "counted twice", "metadata": {"case": 1}}))));
        let down = adjust(&app, json!({"amount": "-1.000001", "usage_record_id": record})).await.data();
        assert_eq!((&down["amount"], &down["balance_after"], &down["usage_record_id"]), (&json!(1.000_001), &json!(991.499_999), &record));
        let grants = app.alice.get(&app.alice.own("/credits/grants")).await.data();
        assert_eq!((&grants[0]["source"], &grants[0]["expires_at"], &grants[0]["amount"]), (&json!("adjustment"), &Value::Null, &json!(2.5)));
        adjust(&app, json!({"amount": -992})).await
            .refuses(400, "InsufficientCreditsException", "Insufficient credits. Available: 991.499999, Required: 992");
        let bobs = { app.bob.ensure().await; app.bob.post(&app.bob.own("/credits/consume"), json!({"amount": 1})).await.ok()["transaction_id"].clone() };
        let foreign = app.bob.post(&app.bob.own("/usage"), json!({"event_type": "x"})).await.data()["id"].clone();
        assert_eq!(adjust(&app, json!({"amount": 1, "transaction_id": bobs})).await.status, 404);
        for (body, field, rule) in [
            (json!({"amount": 0}), "amount", "not be 0"), (json!({}), "amount", "Field required"), (json!({"amount": 0.000_000_1}), "amount", "at most 6 decimal places"),
            (json!({"amount": -9_000_000_000_001_i64}), "amount", "9000000000000"), (json!({"amount": 9_000_000_000_000_i64}), "amount", "at most 9000000000000 credits"),
            (json!({"amount": 1, "usage_record_id": foreign}), "usage_record_id", "belongs to another user"),
            (json!({"amount": 1, "transaction_id": "x"}), "transaction_id", "must be a transaction id"),
        ] {
            adjust(&app, body).await.refuses_field(&["body", field], rule);
        }
        assert_eq!(app.alice.post(&app.alice.own("/credits/adjust"), json!({"amount": 1})).await.status, 403);
        assert_eq!(balance(&app.alice).await, 991.499_999);
    }

    async fn a_customer_with_a_limit_pays_afterwards(app: TestApp) {
        app.alice.ensure().await;
        assert_eq!(limit(&app, 500).await, json!({"credit_limit": 500, "owed": 0, "available": 1500}));
        let spent = consume(&app, 1200).await.ok();
        assert_eq!((&spent["balance"], &spent["data"]["balance_after"]), (&json!(300), &json!(-200)));
        let now = parts(&app.alice).await;
        assert_eq!([&now["available"], &now["total"], &now["owed"], &now["credit_limit"]], [&json!(300), &json!(-200), &json!(200), &json!(500)]);
        consume(&app, 301).await.refuses(400, "InsufficientCreditsException", "Insufficient credits. Available: 300, Required: 301");
        // A hold takes of the limit too.
        let held = app.alice.post(&app.alice.own("/credits/holds"), json!({"amount": 300})).await.ok();
        let hold = app.alice.own(&format!("/credits/holds/{}", held["hold_id"].as_str().expect("an id")));
        assert_eq!((&held["available"], consume(&app, 1).await.status), (&json!(0), 400));
        let _ = app.alice.post(&format!("{hold}/capture"), json!({"amount": 50})).await.ok();
        assert_eq!(parts(&app.alice).await["owed"], 250);
        // Lowering takes nothing away; more than that can be spent when it is paid.
        assert_eq!(limit(&app, 100).await, json!({"credit_limit": 100, "owed": 250, "available": 0}));
        let refused = app.alice.post(&app.alice.own("/charges"), json!({"event_type": "x", "credits": 1})).await.with(402);
        assert_eq!((&refused["error_details"]["available"], &refused["error_details"]["retryable"]), (&json!(0), &json!(false)));
        // What has a scope pays back nothing; what has none does, at once.
        let _ = app.backend.post(&app.alice.own("/credits/grants"), json!({"amount": 40, "scope": {"features": ["f"]}})).await.ok();
        assert_eq!(parts(&app.alice).await["owed"], 250);
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 400})).await.ok();
        let now = parts(&app.alice).await;
        assert_eq!([&now["available"], &now["total"], &now["owed"]], [&json!(250), &json!(190), &json!(0)]);
        let rows = transactions(&app.alice).await;
        assert_eq!(column(&rows, "transaction_type"), ["adjust", "recharge", "grant", "capture", "consume", "grant"]);
        assert_eq!((&rows[0]["amount"], &rows[0]["balance_after"]), (&json!(0), &json!(190)));
        let id = rows[0]["transaction_id"].as_str().expect("an id").to_owned();
        let why = app.alice.get(&app.alice.own(&format!("/credits/transactions/{id}/explain"))).await.data();
        assert_eq!(why["sentences"][0], "What was owed was paid back.");
        assert_eq!((&why["funded_by"][0]["amount"], &why["funded_by"][0]["source"]), (&json!(250), &json!("purchase")));
    }

    async fn a_grant_that_begins_later_pays_back_when_it_begins(app: TestApp) {
        app.alice.ensure().await;
        let _ = limit(&app, 500).await;
        let _ = consume(&app, 1300).await.ok();
        let _ = app.backend.post(&app.alice.own("/credits/grants"), json!({"amount": 1000, "effective_at": "2025-07-27T01:00:00Z"})).await.ok();
        assert_eq!(parts(&app.alice).await["owed"], 300);
        app.advance(HOUR);
        let now = parts(&app.alice).await;
        assert_eq!([&now["available"], &now["owed"]], [&json!(1200), &json!(0)]);
        assert_eq!(transactions(&app.alice).await[0]["created_at"], "2025-07-27T01:00:00.000000Z");
    }

    async fn limits_that_are_none_are_refused(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/limit");
        let put = |body: Value| app.backend.request("PUT".parse().expect("a method"), &path).json(&body).send();
        for (body, rule) in [
            (json!({}), "Field required"), (json!({"credit_limit": -1}), "must not be negative"), (json!({"credit_limit": 100_000_000_001_i64}), "at most 100000000000"),
            (json!({"credit_limit": "many"}), "must be a number"), (json!({"credit_limit": null}), "must be a number"), (json!({"credit_limit": 0.000_000_1}), "6 decimal places"),
        ] {
            put(body).await.refuses_field(&["body", "credit_limit"], rule);
        }
        assert_eq!(put(json!({"credit_limit": 100_000_000_000_i64})).await.data()["available"], 100_000_001_000_i64);
        let own = app.alice.request("PUT".parse().expect("a method"), &path).json(&json!({"credit_limit": 1})).send().await;
        assert_eq!(own.status, 403);
        let _ = put(json!({"credit_limit": 0})).await.ok();
        assert_eq!(balance(&app.alice).await, 1000);
    }

    async fn what_was_charged_is_refunded(app: TestApp) {
        app.alice.ensure().await;
        let refund = app.alice.own("/credits/refund");
        let charged = app.alice.post(&app.alice.own("/charges"), json!({"event_type": "x", "credits": 100})).await.data();
        let id = charged["transaction"]["transaction_id"].clone();
        let back = app.backend.post(&refund, json!({"transaction_id": id, "amount": 30})).await.data();
        assert_eq!((&back["reverses"], &back["usage_record_id"]), (&id, &charged["usage"]["id"]));
        app.backend.post(&refund, json!({"transaction_id": id, "amount": 71})).await.refuses_field(&["body", "amount"], "at most 70 credits");
        let held = app.alice.post(&app.alice.own("/credits/holds"), json!({"amount": 50})).await.ok();
        let capture = app.alice.own(&format!("/credits/holds/{}/capture", held["hold_id"].as_str().expect("an id")));
        let captured = app.alice.post(&capture, json!({"amount": 60})).await;
        let id = captured.ok()["transaction"]["transaction_id"].clone();
        assert_eq!(app.backend.post(&refund, json!({"transaction_id": id})).await.data()["amount"], 60);
        // A hold that was captured stays so, whatever came back of it.
        assert_eq!(app.alice.post(&capture, json!({"amount": 60})).await.body, captured.body);
        assert_eq!(balance(&app.alice).await, 930);
        for kind in ["refund", "grant"] {
            let id = app.alice.get(&app.alice.own(&format!("/credits/transactions?transaction_type={kind}"))).await.data()[0]["transaction_id"].clone();
            app.backend.post(&refund, json!({"transaction_id": id})).await.refuses_field(&["body", "transaction_id"], "only consume and capture");
        }
    }

    async fn a_refund_of_what_was_owed_lowers_what_is_owed(app: TestApp) {
        app.alice.ensure().await;
        let _ = limit(&app, 500).await;
        let id = consume(&app, 1300).await.ok()["transaction_id"].clone();
        let refund = app.alice.own("/credits/refund");
        let _ = app.backend.post(&refund, json!({"transaction_id": id, "amount": 200})).await.ok();
        let now = parts(&app.alice).await;
        assert_eq!([&now["owed"], &now["total"], &now["available"]], [&json!(100), &json!(-100), &json!(400)]);
        // The rest: a hundred was owed, the others go back to the welcome credits.
        let _ = app.backend.post(&refund, json!({"transaction_id": id})).await.ok();
        let now = parts(&app.alice).await;
        assert_eq!([&now["owed"], &now["total"], &now["available"]], [&json!(0), &json!(1000), &json!(1500)]);
    }

    async fn a_balance_is_told_of_any_instant(app: TestApp) {
        app.alice.ensure().await;
        app.advance(HOUR);
        let _ = consume(&app, 100).await.ok();
        app.advance(HOUR);
        let held = app.alice.post(&app.alice.own("/credits/holds"), json!({"amount": 50, "expires_in": 7200})).await.ok();
        app.advance(HOUR);
        let _ = app.alice.post(&app.alice.own(&format!("/credits/holds/{}/capture", held["hold_id"].as_str().expect("an id"))), json!({"amount": 20})).await.ok();
        app.advance(40 * DAY);
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 5})).await.ok();
        for (instant, available, held) in [
            ("1970-01-01", 0, 0), ("2025-07-27T00:11:26.479684Z", 0, 0), (NOW, 1000, 0), ("2025-07-27T01:11:26.479684Z", 1000, 0), ("2025-07-27T01:11:26.479685Z", 900, 0),
            ("2025-07-27T02:11:26.479685Z", 850, 50), ("2025-07-27T03:11:26.479684Z", 850, 50), ("2025-07-27T03:11:26.479685Z", 880, 0), ("2025-07-27T05:11:27%2B02:00", 880, 0),
            ("2025-08-26T00:11:26.479684Z", 880, 0), ("2025-08-26T00:11:26.479685Z", 0, 0), ("2025-09-05", 0, 0), ("2025-09-05T03:11:26.479685Z", 5, 0),
        ] {
            let was = at(&app, instant).await;
            assert_eq!((&was["available"], &was["held"], &was["total"]), (&json!(available), &json!(held), &json!(available + held)), "{instant}");
        }
        assert_eq!(at(&app, "2025-09-05T03:11:26.479685Z").await, parts(&app.alice).await, "now is now");
        let path = app.alice.own("/credits/balance?at=");
        app.alice.get(&format!("{path}2025-09-05T03:11:26.479686Z")).await.refuses_field(&["query", "at"], "must not be in the future");
        for bad in ["", "soon", "2025-13-01", "1969-12-31", "%00", "1e9"] {
            app.alice.get(&format!("{path}{bad}")).await.refuses_field(&["query", "at"], "");
        }
    }
}
