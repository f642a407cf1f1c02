//! Streams across processes on PostgreSQL: what one process writes arrives at a stream of another.

use crate::PROGRAM;
use crate::caller::Caller;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use testkit::Events;
use testkit::process::{Place, SERVICE_KEY};

/// Well under a heartbeat: what takes longer was not notified.
const PROMPT: Duration = Duration::from_secs(5);

async fn watch(at: SocketAddr, path: &str) -> Events {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.get(format!("http://{at}{path}")).header("x-api-key", SERVICE_KEY);
    Events::of(request.send().await.expect("an answer")).await
}

/// Two processes, a session of `ann`, and its streams on the first.
struct Scene {
    caller: Caller,
    writer: SocketAddr,
    session: String,
    messages: Events,
    activity: Events,
}

impl Scene {
    async fn of(reader: SocketAddr, writer: SocketAddr) -> Self {
        let caller = Caller::new();
        caller.ensure(writer, "ann").await;
        let made =
            caller.post(writer, "/api/v1/users/ann/sessions", &json!({}), None).await.expect("an answer");
        let session = format!("/api/v1/sessions/{}", made.body["session_id"].as_str().expect("an id"));
        let messages = watch(reader, &format!("{session}/events")).await;
        let mut activity = watch(reader, "/api/v1/users/ann/events").await;
        activity.take(2).await;
        Self { caller, writer, session, messages, activity }
    }

    async fn post(&self, path: &str, body: Value) {
        let answer = self.caller.post(self.writer, path, &body, None).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Writes through the other process, and says how long it took to arrive.
    async fn exchange(&mut self) -> Duration {
        let began = Instant::now();
        self.post(&format!("{}/messages", self.session), json!({"role": "user", "content": "Hello"})).await;
        let message = self.messages.next().await.expect("an event");
        assert_eq!((message.kind.as_str(), &message.data["content"]), ("message", &json!("Hello")));
        self.post("/api/v1/users/ann/credits/consume", json!({"amount": 1})).await;
        assert_eq!(self.activity.next().await.expect("an event").data["transaction_type"], "consume");
        self.post("/api/v1/users/ann/usage", json!({"event_type": "call"})).await;
        assert_eq!(self.activity.next().await.expect("an event").kind, "usage");
        began.elapsed()
    }
}

/// The server's processes that serve the listening connections of this database.
async fn listening(place: &Place) -> Vec<String> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
               AND application_name = 'user-service live'";
    place.rows(sql).await.into_iter().flatten().collect()
}

/// Waits until so many connections listen, none of which is one of `but`.
async fn until_listening(place: &Place, count: usize, but: &[String]) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let found = listening(place).await;
        if found.len() == count && !found.iter().any(|pid| but.contains(pid)) {
            return;
        }
        assert!(Instant::now() < until, "{found:?} listen");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_sees_at_once_what_another_process_writes() {
    let place = Place::postgres().await;
    let (reader, writer) = (PROGRAM.start(&place, &[]).await, PROGRAM.start(&place, &[]).await);
    until_listening(&place, 2, &[]).await;
    let mut scene = Scene::of(reader.address, writer.address).await;
    for _ in 0..5 {
        let took = scene.exchange().await;
        assert!(took < PROMPT, "{took:?}");
    }

    // The connections break: both sides come back by themselves.
    let before = listening(&place).await;
    assert_eq!(before.len(), 2);
    for pid in &before {
        place.value(&format!("SELECT pg_terminate_backend({pid})")).await;
    }
    // What is written meanwhile arrives too, and once: the ids of the messages have no gap.
    scene.exchange().await;
    until_listening(&place, 2, &before).await;
    scene.exchange().await;
    let took = scene.exchange().await;
    assert!(took < PROMPT, "{took:?}");
    assert_eq!(scene.messages.last_id, "8");

    // A deletion is told as well, and a stop ends what is open.
    let began = Instant::now();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = writer.url(&scene.session);
    let deleted = client.delete(url).header("x-api-key", SERVICE_KEY).send().await.expect("an answer");
    assert_eq!(deleted.status(), 200);
    assert_eq!(scene.messages.rest().await.pop().expect("an event").kind, "deleted");
    assert!(began.elapsed() < PROMPT);
    assert_eq!(reader.stop().await.code, Some(0));
    assert!(scene.activity.rest().await.is_empty());
    assert_eq!(writer.stop().await.code, Some(0));
}
