//! Routes of holds: create, read, list, tick, extend, capture, release.

use super::context::{Context, TAGS_MAX};
use super::hold::{Hold, HoldStatus, LIFE_DEFAULT, LIFE_MAX, LIFE_MIN, OnExpiry};
use super::holds_view::{HoldAnswer, HoldView};
use super::ledger::{Capture, LedgerCommand, Measure, NewHold, Tick};
use super::store;
use crate::app::App;
use crate::auth::grants::{CanReadCredits, CanSpend, OnUser, Permission};
use crate::charges::canonical;
use crate::credits::api::{note, settle_due};
use crate::http::envelope::bytes as to_bytes;
use crate::http::input::Once;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, Query, json};
use crate::users::api::{UserPath, answered, same_user};
use crate::writer::{Command, Done};
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use kernel::{Amount, Charge, Count, HoldId, JsonObject, RecordId, Text, UserKey};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// How many rows a list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;

/// The hold that a path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described: the handlers read the path")]
pub struct HoldPath {
    /// The hold's id.
    #[param(
        pattern = "^hld_[1-9][0-9]{0,18}_[1-9][0-9]{0,18}$",
        min_length = 7,
        max_length = 43,
        example = "hld_112_7"
    )]
    hold_id: String,
}

/// Credits to set aside.
#[derive(Debug, Deserialize, ToSchema)]
pub struct HoldRequest {
    /// How many.
    amount: Amount,
    /// For how many seconds: 1 to 604800, which is 7 days; 900 when absent.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 604_800)]
    expires_in: Option<Count>,
    /// What becomes of it when nobody settles it: `release` when absent.
    on_expiry: Option<OnExpiry>,
    /// The model that they are for, where grants or limits are about models.
    model_name: Option<Text<0, 200>>,
    /// What the product calls it, where grants are about features.
    feature: Option<Text<0, 100>>,
    /// The session, where limits are about sessions.
    session_id: Option<Text<0, 255>>,
    /// The key that it is spent with, where limits are about keys; the caller's own key when absent.
    key: Option<Text<0, 255>>,
    /// Up to 20 tags, where limits are about tags.
    #[schema(max_items = 20)]
    tags: Option<Vec<Text<1, 100>>>,
    /// What for.
    description: Option<Text<0, 1000>>,
    /// Anything else.
    metadata: Option<JsonObject>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// A life as callers give it.
fn life(seconds: Option<Count>) -> Result<Option<Duration>, ApiError> {
    let Some(seconds) = seconds else { return Ok(None) };
    let life = Duration::from_secs(seconds.get().into());
    if (LIFE_MIN..=LIFE_MAX).contains(&life) {
        return Ok(Some(life));
    }
    let rule = format!("must be {} to {} seconds", LIFE_MIN.as_secs(), LIFE_MAX.as_secs());
    Err(ApiError::invalid(["body", "expires_in"], rule))
}

/// Checks the tags of a debit.
///
/// # Errors
/// 400.
pub fn tags<const MAX: usize>(tags: Option<Vec<Text<1, MAX>>>) -> Result<Vec<String>, ApiError> {
    let mut tags: Vec<String> = tags.unwrap_or_default().into_iter().map(Text::into_string).collect();
    if tags.len() > TAGS_MAX {
        return Err(ApiError::invalid(["body", "tags"], format!("must be at most {TAGS_MAX} tags")));
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

/// A text that says something; an empty one stands for absent.
#[must_use]
pub fn given<const MAX: usize>(text: Option<Text<0, MAX>>) -> Option<String> {
    text.map(Text::into_string).filter(|text| !text.is_empty())
}

/// Set credits aside
///
/// For work whose cost is known only when it is done. What is set aside can be spent by nobody else
/// and does not expire meanwhile. Not enough: 402, and nothing changes. A hold that is not settled
/// ends at its instant, by itself: `on_expiry` says whether all of it returns (`release`), what was
/// ticked is charged (`capture_ticked`), or all of it (`capture_all`).
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/holds", tag = "Holds", operation_id = "create_hold",
    params(UserPath), security(("bearer" = []), ("service_key" = ["credits:spend"])),
    request_body(content = HoldRequest, example = json!({
        "amount": 10, "expires_in": 600, "on_expiry": "capture_ticked", "description": "a long answer"})),
    responses((status = 200, body = HoldAnswer, description = "The hold", links(
        ("get" = (operation_id = "get_hold", parameters(("user_id" = "$response.body#/data/user_id"), ("hold_id" = "$response.body#/hold_id")))),
        ("tick" = (operation_id = "tick_hold", parameters(("user_id" = "$response.body#/data/user_id"), ("hold_id" = "$response.body#/hold_id")))),
        ("extend" = (operation_id = "extend_hold", parameters(("user_id" = "$response.body#/data/user_id"), ("hold_id" = "$response.body#/hold_id")))),
        ("capture" = (operation_id = "capture_hold", parameters(("user_id" = "$response.body#/data/user_id"), ("hold_id" = "$response.body#/hold_id")))),
        ("release" = (operation_id = "release_hold", parameters(("user_id" = "$response.body#/data/user_id"), ("hold_id" = "$response.body#/hold_id")))),
    ))),
)]
pub async fn create_hold(
    State(app): State<Arc<App>>,
    on: CanSpend,
    Input { value, once }: Input<HoldRequest>,
) -> Result<Response, ApiError> {
    on.caller.may_spend_of(&app, on.user.row)?;
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let context = Context {
        model: given(value.model_name).map(|model| canonical(&app, &model, None, app.clock.now())),
        feature: given(value.feature),
        session: given(value.session_id),
        key: given(value.key).or_else(|| on.caller.key()),
        tags: tags(value.tags)?,
    };
    let command = LedgerCommand::Hold(Box::new(NewHold {
        amount: value.amount.credits(),
        life: life(value.expires_in)?.unwrap_or(LIFE_DEFAULT),
        on_expiry: value.on_expiry.unwrap_or(OnExpiry::Release),
        context,
        note: note(&on.caller, &once, value.description, value.metadata),
    }));
    settle(&app, on, once, command, "Credits held").await
}

/// What the work of a hold has cost so far.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TickRequest {
    /// The running total, not the difference; more than is held sets more aside, if it can.
    amount: Charge,
    /// How many seconds the hold lives from now on; as before when absent.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 604_800)]
    expires_in: Option<Count>,
}

