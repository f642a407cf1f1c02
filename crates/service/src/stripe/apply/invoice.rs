//! Invoices of subscriptions: which period was paid, and what it gives.

use super::{ApplyError, Outcome, learn, named_payment, owner, payment, write};
use crate::app::App;
use crate::payments::edits::{Bill, Facts, NewPayment};
use crate::payments::model::{Payment, PaymentKind, PaymentStatus, part};
use crate::payments::store::{By, find};
use crate::plans::{self, Version};
use crate::stripe::object::{Invoice, InvoiceLine, InvoicePayment, Metadata, PLAN_VERSION, seconds};
use crate::subscriptions::stripe as subscriptions;
use kernel::{Credits, UserRowId};
use std::sync::Arc;

/// The key of metadata under which a plan's key may stand.
const PLAN_TYPE: &str = "plan_type";

/// An invoice that was paid.
pub(super) async fn paid(app: &App, invoice: &Invoice) -> Result<Outcome, ApplyError> {
    paid_invoice(app, invoice).await
}

/// The same, for whoever has it from Stripe itself.
///
/// # Errors
/// [`ApplyError`].
pub async fn paid_invoice(app: &App, invoice: &Invoice) -> Result<Outcome, ApplyError> {
    let Some(of) = of(app, invoice).await? else { return Ok(Outcome::Unhandled) };
    let facts = Facts {
        status: Some(PaymentStatus::Succeeded),
        received: invoice.amount_paid,
        bill: Some(of.bill),
        ..of.facts
    };
    learn(app, &of.payment, &facts).await?;
    Ok(Outcome::Processed)
}

/// An invoice that was tried and not paid.
pub(super) async fn failed(app: &App, invoice: &Invoice) -> Result<Outcome, ApplyError> {
    let Some(of) = of(app, invoice).await? else { return Ok(Outcome::Unhandled) };
    let bill = Bill { exact: false, ..of.bill };
    let failure = Some("The invoice was not paid".to_owned());
    let facts = Facts { status: Some(PaymentStatus::Failed), bill: Some(bill), failure, ..of.facts };
    learn(app, &of.payment, &facts).await?;
    Ok(Outcome::Processed)
}

/// Which payment paid which invoice.
pub(super) async fn linked(app: &App, paid: &InvoicePayment) -> Result<Outcome, ApplyError> {
    let (Some(invoice), Some(pi)) = (&paid.invoice, &paid.payment.payment_intent) else {
        return Ok(Outcome::Unhandled);
    };
    // Of an invoice that is not known yet, Stripe is asked once its payment is needed.
    let Some(of) = find(&app.db, By::Invoice(invoice)).await? else { return Ok(Outcome::Unhandled) };
    learn(app, &of, &Facts { payment_intent: Some(pi.clone()), ..Facts::default() }).await?;
    Ok(Outcome::Processed)
}

struct Of {
    payment: Payment,
    bill: Bill,
    facts: Facts,
}

async fn of(app: &App, invoice: &Invoice) -> Result<Option<Of>, ApplyError> {
    let Some(id) = invoice.subscription() else { return Ok(None) };
    let none = Metadata::new();
    let metadata = invoice.metadata().unwrap_or(&none);
    let known = subscriptions::told(app, id).await?;
    let user = match &known {
        Some(told) => Some(told.user),
        None => owner(app, None, Some(metadata), invoice.customer.as_deref()).await?,
    };
    let user =
        user.ok_or_else(|| ApplyError::Unclear(format!("it is not known whose subscription {id} is")))?;
    write(app, subscriptions::hear_of(id, user, invoice.customer.as_deref())).await?;
    let bill = bill(app, invoice, metadata).await?;
    let payment = row(app, invoice, id, user, metadata, &bill).await?;
    let facts = Facts {
        invoice: Some(invoice.id.clone()),
        subscription: Some(id.to_owned()),
        payment_intent: invoice.payment_intent.clone(),
        ..Facts::default()
    };
    Ok(Some(Of { payment, bill, facts }))
}

