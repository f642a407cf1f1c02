//! The rules of spending limits: pure, no I/O, no clock.
//!
//! What always holds: a spend passes only if it fits every limit that is about it, and then it is
//! counted under each; if it does not fit one, nothing is counted. A bucket counts until the whole of
//! it has left the window, and sums are made in 128 bits, so no limit is ever passed by rounding.

use super::model::{CounterKey, Dimension, Limit, Move, Spend, Unit, Used, Wanted, kept_since};
use super::window::Window;
use kernel::{Timestamp, UserRowId, decimal};
use std::collections::HashMap;
use std::fmt;

/// What open holds set aside under a limit and a value, in micro-credits.
pub type Reserved<'a> = dyn Fn(&Limit, &str) -> i64 + 'a;

/// A limit that a spend does not fit; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The limit's id.
    pub limit: String,
    /// What it counts apart.
    pub per: Dimension,
    /// Which session, model, tag or key; absent for a limit of the user.
    pub value: Option<String>,
    /// What it counts. The amounts are in the smallest part of it.
    pub unit: Unit,
    /// Over which time.
    pub window: Window,
    /// The limit.
    pub amount: i64,
    /// What was spent in the window.
    pub used: i128,
    /// What open holds set aside.
    pub held: i64,
    /// What can still be spent.
    pub remaining: i64,
    /// What was asked for.
    pub requested: i64,
    /// When the same spend would fit, if nothing else is spent; absent where the clock alone will not do.
    pub resets_at: Option<Timestamp>,
}

impl Denial {
    /// Whether the same spend can ever pass: it is not more than the whole limit.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        self.amount > 0 && self.requested <= self.amount
    }

    /// Whether this one stands in the way longer than the other, so that it is the one to name.
    fn outlasts(&self, other: &Self) -> bool {
        let until = |denial: &Self| (!denial.retryable(), denial.resets_at.unwrap_or(Timestamp::MAX));
        until(self) > until(other)
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |amount: i64| decimal::format(i128::from(amount), self.unit.places());
        let (remaining, requested) = (written(self.remaining), written(self.requested));
        let unit = self.unit.as_str();
        write!(
            f,
            "Spending limit reached: {}. Remaining: {remaining} {unit}, Required: {requested}",
            self.limit
        )
    }
}

/// How a limit stands under one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What was spent in the window.
    pub used: i128,
    /// What open holds set aside.
    pub held: i64,
    /// What can still be spent.
    pub remaining: i64,
    /// When less will be used than now: the calendar window's end, or the instant at which the oldest
    /// part leaves a rolling one.
    pub resets_at: Option<Timestamp>,
}

impl Standing {
    /// How a limit stands at `now`, with what was spent and what holds set aside.
    #[must_use]
    pub fn of(limit: &Limit, used: &Used, held: i64, now: Timestamp) -> Self {
        let resets_at = match limit.window {
            Window::Rolling(_) => counting(limit.window, used, now).next().map(|(leaves, _)| leaves),
            calendar => Some(calendar.leaves(calendar.bucket(now))),
        };
        let used: i128 = counting(limit.window, used, now).map(|(_, part)| i128::from(part)).sum();
        let remaining = i128::from(limit.amount) - used - i128::from(held);
        // Within i64: it is at most the limit's amount.
        let remaining = i64::try_from(remaining.max(0)).unwrap_or(limit.amount);
        Self { used, held, remaining, resets_at: resets_at.map(instant) }
    }
}

/// The parts that count at `now`, each with the instant at which it leaves the window, soonest first.
fn counting(window: Window, used: &Used, now: Timestamp) -> impl Iterator<Item = (i64, i64)> {
    used.0
        .range(window.since(now)..)
        .map(move |(bucket, part)| (window.leaves(*bucket), *part))
        .filter(|(_, part)| *part > 0)
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).min(Timestamp::MAX)
}

/// Each limit that a spend is counted under, with the value.
pub fn applying<'a>(limits: &'a [Limit], spend: &Spend<'a>) -> impl Iterator<Item = (&'a Limit, &'a str)> {
    let spend = *spend;
    limits.iter().flat_map(move |limit| spend.values(limit).into_iter().map(move |value| (limit, value)))
}

