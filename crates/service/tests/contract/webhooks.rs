//! Endpoints of webhooks: registered by programs and admins, checked at the door, and shown without their secrets.

mod asked;
mod log;

use crate::keys::make;
use crate::support::{NOW, column, envelope, with, with_settings};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Engine, TestApp, both_engines};
use user_service::webhooks::EventType;
use user_service::writer::{Command, Edit, Statement};

const ENDPOINTS: &str = "/api/v1/webhooks/endpoints";
const URL: &str = "https://hooks.example.com/user-service";

/// Registers an endpoint with these settings beside an address and `credit.*`, and gives its path.
async fn register(app: &TestApp, more: Value) -> String {
    let asked = with(json!({"url": URL, "event_types": ["credit.*"]}), more);
    let made = app.backend.post(ENDPOINTS, asked).await.data();
    format!("{ENDPOINTS}/{}", made["id"].as_str().expect("an id"))
}

/// Runs one statement as it is.
async fn run(app: &TestApp, sql: &'static str) {
    let edit = Edit::new(kernel::UserRowId(0), vec![Statement::any(sql, Vec::new())]);
    app.inside().writer.execute(Command::Edit(edit)).await.expect(sql);
}

/// The numbers that a query gives.
async fn numbers(app: &TestApp, sql: &'static str) -> Vec<i64> {
    app.inside().db.query::<i64>(sql, vec![]).await.expect(sql)
}

/// What there is of endpoints, their secrets and subscriptions, in rows.
async fn rows(app: &TestApp) -> [Vec<i64>; 3] {
    [
        numbers(app, "SELECT COUNT(*) FROM webhook_endpoints").await,
        numbers(app, "SELECT COUNT(*) FROM webhook_secrets").await,
        numbers(app, "SELECT COUNT(*) FROM webhook_subscriptions").await,
    ]
}

