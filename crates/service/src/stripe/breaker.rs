//! A circuit breaker: when Stripe does not answer, requests fail at once instead of waiting in line.

use kernel::Timestamp;
use parking_lot::Mutex;
use std::time::Duration;

/// How many failures in a row open it.
const FAILURES_MAX: u32 = 5;
/// How long it stays open before one request may try again.
const OPEN_FOR: Duration = Duration::from_secs(15);

/// Whether Stripe is worth asking.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    shut_until: Option<Timestamp>,
}

impl Breaker {
    /// Whether a request may go out; while it is open, one goes through each 15 s.
    pub fn allows(&self, now: Timestamp) -> bool {
        let mut state = self.0.lock();
        match state.shut_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.shut_until = Some(now.plus(OPEN_FOR));
                true
            }
            None => true,
        }
    }

    /// Whether requests fail at once.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.0.lock().shut_until.is_some_and(|until| now < until)
    }

    /// Notes that Stripe answered.
    pub fn succeeded(&self) {
        *self.0.lock() = State::default();
    }

    /// Notes that Stripe did not.
    pub fn failed(&self, now: Timestamp) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_MAX {
            state.shut_until = Some(now.plus(OPEN_FOR));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_five_failures_and_lets_one_through_at_a_time() {
        let (breaker, now) = (Breaker::default(), Timestamp::from_micros(0));
        for _ in 1..FAILURES_MAX {
            breaker.failed(now);
            assert!(breaker.allows(now));
        }
        breaker.failed(now);
        assert!(!breaker.allows(now) && breaker.is_open(now));
        let later = now.plus(OPEN_FOR);
        assert!(breaker.allows(later), "one may try");
        assert!(!breaker.allows(later), "and no second one meanwhile");
        breaker.succeeded();
        assert!(breaker.allows(later));
    }
}
