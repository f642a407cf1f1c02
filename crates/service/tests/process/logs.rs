//! What a busy service says of itself, and what it never says.

use crate::PROGRAM;
use crate::routes::routes;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use testkit::process::{JWT_SECRET, Place, Running, SERVICE_KEY};
use testkit::stripe::Signer;

either_engine!(every_request_has_one_line_and_no_secret, no_line_of_any_route_tells_a_secret);

/// What may not appear: each is sent somewhere in [`busy`].
const CANARIES: [&str; 9] = [
    "canary-description",
    "canary-reason",
    "canary-metadata",
    "canary-prompt",
    "canary.mail",
    "Canary Name",
    "canary-token",
    "canary-key",
    "canary-broken",
];

struct Client<'a> {
    http: reqwest::Client,
    service: &'a Running,
    /// The status that each request id was answered with.
    answered: HashMap<String, u16>,
}

impl Client<'_> {
    async fn send(&mut self, method: &str, path: &str, auth: (&str, &str), body: &str) -> Value {
        let id = format!("request-{}", self.answered.len());
        let method = method.parse().expect("a method");
        let request = self.http.request(method, self.service.url(path)).header("x-request-id", &id);
        let request = request.header("content-type", "application/json").body(body.to_owned());
        let answer = request.header(auth.0, auth.1).send().await.expect("an answer");
        let status = answer.status().as_u16();
        assert!(status < 500, "{path}: {status}");
        self.answered.insert(id, status);
        answer.json().await.unwrap_or_default()
    }
}

/// Requests of many kinds, most of them good, with canaries in every field; gives the user's token.
async fn busy(client: &mut Client<'_>) -> String {
    let key = ("x-api-key", SERVICE_KEY);
    let nobody = ("accept", "*/*");
    let token = "/auth/dev-token?user_id=ann&email=canary.mail@example.com";
    let token = client.send("POST", token, nobody, "").await["token"].as_str().expect("a token").to_owned();
    let bearer = format!("Bearer {token}");
    let user = ("authorization", bearer.as_str());
    let ensure = json!({"name": "Canary Name", "email": "canary.mail@example.com"}).to_string();
    client.send("POST", "/api/v1/users/ensure", user, &ensure).await;
    // The address of another user, and one that is none.
    let taken = json!({"auth0_id": "bob", "name": "Canary Name", "email": "canary.mail@example.com"});
    client.send("POST", "/api/v1/users/ensure", key, &taken.to_string()).await;
    let bad = json!({"auth0_id": "eve", "name": "Canary Name", "email": "canary.mail"}).to_string();
    client.send("POST", "/api/v1/users/ensure", key, &bad).await;
    for number in 0..20 {
        let consume = json!({"amount": 1, "description": "canary-description", "reason": "canary-reason",
            "metadata": {"note": "canary-metadata"}, "idempotency_key": format!("canary-key-{}", number % 15)});
        client.send("POST", "/api/v1/users/ann/credits/consume", user, &consume.to_string()).await;
        let usage = json!({"event_type": "call", "request_data": {"prompt": "canary-prompt"}}).to_string();
        client.send("POST", "/api/v1/users/ann/usage", key, &usage).await;
    }
    // Refused in many ways.
    let greedy = json!({"amount": 9e9, "description": "canary-description"}).to_string();
    client.send("POST", "/api/v1/users/ann/credits/consume", user, &greedy).await;
    let other = json!({"amount": 2, "description": "canary-reason", "idempotency_key": "canary-key-1"});
    client.send("POST", "/api/v1/users/ann/credits/consume", user, &other.to_string()).await;
    client.send("POST", "/api/v1/users/ann/credits/consume", user, "{\"amount\": canary-broken").await;
    let wrong = json!({"amount": "canary-broken"}).to_string();
    client.send("POST", "/api/v1/users/ann/credits/consume", user, &wrong).await;
    client.send("GET", "/api/v1/users/me", ("authorization", "Bearer canary-token"), "").await;
    client.send("GET", "/api/v1/users/me", ("x-api-key", "usk_canary-key"), "").await;
    client.send("GET", "/nowhere/canary-token?token=canary-token", nobody, "").await;
    client.send("GET", "/api/v1/users/bob/credits/balance", user, "").await;
    client.send("PUT", "/api/v1/users/ann", user, "").await;
    client.send("GET", "/api/v1/users/ann/usage?start_date=canary-broken", user, "").await;
    for path in ["/health", "/metrics", "/openapi.json", "/api/v1/users/me", "/api/v1/users/ann/usage/stats"]
    {
        client.send("GET", path, user, "").await;
    }
    token
}

