//! Routes of credits: consume, recharge, refund, grants, balance, transactions.

use super::context::{Basis, Context, SCOPE_MAX, Scope};
use super::holds_api::{given, tags};
use super::ledger::{Consume, Issue, LedgerCommand, Measure, Note, Refund, settle};
use super::model::{EntryKind, Grant, Rollover, Source};
use super::store::{self, TransactionFilter};
use super::view::{BalanceAnswer, BalanceView, ConsumeAnswer, GrantView, TransactionView};
use crate::app::App;
use crate::auth::grants::{Caller, CanGrant, CanReadBalance, CanReadCredits, CanRecharge, CanSpend, UserRef};
use crate::charges::canonical;
use crate::http::envelope::bytes as to_bytes;
use crate::http::input::Once;
use crate::http::object::Part;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, Query, json};
use crate::users::api::{UserPath, answered, refused, same_user};
use crate::writer::{Command, Done};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use kernel::{Amount, Credits, JsonObject, RecordId, Text, Timestamp, TransactionId, UserKey};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many rows a list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;
/// How long what rolls over may live.
const ROLLOVER_DAYS_MAX: u32 = 36_500;
/// The lowest priority that a grant may be given.
const PRIORITY_MAX: u32 = 1_000_000;

/// Credits to spend.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ConsumeRequest {
    /// How many.
    amount: Amount,
    /// What for.
    description: Option<Text<0, 1000>>,
    /// The same under its other name; `description` wins.
    reason: Option<Text<0, 1000>>,
    /// The usage record that they pay for; it need not exist, but must not be another user's.
    usage_record_id: Option<RecordId>,
    /// Anything else.
    metadata: Option<JsonObject>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
    /// Kept in the metadata.
    endpoint: Option<Text<0, 500>>,
    /// Kept in the metadata.
    service: Option<Text<0, 200>>,
    /// The model, where grants or limits are about models.
    model_name: Option<Text<0, 200>>,
    /// What the product calls it, where grants are about features.
    feature: Option<Text<0, 100>>,
    /// The session, where limits are about sessions.
    session_id: Option<Text<0, 255>>,
    /// Up to 20 tags, where limits are about tags.
    #[schema(max_items = 20)]
    tags: Option<Vec<Text<1, 100>>>,
}

/// Spend credits
///
/// Never more than can be spent: 400 `InsufficientCreditsException` otherwise, and nothing changes.
/// Credits are taken from grants by priority, then soonest expiry, then age. Durable before the answer.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/consume", tag = "Credits", operation_id = "consume_credits",
    params(UserPath), security(("bearer" = []), ("service_key" = ["credits:spend"])),
    request_body(content = ConsumeRequest, examples(
        ("documented" = (value = json!({"amount": 10.5, "description": "GPT-4 call", "usage_record_id": 1001, "metadata": {"model": "gpt-4"}}))),
        ("flat" = (value = json!({"user_id": "auth0|123456789", "amount": 25.5, "reason": "API call", "endpoint": "/api/chat"}))))),
    responses((status = 200, body = ConsumeAnswer, description = "The transaction",
        links(
            ("refund" = (operation_id = "refund_credits", parameters(("user_id" = "$response.body#/data/user_id")),
                request_body = "{\"transaction_id\": \"$response.body#/transaction_id\"}")),
            ("balance" = (operation_id = "get_balance", parameters(("user_id" = "$response.body#/data/user_id")))),
            ("transactions" = (operation_id = "list_transactions", parameters(("user_id" = "$response.body#/data/user_id")))),
        ))),
)]
pub async fn consume_credits(
    State(app): State<Arc<App>>,
    on: CanSpend,
    Input { value, once }: Input<ConsumeRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let mut note = note(&on.caller, &once, value.description.or(value.reason), value.metadata);
    for (name, text) in [
        ("endpoint", value.endpoint.map(Text::into_string)),
        ("service", value.service.map(Text::into_string)),
    ] {
        if let Some(text) = text {
            note.metadata = note.metadata.with_member(name, &text);
        }
    }
    let context = Context {
        model: given(value.model_name).map(|model| canonical(&app, &model, None, app.clock.now())),
        feature: given(value.feature),
        session: given(value.session_id),
        key: on.caller.key(),
        tags: tags(value.tags)?,
    };
    let command = LedgerCommand::Consume(Consume {
        amount: value.amount.credits(),
        usage_record_id: value.usage_record_id.map(RecordId::get),
        basis: Basis { context, pricing: None },
        measure: Measure::default(),
        note,
    });
    let (clock, user) = (app.clock.clone(), on.user.clone());
    let named = on.user.auth0_id.clone();
    let respond = move |done: &Done| match done {
        Done::Entry { entry, available } => {
            to_bytes(&ConsumeAnswer::new(entry, *available, &user.auth0_id, clock.now()))
        }
        _ => Bytes::new(),
    };
    let command = Command::Ledger(on.user.row, command);
    let ticket = once.ticket(on.caller.principal.caller());
    let answer = app.writer.submit(command, ticket, respond).await;
    Ok(answered(answer.map_err(|error| refused(error, &named))?))
}

