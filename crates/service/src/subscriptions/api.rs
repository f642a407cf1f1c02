//! Routes of subscriptions: subscribe, read, set, cancel, resume.

use super::change::{self, Begin};
use super::checkout;
use super::edits::{self, Replaces};
use super::model::{Subscription, SubscriptionProvider, SubscriptionStatus};
use super::store;
use super::view::{IncompleteAnswer, SubscriptionAnswer};
use crate::app::App;
use crate::auth::grants::{Caller, CanReadUser, CanSetPlan, CanWriteUser, UserRef};
use crate::files::address::BaseUrl;
use crate::http::envelope::bytes as to_bytes;
use crate::http::input::Once;
use crate::http::kept::{keep, key_is_used, replayed};
use crate::http::{ApiError, Input, json};
use crate::payments::start::{self as payments, Urls};
use crate::plans::{self, Version};
use crate::users;
use crate::users::api::{UserPath, refused, same_user};
use crate::writer::{Command, Ticket, WriteError};
use axum::extract::State;
use axum::response::Response;
use kernel::{Text, Timestamp, UserKey};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

async fn shown(app: &App, message: &'static str, user: &UserRef) -> Result<SubscriptionAnswer, ApiError> {
    let of = of(app, user).await?;
    let version = plans::store::version(app, &of.plan_version).await?;
    Ok(SubscriptionAnswer::new(message, &user.auth0_id, of, &version, app.clock.now()))
}

/// The user's subscription, with whatever time asks of it done.
async fn standing(app: &App, user: &UserRef) -> Result<Option<Subscription>, ApiError> {
    let found = store::current(&app.db, user.row).await?;
    match found {
        Some(of) if of.status != SubscriptionStatus::Canceled && of.is_due(app.clock.now()) => {
            change::turn(app, of).await.map_err(|error| refused(error, &user.auth0_id))?;
            Ok(store::current(&app.db, user.row).await?)
        }
        found => Ok(found),
    }
}

/// The same, where it must be there.
async fn of(app: &App, user: &UserRef) -> Result<Subscription, ApiError> {
    let found = standing(app, user).await?;
    found.ok_or_else(|| ApiError::not_found(format!("{} has no subscription", user.auth0_id)))
}

/// The caller's own user.
///
/// # Errors
/// 403 for a service key, 404 where the user was never made.
pub async fn own(app: &App, caller: &Caller) -> Result<UserRef, ApiError> {
    let Some(subject) = caller.subject() else {
        return Err(ApiError::forbidden("A service key has no user of its own"));
    };
    let user = users::store::find(&app.db, subject).await?;
    let user = user.ok_or_else(|| ApiError::user_not_found(subject.as_str()))?;
    Ok(UserRef { row: user.id, auth0_id: user.auth0_id })
}

fn sold<'a>(app: &'a App, key: &str) -> Result<&'a Arc<Version>, ApiError> {
    let catalogue = &app.config.catalogue;
    let keys =
        || catalogue.plans.iter().map(|version| version.plan.key.as_str()).collect::<Vec<_>>().join(", ");
    catalogue
        .plan(key)
        .ok_or_else(|| ApiError::invalid(["body", "plan_type"], format!("must be one of {}", keys())))
}

/// A plan that is sold and costs something.
///
/// # Errors
/// 400 that names the field.
pub fn paid_plan<'a>(app: &'a App, key: &str) -> Result<&'a Arc<Version>, ApiError> {
    let version = sold(app, key)?;
    if version.plan.is_free() {
        return Err(ApiError::invalid(["body", "plan_type"], "must be a plan that costs something"));
    }
    Ok(version)
}

fn not_begun(error: WriteError, user: &UserRef) -> ApiError {
    match error {
        WriteError::Refused(_) => ApiError::conflict(
            "Another subscription of the user began at the same time; look at it, and try again",
        ),
        other => refused(other, &user.auth0_id),
    }
}

