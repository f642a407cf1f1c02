//! Erasing: a user with canaries in everything that it can say, and none left when it is gone.

use crate::support::{balance, session};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use testkit::actors::user_path;
use testkit::s3::S3Server;
use testkit::{Actor, Engine, TestApp, both_engines};
use user_service::db::Db;

/// What stands in everything that the user says, in any case.
pub const CANARY: &str = "kanarienvogel7";

/// The tables in which it then stands.
const TABLES: [&str; 14] = [
    "credit_accounts",
    "credit_entries",
    "credit_grants",
    "credit_holds",
    "credit_references",
    "files",
    "idempotency_keys",
    "messages",
    "session_memories",
    "sessions",
    "spending_counters",
    "usage_records",
    "usage_rollups",
    "users",
];

/// Puts it wherever something can be put.
pub async fn sing(app: &TestApp) -> Actor {
    let id = format!("auth0|{CANARY}");
    let user = app.user(&id);
    let _ = app.bob.ensure().await;
    let _ = user.ensure().await;
    let say = |what: &str| format!("{CANARY} {what}");
    let own = |path: &str| user.own(path);
    let key = |n: u32| format!("{CANARY}-{n}");
    let _ = user.post_once(&key(1), "/api/v1/users/ensure", json!({"name": say("name")})).await.ok();
    let _ = user
        .patch(&own(""), json!({"name": say("other"), "email": format!("{CANARY}@other.example")}))
        .await
        .ok();
    // The ledger, by the user and by a key.
    let grant = json!({"amount": 50, "source": "promo", "description": say("grant"), "metadata": {"a": say("b")},
        "reference_id": say("reference"), "scope": {"models": [say("model")], "features": [say("feature")]}});
    let _ = app.backend.post_once(&key(2), &own("/credits/grants"), grant).await.ok();
    for (n, actor) in [(3, &user), (4, &app.backend)] {
        let spend = json!({"amount": 5, "description": say("spend"), "metadata": {CANARY: "x"}, "endpoint": say("endpoint"),
            "model_name": say("model"), "feature": say("feature"), "session_id": say("session"), "tags": [say("tag")]});
        let _ = actor.post_once(&key(n), &own("/credits/consume"), spend).await.ok();
    }
    let hold = json!({"amount": 5, "description": say("hold"), "metadata": {"a": say("b")}, "model_name": say("model"),
        "feature": say("feature"), "session_id": say("session"), "key": say("key"), "tags": [say("tag")]});
    let settled = user.post(&own("/credits/holds"), hold.clone()).await.ok();
    let settled = own(&format!("/credits/holds/{}/capture", settled["hold_id"].as_str().expect("an id")));
    let _ = user
        .post(&settled, json!({"amount": 2, "description": say("capture"), "metadata": {"a": say("b")}}))
        .await
        .ok();
    let _ = app.backend.post_once(&key(5), &own("/credits/holds"), hold).await.ok();
    let limits = json!({"limits": [{"id": CANARY, "per": "tag", "value": say("tag"), "unit": "credits", "window": "month", "amount": 500}]});
    let _ = app.admin.request(reqwest::Method::PUT, &own("/limits")).json(&limits).send().await.ok();
    let charge = json!({"event_type": say("type"), "credits": 1, "tags": [say("tag")], "feature": say("feature"),
        "model_name": say("model"), "event_id": say("event"), "request_data": {"a": say("b")}});
    let _ = user.post(&own("/charges"), charge).await.ok();
    let unpriced = json!({"event_type": say("type"), "model_name": say("unpriced"), "usage": {"prompt_tokens": 7, "completion_tokens": 2}});
    let _ = user.post(&own("/charges"), unpriced).await;
    // Usage.
    for n in 0..3 {
        let record = json!({"event_type": say("type"), "endpoint": say("endpoint"), "session_id": say("session"),
            "trace_id": say("trace"), "calculation_method": say("method"), "model_name": say("model"), "provider": say("provider"),
            "tool_name": say("tool"), "operation_name": say("operation"), "billing_metadata": {"a": say("b")},
            "request_data": {CANARY: 1}, "response_data": {"a": [say("b")]}, "event_id": say(&n.to_string()),
            "credits_charged": 1.5, "cost_usd": 0.5, "prompt_tokens": 10});
        let _ = user.post(&own("/usage"), record).await.ok();
    }
    let batch = json!({"records": [{"user_id": id, "event_type": say("type")}]});
    let _ = app.backend.post_once(&key(6), "/api/v1/usage/batch", batch).await.ok();
    // Sessions.
    for _ in 0..2 {
        let path = session(&user).await;
        let _ = user.patch(&path, json!({"title": say("title"), "conversation_data": {"a": say("b")}, "metadata": {"a": say("b")}})).await.ok();
        let _ = user
            .request(reqwest::Method::PUT, &format!("{path}/summary"))
            .json(&json!({"session_summary": say("summary")}))
            .send()
            .await;
        let message = json!({"role": "user", "content": say("said"), "tool_calls": [{"a": say("b")}], "tool_call_id": say("call"),
            "metadata": {"a": say("b")}, "message_type": "chat"});
        let _ = app
            .backend
            .post_once(&format!("{CANARY}{path}"), &format!("{path}/messages"), message)
            .await
            .ok();
        let _ = user
            .post(
                &format!("{path}/memory"),
                json!({"content": say("memory"), "memory_type": "fact", "metadata": {"a": say("b")}}),
            )
            .await
            .ok();
    }
    // Files.
    for n in 0..2 {
        let text = format!("{CANARY} in a file {n}");
        let _ = user.upload(&format!("{CANARY}-{n}.txt"), text.as_bytes()).await.ok();
    }
    let _ = user
        .post(
            &own("/files/upload-url"),
            json!({"file_name": format!("{CANARY}.txt"), "content_type": "text/plain", "size": 10}),
        )
        .await;
    let _ = user.post("/api/v1/subscriptions", json!({"plan_type": "free"})).await.ok();
    // Enough of it, between that of others, that pages of the database are split and written anew.
    for at in 0..4 {
        let records: Vec<Value> = (0..100)
            .map(|n| {
                let (who, what) = if n % 2 == 0 { (id.as_str(), say("many")) } else { ("auth0|bob", "other".to_owned()) };
                json!({"user_id": who, "event_type": what, "session_id": format!("{what}{n}{at}"), "event_id": format!("{what}{n}{at}"),
                    "model_name": format!("{what}{n}"), "request_data": {"a": what.repeat(20)}})
            })
            .collect();
        let _ = app.backend.post("/api/v1/usage/batch", json!({"records": records})).await.ok();
        for path in [session(&user).await, session(&user).await] {
            let messages: Vec<Value> = (0..50)
                .map(|n| json!({"role": "user", "content": format!("{} {n} {}", say("words"), "lorem ipsum ".repeat(n))}))
                .collect();
            let path = format!("{path}/messages/batch");
            let _ = app.backend.post(&path, json!({"messages": messages})).await.ok();
        }
    }
    let _ = app.admin.post(&own("/suspend"), json!({"reason": say("reason")})).await.ok();
    user
}

