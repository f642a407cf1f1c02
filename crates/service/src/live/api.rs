//! Routes of the live tail.

use super::hub::{Full, OPEN_MAX, OPEN_PER_USER_MAX, Topic};
use super::session::Messages;
use super::user::{Activity, Cursor, number};
use super::{store, stream};
use crate::app::App;
use crate::auth::grants::{CanReadSession, CanWatchUser};
use crate::http::{ApiError, Query};
use crate::sessions::api::{SessionPath, not_found};
use crate::users::api::UserPath;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Where to go on, for clients that cannot set a header.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ResumeQuery {
    /// The same as the header `Last-Event-ID`, which wins.
    #[param(min_length = 1, max_length = 39, pattern = "^[0-9]{1,19}(-[0-9]{1,19})?$")]
    last_event_id: Option<String>,
}

impl ResumeQuery {
    /// The event after which to go on. The header wins: a client that comes back by itself sends it
    /// beside the address that it was first given.
    fn read<T>(
        self,
        headers: &HeaderMap,
        parse: impl Fn(&str) -> Option<T>,
        rule: &str,
    ) -> Result<Option<T>, ApiError> {
        let (place, text) = match (headers.get("last-event-id"), self.last_event_id) {
            (Some(header), _) => {
                (["header", "Last-Event-ID"], header.to_str().unwrap_or_default().to_owned())
            }
            (None, Some(text)) => (["query", "last_event_id"], text),
            (None, None) => return Ok(None),
        };
        parse(&text).map(Some).ok_or_else(|| ApiError::invalid(place, rule))
    }
}

fn full(full: Full) -> ApiError {
    let (status, code, message) = match full {
        Full::User => (
            StatusCode::TOO_MANY_REQUESTS,
            "RateLimitExceededException",
            format!(
                "At most {OPEN_PER_USER_MAX} event streams of one user may be open; close one and try again"
            ),
        ),
        Full::Process => (
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            format!("All {OPEN_MAX} event streams are taken; try again"),
        ),
        Full::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "The service is stopping".to_owned())
        }
    };
    let inside = (full != Full::User).then(|| format!("no stream was opened: {full:?}"));
    ApiError { retry_after: Some(5), inside, ..ApiError::new(status, code, message) }
}

/// Watch a session
///
/// Server-sent events, one `message` per message, in their order and each once; `data` is the message as the list
/// has it, `id` its number. Without `Last-Event-ID` the stream begins with the next message; with it, with all those
/// after that number. `deleted` says that the session is gone, and ends the stream. A comment comes every 15 s. After
/// 15 minutes the stream ends by itself: come back with the last id.
#[utoipa::path(
    get, path = "/api/v1/sessions/{session_id}/events", tag = "Sessions", operation_id = "watch_session",
    params(SessionPath, ResumeQuery, ("Last-Event-ID" = Option<String>, Header, min_length = 1, max_length = 19,
        pattern = "^[0-9]{1,19}$", description = "The id of the last event that arrived: what came after it is sent first.")),
    security(("bearer" = []), ("service_key" = ["sessions:read"])),
    responses((status = 200, content_type = "text/event-stream", body = String, description = "The events",
        example = json!("retry: 2000\nid: 41\n\nid: 42\nevent: message\ndata: {\"id\":\"ad941213-9d10-4be0-9052-5665fd5fa033\",\
            \"session_id\":\"4da97cfa-b95f-4898-8b7d-2786ff703ce0\",\"user_id\":\"auth0|test123\",\"message_type\":\"chat\",\
            \"role\":\"user\",\"content\":\"Hello\",\"tool_calls\":null,\"tool_call_id\":null,\"message_metadata\":{},\
            \"tokens_used\":5,\"cost_usd\":0.001,\"is_summary_candidate\":true,\"importance_score\":0.5,\
            \"created_at\":\"2025-07-27T00:11:26.479685Z\",\"updated_at\":\"2025-07-27T00:11:26.479685Z\"}\n\n: heartbeat\n\n\
            event: deleted\ndata: {\"session_id\":\"4da97cfa-b95f-4898-8b7d-2786ff703ce0\"}\n\n"))),
)]
pub async fn watch_session(
    State(app): State<Arc<App>>,
    on: CanReadSession,
    headers: HeaderMap,
    Query(query): Query<ResumeQuery>,
) -> Result<Response, ApiError> {
    let resumed =
        query.read(&headers, number, "must be the id of an event of this stream: a whole number")?;
    let session = on.session;
    let topics = vec![Topic::Session(session.row), Topic::Edits(session.user)];
    // Before anything is read: what is written from now on rings.
    let watch = app.live.watch(session.user, topics).map_err(full)?.until(on.caller.revoked(&app, &headers));
    let last = store::last_message(&app.db, session.row).await?;
    let last = last.ok_or_else(|| not_found(&session.session_id))?;
    // An id that was never given is of another stream; after it nothing would ever come.
    let seq = resumed.map_or(last, |seq| seq.min(last));
    Ok(stream::answer(watch, Messages { app, session, seq }, Some(&seq)))
}

