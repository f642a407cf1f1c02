//! Signed addresses of local files: ranges, headers, and what is refused.

use super::{fetch, local, refuses};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;
use testkit::{TestApp, both_engines, files};

async fn asked(method: Method, url: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = headers
        .iter()
        .fold(client.request(method, url), |request, (name, value)| request.header(*name, *value));
    request.send().await.expect("an answer")
}

async fn uploaded(app: &TestApp, name: &str, bytes: &[u8]) -> (String, Value) {
    app.alice.ensure().await;
    let data = app.alice.upload(name, bytes).await.data();
    (data["download_url"].as_str().expect("an address").to_owned(), data)
}

both_engines! {
    async fn a_download_is_something_to_save_never_to_show(app: TestApp) {
        let (url, data) = uploaded(&app, "Übersicht 1.pdf", &files::pdf()).await;
        let answer = fetch(&url).await;
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("a text").to_owned());
        assert_eq!(header("content-type").as_deref(), Some("application/pdf"));
        assert_eq!(header("content-disposition").as_deref(),
            Some("attachment; filename=\"_bersicht 1.pdf\"; filename*=UTF-8''%C3%9Cbersicht%201.pdf"));
        assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(header("content-security-policy").as_deref(), Some("sandbox; default-src 'none'"));
        assert_eq!(header("cache-control").as_deref(), Some("private"));
        assert_eq!(header("accept-ranges").as_deref(), Some("bytes"));
        assert!(header("last-modified").is_some());
        let etag = header("etag").expect("an etag");
        assert_eq!(etag, format!("\"{}\"", data["etag"].as_str().expect("a text")));
        assert_eq!(asked(Method::GET, &url, &[("if-none-match", &etag)]).await.status(), 304);
        assert_eq!(asked(Method::GET, &url, &[("if-none-match", "\"other\"")]).await.status(), 200);
        assert_eq!(asked(Method::GET, &url, &[("if-match", &etag)]).await.status(), 200);
        assert_eq!(asked(Method::GET, &url, &[("if-match", &etag), ("range", "bytes=0-0")]).await.status(), 206);
        assert_eq!(asked(Method::GET, &url, &[("if-match", "\"other\"")]).await.status(), 412);
        for ignored in ["junk", "bytes=5-2", "bytes=0-1,3-4", "bytes=-", "bytes=a-b", "lines=1-2"] {
            assert_eq!(asked(Method::GET, &url, &[("range", ignored)]).await.status(), 200, "{ignored}");
        }
    }

    async fn ranges_and_heads_work_as_for_any_static_file(app: TestApp) {
        let bytes = files::png_of(100_000);
        let (url, data) = uploaded(&app, "a.png", &bytes).await;
        for (range, part) in [("bytes=0-9", 0..10), ("bytes=99990-", 99_990..100_000), ("bytes=-5", 99_995..100_000), ("bytes=500-599", 500..600)] {
            let answer = asked(Method::GET, &url, &[("range", range)]).await;
            assert_eq!(answer.status(), 206);
            let wanted = format!("bytes {}-{}/100000", part.start, part.end - 1);
            assert_eq!(answer.headers()["content-range"], wanted.as_str());
            assert_eq!(answer.bytes().await.expect("bytes"), bytes[part]);
        }
        let past = asked(Method::GET, &url, &[("range", "bytes=100000-")]).await;
        assert_eq!((past.status().as_u16(), &past.headers()["content-range"]), (416, &"bytes */100000".parse().expect("a header")));
        let etag = format!("\"{}\"", data["etag"].as_str().expect("a text"));
        let same = asked(Method::GET, &url, &[("range", "bytes=0-9"), ("if-range", &etag)]).await;
        let other = asked(Method::GET, &url, &[("range", "bytes=0-9"), ("if-range", "\"other\"")]).await;
        assert_eq!((same.status().as_u16(), other.status().as_u16()), (206, 200));
        let head = asked(Method::HEAD, &url, &[]).await;
        assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().ok()), (200, Some("100000")));
        assert_eq!(head.bytes().await.expect("nothing").len(), 0);
    }

    async fn what_was_changed_or_is_late_is_refused(app: TestApp) {
        let (url, _) = uploaded(&app, "a.txt", b"hello").await;
        let (other, _) = uploaded(&app, "b.txt", b"other").await;
        let path = local(&app, &Value::from(url.clone()));
        let (address, query) = path.split_once('?').expect("a query");
        let other = local(&app, &Value::from(other));
        let other_address = other.split_once('?').expect("a query").0;
        let (expires, signature) = query.split_once('&').expect("two fields");
        for wrong in [
            address.to_owned(),
            format!("{address}?{expires}"),
            format!("{address}?{signature}"),
            format!("{address}?expires=9999999999&{signature}"),
            format!("{address}?expires=x&{signature}"),
            format!("{address}?{expires}&{signature}A"),
            format!("{address}?{expires}&signature="),
            format!("{address}?{expires}&signature=%00"),
            format!("{other_address}?{query}"),
            format!("{}?{query}", address.replace("%7C", "_")),
            format!("/files/?{query}"),
            format!("/files/users/../../../etc/passwd?{query}"),
        ] {
            let answer = app.anon.get(&wrong).await;
            assert!([403, 404].contains(&answer.status), "{wrong}: {}", answer.text());
            if wrong.starts_with("/files/users/auth0") {
                refuses(&answer, 403, "AuthorizationException");
            }
        }
        // An address to read is none to write, and what is written is not what is read.
        refuses(&app.anon.request(Method::PUT, &path).body("x").send().await, 403, "AuthorizationException");
        app.advance(Duration::from_secs(3599));
        assert_eq!(fetch(&url).await.status(), 200);
        app.advance(Duration::from_secs(1));
        refuses(&app.anon.get(&path).await, 403, "AuthorizationException");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_where_callers_reach_the_service() {
    let settings = [("PUBLIC_URL", "https://users.example.com/base/")];
    let app = TestApp::start_with(testkit::Engine::Sqlite, &settings).await;
    let (url, _) = uploaded(&app, "a.txt", b"hello").await;
    assert!(url.starts_with("https://users.example.com/base/files/users/auth0%7Calice/"), "{url}");
    app.finish().await;
    let app = TestApp::start(testkit::Engine::Sqlite).await;
    app.alice.ensure().await;
    let upload = async |headers: &[(&str, &str)]| {
        let request = app.alice.request(Method::POST, &app.alice.own("/files/upload"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.file("a.txt", b"x").send().await
    };
    let url = upload(&[("host", "users.example.com:8443"), ("x-forwarded-proto", "https")]).await.data()["download_url"].clone();
    assert!(
        url.as_str().is_some_and(|url| url.starts_with("https://users.example.com:8443/files/")),
        "{url}"
    );
    upload(&[("host", "evil.example.com/path")]).await.refuses_field(&["header", "Host"], "must be a host");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_is_for_its_owner_alone_and_lives_on() {
    let app = TestApp::start(testkit::Engine::Sqlite).await;
    let key = app.data_dir().join("files.key");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::read(&key).expect("a key").len(), 32);
    app.finish().await;
}
