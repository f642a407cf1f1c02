//! `POST …/charges`: record, price and pay in one transaction. The batch is in [`super::batch`].

use super::request::{ChargeRequest, Sent};
use super::view::ChargeView;
use crate::app::App;
use crate::auth::grants::CanCharge;
use crate::credits::ledger::Note;
use crate::http::envelope::bytes as to_bytes;
use crate::http::{ApiError, Envelope, Input};
use crate::prices::Terms;
use crate::users::api::{UserPath, answered, same_user};
use crate::users::store;
use crate::writer::{Command, Done};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use kernel::ExternalId;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The terms on which a user's usage is priced: those of its plan.
///
/// # Errors
/// 503 when the database is down.
pub async fn terms(app: &App, user: &ExternalId) -> Result<Terms, ApiError> {
    // Where every plan pays the same, nobody's plan need be read.
    if let Some(terms) = app.config.prices.terms_of_all() {
        return Ok(terms);
    }
    let plan = store::find(&app.db, user).await?.map(|user| user.plan);
    Ok(app.config.prices.terms(plan.as_deref().unwrap_or_default()))
}

/// Charge for usage
///
/// One call instead of two: the usage record, its price by the price book (or the `credits` that are
/// named), the check of balance and spending limits, and the debit are one transaction. Not enough: 402
/// and nothing is written, or with `"on_insufficient": "record"` the record is kept as `unpaid`. With an
/// `event_id` it is charged once for ever; the same again answers with what became of it.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/charges", tag = "Charges", operation_id = "create_charge",
    params(UserPath), security(("bearer" = []), ("service_key" = ["usage:write", "credits:spend"])),
    request_body(content = ChargeRequest, examples(
        ("priced" = (value = json!({
            "event_type": "ai_chat", "model_name": "gpt-4", "provider": "openai", "event_id": "evt_77",
            "usage": {"prompt_tokens": 800, "completion_tokens": 450, "total_tokens": 1250}}))),
        ("named" = (value = json!({"event_type": "image", "credits": 12.5, "tags": ["team-a"]}))))),
    responses((status = 200, body = Envelope<ChargeView>, description = "The record, the transaction and the price", links(
        ("explain" = (operation_id = "explain_transaction", parameters(("user_id" = "$response.body#/data/usage/user_id"), ("transaction_id" = "$response.body#/data/transaction/transaction_id")))),
        ("balance" = (operation_id = "get_balance", parameters(("user_id" = "$response.body#/data/usage/user_id")))),
    ))),
)]
pub async fn create_charge(
    State(app): State<Arc<App>>,
    on: CanCharge,
    Input { value, once }: Input<Box<RawValue>>,
) -> Result<Response, ApiError> {
    on.caller.may_spend_of(&app, on.user.row)?;
    let sent = Sent::read(&value)?;
    same_user(&on.user.auth0_id, on.user.row, sent.user(), "user_id")?;
    let terms = terms(&app, &on.user.auth0_id).await?;
    let note = Note { origin: on.caller.origin(&once), ..Note::default() };
    let charge = sent.into_charge(&app, &on.caller, on.user.clone(), &terms, note)?;
    let (clock, auth0_id) = (app.clock.clone(), on.user.auth0_id.clone());
    let respond = move |done: &Done| match done {
        Done::Charged(charged) => {
            let view = ChargeView::new(charged, &auth0_id);
            to_bytes(&Envelope::new(view.message(), clock.now(), view))
        }
        _ => Bytes::new(),
    };
    let ticket = once.ticket(on.caller.principal.caller());
    let answer = app.writer.submit(Command::Charge(Box::new(charge)), ticket, respond).await;
    Ok(answered(answer.map_err(|error| app.payment_required(error, &on.user.auth0_id))?))
}
