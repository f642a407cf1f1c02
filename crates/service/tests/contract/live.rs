//! The live tail: what is written arrives, in order and once, whoever writes and however often one comes back.

use crate::support::{NOW, column, masked};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::{Actor, Engine, Event, TestApp, both_engines};

/// How long something may take that nothing else tells of.
const PLENTY: Duration = Duration::from_secs(30);

/// Begins a session; gives the path of its things.
async fn session(actor: &Actor) -> String {
    actor.ensure().await;
    let made = actor.post(&actor.own("/sessions"), json!({})).await.ok();
    format!("/api/v1/sessions/{}", made["session_id"].as_str().expect("an id"))
}

async fn say(actor: &Actor, session: &str, content: &str) -> Value {
    actor.post(&format!("{session}/messages"), json!({"role": "user", "content": content})).await.data()
}

async fn spend(actor: &Actor, amount: &str) -> Value {
    actor.post(&actor.own("/credits/consume"), json!({"amount": amount})).await.ok()
}

async fn use_model(actor: &Actor) {
    let record = json!({"event_type": "ai_chat", "credits_charged": 5.5, "cost_usd": "0.000000015", "tokens_used": 10});
    let _ = actor.post(&actor.own("/usage"), record).await.ok();
}

fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

fn contents(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.data["content"].as_str().expect("a message")).collect()
}

/// An event as the story tells it: its kind, its id, and its data.
fn told(event: &Event) -> (&str, &str, Value) {
    (&event.kind, &event.id, masked(event.data.clone()))
}

