//! Beginning payments: each is written down under its cause, and Stripe is then asked under the same.
//!
//! A request that broke off finds what it wrote, and Stripe's answer to the same key is the same object.

use super::edits::{self, Facts, NewPayment};
use super::model::{Payment, PaymentKind, PaymentStatus};
use super::store::{self, By};
use crate::app::App;
use crate::auth::grants::UserRef;
use crate::http::ApiError;
use crate::http::facts::fresh_id;
use crate::plans::{Pack, Version};
use crate::stripe::object::{self, CREDITS, CheckoutSession, PAYMENT, PLAN_VERSION, PaymentIntent, USER_ID};
use crate::stripe::{CallError, Client};
use crate::users;
use crate::users::api::refused;
use crate::writer::{Command, Edit, WriteError};
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::StatusCode;
use kernel::Credits;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// How many payments a user may have open that it began within [`PENDING_LIFE`].
pub const PENDING_MAX: i64 = 100;
/// How long an open payment counts.
pub const PENDING_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The way to Stripe.
///
/// # Errors
/// 503 that names the setting.
pub fn stripe(app: &App) -> Result<&Client, ApiError> {
    app.stripe.as_ref().ok_or_else(|| {
        ApiError::unavailable(
            "Payments are not set up: STRIPE_SECRET_KEY is not set",
            "a payment was asked for without Stripe",
        )
    })
}

/// A name for what a cause asks of Stripe.
#[must_use]
pub fn key_of(what: &str, cause: &str) -> String {
    let mut key = format!("{what}-");
    for byte in digest(&SHA256, cause.as_bytes()).as_ref() {
        let _ = write!(key, "{byte:02x}");
    }
    key
}

/// The cause of a request: its caller and key, or nothing that comes again.
#[must_use]
pub fn cause(caller: &str, key: Option<String>) -> String {
    match key {
        Some(key) => format!("request:{caller}:{key}"),
        None => format!("request:{}", fresh_id()),
    }
}

/// Writes a payment down, or finds the one that the same request began.
///
/// # Errors
/// 422 where it is another request's, 429 where too many are open.
pub async fn begin(app: &App, user: &UserRef, new: &NewPayment) -> Result<Payment, ApiError> {
    let since = app.clock.now().minus(PENDING_LIFE);
    if store::pending(&app.db, user.row, since).await? >= PENDING_MAX {
        let message = format!("A user may have at most {PENDING_MAX} payments open that began within a day");
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyPaymentsException", message));
    }
    match app.writer.execute(Command::Edit(edits::insert(new, app.clock.now()))).await {
        Ok(_) | Err(WriteError::Refused(_)) => {}
        Err(error) => return Err(refused(error, &user.auth0_id)),
    }
    let found = store::find(&app.db, By::Cause(&new.cause)).await?;
    let found = found.ok_or_else(|| ApiError::user_not_found(user.auth0_id.as_str()))?;
    let same = (found.kind, found.amount, &found.item) == (new.kind, new.amount, &new.item);
    if matches!(found.status, PaymentStatus::Succeeded | PaymentStatus::Canceled) {
        return Err(ApiError::conflict(
            "The payment of this Idempotency-Key is over; a new one needs another key",
        ));
    }
    if same { Ok(found) } else { Err(WriteError::IdempotencyMismatch.into()) }
}

/// Stripe's customer of a user, made where there is none.
///
/// # Errors
/// 503 where Stripe does not answer.
pub async fn customer(app: &App, user: &UserRef) -> Result<String, ApiError> {
    if let Some(known) = store::customer(&app.db, user.row).await? {
        return Ok(known.id);
    }
    let found = users::store::find(&app.db, &user.auth0_id).await?;
    let found = found.ok_or_else(|| ApiError::user_not_found(user.auth0_id.as_str()))?;
    let mut form = json!({"metadata": {USER_ID: user.auth0_id.as_str()}});
    if let Some(email) = found.email {
        form["email"] = email.into();
    }
    // A user that was changed since then asks for something else, and that is another key's; so is the next
    // hour's, because Stripe says again and again that it broke.
    let hour = app.clock.now().seconds() / 3600;
    let key = key_of("customer", &format!("{}:{form}:{hour}", user.auth0_id));
    let made: object::Customer = stripe(app)?.post("/customers", &form, &key).await?;
    write(app, user, edits::customer(user.row, &made.id, app.clock.now())).await?;
    let known = store::customer(&app.db, user.row).await?;
    Ok(known.map_or(made.id, |known| known.id))
}

