//! The measuring room: starts the release binary on temporary storage, drives it, checks its books.
//!
//! Reading order: `suite` (what is measured, in which order), `cases` (the requests), `wrk` and
//! `open_loop` and `pairs` (the ways of driving), `books` (what must hold afterwards), `bare` (the engine
//! without the service), `files` (megabytes in and out), `tokens` (an issuer of tokens), `limiter` (memory for a million buckets),
//! `outbox` and `receivers` (telling others),
//! `replay` (real input, exact totals), `report` (the table and the targets).
//! Nothing here touches a database or a server that it did not start itself.

mod api;
mod bare;
mod bodies;
mod books;
mod cases;
mod engine;
mod exact;
mod files;
mod limiter;
mod machine;
mod open_loop;
mod outbox;
mod pairs;
mod postgres;
mod proc;
mod receivers;
mod replay;
mod report;
mod server;
mod sessions;
mod suite;
mod targets;
mod tokens;
mod users;
mod wall;
mod wrk;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// The result of anything here: a failure is one sentence for the person at the terminal.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures the User Service's release binary, or replays real input through it.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure every case on the chosen engines and print one table.
    Run(suite::Options),
    /// Count requests of a million callers in the limiter of rates, and say what that costs.
    Limiter(limiter::Options),
    /// Send 19 366 real calls through the service and compare the totals to the last digit.
    Replay(replay::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(interruptible(cli.task));
    // A thread that is still driving must not hold the exit up once the servers are gone.
    runtime.shutdown_background();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the task; on SIGINT or SIGTERM it is dropped, and with it every server and folder it made.
async fn interruptible(task: Task) -> Fallible<bool> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let work = async {
        match task {
            Task::Run(options) => suite::run(options).await,
            Task::Limiter(options) => limiter::run(&options),
            Task::Replay(options) => replay::run(options).await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Err("interrupted; servers stopped, folders removed".into()),
        _ = terminate.recv() => Err("terminated; servers stopped, folders removed".into()),
    }
}
