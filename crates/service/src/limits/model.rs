//! Limits, what a charge spends, and the counters that hold what was spent. No I/O.

use super::source::Source;
use super::window::Window;
use kernel::{Credits, Timestamp, UserRowId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// The most limits that one user may have: of its plan, and sent for it.
pub const LIMITS_MAX: usize = 100;
/// The most of them that count each session, key, model or tag on its own.
pub const EACH_MAX: usize = 20;
/// The most bytes that one user's limits take, as they are kept.
pub const TEXT_MAX_BYTES: usize = 32 * 1024;
/// The most that a counter holds; a bucket that would hold more stays there, and denies.
pub const USED_MAX: i64 = 9_000_000_000_000_000_000;
/// The largest limit of tokens or requests: 2⁵³ − 1, so that every JSON reader keeps it exact.
pub const COUNT_MAX: i64 = 9_007_199_254_740_991;
/// How much longer than their window buckets are kept, for processes whose clocks differ.
pub const SKEW_MICROS: i64 = 300 * 1_000_000;

/// What a limit counts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LimitDimension)]
pub enum Dimension {
    /// All that the user spends.
    #[default]
    User,
    /// What one service key spends for the user.
    Key,
    /// What one session spends.
    Session,
    /// What one model spends.
    Model,
    /// What goes with one tag.
    Tag,
}

impl Dimension {
    /// Its word in JSON and in counters' names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Key => "key",
            Self::Session => "session",
            Self::Model => "model",
            Self::Tag => "tag",
        }
    }
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LimitUnit)]
pub enum Unit {
    /// Credits spent, counted in millionths.
    Credits,
    /// US dollars of cost, counted in billionths.
    Usd,
    /// Tokens used.
    Tokens,
    /// Charges made.
    Requests,
}

impl Unit {
    /// Its word in JSON and in counters' names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credits => "credits",
            Self::Usd => "usd",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
        }
    }

    /// How many decimal places its amounts have.
    #[must_use]
    pub const fn places(self) -> u32 {
        match self {
            Self::Credits => 6,
            Self::Usd => 9,
            Self::Tokens | Self::Requests => 0,
        }
    }

    /// The largest amount of a limit, in the smallest part of the unit, and how it is written.
    #[must_use]
    pub const fn max(self) -> (i64, &'static str) {
        match self {
            Self::Credits => (USED_MAX, "9000000000000"),
            Self::Usd => (USED_MAX, "9000000000"),
            Self::Tokens | Self::Requests => (COUNT_MAX, "9007199254740991"),
        }
    }
}

/// How much may be spent within a window; as it is kept in the account's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name: 1 to 100 characters, no two of one user alike.
    pub id: String,
    /// What is counted apart.
    pub per: Dimension,
    /// Only this session, model, tag or key; each on its own when absent. Absent for `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is counted.
    pub unit: Unit,
    /// Over which time.
    pub window: Window,
    /// How much, in the smallest part of the unit: 0 or more. 0 denies everything.
    pub amount: i64,
}

impl Limit {
    /// The name of its counters: all of its definition but the amount, so that a changed definition
    /// counts anew and a changed amount does not.
    #[must_use]
    pub fn key(&self) -> String {
        let apart = if self.value.is_some() { "one" } else { "each" };
        let (per, unit, window) = (self.per.as_str(), self.unit.as_str(), self.window.code());
        // No part but the last has a full stop, so no two definitions have one name.
        format!("{per}.{apart}.{unit}.{window}.{}", self.id)
    }

    /// Who set it.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::of(&self.id)
    }

    /// Whether it counts each session, model, tag or key on its own.
    #[must_use]
    pub fn is_each(&self) -> bool {
        self.per != Dimension::User && self.value.is_none()
    }

    /// The window of the counters of that name; nothing when [`Limit::key`] did not make it.
    #[must_use]
    pub fn window_of_key(key: &str) -> Option<Window> {
        key.split('.').nth(3)?.parse().ok()
    }

    /// The counter of one value, as it can still count at `now`.
    #[must_use]
    pub fn wanted(&self, user: UserRowId, value: &str, now: Timestamp) -> Wanted {
        let key = CounterKey { user, limit: self.key(), value: value.to_owned() };
        Wanted { key, since: kept_since(self.window, now) }
    }
}

/// The first bucket that is kept at `now`: some more than those that can count.
#[must_use]
pub fn kept_since(window: Window, now: Timestamp) -> i64 {
    window.since(Timestamp::from_micros(now.micros() - SKEW_MICROS))
}

