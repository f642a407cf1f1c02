//! The log of deliveries, tests of endpoints, and what is sent again.

use super::{hold, numbers, place_all, register, run};
use crate::support::{NOW, column, envelope};
use serde_json::{Value, json};
use testkit::{TestApp, both_engines};

/// Three events of alice and one of bob, with a delivery of each status; the last has none. The endpoint is disabled, so that nothing is sent.
async fn with_deliveries(app: &TestApp) -> (String, Vec<i64>) {
    let path = register(app, json!({"enabled": false, "event_types": ["credit.consumed"]})).await;
    for user in [&app.alice, &app.bob] {
        user.ensure().await;
    }
    for user in [&app.alice, &app.alice, &app.bob, &app.alice] {
        let _ = user.post(&user.own("/credits/consume"), json!({"amount": 1})).await.ok();
    }
    place_all(app).await;
    let events = numbers(app, "SELECT id FROM webhook_events ORDER BY id").await;
    run(
        app,
        "INSERT INTO webhook_deliveries (endpoint, event_id, user_id, status, attempts, next_attempt_at, log, updated_at) \
         SELECT w.id, e.id, e.user_id, CASE (SELECT COUNT(*) FROM webhook_events o WHERE o.id < e.id) WHEN 0 THEN 'delivered' \
         WHEN 1 THEN 'failed' ELSE 'pending' END, 1, NULL, \
         '[{\"at\":\"2025-07-27T00:11:26.479685Z\",\"status_code\":503,\"duration_ms\":12,\"error\":\"answered 503\",\"excerpt\":\"busy\"}]', e.created_at \
         FROM webhook_events e JOIN webhook_endpoints w ON 1 = 1 WHERE e.id < (SELECT MAX(o.id) FROM webhook_events o)",
    )
    .await;
    // The sender has come to all of them.
    run(app, "UPDATE webhook_endpoints SET position = 1000000").await;
    (path, events)
}

async fn statuses(app: &TestApp, path: &str) -> Vec<Value> {
    column(&app.backend.get(&format!("{path}/deliveries")).await.data(), "status")
}

