//! What an event does: a fact is added, and what follows from all facts is done.
//!
//! Nothing here depends on the order of events, or on how often one comes. What cannot be done yet,
//! because it is not known whose it is or because Stripe must be asked and does not answer, is
//! tried again later.

mod invoice;
mod money;
mod subscription;

pub use invoice::paid_invoice;
pub use money::{charge_refunded, checkout_gone, dispute_state, intent, reversed};
pub use subscription::subscription;

use super::CallError;
use super::object::{AnyObject, Event, Metadata, USER_ID};
use crate::app::App;
use crate::db::DbError;
use crate::payments::edits::{self, Facts};
use crate::payments::model::Payment;
use crate::payments::settle::settle;
use crate::payments::store;
use crate::subscriptions;
use crate::users;
use crate::writer::{Command, Edit, WriteError};
use kernel::{ExternalId, UserRowId};
use serde::de::DeserializeOwned;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken in.
    Processed,
    /// It means nothing here.
    Unhandled,
}

/// Why an event was not taken in yet.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It says too little, or what it rests on has not been heard of.
    #[error("{0}")]
    Unclear(String),
    /// Stripe was asked, and did not answer.
    #[error("Stripe: {0}")]
    Call(#[from] CallError),
    /// It could not be written.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// It could not be looked up.
    #[error("{0}")]
    Read(#[from] DbError),
}

/// How an event is taken in.
#[derive(Debug, Clone, Copy)]
pub struct Attempt(pub i64);

impl Attempt {
    /// Whether it goes on with less than Stripe knows: after so many attempts, or where nobody can be asked.
    #[must_use]
    pub fn makes_do(self, app: &App) -> bool {
        app.stripe.is_none() || self.0 >= ASK_ATTEMPTS
    }
}

/// How often Stripe is asked for more before an event is taken in without it.
const ASK_ATTEMPTS: i64 = 2;

/// Takes an event in.
///
/// # Errors
/// [`ApplyError`]; it is to be tried again.
pub async fn apply(app: &App, event: &Event, attempt: Attempt) -> Result<Outcome, ApplyError> {
    let text = event.data.object.get();
    match event.kind.as_str() {
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            subscription::checkout(app, &read(text)?, attempt).await
        }
        "checkout.session.expired" | "checkout.session.async_payment_failed" => {
            money::checkout_gone(app, &read(text)?).await
        }
        "customer.subscription.created" => subscription::told(app, event, &read(text)?, 0).await,
        "customer.subscription.updated" => subscription::told(app, event, &read(text)?, 1).await,
        "customer.subscription.deleted" => subscription::told(app, event, &read(text)?, 2).await,
        "invoice.paid" | "invoice.payment_succeeded" => invoice::paid(app, &read(text)?).await,
        "invoice.payment_failed" => invoice::failed(app, &read(text)?).await,
        "invoice_payment.paid" => invoice::linked(app, &read(text)?).await,
        "payment_intent.succeeded" | "payment_intent.payment_failed" | "payment_intent.canceled" => {
            money::intent(app, &read(text)?).await
        }
        "charge.refunded" => money::charge_refunded(app, &read(text)?).await,
        "charge.dispute.created"
        | "charge.dispute.updated"
        | "charge.dispute.funds_withdrawn"
        | "charge.dispute.closed"
        | "charge.dispute.funds_reinstated" => money::dispute(app, &read(text)?).await,
        _ => Ok(Outcome::Unhandled),
    }
}

/// Whether events of that type are taken in.
#[must_use]
pub fn is_handled(kind: &str) -> bool {
    HANDLED.contains(&kind)
}

/// The types of events that are taken in.
pub const HANDLED: &[&str] = &[
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.expired",
    "checkout.session.async_payment_failed",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice.payment_failed",
    "invoice_payment.paid",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.closed",
    "charge.dispute.funds_reinstated",
];

fn read<T: DeserializeOwned>(text: &str) -> Result<T, ApplyError> {
    serde_json::from_str(text)
        .map_err(|error| ApplyError::Unclear(format!("the object cannot be read: {error}")))
}

/// What every object of an event has, for the list of events.
#[must_use]
pub fn any(text: &str) -> AnyObject {
    serde_json::from_str(text).unwrap_or_default()
}

/// Whose something is: by what was written beside it, or by its customer, which is remembered.
async fn owner(
    app: &App,
    named: Option<&str>,
    metadata: Option<&Metadata>,
    customer: Option<&str>,
) -> Result<Option<UserRowId>, ApplyError> {
    let ours = metadata.and_then(|all| all.get(USER_ID)).map(String::as_str);
    let named = ours.or(named);
    if let Some(id) = named.and_then(|id| id.parse::<ExternalId>().ok())
        && let Some(user) = users::store::find(&app.db, &id).await?
    {
        // Anybody can write a reference into a payment link's address; only we write metadata.
        if let (Some(customer), Some(_)) = (customer, ours) {
            write(app, edits::customer(user.id, customer, app.clock.now())).await?;
        }
        return Ok(Some(user.id));
    }
    let Some(customer) = customer else { return Ok(None) };
    Ok(store::customer_named(&app.db, customer).await?.map(|customer| customer.user))
}

async fn write(app: &App, edit: Edit) -> Result<(), WriteError> {
    app.writer.execute(Command::Edit(edit)).await.map(drop)
}

/// The payment of that cause, written down where it is not yet.
async fn payment(app: &App, new: &edits::NewPayment) -> Result<Payment, ApplyError> {
    for _ in 0..2 {
        if let Some(found) = store::find(&app.db, store::By::Cause(&new.cause)).await? {
            return Ok(found);
        }
        match write(app, edits::insert(new, app.clock.now())).await {
            Ok(()) | Err(WriteError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApplyError::Unclear("the user's account is closed".to_owned()))
}

/// The payment that a name written beside an object means, where it is that user's.
async fn named_payment(
    app: &App,
    metadata: &Metadata,
    user: UserRowId,
) -> Result<Option<Payment>, ApplyError> {
    let Some(name) = metadata.get(super::object::PAYMENT) else { return Ok(None) };
    let Some(id) = name.split_once('-').and_then(|(id, _)| id.parse().ok()) else { return Ok(None) };
    Ok(store::find(&app.db, store::By::Id(id)).await?.filter(|of| of.user == user && of.name() == *name))
}

/// Adds facts to a payment, and does what follows.
async fn learn(app: &App, of: &Payment, facts: &Facts) -> Result<(), ApplyError> {
    write(app, edits::learn(of, facts, app.clock.now())).await?;
    settle(app, of.id).await?;
    if let Some(id) = of.subscription.as_deref().or(facts.subscription.as_deref()) {
        subscriptions::stripe::project(app, id).await?;
    }
    Ok(())
}
