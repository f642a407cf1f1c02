//! Traces by OTLP: a collector hears of each request under the trace that its caller named, and one that is gone changes
//! nothing.

use crate::PROGRAM;
use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::process::{Place, SERVICE_KEY};
use tokio::net::TcpListener;

either_engine!(a_collector_hears_of_each_request_under_its_callers_trace);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// What a collector was sent: the key that came with it, and the spans.
type Heard = Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>;

async fn collector() -> (String, Heard) {
    let heard = Heard::default();
    let theirs = Arc::clone(&heard);
    let take = move |headers: HeaderMap, body: Bytes| {
        let key =
            headers.get("x-collector-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let request = ExportTraceServiceRequest::decode(body).expect("spans");
        theirs.lock().expect("a lock").push((key, request));
        async {}
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", post(take))).await });
    (address, heard)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> Value {
    let found = span.attributes.iter().find(|pair| pair.key == name);
    match found.and_then(|pair| pair.value.as_ref()?.value.as_ref()) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::IntValue(number)) => json!(number),
        _ => Value::Null,
    }
}

async fn a_collector_hears_of_each_request_under_its_callers_trace(place: Place) {
    let (collector, heard) = collector().await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=canary-collector"),
        ("OTEL_SERVICE_NAME", "billing"),
        ("LOG_LEVEL", "debug"),
    ];
    let service = PROGRAM.start(&place, &settings).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let send = |method: &str, path: &str, parent: &str, body: Value| {
        let request = http.request(method.parse().expect("a method"), service.url(path)).json(&body);
        let request = request.header("x-api-key", SERVICE_KEY).header("traceparent", parent);
        async { request.send().await.expect("an answer") }
    };
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let user = json!({"auth0_id": "canary-user", "name": "Canary Name", "email": "canary.mail@example.com"});
    let answer = send("POST", "/api/v1/users/ensure", &parent, user).await;
    let named = answer.headers()["traceparent"].to_str().expect("a text").to_owned();
    assert!(
        named.starts_with(&format!("00-{TRACE}-")) && named.ends_with("-01") && !named.contains(CALLER),
        "{named}"
    );
    let greedy = json!({"amount": 1e9, "description": "canary-description"});
    assert_eq!(
        send("POST", "/api/v1/users/canary-user/credits/consume", &parent, greedy).await.status(),
        400
    );
    send("GET", "/api/v1/users/canary-user/usage", &parent, json!({})).await;
    let tool = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "credits_balance", "arguments": {"auth0_id": "canary-user"}}});
    assert_eq!(send("POST", "/mcp", &parent, tool).await.status(), 200);
    // One that is not to be kept, and one that is none.
    let unwanted = format!("00-{}-{CALLER}-00", "a".repeat(32));
    send("GET", "/api/v1/users/canary-user", &unwanted, json!({})).await;
    let fresh = send("GET", "/health/live", "00-canary", json!({})).await;
    let fresh = fresh.headers()["traceparent"].to_str().expect("a text").to_owned();
    let refused =
        http.get(service.url("/api/v1/users/me")).bearer_auth("a.b.c").header("traceparent", &parent);
    assert_eq!(refused.send().await.expect("an answer").status(), 401);
    let ended = service.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    // The last spans went out before the end.
    let heard = heard.lock().expect("a lock");
    assert!(heard.iter().all(|(key, _)| key == "canary-collector"));
    let text = format!("{heard:?}").replace("canary-collector", "");
    assert!(!text.to_ascii_lowercase().contains("canary"), "spans tell of nobody");
    let resources = heard.iter().flat_map(|(_, request)| &request.resource_spans);
    assert!(format!("{:?}", resources.clone().next().expect("spans").resource).contains("billing"));
    let spans: Vec<&Span> = resources.flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans).collect();
    let of_trace: Vec<&&Span> = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let root = |name: &str| {
        **of_trace.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:#?}"))
    };
    let ensure = root("POST /api/v1/users/ensure");
    assert_eq!(hex(&ensure.parent_span_id), CALLER);
    assert_eq!(hex(&ensure.span_id), named.split('-').nth(2).unwrap_or_default());
    assert_eq!(attribute(ensure, "http.response.status_code"), 200);
    assert_eq!(attribute(ensure, "user_service.principal"), "service");
    for child in ["writer.queue", "writer.commit"] {
        let beneath = of_trace.iter().any(|span| span.name == child && span.parent_span_id == ensure.span_id);
        assert!(beneath, "{child} beneath {ensure:?}");
    }
    let consume = root("POST /api/v1/users/{user_id}/credits/consume");
    assert_eq!(attribute(consume, "error.type"), "InsufficientCreditsException");
    // What a tool asks is beneath its message.
    let (message, asked) = (root("POST /mcp"), root("GET /api/v1/users/{user_id}/credits/balance"));
    assert_eq!((hex(&message.parent_span_id).as_str(), &asked.parent_span_id), (CALLER, &message.span_id));
    let usage = root("GET /api/v1/users/{user_id}/usage");
    let read =
        of_trace.iter().find(|span| span.name == "database.read" && span.parent_span_id == usage.span_id);
    let engine = if place.is_postgres() { "postgres" } else { "sqlite" };
    assert_eq!(attribute(read.expect("a read"), "db.system.name"), engine);
    assert!(
        spans.iter().all(|span| hex(&span.trace_id) != "a".repeat(32)),
        "the caller does not keep that trace"
    );
    assert!(spans.iter().any(|span| fresh.contains(&hex(&span.trace_id)) && span.parent_span_id.is_empty()));
    // The log names the trace, also where what works for a request speaks.
    for words in ["\"error_code\":\"InsufficientCreditsException\"", "\"message\":\"token refused\""] {
        let line =
            ended.stdout.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}"));
        let line: Value = serde_json::from_str(line).expect("one JSON object");
        assert_eq!(line["trace_id"], TRACE, "{line}");
    }
    assert!(!ended.stdout.contains("canary-collector"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_silent_or_gone_changes_nothing() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let gone = {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        listener.local_addr().expect("an address")
    };
    for address in [silent.local_addr().expect("an address"), gone] {
        let place = Place::sqlite();
        let endpoint = format!("http://{address}");
        let service = PROGRAM.start(&place, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let began = Instant::now();
        // More than the queue holds.
        for _ in 0..40 {
            let asked = (0..50).map(|_| http.get(service.url("/api/v1/subscriptions/plans")).send());
            for answer in futures_util::future::join_all(asked).await {
                assert_eq!(answer.expect("an answer").status(), 200);
            }
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let stopping = Instant::now();
        let ended = service.stop().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
    }
}
