//! Long lists of a body, of which no more is kept than may be done.

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The first `MAX` elements of a list, and how many it has: those beyond are counted, not kept, so that a
/// list of tiny elements does not take many times the memory of its text.
#[derive(Debug)]
pub struct Many<T, const MAX: usize> {
    /// The first ones.
    pub kept: Vec<T>,
    /// How many there are.
    pub count: usize,
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Many<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ManyVisitor(PhantomData))
    }
}

struct ManyVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ManyVisitor<T, MAX> {
    type Value = Many<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < MAX {
            match list.next_element()? {
                Some(element) => kept.push(element),
                None => return Ok(Many { count: kept.len(), kept }),
            }
        }
        let mut count = kept.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Many { kept, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_is_counted_and_not_kept() {
        for (text, kept, count) in [
            ("[]", &[][..], 0),
            ("[1,2]", &[1, 2], 2),
            ("[1,2,3]", &[1, 2, 3], 3),
            ("[1,2,3,4,{}]", &[1, 2, 3], 5),
        ] {
            let many: Many<i64, 3> = serde_json::from_str(text).expect(text);
            assert_eq!((&*many.kept, many.count), (kept, count), "{text}");
        }
        assert!(serde_json::from_str::<Many<i64, 3>>("{}").is_err());
        assert!(serde_json::from_str::<Many<i64, 3>>("[1,2,3,4").is_err());
    }
}
