//! Periods of one length, counted from an anchor. Pure.

use kernel::Timestamp;

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// One period of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Its number, 0 first.
    pub n: i64,
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

impl Period {
    /// The period of `days` days that `now` falls into; the first one before the anchor.
    #[must_use]
    pub fn at(anchor: Timestamp, days: u32, now: Timestamp) -> Self {
        let length = i64::from(days.max(1)) * DAY_MICROS;
        let n = (now.micros() - anchor.micros()).max(0) / length;
        let start = anchor.micros().saturating_add(n.saturating_mul(length));
        let at = |micros: i64| Timestamp::from_micros(micros.min(Timestamp::MAX.micros()));
        Self { n, start: at(start), end: at(start.saturating_add(length)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_begins_where_the_one_before_it_ends() {
        let anchor = Timestamp::from_micros(1_000);
        let day = |n: i64| Timestamp::from_micros(1_000 + n * DAY_MICROS);
        for (now, n) in
            [(Timestamp::from_micros(0), 0), (anchor, 0), (day(30), 1), (day(59), 1), (day(3650), 121)]
        {
            let period = Period::at(anchor, 30, now);
            assert_eq!(period, Period { n, start: day(30 * n), end: day(30 * (n + 1)) });
        }
        let before = Timestamp::from_micros(day(30).micros() - 1);
        assert_eq!(Period::at(anchor, 30, before).n, 0, "the last instant is the period's own");
        assert_eq!(Period::at(Timestamp::MAX, 30, Timestamp::MAX).end, Timestamp::MAX);
    }
}
