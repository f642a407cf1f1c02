//! What others are told: each change once, in order, as it is described; and nothing of what did not happen.

use crate::explain::verified;
use crate::rerate::{call, price};
use crate::support::{session, with, with_settings};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use testkit::schema::faults;
use testkit::{Actor, TestApp, both_engines};
use user_service::db::{DbError, FromRow, Row};
use user_service::webhooks::{EventType, types};
use user_service::writer::{Command, Edit, Statement};

/// An event as it is kept.
pub struct Told {
    pub id: i64,
    pub kind: String,
    pub user: Option<String>,
    pub body: Value,
    pub text: String,
}

impl FromRow for Told {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let (kind, user, text, id) = (row.text(0)?, row.optional_text(1)?, row.text(2)?, row.int(3)?);
        let body = serde_json::from_str(&text).map_err(|e| DbError::Internal(format!("{e}: {text}")))?;
        Ok(Self { id, kind, user, body, text })
    }
}

/// Has everything kept that can be told, for an endpoint that is not there.
pub async fn want_all(app: &TestApp) {
    let inside = app.inside();
    inside.outbox.want(EventType::ALL.iter().copied());
    let sql = "INSERT INTO webhook_subscriptions (event_type, endpoint) VALUES ($1, 1000000)";
    let wanted = EventType::ALL.iter().map(|kind| Statement::one(sql, vec![kind.as_str().into()]));
    let wanted = Edit::new(kernel::UserRowId(0), wanted.collect());
    let _ = inside.writer.execute(Command::Edit(wanted)).await.expect("subscriptions");
}

/// What was told so far, in order; each as its schema says.
pub async fn told(app: &TestApp) -> Vec<Told> {
    let sql = "SELECT event_type, auth0_id, body, id FROM webhook_events ORDER BY id";
    let told: Vec<Told> = app.inside().db.query(sql, vec![]).await.expect("events");
    for one in &told {
        let kind: EventType = one.kind.parse().expect("a kind");
        let mut payload = types::example(kind);
        let data = one.body.as_object().expect("an object");
        payload.as_object_mut().expect("an object").retain(|name, _| {
            ["id", "type", "event_type", "user_id", "timestamp", "sequence"].contains(&name.as_str())
        });
        for (name, member) in data {
            let taken = payload.as_object_mut().expect("an object").insert(name.clone(), member.clone());
            assert_eq!(taken, None, "{}: {name}", one.kind);
        }
        let faults = faults(&types::schema(kind), &payload);
        assert!(faults.is_empty(), "{}: {faults:?} in {}", one.kind, one.text);
        assert!(
            !one.text.chars().any(char::is_control),
            "{}: a place is left open: {:?}",
            one.kind,
            one.text
        );
        if let Some(named) = one.body["data"].get("user_id") {
            assert_eq!(named.as_str(), one.user.as_deref(), "{}", one.kind);
        }
    }
    told
}

/// The last that was told; what is told later is known by it, also where what is old was removed meanwhile.
pub async fn last(app: &TestApp) -> i64 {
    told(app).await.last().map_or(0, |one| one.id)
}

/// The kinds of what was told after that.
pub async fn kinds(app: &TestApp, after: i64) -> Vec<String> {
    told(app).await.into_iter().filter(|one| one.id > after).map(|one| one.kind).collect()
}

/// What an action tells.
macro_rules! tells {
    ($app:expr, $action:expr, $($kind:literal),* $(,)?) => {{
        let before = last($app).await;
        let outcome = $action;
        let wanted: &[&str] = &[$($kind),*];
        assert_eq!(kinds($app, before).await, wanted, "of {}", stringify!($action));
        outcome
    }};
}

async fn edit(app: &TestApp, statements: Vec<Statement>) {
    let edit = Edit::new(kernel::UserRowId(0), statements);
    let _ = app.inside().writer.execute(Command::Edit(edit)).await.expect("an edit");
}

async fn put(actor: &Actor, path: &str, body: Value) {
    let _ = actor.request(reqwest::Method::PUT, path).json(&body).send().await.ok();
}

