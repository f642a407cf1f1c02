//! §7 and the ledger's rules: grants with terms of their own, and time passing over them.

use crate::support::{NOW, balance, column, envelope, masked};
use serde_json::json;
use std::time::Duration;
use testkit::both_engines;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

both_engines! {
    async fn a_grant_has_terms_of_its_own(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/grants");
        let answer = app.backend.post(&path, json!({
            "amount": 250, "source": "promo", "priority": 3, "effective_at": "2025-07-28", "expires_at": "2099-12-31T00:00:00Z",
            "description": "Launch week", "reference_id": "launch",
        })).await.ok();
        assert_eq!(masked(answer), envelope("Successfully granted 250 credits", json!({
            "id": "<id>", "transaction_id": "txn_<row>_2", "user_id": "auth0|alice", "transaction_type": "grant",
            "amount": 250, "balance_before": 1000, "balance_after": 1250,
            "credits_amount": 250, "credits_before": 1000, "credits_after": 1250,
            "usage_record_id": null, "reference_id": "launch", "description": "Launch week", "metadata": {}, "created_at": NOW,
        })));
        let list = app.alice.get(&path).await.ok();
        assert_eq!(list["message"], "Retrieved 2 grants");
        assert_eq!(masked(list["data"].clone()), json!([
            {"grant_id": "grt_<row>_2", "transaction_id": "txn_<row>_2", "source": "promo", "amount": 250, "remaining": 250,
             "priority": 3, "effective_at": "2025-07-28T00:00:00.000000Z", "expires_at": "2099-12-31T00:00:00.000000Z", "expired": false, "voided": false},
            {"grant_id": "grt_<row>_1", "transaction_id": "txn_<row>_1", "source": "signup", "amount": 1000, "remaining": 1000,
             "priority": 0, "effective_at": NOW, "expires_at": "2025-08-26T00:11:26.479685Z", "expired": false, "voided": false},
        ]));
        // Not effective yet: it is there, but cannot be spent.
        let now = app.alice.get(&app.alice.own("/credits/balance")).await.ok();
        assert_eq!((&now["data"], &now["balance"]["total"]), (&json!(1000), &json!(1250)));
        app.advance(DAY);
        assert_eq!(balance(&app.alice).await, 1250);
    }

    async fn credits_are_spent_by_priority_then_expiry_then_age(app: TestApp) {
        app.alice.ensure().await;
        let (grants, spend) = (app.alice.own("/credits/grants"), app.alice.own("/credits/consume"));
        let _ = app.alice.post(&spend, json!({"amount": 1000})).await.ok();
        for (amount, terms) in [
            (1, json!({"priority": 1})),
            (2, json!({})),
            (4, json!({"expires_at": "2025-12-01"})),
            (8, json!({"expires_at": "2025-09-01"})),
            (16, json!({"expires_at": "2025-12-01"})),
            (32, json!({"effective_at": "2025-07-27T01:00:00Z"})),
        ] {
            let mut body = terms;
            body["amount"] = amount.into();
            let _ = app.backend.post(&grants, body).await.ok();
        }
        // Each step empties exactly the grant that is next.
        for (amount, remaining) in [
            (8, [32, 16, 0, 4, 2, 1, 0]), (4, [32, 16, 0, 0, 2, 1, 0]), (16, [32, 0, 0, 0, 2, 1, 0]), (2, [32, 0, 0, 0, 0, 1, 0]), (1, [32, 0, 0, 0, 0, 0, 0]),
        ] {
            let _ = app.alice.post(&spend, json!({"amount": amount})).await.ok();
            let rows = app.alice.get(&grants).await.data();
            assert_eq!(column(&rows, "remaining"), remaining, "after spending {amount}");
        }
        app.alice.post(&spend, json!({"amount": 1})).await
            .refuses(400, "InsufficientCreditsException", "Insufficient credits. Available: 0, Required: 1");
        app.advance(DAY / 24);
        assert_eq!(app.alice.post(&spend, json!({"amount": 1})).await.ok()["balance"], 31);
    }

    async fn credits_end_at_their_instant_without_any_sweeper(app: TestApp) {
        app.alice.ensure().await;
        let spend = app.alice.own("/credits/consume");
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 10})).await.ok();
        app.advance(30 * DAY - Duration::from_micros(1));
        assert_eq!(balance(&app.alice).await, 1010);
        app.advance(Duration::from_micros(1));
        assert_eq!(balance(&app.alice).await, 10);
        assert_eq!(app.alice.get("/api/v1/users/me").await.ok()["credits"], 10);
        app.alice.post(&spend, json!({"amount": 11})).await
            .refuses(400, "InsufficientCreditsException", "Insufficient credits. Available: 10, Required: 11");
        // The first write after the instant puts the expiry down, at its own time.
        assert_eq!(app.alice.post(&spend, json!({"amount": 1})).await.ok()["balance"], 9);
        let rows = app.alice.get(&app.alice.own("/credits/transactions")).await.data();
        assert_eq!(column(&rows, "transaction_type"), ["consume", "expire", "recharge", "grant"]);
        assert_eq!(rows[1]["amount"], 1000);
        assert_eq!(rows[1]["created_at"], "2025-08-26T00:11:26.479685Z");
        // A sweep afterwards finds nothing left to write.
        app.sweep().await;
        assert_eq!(app.alice.get(&app.alice.own("/credits/transactions")).await.data(), rows);
        assert_eq!(app.sweep().await, 0);
    }

    async fn the_sweeper_writes_expiries_down_once(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        app.advance(31 * DAY);
        assert_eq!(app.sweep().await, 2);
        assert_eq!(app.sweep().await, 0);
        let rows = app.bob.get(&app.bob.own("/credits/transactions?transaction_type=expire")).await.data();
        assert_eq!(column(&rows, "amount"), [1000]);
        assert_eq!(column(&rows, "balance_after"), [0]);
        assert_eq!(balance(&app.bob).await, 0);
    }

    async fn a_refund_after_its_grant_ended_becomes_a_new_grant(app: TestApp) {
        app.alice.ensure().await;
        let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 100})).await.ok();
        app.advance(40 * DAY);
        let back = app.backend.post(&app.alice.own("/credits/refund"), json!({"transaction_id": spent["transaction_id"]})).await.data();
        assert_eq!((&back["balance_before"], &back["balance_after"]), (&json!(0), &json!(100)));
        assert_eq!(balance(&app.alice).await, 100);
        let grants = app.alice.get(&app.alice.own("/credits/grants")).await.data();
        assert_eq!(grants[0]["source"], "refund");
        assert_eq!(grants[0]["expires_at"], "2025-10-05T00:11:26.479685Z");
        assert_eq!((&grants[1]["expired"], &grants[1]["remaining"]), (&json!(true), &json!(0)));
        app.advance(30 * DAY);
        assert_eq!(balance(&app.alice).await, 0);
    }

    async fn terms_that_make_no_sense_are_refused(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/grants");
        for (terms, field, rule) in [
            (json!({"amount": 1, "expires_at": NOW}), "expires_at", "must be later than effective_at and than now"),
            (json!({"amount": 1, "expires_at": "2025-01-01"}), "expires_at", "must be later"),
            (json!({"amount": 1, "effective_at": "2026-01-01", "expires_at": "2025-12-01"}), "expires_at", "must be later"),
            (json!({"amount": 1, "priority": 1_000_001}), "priority", "at most 1000000"),
            (json!({"amount": 1, "priority": -1}), "priority", "at least 0"),
            (json!({"amount": 1, "source": "signup"}), "source", "unknown variant"),
            (json!({"amount": 1, "reference_id": ""}), "reference_id", "1 to 255 characters"),
            (json!({"amount": 1, "expires_at": "never"}), "expires_at", "must be a date"),
            (json!({"amount": 0}), "amount", "greater than 0"),
        ] {
            app.backend.post(&path, terms).await.refuses_field(&["body", field], rule);
        }
        let _ = app.backend.post(&path, json!({"amount": 1, "priority": 1_000_000, "expires_at": "9999-12-31T23:59:59.999999Z"})).await.ok();
        let _ = app.backend.post(&path, json!({"amount": 1, "effective_at": "1970-01-01"})).await.ok();
        assert_eq!(balance(&app.alice).await, 1002);
    }
}
