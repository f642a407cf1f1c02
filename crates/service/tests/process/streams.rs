//! A thousand streams that die half-way: each is charged what it last ticked, and nothing else.
//!
//! A stream is a hold with `capture_ticked` whose client says what the work has cost so far. Some clients
//! are cut off with a tick on its way, and once the service itself is killed under all of them. A tick that
//! was answered counts; one that was on its way when its client or the service died may have arrived.

use crate::caller::Caller;
use crate::{PROGRAM, verify_ledger};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::process::Place;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

either_engine!(a_thousand_streams_die_half_way);

const USERS: usize = 50;
const STREAMS: usize = 1_000;
/// How many requests are under way at once.
const TOGETHER: usize = 128;
/// How long a hold lives without a tick; it ends by itself, with nobody there.
const LIFE: u32 = 3;
/// What each user is given: plenty.
const WELCOME: i64 = 1_000;

/// What the clients share.
struct Shared {
    /// Where the service is; nowhere while it is gone.
    target: Mutex<Option<SocketAddr>>,
    room: Semaphore,
    acknowledged: AtomicUsize,
}

impl Shared {
    fn target(&self) -> Option<SocketAddr> {
        *self.target.lock().expect("lock")
    }
}

/// One stream, and what its client knows. Amounts are quarters of a credit.
struct Stream {
    path: String,
    seed: u64,
    acknowledged: i64,
    doubt: Option<i64>,
}

impl Stream {
    /// Small numbers that are the same in every run.
    fn roll(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// Ticks until its client dies: at a random tick, with the request on its way or just answered.
    async fn run(mut self, shared: Arc<Shared>, caller: Caller) -> Self {
        let ticks = 1 + self.roll(8);
        let mut total = 0;
        for tick in 0..ticks {
            total += 1 + i64::try_from(self.roll(6)).expect("small");
            self.doubt = Some(total);
            // The last tick of every other stream is cut off before its answer.
            let cut =
                (tick + 1 == ticks && self.roll(2) == 0).then(|| Duration::from_micros(self.roll(4_000)));
            if !self.tick(&shared, &caller, total, cut).await {
                return self;
            }
        }
        self
    }

    /// Sends a tick until it is answered; says whether the client lives on.
    async fn tick(&mut self, shared: &Shared, caller: &Caller, total: i64, cut: Option<Duration>) -> bool {
        let body = json!({"amount": quarters(total), "expires_in": LIFE});
        for _ in 0..400 {
            let Some(target) = shared.target() else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let _room = shared.room.acquire().await.expect("open");
            let asked = caller.post(target, &self.path, &body, None);
            let answer = match cut {
                // Dropping the request closes its connection.
                Some(cut) => match tokio::time::timeout(cut, asked).await {
                    Ok(answer) => answer,
                    Err(_) => return false,
                },
                None => asked.await,
            };
            match answer {
                Ok(answer) if answer.status == 200 => {
                    shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                    (self.acknowledged, self.doubt) = (total, None);
                    return true;
                }
                // It came back too late: the hold has ended.
                Ok(answer) if answer.status == 409 => return false,
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.body),
                // The service died under it; half of the clients die with it.
                Err(_) if self.roll(2) == 0 => return false,
                Err(_) => {}
            }
        }
        false
    }
}

/// Quarters of a credit as an exact literal.
fn quarters(n: i64) -> String {
    format!("{}.{:02}", n / 4, n % 4 * 25)
}

/// A number of quarters from an answer.
fn read_quarters(value: &Value) -> i64 {
    let quarters = value.as_f64().expect("a number") * 4.0;
    assert_eq!(quarters.fract(), 0.0, "{value}");
    quarters as i64
}

fn user(stream: usize) -> String {
    format!("user-{}", stream % USERS)
}

