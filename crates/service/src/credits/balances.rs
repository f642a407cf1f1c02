//! Reading balances, fast and never stale.
//!
//! On SQLite a balance comes from memory, or is one short read on the caller's thread. On PostgreSQL the reads that wait
//! while one runs are put together into the next, so that many callers cost one round trip. Either
//! way the read begins after the request arrived, so it sees every write that was acknowledged
//! before.

use super::memory::Accounts;
use super::model::Account;
use super::rows::{AccountPart, account_parts, gather};
use crate::db::postgres::Postgres;
use crate::db::{Db, DbError, FromRow, Row, sqlite};
use kernel::UserRowId;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// How many readers run at once on PostgreSQL.
const READERS: usize = 2;
/// How many reads are put together at most.
const BATCH_MAX: usize = 256;
/// How many reads may wait.
const QUEUE_MAX: usize = 8_192;

type Waiting = (UserRowId, oneshot::Sender<Result<Option<Arc<Account>>, DbError>>);

/// The way to read accounts.
pub enum Balances {
    /// From memory, or else straight from the file.
    Sqlite(sqlite::Sqlite, Arc<Accounts>),
    /// Through readers that gather.
    Postgres(Vec<mpsc::Sender<Waiting>>),
}

impl Balances {
    /// Starts what the engine needs.
    #[must_use]
    pub fn start(db: &Db, memory: &Arc<Accounts>) -> Self {
        match db {
            Db::Sqlite(db) => Self::Sqlite(db.clone(), Arc::clone(memory)),
            Db::Postgres(db) => Self::Postgres((0..READERS).map(|_| reader(db.clone())).collect()),
        }
    }

    /// The account as of now, with its open grants; nothing when there is none or its user is deleted.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn account(&self, user: UserRowId) -> Result<Option<Arc<Account>>, DbError> {
        let account = match self {
            Self::Sqlite(db, memory) => match memory.get(user) {
                Ok(account) => Ok(Some(account)),
                Err(asked) => {
                    let account = from_file(db, user)?.map(Arc::new);
                    account.iter().for_each(|account| memory.leave(account, asked));
                    Ok(account)
                }
            },
            Self::Postgres(readers) => {
                let (way_back, account) = oneshot::channel();
                let reader = usize::try_from(user.0).unwrap_or(0) % readers.len();
                readers[reader]
                    .try_send((user, way_back))
                    .map_err(|_| DbError::Unavailable("too many reads are waiting".to_owned()))?;
                account.await.map_err(|_| DbError::Unavailable("the reader has stopped".to_owned()))?
            }
        }?;
        Ok(account.filter(|account| !account.closed))
    }
}

fn from_file(db: &sqlite::Sqlite, user: UserRowId) -> Result<Option<Account>, DbError> {
    db.with_point_reader(|connection| {
        let rows = sqlite::run(connection, account_parts!("a.user_id = $1"), &[user.0.into()])?;
        Ok(gather(rows).pop())
    })
}

fn reader(db: Postgres) -> mpsc::Sender<Waiting> {
    let (sender, mut queue) = mpsc::channel::<Waiting>(QUEUE_MAX);
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let users: Vec<i64> = batch.iter().map(|(user, _)| user.0).collect();
            let read = read(&db, users).await;
            for (user, way_back) in batch.drain(..) {
                let account = read.as_ref().map(|accounts| accounts.get(&user).cloned());
                let _ = way_back.send(account.map_err(Clone::clone));
            }
        }
    });
    sender
}

async fn read(db: &Postgres, mut users: Vec<i64>) -> Result<HashMap<UserRowId, Arc<Account>>, DbError> {
    users.sort_unstable();
    users.dedup();
    let connection = db.connection().await?;
    let statement = connection.prepare_cached(account_parts!("a.user_id = ANY($1)")).await?;
    let rows = connection.query(&statement, &[&users]).await?;
    let rows =
        rows.iter().map(|row| AccountPart::from_row(&Row::Postgres(row))).collect::<Result<Vec<_>, _>>()?;
    Ok(gather(rows).into_iter().map(|account| (account.user, Arc::new(account))).collect())
}
