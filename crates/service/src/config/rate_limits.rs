//! Settings of rate limits.

use super::Environment;
use super::source::{ConfigError, Reader};
use crate::rate_limits::Quota;
use kernel::Secret;

const REDIS_URL_RULE: &str = "be an address such as redis://localhost:6379/0, or rediss://… for TLS";
/// The longest window in seconds: a day.
const WINDOW_MAX: u32 = 86_400;

/// How many requests there may be, in a window of `RATE_LIMIT_WINDOW` seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitSettings {
    /// `RATE_LIMIT_REQUESTS`: reads of a user.
    pub read: Quota,
    /// `RATE_LIMIT_WRITE_REQUESTS`, or as many as reads: changes by a user.
    pub write: Quota,
    /// `RATE_LIMIT_EXPENSIVE_REQUESTS`: a user's requests that cost more than others.
    pub expensive: Quota,
    /// `RATE_LIMIT_SERVICE_REQUESTS`: all of a service key, or of an admin.
    pub service: Quota,
    /// `RATE_LIMIT_PUBLIC_REQUESTS`: requests of an address that need no authentication.
    pub public: Quota,
    /// `RATE_LIMIT_FAILURES`: missing or refused credentials of an address.
    pub failures: Quota,
}

/// The limits, unless they are switched off.
pub(super) fn settings(
    reader: &mut Reader,
    environment: Environment,
) -> Result<Option<RateLimitSettings>, ConfigError> {
    let enabled = reader.flag_or("RATE_LIMIT_ENABLED", environment != Environment::Development)?;
    let window = reader.number("RATE_LIMIT_WINDOW", 1..=WINDOW_MAX)?;
    let mut quota =
        |key: &str| reader.number(key, 1..=Quota::REQUESTS_MAX).map(|requests| Quota { requests, window });
    let limits = RateLimitSettings {
        read: quota("RATE_LIMIT_REQUESTS")?,
        write: quota("RATE_LIMIT_WRITE_REQUESTS")?,
        expensive: quota("RATE_LIMIT_EXPENSIVE_REQUESTS")?,
        service: quota("RATE_LIMIT_SERVICE_REQUESTS")?,
        public: quota("RATE_LIMIT_PUBLIC_REQUESTS")?,
        failures: quota("RATE_LIMIT_FAILURES")?,
    };
    Ok(enabled.then_some(limits))
}

/// `REDIS_URL`, which may hold a password.
pub(super) fn redis_url(reader: &mut Reader) -> Result<Option<Secret>, ConfigError> {
    reader.secret("REDIS_URL", REDIS_URL_RULE, |text| {
        ["redis://", "rediss://"].iter().any(|scheme| text.starts_with(scheme))
            && redis::parse_redis_url(text).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::loaded as load;

    #[test]
    fn rates_are_not_limited_on_a_desk_unless_it_is_asked_for() {
        assert_eq!(load(&[]).expect("settings").rate_limits, None);
        let asked = load(&[("RATE_LIMIT_ENABLED", "true"), ("RATE_LIMIT_WINDOW", "10")]).expect("settings");
        let limits = asked.rate_limits.expect("limits");
        assert_eq!(limits.read, Quota { requests: 600, window: 10 });
        let secret = ("SUPABASE_JWT_SECRET", "a-secret-that-is-long-enough-to-sign-tokens");
        let staging = load(&[("ENVIRONMENT", "staging"), secret]).expect("settings");
        assert!(staging.rate_limits.is_some());
    }

    #[test]
    fn what_breaks_a_rule_is_named_and_redis_is_never_shown() {
        for (key, bad) in [
            ("RATE_LIMIT_ENABLED", "maybe"),
            ("RATE_LIMIT_WINDOW", "0"),
            ("RATE_LIMIT_REQUESTS", "1000001"),
            ("RATE_LIMIT_WRITE_REQUESTS", "0"),
            ("RATE_LIMIT_FAILURES", "-1"),
        ] {
            let refused = load(&[(key, bad)]).expect_err(bad);
            assert!(refused.starts_with(&format!("{key} must be")), "{refused}");
        }
        for bad in ["localhost:6379", "http://secret-7@localhost", "redis://localhost:none"] {
            let refused = load(&[("REDIS_URL", bad)]).expect_err(bad);
            assert!(refused.starts_with("REDIS_URL must be an address"), "{refused}");
            assert!(!refused.contains("secret-7"), "{refused}");
        }
        assert!(load(&[("REDIS_URL", "rediss://:secret-7@redis.example.com:6380/1")]).is_ok());
    }
}