async fn every_request_has_one_line_and_no_secret(place: Place) {
    let service = PROGRAM.start(&place, &[("LOG_FORMAT", "json"), ("LOG_LEVEL", "debug")]).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut client = Client { http, service: &service, answered: HashMap::new() };
    let token = busy(&mut client).await;
    let answered = client.answered;
    assert_eq!(answered.values().filter(|status| **status == 200).count(), 47, "{answered:?}");
    let ended = service.stop().await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stderr, "");

    let said = &ended.stdout;
    let signature = token.rsplit('.').next().expect("three parts");
    for secret in CANARIES.into_iter().chain([SERVICE_KEY, JWT_SECRET, signature]) {
        // The banner shows how to get a token and where, and nothing that was sent.
        let line = said.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
    }

    let mut lines: HashMap<String, Vec<Value>> = HashMap::new();
    let after = said.lines().skip_while(|line| !line.contains("/credits/consume' -H"));
    for line in after.skip(1).filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        if line["target"] == "user_service::request" {
            lines.entry(line["request_id"].as_str().unwrap_or_default().to_owned()).or_default().push(line);
        }
    }
    for (id, status) in &answered {
        let [line] = lines.get(id).map_or(&[][..], Vec::as_slice) else {
            panic!("{id} has not one line: {:?}", lines.get(id));
        };
        assert_eq!(line["status"], json!(status), "{line}");
        assert!(line["ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{line}");
        assert!(line["route"].as_str().is_some_and(|route| !route.contains("ann")), "{line}");
        let kinds = ["user", "service", "anonymous"];
        assert!(line["principal"].as_str().is_some_and(|kind| kinds.contains(&kind)), "{line}");
    }
}

/// A body with a canary in every text that is nobody's business, or in every text at all.
fn with_canaries(body: &Value, every: bool) -> Value {
    const FREE: [&str; 16] = [
        "content",
        "description",
        "reason",
        "title",
        "name",
        "email",
        "text",
        "prompt",
        "note",
        "summary",
        "endpoint",
        "error",
        "success_url",
        "cancel_url",
        "return_url",
        "file_name",
    ];
    match body {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| {
                let free = value.is_string() && FREE.contains(&name.as_str());
                let value = match (free, name.as_str()) {
                    (true, "email") => json!("canary.mail@example.com"),
                    (true, url) if url.ends_with("_url") => json!("https://canary.example.com/canary"),
                    (true, _) => json!("canary-text"),
                    // What the caller's own things are, and what they are told about.
                    (false, "metadata" | "request_data" | "conversation_data") => {
                        json!({"canary": "canary-data"})
                    }
                    (false, _) => with_canaries(value, every),
                };
                (name.clone(), value)
            });
            Value::Object(members.collect())
        }
        Value::Array(items) => items.iter().map(|item| with_canaries(item, every)).collect(),
        Value::String(_) if every => json!("canary-text"),
        other => other.clone(),
    }
}

/// Asks every route with canaries: with credentials of each kind, and bodies that are good, bad, broken and absent.
async fn ask_everything(http: &reqwest::Client, service: &Running, token: &str) {
    let things: Map<String, Value> = [("user_id".to_owned(), json!("ann"))].into_iter().collect();
    let credentials = [
        ("x-api-key", SERVICE_KEY.to_owned()),
        ("authorization", format!("Bearer {token}")),
        ("authorization", format!("Bearer {token}canary")),
        ("x-api-key", "usk_canary".to_owned()),
    ];
    for route in routes(http, service).await {
        let method: reqwest::Method = route.method.parse().expect("a method");
        let query = "q=canary-query&file_path=canary-path&signature=canary-signature&user_id=bob&email=canary.mail@example.com";
        let url = service.url(&format!("{}?{query}", route.path(&things)));
        let bodies = route.body.map_or_else(Vec::new, |body| {
            let [good, bad] = [false, true].map(|every| with_canaries(&body, every).to_string());
            vec![good, bad, "{\"canary\": canary-broken".to_owned()]
        });
        let sent = credentials.iter().flat_map(|(name, value)| {
            let bodies = bodies.iter().cloned().chain([String::new()]);
            let (method, url) = (&method, &url);
            bodies.map(move |body| {
                let request = http.request(method.clone(), url).header(*name, value.as_str());
                let request = request
                    .header("content-type", "application/json")
                    .header("idempotency-key", "canary-key");
                request
                    .header("stripe-signature", "t=1,v1=canary")
                    .header("cookie", "canary")
                    .body(body)
                    .send()
            })
        });
        futures_util::future::try_join_all(sent).await.expect("answers");
    }
}

