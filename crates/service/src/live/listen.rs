//! Replicas on PostgreSQL: each process tells the others what its commits touched, and hears them.
//!
//! One connection of its own listens, and tells, at most every 20 ms and outside the writers'
//! transactions. Where it breaks, streams still read at their heartbeats; when it stands again,
//! everybody here is woken for what may have been missed, and everybody elsewhere for what could
//! not be told.

use super::hub::Live;
use super::outbox::{self, Outbox};
use crate::db::postgres::{Line, Postgres};
use crate::db::{Db, DbError};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Notification, Statement};

/// How the server lists the connection.
pub const APPLICATION_NAME: &str = "user-service live";
/// The least time between two tellings: what is touched meanwhile goes together.
const EVERY: Duration = Duration::from_millis(20);
/// How long a telling may take before the connection is given up.
const TELL_MAX: Duration = Duration::from_secs(5);
/// How long to wait before connecting again, at first and at most; it doubles in between.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is told is worth nothing after a crash, so no telling waits for the disk.
const LISTEN: &str = "SET synchronous_commit = off; LISTEN user_service_live";
const TELL: &str = "SELECT pg_notify('user_service_live', payload) FROM UNNEST($1::text[]) AS told(payload)";

/// Starts listening where there can be other processes.
#[must_use]
pub fn start(db: &Db, live: &Live) -> Option<JoinHandle<()>> {
    match db {
        Db::Postgres(db) => Some(tokio::spawn(run(db.clone(), live.clone()))),
        Db::Sqlite(_) => None,
    }
}

async fn run(db: Postgres, live: Live) {
    let Some(outbox) = live.abroad() else { return };
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let Err(error) = talk(&db, &live, outbox).await;
        if began.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        if pause == PAUSE_MIN {
            tracing::warn!(%error, "no notifications: streams see other processes' changes at heartbeats only");
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Listens and tells for as long as the connection stands.
async fn talk(db: &Postgres, live: &Live, outbox: &Outbox) -> Result<Infallible, DbError> {
    let own = Arc::new(AtomicI32::new(0));
    let mut line = db.line(APPLICATION_NAME, hearing(live.clone(), Arc::clone(&own))).await?;
    let tell = timeout(TELL_MAX, open(&line, &own)).await.map_err(|_| too_slow())??;
    live.ring_all();
    loop {
        tokio::select! {
            () = line.ended() => return Err(DbError::Unavailable("the listening connection has ended".to_owned())),
            () = outbox.some() => {}
        }
        let payloads = outbox.take();
        if !payloads.is_empty() {
            let told = timeout(TELL_MAX, line.client.query(&tell, &[&payloads])).await;
            if let Err(error) = told.map_or_else(|_| Err(too_slow()), |told| told.map_err(DbError::from)) {
                // Whether it was heard is not known.
                outbox.add_all();
                return Err(error);
            }
        }
        sleep(EVERY).await;
    }
}

/// Begins to listen, and gives the statement that tells.
async fn open(line: &Line, own: &AtomicI32) -> Result<Statement, DbError> {
    line.client.batch_execute(LISTEN).await?;
    let row = line.client.query_one("SELECT pg_backend_pid()", &[]).await?;
    own.store(row.try_get(0)?, Ordering::Relaxed);
    Ok(line.client.prepare(TELL).await?)
}

fn too_slow() -> DbError {
    DbError::Unavailable("the listening connection does not answer in time".to_owned())
}

/// What to do with a notification; one's own changes nothing, because the writer has rung already.
fn hearing(live: Live, own: Arc<AtomicI32>) -> impl FnMut(Notification) + Send + 'static {
    move |notification| {
        if notification.process_id() == own.load(Ordering::Relaxed) {
            return;
        }
        match outbox::topics(notification.payload()) {
            Some(topics) => live.ring(topics),
            None => live.ring_all(),
        }
    }
}
