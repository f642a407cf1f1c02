//! An event that has its place among all.

use crate::db::{DbError, FromRow, Row};
use crate::webhooks::model::StoredEvent;

/// An event that can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Its place.
    pub position: i64,
    /// The row of the user that it is about.
    pub user: Option<i64>,
    /// What is sent of it.
    pub event: StoredEvent,
}

/// The columns of [`Numbered`], of `webhook_events e`.
macro_rules! event_columns {
    ($position:literal, $body:literal) => {
        concat!("e.id, ", $position, ", e.auth0_id, e.event_type, ", $body, ", e.created_at, e.user_id")
    };
}
pub(crate) use event_columns;

impl Numbered {
    /// The row of the event.
    #[must_use]
    pub const fn id(&self) -> i64 {
        self.event.id
    }

    /// How many bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.event.body.len()
    }
}

impl FromRow for Numbered {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let event = StoredEvent::from_row(row)?;
        let position = event.position.ok_or_else(|| DbError::Internal("an event has no place".to_owned()))?;
        Ok(Self { position, user: row.optional_int(6)?, event })
    }
}
