//! What others are told of sessions: each change once, if it is one, and nothing of what was said.

use super::model::{Session, Status};
use super::store::{self, Ownership};
use crate::app::App;
use crate::db::DbError;
use crate::webhooks::bodies::SessionEvent;
use crate::webhooks::{Event, EventType};
use kernel::Timestamp;

/// The event of a change of a session, where somebody may ask for it; `change` makes of the session what it will be.
///
/// # Errors
/// [`DbError`].
pub async fn of_change(
    app: &App,
    of: Ownership,
    kind: EventType,
    now: Timestamp,
    change: impl FnOnce(&mut Session),
) -> Result<Option<Event>, DbError> {
    if !app.outbox.wants(kind) {
        return Ok(None);
    }
    let session = store::find(&app.db, of.session).await?;
    Ok(session.map(|mut session| {
        change(&mut session);
        Event::of(kind, of.user, now, &SessionEvent::new(session, now))
    }))
}

/// What a session that comes to a state is to others.
#[must_use]
pub const fn of_status(status: Status) -> EventType {
    match status {
        Status::Active => EventType::SessionActivated,
        Status::Paused => EventType::SessionPaused,
        Status::Completed => EventType::SessionCompleted,
        Status::Archived => EventType::SessionArchived,
        Status::Expired => EventType::SessionExpired,
    }
}