/// Watch a user's balance and usage
///
/// Server-sent events. At first how things stand: one `balance` and one `usage`. Then one `balance` per transaction, in
/// their order and each once (`available` stands in the latest one only: what can be spent now; `balance` is what is in
/// the account after it, held and not yet effective credits included), and `usage`, the sums over all time, whenever the
/// number of records has moved. With `Last-Event-ID` every transaction after it comes first, and `usage` if it has moved
/// since. `deleted` says that the user is gone, and ends the stream. A comment comes every 15 s. After 15 minutes the
/// stream ends by itself: come back with the last id.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/events", tag = "Users", operation_id = "watch_user",
    params(UserPath, ResumeQuery, ("Last-Event-ID" = Option<String>, Header, min_length = 3, max_length = 39,
        pattern = "^[0-9]{1,19}-[0-9]{1,19}$",
        description = "The id of the last event that arrived: what came after it is sent first.")),
    security(("bearer" = []), ("service_key" = ["credits:read", "usage:read"])),
    responses((status = 200, content_type = "text/event-stream", body = String, description = "The events",
        example = json!("retry: 2000\n\nevent: balance\ndata: {\"user_id\":\"auth0|test123\",\"available\":1000,\"balance\":1000}\n\n\
            id: 1-149\nevent: usage\ndata: {\"user_id\":\"auth0|test123\",\"total_records\":149,\"total_credits_charged\":745,\
            \"total_cost_usd\":14.999,\"total_tokens_used\":223750}\n\nid: 2-149\nevent: balance\n\
            data: {\"user_id\":\"auth0|test123\",\"available\":974.5,\"balance\":974.5,\"transaction_id\":\"txn_112_2\",\
            \"transaction_type\":\"consume\",\"amount\":25.5,\"balance_after\":974.5,\
            \"created_at\":\"2025-07-27T00:11:26.479685Z\"}\n\nid: 2-150\nevent: usage\n\
            data: {\"user_id\":\"auth0|test123\",\"total_records\":150,\"total_credits_charged\":750.5,\
            \"total_cost_usd\":15.01,\"total_tokens_used\":225000}\n\n: heartbeat\n\n"))),
)]
pub async fn watch_user(
    State(app): State<Arc<App>>,
    on: CanWatchUser,
    headers: HeaderMap,
    Query(query): Query<ResumeQuery>,
) -> Result<Response, ApiError> {
    let rule = "must be the id of an event of this stream: two whole numbers with a hyphen between them";
    let resumed = query.read(&headers, |text| text.parse::<Cursor>().ok(), rule)?;
    let user = on.user;
    // Before anything is read: what is written from now on rings.
    let watch = app.live.watch(user.row, vec![Topic::User(user.row)]).map_err(full)?;
    let watch = watch.until(on.caller.revoked(&app, &headers));
    let account = app.balances.account(user.row).await?;
    let account = account.ok_or_else(|| ApiError::user_not_found(user.auth0_id.as_str()))?;
    // An id that was never given is of another stream; after it nothing would ever come.
    let cursor = resumed.map(|cursor| Cursor { seq: cursor.seq.min(account.seq), ..cursor });
    let id = cursor.as_ref().map(|cursor| cursor as &dyn std::fmt::Display);
    Ok(stream::answer(watch, Activity::new(app, user, cursor), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_says_so_and_when_to_come_back() {
        let told = |which| {
            let error = full(which);
            (error.status.as_u16(), error.code, error.retry_after)
        };
        assert_eq!(told(Full::User), (429, "RateLimitExceededException", Some(5)));
        assert_eq!(told(Full::Process), (503, "ServiceUnavailable", Some(5)));
        assert_eq!(told(Full::Stopping), (503, "ServiceUnavailable", Some(5)));
    }
}
