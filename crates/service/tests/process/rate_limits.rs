//! Rates that replicas limit together, and a Redis that hangs, dies and comes back.

use crate::caller::Caller;
use crate::{PROGRAM, verify_ledger};
use kernel::Clock;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::actors::{claims, sign};
use testkit::process::{JWT_SECRET, Place, Running};
use testkit::redis::RedisServer;
use tokio::task::JoinSet;

/// How many requests a user has here. In an hour, so that none comes back while the test runs.
const REQUESTS: usize = 50;
/// Requests that are sent at once to both replicas together.
const SENT: usize = 160;

fn settings(redis: &RedisServer) -> [(&'static str, String); 4] {
    [
        ("RATE_LIMIT_ENABLED", "true".to_owned()),
        ("RATE_LIMIT_WINDOW", "3600".to_owned()),
        ("RATE_LIMIT_REQUESTS", REQUESTS.to_string()),
        ("REDIS_URL", redis.url()),
    ]
}

async fn start(place: &Place, redis: &RedisServer) -> Running {
    let settings = settings(redis);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    PROGRAM.start(place, &settings).await
}

/// What health says of the limiter; health itself stays well.
async fn limiter(caller: &Caller, at: SocketAddr) -> String {
    let health = caller.get(at, "/health").await.expect("an answer");
    assert_eq!((health.status, &health.body["status"]), (200, &json!("healthy")));
    health.body["checks"]["rate_limiter"].as_str().expect("a word").to_owned()
}

async fn until(caller: &Caller, at: SocketAddr, wanted: &str) {
    let limit = Instant::now() + Duration::from_secs(20);
    while limiter(caller, at).await != wanted {
        assert!(Instant::now() < limit, "health never says {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One number of `/metrics`; 0 where it was never counted.
async fn number(at: SocketAddr, name: &str) -> usize {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let text = http.get(format!("http://{at}/metrics")).send().await.expect("an answer").text().await;
    let text = text.expect("a text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Sends the user's requests to both at once; says how many were allowed and how many refused.
async fn storm(replicas: [SocketAddr; 2], user: &str) -> (usize, usize) {
    let token = sign(&claims(&json!({"sub": user}), Clock::System.now()), JWT_SECRET);
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut sent = JoinSet::new();
    for n in 0..SENT {
        let url = format!("http://{}/api/v1/users/me", replicas[n % 2]);
        let request = http.get(url).bearer_auth(&token);
        sent.spawn(async move { request.send().await.expect("an answer").status().as_u16() });
    }
    let statuses = sent.join_all().await;
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    (count(200), count(429))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_with_one_redis_share_a_limit_exactly() {
    let (place, redis) = (Place::postgres().await, RedisServer::start());
    let (first, second) = (start(&place, &redis).await, start(&place, &redis).await);
    let (caller, replicas) = (Caller::new(), [first.address, second.address]);
    let mut before = errors(replicas).await;
    for attempt in 0..5 {
        for at in replicas {
            until(&caller, at, "redis").await;
        }
        let user = format!("many{attempt}");
        caller.ensure(first.address, &user).await;
        let counted = storm(replicas, &user).await;
        let now = errors(replicas).await;
        // On a machine that stalls for 50 ms, Redis did not count all of them.
        if now == before {
            assert_eq!(counted, (REQUESTS, SENT - REQUESTS));
            return;
        }
        before = now;
    }
    panic!("Redis never counted all requests within 50 ms each");
}

async fn errors(replicas: [SocketAddr; 2]) -> usize {
    let name = "rate_limit_redis_errors_total";
    number(replicas[0], name).await + number(replicas[1], name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_or_dies_holds_up_nothing() {
    const TOGETHER: usize = 4;
    let (place, mut redis) = (Place::sqlite(), RedisServer::start());
    let service = start(&place, &redis).await;
    let (caller, at) = (Caller::new(), service.address);
    until(&caller, at, "redis").await;
    caller.ensure(at, "payer").await;

    let (over, paid) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for _ in 0..TOGETHER {
        let (caller, over, paid) = (caller.clone(), Arc::clone(&over), Arc::clone(&paid));
        load.spawn(async move {
            let body = json!({"amount": 0.000_001});
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                let path = "/api/v1/users/payer/credits/consume";
                let answer = caller.post(at, path, &body, None).await.expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.body);
                paid.fetch_add(1, Ordering::Relaxed);
                slowest = slowest.max(began.elapsed());
            }
            slowest
        });
    }
    let goes_on = async || {
        let (before, limit) = (paid.load(Ordering::Relaxed), Instant::now() + Duration::from_secs(20));
        while paid.load(Ordering::Relaxed) < before + 200 {
            assert!(Instant::now() < limit, "money stands still");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    goes_on().await;

    redis.pause();
    until(&caller, at, "redis_down_local").await;
    goes_on().await;
    let waited = number(at, "rate_limit_redis_errors_total").await;
    goes_on().await;
    // Only those that were under way when it hung have waited; nobody after them does.
    assert_eq!(number(at, "rate_limit_redis_errors_total").await, waited);
    assert!((1..=2 * (TOGETHER + 1)).contains(&waited), "{waited} requests waited for Redis");
    redis.resume();
    until(&caller, at, "redis").await;
    goes_on().await;

    redis.kill();
    until(&caller, at, "redis_down_local").await;
    goes_on().await;
    redis.start_again();
    until(&caller, at, "redis").await;

    over.store(true, Ordering::Relaxed);
    let slowest = load.join_all().await.into_iter().max().expect("some");
    assert!(slowest < Duration::from_secs(2), "a payment took {slowest:?}");
    let said = service.stop().await.stderr;
    assert!(!said.contains("panicked"), "{said}");
    verify_ledger(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_starts_without_its_redis() {
    let (place, mut redis) = (Place::sqlite(), RedisServer::start());
    redis.kill();
    let service = start(&place, &redis).await;
    let caller = Caller::new();
    assert_eq!(limiter(&caller, service.address).await, "redis_down_local");
    caller.ensure(service.address, "early").await;
    redis.start_again();
    until(&caller, service.address, "redis").await;
}
