//! Events of Stripe: signed, once for ever, in any order.

use super::shop::{Shop, shops};
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use testkit::stripe::{FakeEvent, Signer, WEBHOOK_SECRET, post};
use testkit::{Engine, TestApp};

fn event(id: &str, kind: &str, object: Value) -> String {
    json!({"id": id, "object": "event", "type": kind, "created": 1_753_575_086, "livemode": false, "data": {"object": object}}).to_string()
}

fn intent(id: &str, user: &str) -> Value {
    json!({"id": id, "object": "payment_intent", "status": "succeeded", "amount": 1000, "amount_received": 1000, "currency": "usd",
        "customer": null, "metadata": {"user_id": user, "credits": "700.5"}})
}

impl Shop {
    async fn send(&self, body: String, secrets: &[&str], age: i64) -> (u16, Value) {
        let header = Signer::header(&body, secrets, self.stripe.now() - age);
        post(&self.hook(), body, &header).await
    }
}

shops! {
    async fn only_stripe_is_believed(shop: &Shop) {
        let body = event("evt_1", "payment_intent.succeeded", intent("pi_1", "auth0|alice"));
        let (status, answer) = post(&shop.hook(), body.clone(), "").await;
        assert_eq!((status, &answer["detail"][0]["loc"][1]), (400, &json!("Stripe-Signature")), "{answer}");
        for (secrets, age) in [(&["whsec_wrong"][..], 0), (&[WEBHOOK_SECRET], 301), (&[WEBHOOK_SECRET], -301)] {
            let (status, answer) = shop.send(body.clone(), secrets, age).await;
            assert_eq!(status, 400, "{secrets:?} {age}: {answer}");
        }
        let header = Signer::header(&body, &[WEBHOOK_SECRET], shop.stripe.now());
        let (status, _) = post(&shop.hook(), body.replace("auth0|alice", "auth0|mallory"), &header).await;
        assert_eq!(status, 400, "the body was changed");
        assert_eq!((shop.events("processed").await, shop.balance().await), (json!([]), json!(0)));
        // The old secret beside the new one, and both signatures in one header.
        let (status, answer) = shop.send(body, &["whsec_next", WEBHOOK_SECRET], 299).await;
        assert_eq!((status, &answer["processed"]), (200, &json!(true)), "{answer}");
        shop.settle().await;
        assert_eq!(shop.balance().await, 700.5);
    }

    async fn what_means_nothing_here_is_answered_all_the_same(shop: &Shop) {
        let body = event("evt_9", "product.created", json!({"id": "prod_1"}));
        let (status, answer) = shop.send(body.clone(), &[WEBHOOK_SECRET], 0).await;
        let wanted = json!({"success": true, "processed": true, "unhandled": true, "duplicate": false, "event_id": "evt_9", "event_type": "product.created"});
        assert_eq!((status, answer), (200, wanted));
        assert_eq!(shop.send(body, &[WEBHOOK_SECRET], 0).await.1["duplicate"], true);
        for (body, field) in [
            (event("evt_l", "invoice.paid", json!({})).replace("\"livemode\":false", "\"livemode\":true"), "livemode"),
            (event("", "invoice.paid", json!({})), "id"),
            (event("evt_\u{0}", "invoice.paid", json!({})), "id"),
            (event("evt_k", &"x".repeat(256), json!({})), "type"),
            (json!({"id": "evt_m", "type": "invoice.paid", "created": 1, "data": {}}).to_string(), "data"),
            (json!({"id": "evt_m", "created": 1, "data": {"object": {}}}).to_string(), "type"),
        ] {
            let (status, answer) = shop.send(body.clone(), &[WEBHOOK_SECRET], 0).await;
            assert_eq!((status, &answer["detail"][0]["loc"][1]), (400, &json!(field)), "{body}: {answer}");
        }
        let (status, _) = shop.send("[]".to_owned(), &[WEBHOOK_SECRET], 0).await;
        assert_eq!(status, 400);
        let large = event("evt_x", "invoice.paid", json!({"x": "y".repeat(1024 * 1024)}));
        let header = Signer::header("x", &[WEBHOOK_SECRET], shop.stripe.now());
        assert_eq!(post(&shop.hook(), large, &header).await.0, 413);
    }

    async fn an_event_that_cannot_be_taken_in_is_shown_and_may_be_tried_again(shop: &Shop) {
        let body = event("evt_w", "checkout.session.completed", json!({"id": "cs_1", "mode": "payment", "payment_status": "paid",
            "amount_total": 1000, "currency": "usd", "client_reference_id": "auth0|later", "payment_intent": "pi_later"}));
        assert_eq!(shop.send(body, &[WEBHOOK_SECRET], 0).await.0, 200);
        shop.settle().await;
        let waiting = shop.events("waiting").await;
        assert_eq!((&waiting[0]["event_id"], &waiting[0]["attempts"]), (&json!("evt_w"), &json!(1)), "{waiting}");
        assert_eq!(waiting[0]["error"], "it is not known whose checkout it is");
        let later = shop.app.user("auth0|later");
        later.ensure().await;
        let replay = "/api/v1/admin/stripe/events/evt_w/replay";
        let _ = shop.app.alice.post(replay, json!({})).await.with(403);
        let done = shop.app.admin.post(replay, json!({})).await.data();
        assert_eq!((&done["status"], &done["error"]), (&json!("processed"), &Value::Null));
        assert_eq!(crate::support::balance(&later).await, 5000);
        let _ = shop.app.admin.post(replay, json!({})).await.data();
        assert_eq!(crate::support::balance(&later).await, 5000, "what it did is not done twice");
        let _ = shop.app.admin.post("/api/v1/admin/stripe/events/evt_none/replay", json!({})).await.with(404);
        let _ = shop.app.admin.get("/api/v1/admin/stripe/events?status=odd").await.with(400);
    }

    async fn fifty_at_once_give_credits_once(shop: &Shop) {
        let session = shop.checkout(json!({"pack": "small"})).await;
        shop.stripe.complete_checkout(&session);
        let events = shop.stripe.take_events();
        let paid = events.iter().find(|event| event.kind == "checkout.session.completed").expect("the event");
        let sent = futures_util::future::join_all((0..50).map(|_| shop.deliver(paid))).await;
        assert_eq!(sent.iter().filter(|answer| answer["duplicate"] == false).count(), 1);
        shop.settle().await;
        assert_eq!(shop.balance().await, 5000);
        for event in &events {
            shop.deliver(event).await;
        }
        shop.settle().await;
        assert_eq!(shop.balance().await, 5000, "the payment's own event says the same");
    }

    async fn a_refund_that_is_heard_of_first_is_taken_back_all_the_same(shop: &Shop) {
        let session = shop.checkout(json!({"pack": "small"})).await;
        shop.stripe.complete_checkout(&session);
        let paid = shop.stripe.take_events();
        let pi = shop.stripe.object(&session)["payment_intent"].as_str().expect("an id").to_owned();
        shop.stripe.refund_in_dashboard(&pi, 250);
        shop.hear().await;
        assert_eq!(shop.balance().await, 0);
        for event in &paid {
            shop.deliver(event).await;
        }
        shop.settle().await;
        assert_eq!(shop.balance().await, 3750);
    }
}