/// Makes the users and their holds.
async fn begin(target: SocketAddr, caller: &Caller) -> Vec<Stream> {
    for n in 0..USERS {
        caller.ensure(target, &user(n)).await;
    }
    let mut opening = JoinSet::new();
    let room = Arc::new(Semaphore::new(TOGETHER));
    for n in 0..STREAMS {
        let (caller, room) = (caller.clone(), Arc::clone(&room));
        opening.spawn(async move {
            let _room = room.acquire().await.expect("open");
            let path = format!("/api/v1/users/{}/credits/holds", user(n));
            // Long enough for all to be opened; the first tick says how long it lives from then on.
            let body = json!({"amount": 3, "expires_in": 30, "on_expiry": "capture_ticked"});
            let made = caller.post(target, &path, &body, None).await.expect("an answer");
            assert_eq!(made.status, 200, "{}", made.body);
            let path = format!("{path}/{}/tick", made.body["hold_id"].as_str().expect("an id"));
            Stream { path, seed: n as u64 * 7_919 + 1, acknowledged: 0, doubt: None }
        });
    }
    opening.join_all().await
}

/// Waits until no hold is open any more, which nobody but time brings about.
async fn all_ended(target: SocketAddr, caller: &Caller) {
    let until = Instant::now() + Duration::from_secs(60);
    for n in 0..USERS {
        let path = format!("/api/v1/users/{}/credits/holds?status=open&limit=1000", user(n));
        loop {
            let open =
                caller.get(target, &path).await.expect("an answer").body["data"].as_array().map(Vec::len);
            if open == Some(0) {
                break;
            }
            assert!(Instant::now() < until, "{open:?} holds of {} do not end", user(n));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn a_thousand_streams_die_half_way(place: Place) {
    let settings = [("WELCOME_CREDITS", "1000")];
    let service = PROGRAM.start(&place, &settings).await;
    let caller = Caller::new();
    let streams = begin(service.address, &caller).await;
    let shared = Arc::new(Shared {
        target: Mutex::new(Some(service.address)),
        room: Semaphore::new(TOGETHER),
        acknowledged: AtomicUsize::new(0),
    });
    let mut running = JoinSet::new();
    for stream in streams {
        running.spawn(stream.run(Arc::clone(&shared), caller.clone()));
    }

    // In the middle of it the service is killed, and comes back.
    let until = Instant::now() + Duration::from_secs(60);
    while shared.acknowledged.load(Ordering::Relaxed) < STREAMS {
        assert!(Instant::now() < until && !running.is_empty(), "the streams stand still");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    *shared.target.lock().expect("lock") = None;
    service.kill();
    let service = PROGRAM.start(&place, &settings).await;
    *shared.target.lock().expect("lock") = Some(service.address);
    let streams = running.join_all().await;
    assert!(shared.acknowledged.load(Ordering::Relaxed) > STREAMS, "some went on after the kill");
    let doubtful = streams.iter().filter(|stream| stream.doubt.is_some()).count();
    assert!(doubtful > STREAMS / 10, "{doubtful} were cut off");

    all_ended(service.address, &caller).await;
    let mut charged = vec![0; USERS];
    let mut arrived = 0;
    for stream in &streams {
        let hold = stream.path.strip_suffix("/tick").expect("a tick's path");
        let data = &caller.get(service.address, hold).await.expect("an answer").body["data"];
        let captured = read_quarters(&data["captured"]);
        let known = captured == stream.acknowledged || Some(captured) == stream.doubt;
        assert!(known, "{hold}: {} or {:?} is due, {data}", stream.acknowledged, stream.doubt);
        arrived += usize::from(captured != stream.acknowledged);
        assert_eq!(data["status"], "expired");
        let owner = hold.split('/').nth(4).and_then(|name| name.strip_prefix("user-")?.parse::<usize>().ok());
        charged[owner.expect("a user")] += captured;
    }
    assert!(arrived < STREAMS / 2, "{arrived} of the ticks in doubt arrived");
    for (n, charged) in charged.iter().enumerate() {
        let left = caller.balance(service.address, &user(n)).await;
        assert_eq!(left * 4.0, (WELCOME * 4 - charged) as f64, "{} was charged nothing else", user(n));
    }
    let captures =
        place.value("SELECT COUNT(*) FROM credit_entries WHERE transaction_type = 'capture'").await;
    let wanted = place.value("SELECT COUNT(*) FROM credit_holds WHERE captured > 0").await;
    assert_eq!(captures, wanted, "one entry for each hold that is charged anything");
    assert_eq!(service.stop().await.code, Some(0));
    verify_ledger(&place).await;
}
