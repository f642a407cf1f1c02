//! The writer on PostgreSQL: lanes that share the database with other replicas.
//!
//! A batch is tried with what the lane remembers of its accounts, and the update demands that each
//! account still has the version that was read: then a batch is one round trip and a commit. Where
//! another replica was faster, the batch is decided anew with the rows locked, in the order of
//! their keys. A refusal is never given on a memory: what a remembered account refuses is decided
//! again on what the database says now.

use super::ids::{FETCH, Ids};
use super::needs::Needs;
use super::plan::{Changes, Plan, Rules, StoredAnswer, Working};
use super::{
    BATCH_MAX, FORGET_KEYS, IdempotencyKey, Job, Reply, Statement, Told, Waiting, WayBack, WriteError, alone,
    batches, committed,
};
use crate::credits::{self, ACCOUNTS_MAX, Account};
use crate::db::postgres::Postgres;
use crate::db::{DbError, write};
use crate::measure;
use crate::{limits, sessions, usage, users, webhooks};
use deadpool_postgres::Object;
use futures_util::FutureExt as _;
use futures_util::future::try_join;
use kernel::{Clock, UserRowId};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How many lanes write at once; two beat one and four on two cores.
pub const LANES: usize = 2;
/// How often a batch that meets others on its rows is tried before it is refused.
const ATTEMPTS: usize = 6;

/// Starts one lane. It ends when its queue is closed and empty.
pub fn start(
    db: Postgres,
    rules: Rules,
    clock: Clock,
    told: Told,
    mut queue: mpsc::Receiver<Waiting>,
    done: oneshot::Sender<()>,
) {
    let mut lane = Lane { db, rules, clock, told, ids: Ids::default(), accounts: HashMap::new() };
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let (jobs, ways_back): (Vec<Job>, Vec<_>) = batch.drain(..).unzip();
            let mut ways_back = ways_back.into_iter();
            for jobs in batches(&jobs) {
                let began = Instant::now();
                let ways_back: Vec<WayBack> = ways_back.by_ref().take(jobs.len()).collect();
                let jobs_of_batch: Vec<&Job> = jobs.iter().collect();
                // A bug in one batch must not end all writes: its callers hear that the answer is lost, and
                // neither its accounts nor its connection are used again.
                let committed = AssertUnwindSafe(lane.commit(&jobs_of_batch)).catch_unwind().await;
                let replies = committed.unwrap_or_else(|_| {
                    lane.accounts.clear();
                    lane.db.forget_connections();
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
    });
}

/// How much of what is remembered is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Remembered accounts are used; the write finds out whether they are true.
    Memory,
    /// Everything is read now; the write finds out whether it stayed so.
    Reading,
    /// Everything is read under lock.
    Lock,
}

/// One lane.
struct Lane {
    db: Postgres,
    rules: Rules,
    clock: Clock,
    told: Told,
    ids: Ids,
    accounts: HashMap<UserRowId, Account>,
}

/// A reply, or nothing where it rests on a memory that must be checked.
type Checked = Option<Result<Reply, WriteError>>;

