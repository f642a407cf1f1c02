//! Limits at the socket, where a client need not be one.

use crate::PROGRAM;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use testkit::process::{Place, Running, SERVICE_KEY};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Sends bytes and reads until the answer is whole or the connection ends; both may be cut.
async fn exchange(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    // The service may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = async {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&answer);
            if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.ends_with('}')) {
                break;
            }
        }
    };
    tokio::time::timeout(LIMIT, read).await.expect("an answer or an end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status and the error body.
fn error(answer: &str) -> (u16, Value) {
    let (header, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = header.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer}")))
}

fn noop(length: usize) -> String {
    format!(
        "POST /api/v1/noop HTTP/1.1\r\nhost: x\r\nx-api-key: {SERVICE_KEY}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

async fn assert_lives(service: &Running) {
    let (header, body) = (noop(2), "{}");
    let answer = exchange(service.address, format!("{header}{body}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_in_our_words() {
    let service = PROGRAM.start(&Place::sqlite(), &[]).await;
    let big = format!("GET / HTTP/1.1\r\nhost: x\r\nx-big: {}\r\n\r\n", "a".repeat(20 * 1024));
    let (status, body) = error(&exchange(service.address, big.as_bytes()).await);
    assert_eq!((status, &body["error_code"]), (431, &"HeaderTooLargeException".into()), "{body}");
    assert!(body["request_id"].is_string() && body["success"] == false, "{body}");

    // Announced is enough: nothing of it is waited for.
    let (status, body) = error(&exchange(service.address, noop(2 << 20).as_bytes()).await);
    assert_eq!((status, &body["error_code"]), (413, &"PayloadTooLargeException".into()), "{body}");

    // Not announced, and found out under way.
    let chunked = noop(0).replace("content-length: 0", "transfer-encoding: chunked");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000)).repeat(17);
    let (status, _) = error(&exchange(service.address, format!("{chunked}{chunk}").as_bytes()).await);
    assert_eq!(status, 413);
    assert_lives(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_without_end_is_cut_off() {
    let service = PROGRAM.start(&Place::sqlite(), &[]).await;
    let endless = format!("GET / HTTP/1.1\r\nhost: x\r\nx-big: {}", "a".repeat(1 << 20));
    let answer = exchange(service.address, endless.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let many: String = (0..500).map(|number| format!("x-{number}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    let answer = exchange(service.address, many.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_lives(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stalls_is_given_up() {
    let service = PROGRAM.start(&Place::sqlite(), &[("REQUEST_TIMEOUT_SECONDS", "1")]).await;
    let begun = Instant::now();
    let stalled = format!("{}{{\"half\":", noop(100));
    let (status, body) = error(&exchange(service.address, stalled.as_bytes()).await);
    assert_eq!((status, &body["error_code"]), (408, &"RequestTimeoutException".into()), "{body}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "not before its time");
    assert_lives(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_answered_and_survived() {
    let mut service = PROGRAM.start(&Place::sqlite(), &[]).await;
    for garbage in [
        &b"\x00\xff\xfe\x01\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET noslash\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: minus\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"G\0T / HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let answer = exchange(service.address, garbage).await;
        let shown = String::from_utf8_lossy(garbage);
        assert!(answer.starts_with("HTTP/1.1 4"), "{shown:?}: {answer:?}");
    }
    // A client of TLS may lose the answer, because what it sent is not read to its end.
    exchange(service.address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 at the wrong door\r\n\r\n")
        .await;
    // A client of HTTP/2 that speaks nonsense after its first words, and one that leaves.
    exchange(service.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff").await;
    drop(TcpStream::connect(service.address).await.expect("a connection"));
    assert_lives(&service).await;
    assert!(service.is_alive());
}
