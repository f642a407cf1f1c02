//! Payments for once, what goes back, and pages that are left.

use super::super::Card;
use super::{Story, id, ids, refused};
use serde_json::{Value, json};

const INVALID: &str = "invalid_request_error";

#[tokio::test]
async fn a_checkout_is_paid_once() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    let form = format!(
        "mode=payment&customer={customer}&success_url=https://a.example/ok&client_reference_id=alice&metadata[payment]=p1\
         &line_items[0][quantity]=2&line_items[0][price_data][currency]=usd&line_items[0][price_data][unit_amount]=500\
         &line_items[0][price_data][product_data][name]=Credits&payment_intent_data[metadata][payment]=p1\
         &payment_intent_data[setup_future_usage]=off_session"
    );
    let session = story.post("checkout/sessions", &form).await.ok();
    let open = [
        &session["status"],
        &session["payment_status"],
        &session["amount_total"],
        &session["payment_intent"],
    ];
    assert_eq!(open, [&json!("open"), &json!("unpaid"), &json!(1000), &Value::Null]);
    assert!(
        session["url"].as_str().is_some_and(|url| url.starts_with("https://checkout.stripe.com/")),
        "{session}"
    );
    let session = id(&session);
    let open = story.stripe.complete_checkout_with(&session, Card::Declined);
    assert_eq!(open["status"], "open");
    let done = story.stripe.complete_checkout_with(&session, Card::Good);
    assert_eq!((&done["status"], &done["payment_status"]), (&json!("complete"), &json!("paid")));
    let events = [
        "customer.created",
        "payment_intent.created",
        "payment_method.attached",
        "charge.failed",
        "payment_intent.payment_failed",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ];
    assert_eq!(story.happened(), events);
    let intent = story.stripe.object(done["payment_intent"].as_str().expect("a payment"));
    assert_eq!((&intent["metadata"], &intent["amount_received"]), (&json!({"payment": "p1"}), &json!(1000)));
    for filter in [format!("customer={customer}"), format!("payment_intent={}", id(&intent))] {
        let found = story.get(&format!("checkout/sessions?{filter}")).await.ok();
        assert_eq!(ids(&found), std::slice::from_ref(&session));
    }
    let method = story.get(&format!("customers/{customer}/payment_methods?type=card")).await.ok();
    assert_eq!(ids(&method), [intent["payment_method"].as_str().expect("a card")]);

    // The card that was kept pays again while its owner is away.
    let form = format!(
        "amount=700&currency=usd&customer={customer}&payment_method={}&off_session=true&confirm=true",
        ids(&method)[0]
    );
    assert_eq!(story.keyed("payment_intents", &form, "top-up-1").await.ok()["status"], "succeeded");
    story.stripe.set_card(&customer, Card::NeedsOwner);
    let declined = story.keyed("payment_intents", &form, "top-up-2").await;
    assert_eq!(declined.refusal(), refused(402, "card_error", "authentication_required", ""));
    let intent = &declined.json()["error"]["payment_intent"];
    assert_eq!(intent["status"], "requires_payment_method");
    assert!(story.keyed("payment_intents", &form, "top-up-2").await.replayed, "kept, as it was executed");
}

#[tokio::test]
async fn a_session_without_a_customer_makes_one_when_it_must() {
    let story = Story::begin().await;
    story.stripe.price("price_pro", 2000, "month");
    let form = "mode=subscription&customer_email=carol@example.com&success_url=https://a.example/\
                &line_items[0][price]=price_pro&line_items[0][quantity]=1";
    let session = id(&story.post("checkout/sessions", form).await.ok());
    let done = story.stripe.complete_checkout(&session);
    let customer = story.stripe.object(done["customer"].as_str().expect("a customer"));
    assert_eq!(customer["email"], "carol@example.com");
    assert_eq!(story.happened()[0], "customer.created");
}

#[tokio::test]
async fn a_page_that_is_left_expires() {
    let story = Story::begin().await;
    story.stripe.price("pack", 900, "");
    let form =
        "mode=payment&success_url=https://a.example/&line_items[0][price]=pack&line_items[0][quantity]=1";
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(id(&story.post("checkout/sessions", form).await.ok()));
    }
    assert_eq!(story.stripe.abandon_checkout(&sessions[0])["status"], "expired");
    let path = format!("checkout/sessions/{}/expire", sessions[1]);
    assert_eq!(story.post(&path, "").await.ok()["status"], "expired");
    assert_eq!(story.post(&path, "").await.refusal(), refused(400, INVALID, "", ""));
    story.stripe.advance_to(story.stripe.now() + 24 * 60 * 60);
    let states: Vec<_> =
        story.stripe.objects("checkout.session").iter().map(|s| s["status"].clone()).collect();
    assert_eq!(states, vec![json!("expired"); 3]);
    assert_eq!(story.happened(), ["checkout.session.expired"; 3]);
    let late =
        story.post("checkout/sessions", &format!("{form}&expires_at={}", story.stripe.now() + 60)).await;
    assert_eq!(late.refusal(), refused(400, INVALID, "", "expires_at"));
    let both =
        story.post("checkout/sessions", &format!("{form}&subscription_data[trial_period_days]=3")).await;
    assert_eq!(both.refusal(), refused(400, INVALID, "", "subscription_data"));
    let none = story.post("checkout/sessions", "mode=payment&success_url=https://a.example/").await;
    assert_eq!(none.refusal(), refused(400, INVALID, "parameter_missing", "line_items"));
}

