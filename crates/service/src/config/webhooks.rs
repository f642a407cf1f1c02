//! Settings of outgoing webhooks.

use super::source::{ConfigError, Reader};
use super::{Config, days};
use crate::http::client_ip;
use crate::webhooks::address::Reach;
use ipnet::IpNet;
use std::time::Duration;

const NETWORKS_RULE: &str = "be up to 100 addresses or networks such as 10.0.0.0/8 with commas between them";
/// The most networks that deliveries may go to beside the public addresses.
const NETWORKS_MAX: usize = 100;
const SCHEDULE_RULE: &str = "be 1 to 30 pauses such as `5s 2m 1h` with units ms, s, m, h or d, each from 10ms to 7d, together at most 30d";
/// The most attempts after the first one.
const RETRIES_MAX: usize = 30;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_hours(7 * 24);
const PAUSES_MAX: Duration = Duration::from_hours(30 * 24);

/// How others are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// `WEBHOOK_ALLOW_PRIVATE` and `WEBHOOK_ALLOWED_NETWORKS`.
    pub reach: Reach,
    /// `WEBHOOK_TIMEOUT_SECONDS`: of one attempt, all of it.
    pub timeout: Duration,
    /// `WEBHOOK_CONCURRENCY`: deliveries to one endpoint under way at once.
    pub concurrency: usize,
    /// `WEBHOOK_RETRY_SCHEDULE`: the pause after each attempt that failed; after the last one the delivery has.
    pub retries: Vec<Duration>,
    /// `WEBHOOK_RETENTION_DAYS`: how long events and what became of them are kept.
    pub retention: Duration,
}

pub(super) fn settings(reader: &mut Reader) -> Result<WebhookSettings, ConfigError> {
    let everywhere = reader.flag("WEBHOOK_ALLOW_PRIVATE")?;
    let networks = reader.optional("WEBHOOK_ALLOWED_NETWORKS", NETWORKS_RULE, networks)?;
    Ok(WebhookSettings {
        reach: Reach { everywhere, networks: networks.unwrap_or_default() },
        timeout: Duration::from_secs(reader.number("WEBHOOK_TIMEOUT_SECONDS", 1..=60)?),
        concurrency: reader.number("WEBHOOK_CONCURRENCY", 1..=256)?,
        retries: reader.parse("WEBHOOK_RETRY_SCHEDULE", SCHEDULE_RULE, schedule)?,
        retention: days(reader.number("WEBHOOK_RETENTION_DAYS", 4..=3650)?),
    })
}

/// What production does not take: a way for whoever registers an endpoint into all that is private.
pub(super) fn production(config: &Config, reader: &Reader) -> Result<(), ConfigError> {
    if config.webhooks.reach.everywhere {
        let rule =
            "be false when ENVIRONMENT=production, where WEBHOOK_ALLOWED_NETWORKS names what may be reached";
        return Err(reader.refusal("WEBHOOK_ALLOW_PRIVATE", rule));
    }
    Ok(())
}

fn networks(text: &str) -> Option<Vec<IpNet>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let networks = entries.map(|entry| client_ip::network(entry).map(|network| network.trunc()));
    networks.collect::<Option<Vec<_>>>().filter(|networks| networks.len() <= NETWORKS_MAX)
}

fn schedule(text: &str) -> Option<Vec<Duration>> {
    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
    let pauses = words.map(pause).collect::<Option<Vec<_>>>()?;
    let fits = (1..=RETRIES_MAX).contains(&pauses.len()) && pauses.iter().sum::<Duration>() <= PAUSES_MAX;
    fits.then_some(pauses)
}

fn pause(word: &str) -> Option<Duration> {
    let (number, unit) = word.split_at_checked(word.find(|c: char| !c.is_ascii_digit())?)?;
    let number: u32 = number.parse().ok()?;
    let pause = match unit {
        "ms" => Duration::from_millis(number.into()),
        "s" => Duration::from_secs(number.into()),
        "m" => Duration::from_secs(60).checked_mul(number)?,
        "h" => Duration::from_secs(60 * 60).checked_mul(number)?,
        "d" => Duration::from_secs(24 * 60 * 60).checked_mul(number)?,
        _ => return None,
    };
    (PAUSE_MIN..=PAUSE_MAX).contains(&pause).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::loaded as load;

    #[test]
    fn the_defaults_try_for_about_three_days_and_reach_the_world_alone() {
        let settings = load(&[]).expect("settings").webhooks;
        assert_eq!(settings.reach, Reach::default());
        let together: Duration = settings.retries.iter().sum();
        assert!((60..72).contains(&(together.as_secs() / 3600)), "{together:?}");
        // What can still be tried is kept.
        assert!(settings.retention > together);
    }

    #[test]
    fn pauses_are_read_in_any_unit() {
        let read =
            load(&[("WEBHOOK_RETRY_SCHEDULE", "50ms, 5s 2m,1h 1d")]).expect("settings").webhooks.retries;
        let seconds: Vec<f64> = read.iter().map(Duration::as_secs_f64).collect();
        assert_eq!(seconds, [0.05, 5.0, 120.0, 3600.0, 86_400.0]);
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let (many, long) = ("1s ".repeat(31), "7d ".repeat(5));
        let networks = vec!["10.0.0.0/8"; 101].join(",");
        for (key, bad) in [
            ("WEBHOOK_ALLOW_PRIVATE", "maybe"),
            ("WEBHOOK_ALLOWED_NETWORKS", "cluster.local"),
            ("WEBHOOK_ALLOWED_NETWORKS", &networks),
            ("WEBHOOK_TIMEOUT_SECONDS", "0"),
            ("WEBHOOK_TIMEOUT_SECONDS", "61"),
            ("WEBHOOK_CONCURRENCY", "257"),
            ("WEBHOOK_RETRY_SCHEDULE", "5"),
            ("WEBHOOK_RETRY_SCHEDULE", "soon"),
            ("WEBHOOK_RETRY_SCHEDULE", "9ms"),
            ("WEBHOOK_RETRY_SCHEDULE", "8d"),
            ("WEBHOOK_RETRY_SCHEDULE", "5w"),
            ("WEBHOOK_RETRY_SCHEDULE", "99999999999s"),
            ("WEBHOOK_RETRY_SCHEDULE", "4294967295d"),
            ("WEBHOOK_RETRY_SCHEDULE", ","),
            ("WEBHOOK_RETRY_SCHEDULE", &many),
            ("WEBHOOK_RETRY_SCHEDULE", &long),
            ("WEBHOOK_RETENTION_DAYS", "3"),
        ] {
            let refused = load(&[(key, bad)]).expect_err(bad);
            assert!(refused.starts_with(&format!("{key} must be")), "{refused}");
        }
    }

    #[test]
    fn production_opens_networks_by_name_and_never_all() {
        let secret = ("SUPABASE_JWT_SECRET", "kq8vT2xN5pR7wZ3yB6mC9dF1gH4jL0sA");
        let in_production = |var| load(&[("ENVIRONMENT", "production"), secret, var]);
        let refused = in_production(("WEBHOOK_ALLOW_PRIVATE", "true")).expect_err("a refusal");
        assert!(
            refused.starts_with("WEBHOOK_ALLOW_PRIVATE must be false when ENVIRONMENT=production"),
            "{refused}"
        );
        let opened = in_production(("WEBHOOK_ALLOWED_NETWORKS", "10.1.2.3/16, fd12::1")).expect("settings");
        let networks: Vec<String> = opened.webhooks.reach.networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.1.0.0/16", "fd12::1/128"]);
    }
}
