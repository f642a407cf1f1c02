//! Texts with a length, names and e-mail addresses.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::borrow::Cow;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, SchemaFormat, schema::Type};
use utoipa::{PartialSchema, ToSchema};

/// A text of `MIN` to `MAX` characters without the NUL character, which PostgreSQL cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// Takes a text of the right length.
    ///
    /// # Errors
    /// A sentence that names the broken rule.
    pub fn new(text: String) -> Result<Self, String> {
        if text.contains('\0') {
            return Err("must not contain the NUL character".into());
        }
        // A text has at least a quarter as many characters as bytes, so most lengths need no count.
        let chars = if text.len() <= MAX && MIN <= 1 { text.len().min(MAX) } else { text.chars().count() };
        if chars < MIN || chars > MAX {
            return Err(format!("must be {MIN} to {MAX} characters"));
        }
        Ok(Self(text))
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<const MIN: usize, const MAX: usize> PartialSchema for Text<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).min_length(Some(MIN)).max_length(Some(MAX)).into()
    }
}

impl<const MIN: usize, const MAX: usize> ToSchema for Text<MIN, MAX> {
    fn name() -> Cow<'static, str> {
        format!("Text{MIN}To{MAX}").into()
    }
}

/// What somebody said: at most 256 KiB of UTF-8 without the NUL character, which PostgreSQL cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Content(String);

impl Content {
    /// The most text, in bytes.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// The text, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// Takes a text.
    ///
    /// # Errors
    /// A sentence that names the broken rule.
    pub fn new(text: String) -> Result<Self, String> {
        if text.len() > Self::MAX_BYTES {
            return Err(format!("must be at most {} bytes", Self::MAX_BYTES));
        }
        Text::<0, { Self::MAX_BYTES }>::new(text).map(|text| Self(text.into_string()))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl PartialSchema for Content {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("At most 256 KiB of UTF-8."))
            .max_length(Some(Self::MAX_BYTES))
            .into()
    }
}

impl ToSchema for Content {
    fn name() -> Cow<'static, str> {
        "Content".into()
    }
}

/// A person's name: 1 to 200 characters, not only white space; kept trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Name(String);

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a name.
    ///
    /// # Errors
    /// A sentence that names the broken rule.
    pub fn new(text: &str) -> Result<Self, String> {
        Text::<1, 200>::new(text.trim().to_owned()).map(|text| Self(text.into_string()))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(200))
            .pattern(Some("\\S"))
            .examples(["Test User"])
            .into()
    }
}

impl ToSchema for Name {
    fn name() -> Cow<'static, str> {
        "Name".into()
    }
}

/// An e-mail address: at most 254 characters, with a domain that has a dot.
///
/// It is kept as written; two addresses that differ only in case are the same address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Email(String);

impl Email {
    /// The address as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form by which addresses are compared.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }

    /// Takes an address.
    ///
    /// # Errors
    /// A sentence that names the broken rule.
    pub fn new(text: &str) -> Result<Self, String> {
        let options = email_address::Options::default()
            .with_required_tld()
            .without_display_text()
            .without_domain_literal();
        let valid = text.len() <= 254
            && !text.chars().any(|c| c.is_control() || c.is_whitespace())
            && email_address::EmailAddress::parse_with_options(text, options).is_ok();
        if valid { Ok(Self(text.to_owned())) } else { Err("must be an e-mail address".into()) }
    }
}

impl<'de> Deserialize<'de> for Email {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl PartialSchema for Email {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::Custom("idn-email".to_owned())))
            .min_length(Some(3))
            .max_length(Some(254))
            .examples(["test@test.com"])
            .into()
    }
}

impl ToSchema for Email {
    fn name() -> Cow<'static, str> {
        "Email".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_measured_in_characters() {
        assert!(Text::<1, 3>::new("äöü".into()).is_ok());
        assert!(Text::<1, 3>::new("äöüa".into()).is_err());
        assert!(Text::<1, 3>::new(String::new()).is_err());
        assert!(Text::<0, 3>::new("a\0b".into()).is_err());
        assert!(Text::<2, 3>::new("ä".into()).is_err());
    }

    #[test]
    fn contents_are_measured_in_bytes() {
        assert!(Content::new("ä".repeat(Content::MAX_BYTES / 2)).is_ok());
        assert!(Content::new("ä".repeat(Content::MAX_BYTES / 2 + 1)).is_err());
        assert!(Content::new("a\0".to_owned()).is_err());
        assert!(Content::new(String::new()).is_ok());
    }

    #[test]
    fn names_are_trimmed_and_not_blank() {
        assert_eq!(Name::new("  Ada ").expect("a name").as_str(), "Ada");
        assert!(Name::new("   ").is_err());
        assert!(Name::new("").is_err());
    }

    #[test]
    fn addresses_need_a_domain() {
        for good in ["test@test.com", "a.b+c@mail.example.org", "ä@exämple.de"] {
            assert!(Email::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a", "a@", "@b.com", "a@b", "a b@c.de", "a@b..de", "A <a@b.de>", "a@[127.0.0.1]", "a@b.de\n"]
        {
            assert!(Email::new(bad).is_err(), "{bad}");
        }
        assert!(Email::new(&format!("{}@b.de", "a".repeat(260))).is_err());
    }
}
