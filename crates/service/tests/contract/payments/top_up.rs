//! Credits are bought when few are left: once, within the month's money, and never twice for one claim.

use super::shop::{Shop, shops};
use crate::support::with;
use kernel::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use testkit::stripe::{Card, Effect, Fault, Rule};
use user_service::payments::edits::NewPayment;
use user_service::payments::model::PaymentKind;
use user_service::payments::{top_up, top_up_rows};
use user_service::writer::Command;

/// Where it is set.
fn path(shop: &Shop) -> String {
    shop.app.alice.own("/credits/auto-top-up")
}

/// Alice buys 500 credits on a page, which saves her card; gives her customer.
pub async fn saved(shop: &Shop) -> String {
    let begun = shop.app.alice.post("/api/v1/payments/create-intent", json!({"amount": 100})).await.ok();
    shop.stripe.pay_intent(begun["payment_intent_id"].as_str().expect("an id"));
    shop.hear().await;
    assert_eq!(shop.balance().await, 500);
    shop.stripe.objects("customer")[0]["id"].as_str().expect("an id").to_owned()
}

/// Alice wants the small pack, 5000 credits for 10 dollars, when fewer than `threshold` are left.
pub async fn set(shop: &Shop, threshold: i64, monthly_max: i64) -> Value {
    let body = json!({"threshold": threshold, "pack": "small", "monthly_max": monthly_max, "enabled": true});
    put(shop, body).await.data()
}

async fn put(shop: &Shop, body: Value) -> testkit::Answer {
    shop.app.alice.request(reqwest::Method::PUT, &path(shop)).json(&body).send().await
}

async fn stands(shop: &Shop) -> Value {
    shop.app.alice.get(&path(shop)).await.data()
}

async fn spend(shop: &Shop, amount: i64) {
    let _ =
        shop.app.alice.post(&shop.app.alice.own("/credits/consume"), json!({"amount": amount})).await.ok();
}

/// The top-ups of alice's, the last one first.
async fn top_ups(shop: &Shop) -> Vec<Value> {
    let all = shop.payments().await;
    all.as_array().into_iter().flatten().filter(|of| of["kind"] == "top_up").cloned().collect()
}

/// How many charges of a pack were paid.
fn charges(shop: &Shop) -> usize {
    shop.stripe
        .objects("charge")
        .iter()
        .filter(|charge| charge["paid"] == true && charge["amount"] == 1000)
        .count()
}

/// Stripe charges the card, but its answer is lost, and then it is not reached any more.
fn lose_the_answer(shop: &Shop) {
    for (effect, times) in [(Effect::After, 1), (Effect::Before, 1000)] {
        shop.stripe.fail(Rule::on("POST", "/v1/payment_intents", Fault::Drop(effect)).times(times));
    }
}

/// Lets a minute pass, and does what is due then.
async fn minute(shop: &Shop) {
    shop.pass(Duration::from_secs(61));
    shop.app.sweep().await;
}