/// What an entry says beside its amount.
pub fn note<const MAX: usize>(
    caller: &Caller,
    once: &Once,
    description: Option<Text<0, MAX>>,
    metadata: Option<JsonObject>,
) -> Note {
    Note {
        description: description.map(Text::into_string),
        metadata: metadata.unwrap_or_default(),
        origin: caller.origin(once),
    }
}

/// Submits a command whose answer is an envelope with its transaction.
///
/// # Errors
/// What the writer refuses.
pub async fn transact(
    app: &App,
    user: UserRef,
    caller: &Caller,
    once: Once,
    command: LedgerCommand,
    message: fn(&Credits) -> String,
) -> Result<Response, ApiError> {
    let (clock, row) = (app.clock.clone(), user.row);
    let named = user.auth0_id.clone();
    let respond = move |done: &Done| match done {
        Done::Entry { entry, .. } => {
            let message = message(&entry.amount.abs());
            to_bytes(&Envelope::new(message, clock.now(), TransactionView::new(entry, &user.auth0_id)))
        }
        _ => Bytes::new(),
    };
    let ticket = once.ticket(caller.principal.caller());
    let command = Command::Ledger(row, command);
    let answer = app.writer.submit(command, ticket, respond).await;
    Ok(answered(answer.map_err(|error| refused(error, &named))?))
}

/// Writes down what is due on an account, so that what is listed says so.
///
/// # Errors
/// 503 when the database is down.
pub async fn settle_due(app: &App, user: &UserRef) -> Result<(), ApiError> {
    let account = app.balances.account(user.row).await?;
    let now = app.clock.now();
    if account.is_some_and(|account| settle::is_due(&account, account.time(now))) {
        app.writer.execute(Command::Ledger(user.row, LedgerCommand::Settle)).await?;
    }
    Ok(())
}

/// Bought credits to add.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RechargeRequest {
    /// How many.
    amount: Amount,
    /// What for.
    description: Option<Text<0, 1000>>,
    /// What they were paid with, such as a Stripe payment intent; applied once for ever per user.
    reference_id: Option<Text<1, 255>>,
    /// Anything else.
    metadata: Option<JsonObject>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// Add bought credits
///
/// They do not expire. A `reference_id` counts once for ever: the same again answers with the
/// first transaction; with another amount it is 409. A plain user may do this in development only
/// (`ALLOW_SELF_RECHARGE`). The fields come as JSON or as a query.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/recharge", tag = "Credits", operation_id = "recharge_credits",
    params(UserPath), security(("bearer" = []), ("service_key" = ["credits:grant"])),
    request_body(content = Option<RechargeRequest>, example = json!({
        "amount": 1000.0, "description": "Stripe payment", "reference_id": "stripe_pi_abc123def456", "metadata": {}})),
    responses((status = 200, body = Envelope<TransactionView>, description = "The transaction", links(
        ("balance" = (operation_id = "get_balance", parameters(("user_id" = "$response.body#/data/user_id")))),
        ("transactions" = (operation_id = "list_transactions", parameters(("user_id" = "$response.body#/data/user_id")))),
    ))),
)]
pub async fn recharge_credits(
    State(app): State<Arc<App>>,
    on: CanRecharge,
    Input { value, once }: Input<RechargeRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let command = LedgerCommand::Issue(Issue {
        kind: EntryKind::Recharge,
        amount: value.amount.credits(),
        source: Source::Purchase,
        priority: 0,
        effective_at: None,
        expires_at: None,
        scope: None,
        rollover: None,
        reference_id: value.reference_id.map(Text::into_string),
        note: note(&on.caller, &once, value.description, value.metadata),
    });
    let message = |amount: &Credits| format!("Successfully recharged {amount} credits");
    transact(&app, on.user, &on.caller, once, command, message).await
}

