//! Deciding a batch: what was loaded goes in, answers and changes come out. Pure but for ids.

use super::command::{Answer, Command, Done, IdempotencyKey, Job, Reply, WriteError};
use super::edit::Edit;
use super::ids::Ids;
use crate::audit;
use crate::charges::rerate::Rerated;
use crate::credits::hold::Hold;
use crate::credits::ledger::{Original, Policy, settle};
use crate::credits::reseal::{self, Reseal};
use crate::credits::{Account, Entry, Grant};
use crate::db::DbError;
use crate::limits::{CounterKey, Moves, Used};
use crate::sessions::model::Session;
use crate::sessions::{Append, Message, Move};
use crate::usage::rollup::{self, Key, Sums};
use crate::usage::{Outcome, Record, UsageRecord};
use crate::users::{User, rules::Directory};
use crate::webhooks::bodies::{MessageEvent, SessionEvent, UsageEvent, text};
use crate::webhooks::{Event, EventType, Kinds};
use bytes::Bytes;
use kernel::{Credits, GrantId, HoldId, Timestamp, TransactionId, UserRowId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// What configuration decides about writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The ledger's part.
    pub ledger: Policy,
    /// What a new user is given; none when zero.
    pub welcome: Credits,
    /// How long the welcome grant lives; for ever when absent.
    pub welcome_life: Option<Duration>,
    /// How long a session lives without activity; for ever when absent.
    pub session_life: Option<Duration>,
    /// Below what others are told that few credits are left; never when zero.
    pub low_balance: Credits,
}

/// The rows that a batch looks at, as they stand.
#[derive(Debug, Clone, Default)]
pub struct Working {
    /// Accounts; what was looked for and is absent is not in here.
    pub accounts: HashMap<UserRowId, Account>,
    /// Users and addresses.
    pub directory: Directory,
    /// What a reference was applied to.
    pub references: HashMap<(UserRowId, String), Entry>,
    /// Entries to refund.
    pub originals: HashMap<TransactionId, Original>,
    /// Holds that are to be settled or ticked.
    pub holds: HashMap<HoldId, Hold>,
    /// Grants that are to be taken back.
    pub grants: HashMap<GrantId, Grant>,
    /// What was taken back of grants so far, of those where it matters.
    pub reversed: HashMap<GrantId, Credits>,
    /// Entries of holds that were charged, and of events that were.
    pub entries: HashMap<TransactionId, Entry>,
    /// What counts under spending limits.
    pub counters: HashMap<CounterKey, Used>,
    /// Usage records that are to be rated.
    pub records: HashMap<i64, UsageRecord>,
    /// Whose a usage record is.
    pub usage_owners: HashMap<i64, UserRowId>,
    /// The record of an event.
    pub events: HashMap<(UserRowId, String), UsageRecord>,
    /// Sessions that are there.
    pub sessions: HashSet<i64>,
    /// Those of them that are expired.
    pub expired: HashMap<i64, Session>,
    /// The answers of idempotency keys, by caller and key.
    pub answers: HashMap<(String, String), StoredAnswer>,
}

impl Working {
    /// At most how many entries these jobs write on these accounts.
    #[must_use]
    pub fn entries_max(&self, jobs: &[&Job], now: Timestamp) -> usize {
        let accounts = || self.accounts.values();
        let due: usize = accounts().map(|account| settle::entries_due(account, account.time(now))).sum();
        let each = accounts().map(settle::entries_of_command).max().unwrap_or(2);
        let commands: usize = jobs
            .iter()
            .map(|job| match &job.command {
                Command::Charges(charges) => charges.charges.len(),
                _ => 1,
            })
            .sum();
        due + commands * each
    }
}

/// The first answer to a key.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    /// Whose key, which key, which request.
    pub key: IdempotencyKey,
    /// The body.
    pub body: Bytes,
    /// Whose data it may hold, where it is one user's.
    pub user: Option<UserRowId>,
}

/// What a batch writes. Keys are ordered, so that every writer locks rows in the same order.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Users that are made.
    pub new_users: Vec<User>,
    /// Users that are changed, with the `updated_at` that was read.
    pub users: BTreeMap<UserRowId, (Timestamp, User)>,
    /// Touched accounts, with the version that was read; absent for a new account.
    pub accounts: BTreeMap<UserRowId, Option<i64>>,
    /// Grants that are issued.
    pub new_grants: BTreeMap<(UserRowId, i64), Grant>,
    /// Grants that are changed.
    pub grants: BTreeMap<(UserRowId, i64), Grant>,
    /// Entries, in the order in which they happened.
    pub entries: Vec<Entry>,
    /// Holds that are made or changed.
    pub holds: BTreeMap<(UserRowId, i64), Hold>,
    /// What moves under spending limits.
    pub moves_of_limits: Moves,
    /// Accounts whose expiries are written down, and up to when.
    pub settled: Vec<(UserRowId, Timestamp)>,
    /// Usage records.
    pub usage: Vec<UsageRecord>,
    /// Usage records that were rated.
    pub rerated: Vec<Rerated>,
    /// What their buckets move by.
    pub rollups: BTreeMap<Key, Sums>,
    /// Messages, in the order in which they were added.
    pub messages: Vec<Message>,
    /// What sessions move by.
    pub moves: BTreeMap<i64, Move>,
    /// Small changes, in order, each with how many of the events come before it.
    pub edits: Vec<(usize, Edit)>,
    /// What others are told of, in the order in which it happened.
    pub events: Vec<Event>,
    /// What the audit log says of it.
    pub audit: Vec<audit::Record>,
    /// Answers to keep.
    pub answers: Vec<StoredAnswer>,
    /// Up to when answers are forgotten, some at a time.
    pub forget_keys: Option<Timestamp>,
}

