//! What the API takes, gives and refuses.

use super::{Story, id, ids, refused};
use serde_json::json;

#[tokio::test]
async fn what_stripe_does_not_know_is_refused() {
    let story = Story::begin().await;
    let invalid = "invalid_request_error";
    let answer = story.post("customers", "emial=a@example.com").await;
    assert_eq!(answer.refusal(), refused(400, invalid, "parameter_unknown", "emial"));
    let answer = story.post("payment_intents", "currency=usd").await;
    assert_eq!(answer.refusal(), refused(400, invalid, "parameter_missing", "amount"));
    let answer = story.post("payment_intents", "currency=usd&amount=ten").await;
    assert_eq!(answer.refusal(), refused(400, invalid, "parameter_invalid_integer", "amount"));
    let answer = story.post("payment_intents", "currency=usd&amount=49").await;
    assert_eq!(answer.refusal(), refused(400, invalid, "amount_too_small", "amount"));
    let answer = story.get("customers/cus_nobody").await;
    assert_eq!(answer.refusal(), refused(404, invalid, "resource_missing", "id"));
    let answer = story.get("customers?limit=101").await;
    assert_eq!(answer.refusal(), refused(400, invalid, "", "limit"));
    assert_eq!(story.get("unicorns").await.refusal(), refused(404, invalid, "", ""));
    let url = format!("{}v1/customers", story.stripe.base_url());
    let stranger = story.client.get(url).bearer_auth("sk_test_other").send().await.expect("an answer");
    assert_eq!(stranger.status(), 401);
    assert_eq!(story.stripe.objects("payment_intent"), [json!(null); 0]);
}

#[tokio::test]
async fn a_customer_is_made_changed_and_found() {
    let story = Story::begin().await;
    let customer = story.customer().await;
    let form = "name=Alice&metadata[user_id]=&metadata[plan]=pro";
    let changed = story.post(&format!("customers/{customer}"), form).await.ok();
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("Alice"), &json!({"plan": "pro"})));
    assert_eq!(story.get(&format!("customers/{customer}")).await.ok(), changed);
    let found = story.get("customers?email=alice%40example.com").await.ok();
    assert_eq!(
        found,
        json!({"object": "list", "url": "/v1/customers", "has_more": false, "data": [changed]})
    );
    assert_eq!(story.get("customers?email=bob%40example.com").await.ok()["data"], json!([]));
    let portal = format!("customer={customer}&return_url=https://a.example/");
    let portal = story.post("billing_portal/sessions", &portal).await.ok();
    assert!(
        portal["url"].as_str().is_some_and(|url| url.starts_with("https://billing.stripe.com/")),
        "{portal}"
    );
    assert_eq!(story.happened(), ["customer.created", "customer.updated"]);
}

#[tokio::test]
async fn lists_are_newest_first_and_come_in_pages() {
    let story = Story::begin().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        story.stripe.advance(60);
        made.insert(0, story.customer().await);
    }
    let first = story.get("customers?limit=2").await.ok();
    assert_eq!((ids(&first), &first["has_more"]), (made[..2].to_vec(), &json!(true)));
    let last = story.get(&format!("customers?limit=3&starting_after={}", made[1])).await.ok();
    assert_eq!((ids(&last), &last["has_more"]), (made[2..].to_vec(), &json!(false)));
    let before = story.get(&format!("customers?limit=2&ending_before={}", made[3])).await.ok();
    assert_eq!((ids(&before), &before["has_more"]), (made[1..3].to_vec(), &json!(true)));
    let since = story.stripe.now() - 60;
    assert_eq!(ids(&story.get(&format!("customers?created[gte]={since}")).await.ok()), made[..2]);
    let types = story.get("events?types[]=customer.created&types[]=invoice.paid&limit=100").await.ok();
    assert_eq!(types["data"].as_array().map(Vec::len), Some(5));
    assert_eq!(story.get("events?type=invoice.paid").await.ok()["data"], json!([]));
    let answer = story.get("customers?starting_after=cus_nobody").await;
    assert_eq!(answer.refusal(), refused(404, "invalid_request_error", "resource_missing", "starting_after"));
}

#[tokio::test]
async fn the_same_key_is_answered_the_same_byte_for_byte() {
    let story = Story::begin().await;
    let first = story.keyed("customers", "email=a@example.com&name=A", "key-1").await;
    let again = story.keyed("customers", "name=A&email=a@example.com", "key-1").await;
    assert!(!first.replayed && again.replayed);
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert_ne!(first.request, again.request);
    let other = story.keyed("customers", "email=b@example.com", "key-1").await;
    assert_eq!(other.refusal(), refused(400, "idempotency_error", "", ""));
    let other =
        story.keyed(&format!("customers/{}", id(&first.json())), "email=a@example.com&name=A", "key-1").await;
    assert_eq!(other.refusal(), refused(400, "idempotency_error", "", ""));

    let missing = story.keyed("refunds", "payment_intent=pi_nothing", "key-2").await;
    let again = story.keyed("refunds", "payment_intent=pi_nothing", "key-2").await;
    assert_eq!((missing.status, again.status, again.replayed), (404, 404, true), "refusals as well");
    assert_eq!(missing.text, again.text);
    let typo = story.keyed("customers", "nmae=A", "key-3").await;
    assert_eq!(
        (typo.status, story.keyed("customers", "name=A", "key-3").await.status),
        (400, 200),
        "nothing was executed"
    );

    let events = story.stripe.events();
    assert_eq!(events[0].value["request"], json!({"id": first.request, "idempotency_key": "key-1"}));
    story.stripe.advance(24 * 60 * 60);
    assert!(
        !story.keyed("customers", "email=b@example.com", "key-1").await.replayed,
        "a day later it is as new"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_with_one_key_one_is_executed() {
    let story = std::sync::Arc::new(Story::begin().await);
    let asks: Vec<_> = (0..24)
        .map(|_| {
            let story = std::sync::Arc::clone(&story);
            tokio::spawn(async move { story.keyed("customers", "email=a@example.com", "same").await })
        })
        .collect();
    let mut made = Vec::new();
    for ask in asks {
        let answer = ask.await.expect("a caller");
        match answer.status {
            200 => made.push(answer.text),
            _ => {
                assert_eq!(answer.refusal(), refused(409, "idempotency_error", "idempotency_key_in_use", ""))
            }
        }
    }
    made.dedup();
    assert_eq!((made.len(), story.stripe.objects("customer").len()), (1, 1));
}
