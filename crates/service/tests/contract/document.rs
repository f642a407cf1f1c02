//! `/openapi.json` says everything: summaries, security, examples, limits, errors, links.

use serde_json::Value;
use std::collections::BTreeSet;
use testkit::schema::Document;
use testkit::{Engine, TestApp};

/// What the document lacks, sentence by sentence.
#[derive(Default)]
struct Faults(BTreeSet<String>);

impl Faults {
    fn unless(&mut self, holds: bool, place: &str, rule: &str) {
        if !holds {
            self.0.insert(format!("{place}: {rule}"));
        }
    }

    /// Every schema within: texts, numbers, arrays and maps have limits.
    fn schema(&mut self, place: &str, schema: &Value) {
        let Some(members) = schema.as_object() else { return };
        if members.contains_key("$ref") {
            return;
        }
        let is = |kind: &str| {
            schema["type"] == kind
                || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind))
        };
        let fixed = members.contains_key("enum") || members.contains_key("const");
        self.unless(!is("string") || fixed || schema["maxLength"].is_u64(), place, "a text has maxLength");
        let bounded = (schema["minimum"].is_number() || schema["exclusiveMinimum"].is_number())
            && schema["maximum"].is_number();
        self.unless(
            !(is("integer") || is("number")) || fixed || bounded,
            place,
            "a number has minimum and maximum",
        );
        self.unless(!is("array") || schema["maxItems"].is_u64(), place, "an array has maxItems");
        let open = schema.get("additionalProperties").is_some_and(|rest| *rest != Value::Bool(false));
        self.unless(!open || schema["maxProperties"].is_u64(), place, "a map has maxProperties");
        for name in ["items", "additionalProperties", "not"] {
            self.schema(&format!("{place}.{name}"), &schema[name]);
        }
        for name in ["oneOf", "anyOf", "allOf"] {
            for (n, one) in schema[name].as_array().into_iter().flatten().enumerate() {
                self.schema(&format!("{place}.{name}[{n}]"), one);
            }
        }
        for (name, one) in schema["properties"].as_object().into_iter().flatten() {
            self.schema(&format!("{place}.{name}"), one);
        }
    }

    /// A media type has an example, and each of them is what the schema says.
    fn content(&mut self, document: &Document, place: &str, pointer: &str, content: &Value) {
        let named = content["examples"].as_object().into_iter().flatten().map(|(_, one)| &one["value"]);
        let examples: Vec<&Value> = content.get("example").into_iter().chain(named).collect();
        self.unless(!examples.is_empty(), place, "there is an example");
        let validator = document.validator(&format!("{pointer}/schema"));
        for example in examples {
            for fault in validator.iter_errors(example) {
                self.0.insert(format!(
                    "{place}: the example is not as its schema says: {} {fault}",
                    fault.instance_path()
                ));
            }
        }
    }

    fn operation(
        &mut self,
        document: &Document,
        path: &str,
        method: &str,
        operation: &Value,
        names: &BTreeSet<String>,
    ) {
        let place = format!("{method} {path}");
        let pointer =
            format!("#/paths/{}/{method}", path.replace('/', "~1").replace('{', "%7B").replace('}', "%7D"));
        for field in ["summary", "operationId"] {
            self.unless(operation[field].as_str().is_some_and(|text| !text.is_empty()), &place, field);
        }
        self.unless(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), &place, "one tag");
        self.unless(operation["security"].is_array(), &place, "security");
        let public = operation["security"]
            .as_array()
            .is_none_or(|all| all.iter().all(|one| one.as_object().is_some_and(serde_json::Map::is_empty)));
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = document.resolve(parameter);
            let place = format!("{place} parameter {}", parameter["name"]);
            self.unless(parameter["description"].is_string(), &place, "a description");
            self.schema(&place, &parameter["schema"]);
        }
        let body = &operation["requestBody"]["content"]["application/json"];
        if body.is_object() {
            self.schema(&format!("{place} body"), &body["schema"]);
            self.content(
                document,
                &format!("{place} body"),
                &format!("{pointer}/requestBody/content/application~1json"),
                body,
            );
        }
        let done = if operation["operationId"] == "download_file" { "302" } else { "200" };
        let mut wanted = vec![done, "408", "431", "500", "503"];
        if !public {
            wanted.extend(["401", "403"]);
        }
        if path.contains("{user_id}") || path.contains("{session_id}") {
            wanted.extend(["400", "404"]);
        }
        if body.is_object() {
            wanted.extend(["400", "413", "415"]);
        }
        if body.is_object()
            && ![
                "noop",
                "create_dev_token",
                "create_user_token",
                "create_key",
                "rotate_key",
                "update_key",
                "create_webhook_endpoint",
                "update_webhook_endpoint",
                "rotate_webhook_secret",
                "get_quote",
                "check_limits",
                "check_entitlement",
                "verify_ledger",
                "create_portal",
                "take_stripe_event",
            ]
            .contains(&operation["operationId"].as_str().unwrap_or_default())
        {
            wanted.extend(["409", "422"]);
        }
        for status in wanted {
            self.unless(
                operation["responses"].get(status).is_some(),
                &place,
                &format!("{status} is documented"),
            );
        }
        for (status, response) in operation["responses"].as_object().into_iter().flatten() {
            let place = format!("{place} {status}");
            self.unless(
                response["description"].as_str().is_some_and(|text| !text.is_empty()),
                &place,
                "a description",
            );
            let content = &response["content"]["application/json"];
            self.schema(&place, &content["schema"]);
            if status == "200" && content.is_object() {
                self.content(
                    document,
                    &place,
                    &format!("{pointer}/responses/200/content/application~1json"),
                    content,
                );
            }
            for (name, header) in response["headers"].as_object().into_iter().flatten() {
                self.schema(&format!("{place} header {name}"), &header["schema"]);
            }
            for (name, link) in response["links"].as_object().into_iter().flatten() {
                let known = link["operationId"].as_str().is_some_and(|target| names.contains(target));
                self.unless(known, &format!("{place} link {name}"), "it leads to an operation that exists");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_whole() {
    let app = TestApp::start(Engine::Sqlite).await;
    let document = &app.document;
    let mut faults = Faults::default();
    faults.unless(document.json["openapi"] == "3.1.0", "openapi", "3.1.0");
    let names: Vec<String> = document
        .operations()
        .filter_map(|(_, _, operation)| operation["operationId"].as_str().map(str::to_owned))
        .collect();
    let unique: BTreeSet<String> = names.iter().cloned().collect();
    faults.unless(unique.len() == names.len(), "operationId", "each is used once");
    for (path, method, operation) in document.operations() {
        faults.operation(document, path, method, operation, &unique);
    }
    for (name, schema) in document.json["components"]["schemas"].as_object().into_iter().flatten() {
        faults.schema(name, schema);
    }
    let creating = [
        "ensure_user",
        "record_usage",
        "consume_credits",
        "recharge_credits",
        "refund_credits",
        "create_grant",
        "create_dev_token",
        "create_session",
        "add_message",
        "add_memory",
        "upload_file",
        "create_upload_url",
        "complete_upload",
        "put_price",
        "create_charge",
        "create_hold",
        "capture_hold",
        "create_subscription",
        "create_webhook_endpoint",
        "test_webhook_endpoint",
    ];
    for (_, _, operation) in document.operations() {
        let name = operation["operationId"].as_str().unwrap_or_default();
        if creating.contains(&name) {
            let links = operation["responses"]["200"]["links"].as_object().map_or(0, serde_json::Map::len);
            faults.unless(links > 0, name, "its answer links to what can be done next");
        }
    }
    assert!(faults.0.is_empty(), "{} faults: {:#?}", faults.0.len(), faults.0);
    app.finish().await;
}

/// The names under which the types of a source file stand in the document.
fn schema_names(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut lines = source.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        let derives = line.starts_with("#[derive(") && line.contains("ToSchema");
        if !derives && !line.ends_with("words! {") {
            continue;
        }
        for line in lines.by_ref() {
            if let Some((name, _)) =
                line.split_once("#[schema(as = ").and_then(|(_, rest)| rest.split_once(')'))
            {
                names.push(name.to_owned());
                break;
            }
            if line.starts_with("#[") || line.starts_with("//") {
                continue;
            }
            let declared =
                line.trim_start_matches("pub ").trim_start_matches("struct ").trim_start_matches("enum ");
            // Within a macro it stands for a name.
            let name = declared.split(|c: char| !c.is_alphanumeric()).next();
            names.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
            break;
        }
    }
    names
}

/// Two types of one name would silently be one schema: the document would describe one by the other.
#[test]
fn every_schema_has_a_name_of_its_own() {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut names = std::collections::BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                for name in schema_names(&std::fs::read_to_string(&path).expect("a text")) {
                    let other = names.insert(name.clone(), path.clone());
                    assert!(other.is_none(), "{name} is declared in {} and in {other:?}", path.display());
                }
            }
        }
    }
    assert!(
        names.len() > 80 && names.contains_key("ChargeStatus") && names.contains_key("HoldView"),
        "{}",
        names.len()
    );
}
