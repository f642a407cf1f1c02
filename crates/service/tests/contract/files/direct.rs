//! Direct uploads on local disk: an address, the bytes, the word that they are there.

use super::{assert_nothing, below, fetch, local, refuses, usage};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Answer, TestApp, both_engines, files};

async fn begin(app: &TestApp, name: &str) -> Value {
    app.alice.post(&app.alice.own("/files/upload-url"), json!({"file_name": name})).await.data()
}

async fn put(app: &TestApp, begun: &Value, bytes: &[u8]) -> Answer {
    app.anon.request(Method::PUT, &local(app, &begun["upload_url"])).body(bytes.to_vec()).send().await
}

async fn complete(app: &TestApp, begun: &Value) -> Answer {
    app.alice.post(&app.alice.own("/files/complete"), json!({"file_id": begun["file_id"]})).await
}

both_engines! {
    async fn a_file_goes_straight_to_the_store(app: TestApp) {
        app.alice.ensure().await;
        let begun = begin(&app, "holiday.PNG").await;
        let path = begun["file_path"].as_str().expect("a path");
        assert!(path.starts_with("users/auth0|alice/files/2025/07/holiday_20250727001126_") && path.ends_with(".png"), "{path}");
        assert_eq!((&begun["method"], &begun["expires_at"]), (&json!("PUT"), &json!("2025-07-27T00:26:26.479685Z")));
        refuses(&complete(&app, &begun).await, 409, "ConflictException");
        assert_eq!(app.alice.get(&app.alice.own("/files")).await.data(), json!([]), "nobody sees it yet");
        let bytes = files::png_of(200_000);
        assert_eq!(put(&app, &begun, &files::png_of(300)).await.status, 200);
        assert_eq!(put(&app, &begun, &bytes).await.status, 200, "until it is complete it may be sent again");
        let done = complete(&app, &begun).await;
        let data = done.data();
        assert_eq!((&data["file_path"], &data["file_size"], &data["content_type"]), (&begun["file_path"], &json!(200_000), &json!("image/png")));
        assert_eq!(fetch(data["download_url"].as_str().expect("an address")).await.bytes().await.expect("bytes"), bytes);
        let again = complete(&app, &begun).await;
        assert_eq!(again.ok(), done.ok(), "completing twice answers the same");
        refuses(&put(&app, &begun, b"changed").await, 409, "ConflictException");
        assert_eq!(usage(&app.alice).await, (1, 200_000));
        assert_eq!(below(&app, "files").len(), 1, "nothing is left where it waited");
        assert_eq!(below(&app, "uploads").len(), 0);
    }

    async fn what_is_completed_is_checked(app: TestApp) {
        app.alice.ensure().await;
        let begun = begin(&app, "invoice.pdf").await;
        for (bytes, status) in [(b"MZ\x90\0".to_vec(), 415), (files::png(), 415), (Vec::new(), 400)] {
            assert_eq!(put(&app, &begun, &bytes).await.status, 200);
            assert_eq!(complete(&app, &begun).await.with(status)["success"], false);
        }
        assert_eq!(usage(&app.alice).await, (0, 0));
        // Put right, it goes through.
        assert_eq!(put(&app, &begun, &files::pdf()).await.status, 200);
        assert_eq!(complete(&app, &begun).await.data()["content_type"], "application/pdf");
        let text = begin(&app, "notes.txt").await;
        assert_eq!(put(&app, &text, b"[1,2]").await.status, 200);
        assert_eq!(complete(&app, &text).await.data()["content_type"], "text/plain", "JSON is a text as well");
        refuses(&app.alice.post(&app.alice.own("/files/upload-url"), json!({"file_name": "run.exe"})).await, 415, "UnsupportedMediaTypeException");
        let large = json!({"file_name": "a.pdf", "file_size": 52_428_801});
        refuses(&app.alice.post(&app.alice.own("/files/upload-url"), large).await, 413, "PayloadTooLargeException");
        app.bob.ensure().await;
        let foreign = app.bob.post(&app.bob.own("/files/complete"), json!({"file_id": begun["file_id"]})).await;
        refuses(&foreign, 404, "FileNotFoundException");
    }

    async fn an_address_works_for_a_quarter_of_an_hour(app: TestApp) {
        app.alice.ensure().await;
        let begun = begin(&app, "a.txt").await;
        assert_eq!(put(&app, &begun, b"in time").await.status, 200);
        app.advance(Duration::from_secs(15 * 60));
        refuses(&put(&app, &begun, b"late").await, 403, "AuthorizationException");
        // Completing is a matter of the hour.
        assert_eq!(complete(&app, &begun).await.data()["file_size"], 7);
    }

    async fn what_is_never_completed_is_swept(app: TestApp) {
        app.alice.ensure().await;
        let begun = begin(&app, "a.txt").await;
        let _ = begin(&app, "b.txt").await;
        assert_eq!(put(&app, &begun, b"never").await.status, 200);
        app.advance(Duration::from_secs(3600));
        app.sweep().await;
        assert_eq!(below(&app, "files").len(), 1, "not before its time");
        app.advance(Duration::from_secs(1));
        app.sweep().await;
        refuses(&complete(&app, &begun).await, 404, "FileNotFoundException");
        assert_nothing(&app, &app.alice).await;
    }

    async fn open_uploads_have_a_number_and_a_key(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/files/upload-url");
        let first = app.alice.post_once("k", &path, json!({"file_name": "a.txt"})).await;
        let again = app.alice.post_once("k", &path, json!({"file_name": "a.txt"})).await;
        assert_eq!(first.body, again.body);
        for _ in 1..20 {
            let _ = begin(&app, "a.txt").await;
        }
        refuses(&app.alice.post(&path, json!({"file_name": "a.txt"})).await, 409, "ConflictException");
        app.advance(Duration::from_secs(3601));
        app.sweep().await;
        let _ = begin(&app, "a.txt").await;
    }
}