both_engines! {
    async fn an_endpoint_is_registered_shown_changed_and_deleted(app: TestApp) {
        let asked = json!({"url": URL, "event_types": ["credit.consumed", "alert.*"], "user_ids": ["auth0|alice"], "description": "billing",
            "headers": {"Authorization": "Bearer canary-of-theirs", "X-Tenant": "a"}});
        let made = app.backend.post(ENDPOINTS, asked).await.ok();
        let (id, secret) = (made["data"]["id"].as_str().expect("an id"), made["data"]["secret"].as_str().expect("a secret"));
        assert!(id.starts_with("ep_") && id.len() == 23, "{id}");
        assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
        let shown = json!({
            "id": id, "url": URL, "description": "billing", "event_types": ["credit.consumed", "alert.*"], "user_ids": ["auth0|alice"],
            "headers": {"authorization": "***", "x-tenant": "***"}, "signature": "v1", "public_key": null, "status": "enabled",
            "disabled_reason": null, "disabled_at": null, "failing_since": null, "overlap_ends_at": null, "created_at": NOW,
            "created_by": made["data"]["created_by"], "updated_at": NOW,
        });
        assert!(made["data"]["created_by"].as_str().is_some_and(|by| by.starts_with("key:")), "{made}");
        assert_eq!(made, envelope("Webhook endpoint created; its secret is shown only now", with(json!({"secret": secret}), shown.clone())));
        let path = format!("{ENDPOINTS}/{id}");
        assert_eq!(app.backend.get(&path).await.ok(), envelope("Webhook endpoint retrieved successfully", shown.clone()));
        assert_eq!(app.admin.get(ENDPOINTS).await.data(), json!([shown]));

        app.advance(Duration::from_secs(60));
        let changes = json!({"url": "https://other.example.com/", "event_types": ["*"], "user_ids": [], "headers": {}, "description": ""});
        let changed = app.backend.patch(&path, changes).await.data();
        assert_eq!(changed, with(shown, json!({"url": "https://other.example.com/", "event_types": ["*"], "user_ids": [], "headers": {},
            "description": null, "updated_at": "2025-07-27T00:12:26.479685Z"})));
        let kinds = i64::try_from(EventType::ALL.len()).expect("a number");
        assert_eq!(rows(&app).await, [vec![1], vec![1], vec![kinds]]);
        assert_eq!(app.backend.patch(&path, json!({})).await.data(), changed);

        let gone = app.backend.delete(&path).await.ok();
        assert_eq!((&gone["data"], &gone["message"]), (&changed, &json!("Webhook endpoint deleted successfully")));
        assert_eq!(rows(&app).await, [vec![0], vec![0], vec![0]]);
        for (method, rest) in [(Method::GET, ""), (Method::PATCH, ""), (Method::DELETE, ""), (Method::POST, "/rotate-secret"), (Method::POST, "/enable"),
            (Method::POST, "/disable"), (Method::POST, "/test"), (Method::GET, "/deliveries"), (Method::POST, "/recover")] {
            let answer = app.backend.request(method, &format!("{path}{rest}")).json(&json!({"since": NOW})).send().await;
            answer.refuses(404, "NotFoundException", &format!("Webhook endpoint not found: {id}"));
        }

        // What was done is in the audit log, and nothing that is a secret.
        let log = app.admin.get("/api/v1/admin/audit").await;
        assert_eq!(column(&log.data(), "action")[..3], ["delete_webhook_endpoint", "update_webhook_endpoint", "update_webhook_endpoint"]);
        let first = &app.admin.get("/api/v1/admin/audit?action=create_webhook_endpoint").await.data()[0];
        assert_eq!((&first["target"], &first["details"]), (&json!(format!("endpoint:{id}")),
            &json!({"host": "hooks.example.com", "event_types": ["credit.consumed", "alert.*"], "users": 1, "headers": true})));
        let text = log.text();
        assert!(![secret, "canary-of-theirs", "auth0|alice"].iter().any(|word| text.contains(word)), "{text}");
    }

    async fn lists_are_paged_and_the_newest_is_first(app: TestApp) {
        for n in 0..3 {
            let _ = register(&app, json!({"description": format!("n{n}")})).await;
        }
        let page = app.backend.get(&format!("{ENDPOINTS}?limit=2")).await.ok();
        assert_eq!(column(&page["data"], "description"), ["n2", "n1"]);
        let next = page["pagination"]["next_cursor"].as_str().expect("a cursor");
        let rest = app.backend.get(&format!("{ENDPOINTS}?limit=2&cursor={next}")).await.ok();
        assert_eq!((column(&rest["data"], "description"), &rest["pagination"]["has_more"]), (vec![json!("n0")], &json!(false)));
    }

    async fn an_answer_with_a_secret_is_kept_under_no_key(app: TestApp) {
        let asked = json!({"url": URL, "event_types": ["*"]});
        let one = app.backend.post_once("k", ENDPOINTS, asked.clone()).await.data();
        let two = app.backend.post_once("k", ENDPOINTS, asked).await.data();
        assert!(one["id"] != two["id"] && one["secret"] != two["secret"]);
        let path = format!("{ENDPOINTS}/{}/rotate-secret", one["id"].as_str().expect("an id"));
        let (first, second) = (app.backend.post_once("r", &path, json!({})).await.data(), app.backend.post_once("r", &path, json!({})).await.data());
        assert_ne!(first["secret"], second["secret"]);
        assert_eq!(numbers(&app, "SELECT COUNT(*) FROM idempotency_keys").await, [0]);
    }

    async fn secrets_are_rotated_with_an_overlap_and_five_sign_at_most(app: TestApp) {
        let path = register(&app, json!({})).await;
        let live = async || numbers(&app, "SELECT COUNT(*) FROM webhook_secrets").await[0];
        let rotated = app.backend.post(&format!("{path}/rotate-secret"), json!({"overlap_seconds": 60})).await.ok();
        assert_eq!((&rotated["message"], &rotated["data"]["overlap_ends_at"]),
            (&json!("Secret rotated; the new one is shown only now"), &json!("2025-07-27T00:12:26.479685Z")));
        assert_eq!(live().await, 2);
        app.advance(Duration::from_secs(60));
        assert_eq!(app.backend.get(&path).await.data()["overlap_ends_at"], Value::Null);
        // A day is the overlap when nobody says; what is over is forgotten.
        let rotated = app.backend.post(&format!("{path}/rotate-secret"), json!({})).await.data();
        assert_eq!((rotated["overlap_ends_at"].as_str(), live().await), (Some("2025-07-28T00:12:26.479685Z"), 2));
        for _ in 0..3 {
            let _ = app.backend.post(&format!("{path}/rotate-secret"), json!({})).await.ok();
        }
        let refused = app.backend.post(&format!("{path}/rotate-secret"), json!({})).await.with(409);
        assert!(refused["message"].as_str().is_some_and(|text| text.starts_with("5 secrets")), "{refused}");
        app.backend.post(&format!("{path}/rotate-secret"), json!({"overlap_seconds": 604_801})).await
            .refuses_field(&["body", "overlap_seconds"], "at most 604800");
        // Who must get rid of a secret can, however many sign.
        let last = app.backend.post(&format!("{path}/rotate-secret"), json!({"overlap_seconds": 0})).await.data();
        assert_eq!((&last["overlap_ends_at"], live().await), (&Value::Null, 1));
    }

    async fn a_secret_may_be_brought_along_and_a_key_pair_never_leaves(app: TestApp) {
        let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let made = app.backend.post(ENDPOINTS, json!({"url": URL, "event_types": ["*"], "secret": own})).await.data();
        assert_eq!(made["secret"], own);
        for bad in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            let refused = app.backend.post(ENDPOINTS, json!({"url": URL, "event_types": ["*"], "secret": bad})).await;
            refused.refuses_field(&["body", "secret"], "whsec_ and the base64 of 24 to 64 bytes");
            assert!(!refused.text().contains(bad));
        }
        let made = app.backend.post(ENDPOINTS, json!({"url": URL, "event_types": ["*"], "signature": "v1a"})).await.data();
        let public = made["public_key"].as_str().expect("a public key");
        assert!(made["secret"].is_null() && public.starts_with("whpk_"), "{made}");
        let path = format!("{ENDPOINTS}/{}", made["id"].as_str().expect("an id"));
        assert_eq!(app.backend.get(&path).await.data()["public_key"], public);
        let next = app.backend.post(&format!("{path}/rotate-secret"), json!({})).await.data();
        assert!(next["secret"].is_null() && next["public_key"].as_str().is_some_and(|key| key != public), "{next}");
        for (place, body) in [(ENDPOINTS.to_owned(), json!({"url": URL, "event_types": ["*"], "signature": "v1a", "secret": own})),
            (format!("{path}/rotate-secret"), json!({"secret": own}))] {
            app.backend.post(&place, body).await.refuses_field(&["body", "secret"], "must not be given with v1a");
        }
    }

    async fn one_that_is_enabled_again_begins_with_what_happens_next(app: TestApp) {
        let path = register(&app, json!({"enabled": false})).await;
        let made = app.backend.get(&path).await.data();
        assert_eq!((&made["status"], &made["disabled_reason"], &made["disabled_at"]), (&json!("disabled"), &json!("by_request"), &json!(NOW)));
        let position = async || numbers(&app, "SELECT position FROM webhook_endpoints").await[0];
        assert_eq!(position().await, 0);
        // What happens meanwhile is kept for whoever asks for it later.
        app.alice.ensure().await;
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
        assert_eq!(numbers(&app, "SELECT COUNT(*) FROM webhook_events WHERE event_type = 'credit.consumed'").await, [1]);
        place_all(&app).await;
        let enabled = app.backend.post(&format!("{path}/enable"), json!({})).await.ok();
        assert_eq!((&enabled["message"], &enabled["data"]["status"], &enabled["data"]["disabled_at"]),
            (&json!("Webhook endpoint enabled"), &json!("enabled"), &Value::Null));
        let newest = newest(&app).await;
        assert!(newest > 0 && position().await == newest, "{newest}");
        // Once more changes nothing.
        hold(&app).await;
        let _ = app.backend.post(&format!("{path}/enable"), json!({})).await.ok();
        assert_eq!(numbers(&app, "SELECT COUNT(*) FROM webhook_endpoints WHERE leased_by = 'a story'").await, [1]);
        let disabled = app.backend.post(&format!("{path}/disable"), json!({})).await.ok();
        assert_eq!((&disabled["message"], &disabled["data"]["disabled_reason"]), (&json!("Webhook endpoint disabled"), &json!("by_request")));
        // Why it was disabled first is what counts.
        run(&app, "UPDATE webhook_endpoints SET disabled_reason = 'gone'").await;
        assert_eq!(app.backend.patch(&path, json!({"enabled": false})).await.data()["disabled_reason"], "gone");
        assert_eq!(app.backend.patch(&path, json!({"enabled": true})).await.data()["status"], "enabled");
    }

    async fn what_happened_before_one_was_disabled_is_told_when_it_is_enabled(app: TestApp) {
        let path = register(&app, json!({"enabled": false, "event_types": ["credit.consumed"], "user_ids": ["auth0|alice"]})).await;
        let spend = async |who: &testkit::Actor| {
            app.advance(Duration::from_secs(60));
            let _ = who.post(&who.own("/credits/consume"), json!({"amount": 1})).await.ok();
        };
        app.alice.ensure().await;
        app.bob.ensure().await;
        spend(&app.bob).await;
        spend(&app.alice).await;
        // It was enabled all that time, and nobody had got to it.
        run(&app, "UPDATE webhook_endpoints SET disabled_at = (SELECT MAX(created_at) + 1 FROM webhook_events)").await;
        spend(&app.alice).await;
        place_all(&app).await;
        let all = numbers(&app, "SELECT id FROM webhook_events ORDER BY id").await;
        assert_eq!(all.len(), 3);
        let _ = app.backend.post(&format!("{path}/enable"), json!({})).await.ok();
        assert_eq!(numbers(&app, "SELECT event_id FROM webhook_deliveries").await, [all[1]], "of alice, and before");
        assert_eq!(numbers(&app, "SELECT position FROM webhook_endpoints").await, [newest(&app).await]);
    }

    async fn a_test_is_the_example_of_its_type(app: TestApp) {
        let path = register(&app, json!({})).await;
        for kind in EventType::ALL {
            let sent = app.backend.post(&format!("{path}/test"), json!({"event_type": kind.as_str()})).await.data();
            let sql = "SELECT body FROM webhook_events ORDER BY id DESC LIMIT 1";
            let body = app.inside().db.query::<String>(sql, vec![]).await.expect("a read").remove(0);
            let mut wanted = Value::Object(user_service::webhooks::examples::body(*kind));
            wanted["data"]["test"] = json!(true);
            assert_eq!((&sent["event_type"], serde_json::from_str::<Value>(&body).expect("JSON")), (&json!(kind.as_str()), wanted));
        }
    }

    async fn a_new_endpoint_begins_with_what_happens_after_it(app: TestApp) {
        let _ = register(&app, json!({"enabled": false})).await;
        app.alice.ensure().await;
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
        place_all(&app).await;
        let _ = register(&app, json!({"enabled": false})).await;
        assert_eq!(numbers(&app, "SELECT position FROM webhook_endpoints ORDER BY id").await, [0, newest(&app).await]);
    }

    async fn what_nobody_asks_for_is_not_kept(app: TestApp) {
        let _ = register(&app, json!({"event_types": ["credit.granted"], "enabled": false})).await;
        app.alice.ensure().await;
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
        let kept = "SELECT COUNT(*) FROM webhook_events WHERE event_type <> 'credit.granted'";
        assert_eq!(numbers(&app, kept).await, [0]);
        assert_eq!(numbers(&app, "SELECT COUNT(*) FROM webhook_events").await, [1]);
    }

    async fn a_release_that_knows_more_kinds_tells_them_to_whoever_asked_for_their_family(app: TestApp) {
        let path = register(&app, json!({"event_types": ["credit.*"], "enabled": false})).await;
        let before = rows(&app).await;
        run(&app, "DELETE FROM webhook_subscriptions WHERE event_type IN ('credit.consumed', 'credit.granted')").await;
        user_service::webhooks::store::spell_out(&app.inside()).await.expect("names are spelled out");
        assert_eq!(rows(&app).await, before);
        let _ = app.backend.delete(&path).await.ok();
        user_service::webhooks::store::spell_out(&app.inside()).await.expect("nothing is to be spelled out");
    }

    async fn plain_users_decide_nothing_here(app: TestApp) {
        app.alice.ensure().await;
        let path = register(&app, json!({})).await;
        let (_, reader) = make(&app, "webhooks:read", json!({})).await;
        for (method, place) in [(Method::GET, ENDPOINTS), (Method::POST, ENDPOINTS), (Method::GET, &*path), (Method::DELETE, &*path)] {
            app.alice.request(method.clone(), place).json(&json!({})).send().await
                .refuses(403, "AuthorizationException", "A user cannot do this; it needs a service key or an admin");
            let answer = reader.request(method.clone(), place).json(&json!({})).send().await;
            if method == Method::GET { let _ = answer.ok(); } else {
                answer.refuses(403, "AuthorizationException", "The key lacks the scope webhooks:write");
            }
        }
    }

    async fn asks_that_make_no_sense_are_refused(app: TestApp) {
        let many = |n: usize, text: &'static str| vec![text; n];
        let headers = |n: usize| (0..n).map(|n| (format!("x-{n}"), json!("v"))).collect::<serde_json::Map<_, _>>();
        for (change, field, rule) in [
            (json!({"url": null}), "url", "string"),
            (json!({"url": ""}), "url", "1 to 2048 characters"),
            (json!({"url": format!("https://example.com/{}", "a".repeat(2048))}), "url", "1 to 2048 characters"),
            (json!({"url": "http://example.com/"}), "url", "must begin with https://"),
            (json!({"url": "https://me:secret@example.com/"}), "url", "no user-info"),
            (json!({"url": "https:///me:secret@example.com/"}), "url", "right behind ://"),
            (json!({"url": "https://example.com/#part"}), "url", "no fragment"),
            (json!({"url": "https://2130706433/"}), "url", "four decimal numbers, here 127.0.0.1"),
            (json!({"url": "https://0x7f.1/"}), "url", "four decimal numbers, here 127.0.0.1"),
            (json!({"url": "https://017700000001/"}), "url", "four decimal numbers, here 127.0.0.1"),
            (json!({"url": "https://169.254.169.254/latest/meta-data"}), "url", "no public address"),
            (json!({"url": "https://[::ffff:10.0.0.1]/"}), "url", "no public address"),
            (json!({"url": "https://localhost:8443/"}), "url", "public host"),
            (json!({"url": "https://example.com:25/"}), "url", "port 443 or one from 1024 on, not 25"),
            (json!({"event_types": []}), "event_types", "1 to 100 names"),
            (json!({"event_types": many(101, "credit.*")}), "event_types", "1 to 100 names"),
            (json!({"event_types": ["credit.stolen"]}), "event_types", "\"credit.stolen\" must be an event type"),
            (json!({"event_types": "credit.*"}), "event_types", "list"),
            (json!({"user_ids": many(1001, "auth0|x")}), "user_ids", "at most 1000 users"),
            (json!({"user_ids": ["112"]}), "user_ids", "must be an external id"),
            (json!({"headers": headers(21)}), "headers", "at most 20 headers"),
            (json!({"headers": {"Host": "x"}}), "headers", "host must not be set"),
            (json!({"headers": {"webhook-id": "x"}}), "headers", "webhook-id must not be set"),
            (json!({"headers": {"x": "a\r\nb"}}), "headers", "visible ASCII"),
            (json!({"description": "x".repeat(1001)}), "description", "0 to 1000 characters"),
            (json!({"description": "a\u{1b}[31m"}), "description", "no control characters"),
            (json!({"signature": "v2"}), "signature", "v1"),
            (json!({"enabled": "maybe"}), "enabled", "true or false"),
        ] {
            let asked = with(json!({"url": URL, "event_types": ["credit.*"]}), change.clone());
            app.backend.post(ENDPOINTS, asked).await.refuses_field(&["body", field], rule);
        }
        app.backend.post(ENDPOINTS, json!({"url": URL})).await.refuses_field(&["body", "event_types"], "Field required");
        app.backend.post(ENDPOINTS, json!({"event_types": ["*"]})).await.refuses_field(&["body", "url"], "Field required");
        assert_eq!(rows(&app).await, [vec![0], vec![0], vec![0]]);
        let path = register(&app, json!({})).await;
        let before = app.backend.get(&path).await.data();
        app.backend.patch(&path, json!({"url": "https://127.1/", "description": "x"})).await.refuses_field(&["body", "url"], "127.0.0.1");
        assert_eq!(app.backend.get(&path).await.data(), before);
    }
}