both_engines! {
    async fn what_becomes_of_a_user_is_told(app: TestApp) {
        want_all(&app).await;
        let (alice, own) = (&app.alice, app.alice.own(""));
        tells!(&app, alice.ensure().await, "user.created", "credit.granted");
        tells!(&app, alice.ensure().await,);
        tells!(&app, alice.patch(&own, json!({"name": "Alicia"})).await.ok(), "user.updated");
        tells!(&app, alice.patch(&own, json!({"name": "Alicia"})).await.ok(),);
        tells!(&app, alice.ensure().await, "user.updated");
        let suspend = format!("{own}/suspend");
        tells!(&app, app.admin.post(&suspend, json!({"reason": "a"})).await.ok(), "user.suspended");
        tells!(&app, app.admin.post(&suspend, json!({"reason": "b"})).await.ok(),);
        let reactivate = format!("{own}/reactivate");
        tells!(&app, app.admin.post(&reactivate, json!({})).await.ok(), "user.reactivated");
        tells!(&app, app.admin.post(&reactivate, json!({})).await.ok(),);
        tells!(&app, alice.delete(&own).await.ok(), "user.deleted");
        tells!(&app, alice.delete(&own).await.with(404),);
        tells!(&app, alice.ensure().await, "user.restored");
        let told = told(&app).await;
        assert_eq!(told[0].body["data"]["credits"], json!(1000), "with its welcome credits");
        assert!(told.iter().all(|one| one.user.as_deref() == Some("auth0|alice")));
        let suspended = told.iter().find(|one| one.kind == "user.suspended").expect("it was told");
        assert_eq!(suspended.body["data"]["is_active"], json!(false));
    }

    async fn credits_are_told_once_and_only_where_they_moved(app: TestApp) {
        app.alice.ensure().await;
        want_all(&app).await;
        let (alice, backend) = (&app.alice, &app.backend);
        let own = |rest: &str| alice.own(&format!("/credits/{rest}"));
        let consume = json!({"amount": 10.5, "metadata": {"user_id": "@", "x": "\u{1}"}});
        let spent = tells!(&app, alice.post(&own("consume"), consume).await.ok(), "credit.consumed");
        let first = &told(&app).await[0];
        assert_eq!((&first.body["amount"], &first.body["balance_after"]), (&json!(10.5), &json!(989.5)));
        assert_eq!(first.body["data"], spent["data"], "what the caller was answered");
        assert_eq!(first.user.as_deref(), Some("auth0|alice"));
        tells!(&app, alice.post(&own("consume"), json!({"amount": 100_000})).await.with(400),);
        let body = json!({"amount": 1});
        tells!(&app, alice.post_once("k1", &own("consume"), body.clone()).await.ok(), "credit.consumed");
        tells!(&app, alice.post_once("k1", &own("consume"), body).await.ok(),);
        let recharge = json!({"amount": 100, "reference_id": "r1"});
        tells!(&app, backend.post(&own("recharge"), recharge.clone()).await.ok(), "credit.recharged");
        tells!(&app, backend.post(&own("recharge"), recharge).await.ok(),);
        let refund = json!({"transaction_id": spent["transaction_id"], "amount": 5});
        tells!(&app, backend.post(&own("refund"), refund).await.ok(), "credit.refunded");
        let grant = json!({"amount": 50, "expires_at": "2025-07-28T00:00:00Z"});
        tells!(&app, backend.post(&own("grants"), grant).await.ok(), "credit.granted");
        let grant = backend.post(&own("grants"), json!({"amount": 7})).await.data();
        let id = grant["transaction_id"].as_str().expect("an id").replace("txn_", "grt_");
        let void = own(&format!("grants/{id}/void"));
        tells!(&app, app.admin.post(&void, json!({"reason": "wrong"})).await.ok(), "credit.reversed");
        let adjust = json!({"amount": -4, "reason": "counted twice"});
        tells!(&app, app.admin.post(&own("adjust"), adjust).await.ok(), "credit.adjusted");
        app.advance(Duration::from_secs(2 * 24 * 3600));
        tells!(&app, app.sweep().await, "credit.expired");
        tells!(&app, app.sweep().await,);
        let limit = json!({"credit_limit": 500});
        tells!(&app, put(&app.admin, &own("limit"), limit.clone()).await, "credit.limit_changed");
        tells!(&app, put(&app.admin, &own("limit"), limit).await,);
    }

    async fn holds_are_told_as_they_stand(app: TestApp) {
        app.alice.ensure().await;
        want_all(&app).await;
        let alice = &app.alice;
        let holds = alice.own("/credits/holds");
        let make = async || {
            let made = alice.post(&holds, json!({"amount": 10, "expires_in": 600, "on_expiry": "capture_all"})).await.ok();
            format!("{holds}/{}", made["hold_id"].as_str().expect("an id"))
        };
        let hold = tells!(&app, make().await, "hold.created");
        tells!(&app, alice.post(&format!("{hold}/tick"), json!({"amount": 2})).await.ok(), "hold.ticked");
        tells!(&app, alice.post(&format!("{hold}/tick"), json!({"amount": 2})).await.ok(),);
        tells!(&app, alice.post(&format!("{hold}/extend"), json!({"expires_in": 900})).await.ok(), "hold.extended");
        let capture = json!({"amount": 3});
        tells!(&app, alice.post(&format!("{hold}/capture"), capture.clone()).await.ok(), "credit.consumed", "hold.captured");
        tells!(&app, alice.post(&format!("{hold}/capture"), capture).await.ok(),);
        let hold = make().await;
        tells!(&app, alice.post(&format!("{hold}/release"), json!({})).await.ok(), "hold.released");
        let _ = make().await;
        app.advance(Duration::from_secs(1000));
        tells!(&app, app.sweep().await, "credit.consumed", "hold.expired");
    }

    async fn usage_is_told_once_per_record_without_what_was_said(app: TestApp) {
        app.alice.ensure().await;
        want_all(&app).await;
        let alice = &app.alice;
        let said = json!({"event_type": "chat", "event_id": "e1", "request_data": {"prompt": "canary-of-usage"}});
        tells!(&app, alice.post(&alice.own("/usage"), said.clone()).await.ok(), "usage.recorded");
        tells!(&app, alice.post(&alice.own("/usage"), said).await.ok(),);
        let charge = json!({"event_type": "chat", "credits": 2, "event_id": "e2"});
        tells!(&app, alice.post(&alice.own("/charges"), charge.clone()).await.ok(), "credit.consumed", "usage.recorded");
        tells!(&app, alice.post(&alice.own("/charges"), charge).await.ok(),);
        let charges = json!({"atomic": true, "charges": [
            {"user_id": "auth0|alice", "event_type": "chat", "credits": 1},
            {"user_id": "auth0|alice", "event_type": "chat", "credits": 1_000_000},
        ]});
        tells!(&app, app.backend.post("/api/v1/charges/batch", charges).await,);
        let told = told(&app).await;
        assert!(told.iter().all(|one| !one.text.contains("canary")));
        assert_eq!(told[0].body["data"]["request_data"], json!({}));
    }

    async fn sessions_are_told_without_what_was_said(app: TestApp) {
        app.alice.ensure().await;
        want_all(&app).await;
        let alice = &app.alice;
        let path = tells!(&app, session(alice).await, "session.created");
        let created = told(&app).await.remove(0).body;
        assert_eq!(format!("/api/v1/sessions/{}", created["session_id"].as_str().unwrap_or_default()), path);
        assert!(created["data"]["id"].as_i64().is_some_and(|id| id > 0), "{created}");
        let data = json!({"title": "A trip", "conversation_data": {"said": "canary"}});
        tells!(&app, alice.patch(&path, data.clone()).await.ok(), "session.updated");
        tells!(&app, alice.patch(&path, data).await.ok(),);
        let summary = json!({"summary": "canary"});
        tells!(&app, put(alice, &format!("{path}/summary"), summary.clone()).await, "session.updated");
        tells!(&app, put(alice, &format!("{path}/summary"), summary).await,);
        let message = json!({"role": "user", "content": "canary", "tokens_used": 5});
        tells!(&app, alice.post(&format!("{path}/messages"), message).await.ok(), "session.message_added");
        let status = format!("{path}/status");
        for (status_word, kind) in [
            ("paused", "session.paused"),
            ("active", "session.activated"),
            ("completed", "session.completed"),
            ("archived", "session.archived"),
            ("expired", "session.expired"),
        ] {
            let before = last(&app).await;
            put(alice, &status, json!({"status": status_word})).await;
            put(alice, &status, json!({"status": status_word})).await;
            assert_eq!(kinds(&app, before).await, [kind]);
        }
        tells!(&app, alice.delete(&path).await.ok(), "session.deleted");
        tells!(&app, alice.delete(&path).await.with(404),);
        assert!(told(&app).await.iter().all(|one| !one.text.contains("canary")));
        let _ = session(alice).await;
        app.advance(Duration::from_secs(40 * 24 * 3600));
        let before = last(&app).await;
        app.sweep().await;
        app.sweep().await;
        let after = kinds(&app, before).await;
        assert_eq!(after.iter().filter(|kind| *kind == "session.expired").count(), 1, "{after:?}");
        let told = told(&app).await;
        assert!(told.iter().all(|one| !one.text.contains("canary")));
    }

    async fn a_message_to_an_expired_session_tells_that_it_is_active_again(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        want_all(&app).await;
        let messages = format!("{path}/messages");
        let say = async || {
            let _ = app.alice.post(&messages, json!({"role": "user", "content": "canary"})).await.ok();
        };
        tells!(&app, say().await, "session.message_added");
        // Whether or not it was written down that it expired.
        app.advance(Duration::from_secs(40 * 24 * 3600));
        tells!(&app, say().await, "session.activated", "session.message_added");
        tells!(&app, say().await, "session.message_added");
        app.advance(Duration::from_secs(40 * 24 * 3600));
        app.sweep().await;
        tells!(&app, say().await, "session.activated", "session.message_added");
        let told = told(&app).await;
        let active = told.iter().rfind(|one| one.kind == "session.activated").expect("it was told");
        let data = &active.body["data"];
        assert_eq!((&data["status"], &data["message_count"]), (&json!("active"), &json!(4)));
        assert_eq!(*data, with(app.alice.get(&path).await.data(), json!({"conversation_data": {}})));
        assert!(told.iter().all(|one| !one.text.contains("canary")));
    }

    async fn free_and_set_plans_are_told(app: TestApp) {
        app.alice.ensure().await;
        want_all(&app).await;
        let alice = &app.alice;
        let free = json!({"plan_type": "free"});
        let of_subscription = async |since: i64| {
            let kinds = kinds(&app, since).await;
            kinds.into_iter().filter(|kind| kind.starts_with("subscription.")).collect::<Vec<_>>()
        };
        tells!(&app, alice.post("/api/v1/subscriptions", free.clone()).await.ok(), "subscription.created");
        tells!(&app, alice.post("/api/v1/subscriptions", free.clone()).await.ok(),);
        let before = last(&app).await;
        let _ = alice.post("/api/v1/subscriptions/cancel", json!({})).await.ok();
        let _ = alice.post("/api/v1/subscriptions/cancel", json!({})).await.ok();
        let _ = alice.post(&alice.own("/subscription/resume"), json!({})).await.ok();
        let _ = alice.post(&alice.own("/subscription/resume"), json!({})).await.ok();
        assert_eq!(of_subscription(before).await, ["subscription.canceled", "subscription.resumed"]);
        let before = last(&app).await;
        put(&app.admin, &alice.own("/subscription"), json!({"plan_type": "pro"})).await;
        assert_eq!(of_subscription(before).await, ["subscription.ended", "subscription.created"]);
        let before = last(&app).await;
        put(&app.admin, &alice.own("/subscription"), json!({"plan_type": "enterprise", "at_period_end": true})).await;
        assert_eq!(of_subscription(before).await, ["subscription.updated"]);
        app.advance(Duration::from_secs(31 * 24 * 3600));
        let before = last(&app).await;
        app.sweep().await;
        app.sweep().await;
        assert_eq!(of_subscription(before).await, ["subscription.ended", "subscription.created"]);
        app.advance(Duration::from_secs(31 * 24 * 3600));
        let before = last(&app).await;
        app.sweep().await;
        assert_eq!(of_subscription(before).await, ["subscription.renewed"]);
    }

    async fn a_ledger_that_does_not_fit_is_told(app: TestApp) {
        app.alice.ensure().await;
        want_all(&app).await;
        let verify = async || {
            let _ = app.admin.post("/api/v1/admin/ledger/verify", json!({})).await.ok();
            verified(&app).await["sound"].clone()
        };
        assert_eq!(tells!(&app, verify().await,), true);
        edit(&app, vec![Statement::any("UPDATE credit_accounts SET balance = balance + 1", vec![])]).await;
        assert_eq!(tells!(&app, verify().await, "alert.ledger_mismatch"), false);
        let told = told(&app).await;
        assert_eq!((&told[0].user, &told[0].body["data"]["sound"]), (&None, &json!(false)));
        edit(&app, vec![Statement::any("UPDATE credit_accounts SET balance = balance - 1", vec![])]).await;
    }

    async fn nobody_is_told_of_what_nobody_asks_for(app: TestApp) {
        app.alice.ensure().await;
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
        assert!(told(&app).await.is_empty());
    }

    async fn what_was_told_of_an_erased_user_goes(app: TestApp) {
        // Where much was told and forgotten, what is kept begins far from the first number.
        let far = match app.inside().db.engine() {
            "sqlite" => "INSERT INTO sqlite_sequence (name, seq) VALUES ('webhook_events', 1000000000000)",
            _ => "ALTER TABLE webhook_events ALTER COLUMN id RESTART WITH 1000000000000",
        };
        edit(&app, vec![Statement::any(far, vec![])]).await;
        want_all(&app).await;
        app.alice.ensure().await;
        app.bob.ensure().await;
        let excerpt = "INSERT INTO webhook_deliveries (endpoint, event_id, user_id, status, attempts, next_attempt_at, log, updated_at) \
            SELECT CAST(999 AS BIGINT), id, user_id, 'failed', CAST(1 AS BIGINT), CAST(NULL AS BIGINT), '[]', CAST(0 AS BIGINT) \
            FROM webhook_events WHERE auth0_id = 'auth0|alice'";
        edit(&app, vec![Statement::any(excerpt, vec![])]).await;
        let erased = app.admin.delete(&app.alice.own("?erase=true")).await;
        assert!(erased.status < 300, "{}", erased.text());
        app.sweep().await;
        let told = told(&app).await;
        let users: BTreeSet<_> = told.iter().filter_map(|one| one.user.clone()).collect();
        assert_eq!(users, BTreeSet::from(["auth0|bob".to_owned()]));
        let left = "SELECT COUNT(*) FROM webhook_deliveries";
        let left = app.inside().db.find::<i64>(left, &[]).await.expect("a read");
        assert_eq!(left, Some(0), "what an endpoint that is gone answered");
    }

    async fn that_a_user_is_deleted_is_told_before_it_is_forgotten(app: TestApp) {
        let hook = async |more: Value| {
            let asked = with(json!({"url": "https://hooks.example.com/", "event_types": ["*"]}), more);
            let made = app.backend.post("/api/v1/webhooks/endpoints", asked).await.data();
            format!("/api/v1/webhooks/endpoints/{}", made["id"].as_str().expect("an id"))
        };
        // Nothing answers there.
        let all = hook(json!({})).await;
        let both = hook(json!({"user_ids": ["auth0|alice", "auth0|bob"], "enabled": false})).await;
        let only = hook(json!({"user_ids": ["auth0|alice"]})).await;
        app.alice.ensure().await;
        app.bob.ensure().await;
        let _ = app.alice.patch(&app.alice.own(""), json!({"name": "canary"})).await.ok();
        let _ = app.alice.post("/api/v1/subscriptions", json!({"plan_type": "free"})).await.ok();
        let erased = app.admin.delete(&app.alice.own("?erase=true")).await;
        assert!(erased.status < 300, "{}", erased.text());
        let (done, begun) = ("SELECT COUNT(*) FROM erasures WHERE status = 'done'", "SELECT COUNT(*) FROM erasures WHERE finished_at IS NOT NULL");
        let count = async |sql: &'static str| app.inside().db.find::<i64>(sql, &[]).await.expect("read").unwrap_or(0);
        for _ in 0..2 {
            app.sweep().await;
            let told = told(&app).await;
            let of_alice: Vec<_> = told.iter().filter(|one| one.user.as_deref() == Some("auth0|alice")).collect();
            let kinds: Vec<_> = of_alice.iter().map(|one| one.kind.as_str()).collect();
            assert_eq!(kinds, ["user.deleted", "subscription.ended"]);
            assert!(of_alice.iter().all(|one| !one.text.contains("canary")), "{}", of_alice[0].text);
            assert_eq!((count(done).await, count(begun).await), (0, 1));
        }
        for path in [&all, &only] {
            let _ = app.backend.post(&format!("{path}/disable"), json!({})).await.ok();
        }
        app.sweep().await;
        assert_eq!(count(done).await, 1);
        assert!(told(&app).await.iter().all(|one| one.user.as_deref() != Some("auth0|alice")));
        assert_eq!(app.backend.get(&both).await.data()["user_ids"], json!(["auth0|bob"]));
        let only = app.backend.get(&only).await.data();
        let listed = only["user_ids"][0].as_str().expect("one is listed");
        assert!(only["status"] == "disabled" && listed.starts_with("erased:"), "nobody, and not everybody: {only}");
        // And a user whose endpoint never answers is waited for some days only.
        let _ = app.backend.post(&format!("{all}/enable"), json!({})).await.ok();
        let _ = app.admin.delete(&app.bob.own("?erase=true")).await;
        app.sweep().await;
        assert_eq!(count(done).await, 1);
        app.advance(user_service::users::told::TOLD_WITHIN);
        app.sweep().await;
        assert_eq!(count(done).await, 2);
        assert_eq!(app.backend.get(&both).await.data()["status"], "disabled");
    }

    async fn a_merge_is_told_of_the_user_that_survives(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let _ = app.bob.post("/api/v1/subscriptions", json!({"plan_type": "free"})).await.ok();
        want_all(&app).await;
        let merge = json!({"from": "auth0|bob", "reason": "the same person"});
        let merged = app.admin.post(&app.alice.own("/merge"), merge).await;
        assert!(merged.status < 300, "{}", merged.text());
        app.sweep().await;
        let told = told(&app).await;
        let of = |kind: &str| told.iter().filter(|one| one.kind == kind).collect::<Vec<_>>();
        assert_eq!(of("user.merged").len(), 1);
        assert_eq!(of("user.merged")[0].user.as_deref(), Some("auth0|alice"));
        assert_eq!(of("user.merged")[0].body["merged_from"], "auth0|bob");
        assert_eq!(of("subscription.ended").len(), 1, "the plan of the one that ended");
        assert_eq!(of("subscription.ended")[0].user.as_deref(), Some("auth0|bob"));
        assert_eq!((of("credit.reversed").len(), of("credit.granted").len(), of("user.deleted").len()), (1, 1, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_left_and_limits_spent_are_told_when_they_are_passed() {
    with_settings(&[("LOW_BALANCE_CREDITS", "500")], async |app| {
        app.alice.ensure().await;
        want_all(app).await;
        let alice = &app.alice;
        let consume = async |amount: i64| {
            let _ = alice.post(&alice.own("/credits/consume"), json!({"amount": amount})).await.ok();
        };
        tells!(app, consume(500).await, "credit.consumed");
        tells!(app, consume(1).await, "credit.consumed", "credit.low_balance");
        tells!(app, consume(1).await, "credit.consumed");
        let recharge = json!({"amount": 1000});
        tells!(
            app,
            app.backend.post(&alice.own("/credits/recharge"), recharge).await.ok(),
            "credit.recharged"
        );
        let limits = json!({"limits": [{"id": "daily", "unit": "credits", "window": "day", "amount": 100}]});
        tells!(app, put(&app.admin, &alice.own("/limits"), limits).await,);
        tells!(app, consume(79).await, "credit.consumed");
        tells!(app, consume(1).await, "credit.consumed", "alert.limit_threshold");
        tells!(app, alice.post(&alice.own("/credits/consume"), json!({"amount": 50})).await,);
        tells!(app, consume(20).await, "credit.consumed", "alert.limit_reached");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_is_never_low_where_the_threshold_is_nothing() {
    with_settings(&[("LOW_BALANCE_CREDITS", "0")], async |app| {
        app.alice.ensure().await;
        want_all(app).await;
        let limit = app.alice.own("/credits/limit");
        tells!(app, put(&app.admin, &limit, json!({"credit_limit": 500})).await, "credit.limit_changed");
        let consume = json!({"amount": 1100});
        tells!(
            app,
            app.alice.post(&app.alice.own("/credits/consume"), consume).await.ok(),
            "credit.consumed"
        );
        // Less than nothing can be spent now.
        tells!(app, put(&app.admin, &limit, json!({"credit_limit": 0})).await, "credit.limit_changed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rated_later_is_told_once() {
    with_settings(&[("UNKNOWN_MODEL", "record")], async |app| {
        app.alice.ensure().await;
        let _ = call(&app.alice, "new", 1000).await;
        want_all(app).await;
        let rerate = async || {
            let _ = app.admin.post("/api/v1/usage/rerate", json!({})).await.ok();
        };
        tells!(app, rerate().await,);
        price(app, "new", "0.001").await;
        let before = last(app).await;
        rerate().await;
        rerate().await;
        let kinds = kinds(app, before).await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "usage.rated").count(), 1, "{kinds:?}");
        let told = told(app).await;
        let rated = told.iter().find(|one| one.kind == "usage.rated").expect("it was told");
        assert_eq!(
            (&rated.body["data"]["charge_status"], &rated.body["credits_charged"]),
            (&json!("rerated"), &json!(500))
        );
    })
    .await;
}