/// The limits as the account's row keeps them.
///
/// # Errors
/// Never for limits; a sentence for the log if they cannot be written.
pub fn to_text(limits: &[Limit]) -> Result<String, String> {
    serde_json::to_string(limits).map_err(|error| format!("spending limits cannot be written: {error}"))
}

/// The limits of an account's row.
///
/// # Errors
/// A sentence for the log when the text is not what [`to_text`] wrote.
pub fn from_text(text: &str) -> Result<Arc<[Limit]>, String> {
    let limits: Vec<Limit> = serde_json::from_str(text)
        .map_err(|error| format!("credit_accounts.spending_limits cannot be read: {error}"))?;
    Ok(limits.into())
}

/// What a charge spends, and on what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spend<'a> {
    /// Credits.
    pub credits: Credits,
    /// Cost in nano-dollars.
    pub cost_usd: i64,
    /// Tokens.
    pub tokens: i64,
    /// How many charges it is; 1.
    pub requests: i64,
    /// The service key that asks.
    pub key: Option<&'a str>,
    /// The session.
    pub session: Option<&'a str>,
    /// The model.
    pub model: Option<&'a str>,
    /// The tags.
    pub tags: &'a [String],
}

impl<'a> Spend<'a> {
    /// How much of the unit it spends, in its smallest part.
    #[must_use]
    pub fn of(&self, unit: Unit) -> i64 {
        let amount = match unit {
            Unit::Credits => self.credits.micro(),
            Unit::Usd => self.cost_usd,
            Unit::Tokens => self.tokens,
            Unit::Requests => self.requests,
        };
        amount.clamp(0, USED_MAX)
    }

    /// Under which values of the limit's dimension it is counted; none where the limit is not about it.
    #[must_use]
    pub fn values(&self, limit: &Limit) -> Vec<&'a str> {
        let mut values: Vec<&str> = match limit.per {
            Dimension::User => vec![""],
            Dimension::Key => self.key.into_iter().collect(),
            Dimension::Session => self.session.into_iter().collect(),
            Dimension::Model => self.model.into_iter().collect(),
            Dimension::Tag => self.tags.iter().map(String::as_str).collect(),
        };
        if let (Some(only), true) = (&limit.value, limit.per != Dimension::User) {
            values.retain(|value| value == only);
        }
        // The same tag twice is one tag.
        values.sort_unstable();
        values.dedup();
        values
    }
}

/// The name of a counter: what was spent under one limit and one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    /// Whose.
    pub user: UserRowId,
    /// The limit's [`Limit::key`].
    pub limit: String,
    /// The session, model, tag or key; empty for a limit of the user.
    pub value: String,
}

/// A counter that is to be loaded, from that bucket on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Which.
    pub key: CounterKey,
    /// The first bucket that may count.
    pub since: i64,
}

/// What a counter holds: what was spent by bucket, each named by its first instant in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Used(pub BTreeMap<i64, i64>);

impl Used {
    /// Adds to a bucket, up to [`USED_MAX`].
    pub fn add(&mut self, bucket: i64, delta: i64) {
        let used = self.0.entry(bucket).or_default();
        *used = used.saturating_add(delta).min(USED_MAX);
    }
}

/// What a charge moves a counter by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which counter.
    pub key: CounterKey,
    /// Which of its buckets.
    pub bucket: i64,
    /// By how much: more than 0, at most [`USED_MAX`].
    pub delta: i64,
    /// Where the bucket is new: those before this one are of no use any more.
    pub ended: Option<i64>,
}

/// What a batch moves: each bucket once, in the order in which every writer locks them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moves(BTreeMap<(CounterKey, i64), Moved>);

/// By how much a bucket moves in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// By how much.
    pub delta: i64,
    /// Where the bucket is new: those before this one are of no use any more.
    pub ended: Option<i64>,
}

impl Moves {
    /// Adds what one command moves.
    pub fn add(&mut self, moves: &[Move]) {
        for Move { key, bucket, delta, ended } in moves {
            let moved = self.0.entry((key.clone(), *bucket)).or_insert(Moved { delta: 0, ended: *ended });
            moved.delta = moved.delta.saturating_add(*delta).min(USED_MAX);
        }
    }

    /// Whether nothing moves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many buckets move.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each bucket and what it moves by, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&CounterKey, i64, Moved)> + Clone {
        self.0.iter().map(|((key, bucket), moved)| (key, *bucket, *moved))
    }

    /// The counters of which old buckets are removed, with the first one that is kept, in order.
    pub fn ended(&self) -> impl Iterator<Item = (&CounterKey, i64)> + Clone {
        self.iter().filter_map(|(key, _, moved)| moved.ended.map(|ended| (key, ended)))
    }
}