/// Every order of a few things.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1);
    shorter
        .iter()
        .flat_map(|order| {
            (0..=order.len()).map(move |at| {
                let mut order = order.clone();
                order.insert(at, n - 1);
                order
            })
        })
        .collect()
}

/// The events of a life: bought, begun, ended, paid, paid again, renewed.
fn six(events: &[FakeEvent]) -> Vec<FakeEvent> {
    let wanted =
        ["checkout.session.completed", "customer.subscription.created", "customer.subscription.deleted"];
    let last =
        |kind: &str| events.iter().rfind(|event| event.kind == kind).unwrap_or_else(|| panic!("{kind}"));
    let mut six: Vec<FakeEvent> = wanted.iter().map(|kind| last(kind).clone()).collect();
    six.extend(events.iter().filter(|event| event.kind == "invoice.paid").cloned());
    six.push(last("customer.subscription.updated").clone());
    assert_eq!(six.len(), 6);
    six
}

/// All that can be seen of a user, without what is counted.
async fn seen(app: &TestApp, user: &str) -> Value {
    let user = app.user(user);
    let mut subscription = user.get("/api/v1/subscriptions/current").await.ok()["subscription"].clone();
    let mut payments = user.get(&user.own("/payments")).await.data();
    let mut rows: Vec<&mut Value> = vec![&mut subscription];
    rows.extend(payments.as_array_mut().expect("payments"));
    for row in rows {
        for field in
            ["id", "payment_id", "user_id", "payment_intent_id", "invoice_id", "created_at", "updated_at"]
        {
            row[field].take();
        }
    }
    payments.as_array_mut().expect("payments").sort_by_key(Value::to_string);
    let balance = crate::support::balance(&user).await;
    let plan = user.get("/api/v1/users/me").await.ok()["plan"].clone();
    json!({"subscription": subscription, "payments": payments, "balance": balance, "plan": plan})
}

