//! The whole binary, as an operator meets it: started, loaded, stopped, killed, refused.
//!
//! Every test has its own data: a folder, and on PostgreSQL a database in the instance that
//! `TEST_POSTGRES_URL` names. Where both engines must behave alike, a test runs on both.

use testkit::process::{Place, Program};

/// The binary under test.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_user-service"));

/// Runs `async fn name(place: Place)` once per engine.
macro_rules! either_engine {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(testkit::process::Place::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(testkit::process::Place::postgres().await).await;
            }
        }
    )+};
}

mod caller;
mod cluster;
mod commands;
mod connections;
mod deploy;
mod erase;
mod files;
mod keys;
mod limits;
mod live;
mod load;
mod logs;
mod lossy;
mod mcp;
mod mcp_conformance;
mod mcp_lines;
mod mcp_odd;
mod metrics;
mod payments;
mod plans;
mod prices;
mod race;
mod rate_limits;
mod refusals;
mod restart;
mod routes;
mod schemathesis;
mod stop;
mod streams;
mod suspend;
mod tamper;
mod traces;
mod watch;
mod webhooks;

/// Fails with what `verify-ledger` found, if it found anything.
async fn verify_ledger(place: &Place) {
    let ended = PROGRAM.run(place, &["verify-ledger"], &[]).await;
    assert_eq!(ended.code, Some(0), "{} {}", ended.stdout, ended.stderr);
}
