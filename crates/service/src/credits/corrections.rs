//! Routes by which operators correct an account: adjust it, void a grant, let it owe.

use super::api::{note, transact};
use super::context::Basis;
use super::ledger::{Adjust, LedgerCommand, Void};
use super::model::CREDIT_LIMIT_MAX;
use crate::app::App;
use crate::audit;
use crate::auth::grants::CanGrant;
use crate::http::envelope::bytes as to_bytes;
use crate::http::{ApiError, Envelope, Input};
use crate::users::api::{UserPath, answered, refused, same_user};
use crate::writer::{Command, Done};
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use kernel::{Charge, Credits, GrantId, JsonObject, RecordId, Signed, Text, TransactionId, UserKey};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A correction of the balance.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AdjustRequest {
    /// By how much: credits given when above zero, taken when below.
    amount: Signed,
    /// The transaction that is corrected.
    transaction_id: Option<TransactionId>,
    /// The usage record that it is about; it need not exist, but must not be another user's.
    usage_record_id: Option<RecordId>,
    /// Why.
    description: Option<Text<0, 1000>>,
    /// Anything else.
    metadata: Option<JsonObject>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// Correct the balance
///
/// Above zero: a grant that never expires. Below zero: taken in the order of spending, and refused
/// where the account does not have it. Linked to the transaction that is corrected, where one is named.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/adjust", tag = "Credits", operation_id = "adjust_credits",
    params(UserPath), security(("bearer" = []), ("service_key" = ["credits:grant"])),
    request_body(content = AdjustRequest, example = json!({"amount": -2.5, "description": "counted twice"})),
    responses((status = 200, body = Envelope<super::view::TransactionView>, description = "The transaction")),
)]
pub async fn adjust_credits(
    State(app): State<Arc<App>>,
    on: CanGrant,
    Input { value, once }: Input<AdjustRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let command = LedgerCommand::Adjust(Adjust {
        amount: value.amount.credits(),
        original: value.transaction_id,
        usage_record_id: value.usage_record_id.map(RecordId::get),
        basis: Basis::default(),
        note: note(&on.caller, &once, value.description, value.metadata),
    });
    let message = |amount: &Credits| format!("Successfully adjusted by {amount} credits");
    transact(&app, on.user, &on.caller, once, command, message).await
}

/// The grant that a path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described: the handler reads the path")]
pub struct GrantPath {
    /// The grant's id.
    #[param(
        pattern = "^grt_[1-9][0-9]{0,18}_[1-9][0-9]{0,18}$",
        min_length = 7,
        max_length = 43,
        example = "grt_112_7"
    )]
    grant_id: String,
}

/// Why a grant is taken back.
#[derive(Debug, Deserialize, ToSchema)]
pub struct VoidRequest {
    /// Why.
    description: Option<Text<0, 1000>>,
    /// Anything else.
    metadata: Option<JsonObject>,
}

/// Take back what is left of a grant
///
/// What was spent of it stays spent. 409 where nothing is left, and where an open hold has set some
/// of it aside: settle the hold first.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/credits/grants/{grant_id}/void", tag = "Credits", operation_id = "void_grant",
    params(UserPath, GrantPath), security(("bearer" = []), ("service_key" = ["credits:grant"])),
    request_body(content = Option<VoidRequest>, example = json!({"description": "the payment was charged back"})),
    responses((status = 200, body = Envelope<super::view::TransactionView>, description = "The transaction: a `reversal`")),
)]
pub async fn void_grant(
    State(app): State<Arc<App>>,
    on: CanGrant,
    Path(path): Path<Vec<(String, String)>>,
    Input { value, once }: Input<VoidRequest>,
) -> Result<Response, ApiError> {
    let text = path.iter().find(|(name, _)| name == "grant_id").map_or("", |(_, value)| value);
    let id: GrantId =
        text.parse().map_err(|rule| ApiError::invalid(["path", "grant_id"], format!("{rule}")))?;
    if id.user != on.user.row {
        return Err(super::Rejection::UnknownGrant.into());
    }
    let note = note(&on.caller, &once, value.description, value.metadata);
    let command = LedgerCommand::Void(Void { grant: id.seq, note });
    let message = |amount: &Credits| format!("Successfully voided {amount} credits");
    transact(&app, on.user, &on.caller, once, command, message).await
}

/// How far an account may go below zero.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreditLimitRequest {
    /// How many credits it may owe: 0 to 100000000000.
    #[schema(value_type = f64, minimum = 0, maximum = 100_000_000_000_i64)]
    credit_limit: Charge,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// The credit limit of an account.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreditLimitView {
    /// How many credits it may owe.
    credit_limit: Credits,
    /// How many it owes now.
    owed: Credits,
    /// What can be spent now.
    available: Credits,
}

/// Let an account owe
///
/// For customers who pay afterwards. With a limit the balance may fall below zero by as much; what is
/// owed is paid back first by whatever is given next without a scope. 0, the default, is strictly prepaid. Lowering the limit takes nothing away: an account that
/// owes more can spend nothing but scoped credits beyond its debt until it has paid.
#[utoipa::path(
    put, path = "/api/v1/users/{user_id}/credits/limit", tag = "Credits", operation_id = "set_credit_limit",
    params(UserPath), security(("bearer" = []), ("service_key" = ["credits:grant"])),
    request_body(content = CreditLimitRequest, example = json!({"credit_limit": 5000})),
    responses((status = 200, body = Envelope<CreditLimitView>, description = "The limit")),
)]
pub async fn set_credit_limit(
    State(app): State<Arc<App>>,
    on: CanGrant,
    Input { value, once }: Input<CreditLimitRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let limit = value.credit_limit.credits();
    if limit > CREDIT_LIMIT_MAX {
        let rule = format!("must be at most {CREDIT_LIMIT_MAX}");
        return Err(ApiError::invalid(["body", "credit_limit"], rule));
    }
    audit::note("credit_limit", serde_json::json!(limit));
    let clock = app.clock.clone();
    let respond = move |done: &Done| match done {
        Done::Account(account) => {
            let now = clock.now();
            let view = CreditLimitView {
                credit_limit: account.credit_limit,
                owed: Credits::from_micro(account.owed()),
                available: account.available(now),
            };
            to_bytes(&Envelope::new("Credit limit set", now, view))
        }
        _ => Bytes::new(),
    };
    let ticket = once.ticket(on.caller.principal.caller());
    let command = Command::Ledger(on.user.row, LedgerCommand::SetCreditLimit(limit));
    let answer = app.writer.submit(command, ticket, respond).await;
    Ok(answered(answer.map_err(|error| refused(error, &on.user.auth0_id))?))
}
