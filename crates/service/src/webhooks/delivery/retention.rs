//! Events go with time, and with them what became of telling of them.
//!
//! An event that an enabled endpoint has yet to pass stays: an endpoint that fails is disabled long before, so that nothing waits for ever.

use crate::app::App;
use crate::measure;
use crate::retention::{Piece, Span, due};
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{Timestamp, UserRowId};

/// How many events, or deliveries of an endpoint that is gone, are removed in one commit.
const AT_ONCE: i64 = 500;

/// The condition on an event from before `$3` that no endpoint has yet to pass.
macro_rules! passed {
    ($position:literal) => {
        concat!(
            "created_at < $3 AND NOT EXISTS (SELECT 1 FROM webhook_endpoints w WHERE w.status = 'enabled' AND w.position < ",
            $position, ")"
        )
    };
}

/// Removes some of the events from before an instant; 0 once there are none.
///
/// # Errors
/// [`WriteError`].
pub async fn remove(app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
    let (find, forget, delete) = if app.db.engine() == "sqlite" { sqlite() } else { postgres() };
    let values = [span.after, span.to, before.micros(), AT_ONCE].map(Into::into).to_vec();
    let found: Vec<Piece> = app.db.query(find, values).await?;
    let due = due(&found, before);
    let (Some(first), Some(last)) = (due.first(), due.last()) else { return Ok(0) };
    let values = || [first.key, last.key, before.micros()].map(Into::into).to_vec();
    let statements = vec![Statement::any(forget, values()), Statement::any(delete, values())];
    app.writer.execute(Command::Edit(Edit::new(UserRowId(0), statements))).await?;
    measure::retired("webhook_events", due.len());
    Ok(due.len())
}

type Texts = (&'static str, &'static str, &'static str);

macro_rules! texts {
    ($position:literal) => {
        (
            concat!(
                "SELECT id, created_at, CAST(octet_length(body) AS BIGINT) FROM webhook_events e WHERE id > $1 AND id <= $2 AND ",
                passed!($position),
                " ORDER BY id LIMIT $4"
            ),
            concat!(
                "DELETE FROM webhook_deliveries WHERE endpoint IN (SELECT id FROM webhook_endpoints) AND event_id IN \
                 (SELECT id FROM webhook_events e WHERE id >= $1 AND id <= $2 AND ",
                passed!($position),
                ")"
            ),
            concat!("DELETE FROM webhook_events AS e WHERE id >= $1 AND id <= $2 AND ", passed!($position)),
        )
    };
}

const fn sqlite() -> Texts {
    texts!("e.id")
}

const fn postgres() -> Texts {
    // One without a place is not passed by anybody.
    texts!("COALESCE(e.position, 9223372036854775807)")
}

/// Removes deliveries of endpoints that are gone.
///
/// # Errors
/// [`WriteError`].
pub async fn sweep(app: &App) -> Result<(), WriteError> {
    let mut after = 0;
    loop {
        // From one endpoint to the next along the key, however many deliveries each has.
        let sql = "SELECT endpoint FROM webhook_deliveries WHERE endpoint > $1 ORDER BY endpoint LIMIT 1";
        let Some(endpoint) = app.db.find::<i64>(sql, &[after.into()]).await? else { return Ok(()) };
        after = endpoint;
        let sql = "SELECT id FROM webhook_endpoints WHERE id = $1";
        if app.db.find::<i64>(sql, &[endpoint.into()]).await?.is_none() {
            forget(app, endpoint).await?;
        }
    }
}

async fn forget(app: &App, endpoint: i64) -> Result<(), WriteError> {
    loop {
        let sql = "SELECT event_id FROM webhook_deliveries WHERE endpoint = $1 ORDER BY event_id LIMIT $2";
        let found: Vec<i64> = app.db.query(sql, vec![endpoint.into(), AT_ONCE.into()]).await?;
        let Some(last) = found.last() else { return Ok(()) };
        let sql = "DELETE FROM webhook_deliveries WHERE endpoint = $1 AND event_id <= $2";
        let edit = Edit::new(UserRowId(0), vec![Statement::any(sql, vec![endpoint.into(), (*last).into()])]);
        app.writer.execute(Command::Edit(edit)).await?;
    }
}
