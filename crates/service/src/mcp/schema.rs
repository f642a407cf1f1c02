//! Schemas for agents, made of the document's: references replaced by what they name, and examples left out.

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// How deep references may lead into one another; the document's lead less deep, and none leads to itself.
const DEPTH_MAX: usize = 32;

/// What a schema has for people and generators of code, not for whoever checks a value.
const LEFT_OUT: [&str; 3] = ["example", "examples", "xml"];

/// The document's schemas by name.
#[derive(Clone, Copy)]
pub struct Schemas<'a>(&'a OpenApi);

impl<'a> Schemas<'a> {
    /// Those of a document.
    #[must_use]
    pub const fn of(document: &'a OpenApi) -> Self {
        Self(document)
    }

    /// The same schema without references.
    #[must_use]
    pub fn whole(self, schema: &Value) -> Value {
        self.inlined(schema, 0)
    }

    fn named(self, reference: &str) -> Value {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let found = self.0.components.as_ref().and_then(|components| components.schemas.get(name));
        found.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default()
    }

    fn inlined(self, schema: &Value, depth: usize) -> Value {
        let Some(members) = schema.as_object().filter(|_| depth < DEPTH_MAX) else { return schema.clone() };
        let mut whole = match members.get("$ref").and_then(Value::as_str) {
            Some(reference) => match self.inlined(&self.named(reference), depth + 1) {
                Value::Object(named) => named,
                _ => Map::new(),
            },
            None => Map::new(),
        };
        let each = |list: &Value| -> Value {
            list.as_array().into_iter().flatten().map(|one| self.inlined(one, depth + 1)).collect()
        };
        for (name, value) in members {
            let value = match name.as_str() {
                "$ref" => continue,
                name if LEFT_OUT.contains(&name) => continue,
                // Formats that only generators of code know make checkers complain.
                "format" if !matches!(value.as_str(), Some("date" | "date-time" | "uuid")) => continue,
                "properties" => {
                    let fields = value.as_object().into_iter().flatten();
                    fields.map(|(name, one)| (name.clone(), self.inlined(one, depth + 1))).collect()
                }
                "oneOf" | "anyOf" | "allOf" => each(value),
                "items" | "additionalProperties" | "not" => self.inlined(value, depth + 1),
                _ => value.clone(),
            };
            whole.insert(name.clone(), value);
        }
        Value::Object(whole)
    }
}

/// The fields of an object's schema, those of its parts together, and which of them must be there.
#[must_use]
pub fn fields(schema: &Value) -> (Map<String, Value>, Vec<String>) {
    let schema = without_null(schema.clone());
    let mut all = schema["properties"].as_object().cloned().unwrap_or_default();
    let names = schema["required"].as_array().into_iter().flatten();
    let mut required: Vec<String> = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let (more, needed) = fields(part);
        all.extend(more);
        required.extend(needed);
    }
    (all, required)
}

/// A schema without the `null` that stands for an absent field: an agent leaves the field out instead.
#[must_use]
pub fn without_null(mut schema: Value) -> Value {
    let is_null = |one: &Value| one["type"] == "null";
    if let Some(kinds) = schema["type"].as_array() {
        let left: Vec<Value> = kinds.iter().filter(|kind| *kind != "null").cloned().collect();
        schema["type"] = if let [one] = left.as_slice() { one.clone() } else { left.into() };
    }
    let Some(parts) = schema["oneOf"].as_array().filter(|parts| parts.iter().any(is_null)).cloned() else {
        return schema;
    };
    let mut left: Vec<Value> = parts.into_iter().filter(|part| !is_null(part)).collect();
    let Some(members) = schema.as_object_mut() else { return schema };
    members.remove("oneOf");
    if left.len() == 1
        && let Some(Value::Object(only)) = left.pop()
    {
        for (name, value) in only {
            members.insert(name, value);
        }
    } else {
        members.insert("oneOf".to_owned(), left.into());
    }
    schema
}

/// What a tool answers: what its operation does, or why it was refused.
///
/// Some clients check refusals too, so both are described.
#[must_use]
pub fn answer(of_operation: Value) -> Value {
    let refused = json!({
        "type": "object",
        "description": "Why it was refused.",
        "required": ["success", "error", "message", "status", "details"],
        "properties": {
            "success": {"const": false},
            "error": {"type": "string", "description": "The kind of refusal, for programs."},
            "message": {"type": "string", "description": "One sentence for people."},
            "status": {"type": "integer", "description": "The HTTP status of the same refusal in the REST API."},
            "details": {
                "type": "object",
                "description": "What to act on: `required`, `available`, `top_up_url`, `retry_after` in seconds, `invalid` arguments.",
            },
            "request_id": {"type": "string", "description": "The request's id, to be named to whoever runs the service."},
        },
    });
    json!({
        "type": "object",
        "required": ["success"],
        "properties": {"success": {"type": "boolean", "description": "Whether it was done."}},
        "anyOf": [of_operation, refused],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_may_be_null_may_be_left_out() {
        let amount = json!({"oneOf": [{"type": "number", "minimum": 0, "description": "How many."}, {"type": "null"}]});
        assert_eq!(without_null(amount), json!({"type": "number", "minimum": 0, "description": "How many."}));
        let tags = json!({"type": ["array", "null"], "maxItems": 20});
        assert_eq!(without_null(tags), json!({"type": "array", "maxItems": 20}));
        let either = json!({"oneOf": [{"type": "number"}, {"type": "string"}]});
        assert_eq!(without_null(either.clone()), either);
    }

    #[test]
    fn the_parts_of_an_object_are_one() {
        let parts = json!({"allOf": [
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
            {"type": "object", "properties": {"b": {"type": "string"}}},
        ]});
        let (fields, required) = fields(&parts);
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(required, ["a"]);
    }
}
