//! What events of Stripe say goes with time; that they came stays, so that none is ever applied twice.

use crate::app::App;
use crate::measure;
use crate::retention::{Piece, Span, due};
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{Timestamp, UserRowId};

/// How many events are emptied in one commit.
const AT_ONCE: i64 = 500;

/// The condition on an event that came before `$3`, is over and still says something.
macro_rules! full {
    () => {
        "received_at < $3 AND status IN ('processed', 'unhandled', 'failed') AND payload <> '{}'"
    };
}

/// Empties some of the events that came before an instant and are over; 0 once there are none.
///
/// # Errors
/// [`WriteError`].
pub async fn empty(app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
    let sql = concat!(
        "SELECT seq, received_at, CAST(octet_length(payload) AS BIGINT) FROM stripe_events WHERE seq > $1 AND seq <= $2 AND ",
        full!(),
        " ORDER BY seq LIMIT $4"
    );
    let values = [span.after, span.to, before.micros(), AT_ONCE].map(Into::into).to_vec();
    let found: Vec<Piece> = app.db.query(sql, values).await?;
    let due = due(&found, before);
    let (Some(first), Some(last)) = (due.first(), due.last()) else { return Ok(0) };
    let sql = concat!("UPDATE stripe_events SET payload = '{}' WHERE seq >= $1 AND seq <= $2 AND ", full!());
    let values = [first.key, last.key, before.micros()].map(Into::into).to_vec();
    let edit = Edit::new(UserRowId(0), vec![Statement::any(sql, values)]);
    app.writer.execute(Command::Edit(edit)).await?;
    measure::retired("stripe_events", due.len());
    Ok(due.len())
}
