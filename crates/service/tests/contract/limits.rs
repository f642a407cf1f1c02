//! Spending limits: set, read, asked about, and above all never passed.

use crate::support::{balance, column, envelope, error, masked};
use futures_util::future::join_all;
use kernel::UserRowId;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Actor, Answer, Engine, TestApp, both_engines};
use user_service::credits::LedgerCommand;
use user_service::limits::sweeper::Walk;
use user_service::limits::{PLAN_PREFIX, parse_list};
use user_service::writer::Command;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Sets the limits of a user, as a program may.
async fn put(app: &TestApp, of: &Actor, limits: Value) -> Answer {
    app.backend.request(Method::PUT, &of.own("/limits")).json(&json!({"limits": limits})).send().await
}

async fn set(app: &TestApp, limits: Value) {
    let _ = put(app, &app.alice, limits).await.ok();
}

/// Charges a user for a call; what it does not say is that it costs nothing.
async fn charge(actor: &Actor, call: Value) -> Answer {
    let mut body = json!({"event_type": "ai_chat", "credits": 0});
    body.as_object_mut().expect("an object").extend(call.as_object().expect("an object").clone());
    actor.post(&actor.own("/charges"), body).await
}

/// Which limit denies, how much remains of it, and until when.
#[track_caller]
fn denial(answer: &Answer) -> (String, Value, Value) {
    let body = answer.with(402);
    assert_eq!(body["error_code"], "SpendingLimitExceededException", "{body}");
    let details = &body["error_details"];
    (
        details["limit"].as_str().expect("a limit").to_owned(),
        details["remaining"].clone(),
        details["resets_at"].clone(),
    )
}

async fn limits(actor: &Actor) -> Value {
    actor.get(&actor.own("/limits")).await.data()
}

/// How many buckets the tables hold.
async fn buckets(app: &TestApp) -> i64 {
    let sql = "SELECT count(*) FROM spending_counters";
    app.inside().db.find::<i64>(sql, &[]).await.expect("a count").expect("a row")
}

