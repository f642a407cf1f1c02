//! The limiter: asks Redis where it is set and answers, and else the memory.

use super::class::{self, Bucket, Class};
use super::gcra::Decision;
use super::headers::refusal;
use super::shared::{self, Shared};
use super::table::Table;
use crate::auth::Principal;
use crate::config::{Config, RateLimitSettings};
use crate::http::{ApiError, RequestFacts};
use crate::measure;
use kernel::Clock;
use redis::RedisError;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Counts requests and refuses those that are too many.
pub struct RateLimiter {
    settings: Option<RateLimitSettings>,
    table: Table,
    redis: Option<(Arc<Shared>, JoinHandle<()>)>,
    clock: Clock,
}

impl RateLimiter {
    /// Begins; where Redis is set, tries to reach it, and goes on without if that fails.
    ///
    /// # Errors
    /// `REDIS_URL` is no address.
    pub async fn start(config: &Config, clock: &Clock) -> Result<Self, RedisError> {
        let redis = match config.redis_url.as_ref().filter(|_| config.rate_limits.is_some()) {
            Some(url) => {
                let shared = Arc::new(Shared::new(url)?);
                let why = shared.first().await;
                Some((Arc::clone(&shared), tokio::spawn(shared::keep(shared, why))))
            }
            None => None,
        };
        let settings = config.rate_limits.clone();
        Ok(Self { settings, table: Table::default(), redis, clock: clock.clone() })
    }

    /// Before anything is looked at: refuses an address whose credentials failed too often, and counts a
    /// request that needs none.
    ///
    /// # Errors
    /// 429.
    pub async fn before(&self, facts: &RequestFacts) -> Result<(), ApiError> {
        let (Some(settings), Some(address)) = (&self.settings, facts.client_ip) else { return Ok(()) };
        match facts.class {
            Class::Exempt => Ok(()),
            Class::Public => {
                let decision = self.take(class::public(settings), &whose(address)).await;
                decided(facts, decision)
            }
            Class::Read | Class::Write | Class::Expensive => {
                let Bucket { name, quota } = class::failures(settings);
                let debt = self.table.debt(&(name, &whose(address)), self.now());
                if quota.take(debt).is_some() {
                    return Ok(());
                }
                measure::rate_limit_decision(name, false, self.backend());
                decided(facts, Decision { bucket: name, quota, allowed: false, debt })
            }
        }
    }

    /// Counts an authenticated request, once.
    ///
    /// # Errors
    /// 429.
    pub async fn authenticated(&self, facts: &RequestFacts, principal: &Principal) -> Result<(), ApiError> {
        let Some(settings) = &self.settings else { return Ok(()) };
        if facts.class == Class::Exempt || facts.rate.get().is_some() {
            return Ok(());
        }
        let bucket = class::of_principal(settings, principal, facts.class);
        let decision = self.take(bucket, &principal.caller()).await;
        decided(facts, decision)
    }

    /// Refuses a principal who has nothing left for reads nor for changes, before what it sends is read; counts nothing.
    ///
    /// # Errors
    /// 429.
    pub fn look(&self, facts: &RequestFacts, principal: &Principal) -> Result<(), ApiError> {
        let Some(settings) = &self.settings else { return Ok(()) };
        let whose = principal.caller();
        for class in [Class::Write, Class::Read] {
            let Bucket { name, quota } = class::of_principal(settings, principal, class);
            let debt = self.table.debt(&(name, &whose), self.now());
            if quota.take(debt).is_some() {
                return Ok(());
            }
            if class == Class::Read {
                measure::rate_limit_decision(name, false, self.backend());
                return decided(facts, Decision { bucket: name, quota, allowed: false, debt });
            }
        }
        Ok(())
    }

    /// Counts credentials that were missing or not accepted against their address.
    pub async fn failed(&self, facts: &RequestFacts) {
        if let (Some(settings), Some(address)) = (&self.settings, facts.client_ip) {
            self.take(class::failures(settings), &whose(address)).await;
        }
    }

    /// What health says of it: `off`, `memory`, `redis` or `redis_down_local`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        if self.settings.is_none() { "off" } else { self.backend() }
    }

    /// How many buckets are in debt in this process's memory.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.table.keys(self.now())
    }

    fn backend(&self) -> &'static str {
        match &self.redis {
            None => "memory",
            Some((shared, _)) if shared.up() => "redis",
            Some(_) => "redis_down_local",
        }
    }

    async fn take(&self, bucket: Bucket, whose: &str) -> Decision {
        let Bucket { name, quota } = bucket;
        let key = (name, whose);
        if let Some((shared, _)) = &self.redis
            && let Some((allowed, debt)) = shared.take(&key, quota).await
        {
            // Should Redis be lost, the memory goes on from here.
            self.table.set(&key, self.now(), debt);
            measure::rate_limit_decision(name, allowed, "redis");
            return Decision { bucket: name, quota, allowed, debt };
        }
        let (allowed, debt) = self.table.take(&key, self.now(), quota);
        measure::rate_limit_decision(name, allowed, self.backend());
        Decision { bucket: name, quota, allowed, debt }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().micros()).unwrap_or(0)
    }
}

impl Drop for RateLimiter {
    fn drop(&mut self) {
        if let Some((_, keeper)) = &self.redis {
            keeper.abort();
        }
    }
}

/// Keeps a decision for the answer's headers, and refuses where it says so.
fn decided(facts: &RequestFacts, decision: Decision) -> Result<(), ApiError> {
    let _ = facts.rate.set(decision);
    if decision.allowed { Ok(()) } else { Err(refusal(&decision)) }
}

/// Whose bucket an address shares: of version 6, the /64 that providers give to one customer.
fn whose(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_of_version_6_is_a_network() {
        let of = |text: &str| whose(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
    }
}
