//! What a busy service says of itself, and what it never says.

use crate::PROGRAM;
use serde_json::{Value, json};
use std::collections::HashMap;
use testkit::process::{JWT_SECRET, Place, Running, SERVICE_KEY};

either_engine!(every_request_has_one_line_and_no_secret);

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
