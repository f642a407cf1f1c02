//! Being stopped, kindly and not: what was acknowledged is there, once.

use crate::load::{Load, PLENTY};
use crate::{PROGRAM, verify_ledger};
use std::time::{Duration, Instant};
use testkit::process::{Place, SERVICE_KEY};

/// How often the service is killed.
const KILLS: usize = 20;
/// The clients at work.
const CLIENTS: usize = 12;

either_engine!(
    draining_is_said_while_requests_are_still_taken,
    sigterm_under_load_loses_nothing,
    kills_under_load_lose_nothing
);

async fn draining_is_said_while_requests_are_still_taken(place: Place) {
    // Long enough to look; the second signal below ends it.
    let service = PROGRAM.start(&place, &[("SHUTDOWN_DELAY_SECONDS", "600")]).await;
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let get = |path| {
        let request = http.get(service.url(path)).header("x-api-key", SERVICE_KEY).send();
        async { request.await.expect("an answer") }
    };
    service.terminate();
    let until = Instant::now() + Duration::from_secs(10);
    let draining = loop {
        let answer = get("/health/ready").await;
        if answer.status() == 503 || Instant::now() > until {
            break answer;
        }
    };
    assert_eq!(draining.text().await.expect("a body"), r#"{"status":"draining"}"#);
    // Each on a connection of its own.
    for path in ["/health/live", "/health", "/api/v1/prices", "/metrics"] {
        assert_eq!(get(path).await.status(), 200, "{path}");
    }
    service.terminate();
    let ended = service.ended(Duration::from_secs(10)).await;
    assert_eq!(ended.code, Some(130), "the second signal ends it at once");

    let service = PROGRAM.start(&place, &[("SHUTDOWN_DELAY_SECONDS", "1")]).await;
    let asked_to_stop = Instant::now();
    let ended = service.stop().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(asked_to_stop.elapsed() >= Duration::from_secs(1), "the delay is waited for");
}

async fn sigterm_under_load_loses_nothing(place: Place) {
    let grace = Duration::from_secs(10);
    let settings = [PLENTY, ("SHUTDOWN_GRACE_SECONDS", "10")];
    let service = PROGRAM.start(&place, &settings).await;
    let load = Load::start(service.address, CLIENTS).await;
    load.progress(150).await;

    let asked_to_stop = Instant::now();
    service.terminate();
    let ended = service.ended(grace + Duration::from_secs(20)).await;
    let took = asked_to_stop.elapsed();
    assert_eq!(ended.code, Some(0), "{} {}", ended.stdout, ended.stderr);
    assert!(took < grace, "it took {took:?}");
    load.aim(None);
    let mut told = load.stop().await;

    let service = PROGRAM.start(&place, &settings).await;
    told.settle(service.address).await;
    assert_eq!(service.stop().await.code, Some(0));
    told.compare(&place).await;
    verify_ledger(&place).await;
}

async fn kills_under_load_lose_nothing(place: Place) {
    let mut service = PROGRAM.start(&place, &[PLENTY]).await;
    let load = Load::start(service.address, CLIENTS).await;
    for kill in 0..KILLS {
        load.progress(20 + 7 * (kill % 5)).await;
        service.kill();
        load.aim(None);
        service = PROGRAM.start(&place, &[PLENTY]).await;
        load.aim(Some(service.address));
    }
    load.progress(50).await;
    let mut told = load.stop().await;
    told.settle(service.address).await;
    assert_eq!(service.stop().await.code, Some(0));
    told.compare(&place).await;
    verify_ledger(&place).await;
}
