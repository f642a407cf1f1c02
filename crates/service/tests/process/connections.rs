//! Many connections, and clients that hold them for nothing.

use crate::PROGRAM;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use testkit::process::Place;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// How long a test waits for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

async fn health(to: SocketAddr) -> String {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    let request = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// Waits until the service closes a connection.
async fn ends(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is never closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_idle_connections_do_not_keep_health_waiting() {
    // Ours and the service's, which raises its own limit.
    let files = rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
    let idle = 5_000.min(usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(300));
    if idle < 5_000 {
        eprintln!("only {idle} idle connections: the hard limit of open files is {files}");
    }
    let place = Place::sqlite();
    let service = PROGRAM.start(&place, &[]).await;
    let mut connections = Vec::with_capacity(idle);
    for _ in 0..idle {
        connections.push(TcpStream::connect(service.address).await.expect("a connection"));
    }
    let mut took = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        let answer = health(service.address).await;
        took.push(began.elapsed());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    took.sort_unstable();
    eprintln!("health beside {idle} idle connections: {took:?}");
    assert!(took[4] < Duration::from_millis(100), "health took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_a_connection_for_nothing_loses_it() {
    let settings = [("REQUEST_TIMEOUT_SECONDS", "1"), ("MAX_CONNECTIONS", "16")];
    let place = Place::sqlite();
    let service = PROGRAM.start(&place, &settings).await;
    let connect = async || TcpStream::connect(service.address).await.expect("a connection");
    // Silent, in the middle of a header, in the middle of the words that begin HTTP/2, after an answer.
    let mut held = Vec::new();
    for said in ["", "GET /health HT", "PRI * HTTP/2.0\r\n", "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"] {
        for _ in 0..5 {
            let mut stream = connect().await;
            stream.write_all(said.as_bytes()).await.expect("sent");
            held.push(stream);
        }
    }
    // There are more than there may be, so the next caller is served when some have ended.
    assert!(health(service.address).await.starts_with("HTTP/1.1 200 "));
    for stream in held {
        ends(stream).await;
    }

    // A body that never comes is answered 408, and the connection ends.
    let mut slow = connect().await;
    let key = testkit::process::SERVICE_KEY;
    let head = format!(
        "POST /api/v1/noop HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = tokio::time::timeout(LIMIT, slow.read_to_string(&mut answer)).await;
    assert!(read.is_ok(), "the slow body's connection is never closed");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    // Who asks and asks and takes nothing is cut off.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut greedy = socket.connect(service.address).await.expect("a connection");
    let asks = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(50);
    let cut = tokio::time::timeout(LIMIT, async { while greedy.write_all(asks.as_bytes()).await.is_ok() {} });
    assert!(cut.await.is_ok(), "it is never cut off");
    assert!(health(service.address).await.starts_with("HTTP/1.1 200 "));
}
