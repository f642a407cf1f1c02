//! Why a transaction is what it is, and proofs of the ledger while the service runs.

use crate::support::{NOW, masked, transactions};
use kernel::{Credits, TransactionId};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Actor, TestApp, both_engines};
use user_service::credits::LedgerCommand;
use user_service::credits::ledger::{Note, Reclaim};
use user_service::writer::{Command, Done};

async fn explain(actor: &Actor, id: &Value) -> Value {
    let id = id.as_str().expect("an id");
    actor.get(&actor.own(&format!("/credits/transactions/{id}/explain"))).await.data()
}

/// Waits until the verification that was begun has ended, and gives what it found.
pub async fn verified(app: &TestApp) -> Value {
    for _ in 0..2_000 {
        let view = app.admin.get("/api/v1/admin/ledger/verify").await.data();
        if view["running_since"].is_null() {
            return view["last"].clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the verification does not end");
}

both_engines! {
    async fn a_charge_says_everything_that_it_rests_on(app: TestApp) {
        app.alice.ensure().await;
        let _ = app.backend.post(&app.alice.own("/credits/grants"), json!({"amount": 10, "expires_at": "2025-08-01", "scope": {"models": ["gpt-4"]}})).await.ok();
        let path = app.alice.own("/charges");
        let body = json!({"event_type": "ai_chat", "model_name": "gpt-4-0613", "provider": "openai", "session_id": "s1", "tags": ["b", "a"], "feature": "chat",
            "prompt_tokens": 800, "completion_tokens": 450});
        let request = app.backend.request("POST".parse().expect("a method"), &path).header("idempotency-key", "k-1").header("x-request-id", "req-1");
        let charged = request.json(&body).send().await.data();
        let id = charged["transaction"]["transaction_id"].clone();
        let why = explain(&app.alice, &id).await;
        assert_eq!((&why["transaction"], &why["pricing"]), (&charged["transaction"], &charged["pricing"]));
        assert_eq!(why["pricing"]["price_version"], 1);
        assert_eq!(why["context"], json!({"model": "gpt-4", "feature": "chat", "session": "s1", "key": "bootstrap", "tags": ["a", "b"]}));
        assert_eq!(masked(why["funded_by"].clone()), json!([
            {"grant_id": "grt_<row>_2", "amount": 10, "source": "promo", "priority": 0, "expires_at": "2025-08-01T00:00:00.000000Z"},
            {"grant_id": "grt_<row>_1", "amount": 15.5, "source": "signup", "priority": 0, "expires_at": "2025-08-26T00:11:26.479685Z"},
        ]));
        assert_eq!(why["sentences"], json!([
            "25.5 credits were spent.", "(800 × 0.00003 + 450 × 0.00006) USD × 500 × 1 = 25.5 credits",
            format!("10 of grant {}.", why["funded_by"][0]["grant_id"].as_str().expect("an id")),
            format!("15.5 of grant {}.", why["funded_by"][1]["grant_id"].as_str().expect("an id")),
            "The balance went from 1010 to 984.5.",
        ]));
        assert_eq!((&why["request_id"], &why["idempotency_key"], &why["counter_account"]), (&json!("req-1"), &json!("k-1"), &json!("spent")));
        assert!(why["actor"].as_str().is_some_and(|actor| actor.starts_with("key:")), "{why}");
        // Its place in the chain.
        let grant = explain(&app.alice, &transactions(&app.alice).await[1]["transaction_id"]).await;
        assert_eq!(why["prev_hash"], grant["hash"]);
        assert_eq!((why["hash"].as_str().map(str::len), &grant["issued"]), (Some(64), &why["funded_by"][0]["grant_id"]));
    }

    async fn what_was_reclaimed_says_where_it_came_from_and_what_is_owed(app: TestApp) {
        app.alice.ensure().await;
        let bought = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 100})).await.ok();
        let bought: TransactionId = bought["data"]["transaction_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1070})).await.ok();
        let (amount, reference_id) = (Credits::whole(90), "re_1".to_owned());
        let reclaim = Reclaim { grant: bought.seq, amount, reference_id, note: Note::default() };
        let command = Command::Ledger(bought.user, LedgerCommand::Reclaim(reclaim));
        let done = app.inside().writer.execute(command).await.expect("reclaimed");
        let Done::Entry { entry, available } = done else { panic!("{done:?}") };
        assert_eq!((available, entry.balance_after), (Credits::ZERO, -Credits::whole(60)));
        let id = json!(entry.transaction_id().to_string());
        let why = explain(&app.alice, &id).await;
        assert_eq!(why["sentences"], json!([
            "90 credits that a grant gave were taken back.",
            format!("30 of grant grt_{}_2.", bought.user), "60 of what was spent before, and is owed now.",
            format!("It goes back to {bought}."), "The balance went from 30 to -60.",
        ]));
        assert_eq!((&why["funded_by"][1]["grant_id"], &why["funded_by"][1]["amount"]), (&Value::Null, &json!(60)));
        let now = app.alice.get(&app.alice.own("/credits/balance")).await.ok();
        let now = &now["balance"];
        assert_eq!([&now["available"], &now["total"], &now["owed"]], [&json!(0), &json!(-60), &json!(60)]);
        let refused = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await;
        refused.refuses(400, "InsufficientCreditsException", "Insufficient credits. Available: 0, Required: 1");
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 100})).await.ok();
        let now = app.alice.get(&app.alice.own("/credits/balance")).await.ok();
        assert_eq!([&now["data"], &now["balance"]["owed"]], [&json!(40), &json!(0)]);
    }

    async fn every_kind_of_transaction_is_explained(app: TestApp) {
        app.alice.ensure().await;
        let own = |rest: &str| app.alice.own(rest);
        let spent = app.alice.post(&own("/credits/consume"), json!({"amount": 10})).await.ok();
        let _ = app.backend.post(&own("/credits/recharge"), json!({"amount": 7})).await.ok();
        let _ = app.backend.post(&own("/credits/refund"), json!({"transaction_id": spent["transaction_id"], "amount": 4})).await.ok();
        let held = app.alice.post(&own("/credits/holds"), json!({"amount": 3, "expires_in": 1, "on_expiry": "capture_all"})).await.ok();
        app.advance(Duration::from_secs(1));
        let _ = app.backend.post(&own("/credits/adjust"), json!({"amount": -1.5})).await.ok();
        let given = app.backend.post(&own("/credits/grants"), json!({"amount": 9, "expires_at": "2025-07-28", "priority": 9, "rollover": {"max": 2, "days": 1}})).await.data();
        let taken = app.backend.post(&own("/credits/grants"), json!({"amount": 6, "priority": 9})).await.data();
        let grant = taken["transaction_id"].as_str().expect("an id").replace("txn", "grt");
        let _ = app.backend.post(&own(&format!("/credits/grants/{grant}/void")), json!({})).await.ok();
        app.advance(Duration::from_secs(86_400));
        let rows = transactions(&app.alice).await;
        let rows = rows.as_array().expect("rows");
        let mut told = Vec::new();
        for row in rows.iter().rev() {
            let why = explain(&app.alice, &row["transaction_id"]).await;
            assert_eq!(&why["transaction"], row);
            let sentences = why["sentences"].as_array().expect("sentences");
            told.push(format!("{}: {}", row["transaction_type"].as_str().expect("a word"), sentences[0].as_str().expect("a sentence")));
            let ends = format!("The balance went from {} to {}.", row["balance_before"], row["balance_after"]);
            assert_eq!(sentences.last(), Some(&json!(ends)));
        }
        assert_eq!(told, [
            "grant: 1000 credits were given.", "consume: 10 credits were spent.", "recharge: 7 credits were bought.", "refund: 4 spent credits came back.",
            "capture: 3 credits of a hold were charged.", "adjust: The balance was corrected by -1.5 credits.", "grant: 9 credits were given.", "grant: 6 credits were given.",
            "reversal: 6 credits that were left of a grant were taken back.", "expire: 7 credits ended with their grant.",
        ]);
        let refund = explain(&app.alice, &rows[6]["transaction_id"]).await;
        assert!(refund["sentences"].as_array().is_some_and(|all| all.contains(&json!(format!("It goes back to {}.", spent["transaction_id"].as_str().expect("an id"))))));
        let capture = explain(&app.alice, &rows[5]["transaction_id"]).await;
        assert_eq!((&capture["hold_id"], &capture["actor"]), (&held["hold_id"], &json!("system")));
        let expire = explain(&app.alice, &rows[0]["transaction_id"]).await;
        assert!(expire["sentences"].as_array().is_some_and(|all| all.contains(&json!("2 credits rolled over."))), "{expire}");
        assert_eq!(expire["funded_by"][0]["grant_id"], given["transaction_id"].as_str().expect("an id").replace("txn", "grt"));
        assert!(expire["issued"].is_string());
    }

    async fn many_grants_are_all_named_and_the_balance_is_still_said(app: TestApp) {
        app.alice.ensure().await;
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1000})).await.ok();
        for _ in 0..45 {
            let _ = app.backend.post(&app.alice.own("/credits/grants"), json!({"amount": 1})).await.ok();
        }
        let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 44.5})).await.ok();
        let why = explain(&app.alice, &spent["transaction_id"]).await;
        let parts = why["funded_by"].as_array().expect("parts");
        assert_eq!((parts.len(), parts.iter().all(|part| part["source"] == "promo")), (45, true));
        let sentences = why["sentences"].as_array().expect("sentences");
        assert_eq!((sentences.len(), &sentences[11], &sentences[12]), (13, &json!("And 35 more grants."), &json!("The balance went from 45 to 0.5.")));
    }

    async fn only_ones_own_transactions_are_explained(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].clone();
        let other = app.bob.ensure().await["user_id"].clone();
        for (id, wanted) in [
            (format!("txn_{other}_1"), 404), (format!("txn_{row}_2"), 404), (format!("txn_{row}_01"), 400), (format!("grt_{row}_1"), 400), ("1".to_owned(), 400),
            ("%FF".to_owned(), 400), ("txn_1_9223372036854775808".to_owned(), 400),
        ] {
            let answer = app.alice.get(&app.alice.own(&format!("/credits/transactions/{id}/explain"))).await;
            assert_eq!(answer.status, wanted, "{id}: {}", answer.text());
        }
        assert_eq!(app.alice.get(&app.bob.own(&format!("/credits/transactions/txn_{other}_1/explain"))).await.status, 403);
    }

    async fn an_admin_has_the_ledger_verified(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let _ = app.alice.post(&app.alice.own("/credits/holds"), json!({"amount": 3})).await.ok();
        let path = "/api/v1/admin/ledger/verify";
        let one = app.admin.post(path, json!({"user_id": "auth0|alice"})).await.ok();
        assert_eq!(one["message"], "The account is sound");
        let found = json!({"sound": true, "accounts": 1, "entries": 1, "balance": 1000, "resealed": 0, "first_bad": null, "started_at": NOW, "finished_at": NOW});
        assert_eq!(one["data"], json!({"running_since": null, "last": found}));
        assert_eq!(app.admin.post(path, json!({"user_id": "auth0|nobody"})).await.with(404)["error_code"], "UserNotFoundException");
        let begun = app.admin.request("POST".parse().expect("a method"), path).send().await.ok();
        assert_eq!(begun["message"], "Verification started");
        let all = verified(&app).await;
        assert_eq!((&all["sound"], &all["accounts"], &all["entries"], &all["balance"]), (&json!(true), &json!(2), &json!(2), &json!(2000)));
        // A row that nobody had any business in is named, by the answer and by the metric.
        let sound = |text: String| text.lines().any(|line| line.starts_with("ledger_sound") && line.ends_with(" 1"));
        assert!(sound(app.anon.get("/metrics").await.text()));
        for actor in [&app.alice, &app.backend, &app.anon] {
            let asked = [actor.get(path).await.status, actor.post(path, json!({})).await.status];
            assert!(asked == [403, 403] || asked == [401, 401], "{asked:?}");
        }
    }
}