impl Changes {
    /// Notes an event, where it is wanted.
    pub fn tell(
        &mut self,
        wanted: Kinds,
        (kind, user, at): (EventType, UserRowId, Timestamp),
        body: impl FnOnce() -> String,
    ) {
        if wanted.has(kind) {
            self.events.push(Event { kind, user: Some(user), body: body(), at });
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new_users.is_empty()
            && self.users.is_empty()
            && self.accounts.is_empty()
            && self.settled.is_empty()
            && self.usage.is_empty()
            && self.rerated.is_empty()
            && self.messages.is_empty()
            && self.edits.is_empty()
            && self.events.is_empty()
            && self.audit.is_empty()
            && self.answers.is_empty()
            && self.forget_keys.is_none()
    }
}

/// One batch being decided.
pub struct Plan<'a> {
    /// What was loaded; it follows what is decided.
    pub working: &'a mut Working,
    /// Where ids come from.
    pub ids: &'a mut Ids,
    /// What configuration says.
    pub rules: Rules,
    /// What others want to be told of.
    pub wanted: Kinds,
    /// When the batch happens.
    pub now: Timestamp,
    /// What is to be written.
    pub changes: Changes,
}

impl Plan<'_> {
    /// Decides the jobs in order; the changes hold what the accepted ones write.
    ///
    /// # Errors
    /// [`DbError::Internal`] when a job breaks off half-way: then nothing of the batch may be written.
    pub fn run(&mut self, jobs: &[&Job]) -> Result<Vec<Result<Reply, WriteError>>, DbError> {
        let replies: Vec<_> = jobs.iter().map(|job| self.job(job)).collect();
        for reply in &replies {
            if let Err(WriteError::Internal(why)) = reply {
                return Err(DbError::Internal(why.clone()));
            }
        }
        self.changes.rollups = rollup::of(&self.changes.usage, &self.changes.rerated);
        for (user, read) in &self.changes.accounts {
            if let Some(account) = self.working.accounts.get_mut(user) {
                account.version = read.map_or(1, |version| version + 1);
            }
        }
        Ok(replies)
    }

    fn job(&mut self, job: &Job) -> Result<Reply, WriteError> {
        let Some((key, respond)) = &job.keyed else {
            return self.audited(job).map(Reply::Done);
        };
        let address = (key.caller.clone(), key.key.clone());
        if let Some(stored) = self.working.answers.get(&address) {
            return if stored.key.fingerprint == key.fingerprint {
                Ok(Reply::Answer(Answer { body: stored.body.clone(), replayed: true }))
            } else {
                Err(WriteError::IdempotencyMismatch)
            };
        }
        let done = self.audited(job)?;
        let user = job.command.user().or(match &done {
            Done::User { user, .. } => Some(user.id),
            _ => None,
        });
        let body = respond(&done);
        let stored = StoredAnswer { key: key.clone(), body: body.clone(), user };
        self.working.answers.insert(address, stored.clone());
        self.changes.answers.push(stored);
        Ok(Reply::Answer(Answer { body, replayed: false }))
    }

    /// Does a job's command, and notes what the audit log is to say of it, unless nothing came of it:
    /// a reference that was applied before, a user who is as it was.
    fn audited(&mut self, job: &Job) -> Result<Done, WriteError> {
        let entries = self.changes.entries.len();
        let done = self.command(&job.command)?;
        if let Some(record) = &job.audit {
            let changed = match (&job.command, &done) {
                (_, Done::Entry { .. }) => self.changes.entries.len() > entries,
                (Command::Ensure(_), Done::User { user, created, .. }) => {
                    *created || self.changes.users.contains_key(&user.id)
                }
                _ => true,
            };
            if changed {
                self.changes.audit.push(record.with(&done));
            }
        }
        Ok(done)
    }

    fn command(&mut self, command: &Command) -> Result<Done, WriteError> {
        match command {
            Command::Ledger(user, command) => self.ledger(*user, command),
            Command::Ensure(ensure) => self.ensure(ensure),
            Command::Patch(patch) => self.patch(patch),
            Command::Delete(delete) => self.delete(delete),
            Command::Usage(record) => self.usage(record),
            Command::Rerate(rerate) => self.rerate(rerate).map(Done::Rerated),
            Command::Charge(charge) => self.charge(charge).map(Done::Charged),
            Command::Charges(charges) => self.charges(charges).map(Done::Charges),
            Command::Append(append) => self.append(append),
            Command::Edit(edit) => self.edit(edit),
            Command::Reseal(reseal) => self.reseal(reseal),
            Command::ForgetKeys(before) => {
                self.changes.forget_keys = Some(*before);
                Ok(Done::Settled)
            }
        }
    }

    fn usage(&mut self, record: &Record) -> Result<Done, WriteError> {
        if record.atomic {
            let unknown = record.records.iter().position(|new| !self.is_open(new.user));
            if let Some(at) = unknown {
                return Err(WriteError::UsageUser(at, record.records[at].auth0_id.clone()));
            }
        }
        let mut outcomes = Vec::with_capacity(record.records.len());
        for new in &record.records {
            if !self.is_open(new.user) {
                outcomes.push(Outcome::UnknownUser(new.auth0_id.clone()));
                continue;
            }
            let event = new.event_id.clone().map(|event| (new.user, event));
            if let Some(earlier) = event.as_ref().and_then(|event| self.working.events.get(event)) {
                outcomes.push(Outcome::Duplicate(Box::new(earlier.clone())));
                continue;
            }
            let written = UsageRecord {
                id: self.ids.usage.take().map_err(internal)?,
                user: new.user,
                created_at: new.created_at.unwrap_or(self.now),
                recorded_at: self.now,
                event_id: new.event_id.clone(),
                facts: new.facts.clone(),
                charge: None,
            };
            self.working.events.extend(event.map(|event| (event, written.clone())));
            self.tell_usage(EventType::UsageRecorded, &written);
            self.changes.usage.push(written.clone());
            outcomes.push(Outcome::Recorded(Box::new(written)));
        }
        Ok(Done::Usage(outcomes))
    }

    /// Notes what became of a usage record.
    pub fn tell_usage(&mut self, kind: EventType, record: &UsageRecord) {
        let told = (kind, record.user, self.now);
        self.changes.tell(self.wanted, told, || text(&UsageEvent::new(record)));
    }

    /// Whether the user is there and not deleted.
    #[must_use]
    pub fn is_open(&self, user: UserRowId) -> bool {
        self.working.accounts.get(&user).is_some_and(|account| !account.closed)
    }

    fn append(&mut self, append: &Append) -> Result<Done, WriteError> {
        let session = &append.session;
        if !self.is_open(session.user) {
            return Err(crate::credits::Rejection::UnknownAccount.into());
        }
        if !self.working.sessions.contains(&session.row) {
            return Err(WriteError::UnknownSession);
        }
        let mut added = Vec::with_capacity(append.messages.len());
        for new in &append.messages {
            added.push(Message {
                id: self.ids.messages.take().map_err(internal)?,
                session: session.clone(),
                created_at: self.now,
                new: new.clone(),
            });
        }
        let (now, life) = (self.now, self.rules.session_life);
        let moved = self.changes.moves.entry(session.row).or_insert_with(|| Move::new(now, life));
        append.messages.iter().for_each(|new| moved.add(&new.facts));
        if let Some(expired) = self.working.expired.remove(&session.row) {
            moved.revives = true;
            let told = (EventType::SessionActivated, session.user, now);
            let revived = expired.revived(moved);
            self.changes.tell(self.wanted, told, || text(&SessionEvent::new(revived, now)));
        }
        for message in &added {
            let told = (EventType::SessionMessageAdded, session.user, now);
            self.changes.tell(self.wanted, told, || text(&MessageEvent::new(message)));
        }
        self.changes.messages.extend(added.iter().cloned());
        Ok(Done::Messages(added))
    }

    fn reseal(&mut self, reseal: &Reseal) -> Result<Done, WriteError> {
        let user = reseal.user;
        let account = self.working.accounts.get_mut(&user).filter(|account| account.closed);
        let account = account.ok_or(WriteError::Refused(0))?;
        let mut statements = reseal.statements.clone();
        let read = account.version;
        // Every piece moves the version, so that nobody writes over it what was read before.
        self.changes.accounts.entry(user).or_insert(Some(read));
        if reseal.apply(account) {
            statements.push(reseal::finished(user));
        }
        self.changes.edits.push((self.changes.events.len(), Edit::new(user, statements)));
        Ok(Done::Settled)
    }

    fn edit(&mut self, edit: &Edit) -> Result<Done, WriteError> {
        let id = edit.fresh.map(|counter| self.ids.of(counter).take()).transpose().map_err(internal)?;
        let planned = id.map_or_else(|| edit.clone(), |id| edit.with_id(id));
        self.changes.edits.push((self.changes.events.len(), planned));
        let wanted = edit.events.iter().filter(|event| self.wanted.has(event.kind)).cloned();
        self.changes.events.extend(wanted.map(|event| id.map_or(event.clone(), |id| event.with_id(id))));
        Ok(Done::Edited(id))
    }
}

/// A bug, for whoever asked.
pub fn internal(error: DbError) -> WriteError {
    WriteError::Internal(error.to_string())
}

#[cfg(test)]
mod tests;
