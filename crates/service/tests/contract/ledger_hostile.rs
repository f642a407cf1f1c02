//! What nobody sane sends to the newer routes of the ledger: refused by name, never a 5xx, and nothing is written.

use crate::support::{parts, transactions};
use serde_json::{Value, json};
use testkit::{Actor, Answer, TestApp, both_engines};

/// Bad values for any field that is no text: wrong kinds, huge and strange numbers, broken texts.
const NO_NUMBERS: [&str; 16] = [
    "true",
    "[]",
    "[1]",
    "{}",
    "{\"a\":1}",
    "\"\"",
    "\"x\"",
    "\"NaN\"",
    "\"Infinity\"",
    "\"0x10\"",
    "-1",
    "1e400",
    "-1e400",
    "1e-400",
    "\"1 \"",
    "99999999999999999999999999999999999999999",
];
/// Bad values for a text.
const NO_TEXTS: [&str; 6] = ["true", "1", "[]", "{}", "\"a\\u0000b\"", "\"\\ud800\""];
/// Bad values for an object.
const NO_OBJECTS: [&str; 5] = ["true", "1", "[]", "\"x\"", "[[\"a\"],[\"b\"]]"];
/// Bad values for a word of a list.
const NO_WORDS: [&str; 7] = ["true", "1", "[]", "{}", "\"\"", "\"Release\"", "\"x\""];

/// What a field must be.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Object,
    Word,
    Tags,
}

impl Kind {
    fn bad(self) -> Vec<String> {
        let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        match self {
            Self::Number => of(&NO_NUMBERS),
            Self::Text => {
                let mut bad: Vec<String> = of(&NO_TEXTS);
                bad.push(format!("\"{}\"", "x".repeat(1001)));
                bad
            }
            Self::Object => {
                let mut bad: Vec<String> = of(&NO_OBJECTS);
                bad.push(format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64)));
                bad.push(format!("{{\"a\":\"{}\"}}", "x".repeat(64 * 1024)));
                bad
            }
            Self::Word => of(&NO_WORDS),
            Self::Tags => {
                let mut bad = of(&[
                    "true",
                    "1",
                    "{}",
                    "\"x\"",
                    "[1]",
                    "[\"\"]",
                    "[null]",
                    "[[\"x\"]]",
                    "[\"a\\u0000\"]",
                ]);
                bad.push(format!("[{}\"x\"]", "\"x\",".repeat(100_000)));
                bad.push(format!("[\"{}\"]", "x".repeat(101)));
                bad
            }
        }
    }
}

