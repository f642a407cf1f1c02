//! The tools with what they take and answer: the table and the document together.

use super::schema::{self, Schemas};
use super::table::{Row, TOOLS};
use crate::http::operations::{Known, Operations};
use axum::http::Method;
use rmcp::model::{JsonObject, Tool as Shown, ToolAnnotations};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;

/// Where an argument goes in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It names the user.
    User,
    /// Into the path.
    Path,
    /// Into the query.
    Query,
    /// Into the body.
    Body,
    /// It is the idempotency key.
    Key,
}

/// A tool.
#[derive(Debug)]
pub struct Tool {
    /// Its row in the table.
    pub row: Row,
    /// The method of its operation.
    pub method: Method,
    /// The path of its operation, with names in braces.
    pub route: String,
    /// What else is known of its operation.
    pub known: Known,
    /// What its path may not have in the place of a name: there it would be another operation's.
    pub reserved: BTreeSet<String>,
    /// Where each argument goes.
    pub places: BTreeMap<String, Place>,
    /// As it is listed.
    pub shown: Shown,
}

/// All of them.
#[derive(Debug)]
pub struct Tools(Vec<Tool>);

impl Tools {
    /// Those of the table whose operations the document describes, which are all.
    #[must_use]
    pub fn of(document: &OpenApi, operations: &Operations) -> Self {
        let tools = TOOLS.iter().filter_map(|row| {
            let found = document.paths.paths.iter().find_map(|(path, item)| {
                let methods = [(Method::GET, &item.get), (Method::POST, &item.post)];
                let mut named = methods.into_iter().filter_map(|(method, one)| Some((method, one.as_ref()?)));
                let (method, one) =
                    named.find(|(_, one)| one.operation_id.as_deref() == Some(row.operation))?;
                Some((path, method, one))
            });
            let (path, method, operation) = found?;
            let known = operations.find(&method, path)?.clone();
            let mut tool = tool(Schemas::of(document), *row, method, path, operation, known);
            tool.reserved = reserved(path, document.paths.paths.keys());
            Some(tool)
        });
        Self(tools.collect())
    }

    /// The tool of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Tool> {
        self.0.iter().find(|tool| tool.row.name == name)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.0.iter()
    }
}

fn tool(
    schemas: Schemas<'_>,
    row: Row,
    method: Method,
    path: &str,
    operation: &Operation,
    known: Known,
) -> Tool {
    let described = serde_json::to_value(operation).unwrap_or_default();
    let (places, input) = input(schemas, &row, &described);
    let answer = &described["responses"]["200"]["content"]["application/json"]["schema"];
    let mut answer = schemas.whole(answer);
    if answer["properties"].get("success").is_none() {
        answer["properties"]["success"] = json!({"type": "boolean", "description": "Always true."});
    }
    let (reads, destroys, repeats) = row.effect.hints();
    let annotations =
        ToolAnnotations::from_raw(None, Some(reads), Some(destroys), Some(repeats), Some(false));
    let shown = Shown::new(row.name, row.about, object(input))
        .with_title(row.title)
        .with_annotations(annotations)
        .with_raw_output_schema(object(schema::answer(answer)));
    Tool { row, method, route: path.to_owned(), known, reserved: BTreeSet::new(), places, shown }
}

/// What other paths have where a path has a name.
fn reserved<'a>(path: &str, others: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    let named = |part: &str| part.starts_with('{');
    let own: Vec<&str> = path.split('/').collect();
    let mut reserved = BTreeSet::new();
    for other in others {
        let other: Vec<&str> = other.split('/').collect();
        let alike = other.len() == own.len()
            && own.iter().zip(&other).all(|(own, other)| own == other || named(own) || named(other));
        if alike {
            let words = own.iter().zip(&other).filter(|(own, other)| named(own) && !named(other));
            reserved.extend(words.map(|(_, other)| (*other).to_owned()));
        }
    }
    reserved
}

/// Where each argument of an operation goes, and the schema of all of them.
fn input(schemas: Schemas<'_>, row: &Row, operation: &Value) -> (BTreeMap<String, Place>, Value) {
    let mut places = BTreeMap::new();
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut add = |name: &str, place: Place, schema: Value| {
        places.insert(name.to_owned(), place);
        properties.insert(name.to_owned(), schema);
    };
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let (fields, needed) = schema::fields(&schemas.whole(body));
    for (name, schema) in fields {
        add(&name, Place::Body, schema::without_null(schema));
    }
    required.extend(needed);
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        let (name, place) = match (parameter["in"].as_str(), name) {
            (Some("path"), name) => (name, Place::Path),
            (Some("query"), name) => (name, Place::Query),
            (_, "Idempotency-Key") => ("idempotency_key", Place::Key),
            _ => continue,
        };
        let mut schema = schema::without_null(schemas.whole(&parameter["schema"]));
        schema["description"] =
            if place == Place::Key { KEY_ABOUT.into() } else { parameter["description"].clone() };
        add(name, place, schema);
        if place == Place::Path {
            required.push(name.to_owned());
        }
    }
    if row.names_user {
        let places_row = required.iter().any(|name| name == "user_id");
        let id = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[A-Za-z0-9._@+:|-]{1,255}$", "description": USER_ABOUT});
        add("auth0_id", Place::User, id);
        // What makes a user takes no row id: there is none yet.
        let kinds = if places_row { json!(["string", "integer"]) } else { json!("string") };
        let alias = json!({"type": kinds, "minLength": 1, "maxLength": 255, "description": ALIAS_ABOUT});
        add("user_id", Place::User, alias);
        required.retain(|name| name != "user_id" && name != "auth0_id");
    }
    required.sort_unstable();
    required.dedup();
    let mut input = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        input["required"] = required.into();
    }
    (places, input)
}

const USER_ABOUT: &str = "The user, as its identity provider names it, such as auth0|test123. A user may leave it out and means itself; a \
     service key must name one.";
const ALIAS_ABOUT: &str = "The same under its other name, or the user's integer row id; give one of the two.";
const KEY_ABOUT: &str = "1 to 255 printable ASCII characters of your choice. The same key with the same arguments does it once, and answers what \
     the first call did; with other arguments it is refused.";

fn object(value: Value) -> Arc<JsonObject> {
    Arc::new(match value {
        Value::Object(members) => members,
        _ => JsonObject::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_word_of_another_path() {
        let all = [
            "/users/me",
            "/users/ensure",
            "/users/{user_id}",
            "/users/{user_id}/usage",
            "/users/me/{part}",
            "/sessions/x",
        ];
        let others: Vec<String> = all.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(
            reserved("/users/{user_id}", others.iter()),
            BTreeSet::from(["ensure", "me"].map(str::to_owned))
        );
        assert_eq!(
            reserved("/users/{user_id}/usage", others.iter()),
            BTreeSet::from(["me"].map(str::to_owned))
        );
    }
}
