//! The group-commit writer: every change of a user's rows goes through here.
//!
//! Handlers hand commands to a bounded queue. The writer takes whatever queued while the last
//! commit ran, loads the touched rows once, decides each command in order ([`plan`]), writes in
//! bulk, commits once, and answers all. An idle queue adds no delay; a full one refuses at once.
//! A command that was taken is finished and answered, even if its client has gone.
//!
//! The rules run once, in [`plan`]; the engines only load and write: [`sqlite`] on a thread of its
//! own with every account in memory, [`postgres`] with optimistic versions, so that replicas share
//! one database.
//!
//! What always holds: an answer is sent after its commit reached the disk, and whoever watches is woken after it too; an idempotency key is
//! committed with its effect; a failed batch changes nothing, and is tried again command by
//! command, so that one bad command cannot fail another.

pub mod command;
pub mod edit;
pub mod ids;
pub mod needs;
pub mod plan;
pub mod postgres;
pub mod sqlite;

pub use command::{Answer, Command, Done, IdempotencyKey, Job, Reply, Respond, Ticket, WriteError};
pub use edit::{Edit, Statement};
pub use ids::Counter;
pub use plan::{Changes, Rules, Working};

use crate::audit;
use crate::credits::memory::Accounts;
use crate::db::{Db, DbError};
use crate::live::Live;
use crate::measure;
use crate::telemetry::traces;
use crate::webhooks::Outbox;
use bytes::Bytes;
use kernel::Clock;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How many commands may wait in one lane.
pub const QUEUE_MAX: usize = 8_192;
/// How many commands are committed at once.
pub const BATCH_MAX: usize = 256;
/// How many rows are committed at once, but for a single command that has more.
pub const BATCH_ROWS_MAX: usize = 4_096;

/// Forgets the oldest answers from before an instant, a thousand at a time.
pub const FORGET_KEYS: &str = "DELETE FROM idempotency_keys WHERE (caller, key) IN \
    (SELECT caller, key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT 1000)";

/// A job and the way back to the one who waits for it.
pub type Waiting = (Job, WayBack);

/// The way back to the one who waits for a job.
pub struct WayBack {
    sender: oneshot::Sender<(Result<Reply, WriteError>, Instant)>,
    queued: Instant,
}

impl WayBack {
    /// How long the job had waited at that instant.
    #[must_use]
    pub fn waited(&self, began: Instant) -> Duration {
        began.saturating_duration_since(self.queued)
    }

    /// Answers; the batch that did the job began at that instant.
    pub fn answer(self, reply: Result<Reply, WriteError>, began: Instant) {
        let _ = self.sender.send((reply, began));
    }
}

/// Who hears of a commit: whoever watches here, and whoever tells others.
#[derive(Clone, Default)]
pub struct Told {
    /// Whoever watches.
    pub live: Live,
    /// What others want to be told of.
    pub outbox: Outbox,
}

impl Told {
    fn touched(&self, changes: &Changes) {
        self.live.touched(changes);
        if !changes.events.is_empty() || !changes.edits.is_empty() {
            self.outbox.ring();
        }
    }
}

/// The way into the writer. Cheap to clone; the writer ends when the last one is dropped.
#[derive(Clone)]
pub struct Writer {
    lanes: Arc<[mpsc::Sender<Waiting>]>,
}

/// Resolves when the writer has answered all it took and has ended.
pub type Finished = Vec<oneshot::Receiver<()>>;

impl Writer {
    /// Starts the writer of an engine.
    ///
    /// # Errors
    /// [`DbError`] when the database cannot be opened for writing.
    pub fn start(
        db: &Db,
        rules: Rules,
        clock: &Clock,
        memory: &Arc<Accounts>,
        told: &Told,
    ) -> Result<(Self, Finished), DbError> {
        let mut lanes = Vec::new();
        let mut finished = Vec::new();
        let count = match db {
            Db::Sqlite(_) => 1,
            Db::Postgres(_) => postgres::LANES,
        };
        for _ in 0..count {
            let (lane, queue) = mpsc::channel(QUEUE_MAX);
            let (done, ended) = oneshot::channel();
            match db {
                Db::Sqlite(db) => {
                    let shared = (Arc::clone(memory), told.clone());
                    sqlite::start(db, rules, clock.clone(), shared, queue, done)?;
                }
                Db::Postgres(db) => {
                    postgres::start(db.clone(), rules, clock.clone(), told.clone(), queue, done);
                }
            }
            lanes.push(lane);
            finished.push(ended);
        }
        Ok((Self { lanes: lanes.into() }, finished))
    }