/// The payment that an invoice is: the first one of a subscription is that of its checkout.
async fn row(
    app: &App,
    invoice: &Invoice,
    subscription: &str,
    user: UserRowId,
    metadata: &Metadata,
    bill: &Bill,
) -> Result<Payment, ApplyError> {
    let first = invoice.billing_reason.as_deref() == Some("subscription_create");
    if first {
        let begun = named_payment(app, metadata, user).await?;
        let fits = |of: &Payment| of.subscription.as_deref().is_none_or(|id| id == subscription);
        if let Some(of) = begun.filter(fits) {
            return Ok(of);
        }
    }
    let cause = if first { first_cause(subscription) } else { format!("stripe:{}", invoice.id) };
    payment(app, &subscription_payment(user, cause, bill, invoice.currency.clone())).await
}

/// What the first payment of a subscription is called, where no checkout of ours began it.
pub(super) fn first_cause(subscription: &str) -> String {
    format!("stripe:first:{subscription}")
}

pub(super) fn subscription_payment(
    user: UserRowId,
    cause: String,
    bill: &Bill,
    currency: String,
) -> NewPayment {
    NewPayment {
        user,
        kind: PaymentKind::Subscription,
        cause,
        item: Some(bill.plan_version.clone()),
        amount: bill.amount,
        currency,
        credits: bill.credits,
    }
}

/// What an invoice bills.
async fn bill(app: &App, invoice: &Invoice, metadata: &Metadata) -> Result<Bill, ApplyError> {
    let lines = &invoice.lines.data;
    let whole = lines.iter().filter(|line| !line.is_proration());
    let bought = lines.iter().filter(|line| line.is_proration() && line.amount > 0);
    let by_end = |line: &&InvoiceLine| line.period.map(|period| (period.end, line.amount));
    let main = whole.max_by_key(by_end).or_else(|| bought.max_by_key(by_end));
    let unclear = |what: &str| ApplyError::Unclear(format!("invoice {} {what}", invoice.id));
    let main = main.ok_or_else(|| unclear("has no line of a plan"))?;
    let period = main.period.ok_or_else(|| unclear("does not say which period it is for"))?;
    let version = version(app, metadata, main.price()).await?;
    let credits = if invoice.amount_paid > 0 { given(app, &version, main, invoice)? } else { Credits::ZERO };
    Ok(Bill {
        exact: true,
        plan_version: version.id.clone(),
        start: seconds(period.start),
        end: seconds(period.end),
        amount: invoice.amount_paid,
        credits,
    })
}

/// The credits of an invoice: a whole period's, or what lies between two plans for the rest of one.
fn given(app: &App, version: &Version, main: &InvoiceLine, invoice: &Invoice) -> Result<Credits, ApplyError> {
    let (lines, paid, currency) = (&invoice.lines.data, invoice.amount_paid, &invoice.currency);
    if !main.is_proration() {
        return Ok(version.plan.credits());
    }
    if !app.config.payments.is_currency(currency) {
        return Err(ApplyError::Unclear(format!(
            "a part of a period was paid in {currency}, which says nothing of credits"
        )));
    }
    let mut micro: i64 = 0;
    for line in lines.iter().filter(|line| line.is_proration()) {
        let of = match line.price().and_then(|price| app.config.catalogue.priced(price)) {
            Some(of) => Arc::clone(of),
            None if line.price() == main.price() => Arc::new(version.clone()),
            None => continue,
        };
        let credits = part(of.plan.credits(), line.amount.abs(), of.plan.price_cents).micro();
        micro = micro.saturating_add(if line.amount < 0 { -credits } else { credits });
    }
    // What was credited for a plan that is not sold any more counts all the same.
    let most = part(version.plan.credits(), paid, version.plan.price_cents);
    Ok(Credits::from_micro(micro.max(0)).min(most))
}

/// Which version of a plan was bought: the one that was written beside the subscription, unless another price is billed.
pub(super) async fn version(
    app: &App,
    metadata: &Metadata,
    price: Option<&str>,
) -> Result<Arc<Version>, ApplyError> {
    let catalogue = &app.config.catalogue;
    if let Some(id) = metadata.get(PLAN_VERSION)
        && let Ok(version) = plans::store::version(app, id).await
        && (price.is_none()
            || version.plan.stripe_price.is_none()
            || version.plan.stripe_price.as_deref() == price)
    {
        return Ok(version);
    }
    let found = price.and_then(|price| catalogue.priced(price));
    let found = found.or_else(|| metadata.get(PLAN_TYPE).and_then(|key| catalogue.plan(key)));
    found.cloned().ok_or_else(|| {
        ApplyError::Unclear(format!(
            "no plan is sold at the price {}",
            price.unwrap_or("that it does not name")
        ))
    })
}
