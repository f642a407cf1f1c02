//! The route that finds messages by their words.

use super::messages::MessageView;
use super::store;
use super::words::Question;
use crate::app::App;
use crate::auth::grants::CanReadSessions;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Query, json};
use crate::users::api::UserPath;
use axum::extract::State;
use axum::response::Response;
use kernel::Text;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// How many rows the list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;

/// What is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// Words that must all be found, `"phrases in quotes"`; at most 32 words. Case does not
    /// matter. Chinese, Japanese and Thai need no spaces.
    #[param(value_type = String, min_length = 1, max_length = 200, pattern = "[A-Za-z0-9\\u0080-\\uffff]", example = "mountain")]
    q: Text<1, 200>,
    /// Of this session only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 255)]
    session_id: Option<Text<1, 255>>,
}

/// Search one's messages
///
/// Newest first, over all sessions that are not deleted. The first 16 000 words of a message can be
/// found. A page ends before its limit where its rows pass 4 MiB.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/messages/search", tag = "Sessions", operation_id = "search_messages",
    params(UserPath, SearchQuery, PageQuery), security(("bearer" = []), ("service_key" = ["sessions:read"])),
    responses((status = 200, body = Envelope<Vec<MessageView>>, description = "The messages")),
)]
pub async fn search_messages(
    State(app): State<Arc<App>>,
    on: CanReadSessions,
    Query(query): Query<SearchQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let question =
        Question::parse(query.q.as_str()).map_err(|rule| ApiError::invalid(["query", "q"], rule))?;
    let session = match &query.session_id {
        None => None,
        Some(id) => {
            let session = store::find_ref(&app, id.as_str(), false).await?;
            let own = session.filter(|session| session.user == on.user.row);
            Some(own.ok_or_else(|| super::api::not_found(id.as_str()))?.row)
        }
    };
    let wanted = page.stretch(LIMIT_DEFAULT);
    let found = store::search(&app.db, on.user.row, &question, session, wanted).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |message| (message.created_at.micros(), message.id));
    let user_id = &on.user.auth0_id;
    let rows: Vec<_> =
        found.rows.into_iter().map(|message| MessageView::of_stored(message, user_id)).collect();
    let message = format!("Found {} messages", rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), rows).paged(pagination)))
}
