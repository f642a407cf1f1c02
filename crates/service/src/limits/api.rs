//! Routes of spending limits: read, replace, ask.

use super::model::{Dimension, Limit};
use super::request::{CheckRequest, LimitsRequest};
use super::rules::{applying, check, counters_of};
use super::standing::Known;
use super::view::{CheckView, DenialView, LimitStatus, LimitView};
use crate::app::App;
use crate::auth::grants::{CanGrant, CanReadCredits};
use crate::charges::canonical;
use crate::credits::LedgerCommand;
use crate::http::envelope::bytes as to_bytes;
use crate::http::{ApiError, Envelope, Input, json};
use crate::users::api::{UserPath, answered, refused};
use crate::writer::{Command, Done};
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;

/// Read a user's spending limits
///
/// Each with what is used and what remains now. A limit that counts each session, model, tag or key on
/// its own lists up to 100 of those with use in the window; ask `…/limits/check` about a certain one.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/limits", tag = "Limits", operation_id = "list_limits", params(UserPath),
    security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = Envelope<Vec<LimitStatus>>, description = "The limits, in the order in which they were set, and then those of the user's plan")),
)]
pub async fn list_limits(State(app): State<Arc<App>>, on: CanReadCredits) -> Result<Response, ApiError> {
    let known = Known::of(&app, &on.user).await?;
    let limits = known.limits();
    let single = limits.iter().filter(|limit| !limit.is_each());
    let wanted = single.map(|limit| known.wanted(limit, limit.value.as_deref().unwrap_or_default()));
    let counters = known.counters(&app, wanted.collect()).await?;
    let mut statuses = Vec::with_capacity(limits.len());
    for limit in limits.iter() {
        if limit.is_each() {
            let (values, more) = known.values(&app, limit).await?;
            statuses.push(LimitStatus::each(limit, Some((values, more))));
        } else {
            let value = limit.value.as_deref().unwrap_or_default();
            statuses.push(LimitStatus::one(limit, known.standing(limit, value, &counters)));
        }
    }
    let message = format!("Retrieved {} limits", statuses.len());
    Ok(json(&Envelope::new(message, app.clock.now(), statuses)))
}

/// Replace a user's spending limits
///
/// The whole set at once; an empty one removes all. Those of the user's plan, whose names begin with `plan:`, are
/// not among them, and stay. A limit whose definition stays goes on counting, also
/// with another amount. `per` is `user` (when absent), `key`, `session`, `model` or `tag`; without `value`
/// each of those is counted on its own. `window` is `hour`, `day`, `week` (from Monday) or `month` of UTC, or
/// a rolling one such as `30m`, `5h`, `7d`. A model is taken by the name that the price book has for it.
#[utoipa::path(
    put, path = "/api/v1/users/{user_id}/limits", tag = "Limits", operation_id = "replace_limits", params(UserPath),
    security(("bearer" = []), ("service_key" = ["credits:grant"])),
    request_body(content = LimitsRequest, example = json!({"limits": [
        {"id": "monthly", "unit": "credits", "amount": 500, "window": "month"},
        {"id": "burst", "unit": "tokens", "amount": 100_000, "window": "5h", "per": "session"}]})),
    responses((status = 200, body = Envelope<Vec<LimitView>>, description = "The limits as they were sent")),
)]
pub async fn replace_limits(
    State(app): State<Arc<App>>,
    on: CanGrant,
    Input { value, once }: Input<LimitsRequest>,
) -> Result<Response, ApiError> {
    let mut limits = value.limits()?;
    for limit in limits.iter_mut().filter(|limit| limit.per == Dimension::Model) {
        limit.value = limit.value.take().map(|model| canonical(&app, &model, None, app.clock.now()));
    }
    let views: Vec<LimitView> = limits.iter().map(LimitView::of).collect();
    let (clock, message) = (app.clock.clone(), format!("Set {} limits", views.len()));
    let respond = move |_: &Done| to_bytes(&Envelope::new(message.clone(), clock.now(), &views));
    let command = Command::Ledger(on.user.row, LedgerCommand::SetLimits(limits.into()));
    let ticket = once.ticket(on.caller.principal.caller());
    let answer = app.writer.submit(command, ticket, respond).await;
    Ok(answered(answer.map_err(|error| refused(error, &on.user.auth0_id))?))
}

/// Ask what a spend would be answered
///
/// Nothing is spent and nothing is set aside: another spend may come between. Says of every limit that is
/// about the spend how it stands. The balance is not asked.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/limits/check", tag = "Limits", operation_id = "check_limits", params(UserPath),
    security(("bearer" = []), ("service_key" = ["credits:read"])),
    request_body(content = CheckRequest, example = json!({
        "credits": 480, "tokens_used": 1250, "session_id": "4da97cfa-b95f-4898-8b7d-2786ff703ce0", "model_name": "gpt-4"})),
    responses((status = 200, body = Envelope<CheckView>, description = "Whether it fits, and how the limits stand")),
)]
pub async fn check_limits(
    State(app): State<Arc<App>>,
    on: CanReadCredits,
    Input { value, .. }: Input<CheckRequest>,
) -> Result<Response, ApiError> {
    let model = |model: &str| canonical(&app, model, None, app.clock.now());
    let (context, spend) = value.asked(on.caller.key(), model)?;
    let spend = spend.of(&context);
    let known = Known::of(&app, &on.user).await?;
    let limits = known.limits();
    let (user, now) = (on.user.row, known.now);
    let counters = known.counters(&app, counters_of(user, limits, &spend, now)).await?;
    let statuses = applying(limits, &spend)
        .map(|(limit, value)| LimitStatus::one(limit, known.standing(limit, value, &counters)).under(value));
    let statuses = statuses.collect();
    let reserved = |limit: &Limit, value: &str| known.held(limit, value);
    let (message, denial) = match check(limits, user, &spend, &reserved, &counters, now) {
        Ok(_) => ("The spend fits every limit".to_owned(), None),
        Err(denial) => (denial.to_string(), Some(DenialView::from(&denial))),
    };
    let view = CheckView { allowed: denial.is_none(), denial, limits: statuses };
    Ok(json(&Envelope::new(message, app.clock.now(), view)))
}
