//! Two processes over one database share the endpoints; one is killed.

use super::{HASTE, Spending, arrived, entries, subscribe};
use crate::{PROGRAM, verify_ledger};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use testkit::process::Place;
use testkit::standard_webhooks::{Library, Receiver};

const PATHS: [&str; 6] = ["/1", "/2", "/3", "/4", "/5", "/6"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_the_endpoints_and_one_takes_over() {
    let place = Place::postgres().await;
    let killed = PROGRAM.start(&place, &HASTE).await;
    let stays = PROGRAM.start(&place, &HASTE).await;
    let mut receiver = Receiver::start(Library::JavaScript).await;
    for path in PATHS {
        subscribe(killed.address, &mut receiver, path, &["credit.*"]).await;
    }
    let both = [killed.address, stays.address];
    let spending = Spending::start(&both, 12, Duration::from_millis(40)).await;
    spending.progress(100).await;
    let before = senders(&place, 2).await;

    spending.progress(200).await;
    killed.kill();
    spending.aim(&[stays.address]);
    spending.progress(300).await;
    spending.stop().await;

    let entries = entries(&place).await;
    for path in PATHS {
        let count = arrived(&receiver, path, &entries).await;
        eprintln!("{path}: {count:?}");
        // What was under way, or had not been written down when the one was killed, comes again.
        assert!(count.again * 4 < count.events, "most come once: {count:?}");
    }
    assert_eq!(receiver.refused(), Vec::<String>::new());
    let after = senders(&place, 1).await;
    assert!(after.is_subset(&before), "{after:?} of {before:?}");
    assert_eq!(stays.stop().await.code, Some(0));
    verify_ledger(&place).await;
}

/// Who sends, once so many processes do and every endpoint has one of them.
async fn senders(place: &Place, wanted: usize) -> BTreeSet<String> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let rows = place.rows("SELECT leased_by FROM webhook_endpoints").await;
        let senders: BTreeSet<String> = rows.into_iter().flatten().collect();
        if senders.len() == wanted && !senders.contains("") {
            return senders;
        }
        assert!(Instant::now() < until, "{wanted} processes should send: {senders:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
