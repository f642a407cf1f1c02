//! What of Stripe's objects matters here, in the shape of its current API and of the ones before it.
//!
//! Whatever else they have is passed over. Where a field moved between versions of the API, both
//! places are looked at, because a webhook speaks the version of its endpoint.

use super::client::Listed;
use kernel::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What the service writes beside its objects.
pub type Metadata = BTreeMap<String, String>;

/// The key of [`Metadata`] under which the user's id stands.
pub const USER_ID: &str = "user_id";
/// The key under which the version of the plan stands.
pub const PLAN_VERSION: &str = "plan_version";
/// The key under which the payment's row stands.
pub const PAYMENT: &str = "payment";
/// The key under which stands what a payment gives, in credits.
pub const CREDITS: &str = "credits";

/// A page of a list.
#[derive(Debug, Clone, Deserialize)]
pub struct List<T> {
    /// Its rows.
    pub data: Vec<T>,
    /// Whether there are more.
    #[serde(default)]
    pub has_more: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { data: Vec::new(), has_more: false }
    }
}

/// An object that may come as its id or whole.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Reference {
    Id(String),
    Whole { id: String },
}

fn reference<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Reference>::deserialize(deserializer)?.map(|reference| match reference {
        Reference::Id(id) | Reference::Whole { id } => id,
    }))
}

/// `null` is as good as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Something that happened.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// Its id, the same however often it is sent.
    pub id: String,
    /// What happened, such as `invoice.paid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When, in seconds.
    pub created: i64,
    /// Whether real money is meant.
    #[serde(default)]
    pub livemode: bool,
    /// To what.
    pub data: EventData,
}

/// What an event is about.
#[derive(Debug, Deserialize)]
pub struct EventData {
    /// The object as it was then.
    pub object: Box<RawValue>,
}

/// What every object has.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct AnyObject {
    /// Its id.
    #[serde(default, deserialize_with = "reference")]
    pub id: Option<String>,
    /// Whose it is.
    #[serde(default, deserialize_with = "reference")]
    pub customer: Option<String>,
}

/// A customer.
#[derive(Debug, Clone, Deserialize)]
pub struct Customer {
    /// Its id.
    pub id: String,
    /// What we wrote beside it.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: Metadata,
}

/// A page of Stripe's.
#[derive(Debug, Clone, Deserialize)]
pub struct Page {
    /// Where it is.
    pub url: String,
}

/// A page where somebody pays.
#[derive(Debug, Clone, Deserialize)]
pub struct CheckoutSession {
    /// Its id.
    pub id: String,
    /// `payment`, `subscription` or `setup`.
    #[serde(default, deserialize_with = "or_default")]
    pub mode: String,
    /// `open`, `complete` or `expired`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// `paid`, `unpaid` or `no_payment_required`.
    #[serde(default, deserialize_with = "or_default")]
    pub payment_status: String,
    /// Whose it is.
    #[serde(default, deserialize_with = "reference")]
    pub customer: Option<String>,
    /// Whose it is, in our words.
    #[serde(default)]
    pub client_reference_id: Option<String>,
    /// What we wrote beside it.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What is paid.
    #[serde(default)]
    pub amount_total: Option<i64>,
    /// In which currency.
    #[serde(default)]
    pub currency: Option<String>,
    /// The payment that it makes.
    #[serde(default, deserialize_with = "reference")]
    pub payment_intent: Option<String>,
    /// The subscription that it makes.
    #[serde(default, deserialize_with = "reference")]
    pub subscription: Option<String>,
    /// The subscription's first invoice.
    #[serde(default, deserialize_with = "reference")]
    pub invoice: Option<String>,
    /// Where it is.
    #[serde(default)]
    pub url: Option<String>,
    /// When it was made, in seconds.
    #[serde(default)]
    pub created: i64,
}