/// The places under a folder where the canary is, in bytes of any case or as PostgreSQL's hex.
pub fn heard(folder: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(heard(&path, word));
            continue;
        }
        let name = path.display().to_string();
        let bytes = fs::read(&path).unwrap_or_default().to_ascii_lowercase();
        let hits = bytes.windows(word.len()).filter(|window| *window == word.as_bytes()).count();
        if hits > 0 || name.to_lowercase().contains(word) {
            let at = bytes.windows(word.len()).position(|window| window == word.as_bytes()).unwrap_or(0);
            let around = String::from_utf8_lossy(&bytes[at.saturating_sub(60)..(at + 80).min(bytes.len())])
                .into_owned();
            found.push(format!("{name}: {hits} times: {around:?}"));
        }
    }
    found
}

/// The rows of every table in which it is, on PostgreSQL.
pub async fn told(app: &TestApp, word: &str) -> Vec<String> {
    let Db::Postgres(postgres) = &app.inside().db else { return Vec::new() };
    let connection = postgres.connection().await.expect("a connection");
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
    let mut found = Vec::new();
    for table in connection.query(tables, &[]).await.expect("the tables") {
        let table: String = table.get(0);
        for row in connection.query(&format!("SELECT t::text FROM \"{table}\" t"), &[]).await.expect("rows") {
            let text: String = row.get(0);
            let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
            if text.to_lowercase().contains(word) || text.contains(&hex) {
                found.push(format!("{table}: {text}"));
            }
        }
    }
    found
}

