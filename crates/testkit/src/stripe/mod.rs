//! A fake Stripe: its API as the service uses it, the world behind it, and signed webhooks.
//!
//! [`FakeStripe`] answers on a port of its own, refuses what Stripe would refuse, and honours
//! idempotency keys. What customers, banks, the dashboard and time do is told by its methods; each
//! change appends the events that Stripe would send ([`FakeEvent`]), and [`FakeStripe::deliver`] posts
//! one to the service. Time stands still until it is moved, as the service's does.

mod checkout;
mod customers;
mod deliver;
mod error;
mod faults;
mod intents;
mod invoices;
mod keys;
mod objects;
mod params;
mod proration;
mod refunds;
mod route;
mod server;
mod subscriptions;
#[cfg(test)]
mod tests;
mod timeline;
mod world;

pub use deliver::{Delivery, FakeEvent, Signer, post};
pub use faults::{Effect, Fault, Rule};
pub use server::Received;
pub use world::{AfterRetries, Card};

use error::Refusal;
use keys::Keys;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use world::World;

/// The version of the API that the fake speaks.
pub const API_VERSION: &str = "2026-09-30.endive";
/// The secret that signs webhooks unless others are set.
pub const WEBHOOK_SECRET: &str = "whsec_testkit_5d0c2a9e7b1f4836";
/// What its clock shows at first: the second of `app::START`.
pub const START_S: i64 = 1_753_575_086;

/// A Stripe account; its server ends when it is dropped.
pub struct FakeStripe {
    shared: Arc<Shared>,
    port: u16,
    serving: JoinHandle<()>,
}

struct Shared {
    secret_key: String,
    world: Mutex<World>,
    keys: Mutex<Keys>,
    rules: Mutex<Vec<Rule>>,
    received: Mutex<Vec<Received>>,
    secrets: Mutex<Vec<String>>,
}

impl Shared {
    fn lock<'a, T>(&'a self, part: &'a Mutex<T>) -> MutexGuard<'a, T> {
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeStripe {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FakeStripe {
    /// An empty account with that key, behind a free port.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(secret_key: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            secret_key: secret_key.to_owned(),
            world: Mutex::new(World::new(START_S)),
            keys: Mutex::default(),
            rules: Mutex::default(),
            received: Mutex::default(),
            secrets: Mutex::new(vec![WEBHOOK_SECRET.to_owned()]),
        });
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Self { shared, port, serving }
    }

