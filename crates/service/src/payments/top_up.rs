//! Automatic top-ups: a pack is bought when few credits are left.
//!
//! A claim is one charge, whatever breaks off between: it is claimed with its payment's row, Stripe is asked under a
//! key that follows from that row, and whoever finds a claim that was left looks at Stripe for what became of it before
//! asking again. Stripe's answer is taken in as an event is, and so gives the credits once.

use super::edits::{self, NewPayment};
use super::model::{Payment, PaymentKind};
use super::start::{key_of, metadata};
use super::store::{self, By};
use super::top_up_rows::{self as rows, Due, End, Left};
use crate::app::App;
use crate::auth::grants::UserRef;
use crate::jobs;
use crate::stripe::apply::{self, ApplyError};
use crate::stripe::object::{PAYMENT, PaymentIntent};
use crate::stripe::{CallError, Client};
use crate::writer::{Command, Edit, WriteError};
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How often the job looks for accounts with few credits.
const EVERY: Duration = Duration::from_secs(2);
/// How many it looks at in one go.
const AT_ONCE: i64 = 100;
/// How many of them ask Stripe at once.
const TURNS: usize = 8;
/// How often Stripe may break over one, or refuse it without saying that the card did, before it counts as failed.
pub const ASKED_MAX: i64 = 3;

/// Buys what is due until the task is aborted.
pub async fn run(app: Arc<App>) {
    loop {
        tokio::time::sleep(EVERY).await;
        jobs::run_one(&app, "top_ups", "topping credits up", sweep(&app)).await;
    }
}

/// Goes on with what was left, and buys what is due; one that cannot be done does not hold up the others.
///
/// # Errors
/// The last of them, for the log.
pub async fn sweep(app: &App) -> Result<(), WriteError> {
    let Some(stripe) = &app.stripe else { return Ok(()) };
    let (mut after, mut failed) = (0, None);
    loop {
        let left = rows::left(&app.db, app.clock.now(), after, AT_ONCE).await?;
        let Some(last) = left.last() else { break };
        after = last.of.id;
        let done = stream::iter(left).map(|left| go_on(app, stripe, left)).buffer_unordered(TURNS);
        failed = done.collect::<Vec<_>>().await.into_iter().filter_map(Result::err).last().or(failed);
    }
    after = 0;
    loop {
        let due = rows::due(&app.db, app.clock.now(), after, AT_ONCE).await?;
        let Some(last) = due.last() else { break };
        after = last.of.user.0;
        let done = stream::iter(due).map(|due| buy(app, stripe, due)).buffer_unordered(TURNS);
        failed = done.collect::<Vec<_>>().await.into_iter().filter_map(Result::err).last().or(failed);
    }
    failed.map_or(Ok(()), Err)
}

