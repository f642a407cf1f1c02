//! Clients under way while the service is stopped, killed or cut from its database, and the
//! comparison of what they were told with what is stored.
//!
//! Every request has a tag of its own, which is stored with its effect. An answer of 200 is an
//! acknowledgement; no answer, or 503, leaves the request in doubt. Requests that may be sent
//! again (a key, a reference, an event) are, until they are acknowledged.

use crate::caller::{Answer, Caller};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::process::Place;
use tokio::task::JoinSet;

/// More than any load spends.
pub const PLENTY: (&str, &str) = ("WELCOME_CREDITS", "1000000000");
/// Whose accounts the clients use; most of them the first one.
const USERS: [&str; 3] = ["hot", "warm", "cold"];

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Consume,
    Usage,
    Recharge,
}

/// How a request is kept from having its effect twice, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Once {
    /// By `Idempotency-Key`.
    Key,
    /// By `reference_id` or `event_id`.
    Cause,
    /// Not at all: it is sent once.
    Nothing,
}

/// The kinds of request, in turn.
const KINDS: [(Act, Once); 6] = [
    (Act::Consume, Once::Key),
    (Act::Usage, Once::Key),
    (Act::Consume, Once::Nothing),
    (Act::Recharge, Once::Cause),
    (Act::Usage, Once::Nothing),
    (Act::Usage, Once::Cause),
];

/// A request, and what is known of it.
#[derive(Debug, Clone)]
struct Asked {
    tag: String,
    act: Act,
    once: Once,
    user: &'static str,
    /// The body of its 200.
    acknowledged: Option<Value>,
    /// How often it was sent.
    sent: usize,
}

impl Asked {
    fn new(client: usize, number: usize) -> Self {
        let (act, once) = KINDS[(client + number) % KINDS.len()];
        let user = USERS[if number.is_multiple_of(2) { 0 } else { client % USERS.len() }];
        Self { tag: format!("tag-{client}-{number}"), act, once, user, acknowledged: None, sent: 0 }
    }

    fn path(&self) -> String {
        let what = match self.act {
            Act::Consume => "credits/consume",
            Act::Usage => "usage",
            Act::Recharge => "credits/recharge",
        };
        format!("/api/v1/users/{}/{what}", self.user)
    }

    fn body(&self) -> Value {
        let mut body = match self.act {
            Act::Consume => json!({"amount": 1.5, "description": self.tag}),
            Act::Usage => json!({"event_type": "call", "trace_id": self.tag, "cost_usd": "0.000000015"}),
            Act::Recharge => json!({"amount": "0.25", "description": self.tag, "reference_id": self.tag}),
        };
        if self.act == Act::Usage && self.once == Once::Cause {
            body["event_id"] = json!(self.tag);
        }
        body
    }
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Vec<Asked>>,
}

#[derive(Default)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    unavailable: AtomicUsize,
    /// Answers that are neither 200 nor 503, and 503 without `Retry-After`.
    wrong: Mutex<Vec<String>>,
}

impl Shared {
    /// Sends it once; says whether it is acknowledged.
    async fn send(&self, caller: &Caller, asked: &mut Asked) -> bool {
        let Some(target) = *self.target.lock().expect("lock") else { return false };
        let key = (asked.once == Once::Key).then_some(asked.tag.as_str());
        asked.sent += 1;
        match caller.post(target, &asked.path(), &asked.body(), key).await {
            Ok(Answer { status: 200, body, .. }) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                asked.acknowledged = Some(body);
            }
            Ok(Answer { status: 503, retry_after: Some(_), .. }) => {
                self.unavailable.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => self.wrong.lock().expect("lock").push(format!("{}: {answer:?}", asked.tag)),
            Err(_) => {}
        }
        asked.acknowledged.is_some()
    }

    async fn client(self: Arc<Self>, client: usize) -> Vec<Asked> {
        let caller = Caller::new();
        let mut all: Vec<Asked> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let mut asked = Asked::new(client, all.len());
            while !self.send(&caller, &mut asked).await {
                if self.stop.load(Ordering::Relaxed) || (asked.sent > 0 && asked.once == Once::Nothing) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            all.push(asked);
        }
        all
    }
}

impl Load {
    /// Makes the users and lets the clients begin.
    pub async fn start(target: SocketAddr, clients: usize) -> Self {
        let caller = Caller::new();
        for user in USERS {
            caller.ensure(target, user).await;
        }
        let shared = Arc::new(Shared::default());
        *shared.target.lock().expect("lock") = Some(target);
        let clients = (0..clients).map(|client| Arc::clone(&shared).client(client)).collect();
        Self { shared, clients }
    }

