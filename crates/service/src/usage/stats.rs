//! Statistics: exact over every record of a span, and as cheap over millions as over ten.
//!
//! A span is whole months, days and hours, which are read from the roll-ups, and at most two ragged
//! hours. Of a ragged hour the shorter side is counted from the records: either the part within
//! the span is added, or the whole hour is taken and the part outside is taken away.

use super::rollup::{Period, Sums};
use crate::db::{Db, DbError, FromRow, Row, Value};
use kernel::{Timestamp, UserRowId, WideSum};
use std::collections::BTreeMap;

/// Which records are counted.
#[derive(Debug, Clone, Default)]
pub struct StatsFilter {
    /// Not before.
    pub start: Option<Timestamp>,
    /// Not after.
    pub end: Option<Timestamp>,
    /// Of this type.
    pub event_type: Option<String>,
    /// Of this model.
    pub model_name: Option<String>,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Over all records.
    pub total: Sums,
    /// Records by event type.
    pub by_event_type: BTreeMap<String, i64>,
    /// Records by model, those without one left out.
    pub by_model: BTreeMap<String, i64>,
    /// Records by provider, those without one left out.
    pub by_provider: BTreeMap<String, i64>,
}

/// The sums of one event type, model and provider.
struct Facet {
    event_type: String,
    model_name: String,
    provider: String,
    sums: Sums,
}

impl FromRow for Facet {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let wide = |at: usize| Ok::<_, DbError>(WideSum { hi: row.int(at)?, lo: row.int(at + 1)? });
        Ok(Self {
            event_type: row.text(0)?,
            model_name: row.text(1)?,
            provider: row.text(2)?,
            sums: Sums { records: row.int(3)?, credits: wide(4)?, cost: wide(6)?, tokens: row.int(8)? },
        })
    }
}

impl Stats {
    fn count(&mut self, facet: &Facet, sign: Sign) {
        let move_by = match sign {
            Sign::Add => {
                self.total.add(&facet.sums);
                facet.sums.records
            }
            Sign::Sub => {
                self.total.sub(&facet.sums);
                -facet.sums.records
            }
        };
        for (counts, name) in [
            (&mut self.by_event_type, &facet.event_type),
            (&mut self.by_model, &facet.model_name),
            (&mut self.by_provider, &facet.provider),
        ] {
            if !name.is_empty() {
                *counts.entry(name.clone()).or_default() += move_by;
            }
        }
    }

