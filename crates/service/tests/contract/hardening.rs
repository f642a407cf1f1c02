//! HTTP at its edges: headers for browsers, limits, odd requests, compression, HTTP/2, too much at once.

use serde_json::json;
use testkit::{Engine, TestApp, both_engines};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One request in raw bytes, and the whole answer in small letters.
async fn ask(app: &TestApp, line: &str, headers: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    app.raw(request).await.to_ascii_lowercase()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

both_engines! {
    async fn every_answer_tells_browsers_to_keep_away(app: TestApp) {
        let preflight = "Origin: http://localhost:3000\r\nAccess-Control-Request-Method: GET\r\n";
        for (line, headers, wanted) in [
            ("GET /health", "", "200"), ("GET /nothing", "", "404"), ("GET /api/v1/users/me", "", "401"),
            ("PUT /health", "", "405"), ("OPTIONS /health", preflight, "200"), ("GET /docs/", "", "200"),
            ("GET /redoc", "", "200"), ("GET /openapi.json", "", "200"), ("GET /metrics", "", "200"),
        ] {
            let answer = ask(&app, line, headers).await;
            assert_eq!(status(&answer), wanted, "{line}: {answer}");
            for header in [
                "x-content-type-options: nosniff", "x-frame-options: deny", "referrer-policy: no-referrer",
                "permissions-policy: camera=(), geolocation=(), microphone=()", "cross-origin-resource-policy: same-origin",
            ] {
                assert!(answer.contains(&format!("\r\n{header}\r\n")), "{line}: {header}: {answer}");
            }
            let page = line.contains("doc");
            let policy = if page { "default-src 'self'" } else { "default-src 'none'; frame-ancestors 'none'" };
            assert_eq!(answer.matches("\r\ncontent-security-policy: ").count(), 1, "{line}");
            assert!(answer.contains(&format!("\r\ncontent-security-policy: {policy}")), "{line}: {answer}");
            // Nobody is told to come by https alone who may have no other way.
            assert!(!answer.contains("strict-transport-security"), "{line}");
        }
    }

    async fn a_foreign_origin_is_not_repeated(app: TestApp) {
        let evil = "Origin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n";
        for (line, headers) in [("OPTIONS /api/v1/users/me", evil), ("GET /api/v1/users/me", evil), ("GET /health", "Origin: null\r\n")] {
            let answer = ask(&app, line, headers).await;
            assert!(!answer.contains("evil.example") && !answer.contains("access-control-allow-origin"), "{answer}");
        }
        // Also what is refused before its route can be read by the origins that are known.
        let known = ask(&app, &format!("GET /{}", "a".repeat(9_000)), "Origin: http://localhost:3000\r\n").await;
        assert_eq!(status(&known), "414");
        assert!(known.contains("access-control-allow-origin: http://localhost:3000"), "{known}");
    }

    async fn a_method_that_a_route_lacks_is_405_and_says_which_it_has(app: TestApp) {
        let document = app.anon.get("/openapi.json").await.json();
        for (path, item) in document["paths"].as_object().expect("paths") {
            let concrete = path.replace(['{', '}'], "");
            for method in ["TRACE", "CONNECT", "BREW", "POST", "DELETE"] {
                if item.get(method.to_ascii_lowercase()).is_some() { continue }
                let answer = ask(&app, &format!("{method} {concrete}"), "").await;
                assert_eq!(status(&answer), "405", "{method} {path}: {answer}");
                let allow = answer.split("\r\nallow: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                let allow = allow.unwrap_or_else(|| panic!("{method} {path} has no Allow: {answer}"));
                for known in item.as_object().expect("operations").keys().filter(|key| key.len() <= 6) {
                    assert!(allow.contains(known.as_str()), "{path}: {allow} lacks {known}");
                }
            }
        }
    }

    async fn addresses_and_headers_have_limits(app: TestApp) {
        let at = |bytes: usize| format!("GET /{}", "a".repeat(bytes - 1));
        assert_eq!(status(&ask(&app, &at(8 * 1024), "").await), "404");
        let long = ask(&app, &at(8 * 1024 + 1), "").await;
        assert!(status(&long) == "414" && long.contains("uritoolongexception"), "{long}");
        let many = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
        assert_eq!(status(&ask(&app, "GET /health", &many).await), "431");
        let large = format!("x-large: {}\r\n", "a".repeat(16 * 1024));
        assert_eq!(status(&ask(&app, "GET /health", &large).await), "431");
    }

    async fn a_request_whose_end_can_be_told_in_two_ways_hides_no_other(app: TestApp) {
        app.alice.ensure().await;
        let key = testkit::app::SERVICE_KEY;
        let head = format!("POST /api/v1/noop HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n");
        let hidden = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
        for (lines, body) in [
            ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "2\r\n{}\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked, identity\r\n", "2\r\n{}\r\n0\r\n\r\n"),
            ("Transfer-Encoding: xchunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
            ("Content-Length: 2\r\nContent-Length: 50\r\n", "{}"),
            ("Content-Length: +2\r\n", "{}"),
            ("Content-Length: 0x2\r\n", "{}"),
            ("Content-Length : 2\r\n", "{}"),
            ("X-Folded: a\r\n b\r\nContent-Length: 2\r\n", "{}"),
        ] {
            let answer = app.raw(format!("{head}{lines}\r\n{body}{hidden}")).await;
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lines:?}: {answer}");
            assert!(!answer.contains("alive"), "{lines:?}: {answer}");
            let chunked = lines.contains("chunked\r\n") && lines.contains("Content-Length");
            assert_eq!(status(&answer), if chunked { "200" } else { "400" }, "{lines:?}: {answer}");
        }
    }

    async fn a_host_of_any_kind_changes_nothing(app: TestApp) {
        for host in ["Host: evil.example\r\n", "Host: a b\r\n", "", "Host: x\r\nHost: y\r\n", "Host: <script>\r\n"] {
            let answer = app.raw(format!("GET /nothing HTTP/1.1\r\nConnection: close\r\n{host}\r\n")).await;
            assert!(matches!(status(&answer), "404" | "400"), "{host}: {answer}");
            assert!(!answer.contains("evil") && !answer.contains("<script>"), "{answer}");
        }
    }

    async fn large_texts_are_compressed_for_whoever_asks(app: TestApp) {
        let plain = ask(&app, "GET /openapi.json", "").await;
        assert!(!plain.contains("content-encoding") && plain.contains("\"openapi\""));
        for coding in ["gzip", "zstd"] {
            let answer = ask(&app, "GET /openapi.json", &format!("Accept-Encoding: {coding}\r\n")).await;
            let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
            assert!(head.contains(&format!("\r\ncontent-encoding: {coding}")), "{head}");
            assert!(head.contains("\r\nvary: ") && head.contains("accept-encoding"), "{head}");
            assert!(body.len() < plain.len() / 2 && !body.contains("\"openapi\""), "{} bytes", body.len());
        }
        // Small ones are not, and neither are files.
        assert!(!ask(&app, "GET /health/live", "Accept-Encoding: gzip\r\n").await.contains("content-encoding"));
        app.alice.ensure().await;
        let text = "a line of text\n".repeat(500);
        let file = app.alice.upload("notes.txt", text.as_bytes()).await.data();
        let url = file["download_url"].as_str().or(file["url"].as_str()).or(file["file_url"].as_str());
        let url = url.unwrap_or_else(|| panic!("no address: {file}"));
        let path = &url[url.find("/files/").expect("a local address")..];
        let served = ask(&app, &format!("GET {path}"), "Accept-Encoding: gzip, zstd\r\n").await;
        assert!(served.ends_with("a line of text\n") && !served.contains("content-encoding"), "{served:.400}");
        assert!(served.contains("\r\ncross-origin-resource-policy: cross-origin\r\n"), "{served:.900}");
    }

    async fn http_2_is_spoken_by_whoever_begins_with_it(app: TestApp) {
        let mut stream = TcpStream::connect(app.address).await.expect("a connection");
        // The preface, empty settings, and one request: GET /health/live, by the static table of RFC 7541.
        let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        let path = b"/health/live";
        let mut fields = vec![0x82, 0x86, 0x04, path.len() as u8];
        fields.extend_from_slice(path);
        fields.extend_from_slice(b"\x01\x01x");
        said.extend_from_slice(&[0, 0, fields.len() as u8, 1, 5, 0, 0, 0, 1]);
        said.extend_from_slice(&fields);
        stream.write_all(&said).await.expect("sent");
        // Frames: 9 bytes of head, the third the length, the fourth the kind; the first header is `:status`.
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("a frame");
            let mut frame = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut frame).await.expect("its content");
            if head[3] == 1 {
                assert_eq!(frame[0], 0x88, "200: {frame:?}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_are_told_to_come_by_https_where_callers_do() {
    let app = TestApp::start_with(Engine::Sqlite, &[("PUBLIC_URL", "https://users.example.com")]).await;
    let answer = ask(&app, "GET /health", "").await;
    assert!(answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{answer}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_be_under_way_is_refused_at_once() {
    let app = TestApp::start_with(Engine::Sqlite, &[("MAX_CONCURRENT_REQUESTS", "1")]).await;
    let key = testkit::app::SERVICE_KEY;
    let mut slow = TcpStream::connect(app.address).await.expect("a connection");
    let head = format!(
        "POST /api/v1/noop HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.expect("sent");
    // Its place is taken as soon as its header has arrived.
    let refused = loop {
        let answer = app.backend.post("/api/v1/noop", json!({})).await;
        if answer.status != 200 {
            break answer;
        }
    };
    let body = refused.with(503);
    assert_eq!(
        (&body["error_code"], refused.header("retry-after")),
        (&json!("ServiceUnavailable"), Some("1"))
    );
    let _ = app.anon.get("/health").await.ok();
    let _ = app.anon.get("/health/ready").await.ok();
    slow.write_all(b"}").await.expect("sent");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let _ = app.backend.post("/api/v1/noop", json!({})).await.ok();
    app.finish().await;
}
