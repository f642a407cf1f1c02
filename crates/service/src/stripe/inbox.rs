//! The inbox of events: each is stored once for ever, then taken in, again and again until that works.
//!
//! Whoever stores an event holds it for a while and takes it in at once; the job takes what is left
//! over by a crash or is to be tried again. Many processes may do so: an event is claimed by moving
//! its next attempt into the future, which one of them succeeds in.

use super::apply::{self, Attempt, Outcome};
use super::object::Event;
use crate::app::App;
use crate::db::{Db, DbError, FromRow, Row, Rows, Value, Weigh};
use crate::writer::{Command, Counter, Edit, Statement, WriteError};
use crate::{jobs, measure};
use kernel::{Timestamp, UserRowId};
use std::sync::Arc;
use std::time::Duration;

/// How long an event is held by whoever takes it in.
const HELD_FOR: Duration = Duration::from_secs(60);
/// How often an event is tried.
pub const ATTEMPTS_MAX: i64 = 15;
/// The pause after the first attempt; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// How many events the job takes in one go.
const AT_ONCE: i64 = 100;
/// How many bytes of an error are kept.
const ERROR_MAX_BYTES: usize = 1000;

/// What an event in the inbox is, without what it says.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Stripe's id.
    pub id: String,
    /// Its place in the list.
    pub seq: i64,
    /// What happened.
    pub kind: String,
    /// To what.
    pub object_id: Option<String>,
    /// Of which customer.
    pub customer: Option<String>,
    /// When, in seconds.
    pub created: i64,
    /// `received`, `waiting`, `processed`, `unhandled` or `failed`.
    pub status: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next.
    pub next_attempt_at: Timestamp,
    /// Why it did not work the last time.
    pub error: Option<String>,
    /// When it came.
    pub received_at: Timestamp,
    /// When it was taken in.
    pub processed_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "SELECT id, seq, type, object_id, customer, created, status, attempts, next_attempt_at, error, received_at, processed_at \
         FROM stripe_events "
    };
}

impl FromRow for Stored {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: row.text(0)?,
            seq: row.int(1)?,
            kind: row.text(2)?,
            object_id: row.optional_text(3)?,
            customer: row.optional_text(4)?,
            created: row.int(5)?,
            status: row.text(6)?,
            attempts: row.int(7)?,
            next_attempt_at: row.int(8).map(Timestamp::from_micros)?,
            error: row.optional_text(9)?,
            received_at: row.int(10).map(Timestamp::from_micros)?,
            processed_at: row.optional_int(11)?.map(Timestamp::from_micros),
        })
    }
}

impl Weigh for Stored {
    fn weight(&self) -> usize {
        self.error.as_ref().map_or(0, String::len)
    }
}

struct Payload(String);

impl FromRow for Payload {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        row.text(0).map(Self)
    }
}

