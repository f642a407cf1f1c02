//! Instants in microseconds since 1970, UTC.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, schema::Type};
use utoipa::{PartialSchema, ToSchema};

/// An instant, in microseconds since 1970-01-01T00:00:00Z; years 1970 to 9999.
///
/// Written as `2025-07-27T00:11:26.479685Z`. Read with an offset, with none (UTC), or as a date
/// alone, which is the start of that day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// 9999-12-31T23:59:59.999999Z.
const MAX_MICROS: i64 = 253_402_300_799_999_999;

/// A text is no instant that the service takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a date or an RFC 3339 date-time between 1970 and 9999, such as 2025-07-27T00:11:26Z")]
pub struct TimestampError;

impl Timestamp {
    /// The last instant there is.
    pub const MAX: Self = Self(MAX_MICROS);

    /// From microseconds since 1970.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// In microseconds since 1970.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// In whole seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This instant and some more, held at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(MAX_MICROS);
        Self(self.0.saturating_add(micros).min(MAX_MICROS))
    }

    /// So long before this instant.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(MAX_MICROS);
        Self(self.0.saturating_sub(micros))
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        if !text.is_ascii() || text.len() > 40 {
            return Err(TimestampError);
        }
        // A `+` of an offset arrives as a space from a query that did not encode it.
        let mended = match text.rfind(' ') {
            Some(at) if at > 10 => format!("{}+{}", &text[..at], &text[at + 1..]),
            _ => text.to_owned(),
        };
        let instant = DateTime::parse_from_rfc3339(&mended)
            .map(|t| t.with_timezone(&Utc))
            .or_else(|_| mended.parse::<NaiveDateTime>().map(|t| t.and_utc()))
            .or_else(|_| NaiveDateTime::parse_from_str(&mended, "%Y-%m-%d %H:%M:%S%.f").map(|t| t.and_utc()))
            .or_else(|_| mended.parse::<NaiveDate>().map(|d| d.and_time(chrono::NaiveTime::MIN).and_utc()))
            .map_err(|_| TimestampError)?;
        let micros = instant.timestamp_micros();
        if (0..=MAX_MICROS).contains(&micros) { Ok(Self(micros)) } else { Err(TimestampError) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = DateTime::<Utc>::from_timestamp_micros(self.0).ok_or(fmt::Error)?;
        f.write_str(&instant.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .min_length(Some(10))
            .max_length(Some(40))
            .examples(["2025-07-27T00:11:26.479685Z"])
            .into()
    }
}

impl ToSchema for Timestamp {
    fn name() -> Cow<'static, str> {
        "Timestamp".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_documented_form_is_read() {
        for (text, written) in [
            ("2025-07-27T00:11:26.479685Z", "2025-07-27T00:11:26.479685Z"),
            ("2025-07-27T02:11:26.479685+02:00", "2025-07-27T00:11:26.479685Z"),
            ("2025-07-27T02:11:26.479685 02:00", "2025-07-27T00:11:26.479685Z"),
            ("2025-07-27T00:11:26", "2025-07-27T00:11:26.000000Z"),
            ("2025-07-27 00:11:26", "2025-07-27T00:11:26.000000Z"),
            ("2025-07-27", "2025-07-27T00:00:00.000000Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().expect(text).to_string(), written);
        }
        for text in [
            "",
            "yesterday",
            "2025-13-01",
            "2025-02-30",
            "1969-12-31",
            "10000-01-01",
            "2025-07-27T25:00:00Z",
            "٢٠٢٥-01-01",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(micros in 0..=MAX_MICROS) {
            let instant = Timestamp(micros);
            prop_assert_eq!(instant.to_string().parse(), Ok(instant));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,50}") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
