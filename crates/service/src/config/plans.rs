//! Plans: the tables of `config.default.toml`, or those of `PLANS_FILE`.

use super::files::QUOTA_MAX;
use super::source::{ConfigError, DEFAULTS, Reader};
use super::value;
use crate::credits::model::Rollover;
use crate::limits::parse_list;
use crate::plans::{FREE, Pack, Plan, Version};
use kernel::{Credits, decimal};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most plans.
pub const PLANS_MAX: usize = 100;
/// The most features of a plan.
const FEATURES_MAX: usize = 100;
/// The most that a plan costs, in hundredths.
pub const CENTS_MAX: i64 = 99_999_999;
/// The least that Stripe takes, in hundredths.
pub const PRICE_MIN_CENTS: i64 = 50;
/// The longest trial that Stripe knows.
const TRIAL_DAYS_MAX: u32 = 730;
/// The largest plans file.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
const PRICE_ID_RULE: &str = "the id of a price in Stripe, such as price_…";
const FILE_RULE: &str = "be a path of up to 1000 characters";

/// What can be bought.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Plans, the cheapest first.
    pub plans: Vec<Arc<Version>>,
    /// Credit packs, the cheapest first.
    pub packs: Vec<Pack>,
}

impl Catalogue {
    /// The plan of that key, as it is sold now.
    #[must_use]
    pub fn plan(&self, key: &str) -> Option<&Arc<Version>> {
        self.plans.iter().find(|version| version.plan.key == key)
    }

    /// The plan that is sold at that price of Stripe's.
    #[must_use]
    pub fn priced(&self, stripe_price: &str) -> Option<&Arc<Version>> {
        self.plans.iter().find(|version| version.plan.stripe_price.as_deref() == Some(stripe_price))
    }

    /// The pack of that key.
    #[must_use]
    pub fn pack(&self, key: &str) -> Option<&Pack> {
        self.packs.iter().find(|pack| pack.key == key)
    }
}

#[derive(Deserialize)]
struct Tables {
    #[serde(default)]
    plans: BTreeMap<String, PlanEntry>,
    #[serde(default)]
    packs: BTreeMap<String, PackEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackEntry {
    name: String,
    price: Number,
    credits: Number,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanEntry {
    name: String,
    price_monthly: Number,
    credits: Number,
    #[serde(default)]
    features: Vec<String>,
    duration_days: u32,
    #[serde(default)]
    recommended: bool,
    rollover: Option<RolloverEntry>,
    file_quota_bytes: Option<i64>,
    stripe_price: Option<String>,
    trial_days: Option<u32>,
    limits: Option<Vec<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RolloverEntry {
    max: Number,
    days: u32,
}

/// A number as a text or an integer; a TOML float would round.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Integer(i64),
}

impl Number {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.trim().to_owned(),
            Self::Integer(number) => number.to_string(),
        }
    }

    fn cents(&self) -> Option<i64> {
        decimal::parse(&self.text(), 2, CENTS_MAX, "999999.99").ok().filter(|cents| *cents >= 0)
    }

    fn micro(&self) -> Option<i64> {
        decimal::parse(&self.text(), 6, Credits::MAX.micro(), "9000000000000")
            .ok()
            .filter(|micro| *micro >= 0)
    }
}

pub(super) fn catalogue(reader: &mut Reader) -> Result<Catalogue, ConfigError> {
    let file = reader.optional("PLANS_FILE", FILE_RULE, value::words::<1000>)?;
    let (key, text) = match &file {
        Some(path) => ("PLANS_FILE", read(path)?),
        None => ("config.default.toml", DEFAULTS.to_owned()),
    };
    let broken = |rule: String| ConfigError::new(format!("{key}: {rule}."));
    let tables: Tables = toml::from_str(&text).map_err(|error| broken(error.message().to_owned()))?;
    checked(tables).map_err(broken)
}

