//! §9: files on local disk, on both engines.

mod addresses;
mod direct;
mod left_over;
mod limits;
mod s3;

use crate::support::{NOW, column, envelope};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use testkit::{Actor, Answer, TestApp, both_engines, files};

/// Fetches an address as a browser would, without a token.
async fn fetch(url: &str) -> reqwest::Response {
    reqwest::Client::builder().no_proxy().build().expect("a client").get(url).send().await.expect("an answer")
}

/// The path of an address, for an actor.
fn local(app: &TestApp, url: &Value) -> String {
    url.as_str().expect("an address").strip_prefix(&app.url()).expect("an address of ours").to_owned()
}

/// A route that takes a file's path.
fn about(actor: &Actor, route: &str, path: &Value) -> String {
    let path = path.as_str().expect("a path");
    let mut query = String::new();
    for byte in path.bytes() {
        query.push_str(&format!("%{byte:02X}"));
    }
    actor.own(&format!("/files{route}?file_path={query}"))
}

/// What of the user's files is counted.
async fn usage(actor: &Actor) -> (i64, i64) {
    let list = actor.get(&actor.own("/files")).await.ok();
    (list["usage"]["files"].as_i64().expect("a number"), list["usage"]["bytes"].as_i64().expect("a number"))
}

/// Every file below a folder of the data folder.
pub fn below(app: &TestApp, folder: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&app.data_dir().join(folder), &mut found);
    // The lock of this process's folder is no upload.
    found.retain(|path| !path.ends_with("lock"));
    found
}

/// Nothing of an upload is left: no row, no count, no object, no spool.
async fn assert_nothing(app: &TestApp, actor: &Actor) {
    assert_eq!(usage(actor).await, (0, 0));
    assert_eq!(actor.get(&actor.own("/files")).await.data(), json!([]));
    assert_eq!(below(app, "files"), Vec::<PathBuf>::new());
    assert_eq!(below(app, "uploads"), Vec::<PathBuf>::new());
}

fn refuses(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.with(status)["error_code"], code);
}

