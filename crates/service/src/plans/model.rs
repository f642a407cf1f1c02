//! Plans and credit packs: what can be bought. No I/O.

use crate::credits::model::Rollover;
use aws_lc_rs::digest::{SHA256, digest};
use kernel::{Credits, Usd};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The plan of whoever has no other.
pub const FREE: &str = "free";
/// Nano-dollars of a cent; a currency's smallest part is a hundredth here.
const NANO_PER_CENT: i128 = 10_000_000;
/// How many characters of the hash stand in a version's name.
const HASH_CHARS: usize = 12;

/// What a plan is; whoever has bought it keeps it as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its key, such as `pro`.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// What a month of it costs, in hundredths of the currency.
    pub price_cents: i64,
    /// Micro-credits of each period.
    pub credits: i64,
    /// What it lets its users do.
    pub features: Vec<String>,
    /// How long a period is where Stripe does not say.
    pub duration_days: u32,
    /// Whether the catalogue recommends it.
    pub recommended: bool,
    /// What of a period's credits lives on after it.
    pub rollover: Option<Rollover>,
    /// How many bytes its users' files may have together, where it says so.
    pub file_quota_bytes: Option<i64>,
    /// Its price in Stripe, where it has one there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_price: Option<String>,
    /// The spending limits of its users, as a JSON list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<String>,
    /// How many days it may be tried before it is paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_days: Option<u32>,
}

/// Credits that are bought once and never expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Its key, such as `small`.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// What it costs, in hundredths of the currency.
    pub price_cents: i64,
    /// What it gives.
    pub credits: Credits,
}

impl Plan {
    /// Whether it costs nothing.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.price_cents == 0
    }

    /// The credits of each period.
    #[must_use]
    pub const fn credits(&self) -> Credits {
        Credits::from_micro(self.credits)
    }

    /// What a month of it costs.
    #[must_use]
    pub fn price(&self) -> Usd {
        money(self.price_cents)
    }
}

/// Hundredths of the currency as an amount for people.
#[must_use]
pub fn money(cents: i64) -> Usd {
    Usd::from_nano(i128::from(cents) * NANO_PER_CENT)
}

/// A plan as it was when somebody bought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its name: the plan's key and what its definition hashes to.
    pub id: String,
    /// The definition.
    pub plan: Plan,
}

impl Version {
    /// The version that a definition is.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        let mut id = format!("{}@", plan.key);
        let hash = digest(&SHA256, Self::text(&plan).as_bytes());
        for byte in &hash.as_ref()[..HASH_CHARS / 2] {
            let _ = write!(id, "{byte:02x}");
        }
        Self { id, plan }
    }

    /// The definition as it is kept.
    #[must_use]
    pub fn body(&self) -> String {
        Self::text(&self.plan)
    }

    fn text(plan: &Plan) -> String {
        // A plan is texts and integers, which always serialise.
        serde_json::to_string(plan).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            key: "pro".to_owned(),
            name: "Pro".to_owned(),
            price_cents: 1999,
            credits: 10_000_000_000,
            features: vec!["a".to_owned()],
            duration_days: 30,
            recommended: true,
            rollover: Some(Rollover { max: 1, days: 30 }),
            file_quota_bytes: None,
            stripe_price: None,
            limits: None,
            trial_days: None,
        }
    }

    #[test]
    fn a_version_is_named_by_what_it_says() {
        let version = Version::of(plan());
        assert_eq!(version, Version::of(plan()));
        assert!(version.id.starts_with("pro@") && version.id.len() == "pro@".len() + HASH_CHARS);
        let dearer = Version::of(Plan { price_cents: 2000, ..plan() });
        assert_ne!(version.id, dearer.id);
        let kept: Plan = serde_json::from_str(&version.body()).expect("a plan");
        assert_eq!(kept, version.plan);
        assert_eq!(serde_json::to_string(&version.plan.price()).expect("json"), "19.99");
    }
}
