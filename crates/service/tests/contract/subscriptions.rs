//! Plans, subscriptions, entitlements: who has which plan, since when, and what it gives.

use crate::support::{balance, column};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Actor, TestApp, both_engines};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn subscribe(actor: &Actor) -> Value {
    actor.post("/api/v1/subscriptions", json!({"plan_type": "free"})).await.ok()
}

async fn set(app: &TestApp, body: Value) -> Value {
    app.backend
        .request("PUT".parse().expect("a method"), &app.alice.own("/subscription"))
        .json(&body)
        .send()
        .await
        .ok()
}

/// What plans gave, newest first: how much, until when.
async fn given(actor: &Actor) -> Vec<(Value, Value)> {
    let grants = actor.get(&actor.own("/credits/grants")).await.data();
    let of_plans = grants.as_array().expect("a list").iter().filter(|grant| grant["source"] == "plan");
    of_plans.map(|grant| (grant["amount"].clone(), grant["expires_at"].clone())).collect()
}

async fn plan(actor: &Actor) -> (Value, Value) {
    let me = actor.get("/api/v1/users/me").await.ok();
    (me["plan"].clone(), me["subscription_status"].clone())
}

both_engines! {
    async fn the_catalogue_is_public_and_as_documented(app: TestApp) {
        let catalogue = app.anon.get("/api/v1/subscriptions/plans").await.ok();
        let documented = json!({"plans": {
            "free": {"name": "Free", "price_monthly": 0, "credits": 1000, "features": ["basic_ai", "limited_requests"],
                "duration_days": 30, "recommended": false},
            "pro": {"name": "Pro", "price_monthly": 20, "credits": 10000,
                "features": ["advanced_ai", "priority_support", "analytics"], "duration_days": 30, "recommended": true},
            "enterprise": {"name": "Enterprise", "price_monthly": 100, "credits": 50000,
                "features": ["premium_ai", "dedicated_support", "custom_models", "api_access"], "duration_days": 30,
                "recommended": false}},
            "currency": "USD", "billing_cycle": "monthly"});
        assert_eq!(catalogue, documented);
    }

    async fn free_begins_at_once_and_gives_its_credits_with_each_period(app: TestApp) {
        app.alice.ensure().await;
        for path in ["/api/v1/subscriptions/current".to_owned(), app.alice.own("/subscription")] {
            app.alice.get(&path).await.refuses(404, "NotFoundException", "auth0|alice has no subscription");
        }
        let begun = subscribe(&app.alice).await;
        assert_eq!((&begun["subscription"]["status"], &begun["subscription"]["plan_type"]), (&json!("active"), &json!("free")));
        assert_eq!((&begun["plan_config"]["credits"], &begun["data"]), (&json!(1000), &begun["subscription"]));
        assert_eq!(begun["subscription"]["current_period_end"], "2025-08-26T00:11:26.479685Z");
        // The welcome credits are those of the first period, however often it subscribes.
        assert_eq!(subscribe(&app.alice).await["subscription"]["id"], begun["subscription"]["id"]);
        assert_eq!((balance(&app.alice).await, given(&app.alice).await), (json!(1000), vec![]));
        app.advance(30 * DAY);
        // However many do it at once.
        futures_util::future::join_all((0..4).map(|_| app.sweep())).await;
        let second = (json!(1000), json!("2025-09-25T00:11:26.479685Z"));
        assert_eq!((balance(&app.alice).await, given(&app.alice).await), (json!(1000), vec![second.clone()]));
        // Down for months: the periods that are over by then give nothing.
        app.advance(100 * DAY);
        app.sweep().await;
        let fifth = (json!(1000), json!("2025-12-24T00:11:26.479685Z"));
        assert_eq!((balance(&app.alice).await, given(&app.alice).await), (json!(1000), vec![fifth, second]));
        assert_eq!(plan(&app.alice).await, (json!("free"), json!("free")));
    }

    async fn whoever_cancels_and_comes_back_gets_no_period_twice(app: TestApp) {
        app.alice.ensure().await;
        app.advance(31 * DAY);
        subscribe(&app.alice).await;
        assert_eq!(balance(&app.alice).await, 1000);
        for _ in 0..3 {
            let over = app.alice.post("/api/v1/subscriptions/cancel", json!({"at_period_end": false})).await.ok();
            assert_eq!(over["subscription"]["status"], "canceled");
            subscribe(&app.alice).await;
        }
        assert_eq!((balance(&app.alice).await, given(&app.alice).await.len()), (json!(1000), 1));
    }

    async fn a_plan_that_costs_something_is_not_given_away(app: TestApp) {
        app.alice.ensure().await;
        let refused = app.alice.post("/api/v1/subscriptions?plan_type=pro", json!({})).await;
        assert!(refused.with(503)["message"].as_str().is_some_and(|text| text.contains("STRIPE_SECRET_KEY")));
        let unknown = app.alice.post("/api/v1/subscriptions", json!({"plan_type": "gold"})).await;
        unknown.refuses(400, "ValidationException", "Invalid input: plan_type: must be one of free, pro, enterprise");
        app.alice.post("/api/v1/subscriptions", json!({})).await.refuses(400, "ValidationException", "Invalid input: plan_type: Field required");
        let other = app.alice.post("/api/v1/subscriptions", json!({"plan_type": "free", "user_id": "auth0|bob"})).await;
        other.refuses(400, "ValidationException", "Invalid input: user_id: must be the user of the path");
        app.backend.post("/api/v1/subscriptions", json!({"plan_type": "free"})).await.refuses(403, "AuthorizationException", "A service key has no user of its own");
        assert_eq!(plan(&app.alice).await, (json!("free"), json!("free")));
    }

    async fn an_admin_sets_the_plan_of_whoever_pays_by_invoice(app: TestApp) {
        app.alice.ensure().await;
        let begun = set(&app, json!({"plan_type": "pro", "ends_at": "2025-10-01T00:00:00Z"})).await;
        assert_eq!((&begun["subscription"]["provider"], &begun["subscription"]["ends_at"]), (&json!("manual"), &json!("2025-10-01T00:00:00.000000Z")));
        assert_eq!((plan(&app.alice).await, balance(&app.alice).await), ((json!("pro"), json!("active")), json!(11000)));
        app.alice.post("/api/v1/subscriptions", json!({"plan_type": "free"})).await
            .refuses(409, "ConflictException", "The plan pro is in force; it must be cancelled first");
        app.advance(30 * DAY);
        app.sweep().await;
        app.advance(30 * DAY);
        app.sweep().await;
        let ends: Vec<Value> = given(&app.alice).await.into_iter().map(|(_, end)| end).collect();
        // The last one is cut off where the subscription ends.
        assert_eq!(json!(ends), json!(["2025-10-01T00:00:00.000000Z", "2025-09-25T00:11:26.479685Z", "2025-08-26T00:11:26.479685Z"]));
        app.advance(7 * DAY);
        app.sweep().await;
        assert_eq!((plan(&app.alice).await, balance(&app.alice).await), ((json!("free"), json!("free")), json!(0)));
        let over = app.alice.get("/api/v1/subscriptions/current").await.ok();
        assert_eq!(over["subscription"]["status"], "canceled");
        for (body, rule) in [
            (json!({"plan_type": "pro", "ends_at": "2025-10-01T00:00:00Z"}), "ends_at: must be in the future"),
            (json!({"plan_type": "pro", "period_start": "2026-10-01T00:00:00Z"}), "period_start: must not be in the future"),
            (json!({"plan_type": "gold"}), "plan_type: must be one of free, pro, enterprise"),
        ] {
            let put = app.admin.request("PUT".parse().expect("a method"), &app.alice.own("/subscription")).json(&body);
            put.send().await.refuses(400, "ValidationException", &format!("Invalid input: {rule}"));
        }
    }

    async fn a_cancelled_subscription_goes_on_until_its_period_ends(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!({"plan_type": "enterprise"})).await;
        let cancelled = app.alice.post(&app.alice.own("/subscription/cancel"), json!({})).await.ok();
        let state = |answer: &Value| (answer["subscription"]["status"].clone(), answer["subscription"]["cancel_at_period_end"].clone());
        assert_eq!(state(&cancelled), (json!("active"), json!(true)));
        assert_eq!(cancelled["subscription"]["ends_at"], cancelled["subscription"]["current_period_end"]);
        let resumed = app.alice.post(&app.alice.own("/subscription/resume"), json!({})).await.ok();
        assert_eq!(state(&resumed), (json!("active"), json!(false)));
        let _ = app.alice.post(&app.alice.own("/subscription/cancel"), json!({})).await.ok();
        app.advance(29 * DAY);
        app.sweep().await;
        assert_eq!(plan(&app.alice).await.0, "enterprise");
        app.advance(DAY);
        // Read before any job: the reader sees that it is over.
        let over = app.alice.get(&app.alice.own("/subscription")).await.ok();
        assert_eq!((state(&over).0, plan(&app.alice).await.0), (json!("canceled"), json!("free")));
        app.alice.post(&app.alice.own("/subscription/resume"), json!({})).await
            .refuses(409, "ConflictException", "The subscription is over, or an operator cancelled it");
        assert_eq!(given(&app.alice).await.len(), 1);
    }

    async fn a_user_does_not_take_back_what_an_operator_has_cancelled(app: TestApp) {
        app.alice.ensure().await;
        set(&app, json!({"plan_type": "pro"})).await;
        let (cancel, resume) = (app.alice.own("/subscription/cancel"), app.alice.own("/subscription/resume"));
        let _ = app.backend.post(&cancel, json!({})).await.ok();
        // Nor by cancelling it once more itself.
        let _ = app.alice.post(&cancel, json!({})).await.ok();
        app.alice.post(&resume, json!({})).await
            .refuses(409, "ConflictException", "The subscription is over, or an operator cancelled it");
        let next = app.backend.request("PUT".parse().expect("a method"), &app.alice.own("/subscription"));
        next.json(&json!({"plan_type": "free", "at_period_end": true})).send().await
            .refuses(409, "ConflictException", "The subscription ends with its period, so it cannot become another plan");
        // An operator's word stands above the user's, in both directions.
        let _ = app.backend.post(&resume, json!({})).await.ok();
        let _ = app.alice.post(&cancel, json!({})).await.ok();
        let _ = app.admin.post(&cancel, json!({})).await.ok();
        assert_eq!(app.alice.post(&resume, json!({})).await.status, 409);
        app.advance(30 * DAY);
        app.sweep().await;
        assert_eq!((plan(&app.alice).await.0, given(&app.alice).await.len()), (json!("free"), 1));
    }

    async fn a_smaller_plan_comes_when_the_period_ends(app: TestApp) {
        app.alice.ensure().await;
        let downgrade = json!({"plan_type": "pro", "at_period_end": true});
        let put = |body: &Value| app.backend.request("PUT".parse().expect("a method"), &app.alice.own("/subscription")).json(body);
        put(&downgrade).send().await.refuses(404, "NotFoundException", "auth0|alice has no subscription");
        let begun = set(&app, json!({"plan_type": "enterprise", "ends_at": "2026-01-01T00:00:00Z"})).await;
        let waiting = set(&app, downgrade).await;
        assert_eq!((&waiting["subscription"]["id"], &waiting["subscription"]["plan_type"]), (&begun["subscription"]["id"], &json!("enterprise")));
        assert!(waiting["subscription"]["next_plan_version"].as_str().is_some_and(|next| next.starts_with("pro@")));
        assert_eq!((plan(&app.alice).await.0, balance(&app.alice).await), (json!("enterprise"), json!(51000)));
        app.advance(30 * DAY);
        app.sweep().await;
        app.sweep().await;
        let now = app.alice.get("/api/v1/subscriptions/current").await.ok();
        let state = |field: &str| now["subscription"][field].clone();
        assert_eq!((state("plan_type"), state("next_plan_version"), state("ends_at")), (json!("pro"), Value::Null, json!("2026-01-01T00:00:00.000000Z")));
        assert_eq!(state("current_period_start"), begun["subscription"]["current_period_end"]);
        assert_eq!((plan(&app.alice).await.0, balance(&app.alice).await), (json!("pro"), json!(10000)));
        let both = json!({"plan_type": "pro", "at_period_end": true, "ends_at": "2026-01-01T00:00:00Z"});
        put(&both).send().await.refuses(400, "ValidationException", "Invalid input: ends_at: must be absent where at_period_end is true");
        // Once it is over, free comes in its place, whether or not a job has run.
        app.advance(200 * DAY);
        let free = subscribe(&app.alice).await;
        assert_eq!((&free["subscription"]["plan_type"], &free["subscription"]["status"]), (&json!("free"), &json!("active")));
    }

    async fn a_user_may_do_what_its_plan_includes(app: TestApp) {
        app.alice.ensure().await;
        let check = async |feature: &str| {
            let answer = app.alice.post(&app.alice.own("/entitlements/check"), json!({"feature": feature})).await.data();
            json!([answer["allowed"], answer["reason"], answer["plan"], answer["available_in"]])
        };
        assert_eq!(check("basic_ai").await, json!([true, "included", "free", "free"]));
        assert_eq!(check("api_access").await, json!([false, "not_in_plan", "free", "enterprise"]));
        assert_eq!(check("teleport").await, json!([false, "unknown_feature", "free", null]));
        let begun = set(&app, json!({"plan_type": "enterprise"})).await;
        assert_eq!(check("api_access").await, json!([true, "included", "enterprise", "enterprise"]));
        let may = app.alice.get(&app.alice.own("/entitlements")).await.data();
        assert_eq!((&may["plan_version"], &may["features"]), (&begun["subscription"]["plan_version"], &begun["plan_config"]["features"]));
    }

    async fn subscribing_many_times_at_once_begins_one_subscription(app: TestApp) {
        app.alice.ensure().await;
        app.advance(31 * DAY);
        let all = futures_util::future::join_all((0..20).map(|_| {
            app.alice.post("/api/v1/subscriptions", json!({"plan_type": "free"}))
        })).await;
        assert!(all.iter().all(|answer| answer.status == 200));
        assert_eq!((balance(&app.alice).await, given(&app.alice).await.len()), (json!(1000), 1));
        let key = |key: &str| app.alice.request("POST".parse().expect("a method"), "/api/v1/subscriptions/cancel").header("idempotency-key", key);
        let first = key("k1").json(&json!({})).send().await;
        let again = key("k1").json(&json!({})).send().await;
        assert_eq!((first.text(), again.header("idempotent-replayed")), (again.text(), Some("true")));
        // A plan that is set many times under one key is set once, whichever of them is answered first.
        let put = || {
            let request = app.backend.request("PUT".parse().expect("a method"), &app.alice.own("/subscription"));
            request.header("idempotency-key", "k2").json(&json!({"plan_type": "pro"})).send()
        };
        let all = futures_util::future::join_all((0..10).map(|_| put())).await;
        assert!(all.iter().all(|answer| answer.status == 200 && answer.text() == all[0].text()));
        assert_eq!((balance(&app.alice).await, given(&app.alice).await.len()), (json!(11000), 2));
        let history = column(&app.alice.get(&app.alice.own("/credits/transactions")).await.data(), "transaction_type");
        assert_eq!(json!(history), json!(["grant", "grant", "expire", "grant"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_brings_its_limits_and_takes_them_along() {
    let plans = tempfile::NamedTempFile::new().expect("a file");
    let text = "[plans.free]\nname='Free'\nprice_monthly=0\ncredits=1000\nduration_days=30\n[[plans.free.limits]]\nid='daily'\nunit='credits'\n\
        amount=50\nwindow='day'\n[plans.pro]\nname='Pro'\nprice_monthly=20\ncredits=10000\nduration_days=30\n\
        [[plans.pro.limits]]\nid='daily'\nunit='credits'\namount=500\nwindow='day'\n";
    std::fs::write(plans.path(), text).expect("written");
    let path = plans.path().display().to_string();
    crate::support::with_settings(&[("PLANS_FILE", &path)], async |app| {
        let (alice, backend) = (&app.alice, &app.backend);
        alice.ensure().await;
        let own = json!({"limits": [{"id": "mine", "unit": "credits", "amount": 5000, "window": "month"}]});
        let _ = backend.request(Method::PUT, &alice.own("/limits")).json(&own).send().await.data();
        let shown = async || {
            let limits = alice.get(&alice.own("/limits")).await.data();
            let rows = limits.as_array().expect("a list").iter();
            rows.map(|row| format!("{} {} {}", row["id"], row["amount"], row["source"])).collect::<Vec<_>>()
        };
        let mine = "\"mine\" 5000 \"user\"".to_owned();
        let _ = alice.post("/api/v1/subscriptions", json!({"plan_type": "free"})).await.ok();
        assert_eq!(shown().await, [mine.clone(), "\"plan:daily\" 50 \"plan\"".to_owned()]);
        let _ = alice.post(&alice.own("/credits/consume"), json!({"amount": 60})).await.with(402);
        let _ = backend
            .request(Method::PUT, &alice.own("/subscription"))
            .json(&json!({"plan_type": "pro"}))
            .send()
            .await
            .ok();
        assert_eq!(shown().await, [mine.clone(), "\"plan:daily\" 500 \"plan\"".to_owned()]);
        let _ = alice.post(&alice.own("/credits/consume"), json!({"amount": 60})).await.ok();
        let _ = alice.post("/api/v1/subscriptions/cancel", json!({"at_period_end": false})).await.ok();
        assert_eq!(shown().await, [mine, "\"plan:daily\" 50 \"plan\"".to_owned()]);
    })
    .await;
}