    fn forget_zeros(&mut self) {
        for counts in [&mut self.by_event_type, &mut self.by_model, &mut self.by_provider] {
            counts.retain(|_, count| *count != 0);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Add,
    Sub,
}

/// A part of a span: `[from, to)`, counted from one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    place: Place,
    from: Timestamp,
    to: Timestamp,
    sign: Sign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Rollup(Period),
    Records,
}

/// Cuts the span `[from, to)` into months, days, hours and ragged ends.
fn cut(from: Timestamp, to: Timestamp) -> Vec<Part> {
    let mut parts = Vec::new();
    if from >= to {
        return parts;
    }
    let first_hour = if Period::Hour.bucket(from) == from { from } else { Period::Hour.next(from) };
    let last_hour = Period::Hour.bucket(to);
    if first_hour > last_hour {
        // All within one hour.
        parts.push(Part { place: Place::Records, from, to, sign: Sign::Add });
        return parts;
    }
    ragged(&mut parts, from, first_hour, Period::Hour.bucket(from), first_hour);
    ragged(&mut parts, last_hour, to, last_hour, Period::Hour.next(last_hour));
    whole(&mut parts, &[Period::Month, Period::Day, Period::Hour], first_hour, last_hour);
    parts
}

/// Counts `[from, to)`, which begins and ends with buckets of the last period, by the longest
/// buckets that fit.
fn whole(parts: &mut Vec<Part>, periods: &[Period], from: Timestamp, to: Timestamp) {
    let [longest, shorter @ ..] = periods else { return };
    if from >= to {
        return;
    }
    let first = if longest.bucket(from) == from { from } else { longest.next(from) };
    let last = longest.bucket(to);
    if first >= last {
        return whole(parts, shorter, from, to);
    }
    whole(parts, shorter, from, first);
    parts.push(Part { place: Place::Rollup(*longest), from: first, to: last, sign: Sign::Add });
    whole(parts, shorter, last, to);
}

/// Counts `[from, to)`, which lies within the hour `[open, close)`, by its shorter side.
fn ragged(parts: &mut Vec<Part>, from: Timestamp, to: Timestamp, open: Timestamp, close: Timestamp) {
    if from >= to {
        return;
    }
    let (inside, outside) = (to.micros() - from.micros(), close.micros() - open.micros());
    if inside * 2 <= outside {
        parts.push(Part { place: Place::Records, from, to, sign: Sign::Add });
        return;
    }
    parts.push(Part { place: Place::Rollup(Period::Hour), from: open, to: close, sign: Sign::Add });
    for (from, to) in [(open, from), (to, close)] {
        if from < to {
            parts.push(Part { place: Place::Records, from, to, sign: Sign::Sub });
        }
    }
}

const FROM_ROLLUPS: &str = "SELECT event_type, model_name, provider, CAST(sum(records) AS BIGINT), \
    CAST(sum(credits_hi) AS BIGINT), CAST(sum(credits_lo) AS BIGINT), CAST(sum(cost_hi) AS BIGINT), \
    CAST(sum(cost_lo) AS BIGINT), CAST(sum(tokens) AS BIGINT) FROM usage_rollups \
    WHERE user_id = $1 AND period = $2 AND bucket >= $3 AND bucket < $4 \
    AND (CAST($5 AS TEXT) IS NULL OR event_type = $5) AND (CAST($6 AS TEXT) IS NULL OR model_name = $6) \
    GROUP BY event_type, model_name, provider";

const FROM_RECORDS: &str = "SELECT event_type, coalesce(model_name, ''), coalesce(provider, ''), count(*), \
    CAST(sum(credits_charged >> 32) AS BIGINT), CAST(sum(credits_charged & 4294967295) AS BIGINT), \
    CAST(sum(cost_usd >> 32) AS BIGINT), CAST(sum(cost_usd & 4294967295) AS BIGINT), \
    CAST(sum(tokens_used) AS BIGINT) FROM usage_records \
    WHERE user_id = $1 AND created_at >= $2 AND created_at < $3 \
    AND (CAST($4 AS TEXT) IS NULL OR event_type = $4) AND (CAST($5 AS TEXT) IS NULL OR model_name = $5) GROUP BY 1, 2, 3";

/// Counts the records of a user.
///
/// # Errors
/// [`DbError`].
pub async fn stats(db: &Db, user: UserRowId, filter: &StatsFilter) -> Result<Stats, DbError> {
    let from = filter.start.unwrap_or_default();
    // The end is included, so the span ends a microsecond later.
    let to = Timestamp::from_micros(filter.end.unwrap_or(Timestamp::MAX).micros() + 1);
    let mut stats = Stats::default();
    for part in cut(from, to) {
        let mut values: Vec<Value> = vec![user.0.into()];
        let sql = match part.place {
            Place::Rollup(period) => {
                values.push(period.as_str().into());
                FROM_ROLLUPS
            }
            Place::Records => FROM_RECORDS,
        };
        values.extend([part.from.micros().into(), part.to.micros().into()]);
        values.extend([filter.event_type.clone().into(), filter.model_name.clone().into()]);
        for facet in db.query::<Facet>(sql, values).await? {
            stats.count(&facet, part.sign);
        }
    }
    stats.forget_zeros();
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    /// How often an instant is counted by the parts; it must be once within the span and never outside.
    fn times_counted(parts: &[Part], instant: Timestamp) -> i32 {
        parts
            .iter()
            .filter(|part| part.from <= instant && instant < part.to)
            .map(|part| if part.sign == Sign::Add { 1 } else { -1 })
            .sum()
    }

    #[test]
    fn every_instant_of_a_span_is_counted_once() {
        let instants: Vec<Timestamp> = [
            "2024-01-01",
            "2024-01-31T23:59:59.999999Z",
            "2024-02-01",
            "2024-02-01T00:10:00Z",
            "2024-02-01T00:50:00Z",
            "2024-02-15T12:00:00Z",
            "2024-02-15T12:00:00.000001Z",
            "2024-02-29T23:59:59Z",
            "2024-03-01",
            "2024-12-31T23:30:00Z",
            "2025-01-01",
        ]
        .map(at)
        .to_vec();
        for from in &instants {
            for to in &instants {
                let parts = cut(*from, *to);
                for instant in &instants {
                    let wanted = i32::from(from <= instant && instant < to);
                    assert_eq!(
                        times_counted(&parts, *instant),
                        wanted,
                        "{instant} in {from}..{to}: {parts:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_long_span_reads_no_records_but_those_of_its_ragged_hours() {
        let parts = cut(at("2020-05-05T10:10:00Z"), at("2024-07-07T20:50:00Z"));
        let records: i64 = parts
            .iter()
            .filter(|part| part.place == Place::Records)
            .map(|part| part.to.micros() - part.from.micros())
            .sum();
        assert_eq!(records, 2 * 10 * 60 * 1_000_000, "ten minutes at each end");
        assert!(
            cut(Timestamp::default(), at("2024-07-01"))
                .iter()
                .all(|part| part.place == Place::Rollup(Period::Month))
        );
    }
}
