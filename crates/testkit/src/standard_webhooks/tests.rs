//! The receivers take what is signed well, refuse what is not, and keep what they took when they are killed.

use super::{Library, Receiver};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kernel::Clock;
use std::time::Duration;

const KEY: &[u8] = b"a secret of twenty-four!";
const LIMIT: Duration = Duration::from_secs(20);

/// Sends a body with a signature of another, or of itself; gives the status.
async fn send(to: &str, id: &str, body: &str, signed: &str) -> u16 {
    let now = Clock::System.now();
    let timestamp = (now.micros() / 1_000_000).to_string();
    let text = format!("{id}.{timestamp}.{signed}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), text.as_bytes());
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.post(to).header("webhook-id", id).header("webhook-timestamp", timestamp);
    let request =
        request.header("webhook-signature", format!("v1,{}", STANDARD.encode(tag))).body(body.to_owned());
    request.send().await.map_or(0, |answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_library_verifies_and_keeps_what_it_took() {
    for library in [Library::Python, Library::JavaScript] {
        let mut receiver = Receiver::start(library).await;
        receiver.trust("/in", &format!("whsec_{}", STANDARD.encode(KEY))).await;
        let url = receiver.url("/in");
        let body = r#"{"user_id":"zoë","sequence":7}"#;
        assert_eq!(send(&url, "evt_1", body, body).await, 204, "{library:?}");
        assert_eq!(send(&url, "evt_2", body, "{}").await, 401, "{library:?}");
        assert_eq!(send(&receiver.url("/unknown"), "evt_3", body, body).await, 401, "{library:?}");
        receiver.answer("/in", 503).await;
        assert_eq!(send(&url, "evt_4", body, body).await, 503, "{library:?}");
        receiver.answer("/in", 204).await;
        receiver.kill().await;
        assert_eq!(send(&url, "evt_5", body, body).await, 0, "{library:?}: nobody listens");
        receiver.start_again().await;
        assert_eq!(send(&url, "evt_6", body, body).await, 204, "{library:?}");
        receiver.until(LIMIT, "both were noted", |all| all.len() == 2).await;
        let received = receiver.received();
        let ids: Vec<&str> = received.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["evt_1", "evt_6"], "{library:?}");
        assert_eq!((received[0].user(), received[0].sequence()), ("zoë", 7));
        assert_eq!((&*received[0].path, &*received[0].body, received[0].signatures), ("/in", body, 1));
        assert_eq!(receiver.refused().len(), 2, "{library:?}: {:?}", receiver.refused());
    }
}
