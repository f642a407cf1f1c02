//! The life of subscriptions.

use super::super::{AfterRetries, Card};
use super::{Story, id, ids, refused};
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;

/// The instants of the story: it begins on July 27th at 00:11:26.
fn at(text: &str) -> i64 {
    text.parse::<chrono::DateTime<chrono::Utc>>().expect("an instant").timestamp()
}

fn period(subscription: &Value) -> (i64, i64) {
    let item = &subscription["items"]["data"][0];
    (item["current_period_start"].as_i64().unwrap_or(0), item["current_period_end"].as_i64().unwrap_or(0))
}

const PAID: [&str; 7] = [
    "payment_intent.created",
    "invoice.finalized",
    "charge.succeeded",
    "payment_intent.succeeded",
    "invoice_payment.paid",
    "invoice.paid",
    "invoice.payment_succeeded",
];

#[tokio::test]
async fn three_months_with_one_failure() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    let subscription = story.subscription(&customer, "").await;
    let created = [
        &["customer.created", "payment_method.attached", "invoice.created", "customer.subscription.created"]
            [..],
        &PAID,
        &["customer.subscription.updated", "checkout.session.completed"],
    ];
    assert_eq!(story.happened(), created.concat());
    let first = story.get(&format!("subscriptions/{subscription}")).await.ok();
    assert_eq!(first["status"], "active");
    assert_eq!(period(&first), (at("2025-07-27T00:11:26Z"), at("2025-08-27T00:11:26Z")));

    // A renewal is drafted, and charged an hour later.
    story.stripe.advance_to(at("2025-08-27T00:11:26Z"));
    assert_eq!(story.happened(), ["invoice.created", "customer.subscription.updated"]);
    story.stripe.advance_to(at("2025-08-27T01:11:26Z"));
    assert_eq!(story.happened(), PAID);
    let second = story.stripe.object(&subscription);
    assert_eq!(period(&second), (at("2025-08-27T00:11:26Z"), at("2025-09-27T00:11:26Z")));
    let bill = story.stripe.object(second["latest_invoice"].as_str().expect("a bill"));
    assert_eq!(
        (&bill["status"], &bill["amount_paid"], &bill["billing_reason"]),
        (&json!("paid"), &json!(2000), &json!("subscription_cycle"))
    );
    assert_eq!(bill["parent"]["subscription_details"]["metadata"], json!({"user_id": "alice"}));
    let line = &bill["lines"]["data"][0];
    assert_eq!(
        line["period"],
        json!({"start": at("2025-08-27T00:11:26Z"), "end": at("2025-09-27T00:11:26Z")})
    );
    assert_eq!(line["pricing"]["price_details"]["price"], "price_pro");
    assert_eq!(line["parent"]["subscription_item_details"]["proration"], false);

    // The card fails for three days, then there is a better one.
    story.stripe.set_card(&customer, Card::Declined);
    story.stripe.advance_to(at("2025-09-28T02:00:00Z"));
    let failed = ["charge.failed", "payment_intent.payment_failed", "invoice.payment_failed"];
    let began = [
        &["customer.updated", "invoice.created", "customer.subscription.updated"][..],
        &["payment_intent.created", "invoice.finalized"],
        &failed,
        &["customer.subscription.updated"],
        &failed,
    ];
    assert_eq!(story.happened(), began.concat());
    assert_eq!(story.stripe.object(&subscription)["status"], "past_due");
    story.stripe.set_card(&customer, Card::Good);
    story.stripe.advance_to(at("2025-10-01T02:00:00Z"));
    let recovered = [&PAID[2..], &["customer.subscription.updated"]];
    assert_eq!(story.happened(), recovered.concat());
    let third = story.stripe.object(&subscription);
    assert_eq!((&third["status"], period(&third).1), (&json!("active"), at("2025-10-27T00:11:26Z")));

    let bills = story.get(&format!("invoices?subscription={subscription}&status=paid")).await.ok();
    assert_eq!(bills["data"].as_array().map(Vec::len), Some(3));
    let attempts: Vec<_> =
        story.stripe.objects("invoice").iter().map(|bill| bill["attempt_count"].clone()).collect();
    assert_eq!(attempts, [json!(1), json!(1), json!(3)]);
}

