//! The headers that an endpoint has sent along.

use axum::http::{HeaderName, HeaderValue};
use kernel::Text;
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// How many headers an endpoint may have.
pub const HEADERS_MAX: usize = 20;
/// The longest name.
const NAME_MAX: usize = 256;
/// The longest value.
const VALUE_MAX: usize = 4096;
/// What stands for a value where headers are shown.
pub const HIDDEN: &str = "***";

/// What the service itself or the connection decides.
const FORBIDDEN: [&str; 12] = [
    "host",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "user-agent",
    "accept-encoding",
    "http2-settings",
    "proxy-connection",
];
/// The same, whole families of it.
const FORBIDDEN_FAMILIES: [&str; 3] = ["content-", "webhook-", "proxy-"];

/// Headers as a caller gives them.
#[derive(Debug, Default)]
pub struct GivenHeaders(BTreeMap<String, Text<0, VALUE_MAX>>);

impl<'de> Deserialize<'de> for GivenHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self)
    }
}

impl GivenHeaders {
    /// The headers, names in lower case.
    ///
    /// # Errors
    /// The rule that they break; no value is in it.
    pub fn check(self) -> Result<BTreeMap<String, String>, String> {
        if self.0.len() > HEADERS_MAX {
            return Err(format!("must be at most {HEADERS_MAX} headers"));
        }
        let mut headers = BTreeMap::new();
        for (name, value) in self.0 {
            let name = checked_name(&name)?;
            let value = value.into_string();
            if value == HIDDEN {
                return Err(format!(
                    "{name} must be the value itself, and not what stands for it in answers"
                ));
            }
            if HeaderValue::from_str(&value).is_err() || !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
                return Err(format!("{name} must have visible ASCII characters and spaces"));
            }
            if headers.insert(name.clone(), value).is_some() {
                return Err(format!("{name} must stand there once"));
            }
        }
        Ok(headers)
    }
}

fn checked_name(name: &str) -> Result<String, String> {
    let shown: String = name.chars().take(60).collect();
    if name.len() > NAME_MAX || HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(format!("{shown:?} must be a header's name of at most {NAME_MAX} characters"));
    }
    let name = name.to_ascii_lowercase();
    let forbidden = FORBIDDEN.contains(&name.as_str())
        || FORBIDDEN_FAMILIES.iter().any(|family| name.starts_with(family));
    if forbidden { Err(format!("{name} must not be set; the service does")) } else { Ok(name) }
}

/// Headers as answers show them: their names, for a value may be a secret.
#[derive(Debug, Clone, Serialize)]
pub struct ShownHeaders(BTreeMap<String, &'static str>);

impl ShownHeaders {
    /// Those of these names.
    #[must_use]
    pub fn of(names: &[String]) -> Self {
        Self(names.iter().map(|name| (name.clone(), HIDDEN)).collect())
    }
}

fn schema() -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(VALUE_MAX));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("Headers by name."))
        .additional_properties(Some(Schema::from(text)))
        .max_properties(Some(HEADERS_MAX))
        .into()
}

impl PartialSchema for GivenHeaders {
    fn schema() -> RefOr<Schema> {
        schema()
    }
}

impl ToSchema for GivenHeaders {
    fn name() -> Cow<'static, str> {
        "GivenHeaders".into()
    }
}

impl PartialSchema for ShownHeaders {
    fn schema() -> RefOr<Schema> {
        schema()
    }
}

impl ToSchema for ShownHeaders {
    fn name() -> Cow<'static, str> {
        "ShownHeaders".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<BTreeMap<String, String>, String> {
        serde_json::from_str::<GivenHeaders>(text).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn headers_are_kept_under_names_in_lower_case() {
        let kept = check(r#"{"Authorization":"Bearer a b","X-Tenant":""}"#).expect("headers");
        let wanted =
            [("authorization", "Bearer a b"), ("x-tenant", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(kept, BTreeMap::from(wanted));
    }

    #[test]
    fn what_is_not_the_endpoints_to_say_is_refused() {
        let many: BTreeMap<String, &str> = (0..21).map(|n| (format!("x-{n}"), "v")).collect();
        let many = serde_json::to_string(&many).expect("JSON");
        let (long_value, long_name) =
            (format!(r#"{{"x":"{}"}}"#, "a".repeat(4097)), format!(r#"{{"{}":"v"}}"#, "a".repeat(257)));
        for (bad, rule) in [
            (&*many, "at most 20 headers"),
            (&*long_value, "4096 characters"),
            (&*long_name, "at most 256 characters"),
            (r#"{"":"v"}"#, "must be a header's name"),
            (r#"{"a b":"v"}"#, "must be a header's name"),
            (r#"{"é":"v"}"#, "must be a header's name"),
            (r#"{"a:b":"v"}"#, "must be a header's name"),
            (r#"{"Host":"v"}"#, "host must not be set"),
            (r#"{"Content-Type":"v"}"#, "content-type must not be set"),
            (r#"{"Content-Length":"v"}"#, "content-length must not be set"),
            (r#"{"Webhook-Id":"v"}"#, "webhook-id must not be set"),
            (r#"{"Connection":"v"}"#, "connection must not be set"),
            (r#"{"Transfer-Encoding":"v"}"#, "transfer-encoding must not be set"),
            (r#"{"Proxy-Authorization":"v"}"#, "proxy-authorization must not be set"),
            (r#"{"x":"a\r\nHost: b"}"#, "visible ASCII"),
            (r#"{"x":"a\tb"}"#, "visible ASCII"),
            (r#"{"x":"é"}"#, "visible ASCII"),
            (r#"{"x":"***"}"#, "the value itself"),
            (r#"{"X-A":"1","x-a":"2"}"#, "x-a must stand there once"),
            (r#"["x"]"#, "expected a map"),
            (r#"{"x":1}"#, "expected a string"),
        ] {
            let refused = check(bad).expect_err(bad);
            assert!(refused.contains(rule), "{bad}: {refused}");
        }
    }
}