/// Say what the work has cost so far
///
/// The running total: sending the same again changes nothing, and less than before is 400. More than
/// the hold has set aside is set aside too; where the account cannot, it is 402 and nothing changes,
/// and the work should end. With `on_expiry: capture_ticked` a client that dies is charged what it
/// last ticked.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/holds/{hold_id}/tick", tag = "Holds", operation_id = "tick_hold",
    params(UserPath, HoldPath), security(("bearer" = []), ("service_key" = ["credits:spend"])),
    request_body(content = TickRequest, example = json!({"amount": 2.5})),
    responses((status = 200, body = HoldAnswer, description = "The hold")),
)]
pub async fn tick_hold(
    State(app): State<Arc<App>>,
    on: CanSpend,
    Path(path): Path<Vec<(String, String)>>,
    Input { value, once }: Input<TickRequest>,
) -> Result<Response, ApiError> {
    let hold = named(&path, &on)?;
    let tick = Tick { hold, amount: Some(value.amount.credits()), life: life(value.expires_in)? };
    settle(&app, on, once, LedgerCommand::Tick(tick), "Hold ticked").await
}

/// How much longer a hold is to live.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ExtendRequest {
    /// For how many seconds from now on: 1 to 604800.
    #[schema(value_type = u32, minimum = 1, maximum = 604_800)]
    expires_in: Count,
}

/// Give a hold more time
///
/// It then ends `expires_in` seconds from now. One that has ended stays ended: 409.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/holds/{hold_id}/extend", tag = "Holds", operation_id = "extend_hold",
    params(UserPath, HoldPath), security(("bearer" = []), ("service_key" = ["credits:spend"])),
    request_body(content = ExtendRequest, example = json!({"expires_in": 900})),
    responses((status = 200, body = HoldAnswer, description = "The hold")),
)]
pub async fn extend_hold(
    State(app): State<Arc<App>>,
    on: CanSpend,
    Path(path): Path<Vec<(String, String)>>,
    Input { value, once }: Input<ExtendRequest>,
) -> Result<Response, ApiError> {
    let hold = named(&path, &on)?;
    let tick = Tick { hold, amount: None, life: life(Some(value.expires_in))? };
    settle(&app, on, once, LedgerCommand::Tick(tick), "Hold extended").await
}

/// How much of a hold to charge.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CaptureRequest {
    /// How much; what was ticked when absent, or all of it where nothing was.
    amount: Option<Charge>,
    /// The usage record that it pays for; it need not exist, but must not be another user's.
    usage_record_id: Option<RecordId>,
    /// What for; the hold's own words when absent.
    description: Option<Text<0, 1000>>,
    /// Anything else; the hold's own when absent.
    metadata: Option<JsonObject>,
}

