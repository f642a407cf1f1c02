//! What the limiter of rates costs by itself: a million callers, each counted a few times.

use crate::{Fallible, proc};
use clap::Args;
use std::time::Instant;
use user_service::rate_limits::Quota;
use user_service::rate_limits::table::{KEYS_MAX, Table};

/// How many callers, and how often each is counted.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Callers.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: usize,
    /// Requests of each.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

/// An instant in microseconds; it stands still, so that nobody's debt is paid meanwhile.
const NOW: u64 = 1_750_000_000_000_000;

/// Counts them, and prints memory and time. Fails where more memory is taken than there may be.
pub fn run(options: &Options) -> Fallible<bool> {
    let quota = Quota { requests: 600, window: 60 };
    let names: Vec<String> = (0..options.keys).map(|n| format!("user:auth0|{n:024x}")).collect();
    let before = proc::memory_kib(std::process::id(), "VmRSS")?;
    let table = Table::default();
    for round in 1..=options.rounds {
        let began = Instant::now();
        let allowed = names.iter().filter(|name| table.take(&("read", name), NOW, quota).0).count();
        let each = began.elapsed().as_nanos() as f64 / options.keys.max(1) as f64;
        println_row(&format!("round {round}: {each:.0} ns a decision, {allowed} allowed"));
    }
    let (after, held) = (proc::memory_kib(std::process::id(), "VmRSS")?, table.keys(NOW));
    let bytes = after.saturating_sub(before) * 1024;
    println_row(&format!(
        "{held} of {} buckets held; slots {} KiB; RSS grew by {} KiB, {:.1} bytes a bucket",
        options.keys,
        table.bytes() / 1024,
        bytes / 1024,
        bytes as f64 / held.max(1) as f64
    ));
    Ok(table.bytes() <= KEYS_MAX * 16)
}

#[expect(clippy::print_stdout, reason = "the result is for the person at the terminal")]
fn println_row(text: &str) {
    println!("{text}");
}
