//! Routes of messages: add one or many, list, change.

use super::api::{SessionPath, edit, gone};
use super::edits::{self, MessagePatch};
use super::model::{Append, MessageFacts, NewMessage, Role, SessionRef, StoredMessage};
use super::{store, words};
use crate::app::App;
use crate::auth::grants::{CanAppend, CanReadSession, CanWriteSession};
use crate::config::Contents;
use crate::http::envelope::bytes as to_bytes;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, BatchInput, Envelope, Input, Query, facts, json};
use crate::users::api::answered;
use crate::writer::{Command, Done};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use kernel::{Content, Cost, Count, ExternalId, Flag, JsonArray, JsonObject, Score, Text, Timestamp, Usd};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many rows the list has when the request does not say.
pub const LIMIT_DEFAULT: i64 = 100;
/// The most messages that are added at once.
const APPENDED_MAX: usize = 1_000;
/// The most that they may say together, in bytes: every word is indexed in their one transaction, and
/// others wait for it.
const APPENDED_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Something that was said.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MessageRequest {
    /// `user`, `assistant`, `system` or `tool`.
    role: Role,
    /// What is said; only a message with `tool_calls` may leave it out.
    content: Option<Content>,
    /// What kind of message; `chat` when absent.
    message_type: Option<Text<1, 50>>,
    /// Its tokens.
    tokens_used: Option<Count>,
    /// What it cost.
    cost_usd: Option<Cost>,
    /// The tools that the model calls.
    tool_calls: Option<JsonArray>,
    /// The call that a tool answers.
    tool_call_id: Option<Text<1, 255>>,
    /// Anything.
    metadata: Option<JsonObject>,
    /// `metadata` under its other name.
    message_metadata: Option<JsonObject>,
    /// Whether a summary may take it in; yes when absent.
    is_summary_candidate: Option<Flag>,
    /// How important it is; 0.5 when absent.
    importance_score: Option<Score>,
}

impl MessageRequest {
    /// The message that it asks for, with as much of its contents as is kept.
    fn into_new(self, session: &SessionRef, contents: Contents) -> Result<NewMessage, ApiError> {
        let content = match (self.content, &self.tool_calls) {
            (Some(content), _) => contents.of(content.into_string()),
            (None, Some(_)) => String::new(),
            (None, None) => return Err(ApiError::missing(["body", "content"])),
        };
        Ok(NewMessage {
            message_id: facts::fresh_id(),
            words: words::of_text(session.user, &content).into(),
            facts: Arc::new(MessageFacts {
                message_type: self.message_type.map_or_else(|| "chat".to_owned(), Text::into_string),
                role: self.role,
                content,
                content_stored: contents.are_stored(),
                tool_calls: contents.of(self.tool_calls),
                tool_call_id: self.tool_call_id.map(Text::into_string),
                metadata: self.metadata.or(self.message_metadata).unwrap_or_default(),
                tokens_used: self.tokens_used.unwrap_or_default().get().into(),
                cost_usd: self.cost_usd.unwrap_or_default().nano(),
                is_summary_candidate: self.is_summary_candidate.is_none_or(|flag| flag.0),
                importance_score: self.importance_score.unwrap_or(Score::HALF),
            }),
        })
    }
}

/// A message.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessageView {
    /// The public id, a UUID.
    #[schema(max_length = 36, value_type = String)]
    id: Arc<str>,
    /// In which session.
    #[schema(max_length = 36, value_type = String)]
    session_id: Arc<str>,
    /// Whose it is.
    user_id: ExternalId,
    /// What kind of message.
    #[schema(max_length = 50)]
    message_type: String,
    /// Who says it.
    role: Role,
    /// What is said.
    #[schema(max_length = 262_144)]
    content: String,
    /// False where `content` and `tool_calls` were not stored (`STORE_CONTENT`), and absent where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_stored: Option<bool>,
    /// The tools that the model calls.
    tool_calls: Option<JsonArray>,
    /// The call that a tool answers.
    #[schema(max_length = 255)]
    tool_call_id: Option<String>,
    /// Anything.
    message_metadata: JsonObject,
    /// Its tokens.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    tokens_used: i64,
    /// What it cost.
    cost_usd: Usd,
    /// Whether a summary may take it in.
    is_summary_candidate: bool,
    /// How important it is.
    importance_score: Score,
    /// When it was added.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
}