/// The subscription, or the checkout that begins it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum SubscribeAnswer {
    /// It is in force.
    InForce(SubscriptionAnswer),
    /// It is to be paid.
    Incomplete(IncompleteAnswer),
}

/// What to subscribe to.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SubscribeRequest {
    /// The plan's key.
    plan_type: Text<1, 50>,
    /// If there, the caller itself.
    user_id: Option<UserKey>,
}

/// Subscribe to a plan
///
/// `free` begins at once; its periods are counted from when the user was made, and the welcome credits are those
/// of the first. A plan that costs something is never given away: the answer is a checkout (`checkout_url`), and the plan begins once
/// it is paid. Where one is paid for already, it becomes the other plan: a dearer one at once, prorated; another one
/// when the period ends. 503 while nothing can be paid for here; an admin sets such a plan for whoever pays by invoice. The
/// fields come as JSON or as a query.
#[utoipa::path(
    post, path = "/api/v1/subscriptions", tag = "Subscriptions", operation_id = "create_subscription",
    security(("bearer" = [])),
    request_body(content = Option<SubscribeRequest>, example = json!({"plan_type": "free"})),
    responses((status = 200, body = SubscribeAnswer, description = "The subscription, or the checkout that begins it", links(
        ("current" = (operation_id = "get_current_subscription")),
    ))),
)]
pub async fn create_subscription(
    State(app): State<Arc<App>>,
    caller: Caller,
    base: BaseUrl,
    Input { value, once }: Input<SubscribeRequest>,
) -> Result<Response, ApiError> {
    let user = own(&app, &caller).await?;
    same_user(&user.auth0_id, user.row, value.user_id.as_ref(), "user_id")?;
    let version = sold(&app, value.plan_type.as_str())?;
    if !version.plan.is_free() {
        payments::stripe(&app)?;
    }
    let cause = payments::cause(&caller.principal.caller(), once.key_text());
    let ticket = once.ticket(caller.principal.caller());
    if key_is_used(&app, &ticket).await? {
        return replayed(&app, ticket).await;
    }
    if !version.plan.is_free() {
        return buy(&app, &user, &caller, version, &base, &cause, ticket).await;
    }
    let before = standing(&app, &user).await?;
    match before.filter(|of| of.status != SubscriptionStatus::Canceled) {
        Some(of) if of.provider != SubscriptionProvider::Free => {
            let message = format!("The plan {} is in force; it must be cancelled first", of.plan);
            return Err(ApiError::conflict(message));
        }
        // It has it; a cancelled one goes on.
        Some(of) if of.cancel_at_period_end => {
            // The free plan is anybody's to have, whoever cancelled it.
            let edit = edits::resume(&of, None, app.clock.now());
            app.writer.execute(Command::Edit(edit)).await.map_err(|error| over(error, &user))?;
        }
        Some(_) => {}
        None => {
            let anchor = users::store::find(&app.db, &user.auth0_id).await?.map(|user| user.created_at);
            let anchor = anchor.ok_or_else(|| ApiError::user_not_found(user.auth0_id.as_str()))?;
            let (provider, replaces) = (SubscriptionProvider::Free, Replaces::Nothing);
            let begin =
                Begin { user: user.row, version, provider, anchor, ends_at: None, replaces, cause: None };
            match change::begin(&app, begin).await {
                // Another request of the user began one a moment ago, and that is shown.
                Ok(_) | Err(WriteError::Refused(_)) => {}
                Err(error) => return Err(refused(error, &user.auth0_id)),
            }
        }
    }
    let answer = shown(&app, "Subscription is in force", &user).await?;
    keep(&app, ticket, to_bytes(&answer)).await
}

