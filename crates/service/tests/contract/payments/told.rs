//! What others are told of money and of plans that are paid for.

use super::shop::{Shop, shops};
use super::top_up::{saved, set, settled};
use crate::events::{kinds, last, told, want_all};
use serde_json::json;
use std::time::Duration;
use testkit::stripe::Card;

/// Kinds about money and plans after that one.
async fn since(shop: &Shop, before: i64) -> Vec<String> {
    let all = kinds(&shop.app, before).await;
    all.into_iter().filter(|kind| !kind.starts_with("credit.") && !kind.starts_with("user.")).collect()
}

shops! {
    async fn a_payment_is_told_once_however_often_it_is_heard_of(shop: &Shop) {
        want_all(&shop.app).await;
        let begun = shop.app.alice.post("/api/v1/payments/create-intent", json!({"amount": 2999})).await.ok();
        assert_eq!(since(shop, 0).await, Vec::<String>::new(), "no money came");
        shop.stripe.pay_intent(begun["payment_intent_id"].as_str().expect("an id"));
        shop.hear().await;
        shop.hear().await;
        assert_eq!(since(shop, 0).await, ["payment.succeeded"]);
        let all = told(&shop.app).await;
        let paid = all.iter().find(|one| one.kind == "payment.succeeded").expect("it was told");
        assert_eq!((&paid.body["amount"], &paid.body["data"]["status"]), (&json!(2999), &json!("succeeded")));
        let before = last(&shop.app).await;
        let path = shop.app.alice.own(&format!("/payments/{}/refund", paid.body["data"]["payment_id"]));
        let _ = shop.app.backend.post(&path, json!({"amount": 1000})).await.ok();
        shop.hear().await;
        assert_eq!(since(shop, before).await, ["payment.refunded"]);
        let kinds = kinds(&shop.app, before).await;
        assert!(kinds.iter().any(|kind| kind == "credit.reversed"), "{kinds:?}");
    }

    async fn the_life_of_a_plan_is_told(shop: &Shop) {
        want_all(&shop.app).await;
        shop.subscribe("pro").await;
        let begun = since(shop, 0).await;
        let count = |of: &[String], kind: &str| of.iter().filter(|one| *one == kind).count();
        assert_eq!((count(&begun, "subscription.created"), count(&begun, "payment.succeeded")), (1, 1), "{begun:?}");
        let before = last(&shop.app).await;
        shop.days(32);
        shop.hear().await;
        shop.app.sweep().await;
        let month = since(shop, before).await;
        assert_eq!((count(&month, "subscription.renewed"), count(&month, "payment.succeeded")), (1, 1), "{month:?}");
        let before = last(&shop.app).await;
        let _ = shop.app.alice.post("/api/v1/subscriptions/cancel", json!({})).await.ok();
        shop.hear().await;
        assert_eq!(since(shop, before).await, ["subscription.canceled"]);
        shop.days(40);
        shop.hear().await;
        shop.app.sweep().await;
        let ended = since(shop, before).await;
        assert_eq!(count(&ended, "subscription.ended"), 1, "{ended:?}");
    }

    async fn money_that_does_not_come_is_told_and_that_it_came_after_all(shop: &Shop) {
        want_all(&shop.app).await;
        let begun = shop.app.alice.post("/api/v1/payments/create-intent", json!({"amount": 2999})).await.ok();
        let intent = begun["payment_intent_id"].as_str().expect("an id");
        shop.stripe.fail_intent(intent);
        shop.hear().await;
        shop.hear().await;
        assert_eq!(since(shop, 0).await, ["payment.failed"]);
        shop.stripe.pay_intent(intent);
        shop.hear().await;
        assert_eq!(since(shop, 0).await, ["payment.failed", "payment.succeeded"]);
    }

    async fn a_dispute_is_told_and_so_is_its_end(shop: &Shop) {
        let begun = shop.app.alice.post("/api/v1/payments/create-intent", json!({"amount": 2999})).await.ok();
        let intent = begun["payment_intent_id"].as_str().expect("an id");
        shop.stripe.pay_intent(intent);
        shop.hear().await;
        want_all(&shop.app).await;
        shop.stripe.dispute(intent);
        shop.hear().await;
        shop.hear().await;
        assert_eq!(since(shop, 0).await, ["payment.disputed"]);
        shop.stripe.close_dispute(intent, true);
        shop.hear().await;
        assert_eq!(since(shop, 0).await, ["payment.disputed", "payment.disputed"]);
        let all = told(&shop.app).await;
        let amounts: Vec<_> = all.iter().filter(|one| one.kind == "payment.disputed").map(|one| &one.body["amount"]).collect();
        assert_eq!(amounts, [&json!(2999), &json!(0)]);
    }

    async fn a_plan_that_is_not_paid_is_told(shop: &Shop) {
        let sub = shop.subscribe("pro").await;
        let customer = shop.stripe.object(&sub)["customer"].as_str().expect("a customer").to_owned();
        want_all(&shop.app).await;
        shop.stripe.set_card(&customer, Card::Declined);
        shop.days(32);
        shop.hear().await;
        shop.app.sweep().await;
        shop.hear().await;
        let month = since(shop, 0).await;
        let count = |kind: &str| month.iter().filter(|one| *one == kind).count();
        assert_eq!((count("subscription.past_due"), count("payment.failed")), (1, 1), "{month:?}");
    }

    async fn a_top_up_that_is_declined_is_told_and_that_it_is_turned_off(shop: &Shop) {
        let customer = saved(shop).await;
        want_all(&shop.app).await;
        shop.stripe.set_card(&customer, Card::Declined);
        set(shop, 1000, 10_000).await;
        for n in 1..=3 {
            settled(shop, n).await;
            // Its event says nothing new.
            shop.hear().await;
            shop.pass(Duration::from_secs(4 * 3600));
        }
        let of_one = ["payment.failed", "payment.canceled"];
        let third = ["payment.failed", "alert.top_up_disabled", "payment.canceled"];
        assert_eq!(since(shop, 0).await, [&of_one[..], &of_one[..], &third[..]].concat());
    }

    async fn a_top_up_is_turned_off_once_however_much_goes_back(shop: &Shop) {
        saved(shop).await;
        set(shop, 10, 10_000).await;
        want_all(&shop.app).await;
        let charge = shop.stripe.objects("charge")[0]["id"].as_str().expect("an id").to_owned();
        shop.stripe.refund_in_dashboard(&charge, 50);
        shop.hear().await;
        shop.stripe.refund_in_dashboard(&charge, 20);
        shop.hear().await;
        let told = since(shop, 0).await;
        let count = |kind: &str| told.iter().filter(|one| *one == kind).count();
        assert_eq!((count("payment.refunded"), count("alert.top_up_disabled")), (2, 1), "{told:?}");
    }
}
