//! When a delivery that failed is tried again.

use chrono::{DateTime, NaiveDateTime};
use kernel::Timestamp;
use std::time::Duration;

/// By how much a pause is longer or shorter, at most: a fifth of it.
const JITTER_DIVISOR: u32 = 5;
/// The longest pause that a receiver can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The pauses between the attempts: after the first, after the second, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(pub Vec<Duration>);

impl Default for Schedule {
    /// About three days, the longer pauses at the end.
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        let pauses = [
            5,
            30,
            2 * MINUTE,
            5 * MINUTE,
            15 * MINUTE,
            30 * MINUTE,
            HOUR,
            2 * HOUR,
            4 * HOUR,
            8 * HOUR,
            12 * HOUR,
            16 * HOUR,
            24 * HOUR,
        ];
        Self(pauses.map(Duration::from_secs).to_vec())
    }
}

impl Schedule {
    /// When a delivery whose attempt of that number has failed is tried again; nothing when that was the last
    /// one. A receiver that says when it can take it is asked no earlier. `chance` is any byte.
    #[must_use]
    pub fn next(
        &self,
        attempts: u32,
        now: Timestamp,
        asked: Option<Timestamp>,
        chance: u8,
    ) -> Option<Timestamp> {
        let place = usize::try_from(attempts.saturating_sub(1)).ok()?;
        let pause = *self.0.get(place)?;
        // From four fifths of the pause to six.
        let spread = pause / JITTER_DIVISOR * 2;
        let pause = pause - pause / JITTER_DIVISOR + spread * u32::from(chance) / 255;
        let asked = asked.map(|asked| asked.min(now.plus(RETRY_AFTER_MAX)));
        let due = now.plus(pause);
        Some(asked.map_or(due, |asked| asked.max(due)))
    }
}

/// The instant that a `Retry-After` names: seconds from now, or a date.
#[must_use]
pub fn retry_after(header: &str, now: Timestamp) -> Option<Timestamp> {
    let header = header.trim();
    if header.is_empty() {
        return None;
    }
    if header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than an integer has are as good as for ever.
        return Some(now.plus(header.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)));
    }
    let rfc_9110 =
        NaiveDateTime::parse_from_str(header, "%a, %d %b %Y %H:%M:%S GMT").map(|date| date.and_utc());
    let date = rfc_9110.or_else(|_| DateTime::parse_from_rfc2822(header).map(|date| date.to_utc())).ok()?;
    Some(Timestamp::from_micros(date.timestamp_micros().max(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn the_pauses_grow_to_about_three_days_and_end() {
        let schedule = Schedule::default();
        let all: Duration = schedule.0.iter().sum();
        assert!(schedule.0.is_sorted());
        assert!((60..76).contains(&(all.as_secs() / 3600)), "{all:?}");
        assert_eq!(schedule.next(14, NOW, None, 0), None);
        assert!(schedule.next(13, NOW, None, 0).is_some());
    }

    #[test]
    fn chance_spreads_a_pause_by_a_fifth() {
        let schedule = Schedule(vec![Duration::from_secs(100)]);
        assert_eq!(schedule.next(1, NOW, None, 0), Some(after(80)));
        assert_eq!(schedule.next(1, NOW, None, 255), Some(after(120)));
        for chance in 0..=255 {
            let due = schedule.next(1, NOW, None, chance).expect("a second attempt");
            assert!((after(80)..=after(120)).contains(&due));
        }
    }

    #[test]
    fn a_receiver_can_ask_for_a_longer_pause_up_to_a_day() {
        let schedule = Schedule(vec![Duration::from_secs(100)]);
        assert_eq!(schedule.next(1, NOW, Some(after(3600)), 255), Some(after(3600)));
        assert_eq!(schedule.next(1, NOW, Some(after(1)), 255), Some(after(120)), "never a shorter one");
        assert_eq!(schedule.next(1, NOW, Some(after(1_000_000)), 0), Some(after(86_400)));
        assert_eq!(schedule.next(2, NOW, Some(after(1)), 0), None, "there is no further attempt");
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_as_a_date() {
        let now: Timestamp = "2015-10-21T07:00:00Z".parse().expect("an instant");
        let half_past = Some("2015-10-21T07:28:00Z".parse().expect("an instant"));
        assert_eq!(retry_after("1680", now), half_past);
        assert_eq!(retry_after(" 1680 ", now), half_past);
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now), half_past);
        assert_eq!(retry_after("99999999999999999999999", now), Some(now.plus(RETRY_AFTER_MAX)));
        for nothing in ["", "soon", "-1", "1.5", "Wed, 99 Oct 2015 07:28:00 GMT"] {
            assert_eq!(retry_after(nothing, now), None, "{nothing:?}");
        }
    }
}