async fn write(app: &App, user: &UserRef, edit: Edit) -> Result<(), ApiError> {
    app.writer.execute(Command::Edit(edit)).await.map(drop).map_err(|error| refused(error, &user.auth0_id))
}

/// What is written beside Stripe's object, so that what it says is known to be this payment's.
pub(super) fn metadata(of: &Payment, user: &UserRef) -> Value {
    let mut metadata =
        json!({USER_ID: user.auth0_id.as_str(), PAYMENT: of.name(), CREDITS: of.credits.to_string()});
    if let (PaymentKind::Subscription, Some(version)) = (of.kind, &of.item) {
        metadata = json!({USER_ID: user.auth0_id.as_str(), PAYMENT: of.name(), PLAN_VERSION: version});
    }
    metadata
}

/// Asks for what a payment needs, once per cause and form: a request that comes again through another host leads elsewhere. What is made twice after Stripe broke is never paid twice: only one is handed out.
async fn ask<T: DeserializeOwned>(
    app: &App,
    user: &UserRef,
    of: &Payment,
    path: &str,
    form: &Value,
    cause: &str,
) -> Result<T, ApiError> {
    let asked =
        stripe(app)?.post(path, form, &key_of("payment", &format!("{cause}#{}#{form}", of.asked))).await;
    if let Err(CallError::Broken(_)) = &asked {
        write(app, user, edits::broke(of)).await?;
    }
    Ok(asked?)
}

/// Begins a payment that the caller's own page finishes.
///
/// # Errors
/// 503 where Stripe does not answer.
pub async fn intent(app: &App, user: &UserRef, of: &Payment, cause: &str) -> Result<PaymentIntent, ApiError> {
    let customer = customer(app, user).await?;
    let form = json!({
        "amount": of.amount, "currency": of.currency, "customer": customer, "metadata": metadata(of, user),
        "automatic_payment_methods": {"enabled": true}, "setup_future_usage": "off_session",
    });
    let made: PaymentIntent = ask(app, user, of, "/payment_intents", &form, cause).await?;
    let facts = Facts { payment_intent: Some(made.id.clone()), ..Facts::default() };
    write(app, user, edits::learn(of, &facts, app.clock.now())).await?;
    Ok(made)
}

/// Where a checkout leads.
#[derive(Debug, Clone)]
pub struct Urls {
    /// Once it is paid.
    pub success: String,
    /// When it is given up.
    pub cancel: String,
}

