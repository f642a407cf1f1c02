//! The sender of one endpoint: reads ahead, sends, writes down what came of it.
//!
//! It is one task that owns the window; attempts are tasks of their own, and so is the one write that is under way.
//! Whatever ends it, the database says what is left to do, and the next sender begins there.

use super::client::{Target, Verdict};
use super::flush::{Ending, Flush};
use super::store::{self, Found, Loaded};
use super::window::{Job, Outcome, WINDOW, Window};
use super::{Shared, Signals, write};
use crate::db::DbError;
use crate::measure;
use crate::webhooks::model::Attempt;
use kernel::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// How long outcomes wait to be written together, and how many do.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
const FLUSH_MAX: usize = 256;
/// How long a cursor waits to be written that moved without outcomes.
const CURSOR_AFTER: Duration = Duration::from_secs(2);
/// After how many failures in a row an endpoint is only probed.
pub const PROBED_AFTER: u32 = 10;
/// How long an endpoint may fail before it is disabled.
pub const FAILING_MAX: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// How often it is counted how much waits.
const COUNT_EVERY: Duration = Duration::from_millis(250);
/// The pause after something that the database did not do.
const PAUSE: Duration = Duration::from_secs(1);
/// When an event is looked at again that has no place yet.
const PLACED_AFTER: Duration = Duration::from_millis(50);
/// How long deliveries that are under way may take at a stop.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Why a sender ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to, or the endpoint is told nothing any more.
    Stopped,
    /// Another process sends.
    Lost,
    /// Something went wrong; a new one begins where the database says.
    Broken,
}

/// What an attempt task brings back.
type Done = (Job, Option<(Attempt, Verdict)>, Option<Found>);

/// A sender.
pub struct Sender {
    shared: Arc<Shared>,
    signals: Arc<Signals>,
    id: i64,
    endpoint_id: String,
    target: Arc<Target>,
    users: HashSet<String>,
    revision: i64,
    window: Window,
    attempts: JoinSet<Done>,
    writing: Option<JoinHandle<Result<(), End>>>,
    /// The cursor as it was last written.
    written: i64,
    /// Since when something waits to be written.
    unwritten_since: Option<Instant>,
    failing_since: Option<Timestamp>,
    failures: u32,
    /// Whether it failed so often that what is pending waits longer than it need once it works again.
    dead: bool,
    wakes: bool,
    ends: Option<Ending>,
    paused_until: Instant,
    /// When it was last counted how much waits.
    counted: Option<Instant>,
}

/// Runs the sender of an endpoint that this process has the lease of.
pub async fn run(shared: Arc<Shared>, signals: Arc<Signals>, id: i64) -> End {
    let mut sender = match Sender::open(shared, signals, id).await {
        Ok(Some(sender)) => sender,
        Ok(None) => return End::Stopped,
        Err(error) => {
            tracing::warn!(endpoint = id, %error, "an endpoint could not be read; it is tried again");
            return End::Broken;
        }
    };
    let end = sender.work().await;
    sender.attempts.abort_all();
    end
}

impl Sender {
    async fn open(shared: Arc<Shared>, signals: Arc<Signals>, id: i64) -> Result<Option<Self>, DbError> {
        let Some(loaded) = store::endpoint(&shared.db, id, &shared.me).await? else { return Ok(None) };
        let Loaded { endpoint_id, target, users, position, failing_since, revision } = loaded;
        let mut window = Window::new(position, signals.bytes_max.load(Ordering::Relaxed));
        window.replace(store::pending(&shared.db, id).await?);
        Ok(Some(Self {
            shared,
            signals,
            id,
            endpoint_id,
            target: Arc::new(target),
            users,
            revision,
            window,
            attempts: JoinSet::new(),
            writing: None,
            written: position,
            unwritten_since: None,
            failing_since,
            // One that failed before is probed first: whether it works again is not known.
            failures: if failing_since.is_some() { PROBED_AFTER } else { 0 },
            dead: failing_since.is_some(),
            wakes: false,
            ends: None,
            paused_until: Instant::now(),
            counted: None,
        }))
    }

