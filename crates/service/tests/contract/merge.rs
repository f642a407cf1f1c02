//! Two identities of one person become one: nothing is lost, nothing is doubled.

use crate::support::{balance, column, session, transactions};
use serde_json::{Value, json};
use testkit::{Actor, TestApp, both_engines, files};

fn other(app: &TestApp) -> Actor {
    app.user("google-oauth2|107")
}

async fn merge(app: &TestApp) -> testkit::Answer {
    app.admin
        .post(&app.alice.own("/merge"), json!({"from": "google-oauth2|107", "reason": "Ticket 4711"}))
        .await
}

async fn grants(user: &Actor) -> Vec<(Value, Value, Value, Value)> {
    let listed = user.get(&user.own("/credits/grants")).await.data();
    let mut grants: Vec<_> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            (
                one["source"].clone(),
                one["remaining"].clone(),
                one["expires_at"].clone(),
                one["priority"].clone(),
            )
        })
        .collect();
    grants.sort_by_key(|one| format!("{one:?}"));
    grants
}

both_engines! {
    async fn the_other_identity_becomes_a_name_of_the_one(app: TestApp) {
        let other = other(&app);
        let row = app.alice.ensure().await["user_id"].clone();
        let ended = other.ensure().await["user_id"].clone();
        let _ = other.post(&other.own("/credits/consume"), json!({"amount": 100.5})).await.ok();
        let grant = json!({"amount": 50, "source": "promo", "priority": 3, "expires_at": "2025-09-01", "scope": {"models": ["gpt-4"]}});
        let _ = app.backend.post(&other.own("/credits/grants"), grant).await.ok();
        let before = [grants(&app.alice).await, grants(&other).await].concat();
        // What the two did.
        for (user, event) in [(&app.alice, "both"), (&other, "both"), (&other, "one")] {
            let record = json!({"event_type": "ai_chat", "event_id": event, "credits_charged": 1.5, "model_name": "gpt-4"});
            let _ = user.post(&user.own("/usage"), record).await.ok();
        }
        let of_other = session(&other).await;
        let _ = other.post(&format!("{of_other}/messages"), json!({"role": "user", "content": "a needle in the hay"})).await.ok();
        let _ = other.post(&format!("{of_other}/memory"), json!({"content": "remembered"})).await.ok();
        let _ = app.alice.upload("a.png", &files::png()).await.ok();
        let _ = other.upload("b.txt", b"of the other").await.ok();
        let answer = merge(&app).await.ok();
        assert_eq!(answer["data"], json!({"user_id": "auth0|alice", "merged_row": ended, "credits_moved": 949.5}));
        // Its token acts as the one, and so does its name.
        let me = other.get("/api/v1/users/me").await.ok();
        assert_eq!((&me["user_id"], &me["id"], &me["email"]), (&json!("auth0|alice"), &row, &json!("alice@example.com")));
        assert_eq!(other.ensure().await["user_id"], row);
        assert_eq!(app.backend.get(&other.own("")).await.data()["id"], row);
        assert_eq!(app.backend.post("/api/v1/users/ensure", json!({"auth0_id": "google-oauth2|107"})).await.ok()["user_id"], row);
        // Every credit is where it was, on its terms.
        assert_eq!(balance(&app.alice).await, 1899.5);
        let mut after = grants(&app.alice).await;
        let mut wanted = before;
        wanted.sort_by_key(|one| format!("{one:?}"));
        after.sort_by_key(|one| format!("{one:?}"));
        assert_eq!(after, wanted);
        let received = transactions(&app.alice).await;
        assert!(received[0]["reference_id"].as_str().is_some_and(|id| id.starts_with(&format!("merge:txn_{ended}_"))));
        // What was done is done by the one.
        let stats = app.alice.get(&app.alice.own("/usage/stats")).await.data();
        assert_eq!((&stats["total_records"], &stats["total_credits_charged"]), (&json!(3), &json!(4.5)));
        let records = app.alice.get(&app.alice.own("/usage?start_date=2025-07-27")).await.data();
        assert_eq!(column(&records, "user_id"), ["auth0|alice"; 3]);
        let found = app.alice.get(&app.alice.own("/messages/search?q=needle")).await.data();
        assert_eq!(found.as_array().map(Vec::len), Some(1));
        assert_eq!(other.get(&of_other).await.data()["user_id"], "auth0|alice");
        assert_eq!(app.alice.get(&format!("{of_other}/memory")).await.data()[0]["content"], "remembered");
        let listed = app.alice.get(&app.alice.own("/files")).await.data();
        assert_eq!(listed.as_array().map(Vec::len), Some(2));
        for file in listed.as_array().expect("a list") {
            let url = file["download_url"].as_str().expect("an address");
            assert_eq!(reqwest::get(url).await.expect("an answer").status(), 200, "{url}");
        }
        // Again, it changes nothing.
        assert_eq!(merge(&app).await.ok(), answer);
        let _ = app.sweep().await;
        assert_eq!(balance(&app.alice).await, 1899.5);
        assert_eq!(transactions(&app.alice).await, received);
        // An erasure of the one takes the other along.
        let _ = app.alice.delete(&app.alice.own("?erase=true")).await.ok();
        let done = "SELECT count(*) FROM erasures WHERE status = 'done'";
        assert_eq!(app.inside().db.find::<i64>(done, &[]).await.expect("read"), Some(2));
        assert_eq!(other.ensure().await["created"], true);
    }

    async fn what_stands_in_the_way_is_named(app: TestApp) {
        let other = other(&app);
        app.alice.ensure().await;
        let path = app.alice.own("/merge");
        app.admin.post(&path, json!({"from": "google-oauth2|107"})).await.refuses(404, "UserNotFoundException", "User not found: google-oauth2|107");
        app.admin.post(&path, json!({"from": "auth0|alice"})).await.refuses_field(&["body", "from"], "must be another user");
        app.admin.post(&path, json!({})).await.refuses_field(&["body", "from"], "Field required");
        other.ensure().await;
        let hold = other.post(&other.own("/credits/holds"), json!({"amount": 10})).await.ok();
        merge(&app).await.refuses(409, "ConflictException", "from has open holds; they must be settled first");
        let hold = other.own(&format!("/credits/holds/{}/release", hold["hold_id"].as_str().expect("an id")));
        let _ = other.post(&hold, json!({})).await.ok();
        let _ = app.backend.request(reqwest::Method::PUT, &other.own("/credits/limit")).json(&json!({"credit_limit": 100})).send().await.ok();
        let _ = other.post(&other.own("/credits/consume"), json!({"amount": 1050})).await.ok();
        merge(&app).await.refuses(409, "ConflictException", "from owes credits; they must be paid first");
        app.backend.post(&path, json!({"from": "google-oauth2|107"})).await.refuses(403, "AuthorizationException", "This needs an admin");
        let _ = app.backend.post(&other.own("/credits/recharge"), json!({"amount": 150})).await.ok();
        // Whoever is shut out does not come in again by another name.
        let suspend = other.own("/suspend");
        let _ = app.admin.post(&suspend, json!({"reason": "abuse"})).await.ok();
        assert_eq!(merge(&app).await.with(409)["error_code"], "ConflictException");
        let _ = app.admin.post(&other.own("/reactivate"), json!({})).await.ok();
        assert_eq!(merge(&app).await.ok()["data"]["credits_moved"], 100);
        assert_eq!(balance(&app.alice).await, 1100);
    }

    async fn of_two_merges_at_once_one_is_refused_and_no_credit_is_lost(app: TestApp) {
        for turn in 0..5 {
            let (one, two) = (app.user(&format!("auth0|one{turn}")), app.user(&format!("auth0|two{turn}")));
            one.ensure().await;
            two.ensure().await;
            let (there, back) = (one.own("/merge"), two.own("/merge"));
            let (there, back) = tokio::join!(
                app.admin.post(&there, json!({"from": format!("auth0|two{turn}")})),
                app.admin.post(&back, json!({"from": format!("auth0|one{turn}")})),
            );
            let mut statuses = [there.status, back.status];
            statuses.sort_unstable();
            assert!(statuses[0] == 200 && [400, 404, 409].contains(&statuses[1]), "{statuses:?}: {} {}", there.text(), back.text());
            let _ = app.sweep().await;
            assert_eq!((balance(&one).await, balance(&two).await), (2000.into(), 2000.into()));
        }
        let open = "SELECT count(*) FROM user_merges WHERE status <> 'done'";
        assert_eq!(app.inside().db.find::<i64>(open, &[]).await.expect("read"), Some(0));
    }

    async fn while_a_merge_is_under_way_nobody_of_it_is_deleted(app: TestApp) {
        use user_service::users::merge::{Merge, begin};
        let other = other(&app);
        let into = kernel::UserRowId(app.alice.ensure().await["user_id"].as_i64().expect("a row"));
        let from = kernel::UserRowId(other.ensure().await["user_id"].as_i64().expect("a row"));
        begin(&app.inside(), Merge { from, into }, "test", None).await.expect("begun");
        for user in [&app.alice, &other] {
            for query in ["", "?erase=true"] {
                user.delete(&user.own(query)).await
                    .refuses(409, "ConflictException", "The user is being merged with another one, or is suspended");
            }
        }
        let _ = app.sweep().await;
        assert_eq!(balance(&app.alice).await, 2000);
        let _ = app.alice.delete(&app.alice.own("?erase=true")).await.ok();
    }

    async fn a_merge_that_broke_off_is_finished_once(app: TestApp) {
        use user_service::users::merge::{Merge, begin};
        let other = other(&app);
        let into = kernel::UserRowId(app.alice.ensure().await["user_id"].as_i64().expect("a row"));
        let from = kernel::UserRowId(other.ensure().await["user_id"].as_i64().expect("a row"));
        let inside = app.inside();
        begin(&inside, Merge { from, into }, "key:x", None).await.expect("begun");
        // It had taken the credits and closed the account, and then the process died.
        use user_service::credits::ledger::{LedgerCommand, Note, Void};
        use user_service::credits::model::Origin;
        use user_service::writer::Command;
        let note = Note {
            description: Some("Moved to another identity of the same person".to_owned()),
            origin: Origin { actor: "system".to_owned(), ..Origin::default() },
            ..Note::default()
        };
        let void = LedgerCommand::Void(Void { grant: 1, note });
        let _ = inside.writer.execute(Command::Ledger(from, void)).await.expect("taken");
        // Meanwhile something is given to it.
        let _ = app.backend.post(&other.own("/credits/recharge"), json!({"amount": 7})).await.ok();
        for _ in 0..2 {
            let _ = app.sweep().await;
            assert_eq!(balance(&app.alice).await, 2007);
        }
        assert_eq!(merge(&app).await.ok()["data"]["credits_moved"], 1007);
        assert_eq!(balance(&other).await, 2007, "it is a name of alice");
    }
}