/// What a checkout sells.
#[derive(Debug, Clone, Copy)]
pub enum Sale<'a> {
    /// A plan, with a trial where it has one and the user never had a plan.
    Plan(&'a Version, bool),
    /// A pack.
    Pack(&'a Pack),
}

/// Begins a checkout.
///
/// # Errors
/// 503 where Stripe does not answer.
pub async fn checkout(
    app: &App,
    user: &UserRef,
    of: &Payment,
    sale: Sale<'_>,
    urls: &Urls,
    cause: &str,
) -> Result<CheckoutSession, ApiError> {
    let customer = customer(app, user).await?;
    let metadata = metadata(of, user);
    let mut form = json!({
        "customer": customer, "client_reference_id": user.auth0_id.as_str(), "metadata": metadata,
        "success_url": urls.success, "cancel_url": urls.cancel,
    });
    let priced = |name: &str| json!({"currency": of.currency, "unit_amount": of.amount, "product_data": {"name": name}});
    match sale {
        Sale::Pack(pack) => {
            form["mode"] = "payment".into();
            form["line_items"] = json!([{"quantity": 1, "price_data": priced(&pack.name)}]);
            form["payment_intent_data"] = json!({"metadata": metadata, "setup_future_usage": "off_session"});
        }
        Sale::Plan(version, trial) => {
            form["mode"] = "subscription".into();
            form["line_items"] = match &version.plan.stripe_price {
                Some(price) => json!([{"quantity": 1, "price": price}]),
                None => {
                    let mut price = priced(&version.plan.name);
                    price["recurring"] =
                        json!({"interval": "day", "interval_count": version.plan.duration_days});
                    json!([{"quantity": 1, "price_data": price}])
                }
            };
            form["subscription_data"] = json!({"metadata": metadata});
            if let (true, Some(days)) = (trial, version.plan.trial_days) {
                form["subscription_data"]["trial_period_days"] = days.into();
            }
        }
    }
    let made: CheckoutSession = ask(app, user, of, "/checkout/sessions", &form, cause).await?;
    let facts = Facts { checkout: Some(made.id.clone()), ..Facts::default() };
    write(app, user, edits::learn(of, &facts, app.clock.now())).await?;
    Ok(made)
}

/// The payment of Stripe's that a payment is.
///
/// # Errors
/// 409 where nothing was paid yet.
pub async fn intent_of(app: &App, of: &Payment) -> Result<String, ApiError> {
    if let Some(id) = &of.payment_intent {
        return Ok(id.clone());
    }
    let nothing = || ApiError::conflict("Nothing was paid with this payment");
    let invoice =
        of.invoice.as_ref().filter(|_| of.status == PaymentStatus::Succeeded).ok_or_else(nothing)?;
    let paid: object::List<object::InvoicePayment> =
        stripe(app)?.get("/invoice_payments", &json!({"invoice": invoice})).await?;
    paid.data.into_iter().find_map(|paid| paid.payment.payment_intent).ok_or_else(nothing)
}

/// Gives money back, and takes back the credits that it gave.
///
/// # Errors
/// 409 where nothing was paid, or Stripe refuses.
pub async fn refund(
    app: &App,
    user: &UserRef,
    of: &Payment,
    amount: Option<i64>,
    cause: &str,
) -> Result<(), ApiError> {
    let pi = intent_of(app, of).await?;
    let mut form = json!({"payment_intent": pi});
    if let Some(amount) = amount {
        form["amount"] = amount.into();
    }
    let made: Result<object::Refund, CallError> =
        stripe(app)?.post("/refunds", &form, &key_of("refund", cause)).await;
    match made {
        Ok(_) => {}
        Err(CallError::Refused(message)) => {
            return Err(ApiError::conflict(format!("Stripe refused the refund: {message}")));
        }
        Err(error) => return Err(error.into()),
    }
    let facts = Facts { payment_intent: Some(pi.clone()), ..Facts::default() };
    write(app, user, edits::learn(of, &facts, app.clock.now())).await?;
    let charges: Vec<object::Charge> = stripe(app)?.list("/charges", &json!({"payment_intent": pi})).await?;
    for charge in charges.iter().filter(|charge| charge.amount_refunded > 0) {
        // What cannot be taken in now comes again as an event.
        if let Err(error) = crate::stripe::apply::charge_refunded(app, charge).await {
            tracing::warn!(payment = of.id, %error, "a refund was made, and its credits are taken back by its event");
        }
    }
    Ok(())
}

/// What an amount of money is worth in credits.
///
/// # Errors
/// A sentence where it is more than credits can say.
pub fn worth(config: &crate::config::Config, cents: i64) -> Result<Credits, String> {
    let per_usd = config.prices.credits_per_usd;
    per_usd.of_cents(cents).ok_or_else(|| "the amount is more than credits can say".to_owned())
}
