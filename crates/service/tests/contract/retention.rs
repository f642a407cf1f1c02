//! What is older than `RETENTION_*` goes, to the microsecond; what is younger stays, and so do all totals.

use crate::payments::shop::Shop;
use crate::support::{balance, column, session, with_settings};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::stripe::{Signer, WEBHOOK_SECRET, post};
use testkit::{Actor, Engine, TestApp, both_engines};
use user_service::retention::Walks;

const DAY: Duration = Duration::from_secs(86_400);
const MOMENT: Duration = Duration::from_micros(1);

/// How many rows a table has.
async fn rows(app: &TestApp, sql: &'static str) -> i64 {
    app.inside().db.query::<i64>(sql, vec![]).await.expect("a count")[0]
}

async fn say(actor: &Actor, path: &str, word: &str, count: usize) {
    let messages: Vec<Value> = (0..count)
        .map(|n| json!({"role": "user", "content": format!("{word} {n}"), "tokens_used": 2}))
        .collect();
    let _ = actor.post(&format!("{path}/messages/batch"), json!({"messages": messages})).await.ok();
}

async fn remember(actor: &Actor, path: &str, content: &str) {
    let _ = actor.post(&format!("{path}/memory"), json!({"content": content})).await.ok();
}

async fn contents(actor: &Actor, path: &str) -> Vec<Value> {
    column(&actor.get(path).await.data(), "content")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_messages_and_memories_go_and_the_totals_stay() {
    let settings = [("RETENTION_MESSAGES_DAYS", "10"), ("SESSION_DAYS", "0")];
    with_settings(&settings, async |app| {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let (path, other) = (session(&app.alice).await, session(&app.bob).await);
        say(&app.alice, &path, "old", 250).await;
        remember(&app.alice, &path, "old").await;
        app.advance(DAY * 5);
        say(&app.alice, &path, "young", 3).await;
        remember(&app.alice, &path, "young").await;
        say(&app.bob, &other, "other", 1).await;
        app.advance(DAY * 5);
        app.sweep().await;
        assert_eq!(
            contents(&app.alice, &format!("{path}/messages?limit=1000")).await.len(),
            253,
            "ten days are kept whole"
        );
        app.advance(MOMENT);
        // As two replicas would at once.
        let inside = app.inside();
        let (mut one, mut two) = (Walks::default(), Walks::default());
        let (one, two) = tokio::join!(one.sweep(&inside), two.sweep(&inside));
        one.and(two).expect("swept");
        drop(inside);
        let messages = format!("{path}/messages");
        assert_eq!(contents(&app.alice, &messages).await, ["young 0", "young 1", "young 2"]);
        assert_eq!(contents(&app.alice, &format!("{messages}?offset=1")).await, ["young 1", "young 2"]);
        assert_eq!(contents(&app.alice, &format!("{messages}?offset=3")).await.len(), 0);
        assert_eq!(
            contents(&app.alice, &format!("{messages}?order=desc&offset=1&limit=1")).await,
            ["young 1"]
        );
        assert_eq!(contents(&app.alice, &format!("{messages}?order=desc&offset=2")).await, ["young 0"]);
        assert_eq!(contents(&app.alice, &format!("{path}/memory")).await, ["young"]);
        let found =
            async |q: &str| app.alice.get(&app.alice.own(&format!("/messages/search?q={q}"))).await.data();
        assert_eq!(found("old").await, json!([]));
        assert_eq!(found("young").await.as_array().map(Vec::len), Some(3));
        let row = app.alice.get(&path).await.data();
        assert_eq!((&row["message_count"], &row["total_tokens"]), (&json!(253), &json!(506)));
        assert_eq!(contents(&app.bob, &format!("{other}/messages")).await, ["other 0"]);
        say(&app.alice, &path, "next", 1).await;
        let streamed = app.alice.watch_after(&format!("{path}/events"), "7").await.take(4).await;
        let ids: Vec<&str> = streamed.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids, ["251", "252", "253", "254"], "whoever comes back late goes on with what there is");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_go_does_so_much_and_the_next_one_goes_on() {
    let settings = [("RETENTION_MESSAGES_DAYS", "10"), ("SESSION_DAYS", "0")];
    with_settings(&settings, async |app| {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        for _ in 0..3 {
            say(&app.alice, &path, "old", 701).await;
        }
        app.advance(Duration::from_secs(600));
        say(&app.alice, &path, "later", 1).await;
        app.advance(DAY * 10 - Duration::from_secs(599));
        let (inside, mut walks) = (app.inside(), Walks::default());
        let left = "SELECT count(*) FROM messages";
        walks.sweep(&inside).await.expect("swept");
        assert_eq!(rows(app, left).await, 104, "20 times 100 in one go");
        walks.sweep(&inside).await.expect("swept");
        assert_eq!(rows(app, left).await, 1);
        app.advance(Duration::from_secs(3_599));
        walks.sweep(&inside).await.expect("swept");
        assert_eq!(rows(app, left).await, 1, "the walk rests for an hour");
        app.advance(Duration::from_secs(1));
        walks.sweep(&inside).await.expect("swept");
        assert_eq!(rows(app, left).await, 0);
        // A process that begins anew finds nothing to do, and nothing amiss.
        Walks::default().sweep(&inside).await.expect("swept");
        drop(inside);
        let row = app.alice.get(&path).await.data();
        assert_eq!((&row["message_count"], &row["total_tokens"]), (&json!(2104), &json!(4208)));
        say(&app.alice, &path, "next", 1).await;
        assert_eq!(contents(&app.alice, &format!("{path}/messages")).await, ["next 0"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_in_which_nothing_happens_are_deleted() {
    with_settings(&[("RETENTION_SESSIONS_DAYS", "10")], async |app| {
        app.alice.ensure().await;
        let (quiet, used) = (session(&app.alice).await, session(&app.alice).await);
        say(&app.alice, &quiet, "bye", 2).await;
        remember(&app.alice, &quiet, "bye").await;
        let id = quiet.rsplit('/').next().expect("an id");
        let record = json!({"event_type": "ai_chat", "session_id": id});
        let _ = app.alice.post(&app.alice.own("/usage"), record).await.ok();
        app.advance(DAY * 5);
        let _ = app.alice.patch(&used, json!({"title": "Still here"})).await.ok();
        app.advance(DAY * 5);
        app.sweep().await;
        let _ = app.alice.get(&quiet).await.ok();
        app.advance(MOMENT);
        app.sweep().await;
        let _ = app.alice.get(&quiet).await.with(404);
        let _ = app.alice.get(&used).await.ok();
        for table in [
            "SELECT count(*) FROM messages",
            "SELECT count(*) FROM session_memories",
            "SELECT count(*) FROM sessions WHERE deleted_at IS NOT NULL",
        ] {
            assert_eq!(rows(app, table).await, 0, "{table}");
        }
        assert_eq!(
            column(&app.alice.get(&app.alice.own("/usage")).await.data(), "session_id"),
            [id],
            "usage stays"
        );
        let _ =
            app.alice.post(&format!("{used}/messages"), json!({"role": "user", "content": "Hi"})).await.ok();
        app.advance(DAY * 10);
        app.sweep().await;
        let _ = app.alice.get(&used).await.ok();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_loses_its_objects_and_no_number() {
    let days = [("RETENTION_USAGE_CONTENT_DAYS", "10"), ("WELCOME_CREDITS_DAYS", "0")];
    with_settings(&days, async |app| {
        app.alice.ensure().await;
        let said = json!({"prompt": "Hello"});
        let record = |n: usize| json!({"user_id": "auth0|alice", "event_type": "ai_chat", "credits_charged": "0.000001", "cost_usd": "0.5",
            "tokens_used": n, "request_data": said, "event_id": format!("evt_{n}")});
        let records: Vec<Value> = (0..600).map(record).collect();
        let _ = app.backend.post("/api/v1/usage/batch", json!({"records": records})).await.ok();
        let charge = json!({"event_type": "image", "credits": 2.5, "response_data": said, "billing_metadata": said, "event_id": "paid"});
        let _ = app.backend.post(&app.alice.own("/charges"), charge.clone()).await.ok();
        app.advance(DAY * 5);
        let young = json!({"event_type": "ai_chat", "request_data": said, "created_at": "2020-01-01"});
        let _ = app.alice.post(&app.alice.own("/usage"), young).await.ok();
        let stats = app.alice.own("/usage/stats?start_date=2019-12-31T12:00:01Z");
        let before = (app.alice.get(&stats).await.data(), balance(&app.alice).await);
        let full = "SELECT count(*) FROM usage_records WHERE request_data <> '{}' OR response_data <> '{}' OR billing_metadata <> '{}'";
        app.advance(DAY * 5);
        app.sweep().await;
        assert_eq!(rows(app, full).await, 602, "ten days are kept whole");
        app.advance(MOMENT);
        app.sweep().await;
        assert_eq!(rows(app, full).await, 1, "what came lately stays, however long ago it happened");
        assert_eq!((app.alice.get(&stats).await.data(), balance(&app.alice).await), before);
        let listed = app.alice.get(&app.alice.own("/usage?event_type=image")).await.data();
        let kept = ["credits_charged", "request_data", "response_data", "billing_metadata"].map(|name| &listed[0][name]);
        assert_eq!(kept, [&json!(2.5), &json!({}), &json!({}), &json!({})]);
        let again = app.backend.post(&app.alice.own("/charges"), charge).await.data();
        assert_eq!((&again["duplicate"], &again["credits"]), (&json!(true), &json!(2.5)), "an event is charged once for ever");
        app.sweep().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_files_are_deleted() {
    with_settings(&[("RETENTION_FILES_DAYS", "10")], async |app| {
        app.alice.ensure().await;
        let old = app.alice.upload("old.txt", b"hello").await.data();
        app.advance(DAY * 5);
        let _ = app.alice.upload("young.txt", b"hello again").await.data();
        app.advance(DAY * 5);
        app.sweep().await;
        let files = app.alice.own("/files");
        assert_eq!(app.alice.get(&files).await.data().as_array().map(Vec::len), Some(2));
        app.advance(MOMENT);
        app.sweep().await;
        assert_eq!(column(&app.alice.get(&files).await.data(), "file_size"), [11]);
        let path = old["file_path"].as_str().expect("a path").replace('|', "%7C");
        let _ = app.alice.get(&app.alice.own(&format!("/files/info?file_path={path}"))).await.with(404);
        assert_eq!(rows(app, "SELECT count(*) FROM files").await, 1);
        assert_eq!(rows(app, "SELECT CAST(sum(bytes) AS BIGINT) FROM file_totals").await, 11);
        assert_eq!(crate::files::below(app, "files").len(), 1, "its bytes are gone");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_users_are_erased_and_until_then_they_may_come_back() {
    with_settings(&[("RETENTION_DELETED_USERS_DAYS", "10"), ("WELCOME_CREDITS_DAYS", "0")], async |app| {
        let carol = app.user("auth0|carol");
        for user in [&app.alice, &app.bob, &carol] {
            user.ensure().await;
            let _ = user.post(&user.own("/credits/consume"), json!({"amount": 100})).await.ok();
        }
        let _ = app.alice.delete(&app.alice.own("")).await.ok();
        let _ = app.bob.delete(&app.bob.own("")).await.ok();
        app.advance(DAY * 5);
        assert_eq!(app.bob.ensure().await["credits"], 900, "it comes back to its account");
        let _ = carol.delete(&carol.own("")).await.ok();
        app.advance(DAY * 5);
        app.sweep().await;
        let erased = "SELECT count(*) FROM users WHERE auth0_id LIKE 'erased:%'";
        assert_eq!(rows(app, erased).await, 0, "ten days are kept whole");
        app.advance(MOMENT);
        app.sweep().await;
        assert_eq!(rows(app, erased).await, 1);
        assert_eq!(
            rows(app, "SELECT count(*) FROM erasures WHERE requested_by = 'retention' AND status = 'done'")
                .await,
            1
        );
        assert_eq!(balance(&app.bob).await, 900);
        assert_eq!(carol.ensure().await["credits"], 900);
        let stranger = app.alice.ensure().await;
        assert_eq!(
            (&stranger["created"], &stranger["credits"]),
            (&json!(true), &json!(1000)),
            "nobody knows who it was"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_events_of_stripe_said_is_forgotten_and_that_they_came_is_not() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let shop = Shop::open_with(engine, &[("RETENTION_STRIPE_EVENTS_DAYS", "10")]).await;
        let event = |id: &str, user: &str| {
            json!({"id": id, "object": "event", "type": "payment_intent.succeeded", "created": 1_753_575_086, "livemode": false, "data": {
                "object": {"id": format!("pi_{id}"), "object": "payment_intent", "status": "succeeded", "amount": 1000, "amount_received": 1000,
                "currency": "usd", "customer": null, "metadata": {"user_id": user, "credits": "700.5"}}}}).to_string()
        };
        let send = async |body: String| {
            let header = Signer::header(&body, &[WEBHOOK_SECRET], shop.stripe.now());
            let (status, answer) = post(&shop.hook(), body, &header).await;
            assert_eq!(status, 200, "{answer}");
            answer["duplicate"].clone()
        };
        let body = event("evt_1", "auth0|alice");
        let _ = send(body.clone()).await;
        shop.settle().await;
        assert_eq!(balance(&shop.app.alice).await, 700.5);
        shop.days(10);
        shop.app.sweep().await;
        let full = "SELECT count(*) FROM stripe_events WHERE payload <> '{}'";
        assert_eq!(rows(&shop.app, full).await, 1);
        shop.app.advance(MOMENT);
        shop.app.sweep().await;
        assert_eq!(rows(&shop.app, full).await, 0);
        assert_eq!(send(body).await, true, "it is applied once for ever");
        let replay = shop.app.admin.post("/api/v1/admin/stripe/events/evt_1/replay", json!({})).await;
        replay.refuses(409, "ConflictException", "What the event evt_1 said is not kept any more");
        assert_eq!(shop.events("processed").await[0]["event_id"], "evt_1");
        shop.settle().await;
        assert_eq!(balance(&shop.app.alice).await, 700.5);
        shop.app.finish().await;
    }
}

both_engines! {
    async fn by_default_everything_stays(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        say(&app.alice, &path, "kept", 1).await;
        remember(&app.alice, &path, "kept").await;
        let _ = app.alice.post(&app.alice.own("/usage"), json!({"event_type": "x", "request_data": {"a": 1}})).await.ok();
        let _ = app.alice.upload("kept.txt", b"hello").await.data();
        app.advance(DAY * 4000);
        app.sweep().await;
        assert_eq!(contents(&app.alice, &format!("{path}/messages")).await, ["kept 0"]);
        assert_eq!(contents(&app.alice, &format!("{path}/memory")).await, ["kept"]);
        assert_eq!(column(&app.alice.get(&app.alice.own("/usage")).await.data(), "request_data"), [json!({"a": 1})]);
        assert_eq!(app.alice.get(&app.alice.own("/files")).await.data().as_array().map(Vec::len), Some(1));
    }
}