fn read(path: &str) -> Result<String, ConfigError> {
    let broken =
        |why: String| ConfigError::new(format!("PLANS_FILE must be a file that can be read: {why}."));
    let size = std::fs::metadata(path).map_err(|error| broken(error.to_string()))?.len();
    if size > FILE_MAX_BYTES {
        return Err(broken(format!("it is larger than {FILE_MAX_BYTES} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))
}

fn checked(tables: Tables) -> Result<Catalogue, String> {
    if tables.plans.len() > PLANS_MAX || tables.packs.len() > PLANS_MAX {
        return Err(format!("there must be at most {PLANS_MAX} plans and {PLANS_MAX} packs"));
    }
    let mut plans = Vec::new();
    for (key, entry) in tables.plans {
        let named = |rule: &str| format!("plans.{key}.{rule}");
        plans.push(Arc::new(Version::of(plan(&key, entry).map_err(|rule| named(&rule))?)));
    }
    plans.sort_by(|a, b| (a.plan.price_cents, &a.plan.key).cmp(&(b.plan.price_cents, &b.plan.key)));
    if !plans.iter().any(|version| version.plan.key == FREE && version.plan.is_free()) {
        return Err("there must be a plan `free` that costs nothing".to_owned());
    }
    let mut prices: Vec<&str> =
        plans.iter().filter_map(|version| version.plan.stripe_price.as_deref()).collect();
    prices.sort_unstable();
    if let Some(twice) = prices.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("stripe_price {} must belong to one plan only", twice[0]));
    }
    let packs = tables
        .packs
        .into_iter()
        .map(|(key, entry)| pack(&key, entry).map_err(|rule| format!("packs.{key}.{rule}")));
    let mut packs = packs.collect::<Result<Vec<_>, _>>()?;
    packs.sort_by(|a, b| (a.price_cents, &a.key).cmp(&(b.price_cents, &b.key)));
    Ok(Catalogue { plans, packs })
}

fn pack(key: &str, entry: PackEntry) -> Result<Pack, String> {
    is_key(key)?;
    let cents = entry.price.cents().filter(|cents| *cents >= PRICE_MIN_CENTS);
    let micro = entry.credits.micro().filter(|micro| *micro > 0);
    Ok(Pack {
        key: key.to_owned(),
        name: value::words::<100>(&entry.name).ok_or("name must be 1 to 100 characters")?,
        price_cents: cents.ok_or("price must be 0.5 to 999999.99 with at most 2 decimal places")?,
        credits: Credits::from_micro(
            micro
                .ok_or("credits must be more than 0, at most 9000000000000, with at most 6 decimal places")?,
        ),
    })
}

fn plan(key: &str, entry: PlanEntry) -> Result<Plan, String> {
    let rule = |field: &str, rule: &str| format!("{field} must be {rule}");
    is_key(key)?;
    let credits = |field: &str, number: &Number| {
        number.micro().ok_or_else(|| rule(field, "0 to 9000000000000 with at most 6 decimal places"))
    };
    if entry.features.len() > FEATURES_MAX
        || !entry.features.iter().all(|feature| value::words::<100>(feature).is_some())
    {
        return Err(rule("features", "at most 100 names of 1 to 100 characters"));
    }
    if !(1..=3650).contains(&entry.duration_days) {
        return Err(rule("duration_days", "1 to 3650"));
    }
    let rollover = entry
        .rollover
        .map(|rollover| match rollover.max.micro() {
            Some(max) if max > 0 && (1..=36_500).contains(&rollover.days) => {
                Ok(Rollover { max, days: rollover.days.into() })
            }
            _ => Err(rule("rollover", "{ max = more than 0, days = 1 to 36500 }")),
        })
        .transpose()?;
    if entry.file_quota_bytes.is_some_and(|bytes| !(0..=QUOTA_MAX).contains(&bytes)) {
        return Err(rule("file_quota_bytes", "0 to 9007199254740991"));
    }
    if entry.trial_days.is_some_and(|days| !(1..=TRIAL_DAYS_MAX).contains(&days)) {
        return Err(rule("trial_days", "1 to 730"));
    }
    let stripe_price =
        entry.stripe_price.map(|id| stripe_price(&id).ok_or_else(|| rule("stripe_price", PRICE_ID_RULE)));
    let limits = entry.limits.as_ref().map(limits).transpose()?;
    Ok(Plan {
        key: key.to_owned(),
        name: value::words::<100>(&entry.name).ok_or_else(|| rule("name", "1 to 100 characters"))?,
        price_cents: entry
            .price_monthly
            .cents()
            .ok_or_else(|| rule("price_monthly", "0 to 999999.99 with at most 2 decimal places"))?,
        credits: credits("credits", &entry.credits)?,
        features: entry.features,
        duration_days: entry.duration_days,
        recommended: entry.recommended,
        rollover,
        file_quota_bytes: entry.file_quota_bytes,
        stripe_price: stripe_price.transpose()?,
        trial_days: entry.trial_days,
        limits,
    })
}

/// The limits as the JSON list that the route takes, and by its rules.
fn limits(entries: &Vec<toml::Value>) -> Result<String, String> {
    let text = serde_json::to_string(entries).map_err(|error| format!("limits: {error}"))?;
    parse_list(&text).map(|_| text)
}

fn stripe_price(id: &str) -> Option<String> {
    let fits = (1..=255).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    fits.then(|| id.to_owned())
}

fn is_key(key: &str) -> Result<(), String> {
    let fits = (1..=50).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    if fits { Ok(()) } else { Err("its key must be 1 to 50 of a-z, 0-9, _ and -".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Origin};

    fn load(tables: &str) -> Result<Catalogue, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), tables).expect("written");
        let path = file.path().display().to_string();
        let find = |key: &str| match key {
            "PLANS_FILE" if !tables.is_empty() => Some((path.clone(), Origin::Environment)),
            _ => None,
        };
        Config::from_vars(find).map(|(config, _)| config.catalogue).map_err(|error| error.to_string())
    }

    const FREE_PLAN: &str = "[plans.free]\nname='Free'\nprice_monthly=0\ncredits=10\nduration_days=30\n";

    #[test]
    fn the_defaults_are_the_documented_catalogue() {
        let catalogue = load("").expect("a catalogue");
        let plans: Vec<_> = catalogue
            .plans
            .iter()
            .map(|v| (v.plan.key.as_str(), v.plan.price_cents, v.plan.credits().to_string()))
            .collect();
        let wanted = [("free", 0, "1000"), ("pro", 2000, "10000"), ("enterprise", 10_000, "50000")];
        assert_eq!(plans, wanted.map(|(key, cents, credits)| (key, cents, credits.to_owned())));
        assert!(catalogue.plan("pro").is_some_and(|pro| pro.plan.recommended));
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (tables, refusal) in [
            (
                "[plans.pro]\nname='P'\nprice_monthly=1\ncredits=1\nduration_days=30\n",
                "there must be a plan `free`",
            ),
            (
                "[plans.free]\nname='F'\nprice_monthly='0.001'\ncredits=1\nduration_days=30\n",
                "plans.free.price_monthly must be",
            ),
            (
                "[plans.free]\nname='F'\nprice_monthly=0\ncredits='-1'\nduration_days=30\n",
                "plans.free.credits must be",
            ),
            (
                "[plans.free]\nname='F'\nprice_monthly=0\ncredits=1\nduration_days=0\n",
                "plans.free.duration_days must be",
            ),
            (
                "[plans.free]\nname='F'\nprice_monthly=0\ncredits=1\nduration_days=3\ncolour='red'\n",
                "unknown field `colour`",
            ),
            (
                "[plans.FREE]\nname='F'\nprice_monthly=0\ncredits=1\nduration_days=3\n",
                "plans.FREE.its key must be",
            ),
            ("[plans.free]\nname='F'\nprice_monthly=0.5\ncredits=1\nduration_days=3\n", "PLANS_FILE: "),
            (&format!("{FREE_PLAN}rollover={{max=0,days=1}}\n"), "plans.free.rollover must be"),
            (&format!("{FREE_PLAN}file_quota_bytes=-1\n"), "plans.free.file_quota_bytes must be"),
            (&format!("{FREE_PLAN}trial_days=0\n"), "plans.free.trial_days must be"),
            (
                &format!(
                    "{FREE_PLAN}[[plans.free.limits]]\nid='a'\nunit='credits'\namount=-1\nwindow='day'\n"
                ),
                "plans.free.limits.0.amount",
            ),
            (&format!("{FREE_PLAN}stripe_price='a b'\n"), "plans.free.stripe_price must be"),
            (&format!("{FREE_PLAN}[packs.s]\nname='S'\nprice='0.49'\ncredits=1\n"), "packs.s.price must be"),
            (&format!("{FREE_PLAN}[packs.s]\nname='S'\nprice=1\ncredits=0\n"), "packs.s.credits must be"),
            ("plans", "PLANS_FILE: "),
        ] {
            let refused = load(tables).expect_err(tables);
            assert!(refused.contains(refusal), "{tables}: {refused}");
        }
        assert_eq!(load(FREE_PLAN).expect("a catalogue").plans.len(), 1);
    }
}
