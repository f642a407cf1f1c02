//! Which endpoints this process sends to, and waking their senders.

use super::sender::{self, End};
use super::store::{self, Standing};
use super::{Shared, Signals, lease, numbering};
use crate::db::{Db, DbError};
use crate::measure;
use crate::writer::WriteError;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often endpoints are looked at, and how often at most when the bell rings.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_MIN: Duration = Duration::from_millis(100);
/// How often, with an endpoint, it is asked what happened in other processes and what is due.
const TICK: Duration = Duration::from_millis(100);
/// The least time between two rounds: what happens meanwhile is told together.
const ROUND_MIN: Duration = Duration::from_millis(10);
/// How often leases are renewed.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How long an endpoint rests whose sender broke off.
const BROKEN_FOR: Duration = Duration::from_secs(1);
/// How many deliveries of a process may be under way, unless there are very many endpoints.
const UNDER_WAY_MAX: usize = 256;
/// The fewest for each endpoint.
const UNDER_WAY_MIN: usize = 2;
/// How many bytes of events are read ahead in a process; for each endpoint.
const BYTES_MAX: usize = 64 * 1024 * 1024;
const ENDPOINT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Runs senders until told to stop.
pub async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let now = Instant::now();
    let mut hub = Hub {
        shared,
        senders: HashMap::new(),
        tasks: JoinSet::new(),
        resting: HashMap::new(),
        head: 0,
        endpoints: 0,
        looked: None,
        rung: false,
        processes: 1,
        counted: None,
        renewed: now,
        troubled: false,
    };
    loop {
        let round = Instant::now();
        let done = hub.round().await;
        hub.note(done);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = hub.news(round) => {}
        }
    }
    hub.stop().await;
}

struct Hub {
    shared: Arc<Shared>,
    senders: HashMap<i64, Arc<Signals>>,
    tasks: JoinSet<(i64, End)>,
    /// Endpoints whose senders broke off, until they begin again.
    resting: HashMap<i64, Instant>,
    head: i64,
    /// How many endpoints there are.
    endpoints: usize,
    looked: Option<Instant>,
    /// Whether the bell rang since.
    rung: bool,
    /// How many processes send, and when they were counted.
    processes: usize,
    counted: Option<Instant>,
    renewed: Instant,
    troubled: bool,
}

impl Hub {
    /// Waits for a reason for another round.
    async fn news(&mut self, round: Instant) {
        let tick = if self.endpoints == 0 { LOOK_EVERY } else { TICK };
        tokio::select! {
            () = self.shared.outbox.rung() => self.rung = true,
            Some(ended) = self.tasks.join_next() => self.ended(ended),
            () = tokio::time::sleep_until(round + tick) => {}
        }
        tokio::time::sleep_until(round + ROUND_MIN).await;
    }

    async fn round(&mut self) -> Result<(), DbError> {
        while let Some(ended) = self.tasks.try_join_next() {
            self.ended(ended);
        }
        self.renew().await?;
        if self.looked.is_none() {
            let begun = lease::begin(&self.shared.db, &self.shared.writer).await;
            begun.map_err(|error: WriteError| DbError::Unavailable(error.to_string()))?;
        }
        let pause = if self.rung { LOOK_MIN } else { LOOK_EVERY };
        if self.looked.is_none_or(|looked| looked.elapsed() >= pause) {
            self.rung = false;
            self.look().await?;
            self.looked = Some(Instant::now());
        }
        if self.endpoints > 0 {
            self.follow().await?;
        }
        self.wake_due();
        Ok(())
    }

    /// Gives places to what happened, and tells the senders of the newest.
    async fn follow(&mut self) -> Result<(), DbError> {
        if let Db::Postgres(db) = &self.shared.db
            && numbering::some_to_number(db).await?
        {
            numbering::number(db).await?;
        }
        let head = store::head(&self.shared.db).await?;
        self.head = self.head.max(head);
        for signals in self.senders.values() {
            if signals.head.swap(self.head, Ordering::Relaxed) < self.head {
                signals.wake.notify_one();
            }
        }
        Ok(())
    }

    fn wake_due(&self) {
        let now = self.shared.clock.now().micros();
        for signals in self.senders.values() {
            if signals.due.load(Ordering::Relaxed) <= now {
                signals.wake.notify_one();
            }
        }
    }

    async fn renew(&mut self) -> Result<(), DbError> {
        let Db::Postgres(db) = &self.shared.db else { return Ok(()) };
        let now = Instant::now();
        let first = self.looked.is_none();
        if !first && now.duration_since(self.renewed) < RENEW_EVERY {
            return Ok(());
        }
        lease::renew(db, &self.shared.me).await?;
        self.renewed = now;
        self.shared.renewed_at(now.into_std());
        Ok(())
    }

    /// Looks at the endpoints: takes free ones, gives surplus ones away, begins and ends senders.
    async fn look(&mut self) -> Result<(), DbError> {
        let mut standings = store::standings(&self.shared.db).await?;
        self.endpoints = standings.len();
        let me = self.shared.me.clone();
        let mine = |standing: &Standing| standing.enabled && standing.owner.as_deref() == Some(me.as_str());
        let enabled = standings.iter().filter(|standing| standing.enabled).count();
        if enabled > 0 {
            if self.counted.is_none_or(|counted| counted.elapsed() >= LOOK_EVERY) {
                self.processes = lease::processes(&self.shared.db).await?;
                self.counted = Some(Instant::now());
            }
            let share = enabled.div_ceil(self.processes);
            let held = standings.iter().filter(|standing| mine(standing)).count();
            let free = standings.iter().any(|standing| standing.enabled && standing.free && !mine(standing));
            if free && held < share {
                let claimed = lease::claim(&self.shared.db, &self.shared.writer, &me, share - held).await;
                claimed.map_err(|error: WriteError| DbError::Unavailable(error.to_string()))?;
                standings = store::standings(&self.shared.db).await?;
            }
            for surplus in standings.iter().filter(|standing| mine(standing)).skip(share) {
                self.give_away(surplus.id);
            }
        }
        self.match_senders(standings.iter().filter(|standing| mine(standing)));
        self.measure(&standings);
        Ok(())
    }

