//! What the pools of a model cost: rates, tiers for long prompts, and which pool stands in for which.

use super::{Pool, Quantities};
use kernel::Rate;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::{fmt, marker::PhantomData};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{ObjectBuilder, Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The rate of each pool that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates([Option<Rate>; Pool::ALL.len()]);

impl Rates {
    /// A pool's own rate.
    #[must_use]
    pub const fn get(&self, pool: Pool) -> Option<Rate> {
        self.0[pool as usize]
    }

    /// Gives a pool a rate.
    pub const fn set(&mut self, pool: Pool, rate: Rate) {
        self.0[pool as usize] = Some(rate);
    }

    /// The same with a rate for a pool.
    #[must_use]
    pub const fn with(mut self, pool: Pool, rate: Rate) -> Self {
        self.set(pool, rate);
        self
    }

    /// Whether no pool has a rate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The pools that have a rate, with it.
    pub fn given(&self) -> impl Iterator<Item = (Pool, Rate)> + '_ {
        Pool::ALL.iter().filter_map(|pool| self.get(*pool).map(|rate| (*pool, rate)))
    }
}

impl Serialize for Rates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.given().count()))?;
        for (pool, rate) in self.given() {
            map.serialize_entry(pool.as_str(), &rate)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rates = by_pool(deserializer)?;
        Ok(rates.into_iter().fold(Self::default(), |rates, (pool, rate)| rates.with(pool, rate)))
    }
}

/// Reads an object whose members are named as pools are, each at most once.
///
/// # Errors
/// The rule that it breaks.
pub fn by_pool<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Pool, T>, D::Error> {
    struct Pools<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Pools<T> {
        type Value = BTreeMap<Pool, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of pools")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                let pool: Pool = name
                    .parse()
                    .map_err(|rule| A::Error::custom(format_args!("the pool {name:.50?} {rule}")))?;
                if found.insert(pool, map.next_value()?).is_some() {
                    return Err(A::Error::custom(format_args!("the pool {pool} must be given once")));
                }
            }
            Ok(found)
        }
    }
    deserializer.deserialize_map(Pools(PhantomData))
}

impl PartialSchema for Rates {
    fn schema() -> RefOr<Schema> {
        let rate = || Ref::from_schema_name("Rate");
        let object = ObjectBuilder::new()
            .description(Some(
                "US dollars per unit, by pool: per token, picture, call, second, search, character.",
            ))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        Pool::ALL.iter().fold(object, |object, pool| object.property(pool.as_str(), rate())).into()
    }
}

impl ToSchema for Rates {
    fn name() -> Cow<'static, str> {
        "Rates".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Rate::name().into(), Rate::schema()));
    }
}

/// Rates that hold for a whole call once its prompt is longer than so many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct Tier {
    /// How many tokens of all input pools together the prompt must exceed.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub above: i64,
    /// The rates; a pool that has none here keeps its usual one.
    pub rates: Rates,
}

/// The pools whose tokens make up the prompt.
const PROMPT: [Pool; 7] = [
    Pool::Input,
    Pool::CachedInput,
    Pool::CacheWrite,
    Pool::CacheWrite1h,
    Pool::AudioInput,
    Pool::CachedAudioInput,
    Pool::ImageInput,
];

/// How many tokens the prompt has, cached ones included.
#[must_use]
pub fn prompt_tokens(quantities: &Quantities) -> i64 {
    PROMPT.iter().fold(0, |sum, pool| sum.saturating_add(quantities.get(*pool)))
}

/// The pools whose rates a pool is charged at, the first that has one; itself first.
#[must_use]
pub const fn stands_in(pool: Pool) -> &'static [Pool] {
    use Pool as P;
    match pool {
        P::Input => &[P::Input],
        P::CachedInput => &[P::CachedInput, P::Input],
        P::CacheWrite => &[P::CacheWrite, P::Input],
        P::CacheWrite1h => &[P::CacheWrite1h, P::CacheWrite, P::Input],
        P::AudioInput => &[P::AudioInput, P::Input],
        P::CachedAudioInput => &[P::CachedAudioInput, P::CachedInput, P::AudioInput, P::Input],
        P::ImageInput => &[P::ImageInput, P::Input],
        P::Output => &[P::Output],
        P::Reasoning => &[P::Reasoning, P::Output],
        P::AudioOutput => &[P::AudioOutput, P::Output],
        P::ImageOutput => &[P::ImageOutput, P::Output],
        P::Image => &[P::Image],
        P::Request => &[P::Request],
        P::Second => &[P::Second],
        P::Search => &[P::Search],
        P::Character => &[P::Character],
    }
}

/// The rate that a pool is charged at: the tier's before the usual one, its own before another pool's.
#[must_use]
pub fn rate_of(base: &Rates, tier: Option<&Tier>, pool: Pool) -> Option<Rate> {
    stands_in(pool).iter().find_map(|pool| tier.and_then(|tier| tier.rates.get(*pool)).or(base.get(*pool)))
}
