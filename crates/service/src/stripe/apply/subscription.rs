//! Subscriptions, and the checkouts that begin them.

use super::invoice::{first_cause, paid_invoice, subscription_payment, version};
use super::{ApplyError, Attempt, Outcome, learn, money, named_payment, owner, payment, write};
use crate::app::App;
use crate::payments::edits::{Bill, Facts};
use crate::payments::model::{Payment, PaymentStatus};
use crate::stripe::CallError;
use crate::stripe::object::{self, CheckoutSession, Event, Invoice, PLAN_VERSION, seconds};
use crate::subscriptions::stripe::{self as subscriptions, Telling, Told};
use kernel::{Credits, UserRowId};
use serde_json::json;
use std::time::Duration;

/// A checkout that is over.
pub(super) async fn checkout(
    app: &App,
    session: &CheckoutSession,
    attempt: Attempt,
) -> Result<Outcome, ApplyError> {
    let customer = session.customer.as_deref();
    let user = owner(app, session.client_reference_id.as_deref(), Some(&session.metadata), customer).await?;
    let user = user.ok_or_else(|| ApplyError::Unclear("it is not known whose checkout it is".to_owned()))?;
    match session.mode.as_str() {
        "payment" => money::bought(app, session, user).await?,
        // Whatever names a plan or a subscription is no single payment, also where it does not say so.
        "" if session.subscription.is_none() && !session.metadata.contains_key("plan_type") => {
            money::bought(app, session, user).await?;
        }
        "subscription" | "" => subscribed(app, session, user, attempt).await?,
        _ => return Ok(Outcome::Unhandled),
    }
    Ok(Outcome::Processed)
}

async fn subscribed(
    app: &App,
    session: &CheckoutSession,
    user: UserRowId,
    attempt: Attempt,
) -> Result<(), ApplyError> {
    // A checkout without a subscription is told of by very old events only; it stands for itself.
    let id = session.subscription.as_deref().unwrap_or(&session.id);
    write(app, subscriptions::hear_of(id, user, session.customer.as_deref())).await?;
    let of = row(app, session, id, user).await?;
    let facts = Facts {
        checkout: Some(session.id.clone()),
        invoice: session.invoice.clone(),
        subscription: Some(id.to_owned()),
        ..Facts::default()
    };
    if session.payment_status == "unpaid" {
        return learn(app, &of, &facts).await;
    }
    write(app, crate::payments::edits::learn(&of, &facts, app.clock.now())).await?;
    if let Some(invoice) = &session.invoice {
        match invoice_of(app, invoice).await {
            Ok(Some(invoice)) if invoice.status == "paid" => {
                return paid_invoice(app, &invoice).await.map(drop);
            }
            Ok(_) => {}
            Err(error) if !attempt.makes_do(app) => return Err(error.into()),
            Err(_) => {}
        }
    }
    let facts = Facts {
        status: Some(PaymentStatus::Succeeded),
        received: session.amount_total.unwrap_or(0),
        bill: Some(bill(app, session, &of).await?),
        ..facts
    };
    learn(app, &of, &facts).await
}

async fn invoice_of(app: &App, id: &str) -> Result<Option<Invoice>, CallError> {
    let Some(stripe) = &app.stripe else { return Ok(None) };
    stripe.get(&format!("/invoices/{id}"), &json!({})).await.map(Some)
}

async fn row(app: &App, session: &CheckoutSession, id: &str, user: UserRowId) -> Result<Payment, ApplyError> {
    if let Some(of) = named_payment(app, &session.metadata, user).await? {
        return Ok(of);
    }
    let version = version(app, &session.metadata, None).await?;
    let terms = terms(session, &version);
    let currency = session.currency.clone().unwrap_or_default();
    payment(app, &subscription_payment(user, first_cause(id), &terms, currency)).await
}

/// What a checkout paid for, as far as it says so itself.
async fn bill(app: &App, session: &CheckoutSession, of: &Payment) -> Result<Bill, ApplyError> {
    let version = match &of.item {
        Some(id) => crate::plans::store::version(app, id).await?,
        None => version(app, &session.metadata, None).await?,
    };
    Ok(terms(session, &version))
}

fn terms(session: &CheckoutSession, version: &crate::plans::Version) -> Bill {
    let (start, amount) = (seconds(session.created), session.amount_total.unwrap_or(0));
    let life = Duration::from_secs(u64::from(version.plan.duration_days) * 24 * 60 * 60);
    let credits = if amount > 0 { version.plan.credits() } else { Credits::ZERO };
    Bill { exact: false, plan_version: version.id.clone(), start, end: start.plus(life), amount, credits }
}

/// What Stripe tells of a subscription.
pub(super) async fn told(
    app: &App,
    event: &Event,
    of: &object::Subscription,
    rank: i64,
) -> Result<Outcome, ApplyError> {
    subscription(app, of, Some(Telling { created: event.created, rank, event: &event.id })).await
}

/// Takes over where a subscription stands.
///
/// # Errors
/// [`ApplyError`].
pub async fn subscription(
    app: &App,
    of: &object::Subscription,
    telling: Option<Telling<'_>>,
) -> Result<Outcome, ApplyError> {
    let customer = of.customer.as_deref();
    let user = match subscriptions::told(app, &of.id).await? {
        Some(told) => Some(told.user),
        None => owner(app, None, Some(&of.metadata), customer).await?,
    };
    let user =
        user.ok_or_else(|| ApplyError::Unclear("it is not known whose subscription it is".to_owned()))?;
    write(app, subscriptions::hear_of(&of.id, user, customer)).await?;
    // What is not sold here any more is known by the payments that were made for it.
    let plan_version = match version(app, &of.metadata, of.price()).await {
        Ok(version) => Some(version.id.clone()),
        Err(ApplyError::Unclear(_)) => of.metadata.get(PLAN_VERSION).cloned(),
        Err(error) => return Err(error),
    };
    let told = Told {
        id: of.id.clone(),
        user,
        facts: 0,
        status: of.status.clone(),
        item: of.items.data.first().map(|item| item.id.clone()),
        plan_version,
        period: of.period(),
        cancel_at_period_end: of.cancel_at_period_end,
        ended_at: of.ended_at.or(of.canceled_at).filter(|_| of.status == "canceled").map(seconds),
    };
    write(app, subscriptions::hear(&told, customer, telling)).await?;
    crate::subscriptions::stripe::project(app, &of.id).await?;
    Ok(Outcome::Processed)
}