#[tokio::test]
async fn who_never_pays_is_cancelled_or_stays_unpaid() {
    for (end, status) in [(AfterRetries::Cancel, "canceled"), (AfterRetries::Unpaid, "unpaid")] {
        let story = Story::begin().await;
        let customer = story.customer().await;
        let subscription = story.subscription(&customer, "").await;
        story.stripe.after_retries(end);
        story.stripe.set_card(&customer, Card::NeedsOwner);
        let due = at("2025-08-27T01:11:26Z");
        story.stripe.advance_to(due + 7 * DAY - 1);
        assert_eq!(story.stripe.object(&subscription)["status"], "past_due");
        story.stripe.advance_to(due + 7 * DAY);
        assert_eq!(story.stripe.object(&subscription)["status"], status);
        let bill = story.stripe.objects("invoice").pop().expect("a bill");
        assert_eq!((&bill["attempt_count"], &bill["next_payment_attempt"]), (&json!(5), &Value::Null));
        // The owner pays on the bill's page after all.
        story.stripe.pay_invoice(&id(&bill));
        let after = if end == AfterRetries::Unpaid { "active" } else { "canceled" };
        assert_eq!(story.stripe.object(&subscription)["status"], after);
    }
}

#[tokio::test]
async fn a_trial_costs_nothing_until_it_ends() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    let subscription = story.subscription(&customer, "&subscription_data[trial_period_days]=14").await;
    let session = story.stripe.objects("checkout.session").pop().expect("a session");
    assert_eq!(session["payment_status"], "no_payment_required");
    let now = story.stripe.object(&subscription);
    let (begin, end) = (at("2025-07-27T00:11:26Z"), at("2025-08-10T00:11:26Z"));
    assert_eq!((&now["status"], period(&now)), (&json!("trialing"), (begin, end)));
    let bill = story.stripe.object(now["latest_invoice"].as_str().expect("a bill"));
    assert_eq!((&bill["status"], &bill["amount_paid"]), (&json!("paid"), &json!(0)));
    assert_eq!(story.stripe.objects("charge"), [json!(null); 0]);
    assert_eq!(story.happened().pop().as_deref(), Some("checkout.session.completed"));
    story.stripe.advance_to(end - 3 * DAY);
    assert_eq!(story.happened(), ["customer.subscription.trial_will_end"]);
    story.stripe.advance_to(end);
    let events = story.stripe.take_events();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["invoice.created", "customer.subscription.updated"]);
    assert_eq!(events[1].value["data"]["previous_attributes"]["status"], "trialing");
    story.stripe.advance_to(end + 2 * 60 * 60);
    assert_eq!(story.happened(), PAID);
    assert_eq!(period(&story.stripe.object(&subscription)), (end, at("2025-09-10T00:11:26Z")));
}

#[tokio::test]
async fn an_end_with_the_period_can_be_taken_back() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    let subscription = story.subscription(&customer, "").await;
    let path = format!("subscriptions/{subscription}");
    let ends = story.post(&path, "cancel_at_period_end=true").await.ok();
    assert_eq!(
        (&ends["cancel_at_period_end"], &ends["cancel_at"]),
        (&json!(true), &json!(at("2025-08-27T00:11:26Z")))
    );
    let back = story.post(&path, "cancel_at_period_end=false").await.ok();
    assert_eq!((&back["cancel_at"], &back["canceled_at"]), (&Value::Null, &Value::Null));
    story.post(&path, "cancel_at_period_end=true").await.ok();
    let _ = story.happened();
    story.stripe.advance_to(at("2025-08-27T00:11:26Z"));
    assert_eq!(story.happened(), ["customer.subscription.deleted"]);
    assert_eq!(story.stripe.objects("invoice").len(), 1, "nothing more is billed");
    let answer = story.post(&path, "cancel_at_period_end=false").await;
    assert_eq!(answer.refusal(), refused(400, "invalid_request_error", "", ""));
    assert_eq!(story.post(&path, "metadata[a]=b").await.ok()["metadata"]["a"], "b");
}

#[tokio::test]
async fn a_cancelled_subscription_is_listed_only_on_demand() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    let subscription = story.subscription(&customer, "").await;
    let path = format!("subscriptions/{subscription}");
    assert_eq!(story.delete(&path).await.ok()["status"], "canceled");
    assert_eq!(
        story.delete(&path).await.refusal(),
        refused(404, "invalid_request_error", "resource_missing", "id")
    );
    assert_eq!(story.get(&path).await.ok()["status"], "canceled");
    let lists = ["", "&status=all", "&status=canceled", "&status=active"];
    let mut found = Vec::new();
    for status in lists {
        let list = story.get(&format!("subscriptions?customer={customer}{status}")).await.ok();
        found.push(ids(&list).len());
    }
    assert_eq!(found, [0, 1, 1, 0]);
}