both_engines! {
    async fn an_erased_user_leaves_numbers_and_no_word(app: TestApp) {
        let user = sing(&app).await;
        assert!(!heard(app.data_dir(), CANARY).is_empty(), "it was heard before");
        let tables: BTreeSet<String> = told(&app, CANARY).await.iter().filter_map(|row| row.split(':').next().map(str::to_owned)).collect();
        if !tables.is_empty() {
            assert_eq!(tables.iter().map(String::as_str).collect::<Vec<_>>(), TABLES);
        }
        let before = app.admin.get(&user.own("/usage/stats")).await.data();
        let row = app.admin.get(&user.own("")).await.data()["id"].clone();
        let answer = app.admin.delete(&user.own("?erase=true")).await.ok();
        assert_eq!(answer["data"], json!({"user_id": user.id(), "deleted": true, "erased": true}));
        app.admin.get(&user.own("")).await.refuses(404, "UserNotFoundException", "User not found: auth0|kanarienvogel7");
        let _ = app.sweep().await;
        assert_eq!(told(&app, CANARY).await, Vec::<String>::new());
        assert_eq!(heard(app.data_dir(), CANARY), Vec::<String>::new());
        assert_eq!(left(&app).await, Vec::<String>::new());
        // What was counted is counted still.
        let sql = "SELECT CAST(sum(records) AS BIGINT) FROM usage_rollups WHERE user_id = $1 AND period = 'month'";
        let row = row.as_i64().expect("a number");
        let records = app.inside().db.find::<i64>(sql, &[row.into()]).await.expect("it is read");
        assert_eq!(json!(records), before["total_records"]);
        // The same identity is a stranger, and a second erasure changes nothing of the first.
        let back = user.ensure().await;
        assert_eq!((&back["created"], &back["credits"]), (&json!(true), &json!(1000)));
        assert_ne!(back["user_id"], row);
        let _ = user.post(&user.own("/credits/consume"), json!({"amount": 1})).await.ok();
        let _ = user.delete(&user.own("?erase=true")).await.ok();
        // Grants of a closed account go on expiring, behind the seam.
        app.advance(std::time::Duration::from_secs(40 * 24 * 3600));
        let _ = app.sweep().await;
        let verified = app.admin.post("/api/v1/admin/ledger/verify", json!({})).await;
        assert_eq!(verified.status, 200, "{}", verified.text());
    }

    async fn an_erasure_that_broke_off_is_finished_by_the_job(app: TestApp) {
        let user = sing(&app).await;
        let row = app.admin.get(&user.own("")).await.data()["id"].as_i64().expect("a row");
        let inside = app.inside();
        // It was written down, and then the process died.
        user_service::users::erase::begin(&inside, kernel::UserRowId(row), "key:story").await.expect("begun");
        let _ = app.sweep().await;
        assert_eq!(told(&app, CANARY).await, Vec::<String>::new());
        assert_eq!(heard(app.data_dir(), CANARY), Vec::<String>::new());
        app.admin.get(&user_path(user.id(), "")).await.refuses(404, "UserNotFoundException", "User not found: auth0|kanarienvogel7");
        let done = "SELECT count(*) FROM erasures WHERE status = 'done' AND entries > 5 AND holds = 2";
        assert_eq!(inside.db.find::<i64>(done, &[]).await.expect("read"), Some(1));
    }

    async fn plain_deletion_keeps_what_it_kept(app: TestApp) {
        app.alice.ensure().await;
        let answer = app.alice.delete(&app.alice.own("?erase=false")).await.ok();
        assert_eq!(answer["data"], json!({"user_id": "auth0|alice", "deleted": true}));
        assert_eq!(app.alice.ensure().await["created"], false);
        app.backend.post("/api/v1/users/ensure", json!({"auth0_id": "erased:1"})).await.refuses_field(&["body", "auth0_id"], "must not begin with");
        app.alice.delete(&app.alice.own("?erase=perhaps")).await.refuses_field(&["query", "erase"], "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_a_store_that_is_away_go_when_it_is_back() {
    let mut server = S3Server::start();
    let settings = server.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let app = TestApp::start_with(Engine::Sqlite, &settings).await;
    app.alice.ensure().await;
    let _ = app.alice.upload(&format!("{CANARY}.txt"), CANARY.as_bytes()).await.ok();
    assert!(server.on_disk().iter().any(|path| path.display().to_string().contains(CANARY)));
    tokio::task::block_in_place(|| server.kill());
    let answer = app.alice.delete(&app.alice.own("?erase=true")).await;
    assert_eq!(
        answer.with(503)["message"],
        "The erasure has begun and goes on by itself; something is not available now"
    );
    app.alice.get("/api/v1/users/me").await.refuses(
        404,
        "UserNotFoundException",
        "User not found: auth0|alice",
    );
    tokio::task::block_in_place(|| server.start_again());
    let _ = app.sweep().await;
    // Beside its objects the server keeps notes of its own, also of those that were deleted.
    let own = |path: &Path| path.display().to_string().ends_with(".metadata.json");
    let left: Vec<_> = server
        .on_disk()
        .into_iter()
        .filter(|path| !own(path))
        .filter(|path| {
            let bytes = fs::read(path).unwrap_or_default();
            path.display().to_string().contains(CANARY)
                || bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
        })
        .collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    assert_eq!(heard(app.data_dir(), CANARY), Vec::<String>::new());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_log_that_somebody_reads() {
    let app = TestApp::start_with(Engine::Sqlite, &[]).await;
    app.alice.ensure().await;
    app.bob.ensure().await;
    let reader = rusqlite::Connection::open(app.data_dir().join("story.db")).expect("a connection");
    reader.execute_batch("BEGIN; SELECT count(*) FROM users;").expect("a snapshot");
    let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
    let erased = app.alice.delete(&app.alice.own("?erase=true")).await;
    assert_eq!(erased.status, 503, "{}", erased.text());
    // What others do goes on meanwhile.
    let _ = app.bob.post(&app.bob.own("/credits/consume"), json!({"amount": 1})).await.ok();
    drop(reader);
    app.sweep().await;
    let done = "SELECT count(*) FROM erasures WHERE status = 'done'";
    assert_eq!(app.inside().db.find::<i64>(done, &[]).await.expect("read"), Some(1));
    app.finish().await;
}

both_engines! {
    async fn an_answer_to_many_says_nothing_of_who_was_erased(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let charges = json!({"charges": [
            {"user_id": "auth0|alice", "event_type": "canary", "credits": 1, "description": "canary"},
            {"user_id": "auth0|bob", "event_type": "x", "credits": 1}]});
        let first = app.backend.post_once("batch-1", "/api/v1/charges/batch", charges.clone()).await;
        assert!(first.text().contains("auth0|alice"), "{}", first.text());
        let _ = app.alice.delete(&app.alice.own("?erase=true")).await.ok();
        let again = app.backend.post_once("batch-1", "/api/v1/charges/batch", charges).await;
        assert!(!again.text().contains("alice") && !again.text().contains("canary"), "{}", again.text());
        assert_eq!(balance(&app.bob).await, 999, "it is not done twice");
    }
}

/// On PostgreSQL: the files of tables and indexes in which it is still, once they were written anew.
async fn left(app: &TestApp) -> Vec<String> {
    let Db::Postgres(postgres) = &app.inside().db else { return Vec::new() };
    let line = postgres.line("the story", |_| {}).await.expect("a connection");
    for duty in ["SET statement_timeout = 0", "VACUUM (FULL, ANALYZE)", "CHECKPOINT"] {
        line.client.batch_execute(duty).await.expect(duty);
    }
    let files = format!(
        "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'i', 't') AND pg_relation_filepath(oid) IS NOT NULL \
         AND position('{CANARY}'::bytea IN pg_read_binary_file(pg_relation_filepath(oid))) > 0"
    );
    line.client.query(&files, &[]).await.expect("the files are read").iter().map(|row| row.get(0)).collect()
}

/// A long history is sealed anew in many pieces, while its grants end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_history_is_sealed_anew_piece_by_piece() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::start(engine).await;
        app.alice.ensure().await;
        let charges: Vec<Value> = (0..600)
            .map(|n| json!({"user_id": "auth0|alice", "event_type": "x", "credits": 1, "tags": [format!("{CANARY}{n}")]}))
            .collect();
        let _ = app.alice.post("/api/v1/charges/batch", json!({"charges": charges})).await.ok();
        let _ = app.alice.delete(&app.alice.own("?erase=true")).await.ok();
        let entries =
            app.inside().db.find::<i64>("SELECT entries FROM erasures WHERE status = 'done'", &[]).await;
        assert_eq!(entries.expect("read"), Some(601));
        assert_eq!(told(&app, CANARY).await, Vec::<String>::new());
        app.finish().await;
    }
}