/// Method, path, a body that is good, and what each field must be.
type Route = (&'static str, &'static str, Value, Vec<(&'static str, Kind)>);

/// The newer routes with a body that is good, and the fields of it.
fn routes() -> Vec<Route> {
    use Kind::{Number, Object, Tags, Text, Word};
    vec![
        (
            "POST",
            "/charges",
            json!({"event_type": "x", "credits": 1}),
            vec![
                ("credits", Number),
                ("prompt_tokens", Number),
                ("cost_usd", Number),
                ("created_at", Number),
                ("on_insufficient", Word),
                ("feature", Text),
                ("key", Text),
                ("event_id", Text),
                ("tags", Tags),
                ("description", Text),
                ("metadata", Object),
                ("usage", Object),
                ("pools", Object),
            ],
        ),
        (
            "POST",
            "/credits/holds",
            json!({"amount": 1}),
            vec![
                ("amount", Number),
                ("expires_in", Number),
                ("on_expiry", Word),
                ("model_name", Text),
                ("feature", Text),
                ("session_id", Text),
                ("key", Text),
                ("tags", Tags),
                ("description", Text),
                ("metadata", Object),
            ],
        ),
        (
            "POST",
            "/credits/holds/{hold}/tick",
            json!({"amount": 1}),
            vec![("amount", Number), ("expires_in", Number)],
        ),
        ("POST", "/credits/holds/{hold}/extend", json!({"expires_in": 900}), vec![("expires_in", Number)]),
        (
            "POST",
            "/credits/holds/{hold}/capture",
            json!({"amount": 1}),
            vec![
                ("amount", Number),
                ("usage_record_id", Number),
                ("description", Text),
                ("metadata", Object),
            ],
        ),
        (
            "POST",
            "/credits/grants",
            json!({"amount": 1}),
            vec![
                ("amount", Number),
                ("priority", Number),
                ("source", Word),
                ("effective_at", Number),
                ("expires_at", Number),
                ("scope", Object),
                ("rollover", Object),
                ("reference_id", Text),
                ("description", Text),
                ("metadata", Object),
            ],
        ),
        (
            "POST",
            "/credits/grants/{grant}/void",
            json!({}),
            vec![("description", Text), ("metadata", Object)],
        ),
        (
            "POST",
            "/credits/adjust",
            json!({"amount": 1}),
            vec![
                ("transaction_id", Text),
                ("usage_record_id", Number),
                ("description", Text),
                ("metadata", Object),
            ],
        ),
        ("PUT", "/credits/limit", json!({"credit_limit": 0}), vec![("credit_limit", Number)]),
        (
            "POST",
            "/credits/consume",
            json!({"amount": 1}),
            vec![("model_name", Text), ("feature", Text), ("session_id", Text), ("tags", Tags)],
        ),
    ]
}

/// A body with one field replaced by a text that need not be JSON of any sense.
fn body_with(good: &Value, field: &str, raw: &str) -> String {
    let mut members: Vec<String> = Vec::new();
    for (name, value) in good.as_object().expect("an object").iter().filter(|(name, _)| *name != field) {
        members.push(format!("{}:{value}", json!(name)));
    }
    members.push(format!("{}:{raw}", json!(field)));
    format!("{{{}}}", members.join(","))
}

async fn send(actor: &Actor, method: &str, path: &str, body: impl Into<String>) -> Answer {
    let request =
        actor.request(method.parse().expect("a method"), path).header("content-type", "application/json");
    request.body(body.into()).send().await
}

/// Alice with an open hold; gives her paths with its id and her first grant's.
async fn paths(app: &TestApp) -> impl Fn(&str) -> String + use<> {
    let row = app.alice.ensure().await["user_id"].clone();
    let hold = app.alice.post(&app.alice.own("/credits/holds"), json!({"amount": 1})).await.ok()["hold_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let alice = app.alice.clone();
    move |rest| alice.own(&rest.replace("{hold}", &hold).replace("{grant}", &format!("grt_{row}_1")))
}

both_engines! {
    async fn every_field_is_refused_by_its_name(app: TestApp) {
        let path = paths(&app).await;
        let before = (parts(&app.alice).await, transactions(&app.alice).await);
        for (method, rest, good, fields) in routes() {
            for (field, kind) in fields {
                for raw in kind.bad() {
                    let answer = send(&app.backend, method, &path(rest), body_with(&good, field, &raw)).await;
                    let shown: String = raw.chars().take(60).collect();
                    assert_eq!(answer.status, 400, "{rest} {field}={shown}: {}", answer.text());
                    let detail = answer.json()["detail"][0].clone();
                    // What is no JSON at all is found while the text is read, before any field is known.
                    let no_json = ["\\ud800", "[[[[", "1e400"].iter().any(|text| raw.contains(text));
                    let named = detail["loc"][1] == field || no_json;
                    assert!(named, "{rest} {field}={shown}: {detail}");
                }
            }
        }
        assert_eq!((parts(&app.alice).await, transactions(&app.alice).await), before, "nothing of it was done");
        assert_eq!(app.alice.get(&app.alice.own("/usage")).await.data(), json!([]));
    }

    async fn bodies_that_are_none_are_refused(app: TestApp) {
        let path = paths(&app).await;
        for (method, rest, good, fields) in routes() {
            let field = fields[0].0;
            let value = good.get(field).cloned().unwrap_or(json!("x"));
            let twice = format!("{{\"{field}\":{value},\"{field}\":{value}}}");
            for body in ["[]".to_owned(), "[1,2,3]".to_owned(), "null".to_owned(), "5".to_owned(), "\"x\"".to_owned(), "{".to_owned(), "{}{}".to_owned(), "{\"a\":\"\\ud800\"".to_owned(),
                format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)), twice] {
                let answer = send(&app.backend, method, &path(rest), body.clone()).await;
                let shown: String = body.chars().take(60).collect();
                assert_eq!(answer.status, 400, "{rest} {shown}: {}", answer.text());
            }
            let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
            assert_eq!(send(&app.backend, method, &path(rest), large).await.status, 413, "{rest}");
            let request = app.backend.request(method.parse().expect("a method"), &path(rest)).header("content-type", "text/plain").body("{}");
            assert_eq!(request.send().await.status, 415, "{rest}");
        }
    }

    async fn exponents_and_texts_are_numbers(app: TestApp) {
        let path = paths(&app).await;
        for (rest, good, field, raw, kept) in [
            ("/charges", json!({"event_type": "x"}), "credits", "1.5e-1", json!(0.15)),
            ("/charges", json!({"event_type": "x"}), "credits", "\"2E0\"", json!(2)),
            ("/credits/holds", json!({}), "amount", "25e-1", json!(2.5)),
            ("/credits/adjust", json!({}), "amount", "-1.0e0", json!(1)),
            ("/credits/grants", json!({}), "amount", "\"1.000000000\"", json!(1)),
        ] {
            let data = send(&app.backend, "POST", &path(rest), body_with(&good, field, raw)).await.data();
            let found = if rest == "/charges" { &data["credits"] } else { &data["amount"] };
            assert_eq!(found, &kept, "{rest} {raw}");
        }
    }

    async fn null_is_absent_where_absent_is_allowed(app: TestApp) {
        let path = paths(&app).await;
        for (method, rest, good, fields) in routes().into_iter().filter(|route| !route.1.contains("void")) {
            for (field, _) in fields {
                let answer = send(&app.backend, method, &path(rest), body_with(&good, field, "null")).await;
                let required = good.get(field).is_some() && !(rest.ends_with("capture"));
                assert!(answer.status == if required { 400 } else { 200 } || rest.ends_with("capture"), "{rest} {field}: {}", answer.text());
            }
        }
    }

    async fn usage_objects_and_pools_have_bounds(app: TestApp) {
        app.alice.ensure().await;
        let _ = app.backend.request("PUT".parse().expect("a method"), &app.alice.own("/credits/limit")).json(&json!({"credit_limit": 100_000_000_000_i64})).send().await.ok();
        let path = app.alice.own("/charges");
        let wide: serde_json::Map<String, Value> = (0..300).map(|n| (n.to_string(), json!(n))).collect();
        let max = 2_147_483_647_i64;
        for (part, loc) in [
            (json!({"usage": {}}), "usage"), (json!({"usage": wide}), "usage"), (json!({"usage": {"prompt_tokens": "many"}}), "usage"),
            (json!({"usage": {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 11}, "completion_tokens": 0}}), "usage"),
            (json!({"usage": {"prompt_tokens": max, "completion_tokens": max}}), "usage"), (json!({"usage": {"prompt_tokens": -1, "completion_tokens": 1}}), "usage"),
            (json!({"pools": {"input": max, "cached_input": max}}), "pools"), (json!({"pools": {"output": max, "reasoning": 1}}), "pools"),
            (json!({"pools": {"words": 1}}), "pools"), (json!({"pools": {"input": 1.5}}), "pools"), (json!({"pools": {"input": -1}}), "pools"),
            (json!({"pools": {"input": max + 1}}), "pools"), (json!({"pools": {"input": 1}, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}), "pools"),
        ] {
            let mut body = json!({"event_type": "x", "model_name": "gpt-4"});
            body.as_object_mut().expect("an object").extend(part.as_object().expect("an object").clone());
            let answer = app.alice.post(&path, body).await;
            assert_eq!(answer.status, 400, "{part}: {}", answer.text());
            let detail = answer.json()["detail"][0].clone();
            assert!(detail["loc"][1] == loc, "{part}: {detail}");
        }
        // The most that can be said is charged, and shown as it was said.
        let most = app.alice.post(&path, json!({"event_type": "x", "model_name": "gpt-4", "pools": {"input": max}})).await.data();
        assert_eq!((&most["usage"]["prompt_tokens"], &most["credits"]), (&json!(max), &json!(32_212_254.705)));
        // A price beyond all credits is refused, not wrapped around.
        let _ = app.admin.request("PUT".parse().expect("a method"), "/api/v1/prices/gold").json(&json!({"rates": {"input": 9000}})).send().await.ok();
        let answer = app.alice.post(&path, json!({"event_type": "x", "model_name": "gold", "pools": {"input": max}})).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        let all = app.alice.post(&path, json!({"event_type": "x", "credits": 9_000_000_000_000_i64})).await;
        assert_eq!(all.status, 402, "{}", all.text());
    }

    async fn a_program_needs_both_scopes_to_charge(app: TestApp) {
        // There is one service key yet, with all scopes; what it lacks is the admin's.
        app.alice.ensure().await;
        for (path, body) in [("/api/v1/usage/rerate", json!({})), ("/api/v1/admin/ledger/verify", json!({}))] {
            app.backend.post(path, body.clone()).await.refuses(403, "AuthorizationException", "This needs an admin");
            app.alice.post(path, body.clone()).await.refuses(403, "AuthorizationException", "This needs an admin");
            assert_eq!(app.anon.post(path, body).await.status, 401);
        }
        // Every scope that the document names is one that there is.
        let scopes: Vec<String> = ["create_charge", "create_charges"].iter().flat_map(|name| {
            let operation = app.document.operations().find(|(_, _, operation)| operation["operationId"] == *name).map(|(_, _, operation)| operation.clone());
            operation.expect("an operation")["security"][1]["service_key"].as_array().expect("scopes").iter().map(ToString::to_string).collect::<Vec<_>>()
        }).collect();
        assert_eq!(scopes, ["\"usage:write\"", "\"credits:spend\"", "\"usage:write\"", "\"credits:spend\""]);
    }
}
