//! What is kept of what callers say, and for how long: `STORE_CONTENT`, `RETENTION_*`.

use super::source::{ConfigError, Reader};
use super::{Duration, life};

/// Whether what people and models say is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// It is.
    Stored,
    /// It is emptied as soon as it is known to be valid, before anything else sees it.
    Dropped,
}

impl Contents {
    /// What is kept of something that was said: itself, or an empty one.
    #[must_use]
    pub fn of<T: Default>(self, said: T) -> T {
        match self {
            Self::Stored => said,
            Self::Dropped => T::default(),
        }
    }

    /// Whether it is kept.
    #[must_use]
    pub const fn are_stored(self) -> bool {
        matches!(self, Self::Stored)
    }
}

/// How old things get; nothing means that they stay for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// `RETENTION_MESSAGES_DAYS`: messages, and what is remembered of sessions.
    pub messages: Option<Duration>,
    /// `RETENTION_SESSIONS_DAYS`: sessions in which nothing happens.
    pub sessions: Option<Duration>,
    /// `RETENTION_USAGE_CONTENT_DAYS`: the objects of usage records.
    pub usage_content: Option<Duration>,
    /// `RETENTION_FILES_DAYS`: files.
    pub files: Option<Duration>,
    /// `RETENTION_STRIPE_EVENTS_DAYS`: what events of Stripe say.
    pub stripe_events: Option<Duration>,
    /// `RETENTION_DELETED_USERS_DAYS`: what is left of deleted users.
    pub deleted_users: Option<Duration>,
}

pub(super) fn contents(reader: &mut Reader) -> Result<Contents, ConfigError> {
    Ok(if reader.flag("STORE_CONTENT")? { Contents::Stored } else { Contents::Dropped })
}

pub(super) fn retention(reader: &mut Reader) -> Result<Retention, ConfigError> {
    Ok(Retention {
        messages: life(reader, "RETENTION_MESSAGES_DAYS")?,
        sessions: life(reader, "RETENTION_SESSIONS_DAYS")?,
        usage_content: life(reader, "RETENTION_USAGE_CONTENT_DAYS")?,
        files: life(reader, "RETENTION_FILES_DAYS")?,
        stripe_events: life(reader, "RETENTION_STRIPE_EVENTS_DAYS")?,
        deleted_users: life(reader, "RETENTION_DELETED_USERS_DAYS")?,
    })
}
