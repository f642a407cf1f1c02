//! What others can be told of, as the service itself says.

use serde_json::{Value, json};
use testkit::both_engines;
use testkit::schema::faults;
use user_service::webhooks::EventType;

both_engines! {
    async fn every_kind_of_event_is_described_with_an_example(app: TestApp) {
        let path = "/api/v1/webhooks/event-types";
        let listed = app.admin.get(path).await.data();
        assert_eq!(app.backend.get(path).await.data(), listed, "a key reads the same");
        let listed = listed.as_array().expect("a list");
        let names: Vec<&str> = listed.iter().filter_map(|one| one["type"].as_str()).collect();
        let all: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names, all);
        for one in listed {
            let name = one["type"].as_str().expect("a name");
            assert_eq!(one["event_type"], name.replace('.', "_"));
            assert!(one["description"].as_str().is_some_and(|text| text.ends_with('.')), "{one}");
            assert_eq!(faults(&one["schema"], &one["example"]), Vec::<String>::new(), "{name}");
            assert_eq!((&one["example"]["type"], &one["schema"]["title"]), (&json!(name), &json!(name)));
            assert!(one["example"]["data"].is_object(), "{one}");
            let mut other = one["example"].clone();
            other["type"] = json!("credit.stolen");
            assert_ne!(faults(&one["schema"], &other).len(), 0, "{name}: the schema asks for something");
            assert_eq!(references(&one["schema"]), Vec::<String>::new(), "{name}");
        }
        let _ = app.alice.get(path).await.with(403);
        let _ = app.anon.get(path).await.with(401);
    }
}

/// References that lead out of the schema.
fn references(schema: &Value) -> Vec<String> {
    let text = schema.to_string();
    let targets = text.split("\"$ref\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let inside = |target: &&str| schema.pointer(target.trim_start_matches('#')).is_some();
    targets.filter(|target| !inside(target)).map(str::to_owned).collect()
}

#[test]
fn the_documents_table_is_the_list() {
    let document = include_str!("../../../../docs/events.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let told: Vec<(&str, &str)> = rows
        .filter_map(|row| {
            let mut cells = row.split('|').map(str::trim).skip(1);
            Some((cells.next()?.trim_matches('`'), cells.next()?))
        })
        .collect();
    let all: Vec<(&str, &str)> = EventType::ALL.iter().map(|kind| (kind.as_str(), kind.meaning())).collect();
    assert_eq!(told, all);
}
