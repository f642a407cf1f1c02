//! What of usage records goes with time: the objects that callers attached. The numbers stay, because statistics
//! count them.

use crate::app::App;
use crate::measure;
use crate::retention::{Piece, Span, due};
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{Timestamp, UserRowId};

/// How many records are emptied in one commit.
const AT_ONCE: i64 = 500;

/// The condition on a record that came before `$3` and still has an object.
macro_rules! full {
    () => {
        "recorded_at < $3 AND (billing_metadata <> '{}' OR request_data <> '{}' OR response_data <> '{}')"
    };
}

/// Empties the objects of some records that came before an instant; 0 once there are none.
///
/// # Errors
/// [`WriteError`].
pub async fn empty(app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
    let sql = concat!(
        "SELECT id, recorded_at, CAST(octet_length(billing_metadata) + octet_length(request_data) \
         + octet_length(response_data) AS BIGINT) FROM usage_records WHERE id > $1 AND id <= $2 AND ",
        full!(),
        " ORDER BY id LIMIT $4"
    );
    let values = [span.after, span.to, before.micros(), AT_ONCE].map(Into::into).to_vec();
    let found: Vec<Piece> = app.db.query(sql, values).await?;
    let due = due(&found, before);
    let (Some(first), Some(last)) = (due.first(), due.last()) else { return Ok(0) };
    let sql = concat!(
        "UPDATE usage_records SET billing_metadata = '{}', request_data = '{}', response_data = '{}' \
         WHERE id >= $1 AND id <= $2 AND ",
        full!()
    );
    // Of many users, so it is nobody's.
    let values = [first.key, last.key, before.micros()].map(Into::into).to_vec();
    let edit = Edit::new(UserRowId(0), vec![Statement::any(sql, values)]);
    app.writer.execute(Command::Edit(edit)).await?;
    measure::retired("usage_content", due.len());
    Ok(due.len())
}
