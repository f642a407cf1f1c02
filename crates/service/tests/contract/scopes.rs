//! Grants for some things only, grants that roll over, and grants that are taken back.

use crate::support::{balance, column, envelope, masked, parts, transaction, transactions, with};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Actor, Answer, TestApp, both_engines};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn grant(app: &TestApp, body: Value) -> String {
    let given = app.backend.post(&app.alice.own("/credits/grants"), body).await.data();
    given["transaction_id"].as_str().expect("an id").replace("txn_", "grt_")
}

async fn void(app: &TestApp, grant: &str, body: Value) -> Answer {
    app.backend.post(&app.alice.own(&format!("/credits/grants/{grant}/void")), body).await
}

async fn consume(actor: &Actor, body: Value) -> Answer {
    actor.post(&actor.own("/credits/consume"), body).await
}

/// What is left in each grant, newest first.
async fn remaining(actor: &Actor) -> Vec<Value> {
    column(&actor.get(&actor.own("/credits/grants")).await.data(), "remaining")
}

both_engines! {
    async fn credits_with_a_scope_pay_for_nothing_else(app: TestApp) {
        app.alice.ensure().await;
        let _ = consume(&app.alice, json!({"amount": 1000})).await.ok();
        let scope = json!({"models": ["gpt-4*", "claude-x"], "features": ["chat"]});
        let _ = grant(&app, json!({"amount": 50, "scope": scope})).await;
        let _ = grant(&app, json!({"amount": 7, "scope": scope})).await;
        let _ = grant(&app, json!({"amount": 3, "scope": {"features": ["images"]}})).await;
        let _ = grant(&app, json!({"amount": 2, "scope": {"models": [], "features": []}})).await;
        let now = parts(&app.alice).await;
        assert_eq!((&now["available"], &now["total"]), (&json!(2), &json!(62)));
        assert_eq!(now["scoped"], json!([{"scope": scope, "available": 57}, {"scope": {"features": ["images"]}, "available": 3}]));
        let listed = app.alice.get(&app.alice.own("/credits/grants")).await.data();
        assert_eq!((&listed[3]["scope"], listed[0].get("scope")), (&scope, None));
        // In scope: what has a scope is spent first here, for it is older.
        let spent = consume(&app.alice, json!({"amount": 20, "model_name": "gpt-4-0613", "feature": "chat"})).await.ok();
        assert_eq!((&spent["balance"], &spent["data"]["balance_after"]), (&json!(2), &json!(42)));
        assert_eq!(remaining(&app.alice).await[..4], [json!(2), json!(3), json!(7), json!(30)]);
        for (body, available) in [
            (json!({}), 2), (json!({"model_name": "gpt-4"}), 2), (json!({"feature": "chat"}), 2), (json!({"model_name": "gpt-3.5-turbo", "feature": "chat"}), 2),
            (json!({"feature": "images"}), 5), (json!({"model_name": "gpt-4o", "feature": "images"}), 5), (json!({"model_name": "claude-x", "feature": "chat"}), 39),
            (json!({"model_name": "", "feature": "", "session_id": ""}), 2),
        ] {
            let says = format!("Insufficient credits. Available: {available}, Required: 100");
            consume(&app.alice, with(json!({"amount": 100}), body)).await.refuses(400, "InsufficientCreditsException", &says);
        }
        // Charges and holds say what they are for in the same words; a charge's feature is its event type.
        let charge = json!({"event_type": "chat", "model_name": "gpt-4", "credits": 30});
        let charged = app.alice.post(&app.alice.own("/charges"), charge).await.data();
        assert_eq!((&charged["available"], &charged["transaction"]["balance_after"]), (&json!(2), &json!(12)));
        let hold = app.alice.post(&app.alice.own("/credits/holds"), json!({"amount": 5, "feature": "images"})).await.ok();
        assert_eq!(hold["available"], 0);
        assert_eq!(parts(&app.alice).await["scoped"], json!([{"scope": scope, "available": 7}]));
    }

    async fn promotional_credits_beside_paid_ones_keep_their_own_terms(app: TestApp) {
        app.alice.ensure().await;
        let _ = consume(&app.alice, json!({"amount": 1000})).await.ok();
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 100})).await.ok();
        let _ = grant(&app, json!({"amount": 10, "source": "promo", "expires_at": "2025-07-29"})).await;
        let _ = grant(&app, json!({"amount": 20, "source": "promo", "priority": 5, "expires_at": "2025-07-28"})).await;
        assert_eq!(consume(&app.alice, json!({"amount": 4})).await.ok()["balance"], 126);
        assert_eq!(remaining(&app.alice).await[..3], [json!(20), json!(6), json!(100)]);
        app.advance(DAY);
        assert_eq!(balance(&app.alice).await, 106, "what has a late turn may end before it");
        app.advance(DAY);
        assert_eq!(balance(&app.alice).await, 100, "paid credits never end because of others");
    }

    async fn what_is_left_rolls_over_once_at_its_instant_up_to_its_cap(app: TestApp) {
        app.alice.ensure().await;
        let _ = consume(&app.alice, json!({"amount": 1000})).await.ok();
        let terms = json!({"amount": 50, "source": "plan", "priority": 3, "expires_at": "2025-07-28", "rollover": {"max": 10, "days": 30}, "scope": {"features": ["chat"]}});
        let first = grant(&app, terms).await;
        let _ = consume(&app.alice, json!({"amount": 5, "feature": "chat"})).await.ok();
        app.advance(2 * DAY);
        assert_eq!(parts(&app.alice).await["total"], 10);
        let listed = app.alice.get(&app.alice.own("/credits/grants")).await.data();
        let rolled = &listed[0];
        assert_eq!((&rolled["amount"], &rolled["remaining"], &rolled["source"], &rolled["priority"]), (&json!(10), &json!(10), &json!("plan"), &json!(3)));
        assert_eq!((&rolled["effective_at"], &rolled["expires_at"]), (&json!("2025-07-28T00:00:00.000000Z"), &json!("2025-08-27T00:00:00.000000Z")));
        assert_eq!((&rolled["scope"], rolled.get("rollover")), (&json!({"features": ["chat"]}), None));
        assert_eq!((&listed[1]["grant_id"], &listed[1]["remaining"], &listed[1]["rollover"]), (&json!(first), &json!(0), &json!({"max": 10, "days": 30})));
        let rows = transactions(&app.alice).await;
        assert_eq!((&rows[0]["transaction_type"], &rows[0]["amount"], &rows[0]["created_at"]), (&json!("expire"), &json!(35), &json!("2025-07-28T00:00:00.000000Z")));
        assert_eq!(parts(&app.alice).await["credits_total"], 1050, "what rolls over was given before");
        // Less than the cap rolls over whole; nothing is left of nothing.
        app.advance(30 * DAY);
        assert_eq!(parts(&app.alice).await["total"], 0);
        assert_eq!(transactions(&app.alice).await[0]["amount"], 10);
    }

    async fn a_grant_is_taken_back_as_far_as_it_is_left(app: TestApp) {
        app.alice.ensure().await;
        let promo = grant(&app, json!({"amount": 50, "expires_at": "2025-08-01"})).await;
        let _ = consume(&app.alice, json!({"amount": 8})).await.ok();
        let held = app.alice.post(&app.alice.own("/credits/holds"), json!({"amount": 2})).await.ok();
        void(&app, &promo, json!({})).await.refuses(409, "ConflictException", "open holds have set 2 credits of the grant aside; settle them first");
        let _ = app.alice.post(&app.alice.own(&format!("/credits/holds/{}/release", held["hold_id"].as_str().expect("an id"))), json!({})).await.ok();
        let taken = void(&app, &promo, json!({"description": "charged back", "metadata": {"case": 7}})).await.ok();
        assert_eq!(masked(taken), envelope("Successfully voided 42 credits", with(transaction("reversal", 4, 42.0, 1042.0, 1000.0),
            json!({"reverses": "txn_<row>_2", "description": "charged back", "metadata": {"case": 7}}))));
        let row = app.alice.get(&app.alice.own("/credits/grants")).await.data()[0].clone();
        assert_eq!((&row["grant_id"], &row["voided"], &row["remaining"], &row["amount"]), (&json!(promo), &json!(true), &json!(0), &json!(50)));
        let gone = "the grant has nothing left: it is spent, has ended or was voided before";
        void(&app, &promo, json!({})).await.refuses(409, "ConflictException", gone);
        // What it paid for does not come back into it.
        let spent = transactions(&app.alice).await[1]["transaction_id"].clone();
        let _ = app.backend.post(&app.alice.own("/credits/refund"), json!({"transaction_id": spent})).await.ok();
        let rows = app.alice.get(&app.alice.own("/credits/grants")).await.data();
        assert_eq!((&rows[0]["source"], &rows[0]["remaining"], &rows[1]["remaining"]), (&json!("refund"), &json!(8), &json!(0)));
        // One that is spent, and one that has ended.
        let small = grant(&app, json!({"amount": 5, "expires_at": "2025-07-28"})).await;
        let _ = consume(&app.alice, json!({"amount": 5})).await.ok();
        void(&app, &small, json!({})).await.refuses(409, "ConflictException", gone);
        let short = grant(&app, json!({"amount": 5, "expires_at": "2025-07-28", "priority": 9})).await;
        app.advance(DAY);
        void(&app, &short, json!({})).await.refuses(409, "ConflictException", gone);
    }

    async fn only_grants_of_the_account_are_taken_back(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].clone();
        let other = app.bob.ensure().await["user_id"].clone();
        let spent = consume(&app.alice, json!({"amount": 1})).await.ok()["transaction_id"].as_str().expect("an id").replace("txn", "grt");
        for (id, wanted) in [
            (format!("grt_{other}_1"), 404), (format!("grt_{row}_99"), 404), (spent, 404), (format!("grt_{row}_01"), 400), (format!("txn_{row}_1"), 400),
            ("grt_1_9223372036854775808".to_owned(), 400), ("x".to_owned(), 400), ("%FF".to_owned(), 400),
        ] {
            let answer = void(&app, &id, json!({})).await;
            assert_eq!(answer.status, wanted, "{id}: {}", answer.text());
        }
        assert_eq!(app.alice.post(&app.alice.own(&format!("/credits/grants/grt_{row}_1/void")), json!({})).await.status, 403);
        assert_eq!((balance(&app.alice).await, balance(&app.bob).await), (json!(999), json!(1000)));
        // Two at once take it back once.
        let id = format!("grt_{row}_1");
        let (one, two) = tokio::join!(void(&app, &id, json!({})), void(&app, &id, json!({})));
        assert_eq!(one.status.min(two.status), 200);
        assert_eq!(one.status.max(two.status), 409);
        assert_eq!(balance(&app.alice).await, 0);
    }

    async fn a_reference_gives_once(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/grants");
        let body = json!({"amount": 5, "reference_id": "r", "scope": {"models": ["m"]}});
        let first = app.backend.post(&path, body.clone()).await.data();
        assert_eq!(app.backend.post(&path, body).await.data(), first);
        assert_eq!(app.backend.post(&path, json!({"amount": 6, "reference_id": "r"})).await.status, 409);
        assert_eq!(app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 5, "reference_id": "r"})).await.status, 409);
        assert_eq!(parts(&app.alice).await["total"], 1005);
    }

    async fn terms_of_scope_and_roll_over_that_make_no_sense_are_refused(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/grants");
        let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
        for (terms, loc, rule) in [
            (json!({"scope": {"models": many}}), json!(["body", "scope", "models"]), "at most 100 names"),
            (json!({"scope": {"features": [""]}}), json!(["body", "scope", "features", "0"]), "1 to 100 characters"),
            (json!({"scope": {"models": ["x".repeat(201)]}}), json!(["body", "scope", "models", "0"]), "1 to 200 characters"),
            (json!({"scope": {"models": "gpt-4"}}), json!(["body", "scope", "models"]), "invalid type"),
            (json!({"scope": {"model": ["gpt-4"]}}), json!(["body", "scope", "model"]), "unknown field"),
            (json!({"scope": []}), json!(["body", "scope"]), ""),
            (json!({"rollover": {"max": 1, "days": 30}}), json!(["body", "rollover"]), "needs expires_at"),
            (json!({"rollover": {"max": 0, "days": 30}, "expires_at": "2026-01-01"}), json!(["body", "rollover", "max"]), "greater than 0"),
            (json!({"rollover": {"max": 1, "days": 0}, "expires_at": "2026-01-01"}), json!(["body", "rollover", "days"]), "1 to 36500"),
            (json!({"rollover": {"max": 1, "days": 36_501}, "expires_at": "2026-01-01"}), json!(["body", "rollover", "days"]), "1 to 36500"),
            (json!({"rollover": {"max": 1}, "expires_at": "2026-01-01"}), json!(["body", "rollover", "days"]), "Field required"),
        ] {
            let refused = app.backend.post(&path, with(json!({"amount": 1}), terms)).await.with(400);
            let detail = &refused["detail"][0];
            assert_eq!(detail["loc"], loc, "{refused}");
            assert!(detail["msg"].as_str().is_some_and(|msg| msg.contains(rule)), "{refused}");
        }
        // A roll-over that would live past the last year there is.
        let far = grant(&app, json!({"amount": 1, "expires_at": "9999-12-31T23:59:59Z", "rollover": {"max": 1, "days": 36_500}})).await;
        assert!(far.starts_with("grt_"));
        assert_eq!(balance(&app.alice).await, 1001);
    }
}
