//! What time does to holds: each ends at its instant, by itself, and outlives the grant that it is of.

use crate::support::{balance, column, parts, transactions};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Actor, both_engines};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const INSTANT: Duration = Duration::from_micros(1);

/// Makes a hold, and gives its path.
async fn hold(actor: &Actor, body: Value) -> String {
    let made = actor.post(&actor.own("/credits/holds"), body).await.ok();
    actor.own(&format!("/credits/holds/{}", made["hold_id"].as_str().expect("an id")))
}

async fn act(actor: &Actor, hold: &str, what: &str, body: Value) -> u16 {
    actor.post(&format!("{hold}/{what}"), body).await.status
}

both_engines! {
    async fn a_hold_ends_at_its_instant_by_its_policy(app: TestApp) {
        app.alice.ensure().await;
        for (policy, charged) in [("release", 0), ("capture_ticked", 4), ("capture_all", 10)] {
            let before = parts(&app.alice).await["total"].as_i64().expect("whole");
            let path = hold(&app.alice, json!({"amount": 10, "expires_in": 5, "on_expiry": policy, "description": policy})).await;
            assert_eq!(act(&app.alice, &path, "tick", json!({"amount": 4})).await, 200);
            app.advance(5 * SECOND - INSTANT);
            let now = parts(&app.alice).await;
            assert_eq!((&now["held"], &now["available"], &now["total"]), (&json!(10), &json!(before - 10), &json!(before)), "{policy}");
            let ends = app.alice.get(&path).await.data()["expires_at"].clone();
            app.advance(INSTANT);
            // Whoever reads first sees it, and nobody has swept.
            let now = parts(&app.alice).await;
            assert_eq!((&now["held"], &now["available"], &now["total"]), (&json!(0), &json!(before - charged), &json!(before - charged)), "{policy}");
            app.advance(3600 * SECOND);
            assert_eq!(app.alice.get("/api/v1/users/me").await.ok()["credits"], before - charged);
            let data = app.alice.get(&path).await.data();
            assert_eq!((&data["status"], &data["captured"], &data["settled_at"], &data["short_by"]), (&json!("expired"), &json!(charged), &ends, &json!(0)), "{policy}");
            let rows = transactions(&app.alice).await;
            if charged > 0 {
                assert_eq!((&rows[0]["transaction_type"], &rows[0]["amount"], &rows[0]["created_at"]), (&json!("capture"), &json!(charged), &ends));
                assert_eq!((&rows[0]["transaction_id"], &rows[0]["description"], &rows[0]["hold_id"]), (&data["transaction_id"], &json!(policy), &data["hold_id"]));
            } else {
                assert_eq!(column(&rows, "transaction_type"), ["grant"]);
            }
            for (what, body) in [("capture", json!({"amount": charged})), ("release", json!({})), ("tick", json!({"amount": 10})), ("extend", json!({"expires_in": 10}))] {
                assert_eq!(act(&app.alice, &path, what, body).await, 409, "{policy} {what}");
            }
        }
        assert_eq!(app.sweep().await, 0, "nothing is left to write");
        let expired = app.alice.get(&app.alice.own("/credits/holds?status=expired")).await.data();
        assert_eq!(column(&expired, "captured"), [10, 4, 0]);
    }

    async fn the_list_alone_shows_what_ended(app: TestApp) {
        app.alice.ensure().await;
        let _ = hold(&app.alice, json!({"amount": 10, "expires_in": 1})).await;
        let _ = hold(&app.alice, json!({"amount": 20, "expires_in": 2})).await;
        app.advance(SECOND);
        let list = app.alice.own("/credits/holds?status=");
        assert_eq!(column(&app.alice.get(&format!("{list}open")).await.data(), "amount"), [20]);
        assert_eq!(column(&app.alice.get(&format!("{list}expired")).await.data(), "amount"), [10]);
    }

    async fn the_first_to_touch_an_ended_hold_finds_it_ended(app: TestApp) {
        app.alice.ensure().await;
        for (what, body) in [("capture", json!({})), ("tick", json!({"amount": 5})), ("release", json!({})), ("extend", json!({"expires_in": 100}))] {
            let path = hold(&app.alice, json!({"amount": 5, "expires_in": 1})).await;
            app.advance(SECOND);
            let refused = app.alice.post(&format!("{path}/{what}"), body).await.with(409);
            assert!(refused["message"].as_str().is_some_and(|text| text.ends_with("is already expired")), "{refused}");
        }
        // The freed credits are there for the very request that finds it.
        let _ = hold(&app.alice, json!({"amount": 1000, "expires_in": 1})).await;
        assert_eq!(app.alice.post(&app.alice.own("/charges"), json!({"event_type": "x", "credits": 1000})).await.status, 402);
        app.advance(SECOND);
        assert_eq!(app.alice.post(&app.alice.own("/charges"), json!({"event_type": "x", "credits": 1000})).await.status, 200);
    }

    async fn the_sweeper_writes_down_what_nobody_touches(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        for actor in [&app.alice, &app.bob] {
            let path = hold(actor, json!({"amount": 10, "expires_in": 1, "on_expiry": "capture_ticked"})).await;
            assert_eq!(act(actor, &path, "tick", json!({"amount": 3})).await, 200);
        }
        app.advance(SECOND);
        let open = "SELECT count(*) FROM credit_holds WHERE status = 'open'";
        let count = || async { app.inside().db.find::<i64>(open, &[]).await.expect("a count").expect("a row") };
        assert_eq!(count().await, 2);
        app.sweep().await;
        assert_eq!(count().await, 0);
        assert_eq!((balance(&app.alice).await, balance(&app.bob).await), (json!(997), json!(997)));
    }

    async fn more_time_is_more_time_from_now(app: TestApp) {
        app.alice.ensure().await;
        let path = hold(&app.alice, json!({"amount": 10, "expires_in": 10})).await;
        app.advance(9 * SECOND);
        let extended = app.alice.post(&format!("{path}/extend"), json!({"expires_in": 10})).await.ok();
        assert_eq!((&extended["message"], &extended["data"]["expires_at"]), (&json!("Hold extended"), &json!("2025-07-27T00:11:45.479685Z")));
        app.advance(9 * SECOND);
        assert_eq!(parts(&app.alice).await["held"], 10);
        // Less time is taken too.
        let shorter = app.alice.post(&format!("{path}/tick"), json!({"amount": 1, "expires_in": 1})).await.data();
        assert_eq!((&shorter["ticked"], &shorter["expires_at"]), (&json!(1), &json!("2025-07-27T00:11:45.479685Z")));
        app.advance(SECOND);
        assert_eq!(parts(&app.alice).await["held"], 0);
    }

    async fn a_hold_outlives_its_grant(app: TestApp) {
        app.alice.ensure().await;
        // The welcome credits end in 30 days, the hold a day later.
        app.advance(29 * DAY);
        let captured = hold(&app.alice, json!({"amount": 100, "expires_in": 172_800})).await;
        let released = hold(&app.alice, json!({"amount": 200, "expires_in": 172_800})).await;
        app.advance(DAY);
        let now = parts(&app.alice).await;
        assert_eq!((&now["available"], &now["held"], &now["total"]), (&json!(0), &json!(300), &json!(300)));
        assert_eq!(act(&app.alice, &captured, "capture", json!({"amount": 60})).await, 200);
        assert_eq!(act(&app.alice, &released, "release", json!({})).await, 200);
        let now = parts(&app.alice).await;
        assert_eq!((&now["available"], &now["held"], &now["total"]), (&json!(0), &json!(0), &json!(0)));
        let rows = transactions(&app.alice).await;
        assert_eq!(column(&rows, "transaction_type"), ["expire", "expire", "capture", "expire", "grant"]);
        assert_eq!(column(&rows, "amount"), [200, 40, 60, 700, 1000]);
    }
}