/// Gives every event its place, as the numbering does by and by.
async fn place_all(app: &TestApp) {
    if app.inside().db.engine() == "postgres" {
        let statements = [
            // Whoever numbers meanwhile passes over it.
            "UPDATE webhook_numbering SET position = position",
            "UPDATE webhook_events e SET position = (SELECT position FROM webhook_numbering) + new.n FROM (SELECT id, ROW_NUMBER() \
             OVER (ORDER BY id) AS n FROM webhook_events WHERE position IS NULL) AS new WHERE e.id = new.id",
            "UPDATE webhook_numbering SET position = GREATEST(position, (SELECT MAX(position) FROM webhook_events))",
        ];
        let statements = statements.map(|sql| Statement::any(sql, Vec::new())).to_vec();
        let edit = Edit::new(kernel::UserRowId(0), statements);
        app.inside().writer.execute(Command::Edit(edit)).await.expect("places");
    }
}

/// Enables every endpoint, and holds it, so that nobody sends and what a story says of deliveries stays.
async fn hold(app: &TestApp) {
    let sql = "UPDATE webhook_endpoints SET status = 'enabled', leased_by = 'a story', leased_until = 9000000000000000";
    run(app, sql).await;
}

/// The place of the newest event.
async fn newest(app: &TestApp) -> i64 {
    let sqlite = app.inside().db.engine() == "sqlite";
    let sql =
        if sqlite { "SELECT MAX(id) FROM webhook_events" } else { "SELECT position FROM webhook_numbering" };
    numbers(app, sql).await[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_only_so_many_endpoints() {
    let app = TestApp::start(Engine::Sqlite).await;
    run(
        &app,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99) INSERT INTO webhook_endpoints \
         (endpoint_id, url, event_types, user_ids, headers, status, created_at, created_by, updated_at, revision, position, leased_until) \
         SELECT 'ep_' || i, 'https://example.com/', '[\"*\"]', '[]', '{}', 'disabled', 1, 'cli', 1, 1, 0, 0 FROM n",
    )
    .await;
    let path = register(&app, json!({})).await;
    let refused = app.backend.post(ENDPOINTS, json!({"url": URL, "event_types": ["*"]})).await;
    refused.refuses(
        409,
        "ConflictException",
        "There are 100 webhook endpoints; delete those that are not needed",
    );
    let _ = app.backend.delete(&path).await.ok();
    let _ = register(&app, json!({})).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_desk_may_tell_itself() {
    with_settings(&[("WEBHOOK_ALLOW_PRIVATE", "true")], async |app| {
        let path = register(app, json!({"url": "http://127.0.0.1:9/hook"})).await;
        assert_eq!(app.backend.get(&path).await.data()["url"], "http://127.0.0.1:9/hook");
        app.backend
            .patch(&path, json!({"url": "http://2130706433/"}))
            .await
            .refuses_field(&["body", "url"], "four decimal numbers");
    })
    .await;
    with_settings(&[("WEBHOOK_ALLOWED_NETWORKS", "10.1.0.0/16")], async |app| {
        let path = register(app, json!({"url": "https://10.1.2.3:8443/"})).await;
        app.backend
            .patch(&path, json!({"url": "https://10.2.0.1/"}))
            .await
            .refuses_field(&["body", "url"], "no public address");
    })
    .await;
}
