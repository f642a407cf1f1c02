//! A whole of tokens and what is within it: how the parts become pools that share no token.

use super::UsageError;
use super::fields::{Fields, Part};
use crate::prices::model::{Pool, Quantities};

/// What a usage object says, before it becomes pools.
#[derive(Debug, Default)]
pub struct Sides {
    /// What went in.
    pub prompt: Prompt,
    /// What came out.
    pub completion: Completion,
    /// Pools that are no tokens: seconds, pictures, searches, calls.
    pub others: Quantities,
    /// The model, where it is named.
    pub model: Option<String>,
    /// The provider, where it is named.
    pub provider: Option<String>,
}

/// Tokens in. Two cuts through the same whole: what kind they are, and what a cache did with them.
#[derive(Debug, Default)]
pub struct Prompt {
    /// All of them.
    pub whole: i64,
    /// Sound.
    pub audio: Part,
    /// Pictures.
    pub image: Part,
    /// Read from a cache, of any kind.
    pub cached: Part,
    /// Of those, sound.
    pub cached_audio: Part,
    /// Of those, pictures.
    pub cached_image: Part,
    /// Written to a cache.
    pub written: Written,
}

/// Tokens in that were written to a cache.
#[derive(Debug, Default)]
pub struct Written {
    /// For its usual time.
    pub usual: Part,
    /// For an hour.
    pub hour: Part,
}

/// Tokens out.
#[derive(Debug, Default)]
pub struct Completion {
    /// All of them.
    pub whole: i64,
    /// Thoughts.
    pub reasoning: Part,
    /// Sound.
    pub audio: Part,
    /// Pictures.
    pub image: Part,
}

impl Written {
    /// All that was written, and how much of it is known to be for five minutes and for an hour. What is
    /// not known to be for an hour is for the usual time.
    pub fn of(all: Part, five_minutes: &Part, hour: Part) -> Result<Self, UsageError> {
        let known = five_minutes.value + hour.value;
        if all.value == 0 {
            let at = five_minutes.at.clone();
            return Ok(Self { usual: Part { value: five_minutes.value, at }, hour });
        }
        if known > all.value {
            let at = if hour.value > 0 { hour.at } else { five_minutes.at.clone() };
            return Err(more_than(at, &all.at));
        }
        Ok(Self { usual: Part { value: all.value - hour.value, at: all.at }, hour })
    }

    /// Of both kinds.
    pub fn all(&self) -> i64 {
        self.usual.value + self.hour.value
    }
}

impl Prompt {
    /// Puts each token into one pool.
    pub fn fill(&self, quantities: &mut Quantities) -> Result<(), UsageError> {
        fit(self.whole, "all that went in", &[&self.audio, &self.image])?;
        fit(self.whole, "all that went in", &[&self.cached, &self.written.usual, &self.written.hour])?;
        fit(self.cached.value, "all that was cached", &[&self.cached_audio, &self.cached_image])?;
        fit(self.audio.value, "all sound that went in", &[&self.cached_audio])?;
        fit(self.image.value, "all pictures that went in", &[&self.cached_image])?;
        let mut left = Left {
            text: self.whole - self.audio.value - self.image.value,
            image: self.image.value - self.cached_image.value,
            audio: self.audio.value - self.cached_audio.value,
        };
        // What kind the rest of the cached ones are is not said: text, as far as there is any.
        let rest = self.cached.value - self.cached_audio.value - self.cached_image.value;
        let sound = left.take(rest);
        let cached_audio = self.cached_audio.value + sound;
        left.take(self.written.all());
        quantities.set(Pool::CachedAudioInput, cached_audio);
        quantities.set(Pool::CachedInput, self.cached.value - cached_audio);
        quantities.set(Pool::CacheWrite, self.written.usual.value);
        quantities.set(Pool::CacheWrite1h, self.written.hour.value);
        quantities.set(Pool::Input, left.text);
        quantities.set(Pool::ImageInput, left.image);
        quantities.set(Pool::AudioInput, left.audio);
        Ok(())
    }
}

/// What is not in a pool yet, by its kind.
struct Left {
    text: i64,
    image: i64,
    audio: i64,
}

impl Left {
    /// Takes that many, text first and sound last, and says how many of them were sound. There are
    /// enough: all parts were held against the whole.
    fn take(&mut self, mut many: i64) -> i64 {
        for kind in [&mut self.text, &mut self.image] {
            let some = many.min(*kind);
            *kind -= some;
            many -= some;
        }
        self.audio -= many;
        many
    }
}

impl Completion {
    /// Puts each token into one pool.
    pub fn fill(&self, quantities: &mut Quantities) -> Result<(), UsageError> {
        let parts = [&self.audio, &self.image, &self.reasoning];
        fit(self.whole, "all that came out", &parts)?;
        quantities.set(Pool::Reasoning, self.reasoning.value);
        quantities.set(Pool::AudioOutput, self.audio.value);
        quantities.set(Pool::ImageOutput, self.image.value);
        quantities.set(Pool::Output, self.whole - parts.iter().map(|part| part.value).sum::<i64>());
        Ok(())
    }
}

/// The tokens written to a cache, where they are given as Anthropic does.
pub fn written_as(fields: &Fields<'_>, all: &[&str], within: &[&str]) -> Result<Written, UsageError> {
    let named = |name: &str| within.iter().map(|object| format!("{object}/{name}")).collect::<Vec<_>>();
    let part = |names: Vec<String>| fields.part(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let five_minutes = part(named("ephemeral_5m_input_tokens"))?;
    let hour = part(named("ephemeral_1h_input_tokens"))?;
    Written::of(fields.part(all)?, &five_minutes, hour)
}

/// Refuses parts that are together more than their whole, naming the one that is too much.
fn fit(whole: i64, of_what: &str, parts: &[&Part]) -> Result<(), UsageError> {
    let mut sum = 0;
    for part in parts {
        sum += part.value;
        if sum > whole {
            return Err(more_than(part.at.clone(), of_what));
        }
    }
    Ok(())
}

fn more_than(at: String, whole: &str) -> UsageError {
    UsageError::new(at, format!("must not be more than {whole}, of which it is a part"))
}
