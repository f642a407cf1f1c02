//! The life of a subscription that is paid for.

use super::shop::{Shop, shops};
use serde_json::{Value, json};
use testkit::stripe::Card;

/// What matters of a subscription.
fn stands(of: &Value) -> (String, String, bool) {
    let text = |field: &str| of[field].as_str().unwrap_or_default().to_owned();
    (text("plan_type"), text("status"), of["cancel_at_period_end"] == true)
}

fn as_stands(plan: &str, status: &str, cancels: bool) -> (String, String, bool) {
    (plan.to_owned(), status.to_owned(), cancels)
}

shops! {
    async fn a_plan_begins_when_its_checkout_is_paid(shop: &Shop) {
        let alice = &shop.app.alice;
        let begun = alice.post("/api/v1/subscriptions", json!({"plan_type": "pro"})).await.ok();
        assert_eq!((&begun["success"], &begun["subscription"]["status"]), (&json!(true), &json!("incomplete")));
        assert_eq!(begun["plan_config"]["name"], "Pro");
        assert!(begun["checkout_url"].as_str().is_some_and(|url| url.starts_with("https://")), "{begun}");
        let _ = alice.get("/api/v1/subscriptions/current").await.with(404);
        assert_eq!(alice.get("/api/v1/users/me").await.ok()["plan"], "free", "a plan is never given away");
        shop.stripe.complete_checkout(begun["session_id"].as_str().expect("an id"));
        shop.hear().await;
        let of = shop.subscription().await;
        assert_eq!(stands(&of), as_stands("pro", "active", false));
        assert_eq!(of["provider"], "stripe");
        assert_eq!(shop.balance().await, 10_000);
        let me = alice.get("/api/v1/users/me").await.ok();
        assert_eq!((&me["plan"], &me["subscription_status"]), (&json!("pro"), &json!("active")));
        for again in ["/api/v1/payments/create-checkout"] {
            let twice = alice.post(again, json!({"plan_type": "enterprise"})).await;
            assert_eq!(twice.status, 409, "{}", twice.text());
        }
        let same = alice.post("/api/v1/subscriptions", json!({"plan_type": "pro"})).await.ok();
        assert_eq!(same["subscription"]["id"], of["id"], "it has it");
        let _ = alice.post("/api/v1/subscriptions", json!({"plan_type": "free"})).await.with(409);
    }

    async fn a_month_is_paid_once_and_gives_its_credits_once(shop: &Shop) {
        shop.subscribe("pro").await;
        let _ = shop.app.alice.post(&shop.app.alice.own("/credits/consume"), json!({"amount": 4000})).await.ok();
        shop.days(32);
        shop.hear().await;
        shop.app.sweep().await;
        assert_eq!(shop.balance().await, 10_000, "the old month's credits ended with it, the new month's are there");
        assert_eq!(shop.payments().await.as_array().map(Vec::len), Some(2));
        assert_eq!(stands(&shop.subscription().await), as_stands("pro", "active", false));
    }

    async fn a_dearer_plan_is_had_at_once_for_what_is_left_of_the_month(shop: &Shop) {
        shop.subscribe("pro").await;
        shop.days(10);
        let alice = &shop.app.alice;
        let changed = alice.post("/api/v1/subscriptions", json!({"plan_type": "enterprise"})).await.ok();
        assert_eq!(stands(&changed["subscription"]), as_stands("enterprise", "active", false));
        shop.hear().await;
        let balance = shop.balance().await.as_f64().expect("a number");
        // 21 of 31 days of 50 000 − 10 000, beside the 10 000 of the month.
        assert!((balance - (10_000.0 + 40_000.0 * 21.0 / 31.0)).abs() < 30.0, "{balance}");
        assert_eq!(alice.get("/api/v1/users/me").await.ok()["plan"], "enterprise");
        // The next month is a whole one.
        shop.days(22);
        shop.hear().await;
        shop.app.sweep().await;
        assert_eq!(shop.balance().await, 50_000);
    }

    async fn a_cheaper_plan_is_had_from_the_next_month_on(shop: &Shop) {
        shop.subscribe("enterprise").await;
        shop.days(10);
        let alice = &shop.app.alice;
        let changed = alice.post("/api/v1/subscriptions", json!({"plan_type": "pro"})).await.ok();
        assert_eq!(stands(&changed["subscription"]), as_stands("enterprise", "active", false));
        shop.hear().await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await).0), (json!(50_000), "enterprise".to_owned()));
        // Until then it may be thought better of.
        for plan in ["enterprise", "pro"] {
            let _ = alice.post("/api/v1/subscriptions", json!({"plan_type": plan})).await.ok();
            shop.hear().await;
        }
        shop.days(22);
        shop.hear().await;
        shop.app.sweep().await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await).0), (json!(10_000), "pro".to_owned()));
    }

    async fn a_declined_card_changes_no_plan(shop: &Shop) {
        let sub = shop.subscribe("pro").await;
        let customer = shop.stripe.object(&sub)["customer"].as_str().expect("a customer").to_owned();
        shop.stripe.set_card(&customer, Card::Declined);
        let declined = shop.app.alice.post("/api/v1/subscriptions", json!({"plan_type": "enterprise"})).await;
        assert_eq!(declined.with(402)["error_code"], "PaymentDeclinedException");
        shop.hear().await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await)), (json!(10_000), as_stands("pro", "active", false)));
    }

    async fn it_ends_with_its_month_and_may_be_resumed_until_then(shop: &Shop) {
        shop.subscribe("pro").await;
        let alice = &shop.app.alice;
        let cancelled = alice.post("/api/v1/subscriptions/cancel", json!({})).await.ok();
        assert_eq!(stands(&cancelled["subscription"]), as_stands("pro", "active", true));
        shop.hear().await;
        let resumed = alice.post(&alice.own("/subscription/resume"), json!({})).await.ok();
        assert_eq!(stands(&resumed["subscription"]), as_stands("pro", "active", false));
        let _ = alice.post("/api/v1/subscriptions/cancel", json!({"at_period_end": true})).await.ok();
        shop.hear().await;
        shop.days(32);
        shop.hear().await;
        assert_eq!(stands(&shop.subscription().await), as_stands("pro", "canceled", true));
        assert_eq!(alice.get("/api/v1/users/me").await.ok()["plan"], "free");
        shop.app.sweep().await;
        assert_eq!(shop.balance().await, 0);
        // And another one may be bought.
        shop.subscribe("enterprise").await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await)), (json!(50_000), as_stands("enterprise", "active", false)));
    }

    async fn what_an_operator_decides_is_not_undone_by_buying(shop: &Shop) {
        shop.subscribe("pro").await;
        let (alice, backend) = (&shop.app.alice, &shop.app.backend);
        let put = backend.request(reqwest::Method::PUT, &alice.own("/subscription")).json(&json!({"plan_type": "enterprise"}));
        let why = "A plan that is paid through Stripe is in force; it must be cancelled first";
        assert_eq!(put.send().await.with(409)["message"], why);
        let _ = backend.post(&alice.own("/subscription/cancel"), json!({})).await.ok();
        for plan in ["pro", "enterprise"] {
            let _ = alice.post("/api/v1/subscriptions", json!({"plan_type": plan})).await.with(409);
        }
        let _ = alice.post(&alice.own("/subscription/resume"), json!({})).await.with(409);
        shop.hear().await;
        assert_eq!(stands(&shop.subscription().await), as_stands("pro", "active", true));
        let _ = backend.post(&alice.own("/subscription/resume"), json!({})).await.ok();
        shop.hear().await;
        assert_eq!(stands(&shop.subscription().await), as_stands("pro", "active", false));
    }

    async fn cancelled_at_once_it_is_over_and_its_credits_stay(shop: &Shop) {
        shop.subscribe("pro").await;
        let over = shop.app.alice.post("/api/v1/subscriptions/cancel", json!({"at_period_end": false})).await.ok();
        assert_eq!(stands(&over["subscription"]), as_stands("pro", "canceled", false));
        shop.hear().await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await).1), (json!(10_000), "canceled".to_owned()));
    }

    async fn a_refunded_month_takes_its_credits_back(shop: &Shop) {
        let sub = shop.subscribe("pro").await;
        let invoice = shop.stripe.object(&sub)["latest_invoice"].as_str().expect("an invoice").to_owned();
        let paid = shop.stripe.objects("invoice_payment");
        let paid = paid.iter().find(|paid| paid["invoice"] == invoice.as_str()).expect("a payment of it");
        let pi = paid["payment"]["payment_intent"].as_str().expect("an id").to_owned();
        // Its charge names no invoice: that is asked for, or was told.
        shop.stripe.refund_in_dashboard(&pi, 500);
        shop.hear().await;
        assert_eq!(shop.balance().await, 7500);
        let id = shop.payments().await[0]["payment_id"].clone();
        let path = shop.app.alice.own(&format!("/payments/{id}/refund"));
        let back = shop.app.admin.post(&path, json!({})).await.data();
        assert_eq!((&back["amount_refunded"], &back["credits_reclaimed"]), (&json!(2000), &json!(10_000)));
        shop.hear().await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await)), (json!(0), as_stands("pro", "active", false)));
    }

    async fn what_is_tried_is_paid_for_when_the_trial_ends_and_is_tried_once(shop: &Shop) {
        shop.subscribe("tried").await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await)), (json!(0), as_stands("tried", "trialing", false)));
        assert_eq!(shop.app.alice.get("/api/v1/users/me").await.ok()["plan"], "tried");
        let _ = shop.app.alice.post("/api/v1/subscriptions", json!({"plan_type": "enterprise"})).await.with(409);
        shop.days(8);
        shop.hear().await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await)), (json!(10_000), as_stands("tried", "active", false)));
        let _ = shop.app.alice.post("/api/v1/subscriptions/cancel", json!({"at_period_end": false})).await.ok();
        shop.hear().await;
        shop.subscribe("tried").await;
        assert_eq!(stands(&shop.subscription().await).1, "active", "no second trial");
    }

    async fn what_is_not_paid_stays_for_the_days_of_grace(shop: &Shop) {
        let sub = shop.subscribe("pro").await;
        let customer = shop.stripe.object(&sub)["customer"].as_str().expect("a customer").to_owned();
        shop.stripe.set_card(&customer, Card::Declined);
        shop.days(32);
        shop.hear().await;
        shop.app.sweep().await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await).1), (json!(0), "past_due".to_owned()));
        assert_eq!(shop.app.alice.get("/api/v1/users/me").await.ok()["plan"], "pro", "the plan stays for some days");
        // The card works again before Stripe gives up.
        shop.stripe.set_card(&customer, Card::Good);
        shop.days(3);
        shop.hear().await;
        assert_eq!((shop.balance().await, stands(&shop.subscription().await).1), (json!(10_000), "active".to_owned()));
    }

    async fn thirteen_months_with_failures_come_out_to_the_day(shop: &Shop) {
        let sub = shop.subscribe("pro").await;
        let customer = shop.stripe.object(&sub)["customer"].as_str().expect("a customer").to_owned();
        let mut given = 10_000;
        for month in 1..13 {
            let end = shop.stripe.object(&sub)["items"]["data"][0]["current_period_end"].as_i64().expect("an end");
            // Every fourth month the card fails at first.
            let fails = month % 4 == 0;
            shop.stripe.set_card(&customer, if fails { Card::Declined } else { Card::Good });
            shop.days(u64::try_from((end - shop.stripe.now()) / 86_400 + 1).expect("days"));
            shop.hear().await;
            shop.app.sweep().await;
            if fails {
                assert_eq!((shop.balance().await, stands(&shop.subscription().await).1), (json!(0), "past_due".to_owned()), "{month}");
                shop.stripe.set_card(&customer, Card::Good);
                shop.days(3);
                shop.hear().await;
            }
            given += 10_000;
            let of = shop.subscription().await;
            assert_eq!((shop.balance().await, stands(&of)), (json!(10_000), as_stands("pro", "active", false)), "{month}");
            let item = &shop.stripe.object(&sub)["items"]["data"][0];
            let at = |field: &str| item[field].as_i64().map(chrono);
            assert_eq!(of["current_period_start"].as_str().map(str::to_owned), at("current_period_start"), "{month}");
            assert_eq!(of["current_period_end"].as_str().map(str::to_owned), at("current_period_end"), "{month}");
        }
        let grants = shop.app.alice.get(&shop.app.alice.own("/credits/grants?limit=100")).await.data();
        let total: i64 = grants.as_array().expect("grants").iter().filter_map(|grant| grant["amount"].as_i64()).sum();
        assert_eq!(total, given, "each month's credits once");
    }
}

/// The plans of the defaults have no price in Stripe: their checkouts name it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plans_of_the_defaults_can_be_bought_as_they_are() {
    let shop = Shop::open_with(testkit::Engine::Sqlite, &[("PLANS_FILE", "")]).await;
    shop.subscribe("pro").await;
    assert_eq!(
        (shop.balance().await, stands(&shop.subscription().await)),
        (json!(10_000), as_stands("pro", "active", false))
    );
    let change = shop.app.alice.post("/api/v1/subscriptions", json!({"plan_type": "enterprise"})).await;
    assert!(change.with(409)["message"].as_str().is_some_and(|why| why.contains("stripe_price")));
    shop.days(31);
    shop.hear().await;
    shop.app.sweep().await;
    assert_eq!(shop.balance().await, 10_000, "thirty days later the next period was paid");
    shop.app.finish().await;
}

/// A second as answers show it.
fn chrono(second: i64) -> String {
    let at = kernel::Timestamp::from_micros(second * 1_000_000);
    serde_json::to_value(at).expect("JSON").as_str().expect("a text").to_owned()
}
