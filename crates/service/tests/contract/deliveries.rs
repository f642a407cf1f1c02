//! Telling others: what comes to a receiver, how often, in which order, and what is kept of it.

use crate::support::with_settings;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use std::collections::HashMap;
use std::time::Duration;
use testkit::{Delivery, Receiver, Reply, TestApp};
use user_service::db::{DbError, FromRow, Row};
use user_service::webhooks::EventType;
use user_service::writer::{Command, Edit, Statement};

/// Receivers of the tests are on this machine.
const PRIVATE: (&str, &str) = ("WEBHOOK_ALLOW_PRIVATE", "true");
/// The secret of every endpoint here.
const SECRET: &[u8] = b"a secret that both sides know: 32";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Puts an endpoint into the database, from the newest event on.
async fn endpoint(app: &TestApp, url: &str, kinds: &[EventType], users: &[&str]) -> i64 {
    let inside = app.inside();
    inside.outbox.want(kinds.iter().copied());
    let public = format!("ep_{}", url.replace(|c: char| !c.is_ascii_alphanumeric(), ""));
    let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    let now = app.now().micros();
    let mut statements = vec![Statement::one(
        "INSERT INTO webhook_endpoints (endpoint_id, url, event_types, user_ids, headers, status, created_at, created_by, updated_at, \
         revision, position, leased_until) VALUES ($1, $2, $3, $4, $5, 'enabled', $6, 'key:test', $6, 1, 0, 0)",
        vec![
            public.as_str().into(),
            url.into(),
            json!(names).to_string().as_str().into(),
            json!(users).to_string().as_str().into(),
            r#"{"x-tenant":"seven"}"#.into(),
            now.into(),
        ],
    )];
    for name in names {
        statements.push(Statement::one(
            "INSERT INTO webhook_subscriptions (event_type, endpoint) \
             SELECT CAST($2 AS TEXT), id FROM webhook_endpoints WHERE endpoint_id = $1",
            vec![public.as_str().into(), name.into()],
        ));
    }
    statements.push(Statement::one(
        "INSERT INTO webhook_secrets (endpoint, kind, secret, created_at) \
         SELECT id, 'v1', $2, CAST($3 AS BIGINT) FROM webhook_endpoints WHERE endpoint_id = $1",
        vec![public.as_str().into(), user_service::db::Value::Bytes(SECRET.to_vec()), now.into()],
    ));
    edit(app, statements).await;
    let sql = "SELECT id FROM webhook_endpoints WHERE endpoint_id = $1";
    let found: Option<i64> = inside.db.find(sql, &[public.as_str().into()]).await.expect("a read");
    found.expect("the endpoint")
}

async fn edit(app: &TestApp, statements: Vec<Statement>) {
    let inside = app.inside();
    let edit = Edit::new(kernel::UserRowId(0), statements);
    inside.writer.execute(Command::Edit(edit)).await.expect("the edit is made");
    inside.outbox.ring();
}

/// What is kept of a delivery.
#[derive(Debug, Clone)]
struct Kept {
    event: i64,
    status: String,
    attempts: i64,
    next: Option<i64>,
    log: Value,
}

impl FromRow for Kept {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            event: row.int(0)?,
            status: row.text(1)?,
            attempts: row.int(2)?,
            next: row.optional_int(3)?,
            log: serde_json::from_str(&row.text(4)?).expect("a list"),
        })
    }
}

async fn kept(app: &TestApp, endpoint: i64) -> Vec<Kept> {
    let sql = "SELECT event_id, status, attempts, next_attempt_at, log FROM webhook_deliveries \
        WHERE endpoint = $1 ORDER BY event_id";
    app.inside().db.query(sql, vec![endpoint.into()]).await.expect("a read")
}