both_engines! {
    async fn messages_arrive_as_the_list_has_them(app: TestApp) {
        let session = session(&app.alice).await;
        let events = format!("{session}/events");
        let mut stream = app.alice.watch(&events).await;
        assert_eq!((stream.retry_ms, stream.last_id.as_str()), (Some(2000), "0"));
        for content in ["Hello", "line one\nline two\r\n\ndata: x", "你好 ✓"] {
            let written = say(&app.alice, &session, content).await;
            let event = stream.next().await.expect("an event");
            assert_eq!((event.kind.as_str(), event.data), ("message", written));
        }
        assert_eq!(stream.last_id, "3");
        let listed = app.alice.get(&format!("{session}/messages")).await.data();
        let again = app.alice.watch_after(&events, "0").await.take(3).await;
        assert_eq!(ids(&again), ["1", "2", "3"]);
        assert_eq!(Value::from_iter(again.into_iter().map(|event| event.data)), listed);
    }

    async fn a_stream_begins_with_now_or_after_the_last_event_that_arrived(app: TestApp) {
        let session = session(&app.alice).await;
        let events = format!("{session}/events");
        say(&app.alice, &session, "one").await;
        say(&app.alice, &session, "two").await;
        let mut fresh = app.alice.watch(&events).await;
        assert_eq!(fresh.last_id, "2", "who is cut off before the first event comes back to here");
        let mut after_one = app.alice.watch_after(&events, "1").await;
        let mut from_query = app.alice.watch(&format!("{events}?last_event_id=0")).await;
        // A browser that comes back sends the header beside the address that it was first given.
        let mut header_wins = app.alice.watch_after(&format!("{events}?last_event_id=0"), "2").await;
        // An id of another stream, or of nobody.
        let mut beyond = app.alice.watch_after(&events, "9223372036854775807").await;
        say(&app.backend, &session, "three").await;
        assert_eq!(contents(&fresh.take(1).await), ["three"]);
        assert_eq!(contents(&after_one.take(2).await), ["two", "three"]);
        assert_eq!(contents(&from_query.take(3).await), ["one", "two", "three"]);
        assert_eq!(contents(&header_wins.take(1).await), ["three"]);
        assert_eq!(contents(&beyond.take(1).await), ["three"]);
    }

    async fn two_hundred_messages_from_many_tasks_arrive_once_and_in_order(app: TestApp) {
        let session = session(&app.alice).await;
        let events = format!("{session}/events");
        let mut stream = app.alice.watch(&events).await;
        let writers: Vec<_> = (0..20).map(|task| {
            let (alice, session) = (app.alice.clone(), session.clone());
            tokio::spawn(async move {
                for n in 0..10 {
                    say(&alice, &session, &format!("{task}-{n}")).await;
                }
            })
        }).collect();
        let mut arrived = stream.take(70).await;
        // The connection breaks in the middle, and the client comes back with what it has.
        let last_id = arrived.last().expect("events").id.clone();
        drop(stream);
        let mut stream = app.alice.watch_after(&events, &last_id).await;
        arrived.extend(stream.take(130).await);
        for writer in writers {
            writer.await.expect("it wrote");
        }
        let wanted: Vec<String> = (1..=200).map(|seq| seq.to_string()).collect();
        assert_eq!(ids(&arrived), wanted);
        let listed = app.alice.get(&format!("{session}/messages?limit=1000")).await.data();
        assert_eq!(column(&listed, "id"), arrived.iter().map(|event| event.data["id"].clone()).collect::<Vec<_>>());
    }

    async fn whoever_was_away_for_long_gets_everything_page_by_page(app: TestApp) {
        let session = session(&app.alice).await;
        // More than one page by number, and more than one by bytes.
        let text = "x".repeat(50_000);
        let messages: Vec<Value> = (0..50).map(|_| json!({"role": "assistant", "content": text})).collect();
        for _ in 0..5 {
            let _ = app.alice.post(&format!("{session}/messages/batch"), json!({"messages": messages})).await.ok();
        }
        let mut stream = app.alice.watch_after(&format!("{session}/events"), "10").await;
        let arrived = stream.take(240).await;
        assert_eq!(ids(&arrived), (11..=250).map(|seq: i32| seq.to_string()).collect::<Vec<_>>());
        say(&app.alice, &session, "back").await;
        assert_eq!(contents(&stream.take(1).await), ["back"]);
    }

    async fn a_user_sees_how_things_stand_and_then_what_happens(app: TestApp) {
        app.alice.ensure().await;
        let mut stream = app.alice.watch(&app.alice.own("/events")).await;
        assert_eq!(stream.last_id, "", "who is cut off here begins anew");
        let first = stream.take(2).await;
        assert_eq!(told(&first[0]), ("balance", "", json!({"user_id": "auth0|alice", "available": 1000, "balance": 1000})));
        let usage = |records: i64, credits: Value, cost: Value, tokens: i64| json!({
            "user_id": "auth0|alice", "total_records": records, "total_credits_charged": credits,
            "total_cost_usd": cost, "total_tokens_used": tokens,
        });
        assert_eq!(told(&first[1]), ("usage", "1-0", usage(0, json!(0), json!(0), 0)));

        spend(&app.alice, "25.5").await;
        let transaction = |seq: i64, kind: &str, amount: f64, after: f64| json!({
            "user_id": "auth0|alice", "available": after, "balance": after, "transaction_id": format!("txn_<row>_{seq}"),
            "transaction_type": kind, "amount": amount, "balance_after": after, "created_at": NOW,
        });
        assert_eq!(told(&stream.take(1).await[0]), ("balance", "2-0", transaction(2, "consume", 25.5, 974.5)));
        use_model(&app.alice).await;
        assert_eq!(told(&stream.take(1).await[0]), ("usage", "2-1", usage(1, json!(5.5), json!(0.000_000_015), 10)));
        let _ = app.backend.post(&app.alice.own("/credits/recharge"), json!({"amount": 0.000_001})).await.ok();
        let recharged = stream.take(1).await;
        assert_eq!(told(&recharged[0]), ("balance", "3-1", transaction(3, "recharge", 0.000_001, 974.500_001)));
        use_model(&app.alice).await;
        assert_eq!(told(&stream.take(1).await[0]), ("usage", "3-2", usage(2, json!(11), json!(0.000_000_03), 20)));
    }

    async fn what_a_user_missed_comes_one_by_one_and_no_more(app: TestApp) {
        app.alice.ensure().await;
        let events = app.alice.own("/events");
        spend(&app.alice, "1").await;
        use_model(&app.alice).await;
        let mut stream = app.alice.watch(&events).await;
        stream.take(2).await;
        let last_id = stream.last_id.clone();
        assert_eq!(last_id, "2-1");
        drop(stream);
        for _ in 0..3 {
            spend(&app.alice, "2").await;
        }
        let mut missed = app.alice.watch_after(&events, &last_id).await;
        let three = missed.take(3).await;
        assert_eq!(ids(&three), ["3-1", "4-1", "5-1"]);
        let available: Vec<_> = three.iter().map(|event| event.data["available"].clone()).collect();
        assert_eq!(available, [Value::Null, Value::Null, json!(993)], "what was available then is nobody's business now");
        assert_eq!(three.iter().map(|event| event.data["balance"].clone()).collect::<Vec<_>>(), [997, 995, 993]);
        use_model(&app.alice).await;
        use_model(&app.alice).await;
        // The two may be seen one by one or together, but the last word is right.
        let mut total = json!(1);
        while total != 3 {
            let event = missed.take(1).await.remove(0);
            assert_eq!(event.kind, "usage");
            total = event.data["total_records"].clone();
        }
        assert_eq!(missed.last_id, "5-3");
        // Nothing that was seen comes again: the next event is the next thing that happens.
        let mut resumed = app.alice.watch_after(&events, "5-3").await;
        let mut moved = app.alice.watch(&format!("{events}?last_event_id=4-2")).await;
        spend(&app.alice, "3").await;
        assert_eq!(ids(&resumed.take(1).await), ["6-3"]);
        assert_eq!(ids(&moved.take(2).await)[0], "5-2");
        // More than a page of entries.
        for _ in 0..6 {
            let spending = (0..25).map(|_| {
                let alice = app.alice.clone();
                tokio::spawn(async move { spend(&alice, "0.01").await })
            });
            for one in spending.collect::<Vec<_>>() {
                one.await.expect("spent");
            }
        }
        let all = app.alice.watch_after(&events, "0-3").await.take(156).await;
        assert_eq!(ids(&all), (1..=156).map(|seq| format!("{seq}-3")).collect::<Vec<_>>());
        assert!(all[..155].iter().all(|event| event.data.get("available").is_none()));
        assert_eq!(all[155].data["available"], 988.5);
    }

    async fn who_may_not_or_asks_wrongly_gets_no_stream(app: TestApp) {
        let session = session(&app.alice).await;
        app.bob.ensure().await;
        let (of_session, of_user) = (format!("{session}/events"), app.alice.own("/events"));
        for path in [&of_session, &of_user] {
            assert_eq!(app.anon.get(path).await.status, 401);
            assert_eq!(app.bob.get(path).await.with(403)["error_code"], "AuthorizationException");
            assert_eq!(app.admin.get(path).await.status, 200);
            assert_eq!(app.backend.get(path).await.status, 200);
        }
        app.alice.get("/api/v1/sessions/nothing/events").await
            .refuses(404, "SessionNotFoundException", "Session not found: nothing");
        app.backend.get("/api/v1/users/nobody/events").await
            .refuses(404, "UserNotFoundException", "User not found: nobody");
        for (path, bad, rule) in [
            (&of_session, &["", "x", "-1", "1.5", "+1", "1-2", "9223372036854775808"][..], "a whole number"),
            (&of_user, &["", "1", "1-", "x-1", "1--1", "1-2-3"][..], "two whole numbers"),
        ] {
            for id in bad {
                app.alice.request(reqwest::Method::GET, path).header("last-event-id", id).send().await
                    .refuses_field(&["header", "Last-Event-ID"], rule);
                let escaped = id.replace('+', "%2B");
                app.alice.get(&format!("{path}?last_event_id={escaped}")).await
                    .refuses_field(&["query", "last_event_id"], rule);
            }
        }
    }

    async fn what_is_deleted_ends_its_streams(app: TestApp) {
        let first = session(&app.alice).await;
        let second = session(&app.alice).await;
        let mut of_first = app.alice.watch(&format!("{first}/events")).await;
        let mut of_second = app.alice.watch(&format!("{second}/events")).await;
        let mut of_user = app.alice.watch(&app.alice.own("/events")).await;
        of_user.take(2).await;
        say(&app.alice, &first, "the last word").await;
        let began = Instant::now();
        let _ = app.alice.delete(&first).await.ok();
        let rest = of_first.rest().await;
        let (deleted, before) = rest.split_last().expect("an event");
        assert!(before.is_empty() || contents(before) == ["the last word"]);
        let id = first.rsplit('/').next().expect("an id");
        assert_eq!((deleted.kind.as_str(), &deleted.data), ("deleted", &json!({"session_id": id})));
        app.alice.get(&format!("{first}/events")).await.refuses(404, "SessionNotFoundException", &format!("Session not found: {id}"));

        say(&app.alice, &second, "still here").await;
        assert_eq!(contents(&of_second.take(1).await), ["still here"]);
        let _ = app.alice.delete(&app.alice.own("")).await.ok();
        assert_eq!(of_second.rest().await.last().map(|event| event.kind.as_str()), Some("deleted"));
        let last = of_user.rest().await.pop().expect("an event");
        assert_eq!((last.kind.as_str(), last.data), ("deleted", json!({"user_id": "auth0|alice"})));
        assert!(began.elapsed() < Duration::from_secs(10), "at once, not at a heartbeat: {:?}", began.elapsed());
    }

    async fn a_user_has_twenty_streams_and_a_closed_one_makes_room(app: TestApp) {
        let session = session(&app.alice).await;
        app.bob.ensure().await;
        let mut streams = Vec::new();
        for n in 0..20 {
            let path = if n % 2 == 0 { app.alice.own("/events") } else { format!("{session}/events") };
            streams.push(app.alice.watch(&path).await);
        }
        let refused = app.backend.get(&app.alice.own("/events")).await;
        refused.refuses(
            429,
            "RateLimitExceededException",
            "At most 20 event streams of one user may be open; close one and try again",
        );
        assert_eq!(refused.header("retry-after"), Some("5"));
        drop(app.bob.watch(&app.bob.own("/events")).await);
        streams.pop();
        let until = Instant::now() + PLENTY;
        while app.alice.get(&app.alice.own("/events")).await.status == 429 {
            assert!(Instant::now() < until, "the place of the closed stream stays taken");
            tokio::task::yield_now().await;
        }
    }
}

/// Stops a service with open streams, some of which have never been read.
async fn stops_at_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    let session = session(&app.alice).await;
    let mut of_session = app.alice.watch(&format!("{session}/events")).await;
    let mut of_user = app.alice.watch(&app.alice.own("/events")).await;
    of_user.take(2).await;
    let _unread = app.alice.watch(&app.alice.own("/events")).await;
    say(&app.alice, &session, "the last word").await;
    let began = Instant::now();
    app.finish().await;
    assert!(began.elapsed() < Duration::from_secs(8), "the grace is 10 s: {:?}", began.elapsed());
    let last = of_session.rest().await;
    assert!(last.is_empty() || contents(&last) == ["the last word"]);
    assert!(of_user.rest().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_every_stream_at_once_on_sqlite() {
    stops_at_once(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_every_stream_at_once_on_postgres() {
    stops_at_once(Engine::Postgres).await;
}
