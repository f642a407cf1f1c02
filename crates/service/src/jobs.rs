//! What is done by and by, beside the requests: each slice's sweep, one after the other.
//!
//! Nothing depends on when they run; each finishes what a request or a crash left over.

use crate::app::App;
use crate::writer::WriteError;
use crate::{credits, files, limits, payments, sessions, subscriptions};
use std::sync::Arc;
use std::time::Duration;

/// How often the jobs run.
const EVERY: Duration = Duration::from_secs(30);

/// Runs the jobs until the task is aborted.
pub async fn run(app: Arc<App>) {
    // What a crash left of uploads takes room on the disk, so it goes at once.
    log("sweeping files", files::sweeper::sweep(&app).await);
    let mut counters = limits::sweeper::Walk::default();
    loop {
        tokio::time::sleep(EVERY).await;
        log("writing down expiries", credits::sweeper::sweep(&app).await.map(drop));
        log("turning subscriptions", subscriptions::sweeper::sweep(&app).await);
        log("settling payments", payments::settle::sweep(&app).await);
        log("forgetting idempotency keys", credits::sweeper::forget_keys(&app).await);
        log("sweeping sessions", sessions::sweeper::sweep(&app).await);
        log("sweeping files", files::sweeper::sweep(&app).await);
        log("sweeping counters of limits", counters.sweep(&app).await);
        verify(&app);
    }
}

/// Verifies the ledger, where the last time is long enough ago: at first that is the start.
fn verify(app: &Arc<App>) {
    let Some(every) = app.config.verify_ledger_every else { return };
    let last = app.verifications.last().unwrap_or(app.started_at);
    if app.clock.now() >= last.plus(every) {
        credits::verify::watch::start(app);
    }
}

fn log(job: &str, done: Result<(), WriteError>) {
    if let Err(error) = done {
        tracing::warn!(job, %error, "a job failed; it is tried again");
    }
}
