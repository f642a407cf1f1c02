//! Payments, and money that goes back.

use super::{ApplyError, Outcome, learn, named_payment, owner, payment, write};
use crate::app::App;
use crate::payments::edits::{self, Dispute, Facts, NewPayment};
use crate::payments::model::{Payment, PaymentKind, PaymentStatus};
use crate::payments::store::{By, find};
use crate::payments::worth;
use crate::stripe::object::{
    self, CREDITS, Charge, CheckoutSession, InvoicePayment, List, Metadata, PaymentIntent,
};
use kernel::{Credits, UserRowId, decimal};
use serde_json::json;

/// A checkout that nobody will pay any more.
///
/// # Errors
/// [`ApplyError`].
pub async fn checkout_gone(app: &App, session: &CheckoutSession) -> Result<Outcome, ApplyError> {
    let named = session.client_reference_id.as_deref();
    let user = owner(app, named, Some(&session.metadata), session.customer.as_deref()).await?;
    let Some(user) = user else { return Ok(Outcome::Unhandled) };
    let Some(of) = named_payment(app, &session.metadata, user).await? else { return Ok(Outcome::Unhandled) };
    let facts = Facts {
        status: Some(PaymentStatus::Canceled),
        checkout: Some(session.id.clone()),
        ..Facts::default()
    };
    learn(app, &of, &facts).await?;
    Ok(Outcome::Processed)
}

/// A checkout of credits that was paid.
pub(super) async fn bought(app: &App, session: &CheckoutSession, user: UserRowId) -> Result<(), ApplyError> {
    let amount = session.amount_total.unwrap_or(0);
    let currency = session.currency.clone().unwrap_or_default();
    let stripe_id = session.payment_intent.as_deref().unwrap_or(&session.id);
    let of = one_off(app, user, &session.metadata, stripe_id, amount, currency).await?;
    let facts = Facts {
        status: (session.payment_status == "paid").then_some(PaymentStatus::Succeeded),
        received: if session.payment_status == "paid" { amount } else { 0 },
        payment_intent: session.payment_intent.clone(),
        checkout: Some(session.id.clone()),
        ..Facts::default()
    };
    learn(app, &of, &facts).await
}

/// The payment that we began, or else one that is written down now.
async fn one_off(
    app: &App,
    user: UserRowId,
    metadata: &Metadata,
    stripe_id: &str,
    amount: i64,
    currency: String,
) -> Result<Payment, ApplyError> {
    // One that another payment of Stripe's has paid already is not paid by this one.
    let free = |of: &Payment| of.payment_intent.as_deref().is_none_or(|known| known == stripe_id);
    if let Some(of) = named_payment(app, metadata, user).await?.filter(free) {
        return Ok(of);
    }
    let said = metadata.get(CREDITS).and_then(|text| credits_of(text));
    let credits = match said {
        Some(credits) => credits,
        None if !app.config.payments.is_currency(&currency) => {
            return Err(ApplyError::Unclear(format!(
                "it was paid in {currency}, and does not say which credits it gives"
            )));
        }
        None => worth(&app.config, amount).map_err(ApplyError::Unclear)?,
    };
    let (kind, cause) = (PaymentKind::Credits, format!("stripe:{stripe_id}"));
    payment(app, &NewPayment { user, kind, cause, item: None, amount, currency, credits }).await
}

/// What was written beside a payment that it gives.
fn credits_of(text: &str) -> Option<Credits> {
    let micro = decimal::parse(text, 6, Credits::MAX.micro(), "9000000000000").ok()?;
    (micro >= 0).then(|| Credits::from_micro(micro))
}

/// A payment that came, failed or was given up.
///
/// # Errors
/// [`ApplyError`].
pub async fn intent(app: &App, pi: &PaymentIntent) -> Result<Outcome, ApplyError> {
    let user = owner(app, None, Some(&pi.metadata), pi.customer.as_deref()).await?;
    let Some(of) = of_intent(app, pi, user).await? else {
        // It pays an invoice, which says all there is to say, or it is not ours.
        return Ok(Outcome::Unhandled);
    };
    let succeeded = pi.status == "succeeded";
    if let (true, Some(customer), Some(method), Some("off_session")) =
        (succeeded, &pi.customer, &pi.payment_method, pi.setup_future_usage.as_deref())
    {
        write(app, edits::payment_method(of.user, customer, method)).await?;
    }
    let facts = Facts {
        status: match pi.status.as_str() {
            "succeeded" => Some(PaymentStatus::Succeeded),
            "canceled" => Some(PaymentStatus::Canceled),
            "requires_payment_method" => Some(PaymentStatus::Failed),
            _ => None,
        },
        received: if succeeded { pi.amount_received } else { 0 },
        payment_intent: Some(pi.id.clone()),
        failure: pi.last_payment_error.as_ref().and_then(|error| error.message.clone()),
        ..Facts::default()
    };
    learn(app, &of, &facts).await?;
    Ok(Outcome::Processed)
}