/// Stores an event that came, held by the caller or left to the job; false where it is there already.
///
/// # Errors
/// [`WriteError`].
pub async fn store(app: &App, event: &Event, payload: &str, held: bool) -> Result<bool, WriteError> {
    let sql = "INSERT INTO stripe_events (id, seq, type, object_id, customer, created, payload, status, attempts, next_attempt_at, \
        received_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING";
    let (now, object) = (app.clock.now(), apply::any(event.data.object.get()));
    let handled = apply::is_handled(&event.kind);
    let values = vec![
        event.id.as_str().into(),
        Value::Fresh,
        event.kind.as_str().into(),
        object.id.into(),
        object.customer.into(),
        event.created.into(),
        payload.into(),
        if handled { "received" } else { "unhandled" }.into(),
        i64::from(handled && held).into(),
        if held { now.plus(HELD_FOR) } else { now }.micros().into(),
        now.micros().into(),
    ];
    let edit = Edit::making(Counter::StripeEvents, UserRowId(0), vec![Statement::one(sql, values)]);
    match app.writer.execute(Command::Edit(edit)).await {
        Ok(_) => {
            measure::stripe_event(&event.kind, handled, if handled { "received" } else { "unhandled" });
            Ok(true)
        }
        Err(WriteError::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes an event in, which the caller holds, and notes what became of it.
///
/// # Errors
/// [`WriteError`] where not even that could be noted; the job tries the event again.
pub async fn take_in(app: &App, id: &str, attempt: i64) -> Result<(), WriteError> {
    let found = app.db.find::<Payload>("SELECT payload FROM stripe_events WHERE id = $1", &[id.into()]).await;
    let Some(Payload(payload)) = found? else { return Ok(()) };
    let mut kind = String::new();
    let done = match serde_json::from_str::<Event>(&payload) {
        Ok(event) => {
            let done = apply::apply(app, &event, Attempt(attempt)).await.map_err(|error| error.to_string());
            kind = event.kind;
            done
        }
        Err(error) => Err(format!("the event cannot be read: {error}")),
    };
    let now = app.clock.now();
    let (status, next, error) = match done {
        Ok(Outcome::Processed) => ("processed", now, None),
        Ok(Outcome::Unhandled) => ("unhandled", now, None),
        Err(error) if attempt >= ATTEMPTS_MAX => {
            tracing::error!(event = id, %error, "an event of Stripe was not taken in, and is not tried again");
            ("failed", now, Some(error))
        }
        Err(error) => {
            tracing::warn!(event = id, attempt, %error, "an event of Stripe was not taken in; it is tried again");
            ("waiting", now.plus(pause(attempt)), Some(error))
        }
    };
    measure::stripe_event(&kind, apply::is_handled(&kind), status);
    let sql = "UPDATE stripe_events SET status = $2, next_attempt_at = $3, error = $4, processed_at = $5 WHERE id = $1 \
        AND attempts = $6";
    let over = error.is_none().then_some(now.micros());
    let values = vec![
        id.into(),
        status.into(),
        next.micros().into(),
        error.map(|error| error[..error.floor_char_boundary(ERROR_MAX_BYTES)].to_owned()).into(),
        over.into(),
        attempt.into(),
    ];
    app.writer
        .execute(Command::Edit(Edit::new(UserRowId(0), vec![Statement::any(sql, values)])))
        .await
        .map(drop)
}

fn pause(attempt: i64) -> Duration {
    let doubled =
        u32::try_from(attempt - 1).ok().and_then(|n| 2_u32.checked_pow(n.min(20))).unwrap_or(u32::MAX);
    PAUSE.saturating_mul(doubled).min(PAUSE_MAX)
}

/// Claims an event; false where somebody else did.
async fn claim(app: &App, of: &Stored) -> Result<bool, WriteError> {
    let sql = "UPDATE stripe_events SET attempts = attempts + 1, next_attempt_at = $3 WHERE id = $1 AND attempts = $2 \
        AND status IN ('received', 'waiting')";
    let until = app.clock.now().plus(HELD_FOR);
    let values = vec![of.id.as_str().into(), of.attempts.into(), until.micros().into()];
    match app.writer.execute(Command::Edit(Edit::new(UserRowId(0), vec![Statement::one(sql, values)]))).await
    {
        Ok(_) => Ok(true),
        Err(WriteError::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes in what is due.
///
/// # Errors
/// [`WriteError`]; the next time goes on.
pub async fn sweep(app: &App) -> Result<(), WriteError> {
    let sql = concat!(
        columns!(),
        "WHERE status IN ('received', 'waiting') AND next_attempt_at <= $1 ORDER BY next_attempt_at, seq LIMIT $2"
    );
    loop {
        let values = vec![app.clock.now().micros().into(), AT_ONCE.into()];
        let due: Vec<Stored> = app.db.query(sql, values).await?;
        let last = due.len() < usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        for of in due {
            if claim(app, &of).await? {
                take_in(app, &of.id, of.attempts + 1).await?;
            }
        }
        if last {
            return Ok(());
        }
    }
}

/// How often the job looks for events.
const EVERY: Duration = Duration::from_secs(2);

/// Takes events in until the task is aborted.
pub async fn run(app: Arc<App>) {
    loop {
        jobs::run_one(&app, "stripe_inbox_depth", "counting events of Stripe", depth(&app)).await;
        tokio::time::sleep(EVERY).await;
        jobs::run_one(&app, "stripe_inbox", "taking in events of Stripe", sweep(&app)).await;
    }
}

/// Tells the metrics how many events wait, and since when.
async fn depth(app: &App) -> Result<(), WriteError> {
    struct Waiting(i64, Option<i64>);
    impl FromRow for Waiting {
        fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
            Ok(Self(row.int(0)?, row.optional_int(1)?))
        }
    }
    let sql = "SELECT count(*), min(received_at) FROM stripe_events WHERE status IN ('received', 'waiting')";
    if let Some(Waiting(count, since)) = app.db.find(sql, &[]).await? {
        let now = app.clock.now().micros();
        let oldest = since.map_or(0, |since| now.saturating_sub(since).max(0) / 1_000_000);
        measure::stripe_inbox(count, oldest);
    }
    Ok(())
}

/// Lets an event be tried again from the beginning; false where there is none, or where what it said is forgotten.
///
/// # Errors
/// [`WriteError`].
pub async fn replay(app: &App, id: &str) -> Result<bool, WriteError> {
    let sql = "UPDATE stripe_events SET status = 'received', attempts = 0, next_attempt_at = $2, error = NULL, processed_at = NULL \
        WHERE id = $1 AND payload <> '{}'";
    let values = vec![id.into(), app.clock.now().micros().into()];
    match app.writer.execute(Command::Edit(Edit::new(UserRowId(0), vec![Statement::one(sql, values)]))).await
    {
        Ok(_) => {}
        Err(WriteError::Refused(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    if let Some(of) = find(&app.db, id).await?
        && claim(app, &of).await?
    {
        take_in(app, id, of.attempts + 1).await?;
    }
    Ok(true)
}

/// An event.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, id: &str) -> Result<Option<Stored>, DbError> {
    db.find(concat!(columns!(), "WHERE id = $1"), &[id.into()]).await
}

/// Events, the last one first; of one status where it is given.
///
/// # Errors
/// [`DbError`].
pub async fn list(
    db: &Db,
    status: Option<&str>,
    before: i64,
    limit: i64,
    offset: i64,
) -> Result<Rows<Stored>, DbError> {
    let sql = concat!(
        columns!(),
        "WHERE seq < $1 AND (CAST($2 AS TEXT) IS NULL OR status = $2) ORDER BY seq DESC LIMIT $3 OFFSET $4"
    );
    let values =
        vec![before.into(), status.map(str::to_owned).into(), limit.saturating_add(1).into(), offset.into()];
    db.page(sql, values, limit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let seconds: Vec<u64> = [1, 2, 3, 11, 12, ATTEMPTS_MAX].map(|n| pause(n).as_secs()).to_vec();
        assert_eq!(seconds, [2, 4, 8, 2048, 3600, 3600]);
    }
}