/// What agents send: tools, a prompt, a resource, and messages that are none.
async fn ask_as_an_agent(http: &reqwest::Client, service: &Running, token: &str) {
    let call = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    let consume = json!({"amount": 1, "reason": "canary-reason", "metadata": {"canary": "canary"}, "idempotency_key": "canary-key"});
    for (method, params) in [
        (
            "initialize",
            json!({"protocolVersion": "canary", "capabilities": {}, "clientInfo": {"name": "canary", "version": "canary"}}),
        ),
        ("tools/call", call("credits_consume", consume)),
        ("tools/call", call("credits_consume", json!({"amount": "canary", "canary": "canary"}))),
        (
            "tools/call",
            call("session_append", json!({"session_id": "canary", "role": "user", "content": "canary"})),
        ),
        ("tools/call", call("canary", json!({"canary": "canary"}))),
        ("resources/read", json!({"uri": "user://canary/profile"})),
        ("prompts/get", json!({"name": "why_was_i_charged", "arguments": {"transaction_id": "canary"}})),
        ("canary", json!({"canary": "canary"})),
    ] {
        let message =
            json!({"jsonrpc": "2.0", "id": "canary", "method": method, "params": params}).to_string();
        for (header, value) in [
            ("accept", "*/*"),
            ("mcp-protocol-version", "canary"),
            ("mcp-protocol-version", "2026-07-28"),
            ("host", "canary"),
            ("origin", "canary"),
        ] {
            for body in [message.clone(), format!("{message}canary")] {
                let request = http
                    .post(service.url("/mcp"))
                    .bearer_auth(token)
                    .header("content-type", "application/json");
                let _ = request.header(header, value).body(body).send().await.expect("an answer");
            }
        }
    }
}

/// A file and an event, whose bodies are no JSON of a route's example.
async fn send_a_file_and_an_event(http: &reqwest::Client, service: &Running, secret: &str) -> String {
    let key = |request: reqwest::RequestBuilder| request.header("x-api-key", SERVICE_KEY);
    let form = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"canary.txt\"\r\n\
        content-type: text/plain\r\n\r\ncanary-content\r\n--b--\r\n";
    let upload = key(http.post(service.url("/api/v1/users/ann/files/upload")));
    let upload = upload.header("content-type", "multipart/form-data; boundary=b").body(form).send().await;
    let stored: Value = upload.expect("an answer").json().await.expect("JSON");
    let path = stored["data"]["file_path"].as_str().unwrap_or_else(|| panic!("{stored}"));
    let info =
        key(http.get(service.url(&format!("/api/v1/users/ann/files/info?file_path={path}")))).send().await;
    let info: Value = info.expect("an answer").json().await.expect("JSON");
    let address = info["data"]["download_url"].as_str().unwrap_or_else(|| panic!("{info}")).to_owned();
    let file = http.get(&address).send().await.expect("an answer").text().await.expect("a text");
    assert_eq!(file, "canary-content");
    let event = json!({"id": "evt_1", "object": "event", "type": "customer.subscription.updated", "created": 1, "livemode": false,
        "data": {"object": {"id": "sub_1", "object": "subscription", "customer": "cus_1", "description": "canary-text"}}});
    let event = event.to_string();
    let signature = Signer::header(&event, &[secret], kernel::Clock::System.now().seconds());
    let told =
        http.post(service.url("/api/v1/webhooks/stripe")).header("stripe-signature", &signature).body(event);
    assert_eq!(told.send().await.expect("an answer").status(), 200);
    let signed = address.split_once("signature=").map(|(_, signature)| signature.to_owned());
    assert!(!signature.is_empty());
    signed.expect("a signature")
}

async fn no_line_of_any_route_tells_a_secret(place: Place) {
    let settings = [
        ("LOG_LEVEL", "trace"),
        ("RATE_LIMIT_ENABLED", "false"),
        ("STRIPE_SECRET_KEY", "sk_test_canary"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_canary"),
        // Nobody is there, so that what is said of failures is seen too.
        ("STRIPE_API_BASE", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary"),
    ];
    let service = PROGRAM.start(&place, &settings).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let token =
        http.post(service.url("/auth/dev-token?user_id=ann&email=canary.mail@example.com")).send().await;
    let token: Value = token.expect("an answer").json().await.expect("JSON");
    let token = token["token"].as_str().expect("a token");
    let user = json!({"name": "Canary Name"});
    let made = http.post(service.url("/api/v1/users/ensure")).bearer_auth(token).json(&user).send().await;
    assert_eq!(made.expect("an answer").status(), 200);
    let signed = send_a_file_and_an_event(&http, &service, "whsec_canary").await;
    ask_as_an_agent(&http, &service, token).await;
    ask_everything(&http, &service, token).await;
    let ended = service.stop().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));

    let said = ended.stdout.to_ascii_lowercase();
    let levels =
        ["trace", "debug", "info", "warn"].map(|level| said.contains(&format!("\"level\":\"{level}\"")));
    assert_eq!(levels[1..], [true; 3], "it spoke at every level");
    let signature = token.rsplit('.').next().expect("three parts");
    // `usk_` begins every service key, also those that were made meanwhile.
    for secret in ["canary", "usk_", JWT_SECRET, signature, &signed] {
        let line = said.lines().find(|line| line.contains(&secret.to_ascii_lowercase()));
        assert_eq!(line, None, "{secret} is in the log");
    }
}
