//! JSON objects and arrays that callers attach: metadata, request and response data, tool calls.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::openapi::{
    ObjectBuilder, RefOr, Schema,
    schema::{AdditionalProperties, ArrayBuilder, SchemaType, Type},
};
use utoipa::{PartialSchema, ToSchema};

/// A JSON object, kept as the text it arrived as, so that no number in it changes.
///
/// At most 64 KiB of text and 64 levels deep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonObject(String);

impl JsonObject {
    /// The most text an object may have, in bytes.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// More members than that many bytes have room for.
    const MAX_MEMBERS: usize = 16 * 1024;
    /// How deep objects and arrays may be nested.
    pub const MAX_DEPTH: usize = 64;

    /// The object's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes back a text that this type once gave out, such as a stored column.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// Takes the text of a JSON object.
    ///
    /// # Errors
    /// A sentence that names the broken rule.
    pub fn new(text: &str) -> Result<Self, String> {
        within_bounds(text, '{', "must be a JSON object").map(Self)
    }

    /// This object with one more text member, unless it already has a member of that name.
    #[must_use]
    pub fn with_member(self, name: &str, value: &str) -> Self {
        // The text is added to, not written anew: a number that went through `f64` might change.
        let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(&self.0);
        let (Ok(members), Some(open)) = (members, self.0.strip_suffix('}')) else { return self };
        if members.contains_key(name) {
            return self;
        }
        let comma = if members.is_empty() { "" } else { "," };
        let (name, value) = (serde_json::Value::from(name), serde_json::Value::from(value));
        Self(format!("{}{comma}{name}:{value}}}", open.trim_end()))
    }
}

impl Default for JsonObject {
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

/// A JSON array, kept as the text it arrived as, under the limits of [`JsonObject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonArray(String);

impl JsonArray {
    /// The array's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes back a text that this type once gave out, such as a stored column.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }
}

/// The text, trimmed, if it begins like that and keeps the limits.
fn within_bounds(text: &str, opening: char, rule: &str) -> Result<String, String> {
    let text = text.trim();
    if !text.starts_with(opening) {
        return Err(rule.into());
    }
    if text.len() > JsonObject::MAX_BYTES {
        return Err(format!("must be at most {} bytes of JSON", JsonObject::MAX_BYTES));
    }
    if depth(text) > JsonObject::MAX_DEPTH {
        return Err(format!("must be nested at most {} levels deep", JsonObject::MAX_DEPTH));
    }
    // Half of a surrogate pair is a JSON escape, but no character; many readers refuse the whole text.
    if text.contains("\\u") && serde_json::from_str::<serde_json::Value>(text).is_err() {
        return Err("must hold whole characters only".into());
    }
    Ok(text.to_owned())
}

/// The text of a JSON value; a query or form carries it as a string of JSON.
fn text_of<'de, D: Deserializer<'de>>(deserializer: D, rule: &str) -> Result<Cow<'de, str>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    if !raw.get().starts_with('"') {
        return Ok(raw.get().into());
    }
    let text: String = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
    serde_json::from_str::<&RawValue>(&text).map_err(|_| D::Error::custom(rule))?;
    Ok(text.into())
}

fn write_raw<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let raw = <&RawValue>::deserialize(&mut serde_json::Deserializer::from_str(text));
    raw.map_err(S::Error::custom)?.serialize(serializer)
}

/// How deep the brackets of a valid JSON text are nested, strings left aside.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == "{}" {
            return serde::ser::SerializeMap::end(serializer.serialize_map(Some(0))?);
        }
        write_raw(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&text_of(deserializer, "must be a JSON object")?).map_err(D::Error::custom)
    }
}

impl PartialSchema for JsonObject {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("Any JSON object, at most 64 KiB and 64 levels deep."))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .max_properties(Some(Self::MAX_MEMBERS))
            .into()
    }
}

impl ToSchema for JsonObject {
    fn name() -> Cow<'static, str> {
        "JsonObject".into()
    }
}

impl Serialize for JsonArray {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_raw(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for JsonArray {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = "must be a JSON array";
        within_bounds(&text_of(deserializer, rule)?, '[', rule).map(Self).map_err(D::Error::custom)
    }
}

impl PartialSchema for JsonArray {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new()
            .items(utoipa::openapi::schema::ArrayItems::RefOrSchema(Box::new(
                ObjectBuilder::new().schema_type(SchemaType::AnyValue).into(),
            )))
            .description(Some("Any JSON array, at most 64 KiB and 64 levels deep."))
            .max_items(Some(JsonObject::MAX_MEMBERS))
            .into()
    }
}

impl ToSchema for JsonArray {
    fn name() -> Cow<'static, str> {
        "JsonArray".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_literal() {
        let text = r#"{"a":1.10,"b":123456789012345678901234567890,"c":"\u0000"}"#;
        let object: JsonObject = serde_json::from_str(text).expect("an object");
        assert_eq!(serde_json::to_string(&object).expect("json"), text);
    }

    #[test]
    fn only_objects_within_bounds_pass() {
        for text in ["[]", "1", "\"x\"", "true", "null"] {
            assert!(serde_json::from_str::<JsonObject>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<JsonObject>(r#""{\"a\":1}""#).is_ok());
        let deep = format!("{}1{}", "{\"a\":".repeat(65), "}".repeat(65));
        assert!(serde_json::from_str::<JsonObject>(&deep).is_err());
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(JsonObject::MAX_BYTES));
        assert!(serde_json::from_str::<JsonObject>(&large).is_err());
        let brackets = format!("{{\"a\":\"{}\"}}", "[".repeat(100));
        assert!(serde_json::from_str::<JsonObject>(&brackets).is_ok());
    }

    #[test]
    fn arrays_keep_the_same_limits() {
        let text = r#"[{"id":"call_1","type":"function","n":1.10}]"#;
        let array: JsonArray = serde_json::from_str(text).expect("an array");
        assert_eq!(serde_json::to_string(&array).expect("json"), text);
        let as_text: JsonArray = serde_json::from_str(r#""[1, 2]""#).expect("a query's");
        assert_eq!(as_text.as_str(), "[1, 2]");
        let large = format!("[\"{}\"]", "x".repeat(JsonObject::MAX_BYTES));
        for bad in ["{}", "1", "\"x\"", "\"[\"", "null", &large, r#"["\ud800"]"#] {
            assert!(serde_json::from_str::<JsonArray>(bad).is_err(), "{bad:.60}");
        }
    }

    #[test]
    fn a_member_is_added_but_never_overwritten() {
        let object = JsonObject::default().with_member("service", "chat");
        assert_eq!(object.as_str(), r#"{"service":"chat"}"#);
        assert_eq!(object.with_member("service", "other").as_str(), r#"{"service":"chat"}"#);
        let object =
            JsonObject::from_stored(r#"{"n": 123456789012345678901234567890, "e": 1.10 }"#.to_owned());
        let object = object.with_member("endpoint", "a\"b");
        assert_eq!(object.as_str(), r#"{"n": 123456789012345678901234567890, "e": 1.10,"endpoint":"a\"b"}"#);
    }
}