both_engines! {
    async fn a_hold_that_charged_itself_counts_for_the_very_next_spend(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([{"id": "daily", "unit": "credits", "amount": 10, "window": "day"}])).await;
        let hold = json!({"amount": 8, "on_expiry": "capture_all", "expires_in": 60});
        let _ = app.alice.post(&app.alice.own("/credits/holds"), hold).await.ok();
        app.advance(MINUTE);
        let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 3})).await;
        assert_eq!(denial(&spent).1, 2, "the hold has just been charged, and nobody wrote it down");
        let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 2})).await.ok();
    }

    async fn limits_are_set_and_say_how_they_stand(app: TestApp) {
        app.alice.ensure().await;
        assert_eq!(app.alice.get(&app.alice.own("/limits")).await.ok(), envelope("Retrieved 0 limits", json!([])));
        let answer = put(&app, &app.alice, json!([
            {"id": "monthly", "unit": "credits", "amount": 500, "window": "month"},
            {"id": "burst", "unit": "tokens", "amount": "100000", "window": "5h", "per": "session"},
            {"id": "red", "unit": "usd", "amount": 0.25, "window": "7d", "per": "tag", "value": "red"},
        ])).await.ok();
        assert_eq!(answer, envelope("Set 3 limits", json!([
            {"id": "monthly", "per": "user", "value": null, "unit": "credits", "window": "month", "amount": 500, "source": "user"},
            {"id": "burst", "per": "session", "value": null, "unit": "tokens", "window": "5h", "amount": 100_000, "source": "user"},
            {"id": "red", "per": "tag", "value": "red", "unit": "usd", "window": "7d", "amount": 0.25, "source": "user"},
        ])));
        for (session, tokens, tags) in [("s2", 30, json!([])), ("s1", 20, json!(["red", "blue"])), ("s2", 1, json!(["red"]))] {
            let call = json!({"credits": 1.5, "tokens_used": tokens, "cost_usd": 0.000_000_001, "session_id": session, "tags": tags});
            let _ = charge(&app.alice, call).await.ok();
        }
        // The bucket of `5h` is of 5 minutes, that of `7d` of 168.
        let (burst, week) = ("2025-07-27T05:15:00.000000Z", "2025-08-03T00:48:00.000000Z");
        assert_eq!(app.alice.get(&app.alice.own("/limits")).await.ok(), envelope("Retrieved 3 limits", json!([
            {"id": "monthly", "per": "user", "value": null, "unit": "credits", "window": "month", "amount": 500, "source": "user",
             "used": 4.5, "held": 0, "remaining": 495.5, "resets_at": "2025-08-01T00:00:00.000000Z"},
            {"id": "burst", "per": "session", "value": null, "unit": "tokens", "window": "5h", "amount": 100_000, "source": "user",
             "used": null, "held": null, "remaining": null, "resets_at": null, "more_values": false, "values": [
                {"value": "s1", "used": 20, "held": 0, "remaining": 99_980, "resets_at": burst},
                {"value": "s2", "used": 31, "held": 0, "remaining": 99_969, "resets_at": burst}]},
            {"id": "red", "per": "tag", "value": "red", "unit": "usd", "window": "7d", "amount": 0.25, "source": "user",
             "used": 0.000_000_002, "held": 0, "remaining": 0.249_999_998, "resets_at": week},
        ])));
        // Another user has limits of its own, which are none.
        app.bob.ensure().await;
        assert_eq!(limits(&app.bob).await, json!([]));
        // What is not in the next set is gone.
        let _ = put(&app, &app.alice, json!([])).await.ok();
        assert_eq!(limits(&app.alice).await, json!([]));
    }

    async fn a_denial_names_the_limit_and_changes_nothing(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([{"id": "daily", "unit": "credits", "amount": 10, "window": "day"}])).await;
        let consume = app.alice.own("/credits/consume");
        let _ = app.alice.post(&consume, json!({"amount": 7.5})).await.ok();
        let message = "Spending limit reached: daily. Remaining: 2.5 credits, Required: 2.75";
        let refused = app.alice.post(&consume, json!({"amount": 2.75})).await.with(402);
        assert_eq!(masked(refused), error("SpendingLimitExceededException", message, json!({
            "operation": "consume_credits", "user_id": "auth0|alice",
            "limit": "daily", "unit": "credits", "per": "user", "value": null, "window": "day", "amount": 10,
            "used": 7.5, "held": 0, "remaining": 2.5, "requested": 2.75,
            "resets_at": "2025-07-28T00:00:00.000000Z", "retryable": true,
        })));
        let refused = charge(&app.alice, json!({"credits": 2.75, "event_id": "e1"})).await;
        refused.refuses(402, "SpendingLimitExceededException", message);
        assert_eq!(balance(&app.alice).await, 992.5);
        assert_eq!(app.alice.get(&app.alice.own("/usage")).await.data(), json!([]));
        // Its event was not used up, and what fits is taken to the last part of a credit.
        let _ = charge(&app.alice, json!({"credits": 2.5, "event_id": "e1"})).await.ok();
        assert_eq!(limits(&app.alice).await[0]["remaining"], 0);
        assert_eq!(denial(&charge(&app.alice, json!({"credits": 0.000_001})).await).0, "daily");
        app.advance(DAY);
        let _ = charge(&app.alice, json!({"credits": 10})).await.ok();
        let never = charge(&app.alice, json!({"credits": 10.000_001})).await.with(402);
        let details = &never["error_details"];
        assert_eq!((&details["resets_at"], &details["retryable"]), (&Value::Null, &json!(false)));
    }

    async fn all_limits_count_or_none_does(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([
            {"id": "five hours", "unit": "requests", "amount": 4, "window": "5h"},
            {"id": "week", "unit": "tokens", "amount": 100, "window": "week"},
            {"id": "month", "unit": "credits", "amount": 10, "window": "month"},
        ])).await;
        let used = || async { column(&limits(&app.alice).await, "used") };
        let _ = charge(&app.alice, json!({"credits": 2, "tokens_used": 60})).await.ok();
        for (call, limit, remaining, resets_at) in [
            (json!({"credits": 2, "tokens_used": 41}), "week", 40, json!("2025-07-28T00:00:00.000000Z")),
            (json!({"credits": 9, "tokens_used": 41}), "month", 8, json!("2025-08-01T00:00:00.000000Z")),
            (json!({"credits": 9, "tokens_used": 101}), "week", 40, Value::Null),
        ] {
            let refused = denial(&charge(&app.alice, call).await);
            assert_eq!(refused, (limit.to_owned(), json!(remaining), resets_at));
            assert_eq!(used().await, [1, 60, 2], "a refused charge counts nowhere");
        }
        for _ in 0..3 {
            let _ = charge(&app.alice, json!({})).await.ok();
        }
        assert_eq!(used().await, [4, 60, 2]);
        let full = denial(&charge(&app.alice, json!({})).await);
        assert_eq!(full, ("five hours".to_owned(), json!(0), json!("2025-07-27T05:15:00.000000Z")));
        assert_eq!(balance(&app.alice).await, 998);
    }

    async fn windows_move_with_the_clock(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([
            {"id": "rolling", "unit": "requests", "amount": 2, "window": "5h"},
            {"id": "month", "unit": "requests", "amount": 5, "window": "month"},
        ])).await;
        // It is 00:11:26; the bucket from 00:10 to 00:15 leaves at 05:15.
        let _ = charge(&app.alice, json!({})).await.ok();
        app.advance(10 * MINUTE);
        let _ = charge(&app.alice, json!({})).await.ok();
        app.advance(4 * 60 * MINUTE + 50 * MINUTE);
        let (limit, _, resets_at) = denial(&charge(&app.alice, json!({})).await);
        assert_eq!((limit.as_str(), &resets_at), ("rolling", &json!("2025-07-27T05:15:00.000000Z")));
        app.advance(4 * MINUTE);
        let _ = charge(&app.alice, json!({})).await.ok();
        assert_eq!(limits(&app.alice).await[0]["used"], 2, "the second of five hours ago still counts");
        let _ = denial(&charge(&app.alice, json!({})).await);
        app.advance(DAY);
        let _ = charge(&app.alice, json!({})).await.ok();
        app.advance(3 * DAY);
        assert_eq!(app.now().to_string().get(..10), Some("2025-07-31"));
        let _ = charge(&app.alice, json!({})).await.ok();
        let (limit, _, resets_at) = denial(&charge(&app.alice, json!({})).await);
        assert_eq!((limit.as_str(), &resets_at), ("month", &json!("2025-08-01T00:00:00.000000Z")));
        // To the last microsecond of July.
        let end: kernel::Timestamp = "2025-07-31T23:59:59.999999Z".parse().expect("an instant");
        app.advance(Duration::from_micros((end.micros() - app.now().micros()).unsigned_abs()));
        assert_eq!(denial(&charge(&app.alice, json!({})).await).0, "month");
        app.advance(Duration::from_micros(1));
        let _ = charge(&app.alice, json!({})).await.ok();
        assert_eq!(column(&limits(&app.alice).await, "used"), [1, 1]);
    }

    async fn sixty_four_at_once_pass_exactly_as_often_as_they_may(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([
            {"id": "calls", "unit": "requests", "amount": 23, "window": "5h"},
            {"id": "more", "unit": "credits", "amount": 1000, "window": "month", "per": "session"},
        ])).await;
        // Free ones and paid ones: what writes no entry is counted as surely.
        let answers = join_all((0..64).map(|n| {
            charge(&app.alice, json!({"credits": n % 2, "session_id": format!("s{}", n % 3)}))
        })).await;
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(passed, 23);
        for refused in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(denial(refused).0, "calls");
        }
        let standing = limits(&app.alice).await;
        assert_eq!(standing[0]["used"], 23);
        let paid: i64 = column(&standing[1]["values"], "used").iter().filter_map(Value::as_i64).sum();
        assert_eq!(balance(&app.alice).await, 1000 - paid);
    }

    async fn keys_sessions_models_and_tags_are_counted_apart(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([
            {"id": "session", "unit": "requests", "amount": 1, "window": "day", "per": "session"},
            {"id": "model", "unit": "requests", "amount": 2, "window": "day", "per": "model", "value": "own-model"},
            {"id": "none", "unit": "credits", "amount": 0, "window": "day", "per": "model", "value": "gpt-4"},
            {"id": "tag", "unit": "requests", "amount": 3, "window": "day", "per": "tag"},
            {"id": "key", "unit": "requests", "amount": 4, "window": "day", "per": "key", "value": "batch-key"},
        ])).await;
        let call = |session: &str, model: &str, tags: Value| json!({"session_id": session, "model_name": model, "tags": tags, "key": "batch-key"});
        let _ = charge(&app.alice, call("a", "own-model", json!(["x", "y"]))).await.ok();
        assert_eq!(denial(&charge(&app.alice, call("a", "other", json!([]))).await).0, "session");
        let _ = charge(&app.alice, call("b", "own-model", json!(["x", "x"]))).await.ok();
        assert_eq!(denial(&charge(&app.alice, call("c", "own-model", json!([]))).await).0, "model");
        let _ = charge(&app.alice, call("c", "other", json!(["x"]))).await.ok();
        let refused = charge(&app.alice, call("d", "other", json!(["y", "x"]))).await;
        assert_eq!(refused.json()["error_details"]["value"], "x");
        let _ = charge(&app.alice, call("d", "other", json!(["y"]))).await.ok();
        assert_eq!(denial(&charge(&app.alice, call("e", "other", json!([]))).await).0, "key");
        let _ = charge(&app.alice, json!({})).await.ok();
        // A dated name is the same model, and what is free is denied all the same.
        let refused = charge(&app.alice, json!({"model_name": "gpt-4-0613"})).await;
        assert_eq!(denial(&refused), ("none".to_owned(), json!(0), Value::Null));
        let tags = &limits(&app.alice).await[3];
        assert_eq!((column(&tags["values"], "value"), column(&tags["values"], "used")), (vec![json!("x"), json!("y")], vec![json!(3), json!(2)]));
    }

    async fn what_is_asked_is_what_would_be_answered(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([
            {"id": "monthly", "unit": "credits", "amount": 10, "window": "month"},
            {"id": "burst", "unit": "tokens", "amount": 100, "window": "5h", "per": "session"},
            {"id": "gpt", "unit": "usd", "amount": 1, "window": "day", "per": "model", "value": "gpt-4-0613"},
        ])).await;
        let _ = charge(&app.alice, json!({"credits": 4, "tokens_used": 60, "session_id": "s1"})).await.ok();
        let ask = |body: Value| { let app = app.clone(); async move { app.alice.post(&app.alice.own("/limits/check"), body).await } };
        let fits = ask(json!({"credits": 6, "session_id": "s2", "tokens_used": 100})).await.ok();
        assert_eq!((&fits["message"], &fits["data"]["allowed"], &fits["data"]["denial"]), (&json!("The spend fits every limit"), &json!(true), &Value::Null));
        assert_eq!(column(&fits["data"]["limits"], "remaining"), [6, 100]);
        assert_eq!(column(&fits["data"]["limits"], "value"), [Value::Null, json!("s2")]);
        let denied = ask(json!({"credits": 1, "session_id": "s1", "tokens_used": 41})).await.ok();
        assert_eq!(denied["message"], "Spending limit reached: burst. Remaining: 40 tokens, Required: 41");
        let refused = charge(&app.alice, json!({"credits": 1, "session_id": "s1", "tokens_used": 41})).await.with(402);
        let mut details = refused["error_details"].clone();
        for other in ["operation", "user_id", "timestamp"] {
            details.as_object_mut().expect("an object").remove(other);
        }
        assert_eq!(denied["data"]["denial"], details);
        // The model is known by the name that the price book has for it, here and there.
        let gpt = ask(json!({"model_name": "gpt-4", "cost_usd": "1.000000001"})).await.data();
        assert_eq!((&gpt["denial"]["limit"], &gpt["denial"]["value"]), (&json!("gpt"), &json!("gpt-4")));
        // Nothing was spent by asking.
        assert_eq!(limits(&app.alice).await[0]["used"], 4);
        let nothing = ask(json!({})).await.data();
        assert_eq!(nothing["allowed"], true);
        ask(json!({"tags": vec!["t"; 21]})).await.refuses_field(&["body", "tags"], "at most 20 tags");
        ask(json!({"credits": -1})).await.refuses_field(&["body", "credits"], "must not be negative");
    }

    async fn holds_are_set_aside_and_counted_when_they_are_charged(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([
            {"id": "credits", "unit": "credits", "amount": 10, "window": "day", "per": "session"},
            {"id": "requests", "unit": "requests", "amount": 3, "window": "day"},
        ])).await;
        let holds = app.alice.own("/credits/holds");
        let hold = app.alice.post(&holds, json!({"amount": 8, "session_id": "s1"})).await.ok();
        let refused = charge(&app.alice, json!({"credits": 3, "session_id": "s1"})).await;
        assert_eq!(denial(&refused), ("credits".to_owned(), json!(2), Value::Null));
        assert_eq!(refused.json()["error_details"]["held"], 8);
        let more = app.alice.post(&holds, json!({"amount": 3, "session_id": "s1"})).await;
        assert_eq!(denial(&more).0, "credits");
        let _ = charge(&app.alice, json!({"credits": 3, "session_id": "s2"})).await.ok();
        let tick = format!("{holds}/{}/tick", hold["hold_id"].as_str().expect("an id"));
        assert_eq!(denial(&app.alice.post(&tick, json!({"amount": 10.5})).await).0, "credits");
        let capture = tick.replace("/tick", "/capture");
        let _ = app.alice.post(&capture, json!({"amount": 5})).await.ok();
        let standing = limits(&app.alice).await;
        assert_eq!(column(&standing[0]["values"], "used"), [5, 3]);
        assert_eq!(column(&standing[0]["values"], "held"), [0, 0]);
        assert_eq!(standing[1]["used"], 2, "a hold is a request when it is charged");
        // One that nobody settles counts from its end on, before anybody has written that down.
        let last = json!({"amount": 4, "session_id": "s1", "expires_in": 60, "on_expiry": "capture_all"});
        let _ = app.alice.post(&holds, last).await.ok();
        assert_eq!(column(&limits(&app.alice).await[0]["values"], "held"), [4, 0]);
        app.advance(MINUTE);
        let standing = limits(&app.alice).await;
        assert_eq!(column(&standing[0]["values"], "used"), [9, 3]);
        assert_eq!(column(&standing[0]["values"], "held"), [0, 0]);
        app.sweep().await;
        assert_eq!(limits(&app.alice).await, standing);
    }

    async fn refunds_and_what_nobody_paid_for_do_not_move_limits(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([{"id": "daily", "unit": "credits", "amount": 10, "window": "day"}])).await;
        let spent = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 8})).await.ok();
        let _ = app.backend.post(&app.alice.own("/credits/refund"), json!({"transaction_id": spent["transaction_id"]})).await.ok();
        assert_eq!((balance(&app.alice).await, &limits(&app.alice).await[0]["used"]), (json!(1000), &json!(8)));
        // Kept, and not paid for: it is not counted either.
        let kept = charge(&app.alice, json!({"credits": 3, "on_insufficient": "record"})).await.data();
        assert_eq!((&kept["status"], &kept["credits_due"]), (&json!("unpaid"), &json!(3)));
        assert_eq!(limits(&app.alice).await[0]["used"], 8);
    }

    async fn what_is_sent_twice_counts_once(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([{"id": "calls", "unit": "requests", "amount": 3, "window": "day"}])).await;
        for _ in 0..3 {
            let _ = charge(&app.alice, json!({"event_id": "e1"})).await.ok();
            let _ = app.alice.post_once("k1", &app.alice.own("/charges"), json!({"event_type": "x", "credits": 1})).await.ok();
        }
        assert_eq!(limits(&app.alice).await[0]["used"], 2);
        // A key is kept with the set that it made.
        let path = app.alice.own("/limits");
        let body = json!({"limits": [{"id": "calls", "unit": "requests", "amount": 2, "window": "day"}]});
        for replayed in [None, Some("true")] {
            let answer = app.backend.request(Method::PUT, &path).header("idempotency-key", "k2").json(&body).send().await;
            assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, replayed));
        }
        assert_eq!(denial(&charge(&app.alice, json!({})).await).0, "calls");
    }

    async fn a_batch_counts_what_it_keeps(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([{"id": "calls", "unit": "requests", "amount": 3, "window": "day"}])).await;
        let four: Vec<Value> =
            (0..4).map(|n| json!({"user_id": app.alice.id(), "event_type": "x", "credits": 1, "event_id": format!("e{n}")})).collect();
        let batch = |atomic: bool| app.backend.post("/api/v1/charges/batch", json!({"charges": four, "atomic": atomic}));
        let refused = batch(true).await.with(402);
        assert_eq!(refused["error_code"], "SpendingLimitExceededException");
        assert_eq!(limits(&app.alice).await[0]["used"], 0, "none of them is kept");
        let results = batch(false).await.data();
        let codes = column(&results["results"], "error_code");
        assert_eq!(codes.iter().filter(|code| **code == "SpendingLimitExceededException").count(), 1, "{results}");
        assert_eq!((&limits(&app.alice).await[0]["used"], balance(&app.alice).await), (&json!(3), json!(997)));
    }

    async fn a_changed_amount_goes_on_counting_and_a_changed_definition_counts_anew(app: TestApp) {
        app.alice.ensure().await;
        let calls = |window: &str, amount: i64| json!([{"id": "calls", "unit": "requests", "amount": amount, "window": window}]);
        set(&app, calls("60m", 2)).await;
        for _ in 0..2 {
            let _ = charge(&app.alice, json!({})).await.ok();
        }
        let used = || async { limits(&app.alice).await[0]["used"].clone() };
        set(&app, calls("1h", 3)).await;
        assert_eq!(used().await, 2);
        let _ = charge(&app.alice, json!({})).await.ok();
        set(&app, calls("1h", 1)).await;
        assert_eq!(denial(&charge(&app.alice, json!({})).await).1, json!(0));
        set(&app, calls("hour", 1)).await;
        assert_eq!(used().await, 0);
        set(&app, json!([])).await;
        let _ = charge(&app.alice, json!({})).await.ok();
        set(&app, calls("60m", 4)).await;
        assert_eq!(used().await, 3, "what was counted is found again, and nothing was while it was gone");
        // A user that is deleted and comes back has its limits still.
        let _ = app.alice.delete(&app.alice.own("")).await.ok();
        put(&app, &app.alice, json!([])).await.refuses(404, "UserNotFoundException", "User not found: auth0|alice");
        app.alice.ensure().await;
        assert_eq!(used().await, 3);
    }

    async fn a_plan_and_a_caller_replace_each_their_own(app: TestApp) {
        app.alice.ensure().await;
        let row = app.inside().db.find::<i64>("SELECT id FROM users WHERE auth0_id = 'auth0|alice'", &[]).await;
        let row = UserRowId(row.expect("a row").expect("alice"));
        let plan = async |list: Value| {
            let mut limits = parse_list(&list.to_string()).expect("limits");
            limits.iter_mut().for_each(|limit| limit.id.insert_str(0, PLAN_PREFIX));
            let command = LedgerCommand::SetPlanLimits(limits.into());
            app.inside().writer.execute(Command::Ledger(row, command)).await.expect("set");
        };
        let version = async || {
            let sql = "SELECT version FROM credit_accounts a JOIN users u ON u.id = a.user_id WHERE u.auth0_id = 'auth0|alice'";
            app.inside().db.find::<i64>(sql, &[]).await.expect("a row").expect("alice")
        };
        let names = async || {
            let standing = limits(&app.alice).await;
            (column(&standing, "id"), column(&standing, "source"))
        };
        let calls = json!([{"id": "calls", "unit": "requests", "amount": 2, "window": "day"}]);
        plan(calls.clone()).await;
        set(&app, json!([{"id": "calls", "unit": "requests", "amount": 9, "window": "day"}])).await;
        let both = (vec![json!("calls"), json!("plan:calls")], vec![json!("user"), json!("plan")]);
        assert_eq!(names().await, both, "one name may be both's");
        let before = version().await;
        plan(calls.clone()).await;
        assert_eq!(version().await, before, "the same limits again change nothing");
        for _ in 0..2 {
            let _ = charge(&app.alice, json!({})).await.ok();
        }
        assert_eq!(denial(&charge(&app.alice, json!({})).await).0, "plan:calls");
        // Neither removes what is the other's, and what goes on counting goes on counting.
        set(&app, json!([])).await;
        assert_eq!(names().await, (vec![json!("plan:calls")], vec![json!("plan")]));
        plan(json!([{"id": "calls", "unit": "requests", "amount": 3, "window": "day"}])).await;
        let _ = charge(&app.alice, json!({})).await.ok();
        assert_eq!(denial(&charge(&app.alice, json!({})).await).0, "plan:calls");
        set(&app, json!([{"id": "a", "unit": "usd", "amount": 1, "window": "day"}])).await;
        plan(json!([])).await;
        assert_eq!(names().await, (vec![json!("a")], vec![json!("user")]));
        let _ = charge(&app.alice, json!({})).await.ok();
        // Both fit when each has all of its room.
        let many = |count: usize, value: usize| -> Value {
            (0..count).map(|n| json!({"id": n.to_string(), "per": "tag", "value": "x".repeat(value), "unit": "tokens", "window": "5h", "amount": 1})).collect()
        };
        plan(many(20, 250)).await;
        let _ = put(&app, &app.alice, many(80, 200)).await.ok();
        assert_eq!(limits(&app.alice).await.as_array().map(Vec::len), Some(100));
    }

    async fn limits_that_make_no_sense_are_refused(app: TestApp) {
        app.alice.ensure().await;
        let good = json!({"id": "a", "unit": "tokens", "window": "5h", "amount": 1});
        set(&app, json!([good])).await;
        for (change, field, rule) in [
            (json!({"window": "fortnight"}), "window", "must be hour, day, week, month, or 1m to 366d"),
            (json!({"window": "367d"}), "window", "must be hour, day, week, month, or 1m to 366d"),
            (json!({"window": null}), "window", "invalid type"),
            (json!({"unit": "euro"}), "unit", "unknown variant"),
            (json!({"per": "team"}), "per", "unknown variant"),
            (json!({"value": "x"}), "value", "must be absent where per is user"),
            (json!({"per": "tag", "value": "x".repeat(256)}), "value", "1 to 255 characters"),
            (json!({"id": "first"}), "id", "must be another"),
            (json!({"id": "plan:a"}), "id", "must not begin with plan: as those of plans do"),
            (json!({"amount": "1.5"}), "amount", "at most 0 decimal places"),
            (json!({"amount": -1}), "amount", "must not be negative"),
            (json!({"unit": "credits", "amount": "9000000000000.000001"}), "amount", "at most 9000000000000"),
            (json!({"amount": [1]}), "amount", "must be a number"),
        ] {
            let mut bad = good.clone();
            bad.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
            let sent = json!([{"id": "first", "unit": "usd", "window": "day", "amount": 1}, bad]);
            put(&app, &app.alice, sent).await.refuses_field(&["body", "limits", "1", field], rule);
        }
        let many = |count: usize, per: &str| -> Value {
            (0..count).map(|n| json!({"id": n.to_string(), "per": per, "unit": "tokens", "window": "5h", "amount": 1})).collect()
        };
        put(&app, &app.alice, many(81, "user")).await.refuses_field(&["body", "limits"], "at most 80 limits, has 81");
        put(&app, &app.alice, many(16, "session")).await.refuses_field(&["body", "limits"], "at most 15 limits that count each value");
        put(&app, &app.alice, json!("none")).await.refuses_field(&["body", "limits"], "invalid type");
        // A user cannot lift its own limits.
        let own = app.alice.request(Method::PUT, &app.alice.own("/limits")).json(&json!({"limits": []})).send().await;
        assert_eq!(own.status, 403);
        assert_eq!(column(&limits(&app.alice).await, "id"), ["a"], "nothing has changed");
        let _ = put(&app, &app.alice, many(80, "user")).await.ok();
        let _ = charge(&app.alice, json!({"tokens_used": 1})).await.ok();
        let _ = denial(&charge(&app.alice, json!({"tokens_used": 1})).await);
    }

    async fn a_hundred_values_are_shown_and_more_are_counted(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([{"id": "s", "unit": "requests", "amount": 1, "window": "day", "per": "session"}])).await;
        let charges: Vec<Value> = (0..101)
            .map(|n| json!({"user_id": app.alice.id(), "event_type": "x", "credits": 0, "session_id": format!("s{n:03}")}))
            .collect();
        let _ = app.backend.post("/api/v1/charges/batch", json!({"charges": charges})).await.ok();
        let shown = &limits(&app.alice).await[0];
        assert_eq!((shown["values"].as_array().map(Vec::len), &shown["more_values"]), (Some(100), &json!(true)));
        assert_eq!(shown["values"][99]["value"], "s099");
        assert_eq!(denial(&charge(&app.alice, json!({"session_id": "s100"})).await).0, "s");
    }

    async fn what_has_left_its_window_is_removed(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!([
            {"id": "minute", "unit": "requests", "amount": 100, "window": "10m", "per": "session"},
            {"id": "month", "unit": "requests", "amount": 100, "window": "month"},
        ])).await;
        for _ in 0..5 {
            let _ = charge(&app.alice, json!({"session_id": "used on"})).await.ok();
            app.advance(10 * MINUTE);
        }
        let _ = charge(&app.alice, json!({"session_id": "over"})).await.ok();
        // The last bucket of the first session and one that the clocks of others may still see, one of the
        // second, and the month.
        assert_eq!(buckets(&app).await, 5 - 3 + 1 + 1);
        app.advance(30 * MINUTE);
        Walk::default().sweep(&app.inside()).await.expect("swept");
        assert_eq!(buckets(&app).await, 1);
        assert_eq!(limits(&app.alice).await[1]["used"], 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_let_exactly_as_many_pass_as_may() {
    let first = TestApp::start(Engine::Postgres).await;
    let url = match user_service::boot::location(&first.inside().config) {
        user_service::db::Location::Postgres(url, _) => url,
        user_service::db::Location::Sqlite(_) => unreachable!("it stands on PostgreSQL"),
    };
    let second = TestApp::start_with(Engine::Sqlite, &[("DATABASE_URL", &url)]).await;
    first.alice.ensure().await;
    set(&first, json!([{"id": "calls", "unit": "requests", "amount": 23, "window": "day"}])).await;
    // Free ones write no entry: only the account's version stands between the two.
    let answers =
        join_all((0..64).map(|n| charge(if n % 2 == 0 { &first.alice } else { &second.alice }, json!({}))))
            .await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(passed, 23);
    answers
        .iter()
        .filter(|answer| answer.status != 200)
        .for_each(|refused| assert_eq!(denial(refused).0, "calls"));
    assert_eq!(limits(&second.alice).await[0]["used"], 23);
    second.finish().await;
    first.finish().await;
}
