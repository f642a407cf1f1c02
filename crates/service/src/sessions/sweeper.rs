//! What of sessions is done by and by: rows of deleted ones go, expiries are written down.
//!
//! Nothing depends on it: a deleted session is unknown and an expired one is shown as such, swept or not.

use super::model::{Session, Status};
use super::{edits, store, telling};
use crate::app::App;
use crate::webhooks::EventType;
use crate::writer::{Command, WriteError};

/// How many sessions are looked at in one go.
const AT_ONCE: i64 = 100;

/// Does what is due.
///
/// # Errors
/// A sentence for the log.
pub async fn sweep(app: &App) -> Result<(), WriteError> {
    let unavailable = |error: crate::db::DbError| WriteError::Unavailable(error.to_string());
    loop {
        let due = store::deleted(&app.db, AT_ONCE).await.map_err(unavailable)?;
        for session in &due {
            app.writer.execute(Command::Edit(edits::remove(*session))).await?;
        }
        if due.is_empty() {
            break;
        }
    }
    loop {
        let now = app.clock.now();
        let due = store::overdue(&app.db, now, AT_ONCE).await.map_err(unavailable)?;
        for session in &due {
            let expired = |session: &mut Session| session.written_status = Status::Expired;
            let told = telling::of_change(app, *session, EventType::SessionExpired, now, expired).await?;
            app.writer.execute(Command::Edit(edits::expire(*session, told, now))).await?;
        }
        if due.is_empty() {
            return Ok(());
        }
    }
}
