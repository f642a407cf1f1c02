//! `POST /charges/batch`: a result for each, or all or none.

use crate::support::{balance, column, transactions};
use serde_json::{Value, json};
use testkit::{Actor, TestApp, both_engines};

const PATH: &str = "/api/v1/charges/batch";

fn of(user: &str, credits: i64) -> Value {
    json!({"user_id": user, "event_type": "x", "credits": credits})
}

async fn usage(actor: &Actor) -> Value {
    actor.get(&actor.own("/usage")).await.data()
}

/// Alice and Bob, with a thousand credits each.
async fn two(app: &TestApp) {
    app.alice.ensure().await;
    app.bob.ensure().await;
}

both_engines! {
    async fn each_charge_has_a_result_of_its_own(app: TestApp) {
        two(&app).await;
        let row = app.bob.ensure().await["user_id"].clone();
        let charges = json!({"charges": [
            {"user_id": "auth0|alice", "event_type": "ai_chat", "model_name": "gpt-4", "prompt_tokens": 800, "completion_tokens": 450, "event_id": "a"},
            of("auth0|alice", 975),
            of("auth0|nobody", 1),
            {"user_id": row, "event_type": "x", "credits": 1, "event_id": "b"},
            {"user_id": "auth0|bob", "event_type": "x", "credits": -1},
            {"user_id": "auth0|bob", "event_type": "x", "credits": 5, "event_id": "b"},
            {"event_type": "x", "credits": 1},
            of("auth0|alice", 974),
            {"user_id": "auth0|alice", "event_type": "x", "credits": 9, "on_insufficient": "record"},
            5,
            {"user_id": "auth0|bob", "event_type": "x", "credits": 1, "tags": ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21"]},
        ]});
        let answer = app.backend.post(PATH, charges.clone()).await.ok();
        assert_eq!(answer["message"], "Charged 4 usage records");
        let data = &answer["data"];
        assert_eq!((&data["charged"], &data["duplicates"], &data["failed"]), (&json!(4), &json!(1), &json!(6)));
        let results = &data["results"];
        assert_eq!(column(results, "index"), (0..11).map(Value::from).collect::<Vec<_>>());
        let failed = "failed";
        assert_eq!(column(results, "status"), ["charged", failed, failed, "charged", failed, "duplicate", failed, "charged", "charged", failed, failed]);
        assert_eq!(column(results, "error_code"), [
            Value::Null, "InsufficientCreditsException".into(), "UserNotFoundException".into(), Value::Null, "ValidationException".into(), Value::Null,
            "ValidationException".into(), Value::Null, Value::Null, "ValidationException".into(), "ValidationException".into(),
        ]);
        assert_eq!(results[1]["message"], "Insufficient credits. Available: 974.5, Required: 975");
        assert_eq!(results[1]["error_details"], json!({"available": 974.5, "required": 975, "retryable": false, "top_up_url": null}));
        assert_eq!(results[2]["message"], "User not found: auth0|nobody");
        assert_eq!(results[6]["message"], "Invalid input: user_id: Field required in a batch");
        assert_eq!(results[5]["charge"]["usage"], results[3]["charge"]["usage"], "a duplicate within the batch is what came first");
        let statuses: Vec<&Value> = [0, 3, 5, 7, 8].iter().map(|at| &results[*at]["charge"]["status"]).collect();
        assert_eq!(statuses, ["charged", "charged", "charged", "charged", "unpaid"]);
        assert_eq!((balance(&app.alice).await, balance(&app.bob).await), (json!(0.5), json!(999)));
        // The whole of it again: what has an event is there already.
        let again = app.backend.post(PATH, charges).await.data();
        assert_eq!((&again["charged"], &again["duplicates"]), (&json!(1), &json!(3)));
        assert_eq!(balance(&app.bob).await, 999);
    }

    async fn an_atomic_batch_is_all_or_none_across_users(app: TestApp) {
        two(&app).await;
        let batch = |last: Value| json!({"atomic": true, "charges": [of("auth0|bob", 10), of("auth0|alice", 600), of("auth0|bob", 10), last]});
        let before = [transactions(&app.alice).await, transactions(&app.bob).await];
        let refused = app.backend.post_once("k", PATH, batch(of("auth0|alice", 401))).await.with(402);
        assert_eq!(refused["error_code"], "InsufficientCreditsException");
        assert_eq!(refused["message"], "charges.3: Insufficient credits. Available: 400, Required: 401");
        assert_eq!((&refused["error_details"]["index"], &refused["error_details"]["available"]), (&json!(3), &json!(400)));
        let refused = app.backend.post(PATH, batch(of("auth0|nobody", 1))).await.with(404);
        assert_eq!((&refused["error_details"]["index"], &refused["error_code"]), (&json!(3), &json!("UserNotFoundException")));
        app.backend.post(PATH, batch(json!({"user_id": "auth0|bob", "event_type": "x", "credits": "x"}))).await
            .refuses_field(&["body", "charges", "3", "credits"], "must be a number");
        app.backend.post(PATH, batch(json!({"user_id": "auth0|bob", "event_type": "x", "model_name": "nope", "prompt_tokens": 1}))).await
            .refuses_field(&["body", "charges", "3", "model_name"], "no price is known");
        assert_eq!([transactions(&app.alice).await, transactions(&app.bob).await], before);
        assert_eq!((usage(&app.alice).await, usage(&app.bob).await), (json!([]), json!([])));
        assert_eq!(app.alice.get(&app.alice.own("/usage/stats")).await.data()["total_records"], 0);
        // The key was not used up by the refusal.
        let done = app.backend.post_once("k", PATH, batch(of("auth0|alice", 401))).await;
        assert_eq!(done.status, 402);
        let done = app.backend.post(PATH, batch(of("auth0|alice", 400))).await.data();
        assert_eq!((&done["charged"], &done["failed"]), (&json!(4), &json!(0)));
        assert_eq!((balance(&app.alice).await, balance(&app.bob).await), (json!(0), json!(980)));
        // One that may be recorded is no refusal.
        let mut record = of("auth0|alice", 1);
        record["on_insufficient"] = "record".into();
        let done = app.backend.post(PATH, batch(record)).await;
        assert_eq!(done.with(402)["error_details"]["index"], 1);
    }

    async fn batches_at_once_never_overdraw(app: TestApp) {
        two(&app).await;
        let calls: Vec<_> = (0..20).map(|n| {
            let backend = app.backend.clone();
            let charges: Vec<Value> = (0..10).map(|_| of("auth0|alice", 10)).collect();
            let batch = json!({"charges": charges, "atomic": n % 2 == 0});
            tokio::spawn(async move { backend.post(PATH, batch).await })
        }).collect();
        let mut charged = 0;
        for call in calls {
            let answer = call.await.expect("an answer");
            charged += if answer.status == 200 { answer.data()["charged"].as_i64().expect("a count") } else { 0 };
        }
        assert_eq!(charged, 100);
        assert_eq!(balance(&app.alice).await, 0);
        assert_eq!(app.alice.get(&app.alice.own("/usage/stats")).await.data()["total_records"], 100);
    }

    async fn a_batch_with_a_key_is_replayed_byte_for_byte(app: TestApp) {
        two(&app).await;
        let batch = json!({"charges": [of("auth0|alice", 1), of("auth0|alice", 5000), of("auth0|bob", 2)]});
        let first = app.backend.post_once("k", PATH, batch.clone()).await;
        let again = app.backend.post_once("k", PATH, batch).await;
        assert_eq!((first.status, again.header("idempotent-replayed")), (200, Some("true")));
        assert_eq!(first.body, again.body);
        assert_eq!((balance(&app.alice).await, balance(&app.bob).await), (json!(999), json!(998)));
    }

    async fn a_plain_user_charges_itself_only(app: TestApp) {
        two(&app).await;
        let own = app.alice.post(PATH, json!({"charges": [of("auth0|alice", 1), {"event_type": "x", "credits": 1}]})).await.data();
        assert_eq!(own["charged"], 2);
        for atomic in [true, false] {
            let foreign = json!({"atomic": atomic, "charges": [of("auth0|alice", 1), of("auth0|bob", 1)]});
            assert_eq!(app.alice.post(PATH, foreign).await.with(403)["error_code"], "AuthorizationException");
        }
        assert_eq!((balance(&app.alice).await, balance(&app.bob).await), (json!(998), json!(1000)));
        // An admin is a user that reaches everybody.
        assert_eq!(app.admin.post(PATH, json!({"charges": [of("auth0|bob", 1)]})).await.data()["charged"], 1);
    }

    async fn a_batch_has_1_to_1000_charges(app: TestApp) {
        two(&app).await;
        let many = |n: usize| json!({"charges": vec![of("auth0|alice", 0); n]});
        for n in [0, 1001, 50_000] {
            app.backend.post(PATH, many(n)).await.refuses_field(&["body", "charges"], &format!("must have 1 to 1000 charges, has {n}"));
        }
        let done = app.backend.post(PATH, many(1000)).await.data();
        assert_eq!((&done["charged"], done["results"].as_array().map(Vec::len)), (&json!(1000), Some(1000)));
        for (body, field) in [("{}", "charges"), ("{\"charges\":{}}", "charges"), ("{\"charges\":[{}],\"atomic\":1}", "atomic")] {
            let refused = app.backend.post_text(PATH, body).await.with(400);
            assert_eq!(refused["detail"][0]["loc"], json!(["body", field]), "{body}");
        }
        // Very many tiny elements are counted, not kept.
        let tiny = format!("{{\"charges\":[{}1]}}", "1,".repeat(4_000_000));
        app.backend.post_text(PATH, tiny).await.refuses_field(&["body", "charges"], "has 4000001");
    }

    async fn a_deleted_user_is_charged_nothing(app: TestApp) {
        two(&app).await;
        let _ = app.bob.delete(&app.bob.own("")).await.ok();
        let done = app.backend.post(PATH, json!({"charges": [of("auth0|alice", 1), of("auth0|bob", 1)]})).await.data();
        assert_eq!(done["results"][1]["error_code"], "UserNotFoundException");
        let alone = app.backend.post("/api/v1/users/auth0%7Cbob/charges", of("auth0|bob", 1)).await;
        assert_eq!(alone.with(404)["error_code"], "UserNotFoundException");
    }
}
