//! The fields of a usage object by their names; numbers are read from their literals.

use super::UsageError;
use kernel::{Count, decimal};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// The most entries of a list in a usage object.
pub const ENTRIES_MAX: usize = 256;
/// The most fields of an object in it, known or not.
pub const FIELDS_MAX: usize = 256;

/// Objects within usage objects, whose fields are looked for. They are objects wherever they are known.
const DETAILS: [&str; 9] = [
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
    "input_token_details",
    "output_token_details",
    "cache_creation",
    "server_tool_use",
    "billed_units",
];
/// Objects within those.
const WITHIN_DETAILS: [&str; 2] = ["cached_tokens_details", "cache_creation_token_details"];
/// Looked into where it is an object; elsewhere others use the name for something else.
const LOOKED_INTO: &str = "tokens";

/// A count and where it was found.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// How many; 0 if it was not there.
    pub value: i64,
    /// Its path, for a refusal.
    pub at: String,
}

/// The fields of one object, those of its details under `details/field`.
#[derive(Debug)]
pub struct Fields<'a> {
    place: String,
    values: BTreeMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    /// The fields of the object with that text, which is at that place.
    pub fn of(text: &'a str, place: &str) -> Result<Self, UsageError> {
        let mut fields = Self { place: place.to_owned(), values: BTreeMap::new() };
        fields.add(text, "")?;
        Ok(fields)
    }

    fn add(&mut self, text: &'a str, before: &str) -> Result<(), UsageError> {
        let Members(members) = serde_json::from_str(text).map_err(|error| {
            let rule = if error.is_data() && text.starts_with('{') {
                format!("must have at most {FIELDS_MAX} fields")
            } else {
                "must be a JSON object".to_owned()
            };
            UsageError::new(self.path(before), rule)
        })?;
        let (outside, of_details) = (before.is_empty(), DETAILS.contains(&before));
        for (name, value) in members {
            let path = if outside { name.clone() } else { format!("{before}/{name}") };
            let name = name.as_str();
            let strict =
                (outside && DETAILS.contains(&name)) || (of_details && WITHIN_DETAILS.contains(&name));
            let object = value.get().starts_with('{');
            if object && (strict || (outside && name == LOOKED_INTO)) {
                self.add(value.get(), &path)?;
            } else if strict && value.get() != "null" {
                return Err(UsageError::new(self.path(&path), "must be a JSON object"));
            }
            self.values.insert(path, value);
        }
        Ok(())
    }

    /// The path of a field as a caller would write it.
    pub fn path(&self, name: &str) -> String {
        let joint = if name.is_empty() { "" } else { "." };
        format!("{}{joint}{}", self.place, name.replace('/', "."))
    }

    /// The value, unless it is absent or `null`.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(|value| value.get()).filter(|value| *value != "null")
    }

    /// Whether any of these has a value.
    pub fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.get(name).is_some())
    }

    /// The object in a field, or none if the field holds something else.
    pub fn within(&self, name: &str) -> Result<Option<Self>, UsageError> {
        match self.get(name).filter(|value| value.starts_with('{')) {
            Some(text) => Self::of(text, &self.path(name)).map(Some),
            None => Ok(None),
        }
    }

    /// The objects of a list.
    pub fn list(&self, name: &str) -> Result<Vec<Self>, UsageError> {
        let Some(text) = self.get(name) else { return Ok(Vec::new()) };
        let entries = serde_json::from_str::<Vec<&'a RawValue>>(text)
            .map_err(|_| UsageError::new(self.path(name), "must be a list"))?;
        if entries.len() > ENTRIES_MAX {
            let rule = format!("must have at most {ENTRIES_MAX} entries");
            return Err(UsageError::new(self.path(name), rule));
        }
        let place = |index| self.path(&format!("{name}[{index}]"));
        entries.iter().enumerate().map(|(index, entry)| Self::of(entry.get(), &place(index))).collect()
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<String>, UsageError> {
        let text = self.get(name).map(serde_json::from_str::<String>).transpose();
        text.map_err(|_| UsageError::new(self.path(name), "must be a text"))
    }

    /// A count that goes by any of these names. Those that are there must agree, unless they are 0.
    pub fn count(&self, names: &[&str]) -> Result<Option<i64>, UsageError> {
        Ok(self.find(names)?.map(|part| part.value))
    }

    /// The same, with the path at which it was found; 0 if it is nowhere.
    pub fn part(&self, names: &[&str]) -> Result<Part, UsageError> {
        Ok(self.find(names)?.unwrap_or_default())
    }

    fn find(&self, names: &[&str]) -> Result<Option<Part>, UsageError> {
        let mut found: Option<Part> = None;
        for name in names {
            let Some(literal) = self.get(name) else { continue };
            let at = self.path(name);
            let Some(value) = whole(literal) else {
                return Err(UsageError::new(at, format!("must be a whole number from 0 to {}", Count::MAX)));
            };
            match &found {
                Some(other) if other.value == value || value == 0 => {}
                Some(other) if other.value != 0 => {
                    return Err(UsageError::new(at, format!("must be the same as {}", other.at)));
                }
                _ => found = Some(Part { value, at }),
            }
        }
        Ok(found)
    }

    /// Seconds in thousandths; what is finer is rounded up.
    pub fn thousandths(&self, name: &str) -> Result<i64, UsageError> {
        let Some(literal) = self.get(name) else { return Ok(0) };
        thousandths(literal).ok_or_else(|| {
            let most = decimal::format(i128::from(Count::MAX), 3);
            UsageError::new(self.path(name), format!("must be a number from 0 to {most}"))
        })
    }
}

/// The members of an object, of each name the last one; no more than [`FIELDS_MAX`] are read.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                let mut read = 0;
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    read += 1;
                    if read > FIELDS_MAX {
                        return Err(A::Error::custom("too many fields"));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A count from a JSON number or a text of digits.
fn whole(literal: &str) -> Option<i64> {
    let max = i64::from(Count::MAX);
    if !literal.starts_with('"') {
        return decimal::parse(literal, 0, max, "").ok().filter(|value| *value >= 0);
    }
    let digits: String = serde_json::from_str(literal).ok()?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { decimal::parse(&digits, 0, max, "").ok() } else { None }
}

fn thousandths(literal: &str) -> Option<i64> {
    let max = i64::from(Count::MAX);
    let exact = |literal: &str| decimal::parse(literal, 3, max, "").ok().filter(|value| *value >= 0);
    if let Some(value) = exact(literal) {
        return Some(value);
    }
    let (whole, fraction) = literal.split_once('.')?;
    let (kept, finer) = fraction.split_at_checked(3)?;
    if !finer.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Digits of nothing but zeros were exact before.
    exact(&format!("{whole}.{kept}"))
        .filter(|_| !whole.starts_with('-'))
        .map(|value| value + 1)
        .filter(|v| *v <= max)
}