    /// Has a sender end whose endpoint another process is to have; when it has ended, the lease is given back.
    fn give_away(&self, id: i64) {
        if let Some(signals) = self.senders.get(&id) {
            signals.stop.store(true, Ordering::Relaxed);
            signals.wake.notify_one();
        }
    }

    /// Begins the senders that are missing, and ends those of endpoints that are not ours.
    fn match_senders<'a>(&mut self, mine: impl Iterator<Item = &'a Standing>) {
        let mine: HashMap<i64, &Standing> = mine.map(|standing| (standing.id, standing)).collect();
        for (id, signals) in &self.senders {
            let Some(standing) = mine.get(id) else {
                signals.stop.store(true, Ordering::Relaxed);
                signals.wake.notify_one();
                continue;
            };
            if signals.revision.swap(standing.revision, Ordering::Relaxed) != standing.revision {
                signals.wake.notify_one();
            }
        }
        self.resting.retain(|_, until| *until > Instant::now());
        let concurrency = self.shared.concurrency.min((UNDER_WAY_MAX / mine.len().max(1)).max(UNDER_WAY_MIN));
        let bytes_max = ENDPOINT_BYTES_MAX.min(BYTES_MAX / mine.len().max(1));
        for signals in self.senders.values() {
            signals.concurrency.store(concurrency, Ordering::Relaxed);
        }
        for (id, standing) in mine {
            if self.senders.contains_key(&id) || self.resting.contains_key(&id) {
                continue;
            }
            let signals = Arc::new(Signals {
                wake: Notify::new(),
                stop: AtomicBool::new(false),
                head: AtomicI64::new(self.head),
                revision: AtomicI64::new(standing.revision),
                concurrency: AtomicUsize::new(concurrency),
                bytes_max: AtomicUsize::new(bytes_max),
                due: AtomicI64::new(i64::MAX),
                pending: AtomicUsize::new(0),
                untried: AtomicI64::new(i64::MAX),
            });
            self.senders.insert(id, Arc::clone(&signals));
            let shared = Arc::clone(&self.shared);
            self.tasks.spawn(async move {
                let running = tokio::spawn(sender::run(shared, signals, id));
                let _ended_with_us = AbortOnDrop(running.abort_handle());
                (id, running.await.unwrap_or(End::Broken))
            });
        }
    }

    /// A sender has ended.
    fn ended(&mut self, ended: Result<(i64, End), tokio::task::JoinError>) {
        let Ok((id, end)) = ended else { return };
        tracing::debug!(endpoint = id, ?end, "a sender ended");
        self.senders.remove(&id);
        match end {
            End::Broken => {
                self.resting.insert(id, Instant::now() + BROKEN_FOR);
            }
            End::Stopped if matches!(self.shared.db, Db::Postgres(_)) => {
                // Where it is still ours, it is for another process.
                self.resting.insert(id, Instant::now() + BROKEN_FOR);
                let shared = Arc::clone(&self.shared);
                tokio::spawn(async move {
                    // What is not given back ends by itself.
                    let _ = lease::release(&shared.db, &shared.me, Some(id)).await;
                });
            }
            End::Stopped | End::Lost => {}
        }
    }

    /// Says in the log when the database does not answer, and when it does again.
    fn note(&mut self, done: Result<(), DbError>) {
        match done {
            Err(error) if !self.troubled => {
                self.troubled = true;
                tracing::warn!(%error, "webhooks wait for the database");
            }
            Ok(()) if self.troubled => {
                self.troubled = false;
                tracing::info!("webhooks are delivered again");
            }
            _ => {}
        }
    }

    fn measure(&self, standings: &[Standing]) {
        let now = self.shared.clock.now().micros();
        let failing: HashMap<i64, bool> =
            standings.iter().map(|standing| (standing.id, standing.failing)).collect();
        let (mut lag, mut pending) = ([0.0_f64; 2], 0);
        for (id, signals) in &self.senders {
            let untried = signals.untried.load(Ordering::Relaxed);
            let age = if untried == i64::MAX { 0 } else { now.saturating_sub(untried).max(0) };
            let place = usize::from(failing.get(id).copied().unwrap_or_default());
            lag[place] = lag[place].max(age as f64 / 1e6);
            pending += signals.pending.load(Ordering::Relaxed);
            // What is told next time is counted by then.
            signals.wake.notify_one();
        }
        measure::webhook_deliveries(lag[0], lag[1], pending);
        let disabled = standings.iter().filter(|standing| !standing.enabled).count();
        let failing = standings.iter().filter(|standing| standing.enabled && standing.failing).count();
        measure::webhook_endpoints(standings.len() - disabled - failing, failing, disabled);
    }

    /// Ends all senders, and gives the endpoints to other processes.
    async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for signals in self.senders.values() {
            signals.stop.store(true, Ordering::Relaxed);
            signals.wake.notify_one();
        }
        while self.tasks.join_next().await.is_some() {}
        if let Err(error) = lease::release(&self.shared.db, &self.shared.me, None).await {
            tracing::debug!(%error, "leases were not given back; they end by themselves");
        }
    }
}

/// Ends a task together with whoever waits for it.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
