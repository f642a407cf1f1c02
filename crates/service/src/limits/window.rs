//! Windows of time: the hour, day, week and month of the calendar, and rolling ones. Pure.
//!
//! What is spent is counted in buckets. A calendar window is one bucket. A rolling window is sixty,
//! and a bucket counts as long as any part of it is within the window: so a rolling window is never
//! too generous, and what leaves it does so at most a sixtieth of its length late.

use crate::usage::rollup::{DAY, HOUR, Period};
use kernel::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, fmt, str::FromStr};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

const WEEK: i64 = 7 * DAY;
const MINUTE: i64 = HOUR / 60;
/// How many buckets a rolling window is cut into.
const BUCKETS: i64 = 60;
/// The longest rolling window, in minutes: 366 days.
const MINUTES_MAX: u32 = 366 * 24 * 60;
/// What a window may be.
const RULE: &str =
    "must be hour, day, week, month, or 1m to 366d of minutes, hours or days, such as 30m, 5h, 7d";

/// The time over which a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// The hour of UTC.
    Hour,
    /// The day of UTC.
    Day,
    /// The week, from Monday 00:00 UTC.
    Week,
    /// The month of UTC.
    Month,
    /// So much time up to now.
    Rolling(Span),
}

/// How long a rolling window is: 1 minute to 366 days, in the unit in which it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    minutes: u32,
    unit: SpanUnit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SpanUnit {
    Minutes,
    Hours,
    Days,
}

impl SpanUnit {
    const ALL: [Self; 3] = [Self::Minutes, Self::Hours, Self::Days];

    const fn letter(self) -> char {
        match self {
            Self::Minutes => 'm',
            Self::Hours => 'h',
            Self::Days => 'd',
        }
    }

    const fn minutes(self) -> u32 {
        match self {
            Self::Minutes => 1,
            Self::Hours => 60,
            Self::Days => 24 * 60,
        }
    }
}

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let (unit, digits) = SpanUnit::ALL
            .into_iter()
            .find_map(|unit| text.strip_suffix(unit.letter()).map(|digits| (unit, digits)))?;
        let plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let minutes = digits.parse::<u32>().ok().filter(|_| plain)?.checked_mul(unit.minutes())?;
        (1..=MINUTES_MAX).contains(&minutes).then_some(Self { minutes, unit })
    }

    const fn micros(self) -> i64 {
        self.minutes as i64 * MINUTE
    }

    /// The width of a bucket: a whole number of seconds, for a window is a whole number of minutes.
    const fn width(self) -> i64 {
        self.micros() / BUCKETS
    }
}

impl Window {
    /// The first instant of the bucket that `at` falls into, in microseconds.
    #[must_use]
    pub fn bucket(self, at: Timestamp) -> i64 {
        let at_micros = at.micros();
        match self {
            Self::Hour => at_micros - at_micros.rem_euclid(HOUR),
            Self::Day => at_micros - at_micros.rem_euclid(DAY),
            // 1970 began on a Thursday, three days into its week.
            Self::Week => at_micros - (at_micros + 3 * DAY).rem_euclid(WEEK),
            Self::Month => Period::Month.bucket(at).micros(),
            Self::Rolling(span) => at_micros - at_micros.rem_euclid(span.width()),
        }
    }

    /// The first instant at which a bucket no longer counts, in microseconds.
    #[must_use]
    pub fn leaves(self, bucket: i64) -> i64 {
        match self {
            Self::Hour => bucket + HOUR,
            Self::Day => bucket + DAY,
            Self::Week => bucket + WEEK,
            Self::Month => Period::Month.next(Timestamp::from_micros(bucket)).micros(),
            Self::Rolling(span) => bucket + span.width() + span.micros(),
        }
    }

    /// The first bucket that may still count at `now`, in microseconds.
    #[must_use]
    pub fn since(self, now: Timestamp) -> i64 {
        match self {
            Self::Rolling(span) => now.micros() - span.width() - span.micros() + 1,
            _ => self.bucket(now),
        }
    }

    /// The same word for the same length, however it was written; part of a counter's name.
    #[must_use]
    pub fn code(self) -> String {
        match self {
            Self::Rolling(span) => format!("{}m", span.minutes),
            calendar => calendar.to_string(),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour => f.write_str("hour"),
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Month => f.write_str("month"),
            Self::Rolling(span) => write!(f, "{}{}", span.minutes / span.unit.minutes(), span.unit.letter()),
        }
    }
}

