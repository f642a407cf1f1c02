//! The sweeper writes down expiries of accounts that nobody touches.
//!
//! Nothing depends on it: an ended grant is never spent and never counted, swept or not. It makes
//! the history say so, and it forgets idempotency keys that are past their time.

use crate::app::App;
use crate::credits::{LedgerCommand, store};
use crate::db::DbError;
use crate::writer::{Command, WriteError};
use std::sync::Arc;
use std::time::Duration;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(30);
/// How many grants it looks at in one go.
const AT_ONCE: i64 = 500;

/// Sweeps until the task is aborted.
pub async fn run(app: Arc<App>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = sweep(&app).await {
            tracing::warn!(%error, "sweeping failed; it is tried again");
        }
    }
}

/// Writes down every expiry that is due, and says how many accounts that touched.
///
/// # Errors
/// A sentence for the log.
pub async fn sweep(app: &App) -> Result<usize, WriteError> {
    let unavailable = |error: DbError| WriteError::Unavailable(error.to_string());
    let mut swept = 0;
    loop {
        let due = store::due(&app.db, app.clock.now(), AT_ONCE).await.map_err(unavailable)?;
        if due.is_empty() {
            return Ok(swept);
        }
        swept += due.len();
        for user in due {
            app.writer.execute(Command::Ledger(user, LedgerCommand::Settle)).await?;
        }
    }
}