both_engines! {
    async fn the_log_says_what_became_of_each_event(app: TestApp) {
        let (path, events) = with_deliveries(&app).await;
        let all = app.backend.get(&format!("{path}/deliveries")).await.ok();
        let id = |n: usize| format!("evt_{}", events[n]);
        let attempt = json!({"at": NOW, "status_code": 503, "duration_ms": 12, "error": "answered 503", "excerpt": "busy"});
        let first = json!({"event_id": id(0), "event_type": "credit.consumed", "user_id": "auth0|alice", "created_at": NOW, "status": "delivered",
            "next_attempt_at": null, "attempts": [attempt], "updated_at": NOW});
        assert_eq!((&all["message"], &all["data"][2]), (&json!("Retrieved 3 deliveries"), &first));
        assert_eq!(column(&all["data"], "event_id"), [id(2), id(1), id(0)]);
        assert_eq!(column(&all["data"], "status"), ["pending", "failed", "delivered"]);
        for (query, wanted) in [
            ("status=failed", vec![id(1)]), ("user_id=auth0%7Cbob", vec![id(2)]), ("event_type=credit.consumed&limit=1", vec![id(2)]),
            ("event_type=credit.granted", vec![]), ("since=2025-07-28", vec![]), ("until=2025-07-26", vec![]), ("since=2025-07-27&until=2025-07-28&offset=2", vec![id(0)]),
        ] {
            assert_eq!(column(&app.backend.get(&format!("{path}/deliveries?{query}")).await.data(), "event_id"), wanted, "{query}");
        }
        let page = app.backend.get(&format!("{path}/deliveries?limit=2")).await.ok();
        let next = page["pagination"]["next_cursor"].as_str().expect("a cursor");
        assert_eq!(column(&app.backend.get(&format!("{path}/deliveries?cursor={next}")).await.data(), "event_id"), [id(0)]);
        app.backend.get(&format!("{path}/deliveries?status=lost")).await.refuses_field(&["query", "status"], "pending");
        app.backend.get(&format!("{path}/deliveries?event_type=credit.*")).await.refuses_field(&["query", "event_type"], "must be an event type");

        let one = app.backend.get(&format!("{path}/deliveries/{}", id(0))).await.ok();
        let payload = &one["data"]["payload"];
        assert_eq!([&payload["id"], &payload["type"], &payload["event_type"], &payload["user_id"], &payload["timestamp"], &payload["amount"]],
            [&json!(id(0)), &json!("credit.consumed"), &json!("credit_consumed"), &json!("auth0|alice"), &json!(NOW), &json!(1)]);
        assert!(payload["sequence"].is_i64() && payload["data"].is_object(), "{payload}");
        for unknown in [id(3), "evt_0".to_owned(), "12".to_owned(), "evt_99999999".to_owned()] {
            app.backend.get(&format!("{path}/deliveries/{unknown}")).await.refuses(404, "NotFoundException", &format!("Delivery not found: {unknown}"));
        }
    }

    async fn a_narrowed_list_looks_at_so_many_and_says_where_to_go_on(app: TestApp) {
        let path = register(&app, json!({"event_types": ["credit.consumed"], "enabled": false})).await;
        let sql = if app.inside().db.engine() == "postgres" {
            "INSERT INTO webhook_events (event_type, body, created_at) SELECT 'credit.consumed', '{}', \
             CASE WHEN i = 1 THEN 1740000000000000 ELSE 1750000000000000 + i END FROM generate_series(1, 10003) AS i"
        } else {
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10003) INSERT INTO webhook_events \
             (event_type, body, created_at) SELECT 'credit.consumed', '{}', CASE WHEN i = 1 THEN 1740000000000000 ELSE 1750000000000000 + i END FROM n"
        };
        run(&app, sql).await;
        run(&app, "INSERT INTO webhook_deliveries (endpoint, event_id, status, attempts, log, updated_at) SELECT w.id, e.id, \
            CASE WHEN e.created_at < 1750000000000000 THEN 'failed' ELSE 'delivered' END, 1, '[]', 1 \
            FROM webhook_events e JOIN webhook_endpoints w ON 1 = 1").await;
        let list = async |query: &str| app.backend.get(&format!("{path}/deliveries?{query}")).await.ok();
        let first = list("status=failed").await;
        assert_eq!((&first["data"], &first["pagination"]["has_more"]), (&json!([]), &json!(true)));
        let rest = list(&format!("status=failed&cursor={}", first["pagination"]["next_cursor"].as_str().expect("a cursor"))).await;
        assert_eq!((column(&rest["data"], "status"), &rest["pagination"]["has_more"]), (vec![json!("failed")], &json!(false)));
        // A time is found, however much happened before or after it.
        for query in ["status=failed&until=2025-02-20", "until=2025-02-20", "since=2025-02-19&until=2025-02-20"] {
            let found = list(query).await;
            assert_eq!((column(&found["data"], "status"), &found["pagination"]["has_more"]), (vec![json!("failed")], &json!(false)), "{query}");
        }
        let none = list("status=failed&since=2025-07-01").await;
        assert_eq!((&none["data"], &none["pagination"]["has_more"]), (&json!([]), &json!(false)));
        let delivered = list("status=delivered&limit=2").await;
        assert_eq!((column(&delivered["data"], "status").len(), &delivered["pagination"]["has_more"]), (2, &json!(true)));
    }

    async fn what_is_disabled_is_sent_nothing(app: TestApp) {
        let (path, events) = with_deliveries(&app).await;
        for (rest, body) in [("/test".to_owned(), json!({})), (format!("/deliveries/evt_{}/resend", events[1]), json!({})),
            ("/recover".to_owned(), json!({"since": "2025-07-27"})), ("/recover".to_owned(), json!({"since": "2025-07-27", "until": "2025-07-27"}))] {
            app.backend.post(&format!("{path}{rest}"), body).await
                .refuses(409, "ConflictException", "The webhook endpoint is disabled; enable it first");
        }
        assert_eq!(statuses(&app, &path).await, ["pending", "failed", "delivered"]);
    }

    async fn an_event_is_sent_again_once_for_each_key(app: TestApp) {
        let (path, events) = with_deliveries(&app).await;
        hold(&app).await;
        let place = format!("{path}/deliveries/evt_{}/resend", events[0]);
        let again = app.backend.post_once("k", &place, json!({})).await;
        assert_eq!((&again.data()["status"], &again.ok()["message"]), (&json!("pending"), &json!("The event is sent again")));
        let _ = app.backend.post(&format!("{path}/disable"), json!({})).await.ok();
        let repeated = app.backend.post_once("k", &place, json!({})).await;
        assert_eq!((repeated.text(), repeated.header("idempotent-replayed")), (again.text(), Some("true")));
        app.backend.post(&format!("{path}/deliveries/evt_{}/resend", events[3]), json!({})).await
            .refuses(404, "NotFoundException", &format!("Delivery not found: evt_{}", events[3]));
        let log = app.admin.get("/api/v1/admin/audit?action=resend_webhook_delivery").await.data();
        assert_eq!(log.as_array().map(Vec::len), Some(1));
        assert_eq!(log[0]["target"], path.replace("/api/v1/webhooks/endpoints/", "endpoint:"));
    }

    async fn a_test_goes_to_its_endpoint_alone(app: TestApp) {
        let path = register(&app, json!({"event_types": ["credit.granted"], "enabled": false})).await;
        hold(&app).await;
        let other = register(&app, json!({"event_types": ["*"], "enabled": false})).await;
        let sent = app.backend.post(&format!("{path}/test"), json!({"event_type": "credit.consumed"})).await.ok();
        let id = sent["data"]["event_id"].as_str().expect("an id");
        assert_eq!(sent, envelope("The test event is sent", json!({"event_id": id, "event_type": "credit.consumed"})));
        let delivery = app.backend.get(&format!("{path}/deliveries/{id}")).await.data();
        assert_eq!((&delivery["status"], &delivery["user_id"], &delivery["payload"]["type"], &delivery["payload"]["data"]["test"]),
            (&json!("pending"), &Value::Null, &json!("credit.consumed"), &json!(true)));
        assert!(delivery["payload"]["amount"].is_number(), "{delivery}");
        assert_eq!(app.backend.get(&format!("{other}/deliveries")).await.data(), json!([]));
        assert_eq!(numbers(&app, "SELECT COUNT(*) FROM webhook_events WHERE endpoint IS NULL").await, [0]);
        // Each is another event; the same key is the same.
        let next = app.backend.post_once("t", &format!("{path}/test"), json!({})).await;
        assert!(next.data()["event_id"] != id && next.data()["event_type"] == "credit.consumed", "{}", next.text());
        assert_eq!(app.backend.post_once("t", &format!("{path}/test"), json!({})).await.text(), next.text());
        assert_eq!(statuses(&app, &path).await, ["pending", "pending"]);
        for bad in ["credit.*", "nothing", "*"] {
            app.backend.post(&format!("{path}/test"), json!({"event_type": bad})).await.refuses_field(&["body", "event_type"], "must be an event type");
        }
    }

    async fn what_was_missed_is_recovered(app: TestApp) {
        let (path, events) = with_deliveries(&app).await;
        hold(&app).await;
        run(&app, "UPDATE webhook_endpoints SET position = 1000000, user_ids = '[\"auth0|bob\",\"auth0|alice\"]'").await;
        let recover = async |body: Value| app.backend.post(&format!("{path}/recover"), body).await;
        // Nothing of another time.
        let none = recover(json!({"since": "2025-07-26", "until": "2025-07-27"})).await.ok();
        assert_eq!(none["data"], json!({"recovered": 0, "has_more": false, "next_since": null}));
        let failed = recover(json!({"since": NOW, "until": NOW, "only": "failed"})).await.ok();
        assert_eq!((&failed["message"], &failed["data"]), (&json!("1 events are sent again"), &json!({"recovered": 1, "has_more": false, "next_since": null})));
        let missed = recover(json!({"since": "2025-07-27"})).await.data();
        assert_eq!(missed["recovered"], 1, "the one that has no row");
        // What waits, and what was delivered, is left as it is.
        assert_eq!(recover(json!({"since": "2025-07-27"})).await.data()["recovered"], 0);
        assert_eq!(statuses(&app, &path).await, ["pending", "pending", "pending", "delivered"]);
        // Of what it does not ask for, nothing is missed, nor of what the sender has yet to come to.
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
        place_all(&app).await;
        let undelivered = "DELETE FROM webhook_deliveries WHERE event_id >= (SELECT MIN(id) FROM webhook_events)";
        for (settings, wanted) in [
            ("UPDATE webhook_endpoints SET position = 0", 0),
            ("UPDATE webhook_endpoints SET position = 1000000, user_ids = '[\"auth0|bob\"]'", 1),
            ("UPDATE webhook_endpoints SET user_ids = '[\"auth0|bo\",\"xauth0|bob\"]'", 0),
            ("UPDATE webhook_endpoints SET user_ids = '[]'", 5),
        ] {
            run(&app, settings).await;
            run(&app, undelivered).await;
            assert_eq!(recover(json!({"since": "2025-07-27"})).await.data()["recovered"], wanted, "{settings}");
        }
        let _ = app.backend.patch(&path, json!({"event_types": ["credit.granted"]})).await.ok();
        run(&app, undelivered).await;
        assert_eq!(recover(json!({"since": "2025-07-27"})).await.data()["recovered"], 0);
        recover(json!({"since": "2025-07-28", "until": "2025-07-27"})).await.refuses_field(&["body", "since"], "must not be after until");
        recover(json!({})).await.refuses_field(&["body", "since"], "Field required");
        recover(json!({"since": NOW, "only": "all"})).await.refuses_field(&["body", "only"], "failed");
        assert_eq!(events.len(), 4);
    }

    async fn only_so_much_is_recovered_at_once(app: TestApp) {
        let path = register(&app, json!({"event_types": ["credit.consumed"], "enabled": false})).await;
        let sql = if app.inside().db.engine() == "postgres" {
            "INSERT INTO webhook_events (event_type, body, created_at) SELECT 'credit.consumed', '{}', 1750000000000000 + i \
             FROM generate_series(1, 10003) AS i"
        } else {
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10003) INSERT INTO webhook_events \
             (event_type, body, created_at) SELECT 'credit.consumed', '{}', 1750000000000000 + i FROM n"
        };
        run(&app, sql).await;
        place_all(&app).await;
        run(&app, "UPDATE webhook_endpoints SET position = 1000000").await;
        hold(&app).await;
        let recover = async |since: &str| app.backend.post(&format!("{path}/recover"), json!({"since": since})).await.data();
        let first = recover("2025-06-01").await;
        assert_eq!((&first["recovered"], &first["has_more"]), (&json!(10_000), &json!(true)));
        let rest = recover(first["next_since"].as_str().expect("an instant")).await;
        assert_eq!(rest, json!({"recovered": 3, "has_more": false, "next_since": null}));
    }
}
