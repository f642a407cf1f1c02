//! Every route of a running service's `/openapi.json`, with what may be sent there.

use serde_json::{Map, Value};
use testkit::process::Running;

/// A route, ready to be asked.
pub struct Route {
    pub method: String,
    /// The template, as the document has it.
    pub template: String,
    /// The example of its body.
    pub body: Option<Value>,
}

/// Every route of a service, the destructive ones last.
pub async fn routes(http: &reqwest::Client, service: &Running) -> Vec<Route> {
    let document: Value =
        http.get(service.url("/openapi.json")).send().await.expect("an answer").json().await.expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let mut routes: Vec<Route> = paths
        .iter()
        .flat_map(|(template, item)| {
            item.as_object().into_iter().flatten().map(move |(method, operation)| Route {
                method: method.to_uppercase(),
                template: template.clone(),
                body: example(&operation["requestBody"]["content"]["application/json"]),
            })
        })
        // Streams have no end.
        .filter(|route| !route.template.ends_with("/events") || route.template.contains("/admin/"))
        .collect();
    routes.sort_by_key(|route| route.method == "DELETE");
    assert!(routes.len() > 80, "{}", routes.len());
    routes
}

/// The first example of a media type.
fn example(content: &Value) -> Option<Value> {
    let first = content["examples"].as_object().and_then(|all| all.values().next()).map(|one| &one["value"]);
    first.or(content.get("example")).cloned()
}

impl Route {
    /// The path with these things in it; what is not among them is called `canary-id`.
    pub fn path(&self, things: &Map<String, Value>) -> String {
        let parts = self.template.split('/').map(|part| {
            let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            let Some(name) = name else { return part.to_owned() };
            things.get(name).and_then(Value::as_str).unwrap_or("canary-id").replace('|', "%7C")
        });
        parts.collect::<Vec<_>>().join("/")
    }
}
