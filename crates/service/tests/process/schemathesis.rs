//! Every operation of `/openapi.json`, asked by schemathesis: no answer that is not documented, nothing that breaks, and
//! nobody who reaches what is a peer's. What is asked, and by whom, is in `schemathesis/run.py`.

use crate::{PROGRAM, verify_ledger};
use std::sync::Arc;
use std::time::Duration;
use testkit::process::{JWT_SECRET, Place, SERVICE_KEY};
use testkit::stripe::{FakeStripe, WEBHOOK_SECRET};
use tokio::process::Command;

/// How long all of it may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(280);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_documented_and_nobody_reaches_a_peer() {
    let python =
        std::env::var_os("TEST_PYTHON").expect("TEST_PYTHON names no Python with schemathesis: run ./test");
    let place = Place::sqlite();
    let stripe = Arc::new(FakeStripe::start("sk_test_schemathesis").await);
    stripe.set_time(kernel::Clock::System.now().seconds());
    let base = stripe.base_url();
    let settings = [
        ("STRIPE_SECRET_KEY", "sk_test_schemathesis"),
        ("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET),
        ("STRIPE_API_BASE", base.trim_end_matches('/')),
        ("RATE_LIMIT_ENABLED", "false"),
    ];
    let service = PROGRAM.start(&place, &settings).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/schemathesis/run.py");
    let asked = Command::new(python)
        .arg(script)
        .args([service.url("").as_str(), SERVICE_KEY, JWT_SECRET])
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(LIMIT, asked).await.expect("it ends in time").expect("it starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}{}", said(&ended.stdout), said(&ended.stderr));
    let ended = service.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let broken = ended.stdout.lines().find(|line| line.contains("\"ERROR\"") || line.contains("panicked"));
    assert_eq!(broken, None, "nothing broke inside");
    verify_ledger(&place).await;
}
