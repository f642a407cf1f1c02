//! What is too much, empty, broken, or over the quota.

use super::{assert_nothing, below, refuses, usage};
use reqwest::Method;
use serde_json::json;
use testkit::actors::{FORM_TYPE, form};
use testkit::{Actor, Engine, TestApp, both_engines, files};

/// Posts a body as a form.
async fn post_form(actor: &Actor, kind: &str, body: impl Into<reqwest::Body>) -> testkit::Answer {
    let request = actor.request(Method::POST, &actor.own("/files/upload"));
    request.header("content-type", kind).body(body).send().await
}

/// Waits for what the service does by and by.
async fn until(holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < end, "it does not come");
        tokio::task::yield_now().await;
    }
}

/// A form whose parts have these names.
fn parts(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend(
            format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n").into_bytes(),
        );
    }
    body.extend(b"--b--\r\n");
    body
}

both_engines! {
    async fn a_form_is_whole_and_has_one_file(app: TestApp) {
        app.alice.ensure().await;
        app.alice.upload("a.txt", b"").await.refuses_field(&["body", "file"], "must not be empty");
        let b = "multipart/form-data; boundary=b";
        post_form(&app.alice, b, parts(&[("name=\"other\"", "x")])).await.refuses_field(&["body", "file"], "Field required");
        post_form(&app.alice, b, parts(&[])).await.refuses_field(&["body", "file"], "Field required");
        for (kind, body) in [("application/json", "{}"), ("text/plain", "x"), ("multipart/form-data", "x"), ("multipart/mixed; boundary=b", "x")] {
            refuses(&post_form(&app.alice, kind, body).await, 415, "UnsupportedMediaTypeException");
        }
        for cut in [10, 60, 100, 140] {
            let whole = form("a.txt", b"hello, here is a text");
            refuses(&post_form(&app.alice, FORM_TYPE, whole[..cut].to_vec()).await, 400, "ValidationException");
        }
        assert_nothing(&app, &app.alice).await;
        let several = parts(&[
            ("name=\"title\"", "ignored"), ("name=\"file\"; filename=\"a.txt\"", "first"), ("name=\"file\"; filename=\"b.txt\"", "second"),
        ]);
        assert_eq!(post_form(&app.alice, b, several).await.data()["file_name"], "a.txt");
        let huge = "x".repeat(70_000);
        refuses(&post_form(&app.alice, b, parts(&[("name=\"other\"", &huge)])).await, 413, "PayloadTooLargeException");
        let many = vec![("name=\"other\"", "x"); 40];
        post_form(&app.alice, b, parts(&many)).await.refuses_field(&["body", "file"], "32");
    }

    async fn uploads_that_break_off_leave_nothing(app: TestApp) {
        use tokio::io::AsyncWriteExt as _;
        app.alice.ensure().await;
        let body = form("a.png", &files::png_of(1_000_000));
        for cut in [1, 100, 200, 300_000, 999_000] {
            let head = format!(
                "POST /api/v1/users/auth0%7Calice/files/upload HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-type: {FORM_TYPE}\r\n\
                 content-length: {}\r\n\r\n", testkit::app::SERVICE_KEY, body.len());
            let mut stream = tokio::net::TcpStream::connect(app.address).await.expect("a connection");
            stream.write_all(head.as_bytes()).await.expect("sent");
            stream.write_all(&body[..cut]).await.expect("sent");
            // Once the file itself has begun it is on the disk, and goes with its sender.
            if cut >= 200 {
                until(|| below(&app, "uploads").len() == 1).await;
            }
            drop(stream);
            until(|| below(&app, "uploads").is_empty()).await;
        }
        assert_nothing(&app, &app.alice).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_may_be_as_large_as_the_setting_says_and_no_larger() {
    let app = TestApp::start_with(Engine::Sqlite, &[("UPLOAD_MAX_SIZE", "100000")]).await;
    app.alice.ensure().await;
    assert_eq!(app.alice.upload("a.png", &files::png_of(100_000)).await.data()["file_size"], 100_000);
    for size in [100_001, 160_000, 400_000] {
        let answer = app.alice.upload("a.png", &files::png_of(size)).await;
        answer.refuses(413, "PayloadTooLargeException", "The file must be at most 100000 bytes");
    }
    // Not announced, and found out under way.
    let chunks: Vec<Result<bytes::Bytes, std::io::Error>> = form("a.png", &files::png_of(300_000))
        .chunks(10_000)
        .map(|chunk| Ok(bytes::Bytes::copy_from_slice(chunk)))
        .collect();
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(
        chunks.into_iter().map(|chunk| chunk.map(hyper::body::Frame::data)),
    ));
    refuses(
        &post_form(&app.alice, FORM_TYPE, reqwest::Body::wrap(body)).await,
        413,
        "PayloadTooLargeException",
    );
    let begun =
        app.alice.post(&app.alice.own("/files/upload-url"), json!({"file_name": "a.png"})).await.data();
    let to = super::local(&app, &begun["upload_url"]);
    let put = app.anon.request(Method::PUT, &to).body(files::png_of(100_001)).send().await;
    refuses(&put, 413, "PayloadTooLargeException");
    assert_eq!((usage(&app.alice).await, below(&app, "uploads").len()), ((1, 100_000), 0));
    app.finish().await;
}

/// Twenty at once, and exactly as many fit as there is room for.
async fn the_quota_holds(engine: Engine) {
    let quotas = [("FILE_QUOTAS", "pro=1000000,*=70000")];
    let app = TestApp::start_with(engine, &quotas).await;
    app.alice.ensure().await;
    let png = files::png_of(10_000);
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (alice, png) = (app.alice.clone(), png.clone());
            tokio::spawn(async move { alice.upload("a.png", &png).await })
        })
        .collect();
    let mut statuses = Vec::new();
    for task in tasks {
        let answer = task.await.expect("an answer");
        statuses.push(answer.status);
        if answer.status == 413 {
            let body = answer.with(413);
            assert_eq!(body["error_code"], "QuotaExceededException");
            let details = &body["error_details"];
            assert_eq!((&details["quota"], &details["required"]), (&json!(70_000), &json!(10_000)));
            assert!(details["used"].as_i64().is_some_and(|used| used > 60_000), "{details}");
        }
    }
    let stored = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((stored, statuses.iter().filter(|status| **status == 413).count()), (7, 13));
    assert_eq!(usage(&app.alice).await, (7, 70_000));
    assert_eq!((below(&app, "files").len(), below(&app, "uploads").len()), (7, 0));
    let begun = app
        .alice
        .post(&app.alice.own("/files/upload-url"), json!({"file_name": "a.png", "file_size": 1}))
        .await;
    refuses(&begun, 413, "QuotaExceededException");
    // Room that is given back can be used again.
    let path = app.alice.get(&app.alice.own("/files")).await.data()[0]["file_path"].clone();
    let _ = app.alice.delete(&super::about(&app.alice, "", &path)).await.ok();
    assert_eq!(app.alice.upload("a.png", &png).await.status, 200);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_holds_on_sqlite() {
    the_quota_holds(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_holds_on_postgres() {
    the_quota_holds(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_gets_no_turn_is_told_to_come_back() {
    let app = TestApp::start(Engine::Sqlite).await;
    app.alice.ensure().await;
    let inside = app.inside();
    let mut turns = Vec::new();
    for other in 0..user_service::files::turns::UPLOADS_MAX {
        let other = kernel::UserRowId(1_000_000 + other as i64);
        turns.push(inside.files.turns.take(other).await.expect("a turn"));
    }
    let answer = app.alice.upload("a.txt", b"hello").await;
    refuses(&answer, 503, "ServiceUnavailable");
    assert!(answer.header("retry-after").is_some());
    drop(turns);
    drop(inside);
    assert_eq!(app.alice.upload("a.txt", b"hello").await.status, 200);
    app.finish().await;
}

/// The head of an upload of so many bytes by the service key.
fn head_of(length: usize) -> String {
    format!(
        "POST /api/v1/users/auth0%7Calice/files/upload HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-type: {FORM_TYPE}\r\n\
         content-length: {length}\r\n\r\n",
        testkit::app::SERVICE_KEY,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_upload_is_taken_as_long_as_it_goes_on() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::start_with(Engine::Sqlite, &[("REQUEST_TIMEOUT_SECONDS", "1")]).await;
    app.alice.ensure().await;
    let body = form("a.png", &files::png_of(50_000));
    let mut stream = tokio::net::TcpStream::connect(app.address).await.expect("a connection");
    stream.write_all(head_of(body.len()).as_bytes()).await.expect("sent");
    let began = std::time::Instant::now();
    for piece in body.chunks(body.len().div_ceil(8)) {
        stream.write_all(piece).await.expect("sent");
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    assert!(began.elapsed() > std::time::Duration::from_secs(1), "longer than a request may take");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(stream);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stalls_is_given_up() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::start_with(Engine::Sqlite, &[("REQUEST_TIMEOUT_SECONDS", "1")]).await;
    app.alice.ensure().await;
    let body = form("a.png", &files::png_of(500_000));
    let head = head_of(body.len());
    let mut stream = tokio::net::TcpStream::connect(app.address).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&body[..300_000]).await.expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_nothing(&app, &app.alice).await;
    app.finish().await;
}