/// Charge a hold
///
/// Less than is held: the rest returns. More: the rest is taken from the balance if it can pay, or
/// else what is held is charged, and `short_by` says what is missing. Settling twice gives the first
/// answer again if it is the same request, and 409 otherwise.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/holds/{hold_id}/capture", tag = "Holds", operation_id = "capture_hold",
    params(UserPath, HoldPath), security(("bearer" = []), ("service_key" = ["credits:spend"])),
    request_body(content = Option<CaptureRequest>, example = json!({"amount": 7.25})),
    responses((status = 200, body = HoldAnswer, description = "The hold and the transaction that charged it", links(
        ("explain" = (operation_id = "explain_transaction", parameters(("user_id" = "$response.body#/data/user_id"), ("transaction_id" = "$response.body#/data/transaction_id")))),
    ))),
)]
pub async fn capture_hold(
    State(app): State<Arc<App>>,
    on: CanSpend,
    Path(path): Path<Vec<(String, String)>>,
    Input { value, once }: Input<CaptureRequest>,
) -> Result<Response, ApiError> {
    let hold = named(&path, &on)?;
    let command = LedgerCommand::Capture(Capture {
        hold,
        amount: value.amount.map(Charge::credits),
        usage_record_id: value.usage_record_id.map(RecordId::get),
        pricing: None,
        measure: Measure::default(),
        note: note(&on.caller, &once, value.description, value.metadata),
    });
    settle(&app, on, once, command, "Hold captured").await
}

/// Give a hold's credits back
///
/// All of it can be spent again. What is of a grant that has ended meanwhile ends with it.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/holds/{hold_id}/release", tag = "Holds", operation_id = "release_hold",
    params(UserPath, HoldPath), security(("bearer" = []), ("service_key" = ["credits:spend"])),
    request_body(content = Option<ReleaseRequest>, example = json!({})),
    responses((status = 200, body = HoldAnswer, description = "The hold")),
)]
pub async fn release_hold(
    State(app): State<Arc<App>>,
    on: CanSpend,
    Path(path): Path<Vec<(String, String)>>,
    Input { value: ReleaseRequest {}, once }: Input<ReleaseRequest>,
) -> Result<Response, ApiError> {
    let hold = named(&path, &on)?;
    settle(&app, on, once, LedgerCommand::Release(hold), "Hold released").await
}

/// Nothing to say.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReleaseRequest {}

/// The number of the path's hold, which must be the user's own.
fn named<P: Permission>(path: &[(String, String)], on: &OnUser<P>) -> Result<i64, ApiError> {
    let text = path.iter().find(|(name, _)| name == "hold_id").map_or("", |(_, value)| value);
    let id: HoldId =
        text.parse().map_err(|rule| ApiError::invalid(["path", "hold_id"], format!("{rule}")))?;
    if id.user == on.user.row { Ok(id.seq) } else { Err(unknown(id)) }
}

fn unknown(id: HoldId) -> ApiError {
    super::Rejection::UnknownHold(id).into()
}

/// Submits a command that is answered with its hold.
async fn settle(
    app: &App,
    on: CanSpend,
    once: Once,
    command: LedgerCommand,
    message: &'static str,
) -> Result<Response, ApiError> {
    let (clock, user) = (app.clock.clone(), on.user.clone());
    let respond = move |done: &Done| match done {
        Done::Hold { hold, entry, available } => {
            to_bytes(&HoldAnswer::new(message, hold, entry.as_deref(), *available, &user, clock.now()))
        }
        _ => Bytes::new(),
    };
    let ticket = once.ticket(on.caller.principal.caller());
    let answer = app.writer.submit(Command::Ledger(on.user.row, command), ticket, respond).await;
    Ok(answered(answer.map_err(|error| app.payment_required(error, &on.user.auth0_id))?))
}

/// Which holds are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HoldQuery {
    /// Only those that stand like this.
    #[param(inline)]
    status: Option<HoldStatus>,
}

/// List holds
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/credits/holds", tag = "Holds", operation_id = "list_holds",
    params(UserPath, HoldQuery, PageQuery), security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = Envelope<Vec<HoldView>>, description = "The holds")),
)]
pub async fn list_holds(
    State(app): State<Arc<App>>,
    on: CanReadCredits,
    Query(query): Query<HoldQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    settle_due(&app, &on.user).await?;
    let before = page.after.map(|(n, _)| n);
    let limit = page.limit(LIMIT_DEFAULT);
    let found = store::holds(&app.db, on.user.row, query.status, before, limit, page.offset).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |hold: &Hold| (hold.n, 0));
    let rows: Vec<HoldView> = found.rows.iter().map(|hold| HoldView::new(hold, &on.user)).collect();
    let message = format!("Retrieved {} holds", rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), rows).paged(pagination)))
}

/// Read a hold
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/credits/holds/{hold_id}", tag = "Holds", operation_id = "get_hold",
    params(UserPath, HoldPath), security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = Envelope<HoldView>, description = "The hold")),
)]
pub async fn get_hold(
    State(app): State<Arc<App>>,
    on: CanReadCredits,
    Path(path): Path<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let n = named(&path, &on)?;
    settle_due(&app, &on.user).await?;
    let hold = store::one_hold(&app.db, on.user.row, n).await?;
    let hold = hold.ok_or_else(|| unknown(HoldId { user: on.user.row, seq: n }))?;
    Ok(json(&Envelope::new("Hold retrieved successfully", app.clock.now(), HoldView::new(&hold, &on.user))))
}