/// Money on its way.
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentIntent {
    /// Its id.
    pub id: String,
    /// Where it stands.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// How much is wanted.
    #[serde(default)]
    pub amount: i64,
    /// How much has come.
    #[serde(default)]
    pub amount_received: i64,
    /// In which currency.
    #[serde(default, deserialize_with = "or_default")]
    pub currency: String,
    /// Whose it is.
    #[serde(default, deserialize_with = "reference")]
    pub customer: Option<String>,
    /// What we wrote beside it.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// With what it was paid.
    #[serde(default, deserialize_with = "reference")]
    pub payment_method: Option<String>,
    /// Whether that may be charged again while its owner is away.
    #[serde(default)]
    pub setup_future_usage: Option<String>,
    /// The invoice that it pays, where the API's version says so.
    #[serde(default, deserialize_with = "reference")]
    pub invoice: Option<String>,
    /// What a front end finishes it with; a secret.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// Why it failed the last time.
    #[serde(default)]
    pub last_payment_error: Option<PaymentError>,
    /// When it was made, in seconds.
    #[serde(default)]
    pub created: i64,
}

/// Why a payment failed.
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentError {
    /// Stripe's sentence.
    #[serde(default)]
    pub message: Option<String>,
}

/// A subscription.
#[derive(Debug, Clone, Deserialize)]
pub struct Subscription {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: String,
    /// Whose it is.
    #[serde(default, deserialize_with = "reference")]
    pub customer: Option<String>,
    /// What we wrote beside it.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// Whether it ends with its period.
    #[serde(default)]
    pub cancel_at_period_end: bool,
    /// When it was cancelled, in seconds.
    #[serde(default)]
    pub canceled_at: Option<i64>,
    /// Its last bill.
    #[serde(default, deserialize_with = "reference")]
    pub latest_invoice: Option<String>,
    /// When it ended, in seconds.
    #[serde(default)]
    pub ended_at: Option<i64>,
    /// When its trial ends, in seconds.
    #[serde(default)]
    pub trial_end: Option<i64>,
    /// What is subscribed to.
    #[serde(default)]
    pub items: List<SubscriptionItem>,
    /// The period, where the API's version has it here.
    #[serde(default)]
    pub current_period_start: Option<i64>,
    /// Its end.
    #[serde(default)]
    pub current_period_end: Option<i64>,
    /// When it was made, in seconds.
    #[serde(default)]
    pub created: i64,
}

/// One thing that is subscribed to.
#[derive(Debug, Clone, Deserialize)]
pub struct SubscriptionItem {
    /// Its id.
    #[serde(default)]
    pub id: String,
    /// At which price.
    #[serde(default, deserialize_with = "reference")]
    pub price: Option<String>,
    /// The period.
    #[serde(default)]
    pub current_period_start: Option<i64>,
    /// Its end.
    #[serde(default)]
    pub current_period_end: Option<i64>,
}

impl Subscription {
    /// The current period.
    #[must_use]
    pub fn period(&self) -> Option<(Timestamp, Timestamp)> {
        let item = self.items.data.first();
        let start = item.and_then(|item| item.current_period_start).or(self.current_period_start)?;
        let end = item.and_then(|item| item.current_period_end).or(self.current_period_end)?;
        Some((seconds(start), seconds(end)))
    }

    /// Stripe's price of it.
    #[must_use]
    pub fn price(&self) -> Option<&str> {
        self.items.data.first()?.price.as_deref()
    }
}

/// A bill of a subscription.
#[derive(Debug, Clone, Deserialize)]
pub struct Invoice {
    /// Its id.
    pub id: String,
    /// `draft`, `open`, `paid`, `void` or `uncollectible`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// Whose it is.
    #[serde(default, deserialize_with = "reference")]
    pub customer: Option<String>,
    /// What has been paid of it.
    #[serde(default)]
    pub amount_paid: i64,
    /// In which currency.
    #[serde(default, deserialize_with = "or_default")]
    pub currency: String,
    /// Why it was made, such as `subscription_cycle`.
    #[serde(default)]
    pub billing_reason: Option<String>,
    /// What is billed.
    #[serde(default)]
    pub lines: List<InvoiceLine>,
    #[serde(default, deserialize_with = "reference")]
    subscription: Option<String>,
    #[serde(default)]
    parent: Option<InvoiceParent>,
    #[serde(default)]
    subscription_details: Option<SubscriptionDetails>,
    /// The payment that pays it, where the API's version says so.
    #[serde(default, deserialize_with = "reference")]
    pub payment_intent: Option<String>,
    /// When it was made, in seconds.
    #[serde(default)]
    pub created: i64,
}