async fn of_intent(
    app: &App,
    pi: &PaymentIntent,
    user: Option<UserRowId>,
) -> Result<Option<Payment>, ApplyError> {
    if let Some(user) = user
        && let Some(of) = named_payment(app, &pi.metadata, user).await?
        && of.payment_intent.as_deref().is_none_or(|known| known == pi.id)
    {
        return Ok((of.kind != PaymentKind::Subscription).then_some(of));
    }
    if let Some(of) = find(&app.db, By::Intent(&pi.id)).await? {
        return Ok((of.kind != PaymentKind::Subscription).then_some(of));
    }
    match user {
        Some(user) if pi.metadata.contains_key(object::USER_ID) && pi.invoice.is_none() => {
            let amount = pi.amount;
            one_off(app, user, &pi.metadata, &pi.id, amount, pi.currency.clone()).await.map(Some)
        }
        _ => Ok(None),
    }
}

/// Money that was given back.
///
/// # Errors
/// [`ApplyError`].
pub async fn charge_refunded(app: &App, charge: &Charge) -> Result<Outcome, ApplyError> {
    let facts = Facts { refunded: charge.amount_refunded, ..Facts::default() };
    reversed(app, charge, facts).await
}

/// Money of a charge that went back.
///
/// # Errors
/// [`ApplyError`].
pub async fn reversed(app: &App, charge: &Charge, facts: Facts) -> Result<Outcome, ApplyError> {
    let Some(pi) = charge.payment_intent.as_deref() else { return Ok(Outcome::Unhandled) };
    let of = of_charge(app, charge, pi).await?;
    learn(app, &of, &Facts { payment_intent: Some(pi.to_owned()), ..facts }).await?;
    Ok(Outcome::Processed)
}

async fn of_charge(app: &App, charge: &Charge, pi: &str) -> Result<Payment, ApplyError> {
    if let Some(of) = find(&app.db, By::Intent(pi)).await? {
        return Ok(of);
    }
    if let Some(invoice) = &charge.invoice
        && let Some(of) = find(&app.db, By::Invoice(invoice)).await?
    {
        return Ok(of);
    }
    // The payment's own event is late: its charge says the same.
    if let Some(user) = owner(app, None, Some(&charge.metadata), charge.customer.as_deref()).await?
        && charge.metadata.contains_key(object::USER_ID)
        && charge.amount > 0
    {
        return one_off(app, user, &charge.metadata, pi, charge.amount, charge.currency.clone()).await;
    }
    if let Some(invoice) = invoice_of(app, pi).await?
        && let Some(of) = find(&app.db, By::Invoice(&invoice)).await?
    {
        return Ok(of);
    }
    Err(ApplyError::Unclear(format!("nothing is known of the payment {pi}")))
}

/// Which invoice a payment paid.
async fn invoice_of(app: &App, pi: &str) -> Result<Option<String>, ApplyError> {
    let Some(stripe) = &app.stripe else { return Ok(None) };
    let query = json!({"payment": {"type": "payment_intent", "payment_intent": pi}});
    let found: List<InvoicePayment> = stripe.get("/invoice_payments", &query).await?;
    Ok(found.data.into_iter().find_map(|paid| paid.invoice))
}

/// Where the money of a dispute is; nothing where it was not moved.
#[must_use]
pub fn dispute_state(dispute: &object::Dispute) -> Option<Dispute> {
    match dispute.status.as_str() {
        "won" => Some(Dispute::Won),
        // An inquiry moves no money.
        status if status.starts_with("warning_") || status == "prevented" => None,
        _ => Some(Dispute::Open(dispute.amount)),
    }
}

/// A bank takes money back, or gives it back again.
pub(super) async fn dispute(app: &App, dispute: &object::Dispute) -> Result<Outcome, ApplyError> {
    let Some(state) = dispute_state(dispute) else { return Ok(Outcome::Unhandled) };
    let charge = Charge {
        id: dispute.charge.clone().unwrap_or_default(),
        payment_intent: dispute.payment_intent.clone(),
        ..Charge::default()
    };
    reversed(app, &charge, Facts { disputed: Some(state), ..Facts::default() }).await
}