impl MessageView {
    fn new(
        ids: (Arc<str>, Arc<str>),
        user_id: &ExternalId,
        times: (Timestamp, Timestamp),
        facts: Arc<MessageFacts>,
    ) -> Self {
        let facts = Arc::unwrap_or_clone(facts);
        Self {
            id: ids.0,
            session_id: ids.1,
            user_id: user_id.clone(),
            message_type: facts.message_type,
            role: facts.role,
            content: facts.content,
            content_stored: (!facts.content_stored).then_some(false),
            tool_calls: facts.tool_calls,
            tool_call_id: facts.tool_call_id,
            message_metadata: facts.metadata,
            tokens_used: facts.tokens_used,
            cost_usd: Usd::from_nano(facts.cost_usd.into()),
            is_summary_candidate: facts.is_summary_candidate,
            importance_score: facts.importance_score,
            created_at: times.0,
            updated_at: times.1,
        }
    }

    /// A message as it is kept.
    #[must_use]
    pub fn of_stored(message: StoredMessage, user_id: &ExternalId) -> Self {
        let times = (message.created_at, message.updated_at);
        Self::new((message.message_id, message.session_id), user_id, times, message.facts)
    }
}

/// Add a message
///
/// In the query or as JSON. The session's totals and `expires_at` move in the same transaction.
#[utoipa::path(
    post, path = "/api/v1/sessions/{session_id}/messages", tag = "Sessions", operation_id = "add_message",
    params(SessionPath), security(("bearer" = []), ("service_key" = ["sessions:write"])),
    request_body(content = MessageRequest, example = json!({
        "role": "user", "content": "Hello", "message_type": "chat", "tokens_used": 5, "cost_usd": 0.001})),
    responses((status = 200, body = Envelope<MessageView>, description = "The message", links(
        ("session" = (operation_id = "get_session", parameters(("session_id" = "$response.body#/data/session_id")))),
        ("change" = (operation_id = "update_message", parameters(
            ("session_id" = "$response.body#/data/session_id"), ("message_id" = "$response.body#/data/id")))),
    ))),
)]
pub async fn add_message(
    State(app): State<Arc<App>>,
    on: CanAppend,
    Input { value, once }: Input<MessageRequest>,
) -> Result<Response, ApiError> {
    let new = value.into_new(&on.session, app.config.contents)?;
    let clock = app.clock.clone();
    let respond = move |done: &Done| match done {
        Done::Messages(added) => added.first().map_or_else(Bytes::new, |message| {
            let (session, at) = (&message.session, message.created_at);
            let ids = (Arc::clone(&message.new.message_id), Arc::clone(&session.session_id));
            let view = MessageView::new(ids, &session.auth0_id, (at, at), Arc::clone(&message.new.facts));
            to_bytes(&Envelope::new("Message added to session", clock.now(), view))
        }),
        _ => Bytes::new(),
    };
    let command = Command::Append(Append { session: on.session.clone(), messages: vec![new] });
    let answer = app.writer.submit(command, once.ticket(on.caller.principal.caller()), respond).await;
    Ok(answered(gone(answer, &on.session)?))
}

/// Messages to add, all or none.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AppendRequest {
    /// 1 to 1000 messages, in order.
    #[schema(min_items = 1, max_items = 1000)]
    messages: Vec<MessageRequest>,
}

/// What was added.
#[derive(Debug, Serialize, ToSchema)]
pub struct Appended {
    /// How many.
    #[schema(minimum = 1, maximum = 1000)]
    added: usize,
    /// Their ids, in order.
    #[schema(min_items = 1, max_items = 1000, value_type = Vec<String>, max_length = 36)]
    message_ids: Vec<Arc<str>>,
}

/// Add many messages
///
/// 1 to 1000 in one transaction, all or none, in the order given; together at most 4 MiB of content.
#[utoipa::path(
    post, path = "/api/v1/sessions/{session_id}/messages/batch", tag = "Sessions", operation_id = "add_messages",
    params(SessionPath), security(("bearer" = []), ("service_key" = ["sessions:write"])),
    request_body(content = AppendRequest, example = json!({"messages": [
        {"role": "user", "content": "What is the tallest mountain?", "tokens_used": 7},
        {"role": "assistant", "content": "Mount Everest, 8849 m.", "tokens_used": 12, "cost_usd": 0.00024}]})),
    responses((status = 200, body = Envelope<Appended>, description = "The messages' ids")),
)]
pub async fn add_messages(
    State(app): State<Arc<App>>,
    on: CanAppend,
    BatchInput(Input { value, once }): BatchInput<AppendRequest>,
) -> Result<Response, ApiError> {
    if !(1..=APPENDED_MAX).contains(&value.messages.len()) {
        return Err(ApiError::invalid(["body", "messages"], format!("must be 1 to {APPENDED_MAX} messages")));
    }
    let said =
        |message: &MessageRequest| message.content.as_ref().map_or(0, |content| content.as_str().len());
    if value.messages.iter().map(said).sum::<usize>() > APPENDED_MAX_BYTES {
        let rule = format!("must together have at most {APPENDED_MAX_BYTES} bytes of content");
        return Err(ApiError::invalid(["body", "messages"], rule));
    }
    let messages = value.messages.into_iter().enumerate().map(|(place, request)| {
        request
            .into_new(&on.session, app.config.contents)
            .map_err(|error| error.within(&["messages", &place.to_string()]))
    });
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let clock = app.clock.clone();
    let respond = move |done: &Done| match done {
        Done::Messages(added) => {
            let ids = added.iter().map(|message| Arc::clone(&message.new.message_id));
            let view = Appended { added: added.len(), message_ids: ids.collect() };
            to_bytes(&Envelope::new(format!("Added {} messages to session", added.len()), clock.now(), view))
        }
        _ => Bytes::new(),
    };
    let command = Command::Append(Append { session: on.session.clone(), messages });
    let answer = app.writer.submit(command, once.ticket(on.caller.principal.caller()), respond).await;
    Ok(answered(gone(answer, &on.session)?))
}

