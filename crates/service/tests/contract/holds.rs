//! Holds: set aside, ticked, extended, captured, released. What time does to them is in `holds_end`.

use crate::support::{NOW, balance, column, error, masked, parts, transaction, transactions, with};
use serde_json::{Value, json};
use testkit::{Actor, Answer, both_engines};

/// Makes a hold, and gives its path.
async fn hold(actor: &Actor, body: Value) -> String {
    let made = actor.post(&actor.own("/credits/holds"), body).await.ok();
    actor.own(&format!("/credits/holds/{}", made["hold_id"].as_str().expect("an id")))
}

async fn act(actor: &Actor, hold: &str, what: &str, body: Value) -> Answer {
    actor.post(&format!("{hold}/{what}"), body).await
}

/// An open hold of ten credits, as answers show it.
fn open() -> Value {
    json!({
        "hold_id": "hld_<row>_1", "user_id": "auth0|alice", "status": "open", "amount": 10, "ticked": 0, "captured": 0, "short_by": 0,
        "on_expiry": "release", "created_at": NOW, "expires_at": "2025-07-27T00:26:26.479685Z", "settled_at": null, "transaction_id": null,
        "model_name": null, "feature": null, "session_id": null, "tags": [], "description": null, "metadata": {},
    })
}

fn answer(message: &str, available: i64, hold: Value) -> Value {
    json!({"success": true, "status": "success", "message": message, "timestamp": NOW, "hold_id": "hld_<row>_1", "available": available, "data": hold})
}