/// Waits until what is kept is as it should be.
async fn kept_when(app: &TestApp, endpoint: i64, wanted: impl Fn(&[Kept]) -> bool) -> Vec<Kept> {
    for _ in 0..400 {
        let kept = kept(app, endpoint).await;
        if wanted(&kept) {
            return kept;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("in the end it was {:#?}", kept(app, endpoint).await);
}

async fn column(app: &TestApp, endpoint: i64, sql: &'static str) -> String {
    let found: Option<String> = app.inside().db.find(sql, &[endpoint.into()]).await.expect("a read");
    found.expect("the endpoint")
}

async fn status(app: &TestApp, endpoint: i64) -> String {
    let sql = "SELECT status || ' ' || COALESCE(disabled_reason, '-') FROM webhook_endpoints WHERE id = $1";
    column(app, endpoint, sql).await
}

async fn status_becomes(app: &TestApp, endpoint: i64, wanted: &str) {
    for _ in 0..400 {
        if status(app, endpoint).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("in the end it was {}", status(app, endpoint).await);
}

async fn spend(who: &testkit::Actor, amounts: std::ops::RangeInclusive<u32>) {
    for amount in amounts {
        let _ = who.post(&who.own("/credits/consume"), json!({"amount": amount})).await.ok();
    }
}

async fn users(app: &TestApp) {
    for actor in [&app.alice, &app.bob] {
        actor.ensure().await;
    }
}

fn amounts(came: &[Delivery]) -> Vec<i64> {
    came.iter().filter_map(|delivery| delivery.body["amount"].as_f64().map(|amount| amount as i64)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_comes_to_a_receiver_signed_and_whole() {
    with_settings(&[PRIVATE], async |app| {
        let receiver = Receiver::start().await;
        // The official library compares the time of the signature with its own.
        app.advance(Duration::from_micros(
            u64::try_from(kernel::Clock::System.now().micros() - app.now().micros()).expect("the past"),
        ));
        users(app).await;
        let hook = endpoint(app, &receiver.url("/hook"), &[EventType::CreditConsumed], &[]).await;
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 10.5})).await.ok();
        let came = receiver.wait_for("/hook", 1).await.remove(0);

        let webhook = Webhook::from_bytes(SECRET.to_vec()).expect("a secret");
        webhook.verify(came.text.as_bytes(), &came.headers).expect("the signature is good");
        assert!(webhook.verify(b"{}", &came.headers).is_err());
        assert_eq!(came.header("content-type"), Some("application/json"));
        assert_eq!(came.header("x-tenant"), Some("seven"));
        assert!(came.header("user-agent").is_some_and(|agent| agent.starts_with("user-service/")));
        let body = &came.body;
        assert_eq!(body["id"], json!(came.id()));
        assert_eq!(
            (&body["type"], &body["event_type"]),
            (&json!("credit.consumed"), &json!("credit_consumed"))
        );
        assert_eq!(body["user_id"], json!("auth0|alice"));
        assert_eq!((&body["amount"], &body["timestamp"]), (&json!(10.5), &json!(app.now())));
        assert!(body["sequence"].is_i64() && body["data"].is_object() && body["balance_after"].is_number());

        let kept = kept_when(app, hook, |kept| kept.len() == 1).await.remove(0);
        assert_eq!((kept.status.as_str(), kept.attempts, kept.next), ("delivered", 1, None));
        assert_eq!(format!("evt_{}", kept.event), came.id());
        assert_eq!((&kept.log[0]["status_code"], &kept.log[0]["error"]), (&json!(200), &Value::Null));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_tried_again_under_the_same_id() {
    with_settings(&[PRIVATE], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        receiver.answer(|_| Reply::status(500).saying("out of order\nsee later"));
        let hook = endpoint(app, &receiver.url("/hook"), &[EventType::CreditConsumed], &[]).await;
        spend(&app.alice, 1..=1).await;
        receiver.wait_for("/hook", 1).await;
        let kept = kept_when(app, hook, |kept| kept.len() == 1).await.remove(0);
        assert_eq!((kept.status.as_str(), kept.attempts), ("pending", 1));
        let pause = kept.next.expect("a next attempt") - app.now().micros();
        assert!((4_000_000..=6_000_000).contains(&pause), "{pause}");
        assert_eq!(kept.log[0]["status_code"], json!(500));
        assert_eq!(kept.log[0]["error"], json!("the endpoint refused it (500)"));
        assert_eq!(kept.log[0]["excerpt"], json!("out of order see later"));

        app.advance(Duration::from_secs(7));
        receiver.wait_for("/hook", 2).await;
        let kept = kept_when(app, hook, |kept| kept[0].attempts == 2).await.remove(0);
        let pause = kept.next.expect("a next attempt") - app.now().micros();
        assert!((24_000_000..=36_000_000).contains(&pause), "{pause}");

        // The receiver says when it can take it.
        receiver.answer(|_| Reply::status(429).with("retry-after", "3600"));
        app.advance(Duration::from_secs(40));
        receiver.wait_for("/hook", 3).await;
        let kept = kept_when(app, hook, |kept| kept[0].attempts == 3).await.remove(0);
        assert_eq!(kept.next, Some(app.now().plus(Duration::from_secs(3600)).micros()));

        receiver.answer(|_| Reply::status(204));
        app.advance(Duration::from_secs(3601));
        let came = receiver.wait_for("/hook", 4).await;
        let kept = kept_when(app, hook, |kept| kept[0].status == "delivered").await.remove(0);
        assert_eq!((kept.attempts, kept.next, kept.log.as_array().map(Vec::len)), (4, None, Some(4)));
        assert!(came.iter().all(|delivery| delivery.id() == came[0].id() && delivery.text == came[0].text));
        let times: Vec<&str> =
            came.iter().filter_map(|delivery| delivery.header("webhook-timestamp")).collect();
        assert!(times[0] < times[3], "each attempt is signed anew: {times:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    with_settings(&[PRIVATE, ("WEBHOOK_RETRY_SCHEDULE", "1h")], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        let other = receiver.url("/other");
        receiver.answer(move |_| Reply::status(302).with("location", &other));
        let hook = endpoint(app, &receiver.url("/hook"), &[EventType::CreditConsumed], &[]).await;
        spend(&app.alice, 1..=1).await;
        let kept = kept_when(app, hook, |kept| kept.len() == 1).await.remove(0);
        assert_eq!(kept.log[0]["error"], json!("a redirect is not followed (302)"));
        // After the last attempt it has failed, and what comes later goes on.
        app.advance(Duration::from_secs(2 * 3600));
        kept_when(app, hook, |kept| kept[0].status == "failed" && kept[0].attempts == 2).await;
        receiver.answer(|_| Reply::status(200));
        spend(&app.alice, 2..=2).await;
        kept_when(app, hook, |kept| kept.len() == 2 && kept[1].status == "delivered").await;
        assert!(receiver.came_to("/other").is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_taken_holds_up_its_user_alone() {
    with_settings(&[PRIVATE], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        receiver.answer(|delivery| {
            let poisoned = delivery.body["user_id"] == "auth0|alice" && delivery.body["amount"] == 2;
            Reply::status(if poisoned { 500 } else { 200 })
        });
        let hook = endpoint(app, &receiver.url("/hook"), &[EventType::CreditConsumed], &[]).await;
        spend(&app.alice, 1..=5).await;
        spend(&app.bob, 1..=5).await;
        let kept = kept_when(app, hook, |kept| {
            kept.len() == 10 && kept.iter().filter(|kept| kept.status == "delivered").count() == 6
        })
        .await;
        let waiting: Vec<(i64, bool)> = kept
            .iter()
            .filter(|kept| kept.status == "pending")
            .map(|kept| (kept.attempts, kept.next.is_some()))
            .collect();
        assert_eq!(waiting, [(1, true), (0, false), (0, false), (0, false)]);

        receiver.answer(|_| Reply::status(200));
        app.advance(Duration::from_secs(7));
        kept_when(app, hook, |kept| kept.iter().all(|kept| kept.status == "delivered")).await;
        let mut of_users: HashMap<String, Vec<Delivery>> = HashMap::new();
        for delivery in receiver.came() {
            of_users.entry(delivery.body["user_id"].to_string()).or_default().push(delivery);
        }
        assert_eq!(amounts(&of_users["\"auth0|alice\""]), [1, 2, 2, 3, 4, 5]);
        assert_eq!(amounts(&of_users["\"auth0|bob\""]), [1, 2, 3, 4, 5]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_told_of_the_types_and_users_that_it_asks_for() {
    with_settings(&[PRIVATE], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        let consumed = &[EventType::CreditConsumed];
        endpoint(app, &receiver.url("/bob"), consumed, &["auth0|bob"]).await;
        endpoint(app, &receiver.url("/granted"), &[EventType::CreditGranted], &[]).await;
        endpoint(app, &receiver.url("/all"), consumed, &[]).await;
        spend(&app.alice, 1..=3).await;
        spend(&app.bob, 4..=6).await;
        receiver.wait_for("/all", 6).await;
        assert_eq!(amounts(&receiver.wait_for("/bob", 3).await), [4, 5, 6]);
        assert!(receiver.came_to("/granted").is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_never_answers_delays_no_other() {
    with_settings(&[PRIVATE, ("WEBHOOK_TIMEOUT_SECONDS", "1")], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        receiver.answer(|delivery| match delivery.path.as_str() {
            "/dead" => Reply::never(),
            "/cut" => Reply::status(0),
            _ => Reply::status(200),
        });
        let consumed = &[EventType::CreditConsumed];
        let dead = endpoint(app, &receiver.url("/dead"), consumed, &[]).await;
        let cut = endpoint(app, &receiver.url("/cut"), consumed, &[]).await;
        let none = endpoint(app, "http://127.0.0.1:9/none", consumed, &[]).await;
        endpoint(app, &receiver.url("/fast"), consumed, &[]).await;
        spend(&app.alice, 1..=30).await;
        assert_eq!(amounts(&receiver.wait_for("/fast", 30).await), (1..=30).collect::<Vec<_>>());
        for (hook, error) in [
            (dead, "no answer within 1 s"),
            (cut, "the connection broke: connection closed before message completed"),
            (none, "the connection was refused"),
        ] {
            let kept = kept_when(app, hook, |kept| kept.first().is_some_and(|kept| kept.attempts > 0)).await;
            assert_eq!(kept[0].log[0]["error"], json!(error));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_is_disabled_and_the_others_are_told() {
    with_settings(&[PRIVATE], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        receiver.answer(|delivery| Reply::status(if delivery.path == "/gone" { 410 } else { 200 }));
        let gone = endpoint(app, &receiver.url("/gone"), &[EventType::CreditConsumed], &[]).await;
        endpoint(app, &receiver.url("/watch"), &[EventType::AlertWebhookDisabled], &[]).await;
        spend(&app.alice, 1..=3).await;
        let told = receiver.wait_for("/watch", 1).await.remove(0);
        assert_eq!(told.body["type"], json!("alert.webhook_disabled"));
        assert_eq!(told.body["reason"], json!("gone"));
        assert_eq!(told.body["user_id"], Value::Null);
        assert_eq!(status(app, gone).await, "disabled gone");
        assert_eq!(receiver.came_to("/gone").len(), 1);
        let rows = kept(app, gone).await;
        assert_eq!(rows[0].log[0]["error"], json!("the endpoint is gone (410)"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_for_five_days_is_disabled() {
    with_settings(
        &[PRIVATE, ("WEBHOOK_RETRY_SCHEDULE", "12h 12h 12h 12h 12h 12h 12h 12h 12h 12h 12h 12h")],
        async |app| {
            let receiver = Receiver::start().await;
            users(app).await;
            receiver.answer(|_| Reply::status(503));
            let hook = endpoint(app, &receiver.url("/hook"), &[EventType::CreditConsumed], &[]).await;
            endpoint(app, &receiver.url("/watch"), &[EventType::AlertWebhookDisabled], &[]).await;
            spend(&app.alice, 1..=1).await;
            for day in 1..=5 {
                let attempts = usize::try_from(day).expect("few");
                receiver.wait_for("/hook", attempts).await;
                kept_when(app, hook, |kept| kept.first().is_some_and(|kept| kept.attempts == day)).await;
                assert_eq!(status(app, hook).await, "enabled -");
                app.advance(DAY);
            }
            status_becomes(app, hook, "disabled failing").await;
            let before = receiver.came_to("/hook").len();
            app.advance(DAY);
            spend(&app.alice, 2..=2).await;
            assert_eq!(receiver.came_to("/hook").len(), before);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_again_is_sent_again() {
    with_settings(&[PRIVATE], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        let hook = endpoint(app, &receiver.url("/hook"), &[EventType::CreditConsumed], &[]).await;
        spend(&app.alice, 1..=3).await;
        receiver.wait_for("/hook", 3).await;
        let rows = kept_when(app, hook, |kept| kept.len() == 3).await;
        // As the routes for it do: the row is pending again, and the endpoint has another revision.
        let again = Statement::one(
            "UPDATE webhook_deliveries SET status = 'pending', next_attempt_at = NULL WHERE endpoint = $1 AND event_id = $2",
            vec![hook.into(), rows[1].event.into()],
        );
        let turned =
            Statement::one("UPDATE webhook_endpoints SET revision = revision + 1 WHERE id = $1", vec![hook.into()]);
        edit(app, vec![again, turned]).await;
        let came = receiver.wait_for("/hook", 4).await;
        assert_eq!((came[3].id(), &came[3].text), (came[1].id(), &came[1].text));
        let rows = kept_when(app, hook, |kept| kept.iter().all(|kept| kept.status == "delivered")).await;
        assert_eq!((rows[1].attempts, rows[1].log.as_array().map(Vec::len)), (2, Some(2)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_rotated_signs_beside_the_new_one() {
    with_settings(&[PRIVATE], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        let hook = endpoint(app, &receiver.url("/hook"), &[EventType::CreditConsumed], &[]).await;
        let until = app.now().plus(Duration::from_secs(60)).micros();
        let old = "UPDATE webhook_secrets SET expires_at = $2 WHERE endpoint = $1";
        let new =
            "INSERT INTO webhook_secrets (endpoint, kind, secret, created_at) VALUES ($1, 'v1', $2, $3)";
        let turned = "UPDATE webhook_endpoints SET revision = revision + 1 WHERE id = $1";
        let secret = user_service::db::Value::Bytes(b"another secret of some length".to_vec());
        edit(
            app,
            vec![
                Statement::one(old, vec![hook.into(), until.into()]),
                Statement::one(new, vec![hook.into(), secret, app.now().micros().into()]),
                Statement::one(turned, vec![hook.into()]),
            ],
        )
        .await;
        // The sender hears of it within a second.
        let mut amount = 0;
        let both = loop {
            amount += 1;
            spend(&app.alice, amount..=amount).await;
            let came = receiver.wait_for("/hook", amount as usize).await;
            let signature =
                came[amount as usize - 1].header("webhook-signature").expect("a signature").to_owned();
            if signature.split(' ').count() == 2 {
                break came[amount as usize - 1].clone();
            }
        };
        for secret in [SECRET, b"another secret of some length"] {
            let webhook = Webhook::from_bytes(secret.to_vec()).expect("a secret");
            let at: i64 = both.header("webhook-timestamp").and_then(|at| at.parse().ok()).expect("a time");
            let signed = webhook.sign(both.id(), at, both.text.as_bytes()).expect("a signature");
            assert!(
                both.header("webhook-signature").is_some_and(|all| all.split(' ').any(|one| one == signed))
            );
        }
        app.advance(Duration::from_secs(61));
        spend(&app.alice, 90..=90).await;
        let came = receiver.wait_for("/hook", amount as usize + 1).await;
        let last = came.last().expect("the last one");
        assert_eq!(last.header("webhook-signature").map(|all| all.split(' ').count()), Some(1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_to_an_address_that_is_not_public() {
    with_settings(&[], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        let port = receiver.url("").rsplit(':').next().expect("a port").to_owned();
        let consumed = &[EventType::CreditConsumed];
        let mut hooks = Vec::new();
        for host in [
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0x7f.1",
            "2130706433",
            "169.254.169.254",
        ] {
            hooks.push(endpoint(app, &format!("https://{host}:{port}/hook"), consumed, &[]).await);
        }
        let plain = endpoint(app, &format!("http://example.com:{port}/hook"), consumed, &[]).await;
        spend(&app.alice, 1..=1).await;
        for hook in hooks {
            let kept = kept_when(app, hook, |kept| kept.len() == 1).await;
            assert_eq!(kept[0].log[0]["error"], json!("the address is not public"));
        }
        let kept = kept_when(app, plain, |kept| kept.len() == 1).await;
        assert_eq!(kept[0].log[0]["error"], json!("only https is sent to"));
        assert!(receiver.came().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_events_go_with_what_became_of_them() {
    with_settings(&[PRIVATE, ("WEBHOOK_RETENTION_DAYS", "7")], async |app| {
        let receiver = Receiver::start().await;
        users(app).await;
        let hook = endpoint(app, &receiver.url("/hook"), &[EventType::CreditConsumed], &[]).await;
        spend(&app.alice, 1..=3).await;
        kept_when(app, hook, |kept| kept.len() == 3).await;
        app.advance(6 * DAY);
        spend(&app.alice, 4..=4).await;
        kept_when(app, hook, |kept| kept.len() == 4).await;
        app.advance(2 * DAY);
        // The cursor is written within seconds.
        for _ in 0..200 {
            app.sweep().await;
            if kept(app, hook).await.len() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let rows = kept(app, hook).await;
        assert_eq!(rows.len(), 1, "{rows:#?}");
        let events: Vec<i64> =
            app.inside().db.query("SELECT id FROM webhook_events", vec![]).await.expect("a read");
        assert_eq!(events, [rows[0].event]);
    })
    .await;
}
