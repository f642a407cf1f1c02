//! A service that sells through a fake Stripe.

use serde_json::{Value, json};
use std::time::Duration;
use testkit::stripe::{FakeEvent, FakeStripe, WEBHOOK_SECRET};
use testkit::{Engine, TestApp};

/// The key of the fake account.
pub const SECRET_KEY: &str = "sk_test_shop";

const PLANS: &str = r#"
[plans.free]
name = "Free"
price_monthly = "0"
credits = "1000"
duration_days = 30

[plans.pro]
name = "Pro"
price_monthly = "20"
credits = "10000"
duration_days = 30
stripe_price = "price_pro"

[plans.enterprise]
name = "Enterprise"
price_monthly = "100"
credits = "50000"
duration_days = 30
stripe_price = "price_enterprise"

[plans.tried]
name = "Tried"
price_monthly = "20"
credits = "10000"
duration_days = 30
trial_days = 7
stripe_price = "price_tried"

[packs.small]
name = "5 000 credits"
price = "10"
credits = "5000"
"#;

/// The service and the Stripe that it sells through.
pub struct Shop {
    pub app: TestApp,
    pub stripe: FakeStripe,
    _plans: tempfile::NamedTempFile,
}

impl Shop {
    pub async fn open(engine: Engine) -> Self {
        Self::open_with(engine, &[]).await
    }

    pub async fn open_with(engine: Engine, settings: &[(&str, &str)]) -> Self {
        let stripe = FakeStripe::start(SECRET_KEY).await;
        stripe.price("price_pro", 2000, "month");
        stripe.price("price_enterprise", 10_000, "month");
        stripe.price("price_tried", 2000, "month");
        let plans = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(plans.path(), PLANS).expect("written");
        let (base, path) = (stripe.base_url(), plans.path().display().to_string());
        let mut all = vec![
            ("STRIPE_SECRET_KEY", SECRET_KEY),
            ("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET),
            ("STRIPE_API_BASE", base.trim_end_matches('/')),
            ("PLANS_FILE", path.as_str()),
            ("WELCOME_CREDITS", "0"),
        ];
        all.extend_from_slice(settings);
        let app = TestApp::start_with(engine, &all).await;
        app.alice.ensure().await;
        Self { app, stripe, _plans: plans }
    }

    /// Where Stripe sends its events.
    pub fn hook(&self) -> String {
        format!("http://{}/api/v1/webhooks/stripe", self.app.address)
    }

    /// Delivers whatever happened since the last time, and takes it all in.
    pub async fn hear(&self) {
        for delivery in self.stripe.deliver_all(&self.hook()).await {
            assert_eq!(delivery.status, 200, "{delivery:?}");
        }
        self.settle().await;
    }

    /// Delivers one event.
    pub async fn deliver(&self, event: &FakeEvent) -> Value {
        let delivery = self.stripe.deliver(event, &self.hook()).await;
        assert_eq!(delivery.status, 200, "{delivery:?}");
        delivery.body
    }

    /// Waits until no event is being taken in.
    pub async fn settle(&self) {
        for _ in 0..600 {
            let open = self.events("received").await;
            if open.as_array().is_some_and(Vec::is_empty) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("events are not taken in: {}", self.events("received").await);
    }

    /// Events that stand there.
    pub async fn events(&self, status: &str) -> Value {
        self.app.admin.get(&format!("/api/v1/admin/stripe/events?status={status}&limit=1000")).await.data()
    }

    /// Moves both clocks on by so many days.
    pub fn days(&self, days: u64) {
        self.pass(Duration::from_secs(days * 24 * 60 * 60));
    }

    /// Moves both clocks on by whole seconds.
    pub fn pass(&self, time: Duration) {
        self.app.clock.advance(time);
        self.stripe.advance_to(self.stripe.now() + i64::try_from(time.as_secs()).expect("a span"));
    }

    /// Begins a checkout of alice's, and gives its id.
    pub async fn checkout(&self, what: Value) -> String {
        let begun = self.app.alice.post("/api/v1/payments/create-checkout", what).await.ok();
        begun["session_id"].as_str().expect("an id").to_owned()
    }

    /// Alice buys a plan, and everybody hears of it.
    pub async fn subscribe(&self, plan: &str) -> String {
        let session = self.checkout(json!({"plan_type": plan})).await;
        self.stripe.complete_checkout(&session);
        self.hear().await;
        self.stripe.object(&session)["subscription"].as_str().expect("a subscription").to_owned()
    }

    /// Alice's balance.
    pub async fn balance(&self) -> Value {
        crate::support::balance(&self.app.alice).await
    }

    /// Alice's subscription.
    pub async fn subscription(&self) -> Value {
        self.app.alice.get("/api/v1/subscriptions/current").await.ok()["subscription"].clone()
    }

    /// Alice's payments, the last one first.
    pub async fn payments(&self) -> Value {
        self.app.alice.get(&self.app.alice.own("/payments")).await.data()
    }
}

/// Stories on both engines.
macro_rules! shops {
    ($($(#[$meta:meta])* async fn $name:ident($shop:ident: &Shop) $story:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn story($shop: &Shop) $story

            async fn run(engine: testkit::Engine) {
                let shop = Shop::open(engine).await;
                story(&shop).await;
                shop.app.finish().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(testkit::Engine::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                run(testkit::Engine::Postgres).await;
            }
        }
    )+};
}
pub(crate) use shops;
