//! A receiver is down for an hour, and the service is killed meanwhile.

use super::{HASTE, HOUR, Spending, arrived, entries, subscribe};
use crate::{PROGRAM, verify_ledger};
use std::time::Instant;
use testkit::process::{Place, Running};
use testkit::standard_webhooks::{Library, Receiver};

either_engine!(nothing_is_lost_when_both_sides_die);

/// Everything that happened while the one receiver was down, and the service died and came back three times, arrives; what
/// comes twice is the same; and the other receiver has everything too.
async fn nothing_is_lost_when_both_sides_die(place: Place) {
    let mut service = PROGRAM.start(&place, &HASTE).await;
    let mut fallen = Receiver::start(Library::Python).await;
    let mut steady = Receiver::start(Library::JavaScript).await;
    subscribe(service.address, &mut fallen, "/fallen", &["credit.*"]).await;
    subscribe(service.address, &mut steady, "/steady", &["credit.*"]).await;
    let spending = Spending::start(&[service.address], 12, std::time::Duration::from_millis(20)).await;
    spending.progress(200).await;

    fallen.kill().await;
    let back = Instant::now() + HOUR;
    for _ in 0..3 {
        spending.progress(150).await;
        service = kill(service, &place, &spending).await;
    }
    spending.progress(150).await;
    tokio::time::sleep_until(back.into()).await;
    fallen.start_again().await;

    // Once more on either side, while what has waited is sent.
    let before = fallen.received().len();
    fallen.until(super::ARRIVAL_LIMIT, "it gets what has waited", |all| all.len() > before + 50).await;
    service = kill(service, &place, &spending).await;
    spending.progress(100).await;
    fallen.kill().await;
    fallen.start_again().await;
    spending.progress(100).await;

    let acknowledged = spending.stop().await;
    let entries = entries(&place).await;
    let stored: usize = entries.values().map(Vec::len).sum();
    assert!(stored >= acknowledged, "{stored} entries, {acknowledged} acknowledged");
    let counts = (arrived(&fallen, "/fallen", &entries).await, arrived(&steady, "/steady", &entries).await);
    assert_eq!((counts.0.events, counts.1.events), (stored, stored));
    assert_eq!((fallen.refused(), steady.refused()), (vec![], vec![]));
    eprintln!("{stored} events; again: {} and {}", counts.0.again, counts.1.again);
    assert_eq!(service.stop().await.code, Some(0));
    verify_ledger(&place).await;
}

/// Kills the service as a power cut would, and starts it again.
async fn kill(service: Running, place: &Place, spending: &Spending) -> Running {
    service.kill();
    spending.aim(&[]);
    let service = PROGRAM.start(place, &HASTE).await;
    spending.aim(&[service.address]);
    service
}
