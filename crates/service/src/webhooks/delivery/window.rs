//! What of an endpoint is under way: which event goes next, and how far its cursor may move.
//!
//! Every event up to the cursor is over for the endpoint or has a row in `webhook_deliveries`. Beyond it, events are read ahead and
//! stand in one queue for each user. What always holds: of one user at most one delivery is under way, and none begins while
//! an earlier event of that user is pending; the cursor passes an event only together with its row, or when it is none of the
//! endpoint's. No I/O: the sender brings what was read and what came of attempts, and writes what [`Window::take`] gives.

use super::numbered::Numbered;
use crate::webhooks::model::Attempt;
use kernel::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// How many events of an endpoint are read ahead.
pub const WINDOW: usize = 1_000;
/// How many pending events of one user are remembered; the others are read when their turn comes.
pub const KEPT: usize = 64;
/// With how many users of whom something is pending no more is read ahead.
pub const BLOCKED_MAX: usize = 10_000;

/// Whose events keep their order: a user's; those about nobody stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The events of a user.
    User(i64),
    /// An event about nobody.
    Alone(i64),
}

impl Key {
    /// The key of an event.
    #[must_use]
    pub const fn of(user: Option<i64>, event: i64) -> Self {
        match user {
            Some(user) => Self::User(user),
            None => Self::Alone(event),
        }
    }
}

/// A delivery that waits in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The event.
    pub event: i64,
    /// Its user.
    pub user: Option<i64>,
    /// How many attempts were made.
    pub attempts: u32,
    /// Not before that time.
    pub next: Option<Timestamp>,
}

/// What is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Whose it is.
    pub key: Key,
    /// The event.
    pub event: i64,
    /// Its user.
    pub user: Option<i64>,
    /// How many attempts were made before.
    pub attempts: u32,
    /// The event as it was read ahead; one that was pending is read when it is sent.
    pub fresh: Option<Numbered>,
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Delivered(Attempt),
    /// It is tried again then.
    Retry(Attempt, Timestamp),
    /// That was the last attempt.
    Failed(Attempt),
    /// The event is not kept any more.
    Missing,
    /// The event has no place among all yet; then it may have one.
    NotYet(Timestamp),
}

/// The status of a delivery, as its row says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is to be tried.
    Pending,
    /// The endpoint took it.
    Delivered,
    /// It was tried as often as it may be.
    Failed,
    /// Its event is gone, and so goes the row.
    Missing,
}

/// A row to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The event.
    pub event: i64,
    /// Its user.
    pub user: Option<i64>,
    /// Where it stands.
    pub status: Status,
    /// How many attempts were made.
    pub attempts: u32,
    /// Of a pending one: not before.
    pub next: Option<Timestamp>,
    /// The attempts since the row was last written.
    pub log: Vec<Attempt>,
}

/// What waits of one key, the first ones in memory.
#[derive(Debug, Default)]
struct Waiting {
    rows: VecDeque<Pending>,
    /// How many more there are in the database.
    beyond: usize,
    /// Its entry among what is due.
    due: Option<Timestamp>,
}

impl Waiting {
    /// Puts a row where its event belongs: one may come back to before others that wait already.
    fn insert(&mut self, row: Pending) {
        let place = self.rows.partition_point(|kept| kept.event < row.event);
        if let Some(kept) = self.rows.get_mut(place).filter(|kept| kept.event == row.event) {
            *kept = row;
        } else if place == self.rows.len() && (self.beyond > 0 || place >= KEPT) {
            self.beyond += 1;
        } else {
            self.rows.insert(place, row);
        }
    }
}

/// What is under way of a key: an event, with its place where it was read ahead and has no row.
#[derive(Debug, Clone, Copy)]
struct Busy {
    event: i64,
    position: Option<i64>,
}

/// The window of one endpoint.
#[derive(Debug)]
pub struct Window {
    read_to: i64,
    /// The positions that were read and are not over.
    open: BTreeSet<i64>,
    queues: HashMap<Key, VecDeque<Numbered>>,
    ready: VecDeque<Key>,
    queued: usize,
    bytes: usize,
    bytes_max: usize,
    waiting: HashMap<Key, Waiting>,
    due: BTreeSet<(Timestamp, Key)>,
    hungry: HashSet<Key>,
    busy: HashMap<Key, Busy>,
    rows: BTreeMap<i64, Row>,
}

impl Window {
    /// One that begins behind that position and reads ahead up to so many bytes.
    #[must_use]
    pub fn new(cursor: i64, bytes_max: usize) -> Self {
        Self {
            read_to: cursor,
            open: BTreeSet::new(),
            queues: HashMap::new(),
            ready: VecDeque::new(),
            queued: 0,
            bytes: 0,
            bytes_max,
            waiting: HashMap::new(),
            due: BTreeSet::new(),
            hungry: HashSet::new(),
            busy: HashMap::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Up to where events were read.
    #[must_use]
    pub const fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Up to where the cursor may be written together with [`Window::take`].
    #[must_use]
    pub fn cursor(&self) -> i64 {
        self.open.first().map_or(self.read_to, |first| first - 1)
    }

    /// Whether there is room for more events.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queued <= WINDOW / 2
            && self.bytes <= self.bytes_max / 2
            && self.rows.len() <= WINDOW
            && self.waiting.len() < BLOCKED_MAX
    }

    /// How many deliveries are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.busy.len()
    }