impl FromStr for Window {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            "week" => Ok(Self::Week),
            "month" => Ok(Self::Month),
            rolling => Span::parse(rolling).map(Self::Rolling).ok_or(RULE),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl PartialSchema for Window {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("`hour`, `day`, `week` (from Monday) or `month` of UTC, or a rolling window of 1 minute to 366 days: `30m`, `5h`, `7d`."))
            .pattern(Some("^(hour|day|week|month|[1-9][0-9]{0,5}[mhd])$"))
            .min_length(Some(2))
            .max_length(Some(7))
            .into()
    }
}

impl ToSchema for Window {
    fn name() -> Cow<'static, str> {
        "LimitWindow".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    fn window(text: &str) -> Window {
        text.parse().expect(text)
    }

    #[test]
    fn calendar_windows_begin_and_end_where_utc_does() {
        for (word, now, begins, ends) in [
            ("hour", "2024-02-29T23:59:59.999999Z", "2024-02-29T23:00:00Z", "2024-03-01T00:00:00Z"),
            ("day", "2024-02-29T23:59:59.999999Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("day", "2023-02-28T12:00:00Z", "2023-02-28T00:00:00Z", "2023-03-01T00:00:00Z"),
            // The last Sunday of March has 23 hours in much of Europe, and 24 here.
            ("day", "2025-03-30T02:30:00Z", "2025-03-30T00:00:00Z", "2025-03-31T00:00:00Z"),
            ("week", "2025-07-27T23:59:59.999999Z", "2025-07-21T00:00:00Z", "2025-07-28T00:00:00Z"),
            ("week", "2025-07-28T00:00:00Z", "2025-07-28T00:00:00Z", "2025-08-04T00:00:00Z"),
            ("week", "2024-12-31T10:00:00Z", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z"),
            ("month", "2024-02-29T23:59:59.999999Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("month", "2023-02-28T23:59:59.999999Z", "2023-02-01T00:00:00Z", "2023-03-01T00:00:00Z"),
            ("month", "2024-12-31T23:59:59.999999Z", "2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z"),
            ("month", "2100-02-28T00:00:00Z", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z"),
        ] {
            let bucket = window(word).bucket(at(now));
            assert_eq!(Timestamp::from_micros(bucket), at(begins), "{word} of {now}");
            assert_eq!(Timestamp::from_micros(window(word).leaves(bucket)), at(ends), "{word} of {now}");
            assert_eq!(window(word).since(at(now)), bucket);
        }
    }

    #[test]
    fn a_rolling_bucket_counts_while_any_part_of_it_is_within() {
        let hours = window("5h");
        let bucket = hours.bucket(at("2025-07-27T00:14:59.999999Z"));
        assert_eq!(Timestamp::from_micros(bucket), at("2025-07-27T00:10:00Z"));
        assert_eq!(Timestamp::from_micros(hours.leaves(bucket)), at("2025-07-27T05:15:00Z"));
        for (now, counts) in [("2025-07-27T05:14:59.999999Z", true), ("2025-07-27T05:15:00Z", false)] {
            assert_eq!(bucket >= hours.since(at(now)), counts, "{now}");
            assert_eq!(hours.leaves(bucket) > at(now).micros(), counts, "{now}");
        }
    }

    #[test]
    fn windows_are_written_as_they_were_read_and_counted_by_their_length() {
        for (text, code) in [
            ("hour", "hour"),
            ("day", "day"),
            ("week", "week"),
            ("month", "month"),
            ("1m", "1m"),
            ("60m", "60m"),
            ("1h", "60m"),
            ("24h", "1440m"),
            ("1d", "1440m"),
            ("366d", "527040m"),
            ("527040m", "527040m"),
        ] {
            assert_eq!(window(text).to_string(), text);
            assert_eq!(window(text).code(), code);
        }
        for text in [
            "",
            "m",
            "h",
            "0m",
            "00d",
            "05h",
            "+5h",
            "-5h",
            "5",
            "5s",
            "5w",
            "5 h",
            "1.5h",
            "367d",
            "8785h",
            "527041m",
            "99999999999999999999m",
            "4294967296d",
            "year",
            "Hour",
            "5H",
            "5hh",
            "٥h",
            "é",
        ] {
            assert_eq!(text.parse::<Window>(), Err(RULE), "{text}");
        }
    }

    #[test]
    fn no_instant_is_too_early_or_too_late() {
        for word in ["hour", "day", "week", "month", "1m", "366d"] {
            for now in [Timestamp::from_micros(0), Timestamp::MAX] {
                let bucket = window(word).bucket(now);
                assert!(bucket <= now.micros() && window(word).leaves(bucket) > now.micros(), "{word} {now}");
                assert!(bucket >= window(word).since(now), "{word} {now}");
            }
        }
    }
}