/// In which order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

/// Which messages are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MessagesQuery {
    /// `asc` (oldest first, the default) or `desc`.
    #[param(inline, example = "asc")]
    order: Option<Order>,
}

/// List messages
///
/// Oldest first, in the order in which they were added; with `order=desc` the last ones come first.
/// A page ends before its limit where its rows pass 4 MiB.
#[utoipa::path(
    get, path = "/api/v1/sessions/{session_id}/messages", tag = "Sessions", operation_id = "list_messages",
    params(SessionPath, MessagesQuery, PageQuery), security(("bearer" = []), ("service_key" = ["sessions:read"])),
    responses((status = 200, body = Envelope<Vec<MessageView>>, description = "The messages")),
)]
pub async fn list_messages(
    State(app): State<Arc<App>>,
    on: CanReadSession,
    Query(query): Query<MessagesQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let wanted = page.stretch(LIMIT_DEFAULT);
    let found = match query.order.unwrap_or_default() {
        Order::Asc => store::messages(&app.db, on.session.row, wanted).await?,
        Order::Desc => store::latest_messages(&app.db, on.session.row, wanted).await?,
    };
    let pagination = page.of(&found, LIMIT_DEFAULT, |message| (message.seq, message.id));
    let user_id = &on.session.auth0_id;
    let rows: Vec<_> =
        found.rows.into_iter().map(|message| MessageView::of_stored(message, user_id)).collect();
    let message = format!("Retrieved {} messages", rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), rows).paged(pagination)))
}

/// The message that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct MessagePath {
    /// The message's id.
    #[param(min_length = 1, max_length = 255, example = "ad941213-9d10-4be0-9052-5665fd5fa033")]
    message_id: String,
}

/// What to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PatchMessageRequest {
    /// Whether a summary may take it in.
    is_summary_candidate: Option<Flag>,
    /// How important it is.
    importance_score: Option<Score>,
    /// The new data, whole.
    metadata: Option<JsonObject>,
    /// `metadata` under its other name.
    message_metadata: Option<JsonObject>,
}

/// Rate a message
///
/// What was said never changes; what is thought of it may.
#[utoipa::path(
    patch, path = "/api/v1/sessions/{session_id}/messages/{message_id}", tag = "Sessions",
    operation_id = "update_message", params(SessionPath, MessagePath),
    security(("bearer" = []), ("service_key" = ["sessions:write"])),
    request_body(content = PatchMessageRequest, example = json!({"is_summary_candidate": false, "importance_score": 0.9})),
    responses((status = 200, body = Envelope<MessageView>, description = "The changed message")),
)]
pub async fn update_message(
    State(app): State<Arc<App>>,
    on: CanWriteSession,
    axum::extract::Path(path): axum::extract::Path<MessagePath>,
    Input { value, once }: Input<PatchMessageRequest>,
) -> Result<Response, ApiError> {
    let patch = MessagePatch {
        is_summary_candidate: value.is_summary_candidate.map(|flag| flag.0),
        importance_score: value.importance_score,
        metadata: value.metadata.or(value.message_metadata),
    };
    let found = store::message(&app.db, on.session.row, &path.message_id).await?;
    let found =
        found.ok_or_else(|| ApiError::not_found(format!("Message not found: {}", path.message_id)))?;
    let now = app.clock.now();
    let mut view = MessageView::of_stored(found, &on.session.auth0_id);
    view.is_summary_candidate = patch.is_summary_candidate.unwrap_or(view.is_summary_candidate);
    view.importance_score = patch.importance_score.unwrap_or(view.importance_score);
    view.message_metadata = patch.metadata.clone().unwrap_or(view.message_metadata);
    view.updated_at = now;
    let change = edits::update_message((&on.session).into(), &view.id, &patch, now);
    edit(&app, &on, once, change, "Message updated successfully".to_owned(), Arc::new(view)).await
}