#[tokio::test]
async fn money_goes_back_in_parts_and_never_more_than_came() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    let intent = story.payment(&customer).await;
    let _ = story.happened();
    let form =
        format!("payment_intent={intent}&amount=400&reason=requested_by_customer&metadata[payment]=p1");
    let refund = story.keyed("refunds", &form, "refund-1").await.ok();
    assert_eq!((&refund["amount"], &refund["status"]), (&json!(400), &json!("succeeded")));
    let events = story.stripe.take_events();
    assert_eq!(events[1].value["data"]["previous_attributes"], json!({"amount_refunded": 0}));
    assert_eq!(events[1].object()["amount_refunded"], 400);
    let more = story.post("refunds", &format!("payment_intent={intent}&amount=601")).await;
    assert_eq!(more.refusal(), refused(400, INVALID, "", "amount"));
    story.stripe.refund_in_dashboard(&intent, 600);
    assert_eq!(story.happened(), ["refund.created", "charge.refunded"]);
    let charge = story.get(&format!("charges?payment_intent={intent}")).await.ok()["data"][0].clone();
    assert_eq!((&charge["refunded"], &charge["amount_refunded"]), (&json!(true), &json!(1000)));
    let none = story.post("refunds", &format!("charge={}", id(&charge))).await;
    assert_eq!(none.refusal(), refused(400, INVALID, "charge_already_refunded", ""));
    assert_eq!(ids(&story.get(&format!("refunds?payment_intent={intent}")).await.ok()).len(), 2);
    assert_eq!(
        story.post("refunds", "").await.refusal(),
        refused(400, INVALID, "parameter_missing", "payment_intent")
    );
}

#[tokio::test]
async fn a_dispute_is_won_or_lost() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    for (won, end) in [
        (true, &["charge.dispute.closed", "charge.dispute.funds_reinstated"][..]),
        (false, &["charge.dispute.closed"]),
    ] {
        let intent = story.payment(&customer).await;
        let _ = story.happened();
        let dispute = story.stripe.dispute(&intent);
        assert_eq!(story.happened(), ["charge.dispute.created", "charge.dispute.funds_withdrawn"]);
        let refund = story.post("refunds", &format!("payment_intent={intent}")).await;
        assert_eq!(refund.refusal(), refused(400, INVALID, "charge_disputed", ""));
        assert_eq!(story.stripe.close_dispute(&intent, won), dispute);
        assert_eq!(story.happened(), end);
        let found = story.get(&format!("disputes?payment_intent={intent}")).await.ok()["data"][0].clone();
        assert_eq!(
            (&found["status"], &found["amount"]),
            (&json!(if won { "won" } else { "lost" }), &json!(1000))
        );
    }
}

#[tokio::test]
async fn an_intent_fails_is_paid_or_is_cancelled() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    let form =
        format!("amount=1000&currency=usd&customer={customer}&automatic_payment_methods[enabled]=true");
    let (first, second) =
        (story.post("payment_intents", &form).await.ok(), story.post("payment_intents", &form).await.ok());
    let (first, second) = (id(&first), id(&second));
    let _ = story.happened();
    story.stripe.fail_intent(&first);
    let failed = story.get(&format!("payment_intents/{first}")).await.ok();
    assert_eq!(failed["last_payment_error"]["code"], "card_declined");
    story.stripe.pay_intent(&first);
    let states =
        ["charge.failed", "payment_intent.payment_failed", "charge.succeeded", "payment_intent.succeeded"];
    assert_eq!(story.happened(), states);
    let cancel = |id: &str| format!("payment_intents/{id}/cancel");
    assert_eq!(story.post(&cancel(&second), "").await.ok()["status"], "canceled");
    let paid = story.post(&cancel(&first), "").await;
    assert_eq!(paid.refusal(), refused(400, INVALID, "payment_intent_unexpected_state", ""));
    let confirmed = story.post(&format!("payment_intents/{second}/confirm"), "").await;
    assert_eq!(confirmed.refusal(), refused(400, INVALID, "payment_intent_unexpected_state", ""));
    assert_eq!(ids(&story.get(&format!("payment_intents?customer={customer}")).await.ok()), [second, first]);
}

#[tokio::test]
async fn which_bill_a_payment_pays_is_found_by_its_payments() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    let subscription = story.subscription(&customer, "").await;
    let bill = story.stripe.object(&subscription)["latest_invoice"].clone();
    let bill = bill.as_str().expect("a bill");
    let payment = story.get(&format!("invoice_payments?invoice={bill}")).await.ok()["data"][0].clone();
    assert_eq!((&payment["status"], &payment["amount_paid"]), (&json!("paid"), &json!(2000)));
    let intent = payment["payment"]["payment_intent"].as_str().expect("a payment");
    let path = format!("invoice_payments?payment[type]=payment_intent&payment[payment_intent]={intent}");
    assert_eq!(story.get(&path).await.ok()["data"], json!([payment]));
    let charge = story.get(&format!("charges?payment_intent={intent}")).await.ok()["data"][0].clone();
    assert_eq!((charge.get("invoice"), &charge["amount"]), (None, &json!(2000)));
}
