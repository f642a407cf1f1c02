//! What goes wrong on purpose.

use super::super::{Effect, Fault, Rule};
use super::{Story, refused};
use reqwest::Method;
use std::time::{Duration, Instant};

const LATE: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_fault_meets_so_many_of_the_requests_that_fit() {
    let story = Story::begin().await;
    story.stripe.fail(Rule::on("POST", "/v1/customers", Fault::Status(503, Effect::Before)).times(2));
    story.stripe.fail(Rule::on("*", "/v1/refunds", Fault::Status(429, Effect::Before)));
    assert_eq!(story.get("customers").await.status, 200);
    for _ in 0..2 {
        let answer = story.keyed("customers", "", "key").await;
        assert_eq!(answer.refusal(), refused(503, "api_error", "", ""));
    }
    assert_eq!(story.keyed("customers", "", "key").await.status, 200, "it left no trace under the key");
    assert_eq!(story.get("refunds").await.refusal(), refused(429, "invalid_request_error", "rate_limit", ""));
    assert_eq!(story.get("refunds").await.status, 200);
    assert_eq!(story.calls("/v1/customers").len(), 4);
}

#[tokio::test]
async fn what_was_executed_is_kept_under_its_key_though_the_answer_was_false() {
    let story = Story::begin().await;
    story.stripe.fail(Rule::on("POST", "/v1/customers", Fault::Status(500, Effect::After)));
    for replayed in [false, true] {
        let answer = story.keyed("customers", "", "key").await;
        assert_eq!((answer.status, answer.replayed), (500, replayed));
    }
    assert_eq!(story.stripe.objects("customer").len(), 1, "the effect has happened");
    story.stripe.fail(Rule::on("POST", "/v1/customers", Fault::Status(402, Effect::Before)));
    let answer = story.keyed("customers", "", "other").await;
    assert_eq!(answer.refusal(), refused(402, "card_error", "card_declined", ""));
    assert!(story.keyed("customers", "", "other").await.replayed);
    assert_eq!(story.stripe.objects("customer").len(), 1);
}

#[tokio::test]
async fn a_connection_closes_before_or_after_the_effect() {
    let story = Story::begin().await;
    for (effect, made) in [(Effect::Before, 0), (Effect::After, 1)] {
        story.stripe.fail(Rule::on("POST", "/v1/customers", Fault::Drop(effect)));
        let answer = story.send(Method::POST, "customers", "", Some("key")).await;
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(story.stripe.objects("customer").len(), made, "{effect:?}");
    }
    let again = story.keyed("customers", "", "key").await;
    assert_eq!((again.status, again.replayed, story.stripe.objects("customer").len()), (200, true, 1));
}

#[tokio::test]
async fn an_answer_is_late_before_or_after_the_effect() {
    let story = Story::begin().await;
    let begun = Instant::now();
    story.stripe.fail(Rule::on("POST", "/v1/customers", Fault::Timeout(LATE, Effect::Before)));
    assert!(story.send(Method::POST, "customers", "", None).await.is_err());
    assert_eq!(story.stripe.objects("customer").len(), 0);
    story.stripe.fail(Rule::on("POST", "/v1/customers", Fault::Timeout(LATE, Effect::After)));
    assert_eq!(story.post("customers", "").await.status, 200);
    assert!(begun.elapsed() >= 2 * LATE);
}

#[tokio::test]
async fn a_key_is_in_flight_until_a_slow_effect_has_happened() {
    let story = Story::begin().await;
    let slow = Fault::Slow(Duration::from_secs(1));
    story.stripe.fail(Rule::on("POST", "/v1/customers", slow).times(2));
    let both = tokio::join!(story.keyed("customers", "", "key"), story.keyed("customers", "", "key"));
    let (done, busy) = if both.0.status == 200 { both } else { (both.1, both.0) };
    assert_eq!(busy.refusal(), refused(409, "idempotency_error", "idempotency_key_in_use", ""));
    let again = story.keyed("customers", "", "key").await;
    assert_eq!((done.status, &done.text, again.replayed), (200, &again.text, true));
    assert_eq!(story.stripe.objects("customer").len(), 1);
}