/// Tells of a life in each of these orders, each to a user of its own, so many events at once.
async fn lives(engine: Engine, orders: Vec<Vec<usize>>, at_once: usize) {
    let shop = Shop::open(engine).await;
    let count = orders[0].len();
    let name = |n: usize| format!("auth0|life{n}");
    for chunk in (0..orders.len()).collect::<Vec<_>>().chunks(16) {
        let begun = chunk.iter().map(|n| {
            let user = shop.app.user(&name(*n));
            async move {
                user.ensure().await;
                let begun =
                    user.post("/api/v1/payments/create-checkout", json!({"plan_type": "pro"})).await.ok();
                begun["session_id"].as_str().expect("an id").to_owned()
            }
        });
        for session in futures_util::future::join_all(begun).await {
            shop.stripe.complete_checkout(&session);
        }
    }
    shop.stripe.advance_to(shop.stripe.now() + 32 * 86_400);
    for sub in shop.stripe.objects("subscription") {
        shop.stripe.cancel_in_dashboard(sub["id"].as_str().expect("an id"));
    }
    let mut by_customer: BTreeMap<String, Vec<FakeEvent>> = BTreeMap::new();
    for event in shop.stripe.take_events() {
        if let Some(customer) = event.object()["customer"].as_str() {
            by_customer.entry(customer.to_owned()).or_default().push(event);
        }
    }
    let users: BTreeMap<String, String> = shop
        .stripe
        .objects("customer")
        .iter()
        .map(|of| {
            (
                of["metadata"]["user_id"].as_str().expect("a user").to_owned(),
                of["id"].as_str().expect("an id").to_owned(),
            )
        })
        .collect();
    let now = 1_753_575_086;
    for chunk in orders.iter().enumerate().collect::<Vec<_>>().chunks(16) {
        let told = chunk.iter().map(|(n, order)| {
            let six = six(&by_customer[&users[&name(*n)]]);
            let hook = shop.hook();
            let told = order.iter().enumerate().flat_map(move |(place, at)| {
                // One of them comes twice.
                let times = 1 + usize::from(place == n % count);
                std::iter::repeat_n((six[*at].body(), hook.clone()), times)
            });
            let told = told.map(async |(body, hook)| {
                let header = Signer::header(&body, &[WEBHOOK_SECRET], now);
                let (status, answer) = post(&hook, body, &header).await;
                assert_eq!(status, 200, "{answer}");
            });
            stream::iter(told).buffered(at_once).for_each(async |()| {})
        });
        futures_util::future::join_all(told).await;
    }
    shop.settle().await;
    assert_eq!(shop.events("waiting").await, json!([]));
    let wanted = seen(&shop.app, &name(0)).await;
    assert_eq!(wanted["subscription"]["status"], "canceled");
    assert_eq!(wanted["balance"], 20_000);
    for (n, order) in orders.iter().enumerate() {
        assert_eq!(seen(&shop.app, &name(n)).await, wanted, "{order:?}");
    }
    shop.app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_of_a_life_ends_the_same_on_sqlite() {
    lives(Engine::Sqlite, orders(6), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_of_a_life_ends_the_same_on_postgres() {
    lives(Engine::Postgres, orders(5), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_that_is_told_all_at_once_ends_the_same_on_sqlite() {
    lives(Engine::Sqlite, vec![(0..6).collect(); 48], 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_that_is_told_all_at_once_ends_the_same_on_postgres() {
    lives(Engine::Postgres, vec![(0..6).collect(); 48], 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_secret_no_event_is_taken_and_without_a_key_nothing_is_sold() {
    let app = TestApp::start(Engine::Sqlite).await;
    app.alice.ensure().await;
    let hook = format!("http://{}/api/v1/webhooks/stripe", app.address);
    let (status, answer) = post(&hook, "{}".to_owned(), "t=1,v1=00").await;
    assert_eq!(
        (status, &answer["message"]),
        (503, &json!("Events are not taken: STRIPE_WEBHOOK_SECRET is not set"))
    );
    for (path, body) in [
        ("/api/v1/payments/create-intent", json!({"amount": 500})),
        ("/api/v1/payments/create-checkout", json!({"plan_type": "pro"})),
        ("/api/v1/payments/portal", json!({})),
        ("/api/v1/subscriptions", json!({"plan_type": "pro"})),
    ] {
        let refused = app.alice.post(path, body).await.with(503);
        assert_eq!(refused["message"], "Payments are not set up: STRIPE_SECRET_KEY is not set", "{path}");
    }
    app.finish().await;
}
