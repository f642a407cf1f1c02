//! Files go with time, as if their user had deleted them.

use super::model::{StoredFile, file_columns};
use super::{edits, keep};
use crate::app::App;
use crate::measure;
use crate::retention::Span;
use crate::writer::{Command, WriteError};
use kernel::Timestamp;

/// How many files are deleted at once.
const AT_ONCE: i64 = 100;

/// Deletes some of the files from before an instant; 0 once there are none.
///
/// # Errors
/// [`WriteError`].
pub async fn delete(app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
    let sql = concat!(
        "SELECT ",
        file_columns!(),
        " FROM files f WHERE f.id > $1 AND f.id <= $2 AND f.status = 'stored' AND f.created_at < $3 \
         ORDER BY f.id LIMIT $4"
    );
    let values = [span.after, span.to, before.micros(), AT_ONCE].map(Into::into).to_vec();
    let due: Vec<StoredFile> = app.db.query(sql, values).await?;
    for file in &due {
        match app.writer.execute(Command::Edit(edits::delete(file, app.clock.now()))).await {
            Ok(_) => measure::retired("files", 1),
            // Somebody else deleted it.
            Err(WriteError::Refused(_)) => continue,
            Err(error) => return Err(error),
        }
        if let Err(error) = keep::discard(app, file).await {
            tracing::warn!(file = file.id, %error, "a file's bytes were not removed; the sweeper will");
        }
    }
    Ok(due.len())
}
