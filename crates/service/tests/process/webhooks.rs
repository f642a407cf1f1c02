//! Webhooks out of the whole binary, received by the official libraries of Standard Webhooks.
//!
//! What is sent is compared with the ledger: every entry is one event, received at least once, each user's in the order of
//! its entries, and the same bytes each time.

use crate::caller::Caller;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::process::Place;
use testkit::standard_webhooks::{Received, Receiver};
use tokio::task::JoinSet;

mod crash;
mod dead;
mod guard;
mod libraries;
mod replicas;

/// A service whose receivers are on loopback, and for which an hour takes ten seconds.
const HASTE: [(&str, &str); 3] = [
    ("WEBHOOK_ALLOW_PRIVATE", "true"),
    ("WEBHOOK_RETRY_SCHEDULE", "14ms 83ms 333ms 833ms 2500ms 5s 10s 20s 40s 80s 120s 160s 240s"),
    ("WELCOME_CREDITS", "1000000"),
];
/// That hour.
const HOUR: Duration = Duration::from_secs(10);
/// How long everything may take to arrive at the end, on a busy machine: a killed replica's lease included.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(120);

/// Registers an endpoint; gives its id and its secret.
async fn register(to: SocketAddr, url: &str, event_types: &[&str]) -> (String, String) {
    let body = json!({"url": url, "event_types": event_types});
    let answer = Caller::new().post(to, "/api/v1/webhooks/endpoints", &body, None).await.expect("an answer");
    assert!(answer.status < 300, "{}: {}", answer.status, answer.body);
    let text =
        |name: &str| answer.body["data"][name].as_str().unwrap_or_else(|| panic!("{name}: {}", answer.body));
    (text("id").to_owned(), text("secret").to_owned())
}

/// Registers a path of a receiver, which verifies from then on; gives the endpoint's id.
async fn subscribe(to: SocketAddr, receiver: &mut Receiver, path: &str, event_types: &[&str]) -> String {
    let (id, secret) = register(to, &receiver.url(path), event_types).await;
    receiver.trust(path, &secret).await;
    id
}

/// Users who spend, each request once, until they are told to stop.
struct Spending {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    targets: Mutex<Vec<SocketAddr>>,
    stop: AtomicBool,
    acknowledged: AtomicUsize,
}

impl Spending {
    /// Makes the users; each spends a credit about every `pause`.
    async fn start(targets: &[SocketAddr], users: usize, pause: Duration) -> Self {
        let caller = Caller::new();
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        for user in 0..users {
            let user = format!("user-{user}");
            caller.ensure(targets[0], &user).await;
            clients.spawn(spend(caller.clone(), Arc::clone(&shared), user, pause));
        }
        let spending = Self { shared, clients };
        spending.aim(targets);
        spending
    }

    /// Where requests go from now on; nowhere while there is none.
    fn aim(&self, targets: &[SocketAddr]) {
        *self.shared.targets.lock().expect("lock") = targets.to_vec();
    }

