//! What is older than `RETENTION_*` allows is removed by and by.
//!
//! Each class of things is found by a walk along its table's keys, a bounded stretch of it in each go. That takes
//! no index of its own, so what is written all day pays nothing for it. What always holds: nothing is removed
//! before its time, because each statement says again how old its rows must be; several processes may walk at
//! once; and whatever breaks off a walk costs no more than its place, and the next one begins anew.
//!
//! What is removed, and how, stands with each slice: `sessions/retention.rs`, `usage/retention.rs`,
//! `files/retention.rs`, `stripe/retention.rs`, `webhooks/delivery/retention.rs`. What callers see of it: `docs/privacy.md`.

use crate::app::App;
use crate::config::Config;
use crate::db::{Db, DbError, FromRow, Row};
use crate::webhooks::delivery;
use crate::writer::WriteError;
use crate::{files, sessions, stripe, usage};
use kernel::Timestamp;
use std::time::Duration;

/// How many keys of a table are looked through at once.
const SPAN: i64 = 5_000;
/// How many times that is done in one go, in which at most [`ROUNDS_MAX`] times something is removed.
const SPANS_MAX: usize = 20;
/// How many times something is removed in one go; the next one continues there.
const ROUNDS_MAX: usize = 20;
/// How many bytes are removed in one commit, unless a single row has more: what is deleted is also written over.
const BYTES_AT_ONCE: i64 = 4 * 1024 * 1024;
/// How long a walk rests at its end: what is kept for days need not go within minutes.
const REST: Duration = Duration::from_secs(60 * 60);

/// A stretch of a table: the keys after one, up to and with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The key before the first.
    pub after: i64,
    /// The last key.
    pub to: i64,
}

/// A row that may be too old: its key, since when it is there, and how many bytes of it go.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Its key.
    pub key: i64,
    /// Since when it is there, in microseconds.
    pub since: i64,
    /// How many bytes go with it.
    pub bytes: i64,
}

impl FromRow for Piece {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { key: row.int(0)?, since: row.int(1)?, bytes: row.int(2)? })
    }
}

/// The first of these, up to the first that is too young, and as many as go in one commit.
#[must_use]
pub fn due(pieces: &[Piece], before: Timestamp) -> &[Piece] {
    let mut bytes = 0;
    let too_many = |piece: &Piece| {
        let first = bytes == 0;
        bytes += piece.bytes.max(1);
        piece.since >= before.micros() || (bytes > BYTES_AT_ONCE && !first)
    };
    let end = pieces.iter().position(too_many).unwrap_or(pieces.len());
    &pieces[..end]
}

/// What has a time to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Sessions,
    Messages,
    UsageContent,
    Files,
    StripeEvents,
    WebhookEvents,
}

impl Class {
    /// Sessions before their messages: of a session that goes, nothing need be looked for.
    const ALL: [Self; 6] = [
        Self::Sessions,
        Self::Messages,
        Self::UsageContent,
        Self::Files,
        Self::StripeEvents,
        Self::WebhookEvents,
    ];

    const fn kept_for(self, config: &Config) -> Option<Duration> {
        let retention = &config.retention;
        match self {
            Self::Sessions => retention.sessions,
            Self::Messages => retention.messages,
            Self::UsageContent => retention.usage_content,
            Self::Files => retention.files,
            Self::StripeEvents => retention.stripe_events,
            Self::WebhookEvents => Some(config.webhooks.retention),
        }
    }

    /// The last key of the stretch after a key; nothing where that reaches the end of the table.
    async fn end(self, db: &Db, after: i64) -> Result<Option<i64>, DbError> {
        let sql = match self {
            Self::Sessions | Self::Messages => {
                "SELECT id FROM sessions WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2"
            }
            Self::UsageContent => "SELECT id FROM usage_records WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2",
            Self::Files => "SELECT id FROM files WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2",
            Self::WebhookEvents => {
                "SELECT id FROM webhook_events WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2"
            }
            Self::StripeEvents => {
                "SELECT seq FROM stripe_events WHERE seq > $1 ORDER BY seq LIMIT 1 OFFSET $2"
            }
        };
        let found: Vec<i64> = db.query(sql, vec![after.into(), (SPAN - 1).into()]).await?;
        Ok(found.first().copied())
    }

    /// Removes some of what is older than an instant; 0 once nothing of the stretch is.
    async fn remove(self, app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
        match self {
            Self::Sessions => sessions::retention::delete(app, span, before).await,
            Self::Messages => sessions::retention::forget(app, span, before).await,
            Self::UsageContent => usage::retention::empty(app, span, before).await,
            Self::Files => files::retention::delete(app, span, before).await,
            Self::StripeEvents => stripe::retention::empty(app, span, before).await,
            Self::WebhookEvents => delivery::retention::remove(app, span, before).await,
        }
    }
}

/// Where the walk of a class is.
#[derive(Debug, Default)]
struct Walk {
    /// The last key that was looked at.
    after: i64,
    /// When it begins anew.
    rests_until: Option<Timestamp>,
}

/// Where each walk is.
#[derive(Debug, Default)]
pub struct Walks([Walk; Class::ALL.len()]);

impl Walks {
    /// Goes some way along each table of which something has a time to go.
    ///
    /// # Errors
    /// A sentence for the log: the first of what went wrong. The other walks went on.
    pub async fn sweep(&mut self, app: &App) -> Result<(), WriteError> {
        let mut first = Ok(());
        for (class, walk) in Class::ALL.into_iter().zip(&mut self.0) {
            if let Some(kept_for) = class.kept_for(&app.config) {
                let done = walk.go(app, class, kept_for).await;
                first = first.and(done);
            }
        }
        first
    }
}

impl Walk {
    async fn go(&mut self, app: &App, class: Class, kept_for: Duration) -> Result<(), WriteError> {
        let now = app.clock.now();
        if self.rests_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        let before = now.minus(kept_for);
        let mut rounds = 0;
        for _ in 0..SPANS_MAX {
            let end = class.end(&app.db, self.after).await?;
            let span = Span { after: self.after, to: end.unwrap_or(i64::MAX) };
            while class.remove(app, span, before).await? > 0 {
                rounds += 1;
                if rounds == ROUNDS_MAX {
                    return Ok(());
                }
            }
            let Some(end) = end else {
                *self = Self { after: 0, rests_until: Some(now.plus(REST)) };
                return Ok(());
            };
            self.after = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_goes_up_to_some_bytes_and_to_the_first_that_is_young() {
        let gone = |pieces: &[(i64, i64)]| {
            let pieces = pieces.iter().map(|(since, bytes)| Piece { key: 0, since: *since, bytes: *bytes });
            due(&pieces.collect::<Vec<_>>(), Timestamp::from_micros(100)).len()
        };
        assert_eq!(gone(&[]), 0);
        assert_eq!(gone(&[(99, 1), (100, 1)]), 1);
        assert_eq!(gone(&[(100, 1), (99, 1)]), 0, "both wait");
        assert_eq!(gone(&[(1, BYTES_AT_ONCE - 1), (2, 1), (3, 0), (4, 1)]), 2);
        assert_eq!(gone(&[(1, BYTES_AT_ONCE * 2), (2, 1)]), 1, "one goes however large it is");
    }
}
