//! The writer on SQLite: one thread, one connection, the accounts in memory.
//!
//! Nobody else writes the file (the process holds its lock), so the memory is the truth and a
//! batch is: decide, write, one fsync.

use super::edit::Statement;
use super::ids::{FETCH, Ids};
use super::needs::Needs;
use super::plan::{Changes, Plan, Rules, StoredAnswer, Working};
use super::{
    BATCH_MAX, FORGET_KEYS, IdempotencyKey, Job, Reply, Told, Waiting, WayBack, WriteError, alone, batches,
    committed,
};
use crate::credits::memory::Accounts;
use crate::db::DbError;
use crate::measure;
use crate::{credits, db, limits, sessions, usage, users, webhooks};
use kernel::Clock;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Starts the thread. It ends when the queue is closed and empty.
///
/// # Errors
/// [`DbError`] when the database cannot be opened for writing.
pub fn start(
    db: &db::sqlite::Sqlite,
    rules: Rules,
    clock: Clock,
    (memory, told): (Arc<Accounts>, Told),
    mut queue: mpsc::Receiver<Waiting>,
    done: oneshot::Sender<()>,
) -> Result<(), DbError> {
    let connection = db.writing_connection()?;
    let mut engine = Engine { connection, rules, clock, ids: Ids::default(), memory, told };
    std::thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            // What queued while the last commit ran is the next batch: it grows with load only.
            while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                let (jobs, ways_back): (Vec<Job>, Vec<_>) = batch.drain(..).unzip();
                let mut ways_back = ways_back.into_iter();
                for jobs in batches(&jobs) {
                    let began = Instant::now();
                    let ways_back: Vec<WayBack> = ways_back.by_ref().take(jobs.len()).collect();
                    // A bug in one batch must not end all writes. Its transaction rolls back as it unwinds,
                    // its callers hear that the answer is lost, and nothing is remembered that it may have changed.
                    let replies =
                        catch_unwind(AssertUnwindSafe(|| engine.commit(jobs))).unwrap_or_else(|_| {
                            engine.memory.forget_all();
                            Vec::new()
                        });
                    let waited = ways_back.first().map_or(Duration::ZERO, |first| first.waited(began));
                    measure::batch(jobs.len(), waited, began.elapsed());
                    for (reply, way_back) in replies.into_iter().zip(ways_back) {
                        way_back.answer(reply, began);
                    }
                }
            }
            let _ = done.send(());
        })
        .map_err(|e| DbError::Internal(format!("the writer thread did not start: {e}")))?;
    Ok(())
}

struct Engine {
    connection: Connection,
    rules: Rules,
    clock: Clock,
    ids: Ids,
    memory: Arc<Accounts>,
    told: Told,
}

impl Engine {
    /// Commits the jobs together, or each on its own when together they fail.
    fn commit(&mut self, jobs: &[Job]) -> Vec<Result<Reply, WriteError>> {
        match self.attempt(jobs) {
            Ok(replies) => replies,
            Err(DbError::Unavailable(why)) => {
                measure::batch_trouble("failed");
                measure::database_error("write", &DbError::Unavailable(why.clone()));
                tracing::error!(error = %why, jobs = jobs.len(), "the batch was not written");
                jobs.iter().map(|_| Err(WriteError::Unavailable(why.clone()))).collect()
            }
            Err(DbError::Refused(at)) if jobs.len() == 1 => vec![Err(WriteError::Refused(at))],
            Err(why) if jobs.len() == 1 => {
                measure::batch_trouble("failed");
                measure::database_error("write", &why);
                tracing::error!(error = %why, "the command was not written");
                vec![Err(WriteError::Internal(why.to_string()))]
            }
            Err(why) => {
                alone(&why, jobs.len());
                jobs.iter().flat_map(|job| self.commit(std::slice::from_ref(job))).collect()
            }
        }
    }

    fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Result<Reply, WriteError>>, DbError> {
        let jobs: Vec<&Job> = jobs.iter().collect();
        let needs = Needs::of(&jobs);
        let mut working = self.load(&needs)?;
        let now = self.clock.now();
        working.counters = limits::engine::sqlite::load(&self.connection, &needs.counters(&working, now))?;
        self.reserve(&needs, working.entries_max(&jobs, now))?;
        let mut plan = Plan {
            working: &mut working,
            ids: &mut self.ids,
            rules: self.rules,
            wanted: self.told.outbox.wanted(),
            now,
            changes: Changes::default(),
        };
        let replies = plan.run(&jobs)?;
        let changes = plan.changes;
        if !changes.is_empty() {
            // If this fails the file says what holds: also where a commit reached it and yet reported an error.
            self.write(&changes, &working).inspect_err(|_| self.memory.forget(working.accounts.keys()))?;
        }
        committed(&changes);
        // Before the answers, so that who was answered reads what was written.
        self.memory.commit(working.accounts.into_values());
        self.told.touched(&changes);
        Ok(replies)
    }