    /// Waits until that many more requests were acknowledged.
    async fn progress(&self, more: usize) {
        let wanted = self.shared.acknowledged.load(Ordering::Relaxed) + more;
        let until = Instant::now() + Duration::from_secs(60);
        while self.shared.acknowledged.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < until, "nobody is answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it, with nothing under way.
    async fn stop(self) -> usize {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        self.shared.acknowledged.load(Ordering::Relaxed)
    }
}

/// Spends, and asks again with the same key until it is acknowledged.
async fn spend(caller: Caller, shared: Arc<Shared>, user: String, pause: Duration) {
    let path = format!("/api/v1/users/{user}/credits/consume");
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        number += 1;
        let (body, key) =
            (json!({"amount": 1, "description": format!("{number}")}), format!("{user}-{number}"));
        let mut asked = number;
        loop {
            let target = {
                let targets = shared.targets.lock().expect("lock");
                targets.get(asked % targets.len().max(1)).copied()
            };
            if let Some(target) = target
                && let Ok(answer) = caller.post(target, &path, &body, Some(&key)).await
                && answer.status == 200
            {
                break;
            }
            asked += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
}

/// Every user's entries in their order, as ids of transactions.
async fn entries(place: &Place) -> BTreeMap<String, Vec<String>> {
    let mut entries: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let sql = "SELECT u.auth0_id, e.user_id, e.seq FROM credit_entries e JOIN users u ON u.id = e.user_id \
               ORDER BY e.user_id, e.seq";
    for row in place.rows(sql).await {
        entries.entry(row[0].clone()).or_default().push(format!("txn_{}_{}", row[1], row[2]));
    }
    entries
}

/// How much of what was sent a path received, and how much of that again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    events: usize,
    again: usize,
}

/// Waits until a path has received an event for every entry, and compares the two.
async fn arrived(receiver: &Receiver, path: &str, entries: &BTreeMap<String, Vec<String>>) -> Count {
    let wanted: usize = entries.values().map(Vec::len).sum();
    let enough = |received: &[Received]| {
        // Counting ids is only worth it when there are enough.
        let here = received.iter().filter(|received| received.path == path);
        here.clone().count() >= wanted
            && here.map(|received| received.id.as_str()).collect::<std::collections::HashSet<_>>().len()
                >= wanted
    };
    receiver.until(ARRIVAL_LIMIT, &format!("{path} gets {wanted} events"), enough).await;
    compare(&receiver.received(), path, entries)
}

/// Compares what a path received with the entries of the ledger.
fn compare(received: &[Received], path: &str, entries: &BTreeMap<String, Vec<String>>) -> Count {
    let mut bodies: HashMap<&str, &str> = HashMap::new();
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last: HashMap<&str, i64> = HashMap::new();
    let mut again = 0;
    for received in received.iter().filter(|received| received.path == path) {
        if let Some(first) = bodies.insert(&received.id, &received.body) {
            assert_eq!(first, received.body, "the same id, another body");
            again += 1;
            continue;
        }
        assert_eq!(received.payload["id"], json!(received.id), "{}", received.body);
        let before = last.insert(received.user(), received.sequence());
        assert!(before.is_none_or(|before| before < received.sequence()), "out of order: {}", received.body);
        let id = received.payload["data"]["transaction_id"].as_str();
        let id = id.unwrap_or_else(|| panic!("no transaction: {}", received.body));
        told.entry(received.user().to_owned()).or_default().push(id.to_owned());
    }
    for (user, entries) in entries {
        let told = told.remove(user).unwrap_or_default();
        let differs = entries.iter().zip(&told).position(|(entry, told)| entry != told);
        let lengths = (entries.len(), told.len());
        assert!(
            differs.is_none() && lengths.0 == lengths.1,
            "{path}, {user}: {lengths:?} entries and events, which differ from {differs:?}: {:?}",
            differs.map(|at| (
                &entries[at.saturating_sub(2)..(at + 3).min(entries.len())],
                &told[at..(at + 3).min(told.len())]
            ))
        );
    }
    assert_eq!(told, BTreeMap::new(), "events of nothing in the ledger");
    Count { events: bodies.len(), again }
}

/// The deliveries that an endpoint lists.
async fn deliveries(to: SocketAddr, endpoint: &str, query: &str) -> Vec<Value> {
    let path = format!("/api/v1/webhooks/endpoints/{endpoint}/deliveries{query}");
    let answer = Caller::new().get(to, &path).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["data"].as_array().cloned().unwrap_or_else(|| panic!("a list: {}", answer.body))
}

/// The first delivery of an endpoint of which an attempt was made.
async fn attempted(to: SocketAddr, endpoint: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let found = deliveries(to, endpoint, "").await;
        if let Some(delivery) =
            found.iter().find(|one| one["attempts"].as_array().is_some_and(|all| !all.is_empty()))
        {
            return delivery.clone();
        }
        assert!(Instant::now() < until, "no attempt: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