    async fn work(&mut self) -> End {
        loop {
            if self.signals.stop.load(Ordering::Relaxed) {
                return self.stop().await;
            }
            match self.prepare().await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => {
                    tracing::warn!(endpoint = self.id, %error, "events could not be read; they are read again");
                    self.paused_until = Instant::now() + PAUSE;
                }
            }
            self.start();
            self.flush_when_due();
            self.tell();
            if let Some(end) = self.wait().await {
                return end;
            }
        }
    }

    /// Waits for something to happen, and takes it in.
    async fn wait(&mut self) -> Option<End> {
        let flush_at = self.flush_at().filter(|_| self.writing.is_none());
        let paused = (self.paused_until > Instant::now()).then_some(self.paused_until);
        let next = [flush_at, paused].into_iter().flatten().min();
        tokio::select! {
            () = self.signals.wake.notified() => {}
            Some(done) = self.attempts.join_next() => {
                let Ok(done) = done else { return Some(End::Broken) };
                self.take_in(done);
                while let Some(done) = self.attempts.try_join_next() {
                    let Ok(done) = done else { return Some(End::Broken) };
                    self.take_in(done);
                }
            }
            end = ended(&mut self.writing) => {
                self.writing = None;
                if end.is_some() {
                    return end;
                }
                if self.ends.is_some() && self.window.unwritten() == 0 {
                    return Some(End::Stopped);
                }
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
        None
    }

    /// Brings what is known of the endpoint up to date, and reads ahead.
    async fn prepare(&mut self) -> Result<Option<End>, DbError> {
        if self.paused_until > Instant::now() || self.ends.is_some() {
            return Ok(None);
        }
        let changed = self.signals.revision.load(Ordering::Relaxed) != self.revision;
        let hungry = self.window.hungry();
        if changed || !hungry.is_empty() {
            // What is read of it must not be older than what is known here.
            if let Some(end) = self.write_all().await {
                return Ok(Some(end));
            }
            if changed && !self.reload().await? {
                return Ok(Some(End::Stopped));
            }
            for key in self.window.hungry() {
                let rows = store::pending_of(&self.shared.db, self.id, key).await?;
                self.window.refill(key, rows);
            }
        }
        let head = self.signals.head.load(Ordering::Relaxed);
        if !self.probing() && self.window.has_room() && self.window.read_to() < head {
            let limit = i64::try_from(WINDOW / 2).unwrap_or(i64::MAX);
            let after = self.window.read_to();
            // One read at a time, so that few pages are in memory at once.
            let turn = self.shared.reading.acquire().await;
            let read = store::ahead(&self.shared.db, (self.id, &self.users), (after, head), limit).await;
            drop(turn);
            let read = read?;
            self.window.offer(read.events, read.to);
            if self.window.read_to() < head && self.window.has_room() {
                self.signals.wake.notify_one();
            }
        }
        Ok(None)
    }

    /// Writes what is not written yet.
    async fn write_all(&mut self) -> Option<End> {
        loop {
            if self.writing.is_none() {
                if self.window.unwritten() == 0 {
                    return None;
                }
                self.flush();
            }
            let end = ended(&mut self.writing).await;
            self.writing = None;
            if end.is_some() {
                return end;
            }
        }
    }

    /// Reads the endpoint and all that is pending anew; false where this process is not to send to it any more. What
    /// is under way goes on.
    async fn reload(&mut self) -> Result<bool, DbError> {
        let Some(loaded) = store::endpoint(&self.shared.db, self.id, &self.shared.me).await? else {
            return Ok(false);
        };
        let pending = store::pending(&self.shared.db, self.id).await?;
        self.target = Arc::new(loaded.target);
        self.users = loaded.users;
        self.failing_since = loaded.failing_since;
        self.revision = loaded.revision;
        if loaded.position > self.window.read_to() {
            // It was enabled anew: it goes on with what happens from then on.
            self.window.jump(loaded.position);
        }
        self.window.replace(pending);
        // Somebody may have mended it.
        self.failures = self.failures.min(PROBED_AFTER - 1);
        Ok(true)
    }

    const fn probing(&self) -> bool {
        self.failures >= PROBED_AFTER
    }

    /// Begins what may be sent now.
    fn start(&mut self) {
        let unwritten_max = self.window.unwritten() >= WINDOW;
        if self.ends.is_some()
            || unwritten_max
            || !self.shared.may_send()
            || self.paused_until > Instant::now()
        {
            return;
        }
        let now = self.shared.clock.now();
        while self.window.under_way() < self.signals.concurrency.load(Ordering::Relaxed) {
            let Some(mut job) = self.window.next(now, self.probing()) else { break };
            let (shared, target) = (Arc::clone(&self.shared), Arc::clone(&self.target));
            let fresh = job.fresh.take();
            self.attempts.spawn(async move {
                let found = match fresh {
                    Some(event) => Ok(Found::Event(Box::new(event))),
                    None => store::event(&shared.db, job.event).await,
                };
                match found {
                    Ok(Found::Event(event)) => {
                        let tried = shared.client.attempt(&target, job.event, event.event.payload()).await;
                        (job, Some(tried), None)
                    }
                    Ok(found) => (job, None, Some(found)),
                    Err(_) => (job, None, Some(Found::NotYet)),
                }
            });
        }
    }

    /// Takes in what came of an attempt.
    fn take_in(&mut self, (job, tried, found): Done) {
        let now = self.shared.clock.now();
        let outcome = match (tried, found) {
            (Some((attempt, Verdict::Delivered)), _) => {
                measure::webhook_attempt("delivered", Duration::from_millis(attempt.duration_ms));
                if std::mem::take(&mut self.dead) {
                    self.wakes = true;
                    self.window.wake_all(now);
                }
                (self.failures, self.failing_since) = (0, None);
                Outcome::Delivered(attempt)
            }
            (Some((attempt, verdict)), _) => self.failed(&job, attempt, verdict, now),
            (None, Some(Found::Gone)) => Outcome::Missing,
            (None, _) => Outcome::NotYet(now.plus(PLACED_AFTER)),
        };
        self.window.done(&job, outcome);
        self.unwritten_since.get_or_insert_with(Instant::now);
    }

    fn failed(&mut self, job: &Job, attempt: Attempt, verdict: Verdict, now: Timestamp) -> Outcome {
        self.failures = self.failures.saturating_add(1);
        self.dead |= self.probing();
        let since = *self.failing_since.get_or_insert(attempt.at);
        let asked = match verdict {
            Verdict::Failed(asked) => asked,
            Verdict::Delivered | Verdict::Gone => None,
        };
        if verdict == Verdict::Gone {
            self.ends = Some(Ending::Gone);
        } else if now >= since.plus(FAILING_MAX) {
            self.ends.get_or_insert(Ending::Failing);
        }
        let took = Duration::from_millis(attempt.duration_ms);
        match self.shared.schedule.next(job.attempts + 1, now, asked, chance()) {
            Some(next) => {
                measure::webhook_attempt(if verdict == Verdict::Gone { "gone" } else { "retried" }, took);
                Outcome::Retry(attempt, next)
            }
            None => {
                measure::webhook_attempt("failed", took);
                Outcome::Failed(attempt)
            }
        }
    }

    fn flush_at(&self) -> Option<Instant> {
        let after = if self.window.unwritten() > 0 { FLUSH_AFTER } else { CURSOR_AFTER };
        Some(self.unwritten_since? + after)
    }

    fn flush_when_due(&mut self) {
        if self.window.cursor() > self.written {
            self.unwritten_since.get_or_insert_with(Instant::now);
        }
        let due = self.flush_at().is_some_and(|at| at <= Instant::now())
            || self.window.unwritten() >= FLUSH_MAX
            || (self.ends.is_some() && self.window.unwritten() > 0);
        if due && self.writing.is_none() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (rows, cursor) = self.window.take();
        let flush = Flush {
            endpoint: self.id,
            endpoint_id: self.endpoint_id.clone(),
            url: self.target.url.to_string(),
            me: self.shared.me.clone(),
            rows,
            cursor,
            failing_since: self.failing_since,
            wakes: std::mem::take(&mut self.wakes),
            ends: self.ends,
            now: self.shared.clock.now(),
        };
        self.written = cursor;
        self.unwritten_since = None;
        if let Some(ending) = flush.ends {
            tracing::warn!(
                endpoint = %self.endpoint_id,
                reason = ending.as_str(),
                "a webhook endpoint was disabled"
            );
        }
        self.writing = Some(tokio::spawn(write::write(Arc::clone(&self.shared), flush)));
    }

    /// Tells the one who watches over the senders how this one stands.
    fn tell(&mut self) {
        let micros = |at: Option<Timestamp>| at.map_or(i64::MAX, Timestamp::micros);
        self.signals.due.store(micros(self.window.next_due()), Ordering::Relaxed);
        if self.counted.is_some_and(|counted| counted.elapsed() < COUNT_EVERY) {
            return;
        }
        self.counted = Some(Instant::now());
        self.signals.pending.store(self.window.pending(), Ordering::Relaxed);
        self.signals.untried.store(micros(self.window.oldest_untried()), Ordering::Relaxed);
    }

    /// Lets what is under way end, and writes down what came of it.
    async fn stop(&mut self) -> End {
        let until = Instant::now() + STOP_MAX;
        while !self.attempts.is_empty() {
            match tokio::time::timeout_at(until, self.attempts.join_next()).await {
                Ok(Some(Ok(done))) => self.take_in(done),
                Ok(Some(Err(_)) | None) | Err(_) => break,
            }
        }
        // What did not end counts as not sent: it is sent again.
        self.attempts.abort_all();
        if let Some(writing) = self.writing.take()
            && !matches!(tokio::time::timeout(STOP_MAX, writing).await, Ok(Ok(Ok(()))))
        {
            return End::Broken;
        }
        if self.window.unwritten() > 0 || self.window.cursor() > self.written {
            self.flush();
            if let Some(writing) = self.writing.take() {
                let _ = tokio::time::timeout(STOP_MAX, writing).await;
            }
        }
        End::Stopped
    }
}

/// Waits for the end of a write, for ever where there is none.
async fn ended(writing: &mut Option<JoinHandle<Result<(), End>>>) -> Option<End> {
    match writing {
        Some(writing) => writing.await.unwrap_or(Err(End::Broken)).err(),
        None => std::future::pending().await,
    }
}

/// A byte of chance.
fn chance() -> u8 {
    let mut chance = [0; 1];
    // Without chance the pause is only less spread.
    let _ = aws_lc_rs::rand::fill(&mut chance);
    chance[0]
}
