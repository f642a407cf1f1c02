//! Routes of credits: consume, recharge, refund, balance, transactions.

use super::context::{Basis, Context};
use super::holds_api::{given, tags};
use super::ledger::{Consume, Issue, LedgerCommand, Measure, Note, Refund, settle};
use super::model::{EntryKind, Source};
use super::store::{self, TransactionFilter};
use super::view::{BalanceAnswer, BalanceView, ConsumeAnswer, TransactionView};
use crate::app::App;
use crate::auth::grants::{Caller, CanGrant, CanReadBalance, CanReadCredits, CanRecharge, CanSpend, UserRef};
use crate::charges::canonical;
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
    on.caller.may_spend_of(&app, on.user.row)?;
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
    Ok(answered(answer.map_err(|error| app.payment_refused(error, &named))?))
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