/// Changes the plan that is paid for, or begins the checkout of one.
async fn buy(
    app: &App,
    user: &UserRef,
    caller: &Caller,
    version: &Version,
    base: &BaseUrl,
    cause: &str,
    ticket: Ticket,
) -> Result<Response, ApiError> {
    let before = standing(app, user).await?;
    let in_force = before.filter(|of| of.status != SubscriptionStatus::Canceled);
    if let Some(of) = in_force.filter(|of| of.provider == SubscriptionProvider::Stripe) {
        let same = of.plan == version.plan.key && checkout::stays(app, &of).await?;
        if of.cancel_at_period_end {
            // The change takes the cancellation back, which is not everybody's to do.
            let whose = caller.is_plain().then(|| caller.principal.caller());
            let edit = edits::resume(&of, whose.as_deref(), app.clock.now());
            app.writer.execute(Command::Edit(edit)).await.map_err(|error| over(error, user))?;
        }
        if !same {
            checkout::change(app, user, &of, version, cause).await?;
        }
        return keep(app, ticket, to_bytes(&shown(app, "Subscription is in force", user).await?)).await;
    }
    let settings = &app.config.payments;
    let or_own = |url: &Option<String>| url.clone().unwrap_or_else(|| base.0.clone());
    let urls = Urls { success: or_own(&settings.success_url), cancel: or_own(&settings.cancel_url) };
    let (of, made) = checkout::begin(app, user, version, &urls, cause).await?;
    let answer = IncompleteAnswer::new(&user.auth0_id, version, of.id, made, app.clock.now());
    keep(app, ticket, to_bytes(&answer)).await
}

/// Read the caller's subscription
///
/// 404 when it has none; one that is over is shown as `canceled`.
#[utoipa::path(
    get, path = "/api/v1/subscriptions/current", tag = "Subscriptions", operation_id = "get_current_subscription",
    security(("bearer" = [])),
    responses((status = 200, body = SubscriptionAnswer, description = "The subscription")),
)]
pub async fn get_current_subscription(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let user = own(&app, &caller).await?;
    Ok(json(&shown(&app, "Subscription retrieved successfully", &user).await?))
}

/// Read a user's subscription
///
/// 404 when it has none; one that is over is shown as `canceled`.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/subscription", tag = "Subscriptions", operation_id = "get_subscription",
    params(UserPath), security(("bearer" = []), ("service_key" = ["users:read"])),
    responses((status = 200, body = SubscriptionAnswer, description = "The subscription")),
)]
pub async fn get_subscription(State(app): State<Arc<App>>, on: CanReadUser) -> Result<Response, ApiError> {
    Ok(json(&shown(&app, "Subscription retrieved successfully", &on.user).await?))
}

/// Which plan a user is to have, and until when.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SetSubscriptionRequest {
    /// The plan's key.
    plan_type: Text<1, 50>,
    /// When its first period begins: now when absent, and not in the future.
    period_start: Option<Timestamp>,
    /// When it ends; it is renewed for ever when absent.
    ends_at: Option<Timestamp>,
    /// Whether the subscription in force becomes it only when its period ends; false when absent.
    at_period_end: Option<bool>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// Set a user's plan and period
