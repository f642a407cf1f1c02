use super::*;
use crate::webhooks::delivery::sign::Prepared;
use crate::webhooks::model::SignatureKind;
use crate::webhooks::secret::SigningKey;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn target(url: &str) -> Target {
    let key = Prepared::of(&SigningKey::stored(SignatureKind::V1, b"secret".to_vec())).expect("a key");
    Target {
        url: url.parse().expect("a URL"),
        headers: HeaderMap::new(),
        signers: vec![Signer { key, until: None }],
    }
}

fn client() -> Client {
    let desk = Reach { everywhere: true, networks: Vec::new() };
    Client::new(desk, Duration::from_millis(500), Clock::default()).expect("a client")
}

/// One that answers every connection with these bytes, and then is silent or closes.
async fn answering(bytes: &'static [u8], closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes).await;
            if !closes {
                open.push(stream);
            }
        }
    });
    address
}

async fn tried(url: &str) -> (Option<u16>, Verdict, Option<String>) {
    let began = Instant::now();
    let (attempt, verdict) = client().attempt(&target(url), 1, "{}".to_owned()).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    (attempt.status_code, verdict, attempt.error)
}

#[tokio::test]
async fn whatever_a_receiver_does_is_told_in_a_few_words() {
    let failed = |status, why: &str| (status, Verdict::Failed(None), Some(why.to_owned()));
    let slow = answering(b"", false).await;
    assert_eq!(tried(&format!("http://{slow}/")).await, failed(None, "no answer within 0.5 s"));
    let trickling = answering(b"HTTP/1.1 200 OK\r\nx-a: ", false).await;
    assert_eq!(tried(&format!("http://{trickling}/")).await, failed(None, "no answer within 0.5 s"));
    let closing = answering(b"", true).await;
    let (status, verdict, error) = tried(&format!("http://{closing}/")).await;
    assert_eq!((status, verdict), (None, Verdict::Failed(None)));
    assert!(error.is_some_and(|error| error.starts_with("the connection")), "closed");
    let babbling = answering(b"hello, this is no HTTP\r\n\r\n", true).await;
    let (_, verdict, error) = tried(&format!("http://{babbling}/")).await;
    assert_eq!(verdict, Verdict::Failed(None));
    assert!(error.is_some_and(|error| error.starts_with("the connection broke: ")), "no HTTP");
    let (_, _, error) = tried(&format!("https://{babbling}/")).await;
    let error = error.expect("an error");
    assert!(error.starts_with("TLS: ") || error.starts_with("not connected: "), "{error}");
    let (_, _, error) = tried("https://name.invalid/?token=hunter2").await;
    let error = error.expect("an error");
    assert!(error.starts_with("the name was not resolved: ") && !error.contains("hunter2"), "{error}");
    assert_eq!(tried("http://127.0.0.1:9/").await, failed(None, "the connection was refused"));
}

#[tokio::test]
async fn a_body_that_does_not_end_changes_nothing() {
    let endless = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nmore to come", false).await;
    assert_eq!(tried(&format!("http://{endless}/")).await, (Some(200), Verdict::Delivered, None));
    let refusing = answering(b"HTTP/1.1 500 Oops\r\ncontent-length: 9\r\n\r\nbroken\x00\x01\n", false).await;
    let (attempt, _) = client().attempt(&target(&format!("http://{refusing}/")), 1, "{}".to_owned()).await;
    assert_eq!(attempt.excerpt.as_deref(), Some("broken"));
}
