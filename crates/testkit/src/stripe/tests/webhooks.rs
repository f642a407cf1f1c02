//! Signed deliveries: what arrives is what Stripe's library signed.

use super::super::{Signer, WEBHOOK_SECRET};
use super::Story;
use aws_lc_rs::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Stripe's documented scheme, computed without its library.
fn expected(secret: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_library_signs_as_stripe_documents() {
    let body = "{\"an\": \"object of no kind, with ü\"}";
    let (first, second) = (expected("whsec_a", 12, body), expected("whsec_b", 12, body));
    assert_eq!(Signer::header(body, &["whsec_a"], 12), format!("t=12,v1={first}"));
    assert_eq!(Signer::header(body, &["whsec_a", "whsec_b"], 12), format!("t=12,v1={first},v1={second}"));
    assert_eq!(Signer::header("no JSON", &["s"], 0), format!("t=0,v1={}", expected("s", 0, "no JSON")));
}

/// Answers one request and gives what came: its head and its body.
async fn one(listener: TcpListener) -> (String, String) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.expect("bytes");
        request.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if body.len() == length.parse::<usize>().expect("a length") {
            break (head.to_owned(), body.to_owned());
        }
    };
    let answer =
        "HTTP/1.1 202 Accepted\r\ncontent-length: 17\r\nconnection: close\r\n\r\n{\"processed\":yes}";
    stream.write_all(answer.as_bytes()).await.expect("an answer");
    (head, body)
}

#[tokio::test]
async fn an_event_is_delivered_with_a_signature_that_fits_its_bytes() {
    let story = Story::begin().await;
    story.customer().await;
    let event = story.stripe.take_events().pop().expect("an event");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/webhooks", listener.local_addr().expect("an address"));
    let (answer, (head, body)) = tokio::join!(story.stripe.deliver(&event, &url), one(listener));
    assert_eq!((answer.status, answer.body), (202, json!("{\"processed\":yes}")));
    let now = story.stripe.now();
    let signature = format!("stripe-signature: t={now},v1={}", expected(WEBHOOK_SECRET, now, &body));
    assert!(head.lines().any(|line| line == signature), "{head}");
    let sent: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(sent, event.value);
    let shape = [&sent["object"], &sent["type"], &sent["livemode"], &sent["api_version"], &sent["created"]];
    assert_eq!(
        shape,
        [
            &json!("event"),
            &json!("customer.created"),
            &json!(false),
            &json!("2026-09-30.endive"),
            &json!(now)
        ]
    );
    assert_eq!(sent["request"]["idempotency_key"], Value::Null);
    assert_eq!(story.stripe.take_events(), Vec::new());
    assert_eq!(story.stripe.events(), [event]);
}
