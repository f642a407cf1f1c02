//! Holds: credits set aside for work under way. No I/O.

use super::context::Context;
use super::model::{Hash, Origin, words};
use kernel::{Credits, HoldId, JsonObject, Timestamp, UserRowId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// The most open holds that one account may have.
pub const OPEN_HOLDS_MAX: usize = 1_000;
/// The most bytes of words (metadata, descriptions, what the work is) of an account's open holds together:
/// open holds are part of the account, wherever that is in memory.
pub const OPEN_HOLDS_BYTES_MAX: usize = 1024 * 1024;
/// The shortest and the longest life of a hold from the request on, and that of one that does not say.
pub const LIFE_MIN: Duration = Duration::from_secs(1);
/// The longest.
pub const LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// That of one that does not say.
pub const LIFE_DEFAULT: Duration = Duration::from_secs(15 * 60);

words! {
    /// What becomes of a hold that nobody settles, at the instant at which it ends.
    OnExpiry {
        /// All of it returns.
        Release = "release",
        /// What was ticked is charged, the rest returns.
        CaptureTicked = "capture_ticked",
        /// All of it is charged.
        CaptureAll = "capture_all",
    }
}

words! {
    /// How a hold stands.
    HoldStatus {
        /// Its credits are set aside.
        Open = "open",
        /// It was charged, wholly or in part.
        Captured = "captured",
        /// Its credits returned.
        Released = "released",
        /// Its time ended, and `on_expiry` was done.
        Expired = "expired",
    }
}

/// Credits set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its number in the account; the first is 1.
    pub n: i64,
    /// How it stands.
    pub status: HoldStatus,
    /// What is set aside, or was until it was settled.
    pub amount: Credits,
    /// What the work has cost so far, as its caller last said.
    pub ticked: Credits,
    /// What becomes of it when nobody settles it.
    pub on_expiry: OnExpiry,
    /// When it was made.
    pub created_at: Timestamp,
    /// The first instant at which it is no longer open.
    pub expires_at: Timestamp,
    /// Which grants its credits are of: `(seq, part)`, 0 for the credit limit, in the order of spending.
    pub parts: Vec<(i64, Credits)>,
    /// What the work is.
    pub context: Context,
    /// The caller's words.
    pub description: Option<String>,
    /// The caller's data.
    pub metadata: JsonObject,
    /// Who asked for it.
    pub origin: Origin,
    /// How it was settled.
    pub settled: Option<Settled>,
}

/// How many bytes the words of a hold take.
#[must_use]
pub fn words_bytes(context: &Context, description: Option<&str>, metadata: &JsonObject) -> usize {
    let names = [&context.model, &context.feature, &context.session, &context.key];
    let names = names.into_iter().flatten().chain(&context.tags).map(String::len);
    names.sum::<usize>() + description.map_or(0, str::len) + metadata.as_str().len()
}

/// How a hold was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// When.
    pub at: Timestamp,
    /// What a capture asked for.
    pub asked: Credits,
    /// What was charged.
    pub captured: Credits,
    /// What a capture asked for in vain.
    pub short_by: Credits,
    /// The entry that charged it, where anything was.
    pub entry_seq: Option<i64>,
}

impl Hold {
    /// The public id.
    #[must_use]
    pub const fn id(&self, user: UserRowId) -> HoldId {
        HoldId { user, seq: self.n }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// What of it is of the credit limit.
    #[must_use]
    pub fn of_line(&self) -> i64 {
        self.parts.iter().filter(|(seq, _)| *seq == 0).map(|(_, part)| part.micro()).sum()
    }

    /// What is charged when its time ends.
    #[must_use]
    pub const fn due_at_end(&self) -> Credits {
        match self.on_expiry {
            OnExpiry::Release => Credits::ZERO,
            OnExpiry::CaptureTicked => self.ticked,
            OnExpiry::CaptureAll => self.amount,
        }
    }

    /// How many bytes its words take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        words_bytes(&self.context, self.description.as_deref(), &self.metadata)
    }

    /// The seal of its row: SHA-256 over its every field.
    #[must_use]
    pub fn seal(&self, user: UserRowId) -> Hash {
        let mut row = super::chain::Row::default();
        row.int(user.0);
        row.int(self.n);
        row.text(self.status.as_str());
        row.int(self.amount.micro());
        row.int(self.ticked.micro());
        row.text(self.on_expiry.as_str());
        row.int(self.created_at.micros());
        row.int(self.expires_at.micros());
        row.text(&super::chain::funded_by_text(&self.parts));
        row.text(&self.context_text());
        row.optional_text(self.description.as_deref());
        row.text(self.metadata.as_str());
        row.text(&self.origin.actor);
        row.optional_text(self.origin.request_id.as_deref());
        row.optional_text(self.origin.idempotency_key.as_deref());
        let settled = self.settled.as_ref();
        row.optional_int(settled.map(|settled| settled.at.micros()));
        row.optional_int(settled.map(|settled| settled.asked.micro()));
        row.optional_int(settled.map(|settled| settled.captured.micro()));
        row.optional_int(settled.map(|settled| settled.short_by.micro()));
        row.optional_int(settled.and_then(|settled| settled.entry_seq));
        row.hash()
    }

    /// The column `context`.
    #[must_use]
    pub fn context_text(&self) -> String {
        serde_json::to_string(&self.context).unwrap_or_default()
    }
}
