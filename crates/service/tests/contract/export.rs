//! An export: everything about a user in one archive, as the API says it too.

use crate::erase::{CANARY, sing};
use crate::support::column;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use testkit::{Actor, TestApp, both_engines};

/// The members of an archive.
fn unpacked(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("an archive");
    (0..archive.len())
        .map(|at| {
            let mut member = archive.by_index(at).expect("a member");
            let name = member.name().expect("a name").into_owned();
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).expect("read");
            (name, bytes)
        })
        .collect()
}

fn lines(members: &BTreeMap<String, Vec<u8>>, name: &str) -> Vec<Value> {
    let text = std::str::from_utf8(&members[name]).expect("a text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

async fn export(actor: &Actor, of: &Actor) -> BTreeMap<String, Vec<u8>> {
    let answer = actor.get(&of.own("/export")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/zip")));
    unpacked(&answer.body)
}

/// The rows of a list that the API gives in pages, oldest first.
async fn listed(app: &TestApp, path: &str) -> Vec<Value> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.admin.get(&format!("{path}?limit=1000{cursor}")).await.ok();
        rows.extend(page["data"].as_array().expect("a list").iter().cloned());
        let Some(next) = page["pagination"]["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    rows.reverse();
    rows
}

/// Every member of the one is in the other, too.
fn within(part: &Value, whole: &Value, but: &[&str]) {
    for (name, value) in part.as_object().expect("an object") {
        if whole.get(name).is_some() && !but.contains(&name.as_str()) {
            assert_eq!(value, &whole[name], "{name}");
        }
    }
}

both_engines! {
    async fn an_export_says_what_the_api_says(app: TestApp) {
        let user = sing(&app).await;
        let members = export(&app.admin, &user).await;
        let names: Vec<&str> = members.keys().map(String::as_str).filter(|name| !name.starts_with("files/")).collect();
        assert_eq!(names, [
            "audit.jsonl", "auto_top_up.jsonl", "credits/account.jsonl", "credits/grants.jsonl", "credits/holds.jsonl",
            "credits/transactions.jsonl", "files.jsonl", "identities.jsonl", "manifest.json", "memories.jsonl",
            "messages.jsonl", "payments.jsonl", "profile.jsonl", "sessions.jsonl", "stripe_customer.jsonl",
            "subscriptions.jsonl", "usage.jsonl",
        ]);
        let profile = &lines(&members, "profile.jsonl")[0];
        let api = app.admin.get(&user.own("")).await.data();
        within(profile, &api, &["user_id"]);
        assert_eq!(profile["suspension_reason"], format!("{CANARY} reason"));
        for (member, path, but) in [
            ("credits/transactions.jsonl", "/credits/transactions", &["amount", "reverses", "funded_by", "balance_before"][..]),
            ("usage.jsonl", "/usage", &[]),
            ("credits/grants.jsonl", "/credits/grants", &["scope", "rollover"]),
            ("credits/holds.jsonl", "/credits/holds", &["captured"]),
        ] {
            let (exported, api) = (lines(&members, member), listed(&app, &user.own(path)).await);
            assert_eq!(exported.len(), api.len(), "{member}");
            assert!(!exported.is_empty());
            for (one, other) in exported.iter().zip(&api) {
                within(one, other, but);
            }
        }
        let sessions = lines(&members, "sessions.jsonl");
        assert_eq!(sessions.len(), listed(&app, &user.own("/sessions")).await.len());
        let messages = lines(&members, "messages.jsonl");
        for session in &sessions {
            let id = session["session_id"].as_str().expect("an id");
            let mut api = listed(&app, &format!("/api/v1/sessions/{id}/messages")).await;
            api.reverse();
            let own: Vec<&Value> = messages.iter().filter(|message| message["session_id"] == id).collect();
            assert_eq!(own.len(), api.len());
            own.iter().zip(&api).for_each(|(one, other)| within(one, other, &[]));
        }
        assert_eq!(lines(&members, "memories.jsonl").len(), 2);
        assert!(column(&lines(&members, "audit.jsonl").into(), "action").contains(&json!("suspend_user")));
        // The files as they were uploaded.
        let files = lines(&members, "files.jsonl");
        let texts: Vec<String> = files
            .iter()
            .map(|file| String::from_utf8_lossy(&members[file["path"].as_str().expect("a path")]).into_owned())
            .collect();
        assert_eq!(texts, [format!("{CANARY} in a file 0"), format!("{CANARY} in a file 1")]);
        let manifest: Value = serde_json::from_slice(&members["manifest.json"]).expect("JSON");
        assert_eq!(manifest["user_id"], user.id());
        assert_eq!(manifest["members"]["usage.jsonl"], json!({"lines": lines(&members, "usage.jsonl").len()}));
        assert_eq!(manifest["members"][files[0]["path"].as_str().expect("a path")]["sha256"], files[0]["sha256"]);
    }

    async fn who_may_export_whom(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let own = export(&app.alice, &app.alice).await;
        assert_eq!(column(&Value::from(lines(&own, "profile.jsonl")), "auth0_id"), ["auth0|alice"]);
        let _ = export(&app.backend, &app.alice).await;
        let foreign = app.bob.get(&app.alice.own("/export")).await;
        assert_eq!(foreign.status, 403);
        // The fifth at a time is sent away, and told to come back.
        let turns = app.inside().export_turns.clone();
        let all = turns.acquire_many(4).await.expect("turns");
        let refused = app.alice.get(&app.alice.own("/export")).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        drop(all);
        let _ = export(&app.alice, &app.alice).await;
    }
}