    fn load(&mut self, needs: &Needs) -> Result<Working, DbError> {
        let connection = &self.connection;
        let mut working = Working::default();
        users::engine::sqlite::load(connection, needs, &mut working.directory)?;
        let of_users = working.directory.by_id.values().flatten().map(|user| user.id);
        for id in needs.accounts.iter().copied().chain(of_users) {
            if working.accounts.contains_key(&id) {
                continue;
            }
            let account = match self.memory.get(id) {
                Ok(account) => Some((*account).clone()),
                Err(_) => credits::engine::sqlite::account(connection, id)?,
            };
            working.accounts.extend(account.map(|account| (id, account)));
        }
        credits::engine::sqlite::load(connection, needs, &mut working)?;
        usage::engine::sqlite::load(connection, needs, &mut working)?;
        sessions::engine::sqlite::load(connection, needs, self.clock.now(), &mut working)?;
        let mut answer = connection.prepare_cached(
            "SELECT fingerprint, body FROM idempotency_keys WHERE caller = ?1 AND key = ?2",
        )?;
        for (caller, key) in &needs.keys {
            let found = answer
                .query_row(params![caller, key], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))
                .optional()?;
            if let Some((fingerprint, body)) = found {
                let stored = IdempotencyKey { caller: caller.clone(), key: key.clone(), fingerprint };
                let stored = StoredAnswer { key: stored, body: body.into(), user: None };
                working.answers.insert((caller.clone(), key.clone()), stored);
            }
        }
        Ok(working)
    }

    /// Fetches ids in a small transaction of its own, so that a batch that fails keeps them.
    fn reserve(&mut self, needs: &Needs, entries: usize) -> Result<(), DbError> {
        for (block, lacking) in self.ids.lacking(needs, entries) {
            let sql = FETCH.replace('$', "?");
            let first = self.connection.query_row(&sql, params![block.name, lacking], |row| row.get(0))?;
            block.refill(first, lacking);
        }
        Ok(())
    }

    fn write(&mut self, changes: &Changes, working: &Working) -> Result<(), DbError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        users::engine::sqlite::write(&transaction, changes)?;
        credits::engine::sqlite::write(&transaction, changes, working)?;
        usage::engine::sqlite::write(&transaction, changes)?;
        sessions::engine::sqlite::write(&transaction, changes)?;
        limits::engine::sqlite::write(&transaction, &changes.moves_of_limits)?;
        let mut told = 0;
        for (before, edit) in &changes.edits {
            if edit.tells() {
                webhooks::outbox::write_sqlite(&transaction, &changes.events[told..*before])?;
                told = *before;
            }
            run_statements(&transaction, &edit.statements)?;
        }
        for record in &changes.audit {
            run_statements(&transaction, &record.statements(self.clock.now()))?;
        }
        if !changes.answers.is_empty() {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO idempotency_keys (caller, key, fingerprint, status, body, created_at, user_id) \
                 VALUES (?1, ?2, ?3, 200, ?4, ?5, ?6)",
            )?;
            let now = self.clock.now().micros();
            for answer in &changes.answers {
                let key = &answer.key;
                let user = answer.user.map(|user| user.0);
                insert.execute(params![key.caller, key.key, key.fingerprint, &answer.body[..], now, user])?;
            }
        }
        webhooks::outbox::write_sqlite(&transaction, &changes.events[told..])?;
        if let Some(before) = changes.forget_keys {
            transaction.execute(&FORGET_KEYS.replace('$', "?"), [before.micros()])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn run_statements(connection: &Connection, statements: &[Statement]) -> Result<(), DbError> {
    for (place, statement) in statements.iter().enumerate() {
        let mut prepared = connection.prepare_cached(&statement.sql.replace('$', "?"))?;
        let written = prepared.execute(rusqlite::params_from_iter(&statement.values))?;
        if statement.rows.is_some_and(|rows| rows != written) {
            return Err(DbError::Refused(place));
        }
    }
    Ok(())
}

/// Refuses to go on when a statement did not write exactly the row it was meant to.
///
/// # Errors
/// [`DbError::Conflict`].
pub fn exactly_one(written: usize, what: &str) -> Result<(), DbError> {
    if written == 1 {
        Ok(())
    } else {
        Err(DbError::Conflict(format!("{what}: {written} rows were written, not 1")))
    }
}
