//! Routes of grants: give and list.

use super::api::{note, settle_due, transact};
use super::context::{SCOPE_MAX, Scope};
use super::ledger::{Issue, LedgerCommand};
use super::model::{EntryKind, Grant, Rollover, Source};
use super::store;
use super::view::{GrantView, TransactionView};
use crate::app::App;
use crate::auth::grants::{CanGrant, CanReadCredits};
use crate::http::object::Part;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, json};
use crate::users::api::{UserPath, same_user};
use axum::extract::State;
use axum::response::Response;
use kernel::{Amount, Credits, JsonObject, Text, Timestamp, UserKey};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// How many rows a list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;
/// How long what rolls over may live.
const ROLLOVER_DAYS_MAX: u32 = 36_500;
/// The lowest priority that a grant may be given.
const PRIORITY_MAX: u32 = 1_000_000;

/// Credits to give.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GrantRequest {
    /// How many.
    amount: Amount,
    /// Why they are given: `promo` when absent; `signup` and `refund` are the service's own.
    source: Option<GrantSource>,
    /// When they are spent: 0, the default, is first.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 1_000_000)]
    priority: Option<kernel::Count>,
    /// From when on they can be spent; now when absent.
    effective_at: Option<Timestamp>,
    /// Until when; for ever when absent.
    expires_at: Option<Timestamp>,
    /// What they can be spent on; anything when absent.
    #[schema(value_type = Option<ScopeRequest>)]
    scope: Option<Part<ScopeRequest>>,
    /// What of them lives on after their end, once; needs `expires_at`.
    #[schema(value_type = Option<RolloverRequest>)]
    rollover: Option<Part<RolloverRequest>>,
    /// Applied once for ever per user.
    reference_id: Option<Text<1, 255>>,
    /// What to write beside it.
    description: Option<Text<0, 1000>>,
    /// Anything else.
    metadata: Option<JsonObject>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// What credits can be spent on: one of the models and one of the features, where any are named. A
/// name that ends in `*` stands for all that begin like it. Other members are refused: a name that is
/// misspelt would open the grant to everything.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeRequest {
    /// Up to 100 models.
    #[schema(max_items = 100)]
    models: Option<Vec<Text<1, 200>>>,
    /// Up to 100 features.
    #[schema(max_items = 100)]
    features: Option<Vec<Text<1, 100>>>,
}

fn scope(request: ScopeRequest) -> Result<Scope, ApiError> {
    fn names<const MAX: usize>(
        field: &str,
        names: Option<Vec<Text<1, MAX>>>,
    ) -> Result<Vec<String>, ApiError> {
        let names = names.unwrap_or_default();
        if names.len() > SCOPE_MAX {
            let rule = format!("must be at most {SCOPE_MAX} names");
            return Err(ApiError::invalid(["body", field], rule).within(&["scope"]));
        }
        Ok(names.into_iter().map(Text::into_string).collect())
    }
    Ok(Scope { models: names("models", request.models)?, features: names("features", request.features)? })
}

/// What of a grant lives on after its end, once.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloverRequest {
    /// How many credits at most.
    max: Amount,
    /// For how many days: 1 to 36500.
    #[schema(value_type = u32, minimum = 1, maximum = 36_500)]
    days: kernel::Count,
}

fn rollover(request: RolloverRequest) -> Result<Rollover, ApiError> {
    let days = request.days.get();
    if !(1..=ROLLOVER_DAYS_MAX).contains(&days) {
        let rule = format!("must be 1 to {ROLLOVER_DAYS_MAX}");
        return Err(ApiError::invalid(["body", "days"], rule).within(&["rollover"]));
    }
    Ok(Rollover { max: request.max.credits().micro(), days: days.into() })
}

/// Why a caller gives credits.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantSource {
    /// A plan's period.
    Plan,
    /// Money.
    Purchase,
    /// A promotion.
    Promo,
    /// A correction.
    Adjustment,
}

impl From<GrantSource> for Source {
    fn from(source: GrantSource) -> Self {
        match source {
            GrantSource::Plan => Self::Plan,
            GrantSource::Purchase => Self::Purchase,
            GrantSource::Promo => Self::Promo,
            GrantSource::Adjustment => Self::Adjustment,
        }
    }
}

/// Give credits
///
/// With terms of their own: a priority, a first and a last instant. Needs a service key with
/// `credits:grant` or an admin. At most 10000 grants of one user may have something left.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/grants", tag = "Credits", operation_id = "create_grant",
    params(UserPath), security(("bearer" = []), ("service_key" = ["credits:grant"])),
    request_body(content = GrantRequest, example = json!({
        "amount": 250, "source": "promo", "priority": 0, "expires_at": "2099-12-31T00:00:00Z",
        "description": "Launch week"})),
    responses((status = 200, body = Envelope<TransactionView>, description = "The transaction; its grant is in the list of grants", links(
        ("grants" = (operation_id = "list_grants", parameters(("user_id" = "$response.body#/data/user_id")))),
        ("balance" = (operation_id = "get_balance", parameters(("user_id" = "$response.body#/data/user_id")))),
    ))),
)]
pub async fn create_grant(
    State(app): State<Arc<App>>,
    on: CanGrant,
    Input { value, once }: Input<GrantRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let priority = value.priority.unwrap_or_default().get();
    if priority > PRIORITY_MAX {
        return Err(ApiError::invalid(["body", "priority"], format!("must be at most {PRIORITY_MAX}")));
    }
    let command = LedgerCommand::Issue(Issue {
        kind: EntryKind::Grant,
        amount: value.amount.credits(),
        source: value.source.map_or(Source::Promo, Source::from),
        priority: i64::from(priority),
        effective_at: value.effective_at,
        expires_at: value.expires_at,
        scope: value.scope.map(|Part(request)| scope(request)).transpose()?,
        rollover: value.rollover.map(|Part(request)| rollover(request)).transpose()?,
        reference_id: value.reference_id.map(Text::into_string),
        note: note(&on.caller, &once, value.description, value.metadata),
    });
    let message = |amount: &Credits| format!("Successfully granted {amount} credits");
    transact(&app, on.user, &on.caller, once, command, message).await
}

/// List grants
///
/// Newest first, spent and expired ones included.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/credits/grants", tag = "Credits", operation_id = "list_grants",
    params(UserPath, PageQuery), security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = Envelope<Vec<GrantView>>, description = "The grants")),
)]
pub async fn list_grants(
    State(app): State<Arc<App>>,
    on: CanReadCredits,
    page: Page,
) -> Result<Response, ApiError> {
    settle_due(&app, &on.user).await?;
    let before = page.after.map(|(seq, _)| seq);
    let limit = page.limit(LIMIT_DEFAULT);
    let found = store::grants(&app.db, on.user.row, before, limit, page.offset).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |grant: &Grant| (grant.seq, 0));
    let now = app.clock.now();
    let rows: Vec<GrantView> =
        found.rows.iter().map(|grant| GrantView::new(grant, on.user.row, now)).collect();
    Ok(json(&Envelope::new(format!("Retrieved {} grants", rows.len()), now, rows).paged(pagination)))
}
