//! §5: many records in one request.

use crate::support::{column, envelope, masked};
use serde_json::{Value, json};
use testkit::both_engines;

const BATCH: &str = "/api/v1/usage/batch";

async fn total(actor: &testkit::Actor) -> Value {
    actor.get(&actor.own("/usage/stats")).await.data()["total_records"].clone()
}

both_engines! {
    async fn each_record_has_a_result_of_its_own(app: TestApp) {
        app.alice.ensure().await;
        let bob = app.bob.ensure().await["user_id"].clone();
        let records = json!({"records": [
            {"user_id": "auth0|alice", "event_type": "api_call", "credits_charged": 1.0, "event_id": "e1"},
            {"user_id": "auth0|nobody", "event_type": "api_call"},
            {"user_id": bob, "event_type": "api_call", "credits_charged": "2.5"},
            {"user_id": "auth0|alice"},
            {"event_type": "api_call"},
            {"user_id": "auth0|alice", "event_type": "api_call", "tokens_used": -1},
            {"user_id": "auth0|alice", "event_type": "api_call", "event_id": "e1"},
            {"user_id": "auth0|alice", "event_type": "api_call", "created_at": "2099-01-01"},
            7,
        ]});
        let answer = app.backend.post(BATCH, records.clone()).await.ok();
        let failed = |index: u32, code: &str, message: &str| json!({"index": index, "status": "failed", "error_code": code, "message": message});
        let last = answer["data"]["results"][8]["message"].as_str().expect("a message").to_owned();
        assert_eq!(masked(answer), envelope("Recorded 2 usage records", json!({
            "recorded": 2, "duplicates": 1, "failed": 6, "results": [
                {"index": 0, "status": "recorded", "id": "<id>"},
                failed(1, "UserNotFoundException", "User not found: auth0|nobody"),
                {"index": 2, "status": "recorded", "id": "<id>"},
                failed(3, "ValidationException", "Invalid input: event_type: Field required"),
                failed(4, "ValidationException", "Invalid input: user_id: Field required in a batch"),
                failed(5, "ValidationException", "Invalid input: tokens_used: must be at least 0"),
                {"index": 6, "status": "duplicate", "id": "<id>"},
                failed(7, "ValidationException", "Invalid input: created_at: must be at most 5 minutes in the future"),
                failed(8, "ValidationException", &last),
            ],
        })));
        assert_eq!((total(&app.alice).await, total(&app.bob).await), (json!(1), json!(1)));
        // The whole batch again: what has an event is not counted twice.
        let again = app.backend.post(BATCH, records).await.data();
        assert_eq!((&again["recorded"], &again["duplicates"]), (&json!(1), &json!(2)));
    }

    async fn an_atomic_batch_is_all_or_nothing(app: TestApp) {
        app.alice.ensure().await;
        let good = json!({"user_id": "auth0|alice", "event_type": "api_call"});
        let refused = app.backend.post(BATCH, json!({"atomic": true, "records": [good, {"user_id": "auth0|alice"}, good, {"event_type": "x"}]})).await.with(400);
        assert_eq!(column(&refused["detail"], "loc"), [json!(["body", "records", "1", "event_type"]), json!(["body", "records", "3", "user_id"])]);
        let _ = app.backend.post(BATCH, json!({"atomic": true, "records": [good, {"user_id": "auth0|nobody", "event_type": "x"}]})).await.with(400);
        assert_eq!(total(&app.alice).await, 0);
        let whole = app.backend.post(BATCH, json!({"atomic": true, "records": [good, good]})).await.data();
        assert_eq!((&whole["recorded"], &whole["failed"]), (&json!(2), &json!(0)));
        assert_eq!(total(&app.alice).await, 2);
    }

    async fn a_batch_has_1_to_10000_records(app: TestApp) {
        app.alice.ensure().await;
        let of = |count: usize| {
            let records: Vec<Value> = (0..count).map(|n| json!({"user_id": "auth0|alice", "event_type": "bulk", "tokens_used": 1, "event_id": n.to_string()})).collect();
            json!({"records": records})
        };
        app.backend.post(BATCH, of(0)).await.refuses_field(&["body", "records"], "must have 1 to 10000 records");
        app.backend.post(BATCH, of(10_001)).await.refuses_field(&["body", "records"], "must have 1 to 10000 records");
        app.backend.post(BATCH, json!({})).await.refuses_field(&["body", "records"], "Field required");
        app.backend.post(BATCH, json!({"records": {}})).await.refuses_field(&["body", "records"], "");
        let full = app.backend.post(BATCH, of(10_000)).await.data();
        assert_eq!((&full["recorded"], full["results"].as_array().map(Vec::len)), (&json!(10_000), Some(10_000)));
        let again = app.backend.post(BATCH, of(10_000)).await.data();
        assert_eq!((&again["recorded"], &again["duplicates"]), (&json!(0), &json!(10_000)));
        let stats = app.alice.get(&app.alice.own("/usage/stats")).await.data();
        assert_eq!((&stats["total_records"], &stats["total_tokens_used"]), (&json!(10_000), &json!(10_000)));
    }

    async fn a_plain_user_records_its_own_usage_only(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].clone();
        app.bob.ensure().await;
        let own = app.alice.post(BATCH, json!({"records": [
            {"event_type": "a"}, {"user_id": "auth0|alice", "event_type": "b"}, {"user_id": row, "event_type": "c"},
        ]})).await.data();
        assert_eq!(own["recorded"], 3);
        app.alice.post(BATCH, json!({"records": [{"event_type": "a"}, {"user_id": "auth0|bob", "event_type": "a"}]})).await
            .refuses(403, "AuthorizationException", "A user can record its own usage only");
        assert_eq!((total(&app.alice).await, total(&app.bob).await), (json!(3), json!(0)));
        let _ = app.admin.post(BATCH, json!({"records": [{"user_id": "auth0|bob", "event_type": "a"}]})).await.ok();
        assert_eq!(total(&app.bob).await, 1);
        app.anon.post(BATCH, json!({"records": []})).await.refuses(401, "AuthenticationException", "Could not validate credentials");
    }

    async fn a_batch_with_a_key_is_replayed_byte_for_byte(app: TestApp) {
        app.alice.ensure().await;
        let records: Vec<Value> = (0..2_500).map(|_| json!({"user_id": "auth0|alice", "event_type": "bulk"})).collect();
        let body = json!({"records": records});
        let first = app.backend.post_once("batch-1", BATCH, body.clone()).await;
        let again = app.backend.post_once("batch-1", BATCH, body).await;
        assert_eq!((first.status, again.status), (200, 200));
        assert_eq!(first.body, again.body);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(total(&app.alice).await, 2_500);
    }
}