/// The counters that must be loaded to decide a spend at `now` or a little earlier.
#[must_use]
pub fn counters_of(user: UserRowId, limits: &[Limit], spend: &Spend<'_>, now: Timestamp) -> Vec<Wanted> {
    applying(limits, spend).map(|(limit, value)| limit.wanted(user, value, now)).collect()
}

/// Decides whether a spend fits every limit that is about it: what it then moves, all or none.
///
/// `now` is the account's own time, which never falls. Of several limits that it does not fit, the one
/// is named that stands in the way longest.
///
/// # Errors
/// A [`Denial`].
pub fn check(
    limits: &[Limit],
    user: UserRowId,
    spend: &Spend<'_>,
    reserved: &Reserved<'_>,
    counters: &HashMap<CounterKey, Used>,
    now: Timestamp,
) -> Result<Vec<Move>, Denial> {
    let mut worst: Option<Denial> = None;
    for (limit, value) in applying(limits, spend) {
        let key = CounterKey { user, limit: limit.key(), value: value.to_owned() };
        let held = if limit.unit == Unit::Credits { reserved(limit, value).max(0) } else { 0 };
        let nothing = Used::default();
        let used = counters.get(&key).unwrap_or(&nothing);
        let denial = deny(limit, value, used, held, spend.of(limit.unit), now);
        if let Some(denial) =
            denial.filter(|denial| worst.as_ref().is_none_or(|worst| denial.outlasts(worst)))
        {
            worst = Some(denial);
        }
    }
    worst.map_or_else(|| Ok(moves(limits, user, spend, counters, now)), Err)
}

/// What a spend moves, whether it fits or not: for what has happened already and must be counted.
#[must_use]
pub fn moves(
    limits: &[Limit],
    user: UserRowId,
    spend: &Spend<'_>,
    counters: &HashMap<CounterKey, Used>,
    now: Timestamp,
) -> Vec<Move> {
    let counted = applying(limits, spend).filter(|(limit, _)| spend.of(limit.unit) > 0);
    counted
        .map(|(limit, value)| {
            let key = CounterKey { user, limit: limit.key(), value: value.to_owned() };
            let bucket = limit.window.bucket(now);
            let known = counters.get(&key).is_some_and(|used| used.0.contains_key(&bucket));
            // Once per bucket is enough to remove what is of no use any more.
            let ended = (!known).then(|| kept_since(limit.window, now));
            Move { key, bucket, delta: spend.of(limit.unit), ended }
        })
        .collect()
}

/// Moves what was loaded, so that a later command of the batch sees it.
pub fn apply<S: std::hash::BuildHasher>(counters: &mut HashMap<CounterKey, Used, S>, moves: &[Move]) {
    for one in moves {
        counters.entry(one.key.clone()).or_default().add(one.bucket, one.delta);
    }
}

/// Why a spend does not fit one limit; nothing where it does.
fn deny(
    limit: &Limit,
    value: &str,
    used: &Used,
    held: i64,
    requested: i64,
    now: Timestamp,
) -> Option<Denial> {
    let standing = Standing::of(limit, used, held, now);
    // What spends nothing of the unit passes, unless the limit denies everything.
    if limit.amount > 0 && requested <= standing.remaining {
        return None;
    }
    Some(Denial {
        limit: limit.id.clone(),
        per: limit.per,
        value: (limit.per != Dimension::User).then(|| value.to_owned()),
        unit: limit.unit,
        window: limit.window,
        amount: limit.amount,
        used: standing.used,
        held,
        remaining: standing.remaining,
        requested,
        resets_at: fits_at(limit, used, held, requested, now),
    })
}

/// When a spend will fit, if nothing else is spent and the holds stay; nothing if it then never will.
fn fits_at(limit: &Limit, used: &Used, held: i64, requested: i64, now: Timestamp) -> Option<Timestamp> {
    if limit.amount == 0 {
        return None;
    }
    let room = i128::from(limit.amount) - i128::from(held) - i128::from(requested);
    let mut left: i128 = counting(limit.window, used, now).map(|(_, part)| i128::from(part)).sum();
    counting(limit.window, used, now).find_map(|(leaves, part)| {
        left -= i128::from(part);
        (left <= room).then(|| instant(leaves))
    })
}

#[cfg(test)]
mod tests;
