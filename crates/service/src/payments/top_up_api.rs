//! Routes of automatic top-ups: read, set, remove.

use super::api::pack;
use super::store;
use super::top_up_rows::{self as rows, TopUp, Wanted};
use crate::app::App;
use crate::auth::grants::{CanReadCredits, CanWriteUser, UserRef};
use crate::config::{CENTS_MAX, PRICE_MIN_CENTS};
use crate::http::envelope::bytes as to_bytes;
use crate::http::kept::{keep, key_is_used, replayed};
use crate::http::{ApiError, Envelope, Input, json};
use crate::users::api::{UserPath, refused, same_user};
use crate::writer::{Command, WriteError};
use axum::extract::State;
use axum::response::Response;
use kernel::{Charge, Count, Credits, ExternalId, Text, Timestamp, UserKey};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// When to buy what.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AutoTopUpRequest {
    /// Bought when less than this can be spent.
    threshold: Charge,
    /// The key of the pack.
    pack: Text<1, 50>,
    /// How much may be spent in a month of UTC, in hundredths of the currency: the pack's price to 99999999.
    monthly_max: Count,
    /// Whether anything is bought; true when absent.
    enabled: Option<bool>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// An automatic top-up, and how it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct AutoTopUpView {
    /// Whose it is.
    user_id: ExternalId,
    /// Whether anything is bought; false also after 3 failures in a row.
    enabled: bool,
    /// Bought when less than this can be spent.
    threshold: Credits,
    /// The key of the pack.
    #[schema(max_length = 50)]
    pack: String,
    /// How much may be spent in a month of UTC, in hundredths of the currency.
    #[schema(minimum = 50, maximum = 99_999_999)]
    monthly_max: i64,
    /// How much was spent in this one.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    month_spent: i64,
    /// Whether there is a card that may be charged.
    has_payment_method: bool,
    /// How many failed in a row.
    #[schema(minimum = 0, maximum = 3)]
    failures: i64,
    /// Why the last one did.
    #[schema(max_length = 20_000)]
    failure: Option<String>,
    /// Nothing is bought before; at once when absent.
    next_attempt_at: Option<Timestamp>,
    /// When it last changed.
    updated_at: Timestamp,
}

/// The user's automatic top-up, as its reader sees it.
async fn view(app: &App, user: &UserRef) -> Result<AutoTopUpView, ApiError> {
    let of: TopUp = rows::find(&app.db, user.row).await?.ok_or_else(|| not_set(user))?;
    let customer = store::customer(&app.db, user.row).await?;
    let now = app.clock.now();
    Ok(AutoTopUpView {
        user_id: user.auth0_id.clone(),
        month_spent: of.spent(now),
        next_attempt_at: Some(of.next_at).filter(|at| of.enabled && *at > now),
        enabled: of.enabled,
        threshold: of.threshold,
        pack: of.pack,
        monthly_max: of.monthly_max,
        has_payment_method: customer.is_some_and(|known| known.payment_method.is_some()),
        failures: of.failures,
        failure: of.failure,
        updated_at: of.updated_at,
    })
}

fn not_set(user: &UserRef) -> ApiError {
    ApiError::not_found(format!("{} has no automatic top-up", user.auth0_id))
}

/// Read a user's automatic top-up
///
/// What it buys and when, what it spent this month, and why it failed the last time.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/credits/auto-top-up", tag = "Payments", operation_id = "get_auto_top_up",
    params(UserPath), security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = Envelope<AutoTopUpView>, description = "The automatic top-up")),
)]
pub async fn get_auto_top_up(State(app): State<Arc<App>>, on: CanReadCredits) -> Result<Response, ApiError> {
    let view = view(&app, &on.user).await?;
    Ok(json(&Envelope::new("Automatic top-up retrieved", app.clock.now(), view)))
}

/// Set a user's automatic top-up
///
/// A pack is bought with the saved card when less than `threshold` can be spent, at most one a minute and `monthly_max` a
/// month. 409 where no card is saved: a payment saves one. A declined card is tried again after 1 and 2 hours; after 3
/// failures in a row nothing is bought until this is called again.
#[utoipa::path(
    put, path = "/api/v1/users/{user_id}/credits/auto-top-up", tag = "Payments", operation_id = "set_auto_top_up",
    params(UserPath), security(("bearer" = []), ("service_key" = ["users:write"])),
    request_body(content = AutoTopUpRequest, example = json!({"threshold": 500, "pack": "small", "monthly_max": 10_000, "enabled": true})),
    responses((status = 200, body = Envelope<AutoTopUpView>, description = "The automatic top-up")),
)]
pub async fn set_auto_top_up(
    State(app): State<Arc<App>>,
    on: CanWriteUser,
    Input { value, once }: Input<AutoTopUpRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let pack = pack(&app, value.pack.as_str())?;
    let monthly_max = i64::from(value.monthly_max.get());
    if !(PRICE_MIN_CENTS..=CENTS_MAX).contains(&monthly_max) {
        return Err(ApiError::invalid(["body", "monthly_max"], "must be 50 to 99999999"));
    }
    if monthly_max < pack.price_cents {
        let rule = format!("must be at least {}, what the pack costs", pack.price_cents);
        return Err(ApiError::invalid(["body", "monthly_max"], rule));
    }
    let ticket = once.ticket(on.caller.principal.caller());
    if key_is_used(&app, &ticket).await? {
        return replayed(&app, ticket).await;
    }
    let wanted = Wanted {
        enabled: value.enabled.unwrap_or(true),
        threshold: value.threshold.credits(),
        pack: pack.key.clone(),
        monthly_max,
    };
    let set = rows::set(on.user.row, &wanted, app.clock.now());
    app.writer.execute(Command::Edit(set)).await.map_err(|error| match error {
        WriteError::Refused(_) => ApiError::conflict("No payment method is saved yet; a payment saves one"),
        other => refused(other, &on.user.auth0_id),
    })?;
    let view = view(&app, &on.user).await?;
    keep(&app, ticket, to_bytes(&Envelope::new("Automatic top-up set", app.clock.now(), view))).await
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedAutoTopUp {
    /// Whose it was.
    user_id: ExternalId,
    /// Always true.
    deleted: bool,
}

/// Remove a user's automatic top-up
///
/// Nothing is bought by itself any more. One that Stripe was asked for already may still be paid, and gives its credits.
#[utoipa::path(
    delete, path = "/api/v1/users/{user_id}/credits/auto-top-up", tag = "Payments", operation_id = "delete_auto_top_up",
    params(UserPath), security(("bearer" = []), ("service_key" = ["users:write"])),
    responses((status = 200, body = Envelope<DeletedAutoTopUp>, description = "It is gone")),
)]
pub async fn delete_auto_top_up(State(app): State<Arc<App>>, on: CanWriteUser) -> Result<Response, ApiError> {
    app.writer.execute(Command::Edit(rows::remove(on.user.row))).await.map_err(|error| match error {
        WriteError::Refused(_) => not_set(&on.user),
        other => refused(other, &on.user.auth0_id),
    })?;
    let gone = DeletedAutoTopUp { user_id: on.user.auth0_id, deleted: true };
    Ok(json(&Envelope::new("Automatic top-up removed", app.clock.now(), gone)))
}
