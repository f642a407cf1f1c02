//! The database goes away under load and comes back.

use crate::PROGRAM;
use crate::caller::Caller;
use crate::cluster::Cluster;
use crate::load::{Load, PLENTY};
use crate::verify_ledger;
use serde_json::json;
use std::time::{Duration, Instant};
use testkit::process::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_restarts_under_load() {
    let room = Place::sqlite();
    let cluster = Cluster::start(room.folder().join("postgres"));
    let place = Place::on(cluster.url());
    let mut service = PROGRAM.start(&place, &[PLENTY]).await;
    let load = Load::start(service.address, 10).await;
    for _ in 0..3 {
        load.progress(100).await;
        tokio::task::block_in_place(|| cluster.restart());
        load.progress(50).await;
    }

    // Gone for as long as it takes to see what is answered meanwhile.
    tokio::task::block_in_place(|| cluster.stop());
    let until = Instant::now() + Duration::from_secs(30);
    let before = load.unavailable();
    while load.unavailable() < before + 20 {
        assert!(Instant::now() < until, "nobody was answered 503");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while_it_is_gone(&service.url(""), service.address).await;
    tokio::task::block_in_place(|| cluster.start_again());
    load.progress(100).await;

    assert!(service.is_alive(), "the service itself never ends");
    let mut told = load.stop().await;
    told.settle(service.address).await;
    assert_eq!(service.stop().await.code, Some(0));
    told.compare(&place).await;
    verify_ledger(&place).await;
}

/// Every kind of route says 503 and when to come back, and never 500.
async fn while_it_is_gone(base: &str, address: std::net::SocketAddr) {
    let caller = Caller::new();
    for path in [
        "/api/v1/users/hot",
        "/api/v1/users/hot/credits/balance",
        "/api/v1/users/hot/credits/transactions",
        "/api/v1/users/hot/usage",
        "/api/v1/users/hot/usage/stats",
        "/api/v1/users/never-seen/credits/balance",
    ] {
        let answer = caller.get(address, path).await.expect("an answer");
        assert_eq!(answer.status, 503, "{base}{path}: {}", answer.body);
        assert!(answer.retry_after.is_some(), "{path}");
        assert_eq!(answer.body["error_code"], "ServiceUnavailable", "{path}");
    }
    let ensure = json!({"auth0_id": "late", "name": "Late", "email": "late@example.com"});
    let batch = json!({"records": [{"user_id": "hot", "event_type": "call"}]});
    for (path, body) in [("/api/v1/users/ensure", ensure), ("/api/v1/usage/batch", batch)] {
        let answer = caller.post(address, path, &body, None).await.expect("an answer");
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
    }
    for path in ["/health", "/health/ready"] {
        assert_eq!(caller.get(address, path).await.expect("an answer").status, 503, "{path}");
    }
    assert_eq!(caller.get(address, "/health/live").await.expect("an answer").status, 200);
}
