//! A service key as it is kept, and where it stands.

use crate::audit;
use crate::auth::Scopes;
use crate::db::{DbError, FromRow, Row, Weigh};
use crate::http::client_ip;
use ipnet::IpNet;
use kernel::Timestamp;
use std::net::IpAddr;

/// How many keys may be in use at once.
pub const KEYS_MAX: i64 = 1_000;
/// How many networks a key may be bound to.
pub const NETWORKS_MAX: usize = 100;
/// How many secrets a key may have at once: one, and those before it whose time is not over.
pub const SECRETS_MAX: i64 = 5;
/// The longest that an old secret works beside a new one, in seconds: a week.
pub const OVERLAP_MAX_S: u32 = 7 * 24 * 60 * 60;
/// The most requests a minute that a key may be held to.
pub const REQUESTS_PER_MINUTE_MAX: u32 = 1_000_000;

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It works.
    Active,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked,
}

impl Standing {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A key, without what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its row.
    pub id: i64,
    /// Its public id.
    pub key_id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// How many requests a minute it may make, where that is not the service's own limit.
    pub requests_per_minute: Option<u32>,
    /// From where it may be used; from anywhere when empty.
    pub allowed_ips: Vec<IpNet>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it, as the audit log names it.
    pub created_by: String,
    /// When its time is over.
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
    /// Up to when a secret before the current one works, where one does.
    pub overlap_ends_at: Option<Timestamp>,
}

impl Key {
    /// Where it stands at an instant.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        if self.revoked_at.is_some() {
            Standing::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            Standing::Expired
        } else {
            Standing::Active
        }
    }

    /// Says in the audit log what it is.
    pub fn note(&self) {
        audit::note("scopes", self.scopes.to_string());
        if let Some(at) = self.expires_at {
            audit::note("expires_at", at.to_string());
        }
        if let Some(limit) = self.requests_per_minute {
            audit::note("requests_per_minute", limit);
        }
        if !self.allowed_ips.is_empty() {
            audit::note("allowed_ips", networks_text(&self.allowed_ips));
        }
    }

    /// Whether it may be used from an address; one that is bound to networks may not from an unknown one.
    #[must_use]
    pub fn may_come_from(&self, address: Option<IpAddr>) -> bool {
        self.allowed_ips.is_empty()
            || address.is_some_and(|address| {
                // A connection by IPv6 may be an IPv4 one in disguise.
                let address = address.to_canonical();
                self.allowed_ips.iter().any(|network| network.contains(&address))
            })
    }
}

/// The networks as the column holds them.
#[must_use]
pub fn networks_text(networks: &[IpNet]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Reads a network, or a single address.
///
/// # Errors
/// The rule that it breaks.
pub fn network(text: &str) -> Result<IpNet, &'static str> {
    let network = client_ip::network(text).map(|network| network.trunc());
    network.ok_or("must be an address or a network such as 203.0.113.0/24 or 2001:db8::/32")
}

fn scopes(text: &str) -> Result<Scopes, DbError> {
    text.parse().map_err(|error| DbError::Internal(format!("service_keys.scopes: {error}")))
}

impl FromRow for Key {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let instant = |column| Ok::<_, DbError>(row.optional_int(column)?.map(Timestamp::from_micros));
        let networks = row.text(5)?;
        let networks = networks.split(' ').filter(|text| !text.is_empty()).map(|text| {
            network(text).map_err(|_| DbError::Internal("service_keys.allowed_ips is no network".to_owned()))
        });
        Ok(Self {
            id: row.int(0)?,
            key_id: row.text(1)?,
            name: row.text(2)?,
            scopes: scopes(&row.text(3)?)?,
            requests_per_minute: row.optional_int(4)?.and_then(|n| u32::try_from(n).ok()),
            allowed_ips: networks.collect::<Result<_, _>>()?,
            created_at: Timestamp::from_micros(row.int(6)?),
            created_by: row.text(7)?,
            expires_at: instant(8)?,
            last_used_at: instant(9)?,
            revoked_at: instant(10)?,
            overlap_ends_at: instant(11)?,
        })
    }
}

impl Weigh for Key {
    fn weight(&self) -> usize {
        self.name.len() + self.allowed_ips.len() * 40
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(allowed: &[&str]) -> Key {
        Key {
            id: 1,
            key_id: "k".into(),
            name: "n".into(),
            scopes: Scopes::NONE,
            requests_per_minute: None,
            allowed_ips: allowed.iter().map(|text| network(text).expect(text)).collect(),
            created_at: Timestamp::from_micros(0),
            created_by: "cli".into(),
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
            overlap_ends_at: None,
        }
    }

    #[test]
    fn a_bound_key_comes_from_its_networks_alone() {
        let from = |key: &Key, address: &str| key.may_come_from(address.parse().ok());
        assert!(key(&[]).may_come_from(None) && from(&key(&[]), "203.0.113.9"));
        let bound = key(&["203.0.113.0/24", "2001:db8::1"]);
        for good in ["203.0.113.0", "203.0.113.255", "::ffff:203.0.113.7", "2001:db8::1"] {
            assert!(from(&bound, good), "{good}");
        }
        for bad in ["203.0.114.1", "2001:db8::2", "::1", "not an address"] {
            assert!(!from(&bound, bad), "{bad}");
        }
    }

    #[test]
    fn networks_are_read_as_people_write_them() {
        assert_eq!(network("10.1.2.3/8").expect("a network").to_string(), "10.0.0.0/8");
        assert_eq!(network("::ffff:10.1.2.3/104").expect("a network").to_string(), "10.0.0.0/8");
        assert_eq!(network("::1").expect("a network").to_string(), "::1/128");
        for bad in ["", "10.0.0.0/33", "localhost", "10.0.0", "0.0.0.0/0/0"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_revoked_key_stays_revoked_and_one_ends_at_its_instant() {
        let at = Timestamp::from_micros;
        let ending = Key { expires_at: Some(at(10)), ..key(&[]) };
        assert_eq!([9, 10].map(|now| ending.standing(at(now))), [Standing::Active, Standing::Expired]);
        assert_eq!(Key { revoked_at: Some(at(5)), ..ending }.standing(at(20)), Standing::Revoked);
    }
}
