//! Plans that cost something: bought by a checkout, and changed, cancelled and resumed in Stripe.

use super::model::{Subscription, SubscriptionProvider, SubscriptionStatus};
use super::{store, stripe};
use crate::app::App;
use crate::auth::grants::UserRef;
use crate::http::ApiError;
use crate::payments::edits::NewPayment;
use crate::payments::model::{Payment, PaymentKind};
use crate::payments::start::{self, Sale, Urls};
use crate::plans::{self, Version};
use crate::stripe::CallError;
use crate::stripe::apply::ApplyError;
use crate::stripe::object::{self, CheckoutSession, PAYMENT, PLAN_VERSION};
use serde_json::{Value, json};

/// Begins the checkout of a plan.
///
/// # Errors
/// 409 where a plan that is paid for, or that an admin set, is in force; 503 where Stripe does not answer.
pub async fn begin(
    app: &App,
    user: &UserRef,
    version: &Version,
    urls: &Urls,
    cause: &str,
) -> Result<(Payment, CheckoutSession), ApiError> {
    let before = store::current(&app.db, user.row).await?;
    let in_force = before.as_ref().filter(|of| of.status != SubscriptionStatus::Canceled);
    if let Some(of) = in_force.filter(|of| of.provider != SubscriptionProvider::Free) {
        let how = if of.provider == SubscriptionProvider::Stripe {
            "change it with POST /api/v1/subscriptions"
        } else {
            "it must be cancelled first"
        };
        return Err(ApiError::conflict(format!("The plan {} is in force; {how}", of.plan)));
    }
    let new = NewPayment {
        user: user.row,
        kind: PaymentKind::Subscription,
        cause: cause.to_owned(),
        item: Some(version.id.clone()),
        amount: version.plan.price_cents,
        currency: app.config.payments.currency.clone(),
        credits: version.plan.credits(),
    };
    let of = start::begin(app, user, &new).await?;
    let trial = !store::ever_paid(&app.db, user.row).await?;
    let made = start::checkout(app, user, &of, Sale::Plan(version, trial), urls, cause).await?;
    Ok((of, made))
}

/// Changes the plan of a subscription: a dearer one at once, for the rest of the period; another one from the next period on.
///
/// # Errors
/// 402 where the card was declined, 409 where the plan has no price in Stripe.
pub async fn change(
    app: &App,
    user: &UserRef,
    of: &Subscription,
    to: &Version,
    cause: &str,
) -> Result<(), ApiError> {
    let (id, told) = told(app, of).await?;
    let (Some(price), Some(item)) = (&to.plan.stripe_price, &told.item) else {
        return Err(ApiError::conflict(format!(
            "The plan {} has no stripe_price, so no subscription can become it; cancel the present one, and buy it then",
            to.plan.key
        )));
    };
    let from = plans::store::version(app, &of.plan_version).await?;
    if from.plan.duration_days != to.plan.duration_days {
        let message = "The periods of both plans have different lengths; cancel the present one, and buy the other then";
        return Err(ApiError::conflict(message));
    }
    if told.status == "trialing" {
        return Err(ApiError::conflict(
            "The plan is on trial; it can be changed once it is paid for, or cancelled",
        ));
    }
    let dearer = to.plan.price_cents > from.plan.price_cents;
    let mut form = json!({
        "items": [{"id": item, "price": price}],
        "metadata": {PLAN_VERSION: to.id, PAYMENT: ""},
        "cancel_at_period_end": false,
        "proration_behavior": if dearer { "always_invoice" } else { "none" },
    });
    if dearer {
        form["payment_behavior"] = "error_if_incomplete".into();
    }
    let key = start::key_of("change", &format!("{cause}:{}", to.id));
    let after: object::Subscription = start::stripe(app)?.post(&path(&id), &form, &key).await?;
    if dearer && let Err(error) = take_invoice(app, after.latest_invoice.as_deref()).await {
        tracing::warn!(subscription = id, %error, "a plan was changed, and its credits come with the invoice's event");
    }
    answered(app, user, &after).await
}

async fn take_invoice(app: &App, id: Option<&str>) -> Result<(), ApplyError> {
    let (Some(id), Some(stripe)) = (id, &app.stripe) else { return Ok(()) };
    let invoice: object::Invoice = stripe.get(&format!("/invoices/{id}"), &json!({})).await?;
    if invoice.status == "paid" {
        crate::stripe::apply::paid_invoice(app, &invoice).await?;
    }
    Ok(())
}

/// Whether a subscription goes on as the plan that it is, as far as Stripe told.
///
/// # Errors
/// 503 where the database does not answer.
pub async fn stays(app: &App, of: &Subscription) -> Result<bool, ApiError> {
    let (_, told) = told(app, of).await?;
    let other = told.plan_version.is_some_and(|version| version != of.plan_version);
    Ok(!other && !told.cancel_at_period_end && !of.cancel_at_period_end)
}

/// Ends a subscription: at once, or with its period.
///
/// # Errors
/// 503 where Stripe does not answer.
pub async fn cancel(
    app: &App,
    user: &UserRef,
    of: &Subscription,
    at_once: bool,
    cause: &str,
) -> Result<(), ApiError> {
    let (id, _) = told(app, of).await?;
    let stripe = start::stripe(app)?;
    let key = start::key_of("cancel", cause);
    let asked: Result<object::Subscription, CallError> = if at_once {
        stripe.delete(&path(&id), &key).await
    } else {
        stripe.post(&path(&id), &json!({"cancel_at_period_end": true}), &key).await
    };
    answered(app, user, &asked?).await
}

/// Takes a cancellation back.
///
/// # Errors
/// 503 where Stripe does not answer.
pub async fn resume(app: &App, user: &UserRef, of: &Subscription, cause: &str) -> Result<(), ApiError> {
    let (id, _) = told(app, of).await?;
    let form: Value = json!({"cancel_at_period_end": false});
    let key = start::key_of("resume", cause);
    let after: object::Subscription = start::stripe(app)?.post(&path(&id), &form, &key).await?;
    answered(app, user, &after).await
}

fn path(id: &str) -> String {
    format!("/subscriptions/{id}")
}

async fn told(app: &App, of: &Subscription) -> Result<(String, stripe::Told), ApiError> {
    let lost = || ApiError::internal(format!("subscription {} does not name Stripe's", of.id));
    let id = store::stripe_id(&app.db, of.id).await?.ok_or_else(lost)?;
    let told = stripe::told(app, &id).await?.ok_or_else(lost)?;
    Ok((id, told))
}

async fn answered(app: &App, user: &UserRef, after: &object::Subscription) -> Result<(), ApiError> {
    match crate::stripe::apply::subscription(app, after, None).await {
        Ok(_) => Ok(()),
        Err(ApplyError::Write(error)) => Err(crate::users::api::refused(error, &user.auth0_id)),
        Err(error) => {
            Err(ApiError::unavailable("Stripe did it, and its event will show it here", error.to_string()))
        }
    }
}
