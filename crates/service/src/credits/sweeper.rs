//! The sweeper writes down expiries of accounts that nobody touches.
//!
//! Nothing depends on it: an ended grant is never spent and never counted, swept or not. It makes
//! the history say so, and it forgets idempotency keys that are past their time.

use crate::app::App;
use crate::credits::{LedgerCommand, store};
use crate::db::DbError;
use crate::writer::{Command, WriteError};

/// How many grants it looks at in one go.
const AT_ONCE: i64 = 500;

/// Writes down every expiry that is due, and says how many accounts that touched.
///
/// # Errors
/// A sentence for the log.
pub async fn sweep(app: &App) -> Result<usize, WriteError> {
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

/// Forgets the idempotency keys that are past their time.
///
/// # Errors
/// A sentence for the log.
pub async fn forget_keys(app: &App) -> Result<(), WriteError> {
    let before = app.clock.now().minus(app.config.idempotency_life);
    let sql = "SELECT created_at FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT 1";
    while app.db.find::<i64>(sql, &[before.micros().into()]).await.map_err(unavailable)?.is_some() {
        app.writer.execute(Command::ForgetKeys(before)).await?;
    }
    Ok(())
}

fn unavailable(error: DbError) -> WriteError {
    WriteError::Unavailable(error.to_string())
}