/// Spent credits to give back.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RefundRequest {
    /// The transaction that spent them.
    transaction_id: TransactionId,
    /// How many; all that can still be refunded when absent.
    amount: Option<Amount>,
    /// Why.
    description: Option<Text<0, 1000>>,
    /// Anything else.
    metadata: Option<JsonObject>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// Give spent credits back
///
/// All refunds of a transaction sum to at most what it spent. They go back to the grants that
/// paid, those spent last first; what came from a grant that has ended becomes a new grant that
/// lives `REFUND_CREDITS_DAYS`.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/refund", tag = "Credits", operation_id = "refund_credits",
    params(UserPath), security(("bearer" = []), ("service_key" = ["credits:grant"])),
    request_body(content = RefundRequest, example = json!({"transaction_id": "txn_112_7", "amount": 5})),
    responses((status = 200, body = Envelope<TransactionView>, description = "The refund", links(
        ("balance" = (operation_id = "get_balance", parameters(("user_id" = "$response.body#/data/user_id")))),
    ))),
)]
pub async fn refund_credits(
    State(app): State<Arc<App>>,
    on: CanGrant,
    Input { value, once }: Input<RefundRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let command = LedgerCommand::Refund(Refund {
        original: value.transaction_id,
        amount: value.amount.map(Amount::credits),
        note: note(&on.caller, &once, value.description, value.metadata),
    });
    let message = |amount: &Credits| format!("Successfully refunded {amount} credits");
    transact(&app, on.user, &on.caller, once, command, message).await
}

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

/// At which instant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BalanceQuery {
    /// An instant that is over; now when absent.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2025-07-01T00:00:00Z")]
    at: Option<Timestamp>,
}

/// Read the balance
///
/// `data` is what can be spent now. Expiry takes effect at its instant. With `at`, what the account
/// was worth at that instant less what was held: from its entries, so credits that had not begun or
/// had a scope are counted in.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/credits/balance", tag = "Credits", operation_id = "get_balance",
    params(UserPath, BalanceQuery), security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = BalanceAnswer, description = "The balance")),
)]
pub async fn get_balance(
    State(app): State<Arc<App>>,
    on: CanReadBalance,
    Query(query): Query<BalanceQuery>,
) -> Result<Response, ApiError> {
    let account = app.balances.account(on.user.row).await?;
    let account = account.ok_or_else(|| ApiError::user_not_found(on.user.auth0_id.as_str()))?;
    let now = app.clock.now();
    let balance = match query.at {
        None => BalanceView::new(&account, now),
        Some(at) if at > now => return Err(ApiError::invalid(["query", "at"], "must not be in the future")),
        // Since its last change nothing but time has passed.
        Some(at) if at >= account.updated_at => BalanceView::new(&account, at),
        Some(at) => {
            let (balance, held) = store::balance_at(&app.db, on.user.row, at).await?;
            BalanceView::of_past(balance, held)
        }
    };
    Ok(json(&BalanceAnswer {
        success: true,
        status: "success",
        message: "Credit balance retrieved successfully",
        timestamp: now,
        data: balance.available(),
        balance,
    }))
}

/// Which transactions are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TransactionQuery {
    /// Of this type only.
    #[param(inline)]
    transaction_type: Option<EntryKind>,
    /// Not before: a date or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2025-01-01")]
    start_date: Option<Timestamp>,
    /// Not after: a date (its first instant) or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2099-12-31T23:59:59Z")]
    end_date: Option<Timestamp>,
}

/// List transactions
///
/// Newest first. An account's transactions form one chain: each `balance_before` is the
/// `balance_after` of the one before it.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/credits/transactions", tag = "Credits", operation_id = "list_transactions",
    params(UserPath, TransactionQuery, PageQuery), security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = Envelope<Vec<TransactionView>>, description = "The transactions")),
)]
pub async fn list_transactions(
    State(app): State<Arc<App>>,
    on: CanReadCredits,
    Query(query): Query<TransactionQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    settle_due(&app, &on.user).await?;
    let filter = TransactionFilter {
        kind: query.transaction_type,
        start: query.start_date,
        end: query.end_date,
        before_seq: page.after.map(|(seq, _)| seq),
        offset: page.offset,
        limit: page.limit(LIMIT_DEFAULT),
    };
    let found = store::transactions(&app.db, on.user.row, &filter).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |entry| (entry.seq, 0));
    let rows: Vec<TransactionView> =
        found.rows.iter().map(|entry| TransactionView::new(entry, &on.user.auth0_id)).collect();
    let message = format!("Retrieved {} transactions", rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), rows).paged(pagination)))
}
