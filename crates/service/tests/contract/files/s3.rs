//! Files in a bucket, on a server that checks every signature.

use super::{about, fetch, refuses, usage};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use testkit::{Engine, TestApp, files};
use user_service::config::{S3 as Settings, S3Keys};
use user_service::files::kind::Kind;
use user_service::files::objects::s3::S3;
use user_service::files::objects::{About, ObjectError};
use user_service::files::spool::{Spool, Spools};

/// The service on a bucket.
async fn on(server: &S3Server) -> TestApp {
    let settings = server.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    TestApp::start_with(Engine::Sqlite, &settings).await
}

async fn asked(method: Method, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
    let client = Client::builder().no_proxy().build().expect("a client").request(method, url);
    let request = headers.iter().fold(client, |request, (name, value)| request.header(*name, *value));
    request.body(body).send().await.expect("an answer")
}

fn store(server: &S3Server, secret: &str) -> S3 {
    let keys = S3Keys {
        id: ACCESS_KEY.to_owned(),
        secret: kernel::Secret::new(secret.to_owned()),
        session_token: None,
    };
    S3::open(&Settings {
        bucket: BUCKET.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(server.endpoint()),
        keys: Some(keys),
        path_style: true,
    })
    .expect("a store")
}

async fn spool(spools: &Spools, bytes: &[u8]) -> Spool {
    let mut receiving = spools.receive().await.expect("a spool");
    receiving.push(&bytes.to_vec().into()).await.expect("written");
    receiving.finish().await.expect("a spool")
}

