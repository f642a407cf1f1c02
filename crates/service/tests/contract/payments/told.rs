//! What others are told of money and of plans that are paid for.

use super::shop::{Shop, shops};
use crate::events::{kinds, told, want_all};
use serde_json::json;

/// Kinds about money and plans since that many.
async fn since(shop: &Shop, before: usize) -> Vec<String> {
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
        let before = all.len();
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
        let before = told(&shop.app).await.len();
        shop.days(32);
        shop.hear().await;
        shop.app.sweep().await;
        let month = since(shop, before).await;
        assert_eq!((count(&month, "subscription.renewed"), count(&month, "payment.succeeded")), (1, 1), "{month:?}");
        let before = told(&shop.app).await.len();
        let _ = shop.app.alice.post("/api/v1/subscriptions/cancel", json!({})).await.ok();
        shop.hear().await;
        assert_eq!(since(shop, before).await, ["subscription.canceled"]);
        shop.days(40);
        shop.hear().await;
        shop.app.sweep().await;
        let ended = since(shop, before).await;
        assert_eq!(count(&ended, "subscription.ended"), 1, "{ended:?}");
    }
}