///
/// For customers who pay by invoice, or not at all. It begins at once, in the place of the subscription before it, and gives the
/// current period's credits; credits of the one before stay until their own end. 409 while one that is paid through Stripe is in force. With `at_period_end` the subscription
/// in force goes on, and becomes the plan when its period ends. Needs a service key with
/// `users:write` and `credits:grant`, or an admin.
#[utoipa::path(
    put, path = "/api/v1/users/{user_id}/subscription", tag = "Subscriptions", operation_id = "set_subscription",
    params(UserPath), security(("bearer" = []), ("service_key" = ["users:write", "credits:grant"])),
    request_body(content = SetSubscriptionRequest, example = json!({"plan_type": "enterprise", "ends_at": "2099-12-31T00:00:00Z"})),
    responses((status = 200, body = SubscriptionAnswer, description = "The subscription")),
)]
pub async fn set_subscription(
    State(app): State<Arc<App>>,
    on: CanSetPlan,
    Input { value, once }: Input<SetSubscriptionRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let version = sold(&app, value.plan_type.as_str())?;
    let now = app.clock.now();
    let anchor = value.period_start.unwrap_or(now);
    if anchor > now {
        return Err(ApiError::invalid(["body", "period_start"], "must not be in the future"));
    }
    if value.ends_at.is_some_and(|end| end <= now) {
        return Err(ApiError::invalid(["body", "ends_at"], "must be in the future"));
    }
    for (field, given) in
        [("period_start", value.period_start.is_some()), ("ends_at", value.ends_at.is_some())]
    {
        if given && value.at_period_end == Some(true) {
            return Err(ApiError::invalid(["body", field], "must be absent where at_period_end is true"));
        }
    }
    let cause = once.key_text().map(|key| format!("{}:{key}", on.caller.principal.caller()));
    let ticket = once.ticket(on.caller.principal.caller());
    if key_is_used(&app, &ticket).await? {
        return replayed(&app, ticket).await;
    }
    let before = standing(&app, &on.user).await?;
    if before.is_some_and(|of| {
        of.provider == SubscriptionProvider::Stripe && of.status != SubscriptionStatus::Canceled
    }) {
        return Err(ApiError::conflict(
            "A plan that is paid through Stripe is in force; it must be cancelled first",
        ));
    }
    if value.at_period_end == Some(true) {
        let of = of(&app, &on.user).await?;
        if of.ends_with_period() {
            return Err(ApiError::conflict(
                "The subscription ends with its period, so it cannot become another plan",
            ));
        }
        let edit = edits::set_next(&of, &version.id, now);
        app.writer.execute(Command::Edit(edit)).await.map_err(|error| over(error, &on.user))?;
    } else {
        let (user, provider, ends_at) = (on.user.row, SubscriptionProvider::Manual, value.ends_at);
        let (replaces, cause) = (Replaces::Anything, cause.as_deref());
        let begin = Begin { user, version, provider, anchor, ends_at, replaces, cause };
        match change::begin(&app, begin).await {
            // The same request began it a moment ago, or broke off before it was answered.
            Err(WriteError::Refused(_)) if store::has_begun(&app.db, cause).await? => {}
            begun => drop(begun.map_err(|error| not_begun(error, &on.user))?),
        }
    }
    let answer = shown(&app, "Subscription is in force", &on.user).await?;
    keep(&app, ticket, to_bytes(&answer)).await
}

/// When a subscription is to end.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CancelRequest {
    /// With its period, which is the default, or at once.
    at_period_end: Option<bool>,
    /// If there, the user itself.
    user_id: Option<UserKey>,
}

/// Cancel the caller's subscription
///
/// With its period, or at once with `"at_period_end": false`. Credits stay until their own end.
#[utoipa::path(
    post, path = "/api/v1/subscriptions/cancel", tag = "Subscriptions", operation_id = "cancel_current_subscription",
    security(("bearer" = [])),
    request_body(content = Option<CancelRequest>, example = json!({"at_period_end": true})),
    responses((status = 200, body = SubscriptionAnswer, description = "The subscription as it now stands")),
)]
pub async fn cancel_current_subscription(
    State(app): State<Arc<App>>,
    caller: Caller,
    Input { value, once }: Input<CancelRequest>,
) -> Result<Response, ApiError> {
    let user = own(&app, &caller).await?;
    end(&app, &user, &caller, value, once).await
}

/// Cancel a user's subscription
///
/// With its period, or at once with `"at_period_end": false`. Credits stay until their own end.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/subscription/cancel", tag = "Subscriptions", operation_id = "cancel_subscription",
    params(UserPath), security(("bearer" = []), ("service_key" = ["users:write"])),
    request_body(content = Option<CancelRequest>, example = json!({"at_period_end": true})),
    responses((status = 200, body = SubscriptionAnswer, description = "The subscription as it now stands")),
)]
pub async fn cancel_subscription(
    State(app): State<Arc<App>>,
    on: CanWriteUser,
    Input { value, once }: Input<CancelRequest>,
) -> Result<Response, ApiError> {
    end(&app, &on.user, &on.caller, value, once).await
}