impl Lane {
    async fn commit(&mut self, jobs: &[&Job]) -> Vec<Result<Reply, WriteError>> {
        let mut replies: Vec<Checked> = jobs.iter().map(|_| None).collect();
        let mut trust = Trust::Memory;
        for _ in 0..ATTEMPTS {
            let open: Vec<usize> = (0..jobs.len()).filter(|at| replies[*at].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let of_open: Vec<&Job> = open.iter().map(|at| jobs[*at]).collect();
            let attempted = self.attempt(&of_open, trust).await;
            if let Err(error) = &attempted {
                measure::database_error("write", error);
            }
            match attempted {
                Ok(checked) => {
                    open.into_iter().zip(checked).for_each(|(at, reply)| replies[at] = reply);
                    trust = Trust::Reading;
                }
                Err(DbError::Conflict(why)) if trust == Trust::Lock && open.len() > 1 => {
                    // Locked and still refused: it may be a command of this batch that stands in its
                    // way, such as two users who swap an address, and it must not fail the others.
                    tracing::warn!(%why, jobs = open.len(), "the batch conflicts; each command goes alone");
                    measure::batch_trouble("split");
                    for at in open {
                        replies[at] = Box::pin(self.commit(&[jobs[at]])).await.pop();
                    }
                }
                Err(DbError::Conflict(why)) => {
                    tracing::debug!(%why, jobs = open.len(), "another writer was faster; deciding again under lock");
                    measure::batch_trouble("lock");
                    trust = Trust::Lock;
                }
                Err(DbError::Unavailable(why)) => {
                    tracing::error!(error = %why, jobs = open.len(), "the batch was not written");
                    measure::batch_trouble("failed");
                    open.iter().for_each(|at| replies[*at] = Some(Err(WriteError::Unavailable(why.clone()))));
                }
                Err(DbError::Refused(at)) if open.len() == 1 => {
                    replies[open[0]] = Some(Err(WriteError::Refused(at)));
                }
                Err(DbError::Internal(why)) if open.len() == 1 => {
                    tracing::error!(error = %why, "the command was not written");
                    measure::batch_trouble("failed");
                    replies[open[0]] = Some(Err(WriteError::Internal(why)));
                }
                Err(why @ (DbError::Internal(_) | DbError::Refused(_))) => {
                    alone(&why, open.len());
                    for at in open {
                        replies[at] = Box::pin(self.commit(&[jobs[at]])).await.pop();
                    }
                }
            }
        }
        let gave_up = || Err(WriteError::Unavailable("other writers kept changing the same rows".to_owned()));
        replies.into_iter().map(|reply| reply.unwrap_or_else(gave_up)).collect()
    }

    async fn attempt(&mut self, jobs: &[&Job], trust: Trust) -> Result<Vec<Checked>, DbError> {
        let needs = Needs::of(jobs);
        let connection = self.db.connection().await?;
        if trust == Trust::Lock {
            connection.batch_execute("BEGIN").await?;
        }
        let answer = self.decide_and_write(&connection, jobs, &needs, trust).await;
        if answer.is_err() {
            // Where the connection is gone, so is its transaction.
            let _ = connection.batch_execute("ROLLBACK").await;
        }
        answer
    }

    async fn decide_and_write(
        &mut self,
        connection: &Object,
        jobs: &[&Job],
        needs: &Needs,
        trust: Trust,
    ) -> Result<Vec<Checked>, DbError> {
        // Both are sent at once, so that asking what is wanted costs no round trip of its own where anything is read.
        let wanted = webhooks::outbox::wanted_postgres(connection);
        let (wanted, loaded) = try_join(wanted, self.load(connection, needs, trust)).await?;
        let (mut working, remembered) = loaded;
        let now = self.clock.now();
        working.counters = limits::engine::postgres::load(connection, &needs.counters(&working, now)).await?;
        self.reserve(needs, working.entries_max(jobs, now)).await?;
        let mut plan = Plan {
            working: &mut working,
            ids: &mut self.ids,
            rules: self.rules,
            wanted,
            now,
            changes: Changes::default(),
        };
        let replies = plan.run(jobs)?;
        let changes = plan.changes;

        let audit: Vec<Statement> = changes.audit.iter().flat_map(|record| record.statements(now)).collect();
        let mut writes = users::engine::postgres::writes(&changes);
        writes.extend(credits::engine::postgres::writes(&changes, &working));
        writes.extend(usage::engine::postgres::writes(&changes));
        writes.extend(sessions::engine::postgres::writes(&changes));
        writes.extend(limits::engine::postgres::writes(&changes.moves_of_limits));
        let mut told = 0;
        for (before, edit) in &changes.edits {
            if edit.tells() {
                writes.extend(webhooks::outbox::write_postgres(&changes.events[told..*before]));
                told = *before;
            }
            writes.extend(edit.statements.iter().enumerate().map(write::Write::of_edit));
        }
        writes.extend(audit.iter().enumerate().map(write::Write::of_edit));
        if !changes.answers.is_empty() {
            writes.push(keep_answers(&changes, now));
        }
        if let Some(before) = changes.forget_keys {
            writes.push(write::Write::any(FORGET_KEYS).value(before.micros()));
        }
        writes.extend(webhooks::outbox::write_postgres(&changes.events[told..]));
        if !writes.is_empty() {
            write::run(connection, &writes, trust != Trust::Lock).await?;
        }
        if !writes.is_empty() || trust == Trust::Lock {
            commit(connection).await?;
        }
        drop(writes);
        committed(&changes);
        self.remember(working.accounts);
        self.told.touched(&changes);
        let unsure = |reply: &Result<Reply, WriteError>| match reply {
            Err(WriteError::Credits(_) | WriteError::UsageUser(..) | WriteError::Charge(..)) => remembered,
            // Users and addresses are read one after the other. Another replica may have made the very
            // user in between; read once more, it is there with its address.
            Err(WriteError::Users(users::Rejection::EmailTaken)) => trust == Trust::Memory,
            _ => false,
        };
        Ok(replies.into_iter().map(|reply| if unsure(&reply) { None } else { Some(reply) }).collect())
    }

    /// Loads what the batch needs, and says whether any of it was only remembered.
    async fn load(
        &mut self,
        connection: &Object,
        needs: &Needs,
        trust: Trust,
    ) -> Result<(Working, bool), DbError> {
        let mut working = Working::default();
        users::engine::postgres::load(connection, needs, &mut working.directory).await?;
        let mut wanted: Vec<UserRowId> =
            working.directory.by_id.values().flatten().map(|user| user.id).collect();
        wanted.extend(&needs.settled);
        let mut remembered = false;
        for id in &needs.accounts {
            // Moved out: if the batch fails, the memory of it is gone with it.
            match self.accounts.remove(id).filter(|_| trust == Trust::Memory && !wanted.contains(id)) {
                Some(account) => {
                    remembered = true;
                    working.accounts.insert(*id, account);
                }
                None => wanted.push(*id),
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        credits::engine::postgres::accounts(connection, &wanted, trust == Trust::Lock, &mut working).await?;
        credits::engine::postgres::load(connection, needs, &mut working).await?;
        usage::engine::postgres::load(connection, needs, &mut working).await?;
        sessions::engine::postgres::load(connection, needs, self.clock.now(), &mut working).await?;
        load_answers(connection, needs, &mut working).await?;
        Ok((working, remembered))
    }

    async fn reserve(&mut self, needs: &Needs, entries: usize) -> Result<(), DbError> {
        for (block, lacking) in self.ids.lacking(needs, entries) {
            // On a connection of its own, so that no transaction holds the counter's row.
            let connection = self.db.connection().await?;
            let statement = connection.prepare_cached(FETCH).await?;
            let row = connection.query_one(&statement, &[&block.name, &lacking]).await?;
            block.refill(row.try_get(0)?, lacking);
        }
        Ok(())
    }

    fn remember(&mut self, accounts: HashMap<UserRowId, Account>) {
        if self.accounts.len() > ACCOUNTS_MAX {
            self.accounts.clear();
        }
        // A closed account is always read: it may be open again, and a record of usage that is
        // refused on a memory could not be tried again without the rest of its batch.
        self.accounts.extend(accounts.into_iter().filter(|(_, account)| !account.closed));
    }
}

/// Commits. An error that does not say that nothing was kept leaves it open whether all was, and
/// must never lead to a second try: only [`DbError::Unavailable`] says so.
async fn commit(connection: &Object) -> Result<(), DbError> {
    connection.batch_execute("COMMIT").await.map_err(|error| match DbError::from(error) {
        DbError::Internal(why) => DbError::Unavailable(format!("the commit was not confirmed: {why}")),
        known => known,
    })
}

async fn load_answers(connection: &Object, needs: &Needs, working: &mut Working) -> Result<(), DbError> {
    if needs.keys.is_empty() {
        return Ok(());
    }
    let statement = connection
        .prepare_cached(
            "SELECT i.caller, i.key, i.fingerprint, i.body FROM idempotency_keys i \
             JOIN UNNEST($1::text[], $2::text[]) AS t(caller, key) ON t.caller = i.caller AND t.key = i.key",
        )
        .await?;
    let (callers, keys): (Vec<&str>, Vec<&str>) =
        needs.keys.iter().map(|(caller, key)| (caller.as_str(), key.as_str())).unzip();
    for row in connection.query(&statement, &[&callers, &keys]).await? {
        let fingerprint: Vec<u8> = row.try_get(2)?;
        let fingerprint = fingerprint
            .try_into()
            .map_err(|_| DbError::Internal("idempotency_keys.fingerprint is not 32 bytes long".to_owned()))?;
        let key = IdempotencyKey { caller: row.try_get(0)?, key: row.try_get(1)?, fingerprint };
        let body: Vec<u8> = row.try_get(3)?;
        let address = (key.caller.clone(), key.key.clone());
        working.answers.insert(address, StoredAnswer { key, body: body.into(), user: None });
    }
    Ok(())
}

fn keep_answers<'a>(changes: &'a Changes, now: kernel::Timestamp) -> write::Write<'a> {
    // Sorted, so that two batches that claim the same keys wait for each other in one order.
    let mut answers: Vec<&'a StoredAnswer> = changes.answers.iter().collect();
    answers.sort_by(|a, b| (&a.key.caller, &a.key.key).cmp(&(&b.key.caller, &b.key.key)));
    write::Write::rows(
        "INSERT INTO idempotency_keys (caller, key, fingerprint, status, body, created_at, user_id) \
         SELECT t.caller, t.key, t.fingerprint, 200, t.body, t.created_at, t.user_id \
         FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[]) \
         AS t(caller, key, fingerprint, body, created_at, user_id)",
        answers.len(),
    )
    .column(answers.iter().map(|answer| answer.key.caller.as_str()).collect::<Vec<_>>().into_iter())
    .column(answers.iter().map(|answer| answer.key.key.as_str()).collect::<Vec<_>>().into_iter())
    .column(answers.iter().map(|answer| answer.key.fingerprint.to_vec()).collect::<Vec<_>>().into_iter())
    .column(answers.iter().map(|answer| answer.body.to_vec()).collect::<Vec<_>>().into_iter())
    .column(answers.iter().map(|_| now.micros()).collect::<Vec<_>>().into_iter())
    .column(answers.iter().map(|answer| answer.user.map(|user| user.0)).collect::<Vec<_>>().into_iter())
}
