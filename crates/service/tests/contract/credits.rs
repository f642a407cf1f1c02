//! §7: spending, recharging, giving back, and what the ledger says of it.

use crate::support::{NOW, balance, column, envelope, error, masked};
use serde_json::json;
use testkit::both_engines;

both_engines! {
    async fn the_flat_form_of_consume_answers_all_documented_fields(app: TestApp) {
        app.alice.ensure().await;
        let answer = app.alice.post(&app.alice.own("/credits/consume"), json!({
            "user_id": "auth0|alice", "amount": 25.5, "reason": "API call", "endpoint": "/api/chat", "service": "chat",
        })).await.ok();
        assert_eq!(masked(answer), json!({
            "success": true, "status": "success", "remaining_credits": 974.5, "consumed_amount": 25.5, "balance": 974.5,
            "transaction_id": "txn_<row>_2", "message": "Successfully consumed 25.5 credits", "timestamp": NOW,
            "data": {
                "id": "<id>", "transaction_id": "txn_<row>_2", "user_id": "auth0|alice", "transaction_type": "consume",
                "amount": 25.5, "balance_before": 1000, "balance_after": 974.5,
                "credits_amount": 25.5, "credits_before": 1000, "credits_after": 974.5,
                "usage_record_id": null, "reference_id": null, "description": "API call",
                "metadata": {"endpoint": "/api/chat", "service": "chat"}, "created_at": NOW,
            },
        }));
    }

    async fn the_documented_form_of_consume_takes_a_usage_record_that_need_not_exist(app: TestApp) {
        app.alice.ensure().await;
        let answer = app.alice.post(&app.alice.own("/credits/consume"), json!({
            "amount": 10.5, "description": "GPT-4 call", "usage_record_id": 900_001, "metadata": {"model": "gpt-4"},
        })).await.data();
        assert_eq!(answer["usage_record_id"], 900_001);
        assert_eq!(answer["description"], "GPT-4 call");
        assert_eq!(answer["metadata"], json!({"model": "gpt-4"}));
        assert_eq!(answer["balance_after"], 989.5);
        assert_eq!(balance(&app.alice).await, 989.5);
    }

    async fn a_usage_record_that_exists_must_be_the_users_own(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let record = |actor: &testkit::Actor| {
            let actor = actor.clone();
            async move { actor.post(&actor.own("/usage"), json!({"event_type": "call"})).await.data()["id"].clone() }
        };
        let (own, foreign) = (record(&app.alice).await, record(&app.bob).await);
        let path = app.alice.own("/credits/consume");
        app.alice.post(&path, json!({"amount": 1, "usage_record_id": foreign})).await
            .refuses_field(&["body", "usage_record_id"], "the record belongs to another user");
        let paid = app.alice.post(&path, json!({"amount": 1, "usage_record_id": own})).await.data();
        assert_eq!(paid["usage_record_id"], own);
        assert_eq!(balance(&app.alice).await, 999);
    }

    async fn amounts_are_exact_decimals_as_numbers_or_strings(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        for (amount, left) in [
            ("0.000001", "999.999999"), ("\"0.1\"", "999.899999"), ("0.2", "999.699999"), ("1e-1", "999.599999"),
            ("1.50", "998.099999"), ("\"98.099999\"", "900"), ("300.000000", "600"),
        ] {
            let answer = app.alice.post_text(&path, format!("{{\"amount\": {amount}}}")).await;
            let text = answer.text();
            assert!(text.contains(&format!("\"balance\":{left},")), "{amount} should leave {left}: {text}");
        }
    }

    async fn amounts_that_are_no_amounts_are_refused_and_nothing_changes(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        for (amount, rule) in [
            ("0", "must be greater than 0"), ("-1", "must be greater than 0"), ("-0.000001", "must be greater than 0"),
            ("0.0000001", "at most 6 decimal places"), ("1.1234567", "at most 6 decimal places"),
            ("9000000000001", "at most 9000000000000"), ("1e400", ""), ("1e-400", "at most 6 decimal places"),
            ("\"ten\"", "must be a number"), ("\"\"", "must be a number"), ("\"NaN\"", "must be a number"),
            ("\"Infinity\"", "must be a number"), ("null", "must be a number"), ("true", "must be a number"),
            ("[1]", "must be a number"), ("{}", "must be a number"),
        ] {
            app.alice.post_text(&path, format!("{{\"amount\": {amount}}}")).await.refuses_field(&["body", "amount"], rule);
        }
        app.alice.post(&path, json!({})).await.refuses_field(&["body", "amount"], "Field required");
        assert_eq!(balance(&app.alice).await, 1000);
        assert_eq!(app.alice.get(&app.alice.own("/credits/transactions")).await.data().as_array().expect("rows").len(), 1);
    }

    async fn more_than_there_is_is_refused_with_the_documented_sentence(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        let _ = app.alice.post(&path, json!({"amount": 36})).await.ok();
        let answer = app.alice.post(&path, json!({"amount": 1_000_000})).await.with(400);
        assert_eq!(masked(answer), error(
            "InsufficientCreditsException",
            "Insufficient credits. Available: 964, Required: 1000000",
            json!({"operation": "consume_credits", "user_id": "auth0|alice", "available": 964, "required": 1_000_000, "retryable": false, "top_up_url": null}),
        ));
        app.alice.post(&path, json!({"amount": "964.000001"})).await
            .refuses(400, "InsufficientCreditsException", "Insufficient credits. Available: 964, Required: 964.000001");
        assert_eq!(app.alice.post(&path, json!({"amount": 964})).await.ok()["balance"], 0);
        app.alice.post(&path, json!({"amount": 0.5})).await
            .refuses(400, "InsufficientCreditsException", "Insufficient credits. Available: 0, Required: 0.5");
    }

    async fn of_200_concurrent_consumes_of_the_last_credit_one_succeeds(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/consume");
        let _ = app.alice.post(&path, json!({"amount": 999})).await.ok();
        let calls: Vec<_> = (0..200).map(|_| {
            let (alice, path) = (app.alice.clone(), path.clone());
            tokio::spawn(async move { alice.post(&path, json!({"amount": 1})).await.status })
        }).collect();
        let mut statuses = Vec::new();
        for call in calls {
            statuses.push(call.await.expect("an answer"));
        }
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 199, "{statuses:?}");
        assert_eq!(balance(&app.alice).await, 0);
    }

    async fn the_documented_recharge_is_applied_once_per_reference(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/recharge");
        let body = json!({
            "amount": 1000.0, "description": "Stripe payment", "reference_id": "stripe_pi_abc123def456",
            "metadata": {"source": "stripe"},
        });
        let first = app.backend.post(&path, body.clone()).await.ok();
        assert_eq!(masked(first.clone()), envelope("Successfully recharged 1000 credits", json!({
            "id": "<id>", "transaction_id": "txn_<row>_2", "user_id": "auth0|alice", "transaction_type": "recharge",
            "amount": 1000, "balance_before": 1000, "balance_after": 2000,
            "credits_amount": 1000, "credits_before": 1000, "credits_after": 2000,
            "usage_record_id": null, "reference_id": "stripe_pi_abc123def456", "description": "Stripe payment",
            "metadata": {"source": "stripe"}, "created_at": NOW,
        })));
        let again = app.backend.post(&path, body).await.ok();
        assert_eq!(again["data"], first["data"]);
        assert_eq!(app.admin.post(&path, json!({"amount": "1000", "reference_id": "stripe_pi_abc123def456"})).await.data(), first["data"]);
        let other = app.backend.post(&path, json!({"amount": 999, "reference_id": "stripe_pi_abc123def456"})).await.with(409);
        assert_eq!(other["error_code"], "ConflictException");
        assert_eq!(balance(&app.alice).await, 2000);
        // The reference is the user's own: another one may have the same.
        app.bob.ensure().await;
        let bobs = app.bob.own("/credits/recharge");
        let bobs = app.backend.post(&bobs, json!({"amount": 5, "reference_id": "stripe_pi_abc123def456"})).await.data();
        assert_eq!(bobs["balance_after"], 1005);
    }

    async fn a_recharge_may_come_as_a_query(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/recharge?amount=12.5&description=by+query&reference_id=ref%2F1");
        let data = app.backend.post_query(&path).await.data();
        assert_eq!(data["amount"], 12.5);
        assert_eq!(data["description"], "by query");
        assert_eq!(data["reference_id"], "ref/1");
        app.backend.post_query(&app.alice.own("/credits/recharge?amount=x")).await
            .refuses_field(&["query", "amount"], "must be a number");
        app.backend.post_query(&app.alice.own("/credits/recharge")).await
            .refuses_field(&["query", "amount"], "Field required");
    }

    async fn fifty_concurrent_recharges_of_one_reference_add_once(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/recharge");
        let calls: Vec<_> = (0..50).map(|_| {
            let (backend, path) = (app.backend.clone(), path.clone());
            tokio::spawn(async move { backend.post(&path, json!({"amount": 7, "reference_id": "once"})).await.data() })
        }).collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("an answer"));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        assert_eq!(balance(&app.alice).await, 1007);
    }

    async fn a_balance_never_passes_the_maximum(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/recharge");
        app.backend.post(&path, json!({"amount": 9_000_000_000_000_u64})).await
            .refuses_field(&["body", "amount"], "at most 9000000000000 credits");
        assert_eq!(app.backend.post(&path, json!({"amount": 8_999_999_999_000_u64})).await.data()["balance_after"], 9_000_000_000_000_u64);
        app.backend.post(&path, json!({"amount": "0.000001"})).await
            .refuses_field(&["body", "amount"], "at most 9000000000000 credits");
        let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": "0.000001"})).await;
        assert!(spent.text().contains("\"balance\":8999999999999.999999,"), "{}", spent.text());
    }

    async fn refunds_sum_to_at_most_what_was_spent(app: TestApp) {
        app.alice.ensure().await;
        let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 10})).await.ok();
        let id = spent["transaction_id"].clone();
        let path = app.alice.own("/credits/refund");
        let refund = app.backend.post(&path, json!({"transaction_id": id, "amount": 5, "description": "half"})).await.ok();
        assert_eq!(masked(refund), envelope("Successfully refunded 5 credits", json!({
            "id": "<id>", "transaction_id": "txn_<row>_3", "user_id": "auth0|alice", "transaction_type": "refund",
            "amount": 5, "balance_before": 990, "balance_after": 995,
            "credits_amount": 5, "credits_before": 990, "credits_after": 995,
            "usage_record_id": null, "reference_id": null, "reverses": "txn_<row>_2", "description": "half",
            "metadata": {}, "created_at": NOW,
        })));
        app.backend.post(&path, json!({"transaction_id": id, "amount": 5.000_001})).await
            .refuses_field(&["body", "amount"], "at most 5 credits");
        let rest = app.admin.post(&path, json!({"transaction_id": id})).await.data();
        assert_eq!(rest["amount"], 5);
        app.backend.post(&path, json!({"transaction_id": id})).await.refuses_field(&["body", "amount"], "at most 0 credits");
        assert_eq!(balance(&app.alice).await, 1000);
    }

    async fn only_the_users_own_spending_can_be_refunded(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let path = app.alice.own("/credits/refund");
        let charged = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 3})).await.data();
        app.backend.post(&path, json!({"transaction_id": charged["transaction_id"]})).await
            .refuses_field(&["body", "transaction_id"], "only consume and capture transactions can be refunded");
        let bobs = app.bob.post(&app.bob.own("/credits/consume"), json!({"amount": 3})).await.ok()["transaction_id"].clone();
        let message = format!("Transaction not found: {}", bobs.as_str().expect("an id"));
        app.backend.post(&path, json!({"transaction_id": bobs})).await.refuses(404, "NotFoundException", &message);
        app.backend.post(&path, json!({"transaction_id": "txn_999999_9"})).await
            .refuses(404, "NotFoundException", "Transaction not found: txn_999999_9");
        app.backend.post(&path, json!({"transaction_id": "pi_1"})).await
            .refuses_field(&["body", "transaction_id"], "must be a transaction id");
    }

    async fn concurrent_refunds_give_back_once(app: TestApp) {
        app.alice.ensure().await;
        let id = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 10})).await.ok()["transaction_id"].clone();
        let calls: Vec<_> = (0..20).map(|_| {
            let (backend, path, id) = (app.backend.clone(), app.alice.own("/credits/refund"), id.clone());
            tokio::spawn(async move { backend.post(&path, json!({"transaction_id": id, "amount": 4})).await.status })
        }).collect();
        let mut succeeded = 0;
        for call in calls {
            succeeded += i32::from(call.await.expect("an answer") == 200);
        }
        assert_eq!(succeeded, 2);
        assert_eq!(balance(&app.alice).await, 998);
    }

    async fn the_documented_balance(app: TestApp) {
        app.alice.ensure().await;
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 10.5})).await.ok();
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 1000})).await.ok();
        let answer = app.alice.get(&app.alice.own("/credits/balance")).await.ok();
        let mut wanted = envelope("Credit balance retrieved successfully", json!(1989.5));
        wanted["balance"] = json!({
            "available": 1989.5, "held": 0, "total": 1989.5, "credits_total": 2000, "credit_limit": 0, "owed": 0, "scoped": [],
            "expiring": [{"grant_id": "grt_<row>_1", "amount": 989.5, "expires_at": "2025-08-26T00:11:26.479685Z"}],
        });
        assert_eq!(masked(answer), wanted);
    }

    async fn transactions_are_listed_newest_first_and_filtered(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/transactions");
        app.advance(std::time::Duration::from_secs(60));
        let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
        app.advance(std::time::Duration::from_secs(60));
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 2})).await.ok();
        let _ = app.backend.post(&app.alice.own("/credits/refund"), json!({"transaction_id": spent["transaction_id"]})).await.ok();
        let all = app.alice.get(&path).await.ok();
        assert_eq!(all["message"], "Retrieved 4 transactions");
        assert_eq!(column(&all["data"], "transaction_type"), ["refund", "recharge", "consume", "grant"]);
        assert_eq!(all["data"][2], spent["data"]);
        assert_eq!(all["pagination"], json!({"limit": 50, "offset": 0, "returned": 4, "has_more": false, "next_cursor": null}));
        for (filter, kinds) in [
            ("transaction_type=consume", &["consume"][..]),
            ("transaction_type=grant", &["grant"]),
            ("transaction_type=expire", &[]),
            ("start_date=2025-07-27T00:12:26.479685Z", &["refund", "recharge", "consume"]),
            ("end_date=2025-07-27T00:12:26.479685Z", &["consume", "grant"]),
            ("start_date=2025-07-27T00:12:26.479686Z&end_date=2025-07-28", &["refund", "recharge"]),
            ("start_date=2025-07-28", &[]),
            ("transaction_type=refund&limit=1&end_date=2025-07-28", &["refund"]),
        ] {
            let rows = app.alice.get(&format!("{path}?{filter}")).await.data();
            assert_eq!(column(&rows, "transaction_type"), kinds, "{filter}");
        }
        app.alice.get(&format!("{path}?transaction_type=gift")).await.refuses_field(&["query", "transaction_type"], "unknown variant");
        app.alice.get(&format!("{path}?start_date=soon")).await.refuses_field(&["query", "start_date"], "must be a date");
    }

    async fn each_entry_begins_where_the_last_one_ended(app: TestApp) {
        app.alice.ensure().await;
        let calls: Vec<_> = (1..=60).map(|n| {
            let alice = app.alice.clone();
            tokio::spawn(async move { alice.post(&alice.own("/credits/consume"), json!({"amount": format!("0.{n:06}")})).await.status })
        }).collect();
        for call in calls {
            assert_eq!(call.await.expect("an answer"), 200);
        }
        let rows = app.alice.get(&app.alice.own("/credits/transactions?limit=1000")).await.data();
        let (before, after) = (column(&rows, "balance_before"), column(&rows, "balance_after"));
        assert_eq!(before[..60], after[1..]);
        assert_eq!(after[0], 999.998_17);
    }

    async fn the_body_must_name_the_user_of_the_path_or_nobody(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].clone();
        app.bob.ensure().await;
        for route in ["consume", "recharge", "grants"] {
            let path = app.alice.own(&format!("/credits/{route}"));
            app.backend.post(&path, json!({"amount": 1, "user_id": "auth0|bob"})).await
                .refuses_field(&["body", "user_id"], "must be the user of the path");
            let _ = app.backend.post(&path, json!({"amount": 1, "user_id": "auth0|alice"})).await.ok();
            let _ = app.backend.post(&path, json!({"amount": 1, "user_id": row})).await.ok();
        }
    }
}
