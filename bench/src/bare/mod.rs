//! The engine without the service: batches of 1000 rows into the very same `usage_records` table (its
//! statements are read from the service's own database, its rows are the service's own rows with new
//! ids), one transaction per batch. What the usage batch is measured against.
//!
//! Only `usage_records`: the service also keeps its roll-ups, which is part of what the ratio shows.

mod postgres;
mod sqlite;

use crate::Fallible;
use crate::engine::Storage;
use std::time::{Duration, Instant};

/// How many of the service's rows are taken as samples.
const SAMPLES: usize = 50_000;

/// Records per second of the bare engine, by the way the rows go in. `goal` rows are inserted, so that
/// the table grows as large as the service's did, but for no longer than `limit`.
pub async fn measure(
    storage: &Storage,
    batch: usize,
    goal: u64,
    limit: Duration,
) -> Fallible<Vec<(&'static str, f64)>> {
    let pace = Pace { goal, limit, rows: 0, busy: Duration::ZERO };
    if let Some(url) = &storage.database_url {
        return postgres::measure(url, batch, pace).await;
    }
    let folder = storage.folder.clone();
    tokio::task::spawn_blocking(move || sqlite::measure(&folder, batch, pace)).await?
}

/// Counts rows and the time that the engine took for them; making the rows up is not on its clock.
#[derive(Clone, Copy)]
struct Pace {
    goal: u64,
    limit: Duration,
    rows: u64,
    busy: Duration,
}

impl Pace {
    fn over(&self) -> bool {
        self.rows >= self.goal || self.busy >= self.limit
    }

    fn add(&mut self, rows: usize, begun: Instant) {
        self.busy += begun.elapsed();
        self.rows += rows as u64;
    }

    fn per_second(&self) -> f64 {
        self.rows as f64 / self.busy.as_secs_f64()
    }
}

/// What a new row takes from its place in the run instead of from its sample.
fn renewed_event_id(sample_length: usize, number: u64) -> String {
    format!("{number:0>sample_length$}")
}