/// Waits, minute by minute, until the last top-up is over; the service's own job may be at it.
async fn over(shop: &Shop) -> Value {
    for _ in 0..100 {
        minute(shop).await;
        if let Some(last) = top_ups(shop).await.first()
            && ["succeeded", "canceled"].iter().any(|end| last["status"] == *end)
        {
            return last["status"].clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is not over: {:?}", top_ups(shop).await);
}

/// Waits until there are so many top-ups, and none of them is under way.
pub async fn settled(shop: &Shop, count: usize) -> Vec<Value> {
    for _ in 0..500 {
        shop.app.sweep().await;
        let all = top_ups(shop).await;
        if all.len() == count && all.iter().all(|of| of["status"] != "pending") {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there are not {count}: {:?}", top_ups(shop).await);
}

shops! {
    async fn a_pack_is_bought_once_when_few_credits_are_left(shop: &Shop) {
        saved(shop).await;
        let wanted = json!({
            "user_id": "auth0|alice", "enabled": true, "threshold": 500, "pack": "small", "monthly_max": 10_000,
            "month_spent": 0, "has_payment_method": true, "failures": 0, "failure": null, "next_attempt_at": null,
            "updated_at": crate::support::NOW,
        });
        assert_eq!(set(shop, 500, 10_000).await, wanted);
        assert_eq!(stands(shop).await, wanted);
        shop.app.sweep().await;
        assert_eq!((top_ups(shop).await, shop.balance().await), (vec![], json!(500)), "500 are not fewer than 500");
        spend(shop, 1).await;
        let bought = &settled(shop, 1).await[0];
        assert_eq!(shop.balance().await, 5499, "at once, before any event");
        assert_eq!((&bought["status"], &bought["item"], &bought["amount"], &bought["amount_received"], &bought["credits"]),
            (&json!("succeeded"), &json!("small"), &json!(1000), &json!(1000), &json!(5000)));
        assert_eq!(stands(shop).await, with(wanted, json!({"month_spent": 1000, "next_attempt_at": "2025-07-27T00:12:26.479685Z"})));
        // The event says the same, and gives nothing more.
        shop.hear().await;
        minute(shop).await;
        assert_eq!((shop.balance().await, charges(shop)), (json!(5499), 1));
    }

    async fn at_most_one_is_bought_a_minute(shop: &Shop) {
        saved(shop).await;
        set(shop, 10_000, 10_000).await;
        settled(shop, 1).await;
        shop.app.sweep().await;
        assert_eq!((shop.balance().await, charges(shop)), (json!(5500), 1), "5500 are too few, but it was just now");
        shop.pass(Duration::from_secs(59));
        shop.app.sweep().await;
        assert_eq!(charges(shop), 1);
        shop.pass(Duration::from_secs(1));
        settled(shop, 2).await;
        assert_eq!((shop.balance().await, charges(shop)), (json!(10_500), 2));
    }

    async fn no_month_costs_more_than_it_may(shop: &Shop) {
        saved(shop).await;
        set(shop, 100_000, 2500).await;
        for _ in 0..5 {
            minute(shop).await;
        }
        settled(shop, 2).await;
        assert_eq!((charges(shop), stands(shop).await["month_spent"].clone()), (2, json!(2000)));
        // Removed and set again it is the same month.
        let _ = shop.app.alice.delete(&path(shop)).await.ok();
        assert_eq!(set(shop, 100_000, 2500).await["month_spent"], 2000);
        minute(shop).await;
        assert_eq!(charges(shop), 2);
        // With more money there is one more, and in August it begins anew.
        set(shop, 100_000, 3000).await;
        settled(shop, 3).await;
        shop.days(5);
        assert_eq!(stands(shop).await["month_spent"], 0);
        settled(shop, 4).await;
        assert_eq!((charges(shop), stands(shop).await["month_spent"].clone()), (4, json!(1000)));
    }

    async fn a_card_that_is_declined_thrice_is_left_alone(shop: &Shop) {
        let customer = saved(shop).await;
        shop.stripe.set_card(&customer, Card::Declined);
        set(shop, 1000, 10_000).await;
        let hour = Duration::from_secs(3600);
        for (n, enabled, pause) in [(1, true, 1), (2, true, 2), (3, false, 0)] {
            let failed = settled(shop, n).await;
            assert_eq!((&failed[0]["status"], &failed[0]["failure"]), (&json!("canceled"), &json!("Your card was declined.")));
            let of = stands(shop).await;
            assert_eq!((&of["enabled"], &of["failures"], &of["failure"], &of["month_spent"]),
                (&json!(enabled), &json!(n), &json!("Your card was declined."), &json!(0)));
            let next = (pause > 0).then(|| shop.app.now().plus(hour * pause));
            assert_eq!(of["next_attempt_at"], json!(next));
            // Its event says nothing new.
            shop.hear().await;
            shop.pass((hour * pause).saturating_sub(Duration::from_secs(1)));
            shop.app.sweep().await;
            assert_eq!(top_ups(shop).await.len(), n, "not before its time");
            shop.pass(Duration::from_secs(1));
        }
        shop.days(2);
        shop.app.sweep().await;
        assert_eq!((top_ups(shop).await.len(), shop.balance().await), (3, json!(500)));
        // Another card, and the user wants it again.
        shop.stripe.set_card(&customer, Card::NeedsOwner);
        let again = set(shop, 1000, 10_000).await;
        assert_eq!((&again["enabled"], &again["failures"], &again["failure"]), (&json!(true), &json!(0), &Value::Null));
        minute(shop).await;
        settled(shop, 4).await;
        assert_eq!(stands(shop).await["failures"], 1);
        shop.stripe.set_card(&customer, Card::Good);
        shop.pass(hour);
        settled(shop, 5).await;
        let of = stands(shop).await;
        assert_eq!((&of["failures"], &of["failure"], &of["month_spent"]), (&json!(0), &Value::Null, &json!(1000)));
        assert_eq!((shop.balance().await, charges(shop)), (json!(5500), 1));
    }

    async fn twenty_at_once_buy_one(shop: &Shop) {
        saved(shop).await;
        set(shop, 100_000, 99_999_999).await;
        for round in 1..=3 {
            let sweeps: Vec<_> = (0..20).map(|_| {
                let app = shop.app.inside();
                tokio::spawn(async move { top_up::sweep(&Arc::clone(&app)).await })
            }).collect();
            for sweep in sweeps {
                sweep.await.expect("it ends").expect("it succeeds");
            }
            settled(shop, round).await;
            assert_eq!((charges(shop), shop.balance().await), (round, json!(500 + 5000 * round)));
            shop.pass(Duration::from_secs(60));
        }
    }

    async fn however_stripe_breaks_one_claim_is_one_charge(shop: &Shop) {
        saved(shop).await;
        set(shop, 1000, 99_999_999).await;
        let mut bought = 0;
        for fault in [
            Fault::Status(500, Effect::Before), Fault::Status(500, Effect::After), Fault::Status(503, Effect::Before),
            Fault::Status(429, Effect::Before), Fault::Drop(Effect::Before), Fault::Drop(Effect::After),
        ] {
            // The account has few credits while Stripe is down.
            shop.stripe.fail(Rule::on("POST", "/v1/payment_intents", fault).times(1000));
            if bought > 0 {
                spend(shop, 5000).await;
            }
            shop.app.sweep().await;
            minute(shop).await;
            shop.stripe.heal();
            assert_eq!(over(shop).await, "succeeded", "{fault:?}");
            bought += 1;
            minute(shop).await;
            assert_eq!((top_ups(shop).await.len(), charges(shop), shop.balance().await), (bought, bought, json!(5500)), "{fault:?}");
            shop.hear().await;
            assert_eq!(shop.balance().await, 5500, "{fault:?}");
        }
        assert_eq!(stands(shop).await["failures"], 0, "nothing of that is the card's");
    }

    async fn an_answer_that_is_lost_for_days_is_found(shop: &Shop) {
        saved(shop).await;
        lose_the_answer(shop);
        set(shop, 1000, 10_000).await;
        for _ in 0..500 {
            shop.app.sweep().await;
            if charges(shop) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!((charges(shop), shop.balance().await), (1, json!(500)), "nobody has heard of it");
        // Stripe has forgotten the key by then.
        shop.days(3);
        shop.stripe.heal();
        assert_eq!(over(shop).await, "succeeded");
        assert_eq!((charges(shop), shop.balance().await), (1, json!(5500)));
    }

    async fn the_event_may_come_before_the_answer(shop: &Shop) {
        saved(shop).await;
        lose_the_answer(shop);
        set(shop, 1000, 10_000).await;
        minute(shop).await;
        shop.hear().await;
        assert_eq!((over(shop).await, shop.balance().await), (json!("succeeded"), json!(5500)));
        shop.stripe.heal();
        minute(shop).await;
        assert_eq!((charges(shop), shop.balance().await, stands(shop).await["month_spent"].clone()), (1, json!(5500), json!(1000)));
    }

    async fn a_claim_that_was_left_is_charged_once(shop: &Shop) {
        saved(shop).await;
        set(shop, 0, 10_000).await;
        // A process claims it, and ends before it asks.
        let app = shop.app.inside();
        let row = shop.app.alice.ensure().await["user_id"].as_i64().expect("a row");
        let of = top_up_rows::find(&app.db, kernel::UserRowId(row)).await.expect("read").expect("set");
        let new = NewPayment {
            user: of.user, kind: PaymentKind::TopUp, cause: of.cause(), item: Some("small".to_owned()), amount: 1000,
            currency: "usd".to_owned(), credits: kernel::Credits::whole(5000),
        };
        let claim = top_up_rows::claim(&of, &new, shop.app.now());
        app.writer.execute(Command::Edit(claim.clone())).await.expect("claimed");
        app.writer.execute(Command::Edit(claim)).await.expect_err("once");
        shop.app.sweep().await;
        assert_eq!(charges(shop), 0, "for a minute it is the other one's");
        assert_eq!((over(shop).await, charges(shop), shop.balance().await), (json!("succeeded"), 1, json!(5500)));
        assert_eq!(stands(shop).await["month_spent"], 1000);
    }

    async fn what_is_turned_off_is_not_charged_later(shop: &Shop) {
        saved(shop).await;
        let off = json!({"threshold": 1000, "pack": "small", "monthly_max": 10_000, "enabled": false});
        for removed in [false, true] {
            shop.stripe.fail(Rule::on("*", "/v1/payment_intents", Fault::Drop(Effect::Before)).times(1000));
            set(shop, 1000, 10_000).await;
            minute(shop).await;
            if removed {
                let gone = shop.app.alice.delete(&path(shop)).await.data();
                assert_eq!(gone, json!({"user_id": "auth0|alice", "deleted": true}));
            } else {
                let _ = put(shop, off.clone()).await.ok();
            }
            shop.stripe.heal();
            assert_eq!((over(shop).await, charges(shop), shop.balance().await), (json!("canceled"), 0, json!(500)));
        }
        shop.app.alice.get(&path(shop)).await.refuses(404, "NotFoundException", "auth0|alice has no automatic top-up");
        shop.app.alice.delete(&path(shop)).await.refuses(404, "NotFoundException", "auth0|alice has no automatic top-up");
        assert_eq!(set(shop, 0, 10_000).await["month_spent"], 0, "nothing was paid");
    }

    async fn what_stripe_does_not_take_counts_as_failed_in_the_end(shop: &Shop) {
        let customer = saved(shop).await;
        assert!(customer.starts_with("cus_"));
        shop.stripe.fail(Rule::on("POST", "/v1/payment_intents", Fault::Status(400, Effect::Before)).times(1000));
        set(shop, 1000, 10_000).await;
        assert_eq!(over(shop).await, "canceled");
        let of = stands(shop).await;
        assert_eq!((&of["failures"], &of["failure"], &of["month_spent"]),
            (&json!(1), &json!("Stripe did not take the payment; the service's log says why"), &json!(0)));
        assert_eq!(charges(shop), 0);
    }

    async fn a_hold_and_what_pays_for_some_things_only_do_not_count(shop: &Shop) {
        saved(shop).await;
        let some = json!({"amount": 9000, "source": "promo", "scope": {"models": ["gpt-4"]}});
        let _ = shop.app.backend.post(&shop.app.alice.own("/credits/grants"), some).await.ok();
        set(shop, 500, 10_000).await;
        shop.app.sweep().await;
        assert_eq!(charges(shop), 0, "500 can be spent");
        let _ = shop.app.alice.post(&shop.app.alice.own("/credits/holds"), json!({"amount": 1})).await.ok();
        settled(shop, 1).await;
        assert_eq!(charges(shop), 1);
    }

    async fn what_makes_no_sense_is_refused(shop: &Shop) {
        let alice = &shop.app.alice;
        let good = json!({"threshold": 500, "pack": "small", "monthly_max": 10_000});
        put(shop, good.clone()).await.refuses(409, "ConflictException", "No payment method is saved yet; a payment saves one");
        let _ = alice.get(&path(shop)).await.with(404);
        saved(shop).await;
        for (change, field) in [
            (json!({"threshold": -1}), "threshold"), (json!({"threshold": 9_000_000_000_001_i64}), "threshold"),
            (json!({"threshold": "many"}), "threshold"), (json!({"threshold": 0.000_000_1}), "threshold"),
            (json!({"pack": "huge"}), "pack"), (json!({"pack": ""}), "pack"),
            (json!({"monthly_max": 49}), "monthly_max"), (json!({"monthly_max": 999}), "monthly_max"),
            (json!({"monthly_max": 100_000_000}), "monthly_max"), (json!({"monthly_max": -1}), "monthly_max"),
            (json!({"enabled": "perhaps"}), "enabled"), (json!({"user_id": "auth0|bob"}), "user_id"),
        ] {
            let refused = put(shop, with(good.clone(), change.clone())).await.with(400);
            assert_eq!(refused["detail"][0]["loc"][1], field, "{change}: {refused}");
        }
        for field in ["threshold", "pack", "monthly_max"] {
            let mut without = good.clone();
            without.as_object_mut().expect("an object").remove(field);
            assert_eq!(put(shop, without).await.with(400)["detail"][0]["loc"][1], field);
        }
        let _ = alice.get(&path(shop)).await.with(404);
        // The most there is, and a request that comes again.
        let most = json!({"threshold": 9_000_000_000_000_i64, "pack": "small", "monthly_max": 99_999_999, "enabled": false, "idempotency_key": "t"});
        let first = put(shop, most.clone()).await.ok();
        assert_eq!(first["data"]["threshold"], 9_000_000_000_000_i64);
        assert_eq!(put(shop, most).await.ok(), first);
        let other = with(good, json!({"idempotency_key": "t"}));
        assert_eq!(put(shop, other).await.status, 422);
        let _: Timestamp = first["data"]["updated_at"].as_str().expect("a text").parse().expect("an instant");
    }
}
