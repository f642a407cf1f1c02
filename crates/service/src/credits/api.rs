//! Routes of credits: consume, recharge, refund, grants, balance, transactions.

use super::ledger::{Consume, Issue, LedgerCommand, Note, Refund};
use super::model::{EntryKind, Grant, Source};
use super::store::{self, TransactionFilter};
use super::view::{BalanceAnswer, BalanceView, ConsumeAnswer, GrantView, TransactionView};
use crate::app::App;
use crate::auth::grants::{Caller, CanGrant, CanReadBalance, CanReadCredits, CanRecharge, CanSpend, UserRef};
use crate::http::envelope::bytes as to_bytes;
use crate::http::input::Once;
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
    let command = LedgerCommand::Consume(Consume {
        amount: value.amount.credits(),
        usage_record_id: value.usage_record_id.map(RecordId::get),
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

fn note<const MAX: usize>(
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
async fn transact(
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
    /// Applied once for ever per user.
    reference_id: Option<Text<1, 255>>,
    /// What to write beside it.
    description: Option<Text<0, 1000>>,
    /// Anything else.
    metadata: Option<JsonObject>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
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
    let before = page.after.map(|(seq, _)| seq);
    let limit = page.limit(LIMIT_DEFAULT);
    let found = store::grants(&app.db, on.user.row, before, limit, page.offset).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |grant: &Grant| (grant.seq, 0));
    let now = app.clock.now();
    let rows: Vec<GrantView> =
        found.rows.iter().map(|grant| GrantView::new(grant, on.user.row, now)).collect();
    Ok(json(&Envelope::new(format!("Retrieved {} grants", rows.len()), now, rows).paged(pagination)))
}

/// Read the balance
///
/// `data` is what can be spent now. Expiry takes effect at its instant.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/credits/balance", tag = "Credits", operation_id = "get_balance",
    params(UserPath), security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = BalanceAnswer, description = "The balance")),
)]
pub async fn get_balance(State(app): State<Arc<App>>, on: CanReadBalance) -> Result<Response, ApiError> {
    let account = app.balances.account(on.user.row).await?;
    let account = account.ok_or_else(|| ApiError::user_not_found(on.user.auth0_id.as_str()))?;
    let now = app.clock.now();
    Ok(json(&BalanceAnswer {
        success: true,
        status: "success",
        message: "Credit balance retrieved successfully",
        timestamp: now,
        data: account.available(now),
        balance: BalanceView::new(&account, now),
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
