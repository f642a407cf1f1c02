//! What is paid for. No I/O.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// Makes the pools from one list, so that none can be forgotten anywhere.
macro_rules! pools {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// One kind of thing that a call of a model is paid for. Pools are disjoint: a token, an image,
        /// a second is counted in exactly one of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Pool { $($(#[$doc])* #[serde(rename = $word)] $variant),+ }

        impl Pool {
            /// Every pool, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its word in JSON and tables.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for Pool {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("must be one of {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

pools! {
    /// Tokens in that no other pool has.
    Input = "input",
    /// Tokens in that the provider read from its cache.
    CachedInput = "cached_input",
    /// Tokens in that the provider wrote to its cache, for its usual time.
    CacheWrite = "cache_write",
    /// Tokens in that the provider wrote to its cache for an hour.
    CacheWrite1h = "cache_write_1h",
    /// Tokens out that no other pool has.
    Output = "output",
    /// Tokens out that were thought and not said.
    Reasoning = "reasoning",
    /// Tokens of sound in.
    AudioInput = "audio_input",
    /// Tokens of sound in that the provider read from its cache.
    CachedAudioInput = "cached_audio_input",
    /// Tokens of sound out.
    AudioOutput = "audio_output",
    /// Tokens of pictures in, where they have a price of their own.
    ImageInput = "image_input",
    /// Tokens of pictures out.
    ImageOutput = "image_output",
    /// Pictures made.
    Image = "image",
    /// Calls.
    Request = "request",
    /// Seconds of sound or film; counted in thousandths.
    Second = "second",
    /// Searches of the web.
    Search = "search",
    /// Characters.
    Character = "character",
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of each pool was used: 0 or more; of [`Pool::Second`], thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantities([i64; Pool::ALL.len()]);

impl Quantities {
    /// How much of one pool.
    #[must_use]
    pub const fn get(&self, pool: Pool) -> i64 {
        self.0[pool as usize]
    }

    /// Sets how much of one pool.
    pub const fn set(&mut self, pool: Pool, quantity: i64) {
        self.0[pool as usize] = quantity;
    }

    /// The same with that much of a pool.
    #[must_use]
    pub const fn with(mut self, pool: Pool, quantity: i64) -> Self {
        self.set(pool, quantity);
        self
    }

    /// The pools of which anything was used.
    pub fn used(&self) -> impl Iterator<Item = (Pool, i64)> + '_ {
        Pool::ALL.iter().map(|pool| (*pool, self.get(*pool))).filter(|(_, quantity)| *quantity != 0)
    }
}
