//! The service's own description of itself, as a judge of what it answers.
//!
//! A route, method and status that are answered must be described, and the body must match.

use jsonschema::Validator;
use reqwest::Client;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// The document is the same for every app of a process, so it is read and compiled once.
static DOCUMENT: OnceCell<Arc<Document>> = OnceCell::const_new();

/// `/openapi.json`, with the schemas compiled as they are needed.
pub struct Document {
    /// The document.
    pub json: Value,
    templates: Vec<(Vec<String>, String)>,
    compiled: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Document {
    pub(crate) async fn of(client: &Client, address: SocketAddr) -> Arc<Self> {
        let read = async {
            let response = client.get(format!("http://{address}/openapi.json")).send().await;
            let text = response.expect("an answer").text().await.expect("a text");
            Arc::new(Self::new(serde_json::from_str(&text).expect("the document is JSON")))
        };
        Arc::clone(DOCUMENT.get_or_init(|| read).await)
    }

    fn new(json: Value) -> Self {
        let paths = json["paths"].as_object().expect("the document has paths");
        let mut templates: Vec<_> = paths
            .keys()
            .map(|path| (path.split('/').map(str::to_owned).collect::<Vec<_>>(), path.clone()))
            .collect();
        // `/users/me` goes before `/users/{user_id}`.
        templates.sort_by_key(|(_, path)| path.matches('{').count());
        Self { json, templates, compiled: Mutex::default() }
    }

    /// The template that a path matches.
    #[must_use]
    pub fn template(&self, path: &str) -> Option<&str> {
        let asked: Vec<&str> = path.split('/').collect();
        let fits = |parts: &[String]| {
            parts.len() == asked.len()
                && parts.iter().zip(&asked).all(|(part, asked)| {
                    (part.starts_with('{') && !asked.is_empty()) || part.as_str() == *asked
                })
        };
        self.templates.iter().find(|(parts, _)| fits(parts)).map(|(_, path)| path.as_str())
    }

    /// Every operation: its path, its method, and what is said of it.
    pub fn operations(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.json["paths"].as_object().into_iter().flatten();
        paths.flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            methods
                .filter(|(method, _)| ["get", "post", "put", "patch", "delete"].contains(&method.as_str()))
                .map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
    }

    /// What a reference points to, or the value itself.
    #[must_use]
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.json.pointer(reference.trim_start_matches('#')).expect(reference),
            None => value,
        }
    }

    /// Insists that an answer is described.
    ///
    /// # Panics
    /// When it is not.
    pub fn check(&self, method: &str, path: &str, status: u16, kind: &str, body: &str) {
        let kind = kind.split(';').next().unwrap_or_default();
        let described = self
            .template(path)
            .map(|template| (template, method.to_lowercase()))
            .filter(|(template, method)| self.json["paths"][template].get(method).is_some());
        let pointer = match described {
            Some((template, method)) => {
                let response = self.json["paths"][template][&method]["responses"].get(status.to_string());
                let response = response.unwrap_or_else(|| {
                    panic!("{method} {template} answers {status}, which is not documented: {body}")
                });
                assert!(
                    self.resolve(response)["content"].get(kind).is_some(),
                    "{method} {template} {status} answers {kind}, which is not documented"
                );
                let (template, kind) = (escaped(template), escaped(kind));
                format!("#/paths/{template}/{method}/responses/{status}/content/{kind}/schema")
            }
            // An unknown route or method is described by the body of all errors.
            None => {
                assert!(status >= 400, "{method} {path} answers {status}, but is not documented: {body}");
                let name = if kind.contains("problem") { "Problem" } else { "Error" };
                format!("#/components/schemas/{name}")
            }
        };
        let body: Value =
            serde_json::from_str(body).unwrap_or_else(|e| panic!("{method} {path}: {e}: {body}"));
        let faults: Vec<String> = self
            .validator(&pointer)
            .iter_errors(&body)
            .map(|fault| format!("{}: {}", fault.instance_path(), short(&fault.to_string())))
            .collect();
        let body = short(&body.to_string());
        assert!(faults.is_empty(), "{method} {path} {status} is not as documented: {faults:#?} in {body}");
    }

    /// The compiled schema that a pointer of the document names.
    ///
    /// # Panics
    /// When it is no schema.
    pub fn validator(&self, pointer: &str) -> Arc<Validator> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let schema = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": pointer,
                "paths": self.json["paths"], "components": self.json["components"],
            });
            let options = jsonschema::options().should_validate_formats(true);
            Arc::new(options.build(&schema).unwrap_or_else(|e| panic!("{pointer}: {e}")))
        };
        Arc::clone(compiled.entry(pointer.to_owned()).or_insert_with(make))
    }
}

/// What is wrong with a value by a schema that needs no other.
///
/// # Panics
/// When it is no schema.
#[must_use]
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let options = jsonschema::options().should_validate_formats(true);
    let validator = options.build(schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
    validator
        .iter_errors(value)
        .map(|fault| format!("{}: {}", fault.instance_path(), short(&fault.to_string())))
        .collect()
}

/// A text that fits on a screen.
fn short(text: &str) -> String {
    const MOST: usize = 3_000;
    let cut: String = text.chars().take(MOST).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

fn escaped(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1").replace('{', "%7B").replace('}', "%7D")
}