both_engines! {
    async fn what_is_held_can_be_spent_by_nobody_else(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/holds");
        let body = json!({
            "amount": 10, "expires_in": "600", "on_expiry": "capture_ticked", "model_name": "gpt-4-0613", "feature": "chat", "session_id": "s",
            "tags": ["b", "a", "b"], "description": "a long answer", "metadata": {"k": 1.50}, "user_id": "auth0|alice",
        });
        let made = app.alice.post(&path, body).await.ok();
        assert_eq!(masked(made), answer("Credits held", 990, with(open(), json!({
            "on_expiry": "capture_ticked", "expires_at": "2025-07-27T00:21:26.479685Z", "model_name": "gpt-4", "feature": "chat", "session_id": "s",
            "tags": ["a", "b"], "description": "a long answer", "metadata": {"k": 1.50},
        }))));
        let now = parts(&app.alice).await;
        assert_eq!((&now["available"], &now["held"], &now["total"]), (&json!(990), &json!(10), &json!(1000)));
        app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 990.5})).await
            .refuses(400, "InsufficientCreditsException", "Insufficient credits. Available: 990, Required: 990.5");
        let refused = app.alice.post(&path, json!({"amount": 991})).await.with(402);
        assert_eq!(masked(refused), error("InsufficientCreditsException", "Insufficient credits. Available: 990, Required: 991", json!({
            "operation": "create_hold", "user_id": "auth0|alice", "available": 990, "required": 991, "retryable": true, "top_up_url": null,
        })));
        let rows = app.alice.get(&path).await.data();
        assert_eq!(rows.as_array().map(Vec::len), Some(1), "a refused hold is none");
        assert_eq!(column(&transactions(&app.alice).await, "transaction_type"), ["grant"], "a hold is no transaction");
    }

    async fn a_tick_is_the_running_total(app: TestApp) {
        app.alice.ensure().await;
        let path = hold(&app.alice, json!({"amount": 10})).await;
        assert_eq!(masked(act(&app.alice, &path, "tick", json!({"amount": 4})).await.ok()), answer("Hold ticked", 990, with(open(), json!({"ticked": 4}))));
        assert_eq!(act(&app.alice, &path, "tick", json!({"amount": "4.000000"})).await.data()["ticked"], 4, "the same again changes nothing");
        act(&app.alice, &path, "tick", json!({"amount": 3.999_999})).await
            .refuses_field(&["body", "amount"], "is the running total, which is already 4");
        // More than is held sets more aside, and may give more time.
        let more = act(&app.alice, &path, "tick", json!({"amount": 25, "expires_in": 3600})).await.ok();
        assert_eq!(masked(more), answer("Hold ticked", 975, with(open(), json!({"amount": 25, "ticked": 25, "expires_at": "2025-07-27T01:11:26.479685Z"}))));
        // What cannot be set aside is refused, and the hold is as it was.
        let before = app.alice.get(&path).await.data();
        let refused = act(&app.alice, &path, "tick", json!({"amount": 1000.5, "expires_in": 5})).await.with(402);
        let details = &refused["error_details"];
        assert_eq!((&details["available"], &details["required"], &details["operation"]), (&json!(975), &json!(975.5), &json!("tick_hold")));
        assert_eq!(app.alice.get(&path).await.data(), before);
        assert_eq!(act(&app.alice, &path, "tick", json!({"amount": 1000})).await.ok()["available"], 0);
        // All of it is charged when nothing else is said: what was ticked.
        let captured = act(&app.alice, &path, "capture", json!({})).await.data();
        assert_eq!((&captured["captured"], &captured["status"]), (&json!(1000), &json!("captured")));
        assert_eq!(balance(&app.alice).await, 0);
    }

    async fn a_capture_of_less_returns_the_rest(app: TestApp) {
        app.alice.ensure().await;
        let path = hold(&app.alice, json!({"amount": 10, "description": "an answer", "metadata": {"k": 1}})).await;
        let _ = act(&app.alice, &path, "tick", json!({"amount": 5})).await.ok();
        let captured = act(&app.alice, &path, "capture", json!({"amount": 7.25, "usage_record_id": 900_001})).await;
        let entry = with(transaction("capture", 2, 7.25, 1000.0, 992.75), json!({
            "usage_record_id": 900_001, "hold_id": "hld_<row>_1", "description": "an answer", "metadata": {"k": 1}}));
        let settled = with(open(), json!({
            "status": "captured", "ticked": 5, "captured": 7.25, "settled_at": NOW, "transaction_id": "txn_<row>_2", "description": "an answer", "metadata": {"k": 1}}));
        assert_eq!(masked(captured.ok()), json!({
            "success": true, "status": "success", "message": "Hold captured", "timestamp": NOW, "hold_id": "hld_<row>_1", "data": settled, "transaction": entry,
        }));
        let now = parts(&app.alice).await;
        assert_eq!((&now["available"], &now["held"]), (&json!(992.75), &json!(0)));
        // Settling again: the first answer where it is the same request, at any time; otherwise 409.
        app.advance(std::time::Duration::from_secs(86_400));
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1})).await.ok();
        let again = act(&app.alice, &path, "capture", json!({"amount": 7.25})).await;
        assert_eq!((again.status, &again.body), (200, &captured.body));
        let says = format!("Hold {} is already captured", captured.ok()["hold_id"].as_str().expect("an id"));
        for (what, body) in [("capture", json!({"amount": 7.26})), ("capture", json!({})), ("release", json!({})), ("tick", json!({"amount": 8})), ("extend", json!({"expires_in": 5}))] {
            act(&app.alice, &path, what, body).await.refuses(409, "ConflictException", &says);
        }
        assert_eq!(app.alice.get(&path).await.data()["captured"], 7.25);
    }

    async fn a_capture_of_more_takes_the_rest_if_it_can(app: TestApp) {
        app.alice.ensure().await;
        let path = hold(&app.alice, json!({"amount": 10})).await;
        let more = act(&app.alice, &path, "capture", json!({"amount": 12})).await.ok();
        assert_eq!((&more["data"]["captured"], &more["data"]["short_by"], &more["transaction"]["amount"]), (&json!(12), &json!(0), &json!(12)));
        // 988 are left: 600 held and 388 free, which is no 1000.
        let path = hold(&app.alice, json!({"amount": 600})).await;
        let short = act(&app.alice, &path, "capture", json!({"amount": 1000})).await;
        let data = short.data();
        assert_eq!((&data["status"], &data["captured"], &data["short_by"]), (&json!("captured"), &json!(600), &json!(400)));
        assert_eq!(balance(&app.alice).await, 388);
        assert_eq!(act(&app.alice, &path, "capture", json!({"amount": 1000})).await.body, short.body);
        assert_eq!(act(&app.alice, &path, "capture", json!({"amount": 600})).await.status, 409);
        // Without a word it is all of it; nothing is nothing.
        let path = hold(&app.alice, json!({"amount": 88})).await;
        assert_eq!(app.alice.request("POST".parse().expect("a method"), &format!("{path}/capture")).send().await.data()["captured"], 88);
        let path = hold(&app.alice, json!({"amount": 100})).await;
        let none = act(&app.alice, &path, "capture", json!({"amount": 0})).await;
        assert_eq!((&none.data()["status"], &none.data()["transaction_id"], none.ok().get("transaction")), (&json!("captured"), &Value::Null, None));
        assert_eq!(act(&app.alice, &path, "capture", json!({"amount": 0})).await.body, none.body);
        assert_eq!(balance(&app.alice).await, 300);
    }

    async fn a_release_gives_everything_back(app: TestApp) {
        app.alice.ensure().await;
        let path = hold(&app.alice, json!({"amount": 10})).await;
        let _ = act(&app.alice, &path, "tick", json!({"amount": 5})).await.ok();
        let released = act(&app.alice, &path, "release", json!({})).await;
        assert_eq!(masked(released.data()), with(open(), json!({"status": "released", "ticked": 5, "settled_at": NOW})));
        assert_eq!(balance(&app.alice).await, 1000);
        assert_eq!(app.alice.request("POST".parse().expect("a method"), &format!("{path}/release")).send().await.body, released.body);
        assert_eq!(act(&app.alice, &path, "capture", json!({"amount": 5})).await.status, 409);
        assert_eq!(column(&transactions(&app.alice).await, "transaction_type"), ["grant"]);
    }

    async fn a_hold_is_settled_once_whoever_comes(app: TestApp) {
        app.alice.ensure().await;
        let path = hold(&app.alice, json!({"amount": 100})).await;
        let calls: Vec<_> = (0..40).map(|n| {
            let (alice, path) = (app.alice.clone(), path.clone());
            tokio::spawn(async move {
                match n % 4 {
                    0 => act(&alice, &path, "release", json!({})).await,
                    n => act(&alice, &path, "capture", json!({"amount": 10 * n})).await,
                }
            })
        }).collect();
        let mut won = Vec::new();
        for call in calls {
            let answer = call.await.expect("an answer");
            assert!([200, 409].contains(&answer.status), "{}", answer.text());
            won.extend((answer.status == 200).then_some(answer.body));
        }
        assert!(won.len() == 10 && won.iter().all(|body| *body == won[0]), "one kind of request won, and each of its ten has its answer");
        let captured = app.alice.get(&path).await.data()["captured"].as_f64().expect("a number");
        assert_eq!(balance(&app.alice).await.as_f64(), Some(1000.0 - captured));
    }

    async fn holds_are_listed_newest_first_and_by_how_they_stand(app: TestApp) {
        app.alice.ensure().await;
        let list = app.alice.own("/credits/holds");
        for (n, settle) in [(1, "capture"), (2, ""), (3, "release"), (4, ""), (5, "capture")] {
            let path = hold(&app.alice, json!({"amount": n})).await;
            if !settle.is_empty() {
                let _ = act(&app.alice, &path, settle, json!({})).await.ok();
            }
        }
        for (query, amounts) in [
            ("", &[5, 4, 3, 2, 1][..]), ("?status=open", &[4, 2]), ("?status=captured", &[5, 1]), ("?status=released", &[3]), ("?status=expired", &[]),
            ("?limit=2", &[5, 4]), ("?limit=2&offset=3", &[2, 1]), ("?status=captured&limit=1", &[5]),
        ] {
            assert_eq!(column(&app.alice.get(&format!("{list}{query}")).await.data(), "amount"), amounts, "{query}");
        }
        let page = app.alice.get(&format!("{list}?limit=2&status=captured")).await.ok();
        assert_eq!((&page["message"], &page["pagination"]["has_more"]), (&json!("Retrieved 2 holds"), &json!(false)));
        let first = app.alice.get(&format!("{list}?limit=3")).await.ok();
        let cursor = first["pagination"]["next_cursor"].as_str().expect("a cursor").to_owned();
        assert_eq!(column(&app.alice.get(&format!("{list}?cursor={cursor}")).await.data(), "amount"), [2, 1]);
        app.alice.get(&format!("{list}?status=gone")).await.refuses_field(&["query", "status"], "unknown variant");
        app.alice.get(&format!("{list}?limit=0")).await.refuses_field(&["query", "limit"], "1 to 1000");
    }

    async fn only_ones_own_holds_are_there(app: TestApp) {
        let row = app.alice.ensure().await["user_id"].clone();
        let other = app.bob.ensure().await["user_id"].clone();
        let of_bob = hold(&app.bob, json!({"amount": 1})).await;
        let foreign = format!("hld_{other}_1");
        for (id, wanted) in [
            (format!("hld_{row}_1"), 404), (format!("hld_{row}_99"), 404), (foreign.clone(), 404), ("hld_9223372036854775807_9223372036854775807".to_owned(), 404),
            (format!("hld_{row}_01"), 400), (format!("hld_0{row}_1"), 400), (format!("hld_{row}_0"), 400), (format!("hld_{row}_-1"), 400), ("1".to_owned(), 400),
            (format!("txn_{row}_1"), 400), ("hld_1_9223372036854775808".to_owned(), 400), ("%FF".to_owned(), 400), ("%00".to_owned(), 400), ("hld_1_1%20".to_owned(), 400),
        ] {
            let path = app.alice.own(&format!("/credits/holds/{id}"));
            for answer in [
                app.alice.get(&path).await, act(&app.backend, &path, "tick", json!({"amount": 1})).await, act(&app.alice, &path, "capture", json!({})).await,
                act(&app.alice, &path, "release", json!({})).await, act(&app.alice, &path, "extend", json!({"expires_in": 9})).await,
            ] {
                assert_eq!(answer.status, wanted, "{id}: {}", answer.text());
                if wanted == 404 {
                    assert_eq!(answer.json()["message"], format!("Hold not found: {id}"));
                }
            }
        }
        assert_eq!(app.bob.get(&of_bob).await.data()["status"], "open");
        assert_eq!(app.alice.get(&of_bob).await.status, 403);
    }

    async fn what_makes_no_hold_is_refused(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/holds");
        for (body, field, rule) in [
            (json!({}), "amount", "Field required"), (json!({"amount": 0}), "amount", "greater than 0"), (json!({"amount": -1}), "amount", "greater than 0"),
            (json!({"amount": 0.000_000_1}), "amount", "at most 6 decimal places"), (json!({"amount": 1, "expires_in": 0}), "expires_in", "must be 1 to 604800 seconds"),
            (json!({"amount": 1, "expires_in": 604_801}), "expires_in", "must be 1 to 604800 seconds"), (json!({"amount": 1, "expires_in": 1.5}), "expires_in", "whole number"),
            (json!({"amount": 1, "expires_in": 4_294_967_297_i64}), "expires_in", "at most"), (json!({"amount": 1, "on_expiry": "keep"}), "on_expiry", "unknown variant"),
            (json!({"amount": 1, "tags": (0..21).map(|n| n.to_string()).collect::<Vec<_>>()}), "tags", "at most 20"),
            (json!({"amount": 1, "user_id": "auth0|bob"}), "user_id", "must be the user of the path"),
        ] {
            app.alice.post(&path, body).await.refuses_field(&["body", field], rule);
        }
        for seconds in [1, 604_800] {
            let _ = app.alice.post(&path, json!({"amount": 1, "expires_in": seconds})).await.ok();
        }
        let path = hold(&app.alice, json!({"amount": 1})).await;
        for (what, body, field) in [
            ("tick", json!({}), "amount"), ("tick", json!({"amount": -1}), "amount"), ("tick", json!({"amount": 1, "expires_in": 0}), "expires_in"),
            ("extend", json!({}), "expires_in"), ("extend", json!({"expires_in": 604_801}), "expires_in"), ("capture", json!({"amount": -0.5}), "amount"),
            ("capture", json!({"usage_record_id": 0}), "usage_record_id"),
        ] {
            let refused = act(&app.alice, &path, what, body).await.with(400);
            assert_eq!(refused["detail"][0]["loc"], json!(["body", field]), "{what}");
        }
        app.bob.ensure().await;
        let foreign = app.bob.post(&app.bob.own("/usage"), json!({"event_type": "x"})).await.data()["id"].clone();
        act(&app.alice, &path, "capture", json!({"usage_record_id": foreign})).await.refuses_field(&["body", "usage_record_id"], "belongs to another user");
        assert_eq!(app.alice.get(&path).await.data()["status"], "open");
    }

    async fn an_account_has_a_thousand_open_holds_with_a_mebibyte_of_words(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/credits/holds");
        let large = json!({"amount": 0.1, "metadata": {"a": "x".repeat(64 * 1024 - 8)}});
        for _ in 0..16 {
            let _ = app.alice.post(&path, large.clone()).await.ok();
        }
        let says = "the open holds of the account may carry at most 1048576 bytes of metadata and descriptions";
        app.alice.post(&path, large.clone()).await.refuses(409, "ConflictException", says);
        app.alice.post(&path, json!({"amount": 1, "description": "x"})).await.refuses(409, "ConflictException", says);
        let open = app.alice.get(&format!("{path}?status=open")).await.data();
        for one in open.as_array().expect("rows") {
            let _ = act(&app.alice, &format!("{path}/{}", one["hold_id"].as_str().expect("an id")), "release", json!({})).await.ok();
        }
        let calls: Vec<_> = (0..1000).map(|_| {
            let (alice, path) = (app.alice.clone(), path.clone());
            tokio::spawn(async move { alice.post(&path, json!({"amount": 0.000_001})).await.status })
        }).collect();
        for call in calls {
            assert_eq!(call.await.expect("an answer"), 200);
        }
        app.alice.post(&path, json!({"amount": 1})).await.refuses(409, "ConflictException", "the account already has 1000 open holds");
        assert_eq!(parts(&app.alice).await["held"], 0.001);
        let newest = app.alice.get(&format!("{path}?limit=1")).await.data()[0]["hold_id"].as_str().expect("an id").to_owned();
        let _ = act(&app.alice, &format!("{path}/{newest}"), "release", json!({})).await.ok();
        let _ = app.alice.post(&path, json!({"amount": 1})).await.ok();
    }
}
