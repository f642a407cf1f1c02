//! The generic cell rate algorithm: a bucket is one number, its debt.
//!
//! Each request adds one interval (`window / requests`) to the debt, which time pays off. A request that
//! would bring it above `requests` intervals is refused and adds nothing. So a caller that was silent may
//! send `requests` at once, and afterwards one for each interval that passes.

/// So many requests per span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many; at least 1, and at most [`Quota::REQUESTS_MAX`].
    pub requests: u32,
    /// In how many seconds; at least 1.
    pub window: u32,
}

impl Quota {
    /// The most requests of a quota: with more, an interval would be less than a microsecond.
    pub const REQUESTS_MAX: u32 = 1_000_000;

    /// Microseconds of debt that a request adds.
    #[must_use]
    pub const fn interval(self) -> u64 {
        let micros = self.window as u64 * 1_000_000;
        if micros < self.requests as u64 { 1 } else { micros / self.requests as u64 }
    }

    /// The most debt, in microseconds.
    #[must_use]
    pub const fn depth(self) -> u64 {
        self.interval() * self.requests as u64
    }

    /// What a request does to a debt: the new one, or nothing where the request is refused.
    #[must_use]
    pub const fn take(self, debt: u64) -> Option<u64> {
        // A clock that was set back leaves debts that no quota makes.
        let debt = if debt > self.depth() { self.depth() } else { debt };
        let new = debt + self.interval();
        if new > self.depth() { None } else { Some(new) }
    }
}

/// What became of a request, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The bucket's name.
    pub bucket: &'static str,
    /// Its quota.
    pub quota: Quota,
    /// Whether the request may go on.
    pub allowed: bool,
    /// The debt afterwards, in microseconds.
    pub debt: u64,
}

impl Decision {
    /// How many requests may follow at once.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.quota.depth().saturating_sub(self.debt) / self.quota.interval()
    }

    /// Seconds until everything is paid off, rounded up.
    #[must_use]
    pub const fn full_in(&self) -> u64 {
        let debt = if self.debt > self.quota.depth() { self.quota.depth() } else { self.debt };
        debt.div_ceil(1_000_000)
    }

    /// Seconds until one more request is allowed, rounded up; at least 1.
    #[must_use]
    pub const fn retry_after(&self) -> u32 {
        let debt = if self.debt > self.quota.depth() { self.quota.depth() } else { self.debt };
        let wait = (debt + self.quota.interval()).saturating_sub(self.quota.depth()).div_ceil(1_000_000);
        if wait == 0 { 1 } else { wait as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUOTA: Quota = Quota { requests: 10, window: 60 };

    #[test]
    fn a_silent_caller_may_send_all_at_once_and_then_one_per_interval() {
        let mut debt = 0;
        for sent in 0..10 {
            debt = QUOTA.take(debt).unwrap_or_else(|| panic!("request {sent}"));
        }
        assert_eq!(QUOTA.take(debt), None);
        let refused = Decision { bucket: "read", quota: QUOTA, allowed: false, debt };
        assert_eq!((refused.remaining(), refused.retry_after(), refused.full_in()), (0, 6, 60));
        assert_eq!(QUOTA.take(debt - 5_999_999), None);
        assert_eq!(QUOTA.take(debt - 6_000_000), Some(60_000_000));
        let one = Decision { bucket: "read", quota: QUOTA, allowed: true, debt: 6_000_000 };
        assert_eq!((one.remaining(), one.full_in()), (9, 6));
    }

    #[test]
    fn a_debt_from_a_clock_that_was_set_back_is_paid_off_within_a_window() {
        assert_eq!(QUOTA.take(u64::MAX), None);
        let refused = Decision { bucket: "read", quota: QUOTA, allowed: false, debt: u64::MAX };
        assert_eq!((refused.remaining(), refused.retry_after(), refused.full_in()), (0, 6, 60));
    }

    proptest! {
        /// Whatever the pauses, no stretch of time passes more than the burst and what it earns.
        #[test]
        fn no_stretch_passes_more_than_it_may(
            requests in 1..=50_u32,
            window in 1..=100_u32,
            pauses in prop::collection::vec(0..3_000_000_u64, 1..400),
        ) {
            let quota = Quota { requests, window };
            let (mut now, mut full_at, mut passed) = (0_u64, 0_u64, Vec::new());
            for pause in pauses {
                now += pause;
                if let Some(debt) = quota.take(full_at.saturating_sub(now)) {
                    full_at = now + debt;
                    passed.push(now);
                }
            }
            for (at, from) in passed.iter().enumerate() {
                for (count, to) in passed[at..].iter().enumerate() {
                    let earned = (to - from) / quota.interval();
                    prop_assert!(count as u64 <= u64::from(requests) + earned);
                }
            }
        }
    }
}
