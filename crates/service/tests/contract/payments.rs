//! Money through Stripe: intents, checkouts, packs, refunds, and events however they come.

mod erase;
mod events;
mod life;
pub mod shop;
mod told;
mod top_up;

use serde_json::{Value, json};
use shop::{Shop, shops};
use testkit::stripe::{Effect, Fault, Rule};

shops! {
    async fn an_amount_is_paid_and_gives_credits_once(shop: &Shop) {
        let alice = &shop.app.alice;
        let begun = alice.post("/api/v1/payments/create-intent", json!({"amount": 2999, "currency": "usd"})).await.ok();
        assert_eq!(begun["status"], "requires_payment_method");
        assert_eq!((&begun["amount"], &begun["currency"], &begun["credits"]), (&json!(2999), &json!("usd"), &json!(14995)));
        assert!(begun["client_secret"].as_str().is_some_and(|secret| !secret.is_empty()));
        let id = begun["payment_intent_id"].as_str().expect("an id");
        assert!(id.starts_with("pi_"));
        assert_eq!(shop.balance().await, 0, "nothing was paid");
        shop.stripe.pay_intent(id);
        shop.hear().await;
        assert_eq!(shop.balance().await, 14_995);
        let payment = &shop.payments().await[0];
        assert_eq!((&payment["status"], &payment["amount_received"], &payment["credits"]), (&json!("succeeded"), &json!(2999), &json!(14995)));
        // The credits never expire.
        shop.days(400);
        shop.app.sweep().await;
        assert_eq!(shop.balance().await, 14_995);
    }

    async fn a_request_that_comes_again_begins_one_payment(shop: &Shop) {
        let alice = &shop.app.alice;
        let body = json!({"amount": 1000, "idempotency_key": "buy-1"});
        let first = alice.post("/api/v1/payments/create-intent", body.clone()).await.ok();
        let again = alice.post("/api/v1/payments/create-intent", body).await.ok();
        assert_eq!(first, again);
        let other = alice.post("/api/v1/payments/create-intent", json!({"amount": 2000, "idempotency_key": "buy-1"})).await;
        assert_eq!(other.status, 422, "{}", other.text());
        assert_eq!(shop.payments().await.as_array().map(Vec::len), Some(1));
        assert_eq!(shop.stripe.objects("payment_intent").len(), 1);
    }

    async fn a_pack_is_bought_by_checkout(shop: &Shop) {
        let session = shop.checkout(json!({"pack": "small", "success_url": "https://example.com/done"})).await;
        shop.stripe.complete_checkout(&session);
        shop.hear().await;
        assert_eq!(shop.balance().await, 5000);
        let payment = &shop.payments().await[0];
        assert_eq!((&payment["kind"], &payment["item"], &payment["amount"]), (&json!("pack"), &json!("small"), &json!(1000)));
        let grants = shop.app.alice.get(&shop.app.alice.own("/credits/grants")).await.data();
        assert_eq!((&grants[0]["source"], &grants[0]["expires_at"]), (&json!("purchase"), &Value::Null));
    }

    async fn a_checkout_that_is_given_up_gives_nothing(shop: &Shop) {
        let session = shop.checkout(json!({"pack": "small"})).await;
        shop.stripe.abandon_checkout(&session);
        shop.hear().await;
        assert_eq!(shop.balance().await, 0);
        assert_eq!(shop.payments().await[0]["status"], "canceled");
    }

    async fn what_cannot_be_bought_is_refused_and_leaves_nothing(shop: &Shop) {
        let alice = &shop.app.alice;
        let long = format!("https://example.com/{}", "a".repeat(2000));
        for (path, body, field) in [
            ("create-intent", json!({"amount": 49}), "amount"),
            ("create-intent", json!({"amount": 100_000_000}), "amount"),
            ("create-intent", json!({"amount": -1}), "amount"),
            ("create-intent", json!({"amount": "ten"}), "amount"),
            ("create-intent", json!({}), "amount"),
            ("create-intent", json!({"amount": 500, "currency": "eur"}), "currency"),
            ("create-intent", json!({"amount": 500, "pack": "small"}), "amount"),
            ("create-intent", json!({"pack": "huge"}), "pack"),
            ("create-intent", json!({"amount": 500, "user_id": "auth0|bob"}), "user_id"),
            ("create-checkout", json!({}), "plan_type"),
            ("create-checkout", json!({"plan_type": "free"}), "plan_type"),
            ("create-checkout", json!({"plan_type": "gold"}), "plan_type"),
            ("create-checkout", json!({"plan_type": "pro", "pack": "small"}), "pack"),
            ("create-checkout", json!({"plan_type": "pro", "success_url": "javascript:alert(1)"}), "success_url"),
            ("create-checkout", json!({"plan_type": "pro", "cancel_url": "ftp://example.com"}), "cancel_url"),
            ("create-checkout", json!({"plan_type": "pro", "cancel_url": "https://a@b.example/"}), "cancel_url"),
            ("create-checkout", json!({"plan_type": "pro", "success_url": long}), "success_url"),
            ("portal", json!({"return_url": "/account"}), "return_url"),
        ] {
            let refused = alice.post(&format!("/api/v1/payments/{path}"), body.clone()).await;
            let answer = refused.with(400);
            assert_eq!(answer["detail"][0]["loc"][1], field, "{path} {body}: {answer}");
        }
        assert_eq!(shop.payments().await, json!([]));
        assert_eq!(shop.stripe.requests().len(), 0, "Stripe was not asked");
    }

    async fn the_card_and_the_invoices_are_on_stripes_page(shop: &Shop) {
        let page = shop.app.alice.post("/api/v1/payments/portal", json!({"return_url": "https://example.com/account"})).await.ok();
        assert!(page["url"].as_str().is_some_and(|url| url.starts_with("https://")), "{page}");
        assert_eq!(page["return_url"], "https://example.com/account");
        let again = shop.app.alice.post("/api/v1/payments/portal", json!({})).await.ok();
        assert!(again["return_url"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1")), "{again}");
        assert_eq!(shop.stripe.objects("customer").len(), 1, "a user is one customer");
    }

    async fn a_refund_takes_back_what_the_money_gave(shop: &Shop) {
        let (alice, backend) = (&shop.app.alice, &shop.app.backend);
        let session = shop.checkout(json!({"pack": "small"})).await;
        shop.stripe.complete_checkout(&session);
        shop.hear().await;
        let id = shop.payments().await[0]["payment_id"].clone();
        let refund = format!("/payments/{id}/refund");
        alice.post(&alice.own(&refund), json!({})).await.refuses(403, "AuthorizationException", "A user cannot do this; it needs a service key or an admin");
        let body = json!({"amount": 400, "idempotency_key": "r1"});
        let back = backend.post(&alice.own(&refund), body.clone()).await.data();
        assert_eq!((&back["amount_refunded"], &back["credits_reclaimed"], &back["credits_owed"]), (&json!(400), &json!(2000), &json!(0)));
        assert_eq!(shop.balance().await, 3000);
        assert_eq!(backend.post(&alice.own(&refund), body).await.data(), back, "once");
        // Its events say the same, and take nothing more.
        shop.hear().await;
        assert_eq!(shop.balance().await, 3000);
        // The rest, of which some was spent: that is owed.
        let _ = alice.post(&alice.own("/credits/consume"), json!({"amount": 2500})).await.ok();
        let back = backend.post(&alice.own(&refund), json!({})).await.data();
        assert_eq!((&back["amount_refunded"], &back["credits_reclaimed"], &back["credits_owed"]), (&json!(1000), &json!(5000), &json!(2500)));
        shop.hear().await;
        assert_eq!(shop.balance().await, 0);
        let granted = json!({"amount": 3000, "source": "promo"});
        let _ = backend.post(&alice.own("/credits/grants"), granted).await.ok();
        assert_eq!(shop.balance().await, 500, "what was owed is paid back first");
        let more = backend.post(&alice.own(&refund), json!({})).await;
        assert_eq!(more.status, 409, "{}", more.text());
    }

    async fn a_dispute_takes_back_and_a_won_one_gives_again(shop: &Shop) {
        let session = shop.checkout(json!({"pack": "small"})).await;
        shop.stripe.complete_checkout(&session);
        shop.hear().await;
        let pi = shop.payments().await[0]["payment_intent_id"].as_str().expect("an id").to_owned();
        shop.stripe.dispute(&pi);
        shop.hear().await;
        assert_eq!(shop.balance().await, 0);
        assert_eq!(shop.payments().await[0]["disputed"], true);
        shop.stripe.close_dispute(&pi, true);
        shop.hear().await;
        assert_eq!(shop.balance().await, 5000);
        assert_eq!(shop.payments().await[0]["disputed"], false);
        // And what is refunded afterwards takes its credits back all the same.
        shop.stripe.refund_in_dashboard(&pi, 1000);
        shop.hear().await;
        assert_eq!(shop.balance().await, 0);
        let payment = &shop.payments().await[0];
        assert_eq!((&payment["credits_reclaimed"], &payment["credits_owed"]), (&json!(5000), &json!(0)));
    }

    async fn whoever_deletes_itself_meanwhile_gets_and_gives_back_later(shop: &Shop) {
        let alice = &shop.app.alice;
        let session = shop.checkout(json!({"pack": "small"})).await;
        shop.stripe.complete_checkout(&session);
        shop.hear().await;
        let pi = shop.payments().await[0]["payment_intent_id"].as_str().expect("an id").to_owned();
        let delete = || alice.request(reqwest::Method::DELETE, &alice.own("")).send();
        let _ = delete().await.ok();
        shop.stripe.dispute(&pi);
        let _ = shop.stripe.deliver_all(&shop.hook()).await;
        shop.settle().await;
        alice.ensure().await;
        shop.app.sweep().await;
        assert_eq!(shop.balance().await, 0, "the bank took the money back");
        // A plan that is charged on must be cancelled first.
        shop.subscribe("pro").await;
        let why = "A plan that is paid through Stripe is in force; it must be cancelled first";
        assert_eq!(delete().await.with(409)["message"], why);
        let _ = alice.post("/api/v1/subscriptions/cancel", json!({})).await.ok();
        let _ = delete().await.ok();
    }

    async fn a_key_whose_payment_is_over_begins_nothing(shop: &Shop) {
        let alice = &shop.app.alice;
        let body = json!({"amount": 1000, "idempotency_key": "again"});
        let begun = alice.post("/api/v1/payments/create-intent", body.clone()).await.ok();
        shop.stripe.pay_intent(begun["payment_intent_id"].as_str().expect("an id"));
        shop.hear().await;
        // The answer is forgotten by then, and the payment is not.
        shop.days(60);
        shop.app.sweep().await;
        let over = alice.post("/api/v1/payments/create-intent", body).await;
        assert!(over.status == 409 || over.status == 200, "{}", over.text());
        assert_eq!(shop.stripe.objects("payment_intent").len(), 1);
    }

    async fn when_stripe_is_down_nothing_is_half_done(shop: &Shop) {
        let alice = &shop.app.alice;
        let body = json!({"pack": "small", "idempotency_key": "once"});
        for fault in [Fault::Status(500, Effect::Before), Fault::Status(429, Effect::Before), Fault::Drop(Effect::Before), Fault::Drop(Effect::After)] {
            shop.stripe.fail(Rule::on("POST", "/v1/checkout/sessions", fault).times(3));
            let down = alice.post("/api/v1/payments/create-checkout", body.clone()).await;
            assert_eq!(down.status, 503, "{}", down.text());
            shop.stripe.heal();
            shop.app.clock.advance(std::time::Duration::from_secs(20));
        }
        // The same request, once Stripe is back, finds what it began.
        let begun = alice.post("/api/v1/payments/create-checkout", body).await.ok();
        let session = begun["session_id"].as_str().expect("an id");
        assert_eq!(shop.stripe.objects("checkout.session").len(), 1, "one checkout, however often it was asked for");
        assert_eq!(shop.payments().await.as_array().map(Vec::len), Some(1));
        shop.stripe.complete_checkout(session);
        shop.hear().await;
        assert_eq!(shop.balance().await, 5000);
    }

    async fn a_busy_stripe_is_asked_again(shop: &Shop) {
        shop.stripe.fail(Rule::on("POST", "/v1/checkout/sessions", Fault::Status(429, Effect::Before)).times(2));
        shop.checkout(json!({"pack": "small"})).await;
    }

    async fn a_user_may_have_a_hundred_payments_open(shop: &Shop) {
        let alice = &shop.app.alice;
        for n in 0..100 {
            let body = json!({"amount": 500});
            let begun = alice.post("/api/v1/payments/create-intent", body).await;
            assert_eq!(begun.status, 200, "{n}: {}", begun.text());
        }
        let more = alice.post("/api/v1/payments/create-intent", json!({"amount": 500})).await;
        more.refuses(429, "TooManyPaymentsException", "A user may have at most 100 payments open that began within a day");
    }
}
