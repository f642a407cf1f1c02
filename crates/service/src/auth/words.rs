//! A JSON value that should be a text or a list of texts, read without copies where it can be.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// A claim that is a text or a list of texts; of any other type it counts as absent.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Words<'a> {
    /// Absent, or neither a text nor a list.
    #[default]
    None,
    /// A text.
    One(Cow<'a, str>),
    /// A list's texts.
    Many(Vec<Cow<'a, str>>),
}

impl Words<'_> {
    /// The text, where it is exactly one and no list.
    #[must_use]
    pub fn one(&self) -> Option<&str> {
        if let Self::One(word) = self { Some(word) } else { None }
    }

    /// Whether it is this text, or a list with it.
    #[must_use]
    pub fn has(&self, wanted: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(word) => word == wanted,
            Self::Many(words) => words.iter().any(|word| word == wanted),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Words<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

struct WordsVisitor;

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Words<'de>, E> {
        Ok(Words::One(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Words<'de>, E> {
        Ok(Words::One(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words<'de>, A::Error> {
        let mut words = Vec::new();
        while let Some(element) = list.next_element::<Words<'de>>()? {
            if let Words::One(word) = element {
                words.push(word);
            }
        }
        Ok(Words::Many(words))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Words::None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Words<'de>, E> {
        Ok(Words::None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Words<'de>, E> {
        Ok(Words::None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Words<'de>, E> {
        Ok(Words::None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Words<'de>, E> {
        Ok(Words::None)
    }

    fn visit_unit<E>(self) -> Result<Words<'de>, E> {
        Ok(Words::None)
    }
}