/// Does an edit; false where its condition is not met.
async fn write(app: &App, edit: Edit) -> Result<bool, WriteError> {
    match app.writer.execute(Command::Edit(edit)).await {
        Ok(_) => Ok(true),
        Err(WriteError::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Claims a top-up where it is due, and asks for it.
async fn buy(app: &App, stripe: &Client, Due { of, user }: Due) -> Result<(), WriteError> {
    // What is not sold any more, and what the month has no money for, waits.
    let Some(pack) = app.config.catalogue.pack(&of.pack) else { return Ok(()) };
    let now = app.clock.now();
    if of.spent(now) + pack.price_cents > of.monthly_max {
        return Ok(());
    }
    let account = app.balances.account(of.user).await?;
    if account.is_none_or(|account| account.available(now) >= of.threshold) {
        return Ok(());
    }
    let new = NewPayment {
        user: of.user,
        kind: PaymentKind::TopUp,
        cause: of.cause(),
        item: Some(pack.key.clone()),
        amount: pack.price_cents,
        currency: app.config.payments.currency.clone(),
        credits: pack.credits,
    };
    if !write(app, rows::claim(&of, &new, now)).await? {
        return Ok(());
    }
    match store::find(&app.db, By::Cause(&new.cause)).await? {
        Some(payment) => ask(app, stripe, &user, &payment).await,
        None => Ok(()),
    }
}

/// Goes on with one that was left: by what Stripe knows of it, or else by asking again, where it is still wanted.
async fn go_on(app: &App, stripe: &Client, left: Left) -> Result<(), WriteError> {
    let Left { of, user, next_at, wanted } = left;
    if let Some(seen) = next_at
        && !write(app, rows::take(of.user, seen, app.clock.now())).await?
    {
        return Ok(());
    }
    match look(app, stripe, &of).await {
        Ok(Some(found)) => heard(app, &of, &found).await,
        Ok(None) if !wanted => end(app, &of, End::Withdrawn).await,
        Ok(None) if of.asked >= ASKED_MAX => {
            let why = "Stripe did not take the payment; the service's log says why";
            end(app, &of, End::Failed(why)).await
        }
        Ok(None) => ask(app, stripe, &user, &of).await,
        Err(LookError::Call(error)) => {
            tracing::warn!(payment = of.id, %error, "Stripe does not say what became of a top-up; it is asked again");
            Ok(())
        }
        Err(LookError::Read(error)) => Err(error),
    }
}

enum LookError {
    Call(CallError),
    Read(WriteError),
}

/// What Stripe knows of a payment.
async fn look(app: &App, stripe: &Client, of: &Payment) -> Result<Option<PaymentIntent>, LookError> {
    if let Some(id) = &of.payment_intent {
        let path = format!("/payment_intents/{id}");
        return stripe.get(&path, &json!({})).await.map(Some).map_err(LookError::Call);
    }
    let customer = store::customer(&app.db, of.user).await;
    let Some(customer) = customer.map_err(|error| LookError::Read(error.into()))? else {
        return Ok(None);
    };
    let all: Vec<PaymentIntent> =
        stripe.list("/payment_intents", &json!({"customer": customer.id})).await.map_err(LookError::Call)?;
    let name = of.name();
    Ok(all.into_iter().find(|found| found.metadata.get(PAYMENT) == Some(&name)))
}

/// Charges the card that the user saved.
async fn ask(app: &App, stripe: &Client, user: &UserRef, of: &Payment) -> Result<(), WriteError> {
    let customer = store::customer(&app.db, of.user).await?;
    let Some((customer, method)) = customer.and_then(|known| Some((known.id, known.payment_method?))) else {
        return end(app, of, End::Failed("No payment method is saved")).await;
    };
    let form = json!({
        "amount": of.amount, "currency": of.currency, "customer": customer, "payment_method": method,
        "confirm": true, "off_session": true, "metadata": metadata(of, user),
    });
    let key = key_of("payment", &format!("topup:{}#{}", of.name(), of.asked));
    match stripe.post::<PaymentIntent>("/payment_intents", &form, &key).await {
        Ok(made) => heard(app, of, &made).await,
        Err(CallError::Declined { message, .. }) => end(app, of, End::Failed(&message)).await,
        Err(CallError::Unavailable(error)) => {
            tracing::warn!(
                payment = of.id,
                error,
                "Stripe does not answer about a top-up; it is asked again"
            );
            Ok(())
        }
        // It says so again under this key. Another one is used only once Stripe is seen to know of no payment.
        Err(error) => {
            tracing::warn!(payment = of.id, %error, "Stripe did not take a top-up; it is asked again");
            write(app, edits::broke(of)).await.map(drop)
        }
    }
}

/// Takes in what Stripe says of a top-up.
async fn heard(app: &App, of: &Payment, said: &PaymentIntent) -> Result<(), WriteError> {
    if matches!(said.status.as_str(), "requires_payment_method" | "requires_action" | "canceled") {
        let why = said.last_payment_error.as_ref().and_then(|error| error.message.as_deref());
        return end(app, of, End::Failed(why.unwrap_or("The payment was not completed"))).await;
    }
    match apply::intent(app, said).await {
        Ok(_) => Ok(()),
        Err(ApplyError::Write(error)) => Err(error),
        Err(ApplyError::Read(error)) => Err(error.into()),
        Err(error) => Err(WriteError::Unavailable(error.to_string())),
    }
}

async fn end(app: &App, of: &Payment, end: End<'_>) -> Result<(), WriteError> {
    if write(app, rows::ended(of, end, app.clock.now())).await? {
        tracing::info!(payment = of.id, ?end, "a top-up ended without a payment");
    }
    Ok(())
}