#[derive(Debug, Clone, Deserialize)]
struct InvoiceParent {
    #[serde(default)]
    subscription_details: Option<SubscriptionDetails>,
}

#[derive(Debug, Clone, Deserialize)]
struct SubscriptionDetails {
    #[serde(default, deserialize_with = "reference")]
    subscription: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
}

impl Invoice {
    fn details(&self) -> Option<&SubscriptionDetails> {
        let parent = self.parent.as_ref().and_then(|parent| parent.subscription_details.as_ref());
        parent.or(self.subscription_details.as_ref())
    }

    /// The subscription that it bills.
    #[must_use]
    pub fn subscription(&self) -> Option<&str> {
        let named = self.details().and_then(|details| details.subscription.as_deref());
        named.or(self.subscription.as_deref())
    }

    /// What we wrote beside that subscription, as it was when the bill was made.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.details().map(|details| &details.metadata)
    }
}

/// A line of a bill.
#[derive(Debug, Clone, Deserialize)]
pub struct InvoiceLine {
    /// What it comes to; below zero where something is given back.
    #[serde(default)]
    pub amount: i64,
    /// For which time.
    #[serde(default)]
    pub period: Option<Period>,
    #[serde(default, deserialize_with = "reference")]
    price: Option<String>,
    #[serde(default)]
    pricing: Option<Pricing>,
    #[serde(default)]
    proration: bool,
    #[serde(default)]
    parent: Option<LineParent>,
}

/// A span of time, in seconds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Period {
    /// Its beginning.
    pub start: i64,
    /// Its end.
    pub end: i64,
}

#[derive(Debug, Clone, Deserialize)]
struct Pricing {
    #[serde(default)]
    price_details: Option<PriceDetails>,
}

#[derive(Debug, Clone, Deserialize)]
struct PriceDetails {
    #[serde(default, deserialize_with = "reference")]
    price: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct LineParent {
    #[serde(default)]
    subscription_item_details: Option<LineDetails>,
    #[serde(default)]
    invoice_item_details: Option<LineDetails>,
}

#[derive(Debug, Clone, Deserialize)]
struct LineDetails {
    #[serde(default)]
    proration: bool,
}

impl InvoiceLine {
    /// Stripe's price that it bills.
    #[must_use]
    pub fn price(&self) -> Option<&str> {
        let details = self.pricing.as_ref().and_then(|pricing| pricing.price_details.as_ref());
        details.and_then(|details| details.price.as_deref()).or(self.price.as_deref())
    }

    /// Whether it bills a part of a period.
    #[must_use]
    pub fn is_proration(&self) -> bool {
        let details = self.parent.as_ref().and_then(|parent| {
            parent.subscription_item_details.as_ref().or(parent.invoice_item_details.as_ref())
        });
        self.proration || details.is_some_and(|details| details.proration)
    }
}

/// Which payment pays which bill.
#[derive(Debug, Clone, Deserialize)]
pub struct InvoicePayment {
    /// Its id.
    pub id: String,
    /// The bill.
    #[serde(default, deserialize_with = "reference")]
    pub invoice: Option<String>,
    /// The payment.
    pub payment: InvoicePaymentOf,
}

/// The payment of an [`InvoicePayment`].
#[derive(Debug, Clone, Deserialize)]
pub struct InvoicePaymentOf {
    /// It.
    #[serde(default, deserialize_with = "reference")]
    pub payment_intent: Option<String>,
}

/// Money taken from a card.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Charge {
    /// Its id.
    pub id: String,
    /// How much.
    #[serde(default)]
    pub amount: i64,
    /// In which currency.
    #[serde(default, deserialize_with = "or_default")]
    pub currency: String,
    /// How much of it was given back so far.
    #[serde(default)]
    pub amount_refunded: i64,
    /// The payment that it is of.
    #[serde(default, deserialize_with = "reference")]
    pub payment_intent: Option<String>,
    /// The bill that it pays, where the API's version says so.
    #[serde(default, deserialize_with = "reference")]
    pub invoice: Option<String>,
    /// Whose it is.
    #[serde(default, deserialize_with = "reference")]
    pub customer: Option<String>,
    /// What we wrote beside the payment.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// When it was made, in seconds.
    #[serde(default)]
    pub created: i64,
}