async fn put(store: &S3, spools: &Spools, key: &str, bytes: &[u8]) -> Result<String, ObjectError> {
    let about = About::new(Kind::Png, "Übersicht.png");
    let file = spool(spools, bytes).await;
    let upload = store.begin(key, file.size, &about).await?;
    store.put(key, &file, &about, upload.as_deref()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_any_characters_are_stored_listed_signed_and_removed() {
    let (server, folder) = (S3Server::start(), tempfile::tempdir().expect("a folder"));
    let spools = Spools::open(folder.path(), "own").expect("spools");
    let store = store(&server, SECRET_KEY);
    store.check().await.expect("it is healthy");
    let keys =
        ["plain.png", "a|b/c.png", "a#b.png", "a+b.png", "é你.png", "a b.png", "50%.png", "a&b=c?d.png"];
    for key in keys {
        put(&store, &spools, key, key.as_bytes()).await.expect(key);
        let url = store.address_to_get(key, Duration::from_secs(60)).await.expect("an address");
        let answer = asked(Method::GET, &url, &[], Vec::new()).await;
        assert_eq!(answer.status(), 200, "{key}");
        assert_eq!(answer.headers()["content-type"], "image/png");
        assert_eq!(
            answer.headers()["content-disposition"],
            "attachment; filename=\"_bersicht.png\"; filename*=UTF-8''%C3%9Cbersicht.png"
        );
        assert_eq!(answer.bytes().await.expect("bytes"), key.as_bytes());
        let range = asked(Method::GET, &url, &[("range", "bytes=1-2")], Vec::new()).await;
        assert_eq!(
            (range.status().as_u16(), range.bytes().await.expect("bytes").to_vec()),
            (206, key.as_bytes()[1..3].to_vec())
        );
        // What was signed to read does not write.
        assert_eq!(asked(Method::PUT, &url, &[], b"x".to_vec()).await.status(), 403, "{key}");
        let to = store.address_to_put(key, Duration::from_secs(60)).await.expect("an address");
        assert_eq!(asked(Method::PUT, &to, &[], b"changed".to_vec()).await.status(), 200, "{key}");
        let fetched = store.fetch(key, 7, &spools).await.expect("the object");
        assert_eq!(std::fs::read(fetched.path()).expect("bytes"), b"changed");
        assert_eq!(store.fetch(key, 6, &spools).await.map(drop), Err(ObjectError::TooLarge));
    }
    let client = AmazonS3Builder::new()
        .with_bucket_name(BUCKET)
        .with_region("us-east-1")
        .with_endpoint(server.endpoint())
        .with_allow_http(true)
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .build()
        .expect("a client");
    use futures_util::TryStreamExt as _;
    let listed: Vec<_> =
        client.list(None).map_ok(|object| object.location.to_string()).try_collect().await.expect("a list");
    let mut wanted = keys.map(str::to_owned);
    let mut listed = listed;
    wanted.sort();
    listed.sort();
    assert_eq!(listed, wanted);
    for key in keys {
        store.delete(key).await.expect(key);
        assert!(client.head(&Key::parse(key).expect("a key")).await.is_err());
    }
    assert_eq!(store.fetch("plain.png", 100, &spools).await.map(drop), Err(ObjectError::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_was_changed_or_is_late_is_refused() {
    let (server, folder) = (S3Server::start(), tempfile::tempdir().expect("a folder"));
    let spools = Spools::open(folder.path(), "own").expect("spools");
    let store = store(&server, SECRET_KEY);
    put(&store, &spools, "a.png", b"hello").await.expect("stored");
    put(&store, &spools, "b.png", b"other").await.expect("stored");
    let url = store.address_to_get("a.png", Duration::from_secs(60)).await.expect("an address");
    for changed in [
        url.replace("a.png", "b.png"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
        format!("{}{}", &url[..url.len() - 1], if url.ends_with('0') { '1' } else { '0' }),
        url.split_once('?').expect("a query").0.to_owned(),
    ] {
        assert_eq!(asked(Method::GET, &changed, &[], Vec::new()).await.status(), 403, "{changed}");
    }
    let short = store.address_to_get("a.png", Duration::from_secs(1)).await.expect("an address");
    let until = Instant::now() + Duration::from_secs(20);
    while asked(Method::GET, &short, &[], Vec::new()).await.status() != 403 {
        assert!(Instant::now() < until, "the address never ends");
    }
    let stranger = self::store(&server, "another-secret");
    assert!(matches!(put(&stranger, &spools, "c.png", b"x").await, Err(ObjectError::Unavailable(_))));
    assert!(matches!(stranger.check().await, Err(ObjectError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_go_in_parts() {
    let (server, folder) = (S3Server::start(), tempfile::tempdir().expect("a folder"));
    let spools = Spools::open(folder.path(), "own").expect("spools");
    let store = store(&server, SECRET_KEY);
    let mib = 1024 * 1024;
    for size in [5 * mib, 5 * mib + 1, 10 * mib, 12 * mib + 7] {
        let bytes = files::png_of(size);
        put(&store, &spools, "large.png", &bytes).await.expect("stored");
        let fetched = store.fetch("large.png", 100 * mib as u64, &spools).await.expect("the object");
        assert!(std::fs::read(fetched.path()).expect("bytes") == bytes, "{size}");
    }
    let about = About::new(Kind::Png, "a.png");
    let upload = store.begin("half.png", 6 * mib as u64, &about).await.expect("begun").expect("in parts");
    store.abort("half.png", &upload).await.expect("ended");
    assert_eq!(server.on_disk().iter().filter(|path| path.to_string_lossy().contains("upload")).count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_story_over_a_bucket() {
    let server = S3Server::start();
    let app = on(&server).await;
    app.alice.ensure().await;
    assert_eq!(app.anon.get("/health").await.ok()["checks"]["file_store"], "s3");
    for (name, bytes, media_type) in
        files::each().into_iter().chain([("large.png", files::png_of(6_000_000), "image/png")])
    {
        let data = app.alice.upload(name, &bytes).await.data();
        let url = data["download_url"].as_str().expect("an address");
        assert!(
            url.starts_with(&format!("{}/{BUCKET}/users/", server.endpoint()))
                && url.contains("X-Amz-Expires=3600"),
            "{url}"
        );
        let answer = fetch(url).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["content-type"].to_str().ok()),
            (200, Some(media_type))
        );
        assert!(
            answer.headers()["content-disposition"]
                .to_str()
                .is_ok_and(|value| value.starts_with("attachment; "))
        );
        assert!(answer.bytes().await.expect("bytes") == bytes, "{name}");
        assert!(data["etag"].as_str().is_some_and(|etag| !etag.is_empty() && !etag.contains('"')), "{data}");
    }
    let sent_on = app
        .alice
        .get(&about(
            &app.alice,
            "/download",
            &app.alice.get(&app.alice.own("/files")).await.data()[0]["file_path"],
        ))
        .await;
    assert_eq!(fetch(sent_on.header("location").expect("an address")).await.status(), 200);
    // Straight into the bucket.
    let begun =
        app.alice.post(&app.alice.own("/files/upload-url"), json!({"file_name": "direct.png"})).await.data();
    let complete = async || {
        app.alice.post(&app.alice.own("/files/complete"), json!({"file_id": begun["file_id"]})).await
    };
    refuses(&complete().await, 409, "ConflictException");
    let to = begun["upload_url"].as_str().expect("an address");
    assert!(to.contains("/staging/"), "never the file's own key");
    assert_eq!(asked(Method::PUT, to, &[], files::png_of(5_500_000)).await.status(), 200);
    let data = complete().await.data();
    assert_eq!((&data["file_path"], &data["file_size"]), (&begun["file_path"], &json!(5_500_000)));
    // Whoever still has the address changes nothing of what was checked.
    assert_eq!(asked(Method::PUT, to, &[], b"MZ".to_vec()).await.status(), 200);
    assert_eq!(
        fetch(data["download_url"].as_str().expect("an address")).await.bytes().await.expect("bytes").len(),
        5_500_000
    );
    app.advance(Duration::from_secs((15 + 61) * 60));
    app.sweep().await;
    assert!(
        !server.on_disk().iter().any(|path| path.to_string_lossy().contains("staging")),
        "{:?}",
        server.on_disk()
    );
    for file in app.alice.get(&app.alice.own("/files")).await.data().as_array().expect("files") {
        let _ = app.alice.delete(&about(&app.alice, "", &file["file_path"])).await.ok();
    }
    assert_eq!((usage(&app.alice).await, objects(&server)), ((0, 0), Vec::<String>::new()));
    app.finish().await;
}

/// What the server has on its disk, its own notes left aside.
fn objects(server: &S3Server) -> Vec<String> {
    let names = server.on_disk().into_iter().map(|path| path.display().to_string());
    names
        .filter(|path| {
            path.contains(&format!("/{BUCKET}/")) || path.contains("upload_id") || path.contains("part")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_is_503_and_leaves_nothing_half_done() {
    let mut server = S3Server::start();
    let app = on(&server).await;
    app.alice.ensure().await;
    let kept = app.alice.upload("a.png", &files::png()).await.data();
    let before = usage(&app.alice).await;
    let begun =
        app.alice.post(&app.alice.own("/files/upload-url"), json!({"file_name": "b.png"})).await.data();
    let to = begun["upload_url"].as_str().expect("an address");
    assert_eq!(asked(Method::PUT, to, &[], files::png()).await.status(), 200);
    server.kill();
    for bytes in [files::png(), files::png_of(6_000_000)] {
        let answer = app.alice.upload("b.png", &bytes).await;
        refuses(&answer, 503, "ServiceUnavailable");
        assert!(answer.header("retry-after").is_some());
        assert!(!answer.text().contains("127.0.0.1"), "nothing of the inside: {}", answer.text());
    }
    let complete = async || {
        app.alice.post(&app.alice.own("/files/complete"), json!({"file_id": begun["file_id"]})).await
    };
    refuses(&complete().await, 503, "ServiceUnavailable");
    assert_eq!(usage(&app.alice).await, before);
    assert_eq!(app.alice.get(&app.alice.own("/files")).await.data()[0]["file_id"], kept["file_id"]);
    assert_eq!(
        std::fs::read_dir(app.data_dir().join("uploads")).expect("a folder").count(),
        1,
        "this process's own"
    );
    let until = Instant::now() + Duration::from_secs(20);
    while app.anon.get("/health").await.status != 503 {
        assert!(Instant::now() < until, "it never notices");
    }
    let health: Value = app.anon.get("/health").await.with(503);
    assert_eq!(
        (&health["status"], &health["checks"]["object_store"], &health["checks"]["database"]),
        (&json!("unhealthy"), &json!("down"), &json!("ok"))
    );
    // A deletion is done for everybody, and the bytes go later.
    let _ = app.alice.delete(&about(&app.alice, "", &kept["file_path"])).await.ok();
    assert_eq!(usage(&app.alice).await, (0, 0));
    server.start_again();
    while app.anon.get("/health").await.status != 200 {
        assert!(Instant::now() < until + Duration::from_secs(20), "it never recovers");
    }
    assert_eq!(complete().await.data()["file_size"], json!(files::png().len()));
    assert_eq!(app.alice.upload("c.png", &files::png()).await.status, 200);
    app.advance(Duration::from_secs(3601));
    app.sweep().await;
    assert_eq!(
        (usage(&app.alice).await.0, objects(&server).iter().filter(|path| path.contains("/users/")).count()),
        (2, 2)
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_in_parts_that_a_crash_interrupted_is_ended() {
    use user_service::files::model::{Status, StoredFile};
    use user_service::files::{edits, objects};
    use user_service::writer::{Command, Done};
    let server = S3Server::start();
    let app = on(&server).await;
    let user = kernel::UserRowId(app.alice.ensure().await["user_id"].as_i64().expect("a row"));
    let inside = app.inside();
    let mut file = StoredFile {
        id: 0,
        file_id: "half".to_owned(),
        user,
        path: "files/2025/07/half.png".to_owned(),
        file_name: "half.png".to_owned(),
        kind: Kind::Png,
        size: 6_000_000,
        sha256: "00".to_owned(),
        etag: String::new(),
        status: Status::Storing,
        upload_id: None,
        staged_until: None,
        created_at: app.now(),
    };
    let reserved = inside.writer.execute(Command::Edit(edits::reserve(&file, 10_000_000))).await;
    let Ok(Done::Edited(Some(id))) = reserved else { panic!("{reserved:?}") };
    file.id = id;
    let key = objects::key(user, &file.path);
    let begun = inside.files.objects.begin(&key, 6_000_000, &About::new(Kind::Png, "half.png")).await;
    let upload = begun.expect("begun").expect("in parts");
    inside.writer.execute(Command::Edit(edits::set_upload(&file, &upload))).await.expect("noted");
    assert!(server.on_disk().iter().any(|path| path.to_string_lossy().contains(&upload)));
    drop(inside);
    app.advance(Duration::from_secs(3601));
    app.sweep().await;
    assert!(!server.on_disk().iter().any(|path| path.to_string_lossy().contains(&upload)));
    assert_eq!(usage(&app.alice).await, (0, 0));
    app.finish().await;
}
