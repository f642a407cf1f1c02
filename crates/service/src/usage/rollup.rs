//! Roll-ups: the sums of each hour, day and month, by event type, model and provider. Pure.

use super::UsageRecord;
use crate::charges::rerate::Rerated;
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use kernel::{Timestamp, UserRowId, WideSum};
use std::collections::{BTreeMap, HashMap};

/// An hour, in microseconds.
pub const HOUR: i64 = 3_600_000_000;
/// A day, in microseconds.
pub const DAY: i64 = 24 * HOUR;

/// How long a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// An hour of UTC.
    Hour,
    /// A day of UTC.
    Day,
    /// A calendar month of UTC.
    Month,
}

impl Period {
    /// The word for it in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The first instant of the bucket that `at` falls into.
    #[must_use]
    pub fn bucket(self, at: Timestamp) -> Timestamp {
        match self {
            Self::Hour => Timestamp::from_micros(at.micros() - at.micros().rem_euclid(HOUR)),
            Self::Day => Timestamp::from_micros(at.micros() - at.micros().rem_euclid(DAY)),
            Self::Month => month_start(at, 0),
        }
    }

    /// The first instant after the bucket that `at` falls into.
    #[must_use]
    pub fn next(self, at: Timestamp) -> Timestamp {
        match self {
            Self::Hour => Timestamp::from_micros(self.bucket(at).micros() + HOUR),
            Self::Day => Timestamp::from_micros(self.bucket(at).micros() + DAY),
            Self::Month => month_start(at, 1),
        }
    }
}

fn month_start(at: Timestamp, later: i32) -> Timestamp {
    let date = DateTime::<Utc>::from_timestamp_micros(at.micros()).unwrap_or_default();
    let months = date.year() * 12 + date.month0().cast_signed() + later;
    NaiveDate::from_ymd_opt(months.div_euclid(12), months.rem_euclid(12).cast_unsigned() + 1, 1)
        .map_or(at, |day| {
            Timestamp::from_micros(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
        })
}

/// What a bucket is about. Absent model and provider are empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Whose usage.
    pub user: UserRowId,
    /// Hour, day or month.
    pub period: Period,
    /// Its first instant.
    pub bucket: Timestamp,
    /// The event type.
    pub event_type: String,
    /// The model.
    pub model_name: String,
    /// The provider.
    pub provider: String,
}

/// The sums of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// How many records.
    pub records: i64,
    /// Micro-credits charged.
    pub credits: WideSum,
    /// Nano-dollars of cost.
    pub cost: WideSum,
    /// Tokens.
    pub tokens: i64,
}

impl Sums {
    /// The sums of one record.
    #[must_use]
    pub fn of(record: &UsageRecord) -> Self {
        Self {
            records: 1,
            credits: WideSum::of(record.facts.credits_charged.micro()),
            cost: WideSum::of(record.facts.cost_usd),
            tokens: record.facts.tokens_used,
        }
    }

    /// Adds another bucket's sums.
    pub const fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.credits.add(other.credits);
        self.cost.add(other.cost);
        self.tokens += other.tokens;
    }

    /// Takes another bucket's sums away.
    pub const fn sub(&mut self, other: &Self) {
        self.records -= other.records;
        self.credits.sub(other.credits);
        self.cost.sub(other.cost);
        self.tokens -= other.tokens;
    }
}

/// What the records move: the sums of each hour, day and month that they fall into. Those that were
/// rated anew move them by the difference.
///
/// Each record is added to its hour without copying a text; days and months are summed from hours.
#[must_use]
pub fn of(records: &[UsageRecord], rerated: &[Rerated]) -> BTreeMap<Key, Sums> {
    let mut hours: HashMap<(UserRowId, Timestamp, &str, &str, &str), Sums> = HashMap::new();
    for record in records {
        hours.entry(hour(record)).or_default().add(&Sums::of(record));
    }
    for Rerated { before, after } in rerated {
        let sums = hours.entry(hour(after)).or_default();
        sums.add(&Sums::of(after));
        sums.sub(&Sums::of(before));
    }
    let mut rollups = BTreeMap::new();
    for ((user, hour, event_type, model_name, provider), sums) in hours {
        for period in [Period::Hour, Period::Day, Period::Month] {
            let key = Key {
                user,
                period,
                bucket: period.bucket(hour),
                event_type: event_type.to_owned(),
                model_name: model_name.to_owned(),
                provider: provider.to_owned(),
            };
            rollups.entry(key).or_insert_with(Sums::default).add(&sums);
        }
    }
    rollups
}

/// The hour that a record falls into.
fn hour(record: &UsageRecord) -> (UserRowId, Timestamp, &str, &str, &str) {
    let facts = &record.facts;
    (
        record.user,
        Period::Hour.bucket(record.created_at),
        facts.event_type.as_str(),
        facts.model_name.as_deref().unwrap_or_default(),
        facts.provider.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_where_utc_hours_and_months_do() {
        let at: Timestamp = "2024-02-29T23:59:59.999999Z".parse().expect("an instant");
        for (found, wanted) in [
            (Period::Hour.bucket(at), "2024-02-29T23:00:00Z"),
            (Period::Hour.next(at), "2024-03-01T00:00:00Z"),
            (Period::Day.bucket(at), "2024-02-29T00:00:00Z"),
            (Period::Day.next(at), "2024-03-01T00:00:00Z"),
            (Period::Month.bucket(at), "2024-02-01T00:00:00Z"),
            (Period::Month.next(at), "2024-03-01T00:00:00Z"),
            (Period::Month.next("2024-12-31".parse().expect("a date")), "2025-01-01T00:00:00Z"),
        ] {
            assert_eq!(found, wanted.parse().expect("an instant"));
        }
    }
}
