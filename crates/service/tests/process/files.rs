//! Uploads to the whole binary: memory that does not grow, and nothing left by a kill.

use crate::PROGRAM;
use crate::caller::Caller;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::actors::{FORM_TYPE, form};
use testkit::files::png_of;
use testkit::process::{Place, SERVICE_KEY};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATH: &str = "/api/v1/users/auth0%7Cfiles/files";
/// How much more memory than idle 20 uploads may take.
const GROWTH_MAX_KIB: u64 = 20 * 1024;
const LIMIT: usize = 52_428_800;

async fn ensure(to: SocketAddr) {
    let body = json!({"auth0_id": "auth0|files", "email": "files@example.com", "name": "Files"});
    let made = Caller::new().post(to, "/api/v1/users/ensure", &body, None).await.expect("an answer");
    assert_eq!(made.status, 200, "{}", made.body);
}

fn head(length: usize) -> String {
    format!(
        "POST {PATH}/upload HTTP/1.1\r\nhost: x\r\nx-api-key: {SERVICE_KEY}\r\ncontent-type: {FORM_TYPE}\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    )
}

/// Uploads a file of that size from small pieces; the status and the error's code.
async fn upload(to: SocketAddr, size: usize) -> (u16, Value) {
    let whole = form("a.png", b"");
    let (begin, end) = whole.split_at(whole.len() - "\r\n--us-testkit-7d9e2f--\r\n".len());
    let picture = png_of(1000);
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    let mut answer = String::new();
    let sent = async {
        stream.write_all(head(size + whole.len()).as_bytes()).await?;
        stream.write_all(begin).await?;
        stream.write_all(&picture[..picture.len().min(size)]).await?;
        let filler = [b'x'; 65_536];
        let mut left = size.saturating_sub(picture.len());
        while left > 0 {
            let piece = left.min(filler.len());
            stream.write_all(&filler[..piece]).await?;
            left -= piece;
        }
        stream.write_all(end).await
    };
    let _ = sent.await;
    let _ = stream.read_to_string(&mut answer).await;
    let (header, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = header.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    (status, body)
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(below(&path)) } else { found.push(path) }
    }
    found.retain(|path| !path.ends_with("lock"));
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_uploads_that_are_one_byte_too_large_take_no_memory() {
    let place = Place::sqlite();
    let service = PROGRAM.start(&place, &[("REQUEST_TIMEOUT_SECONDS", "300")]).await;
    ensure(service.address).await;
    assert_eq!(upload(service.address, 1000).await.0, 200);
    // One of each kind first, so that code and threads are there.
    assert_eq!(upload(service.address, LIMIT + 1).await.0, 413);
    let idle = service.memory("VmRSS");
    let uploads: Vec<_> = (0..20).map(|_| tokio::spawn(upload(service.address, LIMIT + 1))).collect();
    for upload in uploads {
        let (status, body) = upload.await.expect("an answer");
        assert_eq!((status, &body["error_code"]), (413, &"PayloadTooLargeException".into()), "{body}");
    }
    let most = service.memory("VmHWM");
    assert!(most <= idle + GROWTH_MAX_KIB, "{idle} KiB idle, {most} KiB at most");
    assert_eq!(below(&place.folder().join("data/uploads")), Vec::<PathBuf>::new());
    assert_eq!(below(&place.folder().join("data/files")).len(), 1);
}

/// Killed while uploads are under way, it leaves nothing once it runs again.
async fn a_kill_leaves_nothing(place: Place) {
    let service = PROGRAM.start(&place, &[]).await;
    ensure(service.address).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(service.address).await.expect("a connection");
        stream.write_all(head(10_000_000).as_bytes()).await.expect("sent");
        stream.write_all(&form("a.png", &png_of(2_000_000))[..1_000_000]).await.expect("sent");
        streams.push(stream);
    }
    let uploads = place.folder().join("data/uploads");
    let until = Instant::now() + Duration::from_secs(60);
    while below(&uploads).len() < 5 {
        assert!(Instant::now() < until, "the uploads do not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.kill();
    assert_eq!(below(&uploads).len(), 5, "a kill leaves what was on the disk");
    let service = PROGRAM.start(&place, &[]).await;
    while !below(&uploads).is_empty() {
        assert!(Instant::now() < until, "they are not swept");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let list = Caller::new().get(service.address, PATH).await.expect("an answer").body;
    assert_eq!(
        (&list["data"], &list["usage"]["files"], &list["usage"]["bytes"]),
        (&json!([]), &json!(0), &json!(0))
    );
    assert_eq!(place.value("SELECT COUNT(*) FROM files").await, "0");
    assert_eq!(below(&place.folder().join("data/files")), Vec::<PathBuf>::new());
}

either_engine!(a_kill_leaves_nothing);
