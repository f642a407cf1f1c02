//! Idempotency keys of requests that are more than one command: the answer is kept when all is done.
//!
//! Each part of such a request is once by itself, so one that broke off half-way is simply sent again.

use crate::app::App;
use crate::http::ApiError;
use crate::users::api::answered;
use crate::writer::{Command, Done, Edit, Ticket};
use axum::response::Response;
use bytes::Bytes;
use kernel::UserRowId;

/// Whether a request's idempotency key was used before, so that nothing is to be done anew.
///
/// # Errors
/// 503 when the database is down.
pub async fn key_is_used(app: &App, ticket: &Ticket) -> Result<bool, ApiError> {
    let Some(key) = &ticket.key else { return Ok(false) };
    let sql = "SELECT CAST(1 AS BIGINT) FROM idempotency_keys WHERE caller = $1 AND key = $2";
    let values = [key.caller.as_str().into(), key.key.as_str().into()];
    Ok(app.db.find::<i64>(sql, &values).await?.is_some())
}

/// Gives the answer that is kept under a request's key, or refuses it to another request.
///
/// # Errors
/// 422 where the key is another request's, 503 when the database is down.
pub async fn replayed(app: &App, ticket: Ticket) -> Result<Response, ApiError> {
    keep(app, ticket, Bytes::new()).await
}

/// Keeps an answer under a request's key, unless one is kept there already.
///
/// # Errors
/// 422 where the key is another request's, 503 when the database is down.
pub async fn keep(app: &App, ticket: Ticket, body: Bytes) -> Result<Response, ApiError> {
    let nothing = Command::Edit(Edit::new(UserRowId(0), Vec::new()));
    Ok(answered(app.writer.submit(nothing, ticket, move |_: &Done| body.clone()).await?))
}
