//! A customer is erased: amounts stay, and nothing that says whose they were.

use super::shop::{Shop, shops};
use crate::erase::{heard, told};
use serde_json::json;

shops! {
    async fn a_customer_who_is_erased_leaves_amounts(shop: &Shop) {
        let alice = &shop.app.alice;
        let body = json!({"amount": 2999, "currency": "usd", "idempotency_key": "alice-buys"});
        let begun = alice.post("/api/v1/payments/create-intent", body).await.ok();
        shop.stripe.pay_intent(begun["payment_intent_id"].as_str().expect("an id"));
        let session = shop.checkout(json!({"pack": "small"})).await;
        shop.stripe.complete_checkout(&session);
        shop.hear().await;
        shop.subscribe("pro").await;
        let refused = alice.delete(&alice.own("?erase=true")).await;
        refused.refuses(409, "ConflictException", "A plan that is paid through Stripe is in force; it must be cancelled first");
        let _ = alice.post("/api/v1/subscriptions/cancel", json!({})).await.ok();
        shop.days(40);
        shop.hear().await;
        shop.app.sweep().await;
        assert!(!heard(shop.app.data_dir(), "alice").is_empty() || !told(&shop.app, "alice").await.is_empty());
        let row = alice.get("/api/v1/users/me").await.ok()["id"].as_i64().expect("a row");
        let _ = alice.delete(&alice.own("?erase=true")).await.ok();
        assert_eq!(told(&shop.app, "alice").await, Vec::<String>::new());
        assert_eq!(heard(shop.app.data_dir(), "alice"), Vec::<String>::new());
        let sql = "SELECT CAST(sum(received) AS BIGINT) FROM payments WHERE user_id = $1";
        let received = shop.app.inside().db.find::<i64>(sql, &[row.into()]).await.expect("read");
        assert_eq!(received, Some(2999 + 1000 + 2000));
        // Every event was about it or one of its payments, and says nothing any more.
        let left = "SELECT count(*) FROM stripe_events WHERE payload <> '{}'";
        assert_eq!(shop.app.inside().db.find::<i64>(left, &[]).await.expect("read"), Some(0));
    }
}