both_engines! {
    async fn the_documented_upload_is_answered_as_documented(app: TestApp) {
        app.alice.ensure().await;
        let pdf = files::pdf();
        let answer = app.alice.upload("document.pdf", &pdf).await.ok();
        let data = &answer["data"];
        let (path, id) = (data["file_path"].as_str().expect("a path"), data["file_id"].as_str().expect("an id"));
        let unique = &id[28..];
        assert_eq!(path, format!("users/auth0|alice/files/2025/07/document_20250727001126_{unique}.pdf"));
        assert_eq!(answer, envelope("File uploaded successfully", json!({
            "file_id": id, "file_path": path, "file_name": "document.pdf", "download_url": data["download_url"],
            "file_size": pdf.len(), "content_type": "application/pdf", "sha256": data["sha256"], "etag": data["sha256"],
            "uploaded_at": NOW,
        })));
        let list = app.alice.get(&app.alice.own("/files")).await.ok();
        assert_eq!(list["message"], "Retrieved 1 files");
        assert_eq!(list["usage"], json!({"files": 1, "bytes": pdf.len(), "quota": 1_073_741_824}));
        assert_eq!(list["data"], json!([{
            "file_id": id, "file_path": path, "file_name": "document.pdf", "download_url": data["download_url"],
            "file_size": pdf.len(), "content_type": "application/pdf", "sha256": data["sha256"], "etag": data["sha256"],
            "last_modified": NOW,
        }]));
        let info = app.alice.get(&about(&app.alice, "/info", &data["file_path"])).await.ok();
        assert_eq!(info, envelope("File retrieved successfully", list["data"][0].clone()));
        let sent_on = app.alice.get(&about(&app.alice, "/download", &data["file_path"])).await;
        let body = sent_on.with(302);
        assert_eq!(sent_on.header("location"), data["download_url"].as_str());
        assert_eq!(body["data"], json!({"file_path": path, "download_url": data["download_url"], "expires_in": 3600}));
        let fetched = fetch(data["download_url"].as_str().expect("an address")).await;
        assert_eq!(fetched.bytes().await.expect("bytes"), pdf);
        let deleted = app.alice.delete(&about(&app.alice, "", &data["file_path"])).await.ok();
        assert_eq!(deleted, envelope("File deleted successfully", json!({"file_path": path, "deleted": true})));
        for route in ["/info", "/download"] {
            refuses(&app.alice.get(&about(&app.alice, route, &data["file_path"])).await, 404, "FileNotFoundException");
        }
        refuses(&app.alice.delete(&about(&app.alice, "", &data["file_path"])).await, 404, "FileNotFoundException");
        refuses(&app.anon.get(&local(&app, &data["download_url"])).await, 404, "FileNotFoundException");
        assert_nothing(&app, &app.alice).await;
    }

    async fn every_accepted_type_is_told_by_its_bytes_and_comes_back(app: TestApp) {
        app.alice.ensure().await;
        for (name, bytes, media_type) in files::each() {
            let data = app.alice.upload(name, &bytes).await.data();
            assert_eq!(data["content_type"], media_type, "{name}");
            let fetched = fetch(data["download_url"].as_str().expect("an address")).await;
            let kind = fetched.headers()["content-type"].to_str().expect("a type").to_owned();
            assert_eq!(kind.split(';').next(), Some(media_type));
            assert_eq!(fetched.bytes().await.expect("bytes"), bytes, "{name}");
        }
        let png = app.alice.upload("holiday.exe", &files::png()).await.data();
        assert_eq!(png["content_type"], "image/png");
        assert!(png["file_path"].as_str().is_some_and(|path| path.ends_with(".png")), "{png}");
        assert_eq!(usage(&app.alice).await.0, 11);
    }

    async fn every_other_type_is_refused_whatever_it_is_called(app: TestApp) {
        app.alice.ensure().await;
        for (what, bytes) in files::refused() {
            for name in ["invoice.pdf", "notes.txt"] {
                let answer = app.alice.upload(name, &bytes).await;
                assert_eq!(answer.status, 415, "{what}: {}", answer.text());
                refuses(&answer, 415, "UnsupportedMediaTypeException");
                assert!(answer.text().contains("PDF, CSV, Excel (xls, xlsx), JPEG, PNG, GIF, WebP, plain text and JSON"));
            }
        }
        assert_nothing(&app, &app.alice).await;
    }

    async fn names_are_kept_and_paths_are_safe(app: TestApp) {
        app.alice.ensure().await;
        for (given, kept, stem) in [
            ("Übersicht 你好.txt", "Übersicht 你好.txt", "Übersicht_你好"),
            ("../../etc/passwd", "passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini", "boot"),
            ("", "file", "file"),
            ("....", "file", "file"),
            ("a|b#c+d%e?.txt", "a|b#c+d%e?.txt", "a_b_c_d_e_"),
            ("CON.txt", "CON.txt", "CON"),
        ] {
            let data = app.alice.upload(given, b"hello").await.data();
            let path = data["file_path"].as_str().expect("a path");
            assert_eq!(data["file_name"], kept, "{given:?}");
            assert!(path.starts_with(&format!("users/auth0|alice/files/2025/07/{stem}_20250727001126_")), "{path}");
            let info = app.alice.get(&about(&app.alice, "/info", &data["file_path"])).await.data();
            assert_eq!(info["file_name"], kept);
            let fetched = fetch(data["download_url"].as_str().expect("an address")).await;
            assert_eq!(fetched.status(), 200, "{given:?}");
        }
        refuses(&app.alice.upload("nul\0l.txt", b"hello").await, 400, "ValidationException");
        let long = app.alice.upload(&format!("{}.txt", "长".repeat(300)), b"hello").await.data();
        assert!(long["file_name"].as_str().is_some_and(|name| name.chars().count() == 255));
        assert_eq!(fetch(long["download_url"].as_str().expect("an address")).await.status(), 200);
    }

    async fn users_are_apart_even_when_their_ids_look_alike(app: TestApp) {
        let (pipe, line, plus) = (app.user("a|b"), app.user("a_b"), app.user("a+b"));
        for (user, email) in [(&pipe, "pipe@example.com"), (&line, "line@example.com"), (&plus, "plus@example.com")] {
            let _ = user.post("/api/v1/users/ensure", json!({"email": email})).await.ok();
        }
        let theirs = pipe.upload("secret.txt", b"the pipe's").await.data();
        let own = line.upload("secret.txt", b"the line's").await.data();
        for list in [&line, &plus] {
            let foreign = list.get(&about(list, "/info", &theirs["file_path"])).await;
            refuses(&foreign, 403, "AuthorizationException");
            refuses(&list.delete(&about(list, "", &theirs["file_path"])).await, 403, "AuthorizationException");
            refuses(&list.get(&list.own("/files?prefix=users/a%7Cb/files/")).await, 403, "AuthorizationException");
        }
        // Not even a program may name one user and mean another.
        let mixed = about(&line, "/info", &theirs["file_path"]);
        refuses(&app.backend.get(&mixed).await, 403, "AuthorizationException");
        for wrong in ["users/a_b/files/none.txt", "users/a_b/files/../../a|b/files/x", "users/a_b/files/a\0b"] {
            refuses(&line.get(&about(&line, "/info", &json!(wrong))).await, 404, "FileNotFoundException");
        }
        for wrong in ["files/none.txt", "/etc/passwd", "users/a_b", "users/a_bc/files/x", "users//files/x"] {
            refuses(&line.get(&about(&line, "/info", &json!(wrong))).await, 403, "AuthorizationException");
        }
        line.get(&line.own("/files/info")).await.refuses_field(&["query", "file_path"], "Field required");
        assert_eq!(column(&line.get(&line.own("/files")).await.data(), "file_path"), [own["file_path"].clone()]);
        // An unencoded plus arrives as a space.
        let data = plus.upload("x.txt", b"plus").await.data();
        let raw = plus.own(&format!("/files/info?file_path={}", data["file_path"].as_str().expect("a path")));
        assert_eq!(plus.get(&raw).await.data()["file_id"], data["file_id"]);
    }

    async fn lists_take_a_prefix_and_come_in_pages(app: TestApp) {
        app.alice.ensure().await;
        let mut paths = Vec::new();
        for (name, days) in [("a%1", 0), ("a_2", 0), ("b", 10), ("c", 30)] {
            app.advance(std::time::Duration::from_secs(days * 86_400));
            let data = app.alice.upload(&format!("{name}.txt"), b"x").await.data();
            paths.insert(0, data["file_path"].clone());
        }
        let list = async |query: &str| app.alice.get(&app.alice.own(&format!("/files{query}"))).await.ok();
        assert_eq!(column(&list("").await["data"], "file_path"), paths);
        let root = "users/auth0%7Calice/";
        for (prefix, found) in [
            ("2025/07/", &paths[2..]), ("2025/08/", &paths[1..2]), ("2025/09/", &paths[..1]), ("2025/07/a_", &paths[2..]),
            ("2025/07/a__", &paths[..0]), ("2025/07/a%25", &paths[..0]), ("2024", &paths[..0]), ("/2025/08/b", &paths[1..2]),
            (&format!("{root}files/2025/08/"), &paths[1..2]), (&format!("{root}files/"), &paths[..]), (root, &paths[..]),
            ("users/auth0%7Calice", &paths[..]), ("users/", &paths[..]), ("2025/07/A_", &paths[..0]),
        ] {
            let rows = list(&format!("?prefix={prefix}")).await;
            assert_eq!(column(&rows["data"], "file_path"), found, "{prefix}");
        }
        let first = list("?limit=3").await;
        assert_eq!(first["pagination"]["has_more"], true);
        let cursor = first["pagination"]["next_cursor"].as_str().expect("a cursor");
        let second = list(&format!("?limit=3&cursor={cursor}")).await;
        assert_eq!([column(&first["data"], "file_path"), column(&second["data"], "file_path")].concat(), paths);
        assert_eq!(column(&list("?limit=2&offset=1").await["data"], "file_path"), paths[1..3]);
        assert_eq!(list("").await["pagination"]["limit"], 100);
        app.alice.get(&app.alice.own("/files?prefix=a%00b")).await.refuses_field(&["query", "prefix"], "NUL");
        app.alice.get(&app.alice.own("/files?limit=1001")).await.refuses_field(&["query", "limit"], "1 to 1000");
    }

    async fn the_same_upload_again_is_the_first_answer(app: TestApp) {
        app.alice.ensure().await;
        let upload = async |key: &str, name: &str, bytes: &[u8]| {
            let request = app.alice.request(reqwest::Method::POST, &app.alice.own("/files/upload"));
            request.header("idempotency-key", key).file(name, bytes).send().await
        };
        let first = upload("k1", "a.txt", b"one").await;
        app.advance(std::time::Duration::from_secs(60));
        let again = upload("k1", "a.txt", b"one").await;
        assert_eq!((again.status, &again.body), (200, &first.body));
        assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
        refuses(&upload("k1", "a.txt", b"two").await, 422, "IdempotencyMismatch");
        refuses(&upload("k1", "b.txt", b"one").await, 422, "IdempotencyMismatch");
        // A refused upload does not use the key up.
        refuses(&upload("k2", "a.txt", b"\0").await, 415, "UnsupportedMediaTypeException");
        let many: Vec<_> = (0..10).map(|_| {
            let request = app.alice.request(reqwest::Method::POST, &app.alice.own("/files/upload"));
            tokio::spawn(request.header("idempotency-key", "k2").file("c.txt", b"three").send())
        }).collect();
        let mut bodies = Vec::new();
        for one in many {
            bodies.push(one.await.expect("an answer").ok());
        }
        assert!(bodies.iter().all(|body| *body == bodies[0]));
        assert_eq!(usage(&app.alice).await, (2, 8));
        assert_eq!(below(&app, "files").len(), 2, "no second object");
        let long = upload(&"k".repeat(256), "a.txt", b"one").await;
        long.refuses_field(&["header", "Idempotency-Key"], "1 to 255");
    }
}