async fn end(
    app: &App,
    user: &UserRef,
    caller: &Caller,
    value: CancelRequest,
    once: Once,
) -> Result<Response, ApiError> {
    same_user(&user.auth0_id, user.row, value.user_id.as_ref(), "user_id")?;
    let (by, now) = (caller.principal.caller(), app.clock.now());
    let operator = !caller.is_plain();
    let at_once = value.at_period_end == Some(false);
    let ends = if at_once { Ask::Cancel } else { Ask::CancelAtPeriodEnd };
    set(app, user, caller, once, "Subscription cancelled", ends, |of| match at_once {
        true => edits::cancel(of, now),
        false => edits::cancel_at_period_end(of, &by, operator, now),
    })
    .await
}

/// What Stripe is asked, where it says when the subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Cancel,
    CancelAtPeriodEnd,
    Resume,
}

/// Take a cancellation back
///
/// As long as the subscription's period lasts; 409 afterwards. A plain user takes back its own cancellation only: what a
/// service key or an admin has cancelled is 409 to it.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/subscription/resume", tag = "Subscriptions", operation_id = "resume_subscription",
    params(UserPath), security(("bearer" = []), ("service_key" = ["users:write"])),
    request_body(content = Option<ResumeRequest>, example = json!({})),
    responses((status = 200, body = SubscriptionAnswer, description = "The subscription as it now stands")),
)]
pub async fn resume_subscription(
    State(app): State<Arc<App>>,
    on: CanWriteUser,
    Input { value, once }: Input<ResumeRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let now = app.clock.now();
    let whose = on.caller.is_plain().then(|| on.caller.principal.caller());
    set(&app, &on.user, &on.caller, once, "Subscription resumed", Ask::Resume, |of| {
        edits::resume(of, whose.as_deref(), now)
    })
    .await
}

/// Nothing but whose it is.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ResumeRequest {
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

async fn set(
    app: &App,
    user: &UserRef,
    caller: &Caller,
    once: Once,
    message: &'static str,
    ask: Ask,
    edit: impl Fn(&Subscription) -> crate::writer::Edit,
) -> Result<Response, ApiError> {
    let cause = payments::cause(&caller.principal.caller(), once.key_text());
    let ticket = once.ticket(caller.principal.caller());
    if key_is_used(app, &ticket).await? {
        return replayed(app, ticket).await;
    }
    let of = of(app, user).await?;
    let write =
        async || app.writer.execute(Command::Edit(edit(&of))).await.map_err(|error| over(error, user));
    if of.provider == SubscriptionProvider::Stripe && of.status != SubscriptionStatus::Canceled {
        // Whose word it was is noted here, and what becomes of it is Stripe's to say.
        match ask {
            Ask::Cancel => checkout::cancel(app, user, &of, true, &cause).await?,
            Ask::CancelAtPeriodEnd => {
                checkout::cancel(app, user, &of, false, &cause).await?;
                write().await?;
            }
            Ask::Resume => {
                write().await?;
                checkout::resume(app, user, &of, &cause).await?;
            }
        }
    } else {
        write().await?;
        plans::limits::apply(app, user.row).await.map_err(|error| refused(error, &user.auth0_id))?;
    }
    let answer = shown(app, message, user).await?;
    keep(app, ticket, to_bytes(&answer)).await
}

fn over(error: WriteError, user: &UserRef) -> ApiError {
    match error {
        WriteError::Refused(_) => ApiError::conflict("The subscription is over, or an operator cancelled it"),
        other => refused(other, &user.auth0_id),
    }
}