/// Money given back.
#[derive(Debug, Clone, Deserialize)]
pub struct Refund {
    /// Its id.
    pub id: String,
    /// How much.
    #[serde(default)]
    pub amount: i64,
    /// Where it stands.
    #[serde(default)]
    pub status: Option<String>,
    /// Of which payment.
    #[serde(default, deserialize_with = "reference")]
    pub payment_intent: Option<String>,
}

/// Money that a bank wants back.
#[derive(Debug, Clone, Deserialize)]
pub struct Dispute {
    /// Its id.
    pub id: String,
    /// How much.
    #[serde(default)]
    pub amount: i64,
    /// Where it stands: `won` and `lost` are the ends.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// Of which payment.
    #[serde(default, deserialize_with = "reference")]
    pub payment_intent: Option<String>,
    /// Of which charge.
    #[serde(default, deserialize_with = "reference")]
    pub charge: Option<String>,
}

/// An instant that Stripe gives in seconds.
#[must_use]
pub const fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds.saturating_mul(1_000_000))
}

macro_rules! listed {
    ($($name:ident),+) => {$(
        impl Listed for $name {
            fn id(&self) -> &str {
                &self.id
            }
        }
    )+};
}
listed!(
    Customer,
    CheckoutSession,
    PaymentIntent,
    Subscription,
    Invoice,
    InvoicePayment,
    Charge,
    Refund,
    Dispute
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_old_and_new_versions_say_the_same() {
        let new = r#"{"id":"in_1","amount_paid":2000,"parent":{"subscription_details":{"subscription":"sub_1","metadata":{"user_id":"a"}}},
            "lines":{"data":[{"amount":2000,"period":{"start":1,"end":2},"pricing":{"price_details":{"price":"price_1"}},
            "parent":{"subscription_item_details":{"proration":true}}}]}}"#;
        let old = r#"{"id":"in_1","amount_paid":2000,"subscription":{"id":"sub_1"},"subscription_details":{"metadata":{"user_id":"a"}},
            "lines":{"data":[{"amount":2000,"period":{"start":1,"end":2},"price":{"id":"price_1"},"proration":true}]}}"#;
        for text in [new, old] {
            let invoice: Invoice = serde_json::from_str(text).expect(text);
            let line = &invoice.lines.data[0];
            assert_eq!((invoice.subscription(), line.price()), (Some("sub_1"), Some("price_1")));
            assert!(line.is_proration());
            assert_eq!(invoice.metadata().and_then(|all| all.get("user_id")).map(String::as_str), Some("a"));
        }
        for text in [
            r#"{"id":"sub_1","status":"active","items":{"data":[{"id":"si","price":{"id":"p"},"current_period_start":1,"current_period_end":2}]}}"#,
            r#"{"id":"sub_1","status":"active","current_period_start":1,"current_period_end":2,"items":{"data":[{"price":"p"}]}}"#,
        ] {
            let subscription: Subscription = serde_json::from_str(text).expect(text);
            assert_eq!(subscription.period(), Some((seconds(1), seconds(2))));
            assert_eq!(subscription.price(), Some("p"));
        }
    }
}
