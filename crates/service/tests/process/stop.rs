//! Being stopped, kindly and not: what was acknowledged is there, once.

use crate::load::{Load, PLENTY};
use crate::{PROGRAM, verify_ledger};
use std::time::{Duration, Instant};
use testkit::process::Place;

/// How often the service is killed.
const KILLS: usize = 20;
/// The clients at work.
const CLIENTS: usize = 12;

either_engine!(sigterm_under_load_loses_nothing, kills_under_load_lose_nothing);

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
