//! The parameters of a request, from the form or the query: `a[b][0][c]=d`.
//!
//! Nothing passes that the route does not name; what it demands is there.

use super::error::Refusal;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a request brings, each parameter under its name as it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads a form or a query.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            // `a[]=x` twice is a list: give each a place of its own.
            let name = match name.strip_suffix("[]") {
                Some(list) => {
                    let place = (0..).find(|at| !found.contains_key(&format!("{list}[{at}]"))).unwrap_or(0);
                    format!("{list}[{place}]")
                }
                None => name.into_owned(),
            };
            found.insert(name, value.into_owned());
        }
        Self(found)
    }

    /// Every parameter as it came.
    pub(super) const fn all(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Refuses what no pattern names, and the absence of what is demanded.
    ///
    /// A pattern is a name such as `items[#][price]` (`#`: a place in a list) or `metadata[*]`.
    pub(super) fn check(&self, allowed: &[&str], required: &[&str]) -> Result<(), Refusal> {
        for name in self.0.keys() {
            if !allowed.iter().chain(required).any(|pattern| fits(pattern, name)) {
                let refusal = Refusal::invalid(format!("Received unknown parameter: {name}"));
                return Err(refusal.code("parameter_unknown").param(name));
            }
        }
        for pattern in required {
            let there =
                |name: &String| fits(pattern, name) && self.0.get(name).is_some_and(|v| !v.is_empty());
            if !self.0.keys().any(there) {
                let name = pattern.replace("[#]", "[0]");
                let refusal = Refusal::invalid(format!("Missing required param: {name}."));
                return Err(refusal.code("parameter_missing").param(&name));
            }
        }
        Ok(())
    }

    /// A parameter that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The same as JSON, `null` where it is not there.
    pub(super) fn value(&self, name: &str) -> Value {
        self.text(name).map_or(Value::Null, Value::from)
    }

    /// A whole number.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let refusal = || {
            let refusal = Refusal::invalid(format!("Invalid integer: {text}"));
            refusal.code("parameter_invalid_integer").param(name)
        };
        text.parse().map(Some).map_err(|_| refusal())
    }

    /// A yes or no.
    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(Refusal::invalid(format!("Invalid boolean: {other}")).param(name)),
        }
    }

    /// One of a few words.
    pub(super) fn word(&self, name: &str, words: &[&str]) -> Result<Option<&str>, Refusal> {
        match self.text(name) {
            Some(text) if !words.contains(&text) => {
                let message = format!("Invalid {name}: must be one of {}", words.join(", or "));
                Err(Refusal::invalid(message).param(name))
            }
            found => Ok(found),
        }
    }

    /// The texts under a name, such as `metadata[user]=…`.
    pub(super) fn map(&self, name: &str) -> Map<String, Value> {
        let entry = |(full, value): (&String, &String)| {
            let key = full.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
            Some((key.to_owned(), Value::from(value.as_str())))
        };
        self.0.iter().filter_map(entry).collect()
    }

    /// How many places of a list are taken, from the first on.
    pub(super) fn places(&self, name: &str) -> usize {
        let taken = |at: &usize| self.0.keys().any(|full| full.starts_with(&format!("{name}[{at}]")));
        (0..).take_while(taken).count()
    }
}

/// Writes metadata over what is there; an empty text takes a key away.
pub(super) fn write_metadata(object: &mut Value, given: &Map<String, Value>) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    for (key, value) in given {
        if value == "" {
            metadata.remove(key);
        } else {
            metadata.insert(key.clone(), value.clone());
        }
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    let (mut wanted, mut found) = (segments(pattern), segments(name));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some("#"), Some(place)) if place.parse::<u16>().is_ok() => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

fn segments(name: &str) -> impl Iterator<Item = &str> {
    name.split('[')
        .enumerate()
        .map(|(at, part)| if at == 0 { part } else { part.strip_suffix(']').unwrap_or(part) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_form_is_read_as_stripe_reads_it() {
        let form =
            Params::parse(b"items[0][price]=p1&metadata[a%20b]=1&types[]=x&types[]=y&limit=3&on=true&empty=");
        assert_eq!(form.text("items[0][price]"), Some("p1"));
        assert_eq!(Value::Object(form.map("metadata")), json!({"a b": "1"}));
        assert_eq!(Value::Object(form.map("types")), json!({"0": "x", "1": "y"}));
        assert_eq!(
            (form.int("limit"), form.bool("on"), form.text("empty")),
            (Ok(Some(3)), Ok(Some(true)), None)
        );
        assert_eq!((form.places("items"), form.places("none")), (1, 0));
        assert!(form.int("on").is_err() && form.bool("limit").is_err());
    }

    #[test]
    fn what_no_pattern_names_is_refused_and_what_is_demanded_must_be_there() {
        let form = Params::parse(b"items[0][price]=p1&metadata[x]=1");
        assert_eq!(form.check(&["metadata[*]"], &["items[#][price]"]), Ok(()));
        let unknown = form.check(&["metadata[*]"], &[]).map_err(|refusal| refusal.body());
        assert_eq!(
            unknown,
            Err(json!({"error": {
                "type": "invalid_request_error", "code": "parameter_unknown", "param": "items[0][price]",
                "doc_url": "https://stripe.com/docs/error-codes/parameter-unknown",
                "message": "Received unknown parameter: items[0][price]",
            }}))
        );
        let missing = form.check(&["metadata[*]", "items[#][price]"], &["customer"]);
        let missing = missing.map_err(|refusal| refusal.body()["error"]["code"].clone());
        assert_eq!(missing, Err(json!("parameter_missing")));
    }
}
