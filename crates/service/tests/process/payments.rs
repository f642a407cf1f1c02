//! Payments while the service is killed: nothing is lost, nothing is given twice, and afterwards both sides say the same.

use crate::{PROGRAM, verify_ledger};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use testkit::process::Place;
use testkit::stripe::{FakeStripe, Signer, WEBHOOK_SECRET};

either_engine!(killed_at_any_point_both_sides_say_the_same_afterwards);

/// How many times the service is killed.
const ROUNDS: u64 = 12;

/// A page that buys; whatever does not answer has been killed.
struct Buyer {
    http: reqwest::Client,
    token: String,
}

impl Buyer {
    async fn new(to: SocketAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("http://{to}/auth/dev-token?user_id=buyer");
        let answer: Value = http.post(url).send().await.expect("an answer").json().await.expect("JSON");
        let token = answer["token"].as_str().expect("a token").to_owned();
        let buyer = Self { http, token };
        let _ = buyer.post(to, "/api/v1/users/ensure", json!({"name": "Buyer"})).await.expect("a user");
        buyer
    }

    async fn post(&self, to: SocketAddr, path: &str, body: Value) -> Option<Value> {
        let request = self.http.post(format!("http://{to}{path}")).bearer_auth(&self.token).json(&body);
        request.send().await.ok()?.json().await.ok()
    }

    async fn get(&self, to: SocketAddr, path: &str) -> Value {
        let request = self.http.get(format!("http://{to}{path}")).bearer_auth(&self.token);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Sends every event, whether or not anybody takes it.
    async fn tell(&self, to: SocketAddr, bodies: &[String]) {
        let sent = bodies.iter().map(|body| {
            let header = Signer::header(body, &[WEBHOOK_SECRET], now());
            let request = self.http.post(format!("http://{to}/api/v1/webhooks/stripe"));
            request.header("stripe-signature", header).body(body.clone()).send()
        });
        let _ = futures_util::future::join_all(sent).await;
    }
}

fn now() -> i64 {
    kernel::Clock::System.now().seconds()
}

async fn killed_at_any_point_both_sides_say_the_same_afterwards(place: Place) {
    let stripe = Arc::new(FakeStripe::start("sk_test_killed").await);
    let base = stripe.base_url();
    let settings = [
        ("STRIPE_SECRET_KEY", "sk_test_killed"),
        ("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET),
        ("STRIPE_API_BASE", base.trim_end_matches('/')),
        ("WELCOME_CREDITS", "0"),
    ];
    let mut service = PROGRAM.start(&place, &settings).await;
    let buyer = Arc::new(Buyer::new(service.address).await);
    for round in 0..ROUNDS {
        stripe.set_time(now());
        let (told, to, world) = (Arc::clone(&buyer), service.address, Arc::clone(&stripe));
        let busy = tokio::spawn(async move {
            let body = json!({"pack": "small", "idempotency_key": format!("round-{round}")});
            let begun = told.post(to, "/api/v1/payments/create-checkout", body).await;
            let Some(session) = begun.as_ref().and_then(|begun| begun["session_id"].as_str()) else { return };
            let _ = world.complete_checkout(session);
            let bodies: Vec<String> =
                world.take_events().iter().map(testkit::stripe::FakeEvent::body).collect();
            told.tell(to, &bodies).await;
        });
        // Somewhere between the first request and the last event.
        tokio::time::sleep(Duration::from_millis(7 * round + 3)).await;
        service.kill();
        let _ = busy.await;
        service = PROGRAM.start(&place, &settings).await;
    }
    // A request that broke off is sent again, and what it began goes on.
    for round in 0..ROUNDS {
        stripe.set_time(now());
        let body = json!({"pack": "small", "idempotency_key": format!("round-{round}")});
        let begun =
            buyer.post(service.address, "/api/v1/payments/create-checkout", body).await.expect("an answer");
        let session = begun["session_id"].as_str().unwrap_or_else(|| panic!("{begun}"));
        if stripe.object(session)["status"] == "open" {
            let _ = stripe.complete_checkout(session);
        }
    }
    assert_eq!(service.stop().await.code, Some(0));
    let fixed = PROGRAM.run(&place, &["payments", "reconcile", "--fix"], &settings).await;
    assert_eq!(fixed.code, Some(0), "{} {}", fixed.stdout, fixed.stderr);
    let even = PROGRAM.run(&place, &["payments", "reconcile"], &settings).await;
    assert_eq!(even.code, Some(0), "{} {}", even.stdout, even.stderr);
    assert!(even.stdout.trim_end().ends_with(" 0 different"), "{}", even.stdout);
    let service = PROGRAM.start(&place, &settings).await;
    let balance = buyer.get(service.address, "/api/v1/users/buyer/credits/balance").await;
    assert_eq!(balance["data"], json!(5000 * ROUNDS), "each payment's credits once");
    assert_eq!(service.stop().await.code, Some(0));
    verify_ledger(&place).await;
}
