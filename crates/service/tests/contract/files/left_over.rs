//! What a crash leaves, and that the sweep finds all of it.

use super::{assert_nothing, below, usage};
use kernel::UserRowId;
use serde_json::json;
use std::time::Duration;
use testkit::{TestApp, both_engines};
use user_service::files::kind::Kind;
use user_service::files::model::{Status, StoredFile};
use user_service::files::{edits, store};
use user_service::writer::Command;

/// A file that is just being stored when its process dies.
async fn half_stored(app: &TestApp, user: UserRowId) -> StoredFile {
    let inside = app.inside();
    let mut file = StoredFile {
        id: 0,
        file_id: format!("id-{}", app.now().micros()),
        user,
        path: "files/2025/07/half.txt".to_owned(),
        file_name: "half.txt".to_owned(),
        kind: Kind::Text,
        size: 5,
        sha256: "00".to_owned(),
        etag: String::new(),
        status: Status::Storing,
        upload_id: None,
        staged_until: None,
        created_at: app.now(),
    };
    let done = inside.writer.execute(Command::Edit(edits::reserve(&file, 1_000_000))).await.expect("a row");
    let user_service::writer::Done::Edited(id) = done else { panic!("{done:?}") };
    file.id = id.expect("an id");
    let object = app.data_dir().join(format!("files/users/{user}/files/2025/07/half.txt"));
    std::fs::create_dir_all(object.parent().expect("a folder")).expect("a folder");
    std::fs::write(object, b"hello").expect("an object");
    file
}

both_engines! {
    async fn a_file_that_was_never_finished_goes_after_an_hour(app: TestApp) {
        let row = UserRowId(app.alice.ensure().await["user_id"].as_i64().expect("a row"));
        half_stored(&app, row).await;
        assert_eq!(usage(&app.alice).await, (1, 5), "it counts while it may still come");
        assert_eq!(app.alice.get(&app.alice.own("/files")).await.data(), json!([]));
        app.advance(Duration::from_secs(3600));
        app.sweep().await;
        assert_eq!(below(&app, "files").len(), 1, "not before its time");
        app.advance(Duration::from_secs(1));
        app.sweep().await;
        assert_nothing(&app, &app.alice).await;
    }

    async fn a_deletion_that_was_interrupted_is_finished(app: TestApp) {
        let row = UserRowId(app.alice.ensure().await["user_id"].as_i64().expect("a row"));
        let data = app.alice.upload("a.txt", b"hello").await.data();
        let inside = app.inside();
        let file = store::find_id(&inside.db, row, data["file_id"].as_str().expect("an id")).await.expect("a read").expect("a row");
        inside.writer.execute(Command::Edit(edits::delete(&file, app.now()))).await.expect("an edit");
        drop(inside);
        assert_eq!((usage(&app.alice).await, below(&app, "files").len()), ((0, 0), 1));
        app.advance(Duration::from_secs(301));
        app.sweep().await;
        assert_nothing(&app, &app.alice).await;
        let inside = app.inside();
        assert_eq!(store::find_id(&inside.db, row, &file.file_id).await.expect("a read"), None);
    }

    async fn spools_of_dead_processes_go_and_those_of_living_ones_stay(app: TestApp) {
        app.alice.ensure().await;
        let uploads = app.data_dir().join("uploads");
        let dead = uploads.join("dead");
        std::fs::create_dir(&dead).expect("a folder");
        std::fs::write(dead.join("lock"), b"").expect("a file");
        std::fs::write(dead.join("0"), b"half an upload").expect("a file");
        let alive = uploads.join("alive");
        std::fs::create_dir(&alive).expect("a folder");
        let lock = std::fs::File::create(alive.join("lock")).expect("a file");
        lock.lock().expect("a lock");
        std::fs::write(alive.join("0"), b"half an upload").expect("a file");
        app.sweep().await;
        assert!(!dead.exists() && alive.join("0").exists());
        drop(lock);
        app.sweep().await;
        assert_nothing(&app, &app.alice).await;
    }
}
