//! Deciding a batch: what was loaded goes in, answers and changes come out. Pure but for ids.

use super::command::{Answer, Command, Done, IdempotencyKey, Job, Reply, WriteError};
use super::edit::Edit;
use super::ids::Ids;
use crate::audit;
use crate::charges::rerate::Rerated;
use crate::credits::hold::{Hold, HoldStatus};
use crate::credits::ledger::{Decision, Facts, Issue, LedgerCommand, Note, Original, Policy, settle};
use crate::credits::model::Origin;
use crate::credits::reseal::{self, Reseal};
use crate::credits::{Account, Entry, EntryKind, Grant, Source, chain, decide};
use crate::db::DbError;
use crate::limits::{self, CounterKey, Moves, Used};
use crate::sessions::model::Session;
use crate::sessions::{Append, Message, Move};
use crate::usage::rollup::{self, Key, Sums};
use crate::usage::{Outcome, Record, UsageRecord};
use crate::users::api::Profile;
use crate::users::{Ensure, User, rules::Directory};
use crate::webhooks::bodies::{MessageEvent, SessionEvent, UsageEvent, UserEvent, text};
use crate::webhooks::of_ledger::{Before, Ticking, of_account, of_entry, of_hold, of_moves};
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
            Command::Patch(patch) => {
                let before = self.working.directory.live(&patch.auth0_id)?.clone();
                let user = self.working.directory.patch(patch, self.now)?;
                if user != before {
                    self.tell_user(EventType::UserUpdated, &user);
                }
                Ok(self.changed_user(before.updated_at, user))
            }
            Command::Delete(delete) => {
                let read = self.working.directory.live(&delete.auth0_id)?.updated_at;
                let user = self.working.directory.delete(delete, self.now)?;
                self.close(user.id, true);
                self.tell_user(EventType::UserDeleted, &user);
                Ok(self.changed_user(read, user))
            }
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

    /// Decides a command on one account.
    ///
    /// # Errors
    /// Why it is refused; nothing of it is to be written then.
    pub fn ledger(&mut self, user: UserRowId, command: &LedgerCommand) -> Result<Done, WriteError> {
        let working = &mut *self.working;
        let account = working.accounts.get_mut(&user).ok_or(crate::credits::Rejection::UnknownAccount)?;
        let read = account.version;
        let now = account.time(self.now);
        let owner = |id: Option<i64>| id.and_then(|id| working.usage_owners.get(&id).copied());
        let hold = |n: i64| working.holds.get(&HoldId { user, seq: n });
        let reference = |id: &String| working.references.get(&(user, id.clone()));
        let grant = |seq: i64| working.grants.get(&GrantId { user, seq });
        let (counters, reversed) = (Some(&working.counters), Some(&working.reversed));
        let facts = Facts { counters, reversed, ..Facts::default() };
        let facts = match command {
            LedgerCommand::Consume(consume) => Facts { usage_owner: owner(consume.usage_record_id), ..facts },
            LedgerCommand::Issue(Issue { reference_id: Some(id), .. }) => {
                Facts { reference: reference(id), ..facts }
            }
            LedgerCommand::Refund(refund) => {
                Facts { original: working.originals.get(&refund.original), ..facts }
            }
            LedgerCommand::Adjust(adjust) => Facts {
                original: adjust.original.and_then(|id| working.originals.get(&id)),
                usage_owner: owner(adjust.usage_record_id),
                ..facts
            },
            LedgerCommand::Void(void) => Facts { grant: grant(void.grant), ..facts },
            LedgerCommand::Reclaim(reclaim) => {
                Facts { reference: reference(&reclaim.reference_id), grant: grant(reclaim.grant), ..facts }
            }
            LedgerCommand::Tick(tick) => Facts { hold: hold(tick.hold), ..facts },
            LedgerCommand::Capture(capture) => {
                Facts { hold: hold(capture.hold), usage_owner: owner(capture.usage_record_id), ..facts }
            }
            LedgerCommand::Release(n) => Facts { hold: hold(*n), ..facts },
            LedgerCommand::Issue(_)
            | LedgerCommand::Hold(_)
            | LedgerCommand::SetCreditLimit(_)
            | LedgerCommand::SetLimits(_)
            | LedgerCommand::SetPlanLimits(_)
            | LedgerCommand::Settle => facts,
        };
        let told = [EventType::CreditLowBalance, EventType::CreditLimitChanged];
        let before = told
            .iter()
            .any(|kind| self.wanted.has(*kind))
            .then(|| Before::of(account, self.rules.low_balance));
        let ticking = match command {
            LedgerCommand::Tick(tick) => {
                account.holds.iter().find(|hold| hold.n == tick.hold).map(Ticking::of)
            }
            _ => None,
        };
        let decision = decide(account, command, &facts, now, self.rules.ledger)?;
        let available = account.available(now);
        if let Some(entry) = decision.existing {
            return Ok(Done::Entry { entry: Box::new(entry), available });
        }
        if matches!(command, LedgerCommand::Settle) {
            self.changes.settled.push((user, now));
        }
        let hold = decision.hold.clone();
        let entry = self.write(user, Some(read), decision, ticking).map_err(internal)?;
        if let (Some(before), Some(account)) = (before, self.working.accounts.get(&user)) {
            of_account(&mut self.changes, self.wanted, account, (before, self.rules.low_balance), now);
        }
        if let Some(hold) = hold {
            let seq = hold.settled.and_then(|settled| settled.entry_seq);
            let entry = seq.and_then(|seq| self.working.entries.get(&TransactionId { user, seq }));
            return Ok(Done::Hold { hold: Box::new(hold), entry: entry.cloned().map(Box::new), available });
        }
        Ok(match (command, entry) {
            (
                LedgerCommand::SetCreditLimit(_)
                | LedgerCommand::SetLimits(_)
                | LedgerCommand::SetPlanLimits(_),
                _,
            ) => {
                let account = self.working.accounts.get(&user).cloned();
                account.map_or(Done::Settled, |account| Done::Account(Box::new(account)))
            }
            (_, Some(entry)) => Done::Entry { entry: Box::new(entry), available },
            (_, None) => Done::Settled,
        })
    }

    /// What the user can spend now, on anything.
    #[must_use]
    pub fn available(&self, user: UserRowId) -> Credits {
        self.working.accounts.get(&user).map_or(Credits::ZERO, |account| account.available(self.now))
    }

    /// Seals what the ledger decided, and notes it as changes; gives back the command's own entry.
    fn write(
        &mut self,
        user: UserRowId,
        read: Option<i64>,
        decision: Decision,
        ticking: Option<Ticking>,
    ) -> Result<Option<Entry>, DbError> {
        if !decision.changed {
            return Ok(None);
        }
        self.changes.accounts.entry(user).or_insert(read);
        let Some(account) = self.working.accounts.get_mut(&user) else { return Ok(None) };
        let mut own = None;
        let issued: Vec<i64> =
            decision.entries.iter().filter(|entry| entry.grant.is_some()).map(|entry| entry.seq).collect();
        for (place, mut entry) in decision.entries.into_iter().enumerate() {
            entry.id = self.ids.entries.take()?;
            entry.prev_hash = account.head;
            entry.hash = chain::hash(&entry);
            account.head = entry.hash;
            if let Some(reference) = &entry.cause.reference_id {
                self.working.references.insert((user, reference.clone()), entry.clone());
            }
            if let (EntryKind::Refund, Some(seq)) = (entry.kind, entry.cause.reverses)
                && let Some(original) = self.working.originals.get_mut(&TransactionId { user, seq })
            {
                original.refunded = Credits::from_micro(original.refunded.micro() + entry.amount.micro());
            }
            if let (EntryKind::Reversal, Some(seq)) = (entry.kind, entry.cause.reverses) {
                let reversed = self.working.reversed.entry(GrantId { user, seq }).or_default();
                *reversed = Credits::from_micro(reversed.micro() - entry.amount.micro());
            }
            of_entry(&mut self.changes, self.wanted, &entry);
            if entry.cause.hold_id.is_some() {
                self.working.entries.insert(entry.transaction_id(), entry.clone());
            }
            if decision.own == Some(place) {
                own = Some(entry.clone());
            }
            self.changes.entries.push(entry);
        }
        for grant in decision.grants {
            let key = (user, grant.seq);
            self.working.grants.insert(grant.id(user), grant.clone());
            if grant.voided {
                // What a later refund of the batch would give back to it must know.
                let originals = self.working.originals.iter_mut().filter(|(id, _)| id.user == user);
                let paid = originals.flat_map(|(_, original)| &mut original.grants);
                paid.filter(|paid| paid.seq == grant.seq).for_each(|paid| paid.voided = true);
            }
            if issued.contains(&grant.seq) || self.changes.new_grants.contains_key(&key) {
                self.changes.new_grants.insert(key, grant);
            } else {
                self.changes.grants.insert(key, grant);
            }
        }
        let now = self.now;
        for hold in decision.holds {
            let before = ticking.filter(|_| hold.status == HoldStatus::Open);
            of_hold(&mut self.changes, self.wanted, (user, now), &hold, before);
            self.working.holds.insert(hold.id(user), hold.clone());
            self.changes.holds.insert((user, hold.n), hold);
        }
        if let Some(account) = self.working.accounts.get(&user) {
            let (limits, at) = (&account.limits, account.time(now));
            let counters = &self.working.counters;
            of_moves(&mut self.changes, self.wanted, (user, at), limits, counters, &decision.moves);
        }
        limits::apply(&mut self.working.counters, &decision.moves);
        self.changes.moves_of_limits.add(&decision.moves);
        Ok(own)
    }

    fn ensure(&mut self, ensure: &Ensure) -> Result<Done, WriteError> {
        let known = self.working.directory.by_id.get(&ensure.auth0_id).cloned().flatten();
        let fresh = match known {
            Some(_) => UserRowId(0),
            None => UserRowId(self.ids.users.take().map_err(internal)?),
        };
        let user = self.working.directory.ensure(ensure, || fresh, self.now)?;
        if let Some(before) = known {
            if before.deleted_at.is_some() {
                self.close(user.id, false);
            }
            if before == user {
                return Ok(self.user_done(user, false));
            }
            let back = before.deleted_at.is_some();
            self.tell_user(if back { EventType::UserRestored } else { EventType::UserUpdated }, &user);
            return Ok(self.changed_user(before.updated_at, user));
        }
        self.changes.new_users.push(user.clone());
        self.changes.accounts.insert(user.id, None);
        self.working.accounts.insert(user.id, Account::new(user.id, self.now));
        let place = self.changes.events.len();
        if self.rules.welcome > Credits::ZERO {
            self.welcome(user.id)?;
        }
        let given = self.changes.events.len();
        self.tell_user(EventType::UserCreated, &user);
        // Whoever is told hears of the user before it hears of its credits.
        let told = self.changes.events.len() - given;
        self.changes.events[place..].rotate_right(told);
        Ok(self.user_done(user, true))
    }

    /// Notes what became of a user.
    fn tell_user(&mut self, kind: EventType, user: &User) {
        let account = self.working.accounts.get(&user.id);
        let available = account.map_or(Credits::ZERO, |account| account.available(self.now));
        let credits_total = account.map_or(Credits::ZERO, |account| account.credits_total);
        self.changes.tell(self.wanted, (kind, user.id, self.now), || {
            text(&UserEvent { data: Profile::new(user.clone(), available, credits_total) })
        });
    }

    fn welcome(&mut self, user: UserRowId) -> Result<(), WriteError> {
        let command = LedgerCommand::Issue(Issue {
            kind: EntryKind::Grant,
            amount: self.rules.welcome,
            source: Source::Signup,
            priority: 0,
            effective_at: None,
            expires_at: self.rules.welcome_life.map(|life| self.now.plus(life)),
            scope: None,
            rollover: None,
            reference_id: None,
            note: Note {
                description: Some("Welcome credits".to_owned()),
                origin: Origin { actor: "system".to_owned(), ..Origin::default() },
                ..Note::default()
            },
        });
        if let Some(account) = self.working.accounts.get_mut(&user) {
            // The user stands already, so a refusal here must stop the batch.
            let decision = decide(account, &command, &Facts::default(), self.now, self.rules.ledger)
                .map_err(|why| WriteError::Internal(format!("the welcome grant was refused: {why}")))?;
            self.write(user, None, decision, None).map_err(internal)?;
        }
        Ok(())
    }

    fn close(&mut self, user: UserRowId, closed: bool) {
        if let Some(account) = self.working.accounts.get_mut(&user) {
            self.changes.accounts.entry(user).or_insert(Some(account.version));
            account.closed = closed;
        }
    }

    fn changed_user(&mut self, read: Timestamp, user: User) -> Done {
        match self.changes.new_users.iter_mut().find(|other| other.id == user.id) {
            Some(new) => *new = user.clone(),
            None => self.changes.users.entry(user.id).or_insert((read, user.clone())).1 = user.clone(),
        }
        self.user_done(user, false)
    }

    fn user_done(&self, user: User, created: bool) -> Done {
        let account = self.working.accounts.get(&user.id);
        Done::User {
            created,
            available: account.map_or(Credits::ZERO, |account| account.available(self.now)),
            credits_total: account.map_or(Credits::ZERO, |account| account.credits_total),
            user: Box::new(user),
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