    /// How many rows wait to be written.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.rows.len()
    }

    /// How many deliveries are pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.rows.len() + waiting.beyond).sum()
    }

    /// When the oldest event happened that was read ahead and for which no attempt was made.
    #[must_use]
    pub fn oldest_untried(&self) -> Option<Timestamp> {
        self.queues.values().filter_map(|queue| queue.front()).map(|event| event.event.at).min()
    }

    /// When the next pending delivery is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes in events that were read ahead, in the order of their positions; all up to `read_to` that are not among
    /// them are none of the endpoint's, or have their rows. What does not fit any more is left to the next read.
    pub fn offer(&mut self, events: Vec<Numbered>, read_to: i64) {
        for event in events {
            if self.bytes >= self.bytes_max && self.queued > 0 {
                // Everything before it was taken.
                self.read_to = self.read_to.max(event.position - 1);
                return;
            }
            let key = Key::of(event.user, event.id());
            self.read_to = event.position;
            if self.waiting.contains_key(&key) {
                self.park(key, event.id(), event.user);
                continue;
            }
            self.open.insert(event.position);
            self.queued += 1;
            self.bytes += event.bytes();
            let queue = self.queues.entry(key).or_default();
            queue.push_back(event);
            if queue.len() == 1 && !self.busy.contains_key(&key) {
                self.ready.push_back(key);
            }
        }
        self.read_to = self.read_to.max(read_to);
    }

    /// What goes next, if anything may; `probing` is for an endpoint that fails: one at a time, and nothing new while
    /// something is pending.
    pub fn next(&mut self, now: Timestamp, probing: bool) -> Option<Job> {
        if probing && !self.busy.is_empty() {
            return None;
        }
        if let Some((_, key)) = self.due.first().copied().filter(|(at, _)| *at <= now)
            && let Some(head) = self.waiting.get(&key).and_then(|waiting| waiting.rows.front()).copied()
        {
            self.busy.insert(key, Busy { event: head.event, position: None });
            self.index(key);
            let Pending { event, user, attempts, .. } = head;
            return Some(Job { key, event, user, attempts, fresh: None });
        }
        if probing && !self.waiting.is_empty() {
            return None;
        }
        while let Some(key) = self.ready.pop_front() {
            // One that was blocked meanwhile, or is under way, becomes ready again when that is over.
            if self.busy.contains_key(&key) || self.waiting.contains_key(&key) {
                continue;
            }
            let Some(event) = self.pop(key) else { continue };
            self.busy.insert(key, Busy { event: event.id(), position: Some(event.position) });
            return Some(Job { key, event: event.id(), user: event.user, attempts: 0, fresh: Some(event) });
        }
        None
    }

    /// Notes what came of a job.
    pub fn done(&mut self, job: &Job, outcome: Outcome) {
        let position = self.busy.remove(&job.key).and_then(|busy| busy.position);
        if let Some(position) = position {
            self.open.remove(&position);
        }
        if let Outcome::NotYet(at) = outcome {
            let Job { event, user, attempts, .. } = *job;
            return self.block(job.key, Pending { event, user, attempts, next: Some(at) });
        }
        let attempts = job.attempts + 1;
        let (status, attempts, next, log) = match outcome {
            Outcome::Delivered(attempt) => (Status::Delivered, attempts, None, vec![attempt]),
            Outcome::Retry(attempt, next) => (Status::Pending, attempts, Some(next), vec![attempt]),
            Outcome::Failed(attempt) => (Status::Failed, attempts, None, vec![attempt]),
            Outcome::Missing | Outcome::NotYet(_) => (Status::Missing, job.attempts, None, Vec::new()),
        };
        self.put(Row { event: job.event, user: job.user, status, attempts, next, log });
        if status == Status::Pending {
            self.block(job.key, Pending { event: job.event, user: job.user, attempts, next });
        } else {
            self.unblock(job.key, job.event);
        }
    }

    /// Takes out what is to be written, with the cursor that goes with it.
    pub fn take(&mut self) -> (Vec<Row>, i64) {
        (std::mem::take(&mut self.rows).into_values().collect(), self.cursor())
    }

    /// Makes everything that is pending due: the endpoint works again.
    pub fn wake_all(&mut self, now: Timestamp) {
        for waiting in self.waiting.values_mut() {
            for row in &mut waiting.rows {
                row.next = row.next.map(|next| next.min(now));
            }
        }
        let keys: Vec<Key> = self.waiting.keys().copied().collect();
        keys.into_iter().for_each(|key| self.index(key));
    }

    /// The keys of which all that was remembered is over and more is pending. Everything that was taken out must be written before
    /// it is read.
    #[must_use]
    pub fn hungry(&self) -> Vec<Key> {
        self.hungry.iter().copied().collect()
    }

    /// Takes in the next pending deliveries of a key, in order.
    pub fn refill(&mut self, key: Key, rows: Vec<Pending>) {
        self.hungry.remove(&key);
        if rows.is_empty() {
            self.forget(key);
        } else if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.beyond = waiting.beyond.saturating_sub(rows.len());
            waiting.rows = rows.into();
        }
        self.index(key);
    }

    /// Goes on behind that position, and forgets what was read ahead and is not under way.
    pub fn jump(&mut self, position: i64) {
        let under_way: BTreeSet<i64> = self.busy.values().filter_map(|busy| busy.position).collect();
        self.open.retain(|position| under_way.contains(position));
        self.queues.clear();
        self.ready.clear();
        (self.queued, self.bytes) = (0, 0);
        self.read_to = self.read_to.max(position);
    }

    /// Takes in all that is pending anew, in the order of the events: the first ones of each key with `beyond` of it. Everything
    /// that was taken out must be written before it is read.
    pub fn replace(&mut self, rows: impl IntoIterator<Item = (Key, Vec<Pending>, usize)>) {
        self.waiting.clear();
        self.due.clear();
        self.hungry.clear();
        for (key, rows, beyond) in rows {
            self.drop_queued(key, &rows);
            // What is under way is not over: it stands in its place again when it fails.
            self.waiting.insert(key, Waiting { rows: rows.into(), beyond, due: None });
            self.park_queue(key);
            self.index(key);
        }
    }

    /// Of what was asked for again, the events that were read ahead as well are sent once.
    fn drop_queued(&mut self, key: Key, rows: &[Pending]) {
        let Some(queue) = self.queues.get_mut(&key) else { return };
        let (kept, dropped): (VecDeque<_>, VecDeque<_>) = std::mem::take(queue)
            .into_iter()
            .partition(|event| !rows.iter().any(|row| row.event == event.id()));
        *queue = kept;
        for event in dropped {
            self.open.remove(&event.position);
            self.queued -= 1;
            self.bytes -= event.bytes();
        }
    }

    fn pop(&mut self, key: Key) -> Option<Numbered> {
        let queue = self.queues.get_mut(&key)?;
        let event = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        let event = event?;
        self.queued -= 1;
        self.bytes -= event.bytes();
        Some(event)
    }

    /// Something of a key is pending: its later events wait as rows.
    fn block(&mut self, key: Key, row: Pending) {
        self.waiting.entry(key).or_default().insert(row);
        self.park_queue(key);
        self.index(key);
    }

    fn park_queue(&mut self, key: Key) {
        while let Some(event) = self.pop(key) {
            self.open.remove(&event.position);
            self.park(key, event.id(), event.user);
        }
    }

    /// An event waits behind another one of its user. What is under way of the user gets a row as well: after a crash
    /// it must not be overtaken by the one that waits.
    fn park(&mut self, key: Key, event: i64, user: Option<i64>) {
        let before = self.busy.get_mut(&key);
        let before = before.and_then(|busy| busy.position.take().map(|position| (busy.event, position)));
        if let Some((_, position)) = before {
            self.open.remove(&position);
        }
        for event in before.map(|(event, _)| event).into_iter().chain([event]) {
            self.put(Row { event, user, status: Status::Pending, attempts: 0, next: None, log: Vec::new() });
            let row = Pending { event, user, attempts: 0, next: None };
            self.waiting.entry(key).or_default().insert(row);
        }
        self.index(key);
    }

    /// A job of a key is over: the next one may go.
    fn unblock(&mut self, key: Key, event: i64) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.rows.retain(|row| row.event != event);
            if waiting.rows.is_empty() && waiting.beyond == 0 {
                self.forget(key);
            } else if waiting.rows.is_empty() {
                self.hungry.insert(key);
            }
        }
        self.index(key);
        if !self.waiting.contains_key(&key) && self.queues.contains_key(&key) {
            self.ready.push_back(key);
        }
    }

    fn forget(&mut self, key: Key) {
        if let Some(Waiting { due: Some(at), .. }) = self.waiting.remove(&key) {
            self.due.remove(&(at, key));
        }
    }

    /// Brings the entry of a key among what is due up to date: one that is not under way and knows its first row has one.
    fn index(&mut self, key: Key) {
        let Some(waiting) = self.waiting.get_mut(&key) else { return };
        if let Some(at) = waiting.due.take() {
            self.due.remove(&(at, key));
        }
        if let (Some(head), false) = (waiting.rows.front(), self.busy.contains_key(&key)) {
            let at = head.next.unwrap_or_default();
            waiting.due = Some(at);
            self.due.insert((at, key));
        }
    }

    fn put(&mut self, mut row: Row) {
        if let Some(before) = self.rows.remove(&row.event) {
            let later = std::mem::replace(&mut row.log, before.log);
            row.log.extend(later);
        }
        self.rows.insert(row.event, row);
    }
}

#[cfg(test)]
mod tests;