    /// Does a command and makes its answer; with a key, once for that key.
    ///
    /// # Errors
    /// [`WriteError`]; nothing has changed, except that after `Unavailable` it is not known.
    pub async fn submit(
        &self,
        command: Command,
        ticket: Ticket,
        respond: impl Fn(&Done) -> Bytes + Clone + Send + Sync + 'static,
    ) -> Result<Answer, WriteError> {
        let keyed = ticket.key.map(|key| (key, Box::new(respond.clone()) as Respond));
        match self.send(Job { command, keyed, room: ticket.room, audit: None }).await? {
            Reply::Done(done) => Ok(Answer { body: respond(&done), replayed: false }),
            Reply::Answer(answer) => Ok(answer),
        }
    }

    /// Does a command whose caller makes its own answer.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn execute(&self, command: Command) -> Result<Done, WriteError> {
        match self.send(Job { command, keyed: None, room: None, audit: None }).await? {
            Reply::Done(done) => Ok(done),
            Reply::Answer(_) => Err(WriteError::Internal("an answer without a key".to_owned())),
        }
    }

    /// How many commands wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.max_capacity() - lane.capacity()).sum()
    }

    /// How many commands may wait.
    #[must_use]
    pub fn waiting_max(&self) -> usize {
        self.lanes.len() * QUEUE_MAX
    }

    /// Sends a job together with what the audit log is to say of its request, unless another did.
    async fn send(&self, job: Job) -> Result<Reply, WriteError> {
        let record = audit::around::take();
        let reply = self.reply(Job { audit: record.clone(), ..job }).await;
        if reply.is_err() {
            audit::around::give_back(record);
        }
        reply
    }

    async fn reply(&self, job: Job) -> Result<Reply, WriteError> {
        let lane = &self.lanes[lane_of(&job.command) % self.lanes.len()];
        let (sender, reply) = oneshot::channel();
        let queued = Instant::now();
        let way_back = WayBack { sender, queued };
        lane.try_send((job, way_back)).map_err(|_| WriteError::Overloaded)?;
        let (reply, began) =
            reply.await.map_err(|_| WriteError::Unavailable("the writer has stopped".to_owned()))?;
        traces::written(queued, began);
        reply
    }
}

/// Says that a batch failed and each of its commands goes alone: a refused edit is its caller's
/// affair, anything else the operator's.
fn alone(why: &DbError, jobs: usize) {
    measure::batch_trouble("split");
    match why {
        DbError::Refused(_) => {
            tracing::debug!(error = %why, jobs, "an edit was refused; each command goes alone")
        }
        _ => tracing::warn!(error = %why, jobs, "the batch failed; each command goes alone"),
    }
}

/// Counts what a batch committed.
fn committed(changes: &Changes) {
    measure::entries(changes.entries.iter().map(|entry| (entry.kind.as_str(), entry.amount.micro())));
}

/// Cuts what was taken from the queue into batches of a bounded number of rows.
fn batches(jobs: &[Job]) -> impl Iterator<Item = &[Job]> {
    let mut rest = jobs;
    std::iter::from_fn(move || {
        let mut rows = 0;
        let end = rest.iter().position(|job| {
            rows += match &job.command {
                Command::Usage(record) => record.records.len(),
                Command::Append(append) => append.messages.len(),
                Command::Charges(charges) => charges.charges.len(),
                Command::Reseal(reseal) => reseal.statements.len(),
                _ => 1,
            };
            rows > BATCH_ROWS_MAX
        });
        // A command that is too large alone goes alone.
        let (batch, later) = rest.split_at(end.unwrap_or(rest.len()).max(1).min(rest.len()));
        rest = later;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Commands on one account take one lane, so that a lane's memory of it is mostly right.
fn lane_of(command: &Command) -> usize {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let hash = match command {
        Command::Ledger(user, _) => hasher.hash_one(user),
        Command::Rerate(rerate) => hasher.hash_one(rerate.user),
        Command::Charge(charge) => hasher.hash_one(charge.new.user),
        Command::Charges(charges) => hasher.hash_one(charges.charges.first().map(|charge| charge.new.user)),
        Command::Usage(record) => hasher.hash_one(record.records.first().map(|record| record.user)),
        Command::Ensure(ensure) => hasher.hash_one(&ensure.auth0_id),
        Command::Patch(patch) => hasher.hash_one(&patch.auth0_id),
        Command::Delete(delete) => hasher.hash_one(&delete.auth0_id),
        Command::Append(append) => hasher.hash_one(append.session.user),
        Command::Reseal(reseal) => hasher.hash_one(reseal.user),
        Command::Edit(edit) => hasher.hash_one(edit.user),
        Command::ForgetKeys(_) => 0,
    };
    usize::try_from(hash >> 33).unwrap_or(0)
}
