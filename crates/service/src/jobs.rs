//! What is done by and by, beside the requests: each slice's sweep, one after the other.
//!
//! Nothing depends on when they run; each finishes what a request or a crash left over.

use crate::app::App;
use crate::webhooks::delivery;
use crate::writer::WriteError;
use crate::{credits, files, limits, measure, payments, retention, sessions, subscriptions, users};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the jobs run.
const EVERY: Duration = Duration::from_secs(30);

/// Runs the jobs until the task is aborted.
pub async fn run(app: Arc<App>) {
    // What a crash left of uploads takes room on the disk, so it goes at once.
    run_one(&app, "files", "sweeping files", files::sweeper::sweep(&app)).await;
    run_one(&app, "erasures", "finishing erasures", users::erase::sweep(&app)).await;
    let mut counters = limits::sweeper::Walk::default();
    let mut retention = retention::Walks::default();
    loop {
        tokio::time::sleep(EVERY).await;
        let expiries = async { credits::sweeper::sweep(&app).await.map(drop) };
        run_one(&app, "expiries", "writing down expiries", expiries).await;
        run_one(&app, "subscriptions", "turning subscriptions", subscriptions::sweeper::sweep(&app)).await;
        run_one(&app, "payments", "settling payments", payments::settle::sweep(&app)).await;
        let keys = credits::sweeper::forget_keys(&app);
        run_one(&app, "idempotency_keys", "forgetting idempotency keys", keys).await;
        run_one(&app, "retention", "removing what is too old", retention.sweep(&app)).await;
        run_one(&app, "sessions", "sweeping sessions", sessions::sweeper::sweep(&app)).await;
        run_one(&app, "files", "sweeping files", files::sweeper::sweep(&app)).await;
        run_one(&app, "merges", "finishing merges", users::merge::sweep(&app)).await;
        run_one(&app, "erasures", "finishing erasures", users::erase::sweep(&app)).await;
        run_one(&app, "limit_counters", "sweeping counters of limits", counters.sweep(&app)).await;
        run_one(&app, "webhooks", "sweeping deliveries", delivery::retention::sweep(&app)).await;
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

/// Runs a job once; `name` is its label in the metrics, `what` its sentence in the log.
pub async fn run_one(
    app: &App,
    name: &'static str,
    what: &'static str,
    job: impl Future<Output = Result<(), WriteError>>,
) {
    let began = Instant::now();
    let done = job.await;
    measure::job(name, began.elapsed(), done.is_ok(), app.clock.now().seconds());
    if let Err(error) = done {
        tracing::warn!(job = what, %error, "a job failed; it is tried again");
    }
}
