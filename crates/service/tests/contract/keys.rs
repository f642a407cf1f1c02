//! Service keys: made by admins, shown once, good for their scopes, and over when they are over.

use crate::support::{column, with};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Actor, Engine, TestApp, both_engines};
use user_service::writer::{Command, Edit, Statement};

const KEYS: &str = "/api/v1/admin/keys";

/// Makes a key with these scopes and more, and gives its id and a program that has it.
pub async fn make(app: &TestApp, scopes: &str, more: Value) -> (String, Actor) {
    let names: Vec<&str> = scopes.split(' ').collect();
    let made = app.admin.post(KEYS, with(json!({"name": "a program", "scopes": names}), more)).await.data();
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    (text("key_id"), app.with_key(&text("key")))
}

async fn rotate(app: &TestApp, key_id: &str, overlap: i64) -> Actor {
    let answer =
        app.admin.post(&format!("{KEYS}/{key_id}/rotate"), json!({"overlap_seconds": overlap})).await.data();
    app.with_key(answer["key"].as_str().expect("a key"))
}

async fn status(actor: &Actor) -> u16 {
    actor.post("/api/v1/noop", json!({})).await.status
}

both_engines! {
    async fn a_key_does_what_its_scopes_say_and_is_shown_once(app: TestApp) {
        app.alice.ensure().await;
        let asked = json!({"name": "chat", "scopes": ["credits:read", "sessions:*"], "expires_at": "2026-01-01", "requests_per_minute": 600,
            "allowed_ips": ["127.0.0.1", "10.9.8.7/8"]});
        let made = app.admin.post(KEYS, asked).await.ok();
        let (key, id) = (made["data"]["key"].as_str().expect("a key"), made["data"]["key_id"].as_str().expect("an id"));
        assert!(key.len() == 53 && key.starts_with(&format!("usk_{id}_")), "{key}");
        let shown = json!({
            "key_id": id, "name": "chat", "scopes": ["credits:read", "sessions:read", "sessions:write"], "status": "active",
            "requests_per_minute": 600, "allowed_ips": ["127.0.0.1/32", "10.0.0.0/8"], "created_at": crate::support::NOW, "created_by": "admin",
            "expires_at": "2026-01-01T00:00:00.000000Z", "last_used_at": null, "revoked_at": null, "overlap_ends_at": null,
        });
        assert_eq!(made["data"], with(json!({"key": key}), shown.clone()));
        assert_eq!(app.admin.get(&format!("{KEYS}/{id}")).await.data(), shown);
        assert_eq!(app.admin.get(KEYS).await.data(), json!([shown]));
        for program in [app.with_key(key), app.bearing(&format!("Bearer {key}"))] {
            let _ = program.get(&app.alice.own("/credits/balance")).await.ok();
            program.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await
                .refuses(403, "AuthorizationException", "The key lacks the scope credits:spend");
        }
        // Nothing that is kept shows it: not the log, and not the answers under idempotency keys.
        let log = app.admin.get("/api/v1/admin/audit").await.text();
        assert!(log.contains(&format!("key:{id}")) && !log.contains(key), "{log}");
        let body = json!({"name": "twice", "scopes": ["admin"]});
        let (one, two) = (app.admin.post_once("k", KEYS, body.clone()).await.data(), app.admin.post_once("k", KEYS, body).await.data());
        assert_ne!(one["key"], two["key"]);
        assert_eq!(column(&app.admin.get(KEYS).await.data(), "name"), ["twice", "twice", "chat"]);
    }

    async fn a_revoked_key_is_refused_at_once(app: TestApp) {
        let (id, program) = make(&app, "users:read", json!({})).await;
        let (_, other) = make(&app, "users:read", json!({})).await;
        assert_eq!((status(&program).await, status(&other).await), (200, 200));
        let revoked = app.admin.delete(&format!("{KEYS}/{id}")).await.data();
        assert_eq!((&revoked["status"], &revoked["revoked_at"]), (&json!("revoked"), &json!(crate::support::NOW)));
        program.post("/api/v1/noop", json!({})).await.refuses(401, "AuthenticationException", "Could not validate credentials");
        assert_eq!(status(&other).await, 200);
        // Again it changes nothing, and nothing brings it back.
        app.advance(Duration::from_secs(5));
        assert_eq!(app.admin.delete(&format!("{KEYS}/{id}")).await.data()["revoked_at"], crate::support::NOW);
        for (method, path, body) in [(Method::PATCH, "", json!({"name": "x"})), (Method::POST, "/rotate", json!({}))] {
            let answer = app.admin.request(method, &format!("{KEYS}/{id}{path}")).json(&body).send().await;
            answer.refuses(409, "ConflictException", "The key is revoked or expired");
        }
        assert_eq!(app.admin.get(KEYS).await.data().as_array().map(Vec::len), Some(1));
        assert_eq!(column(&app.admin.get(&format!("{KEYS}?all=true")).await.data(), "status"), ["active", "revoked"]);
    }

    async fn a_key_ends_at_its_instant(app: TestApp) {
        let (id, program) = make(&app, "users:read", json!({"expires_at": "2025-07-27T00:11:30Z"})).await;
        assert_eq!(status(&program).await, 200);
        app.advance(Duration::from_secs(4));
        assert_eq!(status(&program).await, 401);
        assert_eq!(app.admin.get(&format!("{KEYS}/{id}")).await.data()["status"], "expired");
        assert_eq!(app.admin.post(&format!("{KEYS}/{id}/rotate"), json!({})).await.status, 409);
        // What is over stays over.
        app.admin.patch(&format!("{KEYS}/{id}"), json!({"expires_at": "2025-07-28"})).await
            .refuses(409, "ConflictException", "The key is revoked or expired");
        assert_eq!(status(&program).await, 401);
    }

    async fn while_a_key_is_rotated_both_secrets_work(app: TestApp) {
        let (id, first) = make(&app, "users:read", json!({})).await;
        assert_eq!(status(&first).await, 200);
        let second = rotate(&app, &id, 60).await;
        assert_eq!(app.admin.get(&format!("{KEYS}/{id}")).await.data()["overlap_ends_at"], "2025-07-27T00:12:26.479685Z");
        assert_eq!((status(&first).await, status(&second).await), (200, 200));
        // An answer that is lost and asked for again ends no secret earlier.
        app.advance(Duration::from_secs(30));
        let third = rotate(&app, &id, 60).await;
        assert_eq!([status(&first).await, status(&second).await, status(&third).await], [200, 200, 200]);
        app.advance(Duration::from_secs(30));
        assert_eq!([status(&first).await, status(&second).await, status(&third).await], [401, 200, 200]);
        app.advance(Duration::from_secs(30));
        assert_eq!([status(&first).await, status(&second).await, status(&third).await], [401, 401, 200]);
        assert_eq!(app.admin.get(&format!("{KEYS}/{id}")).await.data()["overlap_ends_at"], Value::Null);
        // Without an overlap the one before is over at once; five at a time is all there may be.
        let fourth = rotate(&app, &id, 0).await;
        assert_eq!((status(&third).await, status(&fourth).await), (401, 200));
        for _ in 0..4 {
            let _ = rotate(&app, &id, 604_800).await;
        }
        let refused = app.admin.post(&format!("{KEYS}/{id}/rotate"), json!({})).await;
        assert!(refused.with(409)["message"].as_str().is_some_and(|text| text.starts_with("5 secrets")));
        assert_eq!(status(&fourth).await, 200);
        // A secret that leaked ends with a rotation without overlap, however long it had.
        app.advance(Duration::from_secs(604_801));
        let sixth = rotate(&app, &id, 604_800).await;
        let seventh = rotate(&app, &id, 0).await;
        assert_eq!((status(&fourth).await, status(&sixth).await, status(&seventh).await), (401, 401, 200));
        let fourth = seventh;
        let _ = app.admin.delete(&format!("{KEYS}/{id}")).await.ok();
        assert_eq!(status(&fourth).await, 401);
    }

    async fn a_key_is_bound_to_its_networks(app: TestApp) {
        let (id, program) = make(&app, "users:read", json!({"allowed_ips": ["203.0.113.0/24"]})).await;
        let refused = program.post("/api/v1/noop", json!({})).await;
        refused.refuses(403, "AuthorizationException", "The key may not be used from this address");
        // Whoever has not the key learns nothing of that.
        let mut wrong = app.admin.post(&format!("{KEYS}/{id}/rotate"), json!({"overlap_seconds": 0})).await.data()["key"].as_str().expect("a key").to_owned();
        assert_eq!((status(&program).await, status(&app.with_key(&wrong)).await), (401, 403));
        let last = wrong.pop();
        wrong.push(if last == Some('0') { '1' } else { '0' });
        assert_eq!(status(&app.with_key(&wrong)).await, 401);
        let _ = app.admin.patch(&format!("{KEYS}/{id}"), json!({"allowed_ips": []})).await.ok();
        let program = rotate(&app, &id, 0).await;
        assert_eq!(status(&program).await, 200);
    }

    async fn what_is_changed_counts_at_once_and_the_rest_stays(app: TestApp) {
        let (id, _) = make(&app, "users:read", json!({"requests_per_minute": 5, "allowed_ips": ["::1"], "expires_at": "2030-01-01"})).await;
        let path = format!("{KEYS}/{id}");
        let before = app.admin.get(&path).await.data();
        let renamed = app.admin.patch(&path, json!({"name": "another"})).await.data();
        assert_eq!(renamed, with(before, json!({"name": "another"})));
        let changed = app.admin.patch(&path, json!({"requests_per_minute": 0, "allowed_ips": []})).await.data();
        assert_eq!((&changed["requests_per_minute"], &changed["allowed_ips"], &changed["scopes"]), (&json!(null), &json!([]), &json!(["users:read"])));
        assert_eq!(app.admin.patch(&path, json!({"scopes": ["admin"]})).await.data()["scopes"], json!(["users:read"]), "scopes are not changed");
        let log = app.admin.get(&format!("/api/v1/admin/audit?target=key:{id}")).await.data();
        assert_eq!(column(&log, "action"), ["update_key", "update_key", "update_key", "create_key"]);
        assert_eq!(log[3]["details"]["scopes"], "users:read");
        assert_eq!((&log[2]["details"]["name"], &log[1]["details"]["allowed_ips"]), (&json!("another"), &json!("")));
        // Two who change different things at once do not undo each other.
        for turn in 0..10 {
            let (name, networks) = (json!({"name": format!("n{turn}")}), json!({"allowed_ips": [format!("10.0.0.{turn}")]}));
            let (one, two) = tokio::join!(app.admin.patch(&path, name), app.admin.patch(&path, networks));
            let _ = (one.ok(), two.ok());
            let now = app.admin.get(&path).await.data();
            assert_eq!((&now["name"], &now["allowed_ips"]), (&json!(format!("n{turn}")), &json!([format!("10.0.0.{turn}/32")])));
        }
        app.admin.patch(&path, json!({"name": "a\u{1b}[31m"})).await.refuses_field(&["body", "name"], "must have no control characters");
    }

    async fn the_use_of_a_key_is_written_down_once_a_minute(app: TestApp) {
        let (id, program) = make(&app, "users:read", json!({})).await;
        let used = async || app.admin.get(&format!("{KEYS}/{id}")).await.data()["last_used_at"].clone();
        for (wait, wanted) in [(0, "2025-07-27T00:11:26.479685Z"), (59, "2025-07-27T00:11:26.479685Z"), (1, "2025-07-27T00:12:26.479685Z")] {
            app.advance(Duration::from_secs(wait));
            assert_eq!(status(&program).await, 200);
            // It is written beside the request, so it is asked for until it is there.
            let mut seen = used().await;
            for _ in 0..500 {
                if seen == wanted { break; }
                seen = used().await;
            }
            assert_eq!(seen, wanted);
        }
    }

    async fn what_is_no_key_is_refused(app: TestApp) {
        let (id, program) = make(&app, "users:read", json!({})).await;
        assert_eq!(status(&program).await, 200);
        let unknown = user_service::keys::text::make(None).key.expose().to_owned();
        let other_secret = user_service::keys::text::make(Some(&id)).key.expose().to_owned();
        for key in ["usk_", &format!("usk_{id}"), &unknown, &other_secret, &format!("{unknown}0"), &"usk_x".repeat(1000)] {
            assert_eq!(status(&app.with_key(key)).await, 401, "{key}");
            assert_eq!(status(&app.bearing(&format!("Bearer {key}"))).await, 401, "{key}");
        }
        for (method, path) in [(Method::GET, ""), (Method::DELETE, ""), (Method::PATCH, ""), (Method::POST, "/rotate")] {
            let answer = app.admin.request(method, &format!("{KEYS}/nobody{path}")).json(&json!({})).send().await;
            answer.refuses(404, "NotFoundException", "Key not found: nobody");
        }
    }

    async fn asks_that_make_no_sense_are_refused(app: TestApp) {
        let many = |n: usize| (0..n).map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>();
        for (body, field, rule) in [
            (json!({"scopes": ["admin"]}), "name", "Field required"),
            (json!({"name": "", "scopes": ["admin"]}), "name", "1 to 100"),
            (json!({"name": "n"}), "scopes", "Field required"),
            (json!({"name": "n", "scopes": []}), "scopes", "1 to 32"),
            (json!({"name": "n", "scopes": vec!["admin"; 33]}), "scopes", "1 to 32"),
            (json!({"name": "n", "scopes": ["credits:fly"]}), "scopes", "credits:spend"),
            (json!({"name": "n", "scopes": ["users:read admin"]}), "scopes", "is none of"),
            (json!({"name": "n", "scopes": ["*"]}), "scopes", "is none of"),
            (json!({"name": "n", "scopes": ["admin"], "expires_at": "2025-07-27T00:11:26Z"}), "expires_at", "in the future"),
            (json!({"name": "n", "scopes": ["admin"], "requests_per_minute": 1_000_001}), "requests_per_minute", "at most 1000000"),
            (json!({"name": "n", "scopes": ["admin"], "requests_per_minute": -1}), "requests_per_minute", ""),
            (json!({"name": "n", "scopes": ["admin"], "allowed_ips": ["localhost"]}), "allowed_ips", "203.0.113.0/24"),
            (json!({"name": "n", "scopes": ["admin"], "allowed_ips": many(101)}), "allowed_ips", "at most 100"),
        ] {
            app.admin.post(KEYS, body).await.refuses_field(&["body", field], rule);
        }
        let (id, _) = make(&app, "users:read", json!({})).await;
        app.admin.post(&format!("{KEYS}/{id}/rotate"), json!({"overlap_seconds": 604_801})).await
            .refuses_field(&["body", "overlap_seconds"], "at most 604800");
        assert_eq!(app.admin.get(KEYS).await.data().as_array().map(Vec::len), Some(1));
        let (_, powerful) = make(&app, "admin", json!({})).await;
        assert_eq!(powerful.post(KEYS, json!({"name": "by a key", "scopes": ["users:read"]})).await.data()["created_by"].as_str().map(|by| &by[..4]), Some("key:"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_only_so_many_keys_in_use() {
    let app = TestApp::start(Engine::Sqlite).await;
    let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) INSERT INTO service_keys \
        (key_id, name, scopes, allowed_ips, created_at, created_by) SELECT 'k' || i, 'n', 'admin', '', 1, 'cli' FROM n";
    let edit = Edit::new(kernel::UserRowId(0), vec![Statement::any(sql, Vec::new())]);
    app.inside().writer.execute(Command::Edit(edit)).await.expect("keys");
    let (id, _) = make(&app, "users:read", json!({})).await;
    let refused = app.admin.post(KEYS, json!({"name": "n", "scopes": ["admin"]})).await;
    refused.refuses(409, "ConflictException", "1000 keys are in use; revoke those that are not needed");
    let _ = app.admin.delete(&format!("{KEYS}/{id}")).await.ok();
    let _ = make(&app, "users:read", json!({})).await;
    app.finish().await;
}