    /// Where it answers, for `STRIPE_API_BASE`: `http://127.0.0.1:port/`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.lock(&self.shared.world)
    }

    /// Does something that Stripe must not refuse here.
    fn act<T>(&self, act: impl FnOnce(&mut World) -> Result<T, Refusal>) -> T {
        let done = act(&mut self.world());
        done.unwrap_or_else(|refusal| panic!("the fake Stripe refuses: {}", refusal.body()))
    }

    /// Makes or changes a price; `interval` is `day`, `week`, `month` or `year`, or empty for one payment.
    pub fn price(&self, id: &str, unit_amount_cents: i64, interval: &str) {
        let interval = (!interval.is_empty()).then_some(interval);
        customers::price(&mut self.world(), id, unit_amount_cents, interval);
    }

    /// What the clock shows, in seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.world().now
    }

    /// Sets the clock; nothing happens by that, see [`Self::advance_to`].
    pub fn set_time(&self, seconds: i64) {
        self.world().now = seconds;
    }

    /// Moves the clock on; nothing happens by that.
    pub fn advance(&self, seconds: i64) {
        self.world().now += seconds;
    }

    /// Lets time pass until an instant, with all that happens by itself: pages expire, trials and periods
    /// end, renewals are drafted and an hour later charged, failed ones again after 1, 3, 5 and 7 days.
    pub fn advance_to(&self, seconds: i64) {
        timeline::advance_to(&mut self.world(), seconds);
    }

    /// What becomes of a subscription when its last retry fails; it is cancelled unless this says otherwise.
    pub fn after_retries(&self, end: AfterRetries) {
        self.world().after_retries = end;
    }

    /// Gives a customer a card to pay with by default, or changes how its card behaves.
    pub fn set_card(&self, customer: &str, card: Card) {
        customers::set_card(&mut self.world(), customer, card);
    }

    /// The customer pays on a session's page with its card, a good one when nobody spoke of it; gives the
    /// session. When the card does not pay, the session stays open.
    ///
    /// # Panics
    /// When the page is not open.
    pub fn complete_checkout(&self, session: &str) -> Value {
        self.complete(session, None)
    }

    /// The customer pays on a session's page with a card that behaves so from now on.
    ///
    /// # Panics
    /// When the page is not open.
    pub fn complete_checkout_with(&self, session: &str, card: Card) -> Value {
        self.complete(session, Some(card))
    }

    fn complete(&self, session: &str, card: Option<Card>) -> Value {
        self.act(|world| {
            match checkout::complete(world, session, card) {
                Err(refusal) if refusal.status != 402 => return Err(refusal),
                _ => {}
            }
            world.get("checkout.session", session).cloned()
        })
    }

    /// The customer leaves a session's page until it expires, which it does at once.
    ///
    /// # Panics
    /// When the page is not open.
    pub fn abandon_checkout(&self, session: &str) -> Value {
        self.act(|world| {
            checkout::expire(world, session)?;
            world.get("checkout.session", session).cloned()
        })
    }

    /// The customer pays an intent on the product's own page; gives the charge's id.
    ///
    /// # Panics
    /// When the intent cannot be paid.
    pub fn pay_intent(&self, intent: &str) -> String {
        self.act(|world| intents::pay_on_page(world, intent, Card::Good))
    }

    /// The customer tries to pay an intent with a card that is declined.
    ///
    /// # Panics
    /// When the intent cannot be paid.
    pub fn fail_intent(&self, intent: &str) {
        self.act(|world| match intents::pay_on_page(world, intent, Card::Declined) {
            Err(refusal) if refusal.status != 402 => Err(refusal),
            _ => Ok(()),
        });
    }

    /// The customer pays a bill that is due on its page, with a good card that it keeps.
    ///
    /// # Panics
    /// When the bill is not due.
    pub fn pay_invoice(&self, invoice: &str) {
        self.act(|world| invoices::pay_on_page(world, invoice, Card::Good));
    }

    /// Somebody gives back money of a charge or a payment intent in the dashboard; gives the refund's id.
    ///
    /// # Panics
    /// When there is not that much left.
    pub fn refund_in_dashboard(&self, charge_or_intent: &str, cents: i64) -> String {
        self.act(|world| refunds::refund(world, charge_or_intent, Some(cents), None, &Map::new()))
    }

    /// The cardholder disputes what is left of a charge or a payment intent; gives the dispute's id.
    ///
    /// # Panics
    /// When it was not paid, or is disputed already.
    pub fn dispute(&self, charge_or_intent: &str) -> String {
        self.act(|world| refunds::dispute(world, charge_or_intent))
    }

    /// The bank decides a dispute of a charge or a payment intent; gives the dispute's id.
    ///
    /// # Panics
    /// When it is not disputed.
    pub fn close_dispute(&self, charge_or_intent: &str, won: bool) -> String {
        self.act(|world| refunds::close_dispute(world, charge_or_intent, won))
    }

    /// Somebody cancels a subscription in the dashboard, at once.
    ///
    /// # Panics
    /// When there is none.
    pub fn cancel_in_dashboard(&self, subscription: &str) {
        self.act(|world| {
            world.get("subscription", subscription)?;
            subscriptions::cancel(world, subscription, "cancellation_requested");
            Ok(())
        });
    }

    /// The object of that id.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn object(&self, id: &str) -> Value {
        self.world().at(id).clone()
    }

    /// Every object of a kind such as `payment_intent` or `checkout.session`, oldest first.
    #[must_use]
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        self.world().all(kind).cloned().collect()
    }

    /// The next requests that fit go wrong so; of several rules the first that fits strikes.
    pub fn fail(&self, rule: Rule) {
        self.shared.lock(&self.shared.rules).push(rule);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.shared.lock(&self.shared.rules).clear();
    }

    /// Every call that came, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.shared.lock(&self.shared.received).clone()
    }

    /// Every event so far, in Stripe's order.
    #[must_use]
    pub fn events(&self) -> Vec<FakeEvent> {
        self.world().all("event").map(FakeEvent::of).collect()
    }

    /// The events since they were last taken.
    #[must_use]
    pub fn take_events(&self) -> Vec<FakeEvent> {
        let mut world = self.world();
        let events: Vec<FakeEvent> = world.all("event").skip(world.taken).map(FakeEvent::of).collect();
        world.taken += events.len();
        events
    }

    /// Sets the secrets that webhooks are signed with: two while one is rolled over to the next.
    pub fn set_webhook_secrets(&self, secrets: &[&str]) {
        *self.shared.lock(&self.shared.secrets) = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    }

    /// The header `Stripe-Signature` of a body as it would be sent now.
    ///
    /// # Panics
    /// When there is no Python with Stripe's library.
    #[must_use]
    pub fn signature(&self, body: &str) -> String {
        let secrets = self.shared.lock(&self.shared.secrets).clone();
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        Signer::header(body, &secrets, self.now())
    }

    /// Posts an event to the service; gives its status and body.
    ///
    /// # Panics
    /// When the service does not answer.
    pub async fn deliver(&self, event: &FakeEvent, url: &str) -> Delivery {
        let body = event.body();
        let signature = self.signature(&body);
        let (status, body) = post(url, body, &signature).await;
        Delivery { event: event.id.clone(), status, body }
    }

    /// Posts the events since they were last taken, one after the other.
    ///
    /// # Panics
    /// When the service does not answer.
    pub async fn deliver_all(&self, url: &str) -> Vec<Delivery> {
        let mut answers = Vec::new();
        for event in self.take_events() {
            answers.push(self.deliver(&event, url).await);
        }
        answers
    }
}