#[tokio::test]
async fn an_upgrade_is_billed_for_the_rest_of_the_period() {
    let story = Story::begin().await;
    story.stripe.price("price_team", 5000, "month");
    let customer = story.customer().await;
    let subscription = story.subscription(&customer, "").await;
    let (path, item) = (format!("subscriptions/{subscription}"), item(&story, &subscription));
    // Half of the 31 days are left.
    story.stripe.set_time(at("2025-08-11T12:11:26Z"));
    let form = format!(
        "items[0][id]={item}&items[0][price]=price_team&proration_behavior=always_invoice\
         &payment_behavior=error_if_incomplete"
    );
    let _ = story.happened();
    story.stripe.set_card(&customer, Card::Declined);
    let _ = story.happened();
    let before = story.stripe.object(&subscription);
    let declined = story.keyed(&path, &form, "upgrade-1").await;
    assert_eq!(declined.refusal(), refused(402, "card_error", "card_declined", ""));
    assert_eq!(
        (story.stripe.object(&subscription), story.happened()),
        (before, Vec::new()),
        "nothing half done"
    );

    story.stripe.set_card(&customer, Card::Good);
    let _ = story.happened();
    let upgraded = story.keyed(&path, &form, "upgrade-2").await.ok();
    assert_eq!(upgraded["items"]["data"][0]["price"]["id"], "price_team");
    assert_eq!(period(&upgraded), (at("2025-07-27T00:11:26Z"), at("2025-08-27T00:11:26Z")));
    let bill = story.stripe.object(upgraded["latest_invoice"].as_str().expect("a bill"));
    let lines: Vec<_> =
        bill["lines"]["data"].as_array().expect("lines").iter().map(|line| &line["amount"]).collect();
    assert_eq!((lines, &bill["amount_paid"]), (vec![&json!(-1000), &json!(2500)], &json!(1500)));
    assert_eq!(bill["billing_reason"], "subscription_update");
    assert_eq!(bill["lines"]["data"][1]["parent"]["subscription_item_details"]["proration"], true);
    let events = [&["invoice.created", "customer.subscription.updated"][..], &PAID].concat();
    assert_eq!(story.happened(), events);

    // Down again: what is left over pays the next bill.
    let form = format!("items[0][id]={item}&items[0][price]=price_pro&proration_behavior=always_invoice");
    story.post(&path, &form).await.ok();
    assert_eq!(story.stripe.object(&customer)["balance"], -1500);
    story.stripe.advance_to(at("2025-08-27T02:00:00Z"));
    let bill = story.stripe.objects("invoice").pop().expect("a bill");
    assert_eq!((&bill["total"], &bill["amount_paid"]), (&json!(2000), &json!(500)));
    assert_eq!(story.stripe.object(&customer)["balance"], 0);
}

#[tokio::test]
async fn a_change_without_a_bill_is_billed_with_the_next_one_or_not_at_all() {
    for (behavior, paid) in [("create_prorations", 5000 + 1500), ("none", 5000)] {
        let story = Story::begin().await;
        story.stripe.price("price_team", 5000, "month");
        let customer = story.customer().await;
        let subscription = story.subscription(&customer, "").await;
        story.stripe.set_time(at("2025-08-11T12:11:26Z"));
        let item = item(&story, &subscription);
        let form = format!("items[0][id]={item}&items[0][price]=price_team&proration_behavior={behavior}");
        story.post(&format!("subscriptions/{subscription}"), &form).await.ok();
        assert_eq!(story.stripe.objects("invoice").len(), 1);
        story.stripe.advance_to(at("2025-08-27T02:00:00Z"));
        assert_eq!(story.stripe.objects("invoice").pop().expect("a bill")["amount_paid"], paid, "{behavior}");
    }
}

#[tokio::test]
async fn a_trial_ends_now_and_a_year_begins_at_once() {
    let story = Story::begin().await;
    story.stripe.price("price_year", 20_000, "year");
    let customer = story.customer().await;
    let subscription = story.subscription(&customer, "&subscription_data[trial_period_days]=2").await;
    assert!(story.happened().contains(&"customer.subscription.trial_will_end".to_owned()), "it ends soon");
    story.stripe.advance(DAY);
    let path = format!("subscriptions/{subscription}");
    let now = story.post(&path, "trial_end=now").await.ok();
    assert_eq!(
        (&now["status"], period(&now)),
        (&json!("active"), (at("2025-07-28T00:11:26Z"), at("2025-08-28T00:11:26Z")))
    );
    let form = format!("items[0][id]={}&items[0][price]=price_year", item(&story, &subscription));
    let yearly = story.post(&path, &form).await.ok();
    assert_eq!(period(&yearly), (at("2025-07-28T00:11:26Z"), at("2026-07-28T00:11:26Z")));
    let paid: Vec<_> =
        story.stripe.objects("invoice").iter().map(|bill| bill["amount_paid"].clone()).collect();
    assert_eq!(paid, [json!(0), json!(2000), json!(18_000)]);
    let answer = story.post(&path, "items[0][price]=price_pro").await;
    assert_eq!(answer.refusal(), refused(400, "invalid_request_error", "", "items[0][id]"));
}

fn item(story: &Story, subscription: &str) -> String {
    id(&story.stripe.object(subscription)["items"]["data"][0])
}