    /// Where requests go from now on; nowhere while there is none.
    pub fn aim(&self, target: Option<SocketAddr>) {
        *self.shared.target.lock().expect("lock") = target;
    }

    /// How many requests were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// How many answers were 503 so far.
    pub fn unavailable(&self) -> usize {
        self.shared.unavailable.load(Ordering::Relaxed)
    }

    /// Waits until so many more are acknowledged.
    pub async fn progress(&self, more: usize) {
        let (wanted, until) = (self.acknowledged() + more, Instant::now() + Duration::from_secs(60));
        while self.acknowledged() < wanted {
            assert!(Instant::now() < until, "the load stands still: {:?}", self.shared.wrong);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends the clients; what is in doubt and may be sent again can be, by [`Told::settle`].
    pub async fn stop(self) -> Told {
        self.shared.stop.store(true, Ordering::Relaxed);
        let asked = self.clients.join_all().await.into_iter().flatten().collect();
        let wrong = self.shared.wrong.lock().expect("lock").clone();
        assert!(wrong.is_empty(), "answers that no client should see: {wrong:#?}");
        Told { asked, shared: self.shared }
    }
}

/// What the clients were told.
pub struct Told {
    asked: Vec<Asked>,
    shared: Arc<Shared>,
}

/// A stored effect: the row's key, and the balance after it where it has one.
type Stored = (String, Option<f64>);

impl Told {
    /// Sends again what is in doubt and may be sent again, until it is acknowledged.
    pub async fn settle(&mut self, target: SocketAddr) {
        let caller = Caller::new();
        *self.shared.target.lock().expect("lock") = Some(target);
        let open = self.asked.iter_mut().filter(|a| a.acknowledged.is_none() && a.once != Once::Nothing);
        for asked in open {
            assert!(self.shared.send(&caller, asked).await, "{} is not settled", asked.tag);
        }
    }

    /// Compares with what is stored; say first that nothing writes any more.
    pub async fn compare(&self, place: &Place) {
        let stored = stored(place).await;
        let mut doubtful = 0;
        for asked in &self.asked {
            let rows = stored.get(&asked.tag).map_or(&[][..], Vec::as_slice);
            match (&asked.acknowledged, asked.once) {
                (Some(answer), _) => {
                    assert_eq!(rows.len(), 1, "acknowledged, stored {} times: {asked:?}", rows.len());
                    assert_eq!(rows[0], told(asked.act, answer), "{asked:?}");
                }
                (None, Once::Nothing) => {
                    assert!(rows.len() <= 1, "stored twice: {asked:?}");
                    doubtful += 1;
                }
                (None, _) => assert_eq!(asked.sent, 0, "never settled: {asked:?}"),
            }
        }
        let known: HashMap<&str, ()> = self.asked.iter().map(|asked| (asked.tag.as_str(), ())).collect();
        assert!(stored.keys().all(|tag| known.contains_key(tag.as_str())), "stored and never asked for");
        let rolled =
            place.value("SELECT COALESCE(SUM(records), 0) FROM usage_rollups WHERE period = 'hour'").await;
        let usage = place.value("SELECT COUNT(*) FROM usage_records").await;
        assert_eq!(rolled, usage, "the roll-ups count what is there");
        let acknowledged = self.asked.iter().filter(|asked| asked.acknowledged.is_some()).count();
        assert!(acknowledged > doubtful, "{acknowledged} acknowledged, {doubtful} in doubt: no load at all");
    }
}

fn told(act: Act, answer: &Value) -> Stored {
    let data = &answer["data"];
    match act {
        Act::Usage => (data["id"].to_string(), None),
        Act::Consume | Act::Recharge => {
            let id = data["transaction_id"].as_str().unwrap_or_default().to_owned();
            (id, data["balance_after"].as_f64())
        }
    }
}

/// Every effect by its tag.
async fn stored(place: &Place) -> BTreeMap<String, Vec<Stored>> {
    let mut stored: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
    let entries = "SELECT description, user_id, seq, balance_after FROM credit_entries \
                   WHERE description LIKE 'tag-%'";
    for row in place.rows(entries).await {
        let balance = row[3].parse::<i64>().expect("an integer") as f64 / 1e6;
        let id = format!("txn_{}_{}", row[1], row[2]);
        stored.entry(row[0].clone()).or_default().push((id, Some(balance)));
    }
    for row in place.rows("SELECT trace_id, id FROM usage_records").await {
        stored.entry(row[0].clone()).or_default().push((row[1].clone(), None));
    }
    stored
}
