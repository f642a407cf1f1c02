//! Ten endpoints, of which three are dead in different ways: the others have theirs as if there were no dead ones.

use super::{HASTE, arrived, deliveries, entries, register, subscribe};
use crate::PROGRAM;
use crate::caller::Caller;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use testkit::process::Place;
use testkit::standard_webhooks::{Library, Received, Receiver};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket};

either_engine!(three_dead_endpoints_delay_nobody);

const USERS: usize = 40;
const BATCHES: usize = 2;
const CHARGES: usize = 1000;
/// How late an event may be on a busy machine. Whoever had to wait for an endpoint that does not answer would be later by
/// the 15 seconds that it is given.
const LATE: Duration = Duration::from_secs(5);

/// An address where every connection is refused, for as long as the socket lives.
fn refusing() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    (socket.local_addr().expect("an address"), socket)
}

/// An address where requests are read and never answered.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut chunk = [0; 4096];
                while connection.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

async fn three_dead_endpoints_delay_nobody(place: Place) {
    let service = PROGRAM.start(&place, &HASTE).await;
    let to = service.address;
    let mut python = Receiver::start(Library::Python).await;
    let mut javascript = Receiver::start(Library::JavaScript).await;
    let (refusing, _socket) = refusing();
    let dead =
        [format!("http://{refusing}/"), format!("http://{}/", silent().await), javascript.url("/broken")];
    javascript.answer("/broken", 500).await;
    let mut ids = Vec::new();
    for url in &dead {
        ids.push(register(to, url, &["credit.*"]).await.0);
    }
    let (slow, quick) = (["/1", "/2"], ["/3", "/4", "/5", "/6", "/7"]);
    for path in slow {
        subscribe(to, &mut python, path, &["credit.*"]).await;
    }
    for path in quick {
        subscribe(to, &mut javascript, path, &["credit.*"]).await;
    }
    let caller = Caller::new();
    for user in 0..USERS {
        caller.ensure(to, &format!("user-{user}")).await;
    }

    let begun = Instant::now();
    for batch in 0..BATCHES {
        let charge = |number: usize| json!({"user_id": format!("user-{}", number % USERS), "event_type": "call", "credits": 1});
        let charges: Vec<Value> = (0..CHARGES).map(charge).collect();
        let answer = caller.post(to, "/api/v1/charges/batch", &json!({"charges": charges}), None).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.body["data"]["charged"], json!(CHARGES), "{batch}: {}", answer.status);
    }
    let entries = entries(&place).await;
    let receivers =
        slow.iter().map(|path| (&python, path)).chain(quick.iter().map(|path| (&javascript, path)));
    for (receiver, path) in receivers.clone() {
        let count = arrived(receiver, path, &entries).await;
        assert_eq!(count.again, 0, "{path}: nobody died, so nothing comes twice");
    }
    eprintln!("{} events to seven endpoints in {:?}", USERS + BATCHES * CHARGES, begun.elapsed());

    // One event at a time, while the dead ones have all of theirs before them.
    for number in 0..10 {
        let sent = Instant::now();
        let path = format!("/api/v1/users/user-{number}/credits/consume");
        let answer = caller.post(to, &path, &json!({"amount": 1}), None).await.expect("an answer");
        let id = answer.body["transaction_id"].clone();
        for (receiver, path) in receivers.clone() {
            let has = |all: &[Received]| {
                all.iter().rev().any(|one| one.path == *path && one.payload["data"]["transaction_id"] == id)
            };
            receiver.until(LATE, "an event comes at once", has).await;
        }
        assert!(sent.elapsed() < LATE, "{number}: {:?}", sent.elapsed());
    }
    for id in &ids {
        assert_eq!(deliveries(to, id, "?status=delivered").await, Vec::<Value>::new());
    }
    // Nor do they cost a row for each event.
    let rows = "SELECT COALESCE(MAX(n), 0) FROM (SELECT COUNT(*) AS n FROM webhook_deliveries WHERE status <> 'delivered' \
                GROUP BY endpoint) AS rows";
    let rows: usize = place.value(rows).await.parse().expect("a number");
    assert!(rows <= 1000, "{rows} rows of a dead endpoint");
    assert_eq!(service.stop().await.code, Some(0));
}
