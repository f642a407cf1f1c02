//! Routes of sessions: make, list, read, change, delete.

use super::edits::{self, SessionPatch};
use super::model::{Session, SessionRef, Status};
use super::store::{self, Ownership, Stretch};
use super::telling;
use crate::app::App;
use crate::auth::grants::{
    CanCreateSession, CanReadSession, CanReadSessions, CanWriteSession, OnSession, ReadUsage,
};
use crate::db::DbError;
use crate::http::envelope::bytes as to_bytes;
use crate::http::input::Once;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, Query, facts, json};
use crate::usage::api as usage;
use crate::users::api::{UserPath, answered, refused, same_user};
use crate::webhooks::bodies::{FRESH, SessionEvent};
use crate::webhooks::{Event, EventType};
use crate::writer::{Answer, Command, Done, Edit, WriteError};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use kernel::{Content, ExternalId, Flag, JsonObject, Text, Timestamp, Usd, UserKey, WideSum};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many rows the list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;

/// The session that a path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described: the permission extractors read the path")]
pub struct SessionPath {
    /// The session's id, as `POST …/sessions` gave it.
    #[param(min_length = 1, max_length = 255, example = "4da97cfa-b95f-4898-8b7d-2786ff703ce0")]
    session_id: String,
}

/// 404 for a session, as the caller named it.
#[must_use]
pub fn not_found(session_id: &str) -> ApiError {
    let message = format!("Session not found: {session_id}");
    ApiError::new(StatusCode::NOT_FOUND, "SessionNotFoundException", message)
        .detail("session_id", session_id.into())
}

impl Page {
    /// The stretch of a list that this page wants.
    #[must_use]
    pub fn stretch(&self, default: i64) -> Stretch {
        Stretch { after: self.after, offset: self.offset, limit: self.limit(default) }
    }
}

impl From<&SessionRef> for Ownership {
    fn from(session: &SessionRef) -> Self {
        Self { session: session.row, user: session.user }
    }
}

/// A new session; everything may be left out.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateSessionRequest {
    /// If there, the user of the path.
    user_id: Option<UserKey>,
    /// What people call it.
    title: Option<Text<0, 500>>,
    /// Anything about the conversation.
    conversation_data: Option<JsonObject>,
    /// Anything.
    metadata: Option<JsonObject>,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// The integer id.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: i64,
    /// The public id, a UUID.
    #[schema(max_length = 36, value_type = String)]
    session_id: Arc<str>,
    /// Whose it is.
    user_id: ExternalId,
    /// What people call it.
    #[schema(max_length = 500)]
    title: Option<String>,
    /// Anything about the conversation.
    conversation_data: JsonObject,
    /// Its state.
    status: Status,
    /// Anything.
    metadata: JsonObject,
    /// Whether its state is `active`.
    is_active: bool,
    /// How many messages it ever got, also those that went with time (`RETENTION_MESSAGES_DAYS`).
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    message_count: i64,
    /// Their tokens.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    total_tokens: i64,
    /// What they cost.
    total_cost: Usd,
    /// What it was about.
    #[schema(max_length = 262_144)]
    session_summary: Option<String>,
    /// When it was made.
    created_at: Timestamp,
    /// When anything of it last changed.
    updated_at: Timestamp,
    /// When it last got a message.
    last_activity: Timestamp,
    /// When it expires unless it gets a message before; never when null.
    expires_at: Option<Timestamp>,
}

impl SessionView {
    /// Shows a session at `now`.
    #[must_use]
    pub fn new(session: Session, user_id: &ExternalId, now: Timestamp) -> Self {
        let status = session.status(now);
        Self {
            id: session.id,
            session_id: session.session_id,
            user_id: user_id.clone(),
            title: session.title,
            conversation_data: session.conversation_data,
            status,
            metadata: session.metadata,
            is_active: status == Status::Active,
            message_count: session.message_count,
            total_tokens: session.total_tokens,
            total_cost: Usd::from_nano(session.total_cost.value()),
            session_summary: session.session_summary,
            created_at: session.created_at,
            updated_at: session.updated_at,
            last_activity: session.last_activity,
            expires_at: session.expires_at,
        }
    }
}

/// A new session: the session itself, and its main fields beside it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedSession {
    /// Always true.
    success: bool,
    /// The public id, a UUID.
    #[schema(max_length = 36, value_type = String)]
    session_id: Arc<str>,
    /// Whose it is.
    user_id: ExternalId,
    /// Its state.
    status: Status,
    /// How many messages it has.
    #[schema(minimum = 0, maximum = 0)]
    message_count: i64,
    /// When it was made.
    created_at: Timestamp,
    /// One sentence for people.
    #[schema(max_length = 300)]
    message: &'static str,
    /// When the answer was made.
    timestamp: Timestamp,
    /// The session.
    data: SessionView,
}

/// Begin a session
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/sessions", tag = "Sessions", operation_id = "create_session",
    params(UserPath), security(("bearer" = []), ("service_key" = ["sessions:write"])),
    request_body(content = CreateSessionRequest, example = json!({
        "title": "Planning a trip", "conversation_data": {"language": "en"}, "metadata": {"client": "web"}})),
    responses((status = 200, body = CreatedSession, description = "The session", links(
        ("get" = (operation_id = "get_session", parameters(("session_id" = "$response.body#/session_id")))),
        ("add_message" = (operation_id = "add_message", parameters(("session_id" = "$response.body#/session_id")))),
        ("messages" = (operation_id = "list_messages", parameters(("session_id" = "$response.body#/session_id")))),
        ("delete" = (operation_id = "delete_session", parameters(("session_id" = "$response.body#/session_id")))),
    ))),
)]
pub async fn create_session(
    State(app): State<Arc<App>>,
    on: CanCreateSession,
    Input { value, once }: Input<CreateSessionRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let now = app.clock.now();
    let session = Session {
        id: 0,
        session_id: facts::fresh_id(),
        written_status: Status::Active,
        message_count: 0,
        total_tokens: 0,
        total_cost: WideSum::default(),
        created_at: now,
        updated_at: now,
        last_activity: now,
        expires_at: app.config.session_life.map(|life| now.plus(life)),
        title: value.title.map(Text::into_string).filter(|title| !title.is_empty()),
        session_summary: None,
        conversation_data: app.config.contents.of(value.conversation_data).unwrap_or_default(),
        metadata: value.metadata.unwrap_or_default(),
    };
    let fresh = || SessionEvent::new(Session { id: FRESH, ..session.clone() }, now);
    let told = EventType::SessionCreated;
    let told = app.outbox.wants(told).then(|| Event::of(told, on.user.row, now, &fresh()));
    let edit = edits::create(on.user.row, &session).telling(told);
    let user_id = on.user.auth0_id.clone();
    let respond = move |done: &Done| {
        let Done::Edited(Some(id)) = done else { return Bytes::new() };
        let session = Session { id: *id, ..session.clone() };
        to_bytes(&CreatedSession {
            success: true,
            session_id: Arc::clone(&session.session_id),
            user_id: user_id.clone(),
            status: Status::Active,
            message_count: 0,
            created_at: now,
            message: "Session created successfully",
            timestamp: now,
            data: SessionView::new(session, &user_id, now),
        })
    };
    let ticket = once.ticket(on.caller.principal.caller());
    let answer = app.writer.submit(Command::Edit(edit), ticket, respond).await;
    Ok(answered(answer.map_err(|error| match error {
        WriteError::Refused(_) => ApiError::user_not_found(on.user.auth0_id.as_str()),
        other => refused(other, &on.user.auth0_id),
    })?))
}

/// Which sessions are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SessionsQuery {
    /// Only those whose status is `active` and whose time is not over.
    #[param(value_type = Option<bool>, example = false)]
    active_only: Option<Flag>,
}

/// List sessions
///
/// Newest first. A page ends before its limit where its rows pass 4 MiB.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/sessions", tag = "Sessions", operation_id = "list_sessions",
    params(UserPath, SessionsQuery, PageQuery), security(("bearer" = []), ("service_key" = ["sessions:read"])),
    responses((status = 200, body = Envelope<Vec<SessionView>>, description = "The sessions")),
)]
pub async fn list_sessions(
    State(app): State<Arc<App>>,
    on: CanReadSessions,
    Query(query): Query<SessionsQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let active = query.active_only.unwrap_or_default().0.then_some(now);
    let found = store::list(&app.db, on.user.row, active, page.stretch(LIMIT_DEFAULT)).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |session| (session.created_at.micros(), session.id));
    let rows: Vec<_> =
        found.rows.into_iter().map(|session| SessionView::new(session, &on.user.auth0_id, now)).collect();
    let message = format!("Retrieved {} sessions", rows.len());
    Ok(json(&Envelope::new(message, now, rows).paged(pagination)))
}

async fn view(app: &App, session: &SessionRef) -> Result<SessionView, ApiError> {
    let found = store::find(&app.db, session.row).await?;
    let found = found.ok_or_else(|| not_found(&session.session_id))?;
    Ok(SessionView::new(found, &session.auth0_id, app.clock.now()))
}

/// Read a session
#[utoipa::path(
    get, path = "/api/v1/sessions/{session_id}", tag = "Sessions", operation_id = "get_session",
    params(SessionPath), security(("bearer" = []), ("service_key" = ["sessions:read"])),
    responses((status = 200, body = Envelope<SessionView>, description = "The session")),
)]
pub async fn get_session(State(app): State<Arc<App>>, on: CanReadSession) -> Result<Response, ApiError> {
    let view = view(&app, &on.session).await?;
    Ok(json(&Envelope::new("Session retrieved successfully", app.clock.now(), view)))
}

/// What to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PatchSessionRequest {
    /// The new title.
    title: Option<Text<0, 500>>,
    /// The new data on the conversation, whole.
    conversation_data: Option<JsonObject>,
    /// The new data, whole.
    metadata: Option<JsonObject>,
}

/// Makes an edit of a session whose answer says how the session stands; a refusal means that it is gone.
pub(super) async fn edit<T: Serialize + Clone + Send + Sync + 'static, P>(
    app: &App,
    on: &OnSession<P>,
    once: Once,
    edit: Edit,
    message: String,
    data: T,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let respond = move |_: &Done| to_bytes(&Envelope::new(message.clone(), now, data.clone()));
    let ticket = once.ticket(on.caller.principal.caller());
    let answer = app.writer.submit(Command::Edit(edit), ticket, respond).await;
    Ok(answered(gone(answer, &on.session)?))
}

/// The answer of an edit whose statement 0 found its session gone.
pub(super) fn gone(answer: Result<Answer, WriteError>, session: &SessionRef) -> Result<Answer, ApiError> {
    answer.map_err(|error| match error {
        WriteError::Refused(0) | WriteError::UnknownSession => not_found(&session.session_id),
        other => refused(other, &session.auth0_id),
    })
}

/// Change a session's title or data
#[utoipa::path(
    patch, path = "/api/v1/sessions/{session_id}", tag = "Sessions", operation_id = "update_session",
    params(SessionPath), security(("bearer" = []), ("service_key" = ["sessions:write"])),
    request_body(content = PatchSessionRequest, example = json!({"title": "A trip to Kyoto"})),
    responses((status = 200, body = Envelope<SessionView>, description = "The changed session")),
)]
pub async fn update_session(
    State(app): State<Arc<App>>,
    on: CanWriteSession,
    Input { value, once }: Input<PatchSessionRequest>,
) -> Result<Response, ApiError> {
    let PatchSessionRequest { title, conversation_data, metadata } = value;
    if title.is_none() && conversation_data.is_none() && metadata.is_none() {
        let rule = "either title, conversation_data or metadata must be given";
        return Err(ApiError::invalid(["body", "title"], rule));
    }
    let title = title.map(Text::into_string);
    let conversation_data = conversation_data.map(|data| app.config.contents.of(data));
    let now = app.clock.now();
    let mut view = view(&app, &on.session).await?;
    view.title = title.clone().or(view.title);
    view.conversation_data = conversation_data.clone().unwrap_or(view.conversation_data);
    view.metadata = metadata.clone().unwrap_or(view.metadata);
    view.updated_at = now;
    let patch = SessionPatch { title, conversation_data, metadata, ..SessionPatch::default() };
    let told = told_of_update(&app, &on.session, &patch, now).await?;
    let change = edits::update((&on.session).into(), patch, told, now);
    let view = Arc::new(view);
    edit(&app, &on, once, change, "Session updated successfully".to_owned(), view).await
}

async fn told_of_update(
    app: &App,
    session: &SessionRef,
    patch: &SessionPatch,
    now: Timestamp,
) -> Result<Option<Event>, DbError> {
    telling::of_change(app, session.into(), EventType::SessionUpdated, now, |session| {
        session.updated_at = now;
        session.title = patch.title.clone().or(session.title.take());
        if let Some(metadata) = &patch.metadata {
            session.metadata = metadata.clone();
        }
    })
    .await
}

/// The new state.
#[derive(Debug, Deserialize, ToSchema)]
pub struct StatusRequest {
    /// `active`, `paused`, `completed`, `archived` or `expired`.
    status: Status,
}

/// Set a session's state
///
/// In the query or as JSON. `is_active` follows. An active session gets its whole life anew.
#[utoipa::path(
    put, path = "/api/v1/sessions/{session_id}/status", tag = "Sessions", operation_id = "set_session_status",
    params(SessionPath), security(("bearer" = []), ("service_key" = ["sessions:write"])),
    request_body(content = StatusRequest, example = json!({"status": "completed"})),
    responses((status = 200, body = Envelope<bool>, description = "Done")),
)]
pub async fn set_session_status(
    State(app): State<Arc<App>>,
    on: CanWriteSession,
    Input { value, once }: Input<StatusRequest>,
) -> Result<Response, ApiError> {
    let (now, life) = (app.clock.now(), app.config.session_life);
    let told =
        telling::of_change(&app, (&on.session).into(), telling::of_status(value.status), now, |session| {
            session.written_status = value.status;
            session.updated_at = now;
            if value.status == Status::Active {
                session.expires_at = life.map(|life| now.plus(life));
            }
        });
    let told = told.await?;
    let change = edits::set_status((&on.session).into(), value.status, told, now, life);
    let message = format!("Session status updated to {}", value.status.as_str());
    edit(&app, &on, once, change, message, true).await
}

/// What the session was about.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SummaryRequest {
    /// The summary.
    summary: Option<Content>,
    /// The same under its other name.
    session_summary: Option<Content>,
}

/// Keep a summary of a session
///
/// It stands as `session_summary` with the session and replaces the last one.
#[utoipa::path(
    put, path = "/api/v1/sessions/{session_id}/summary", tag = "Sessions", operation_id = "set_session_summary",
    params(SessionPath), security(("bearer" = []), ("service_key" = ["sessions:write"])),
    request_body(content = SummaryRequest, example = json!({"summary": "Flights to Kyoto in May were compared."})),
    responses((status = 200, body = Envelope<bool>, description = "Done")),
)]
pub async fn set_session_summary(
    State(app): State<Arc<App>>,
    on: CanWriteSession,
    Input { value, once }: Input<SummaryRequest>,
) -> Result<Response, ApiError> {
    let summary = value.summary.or(value.session_summary);
    let summary = summary.ok_or_else(|| ApiError::missing(["body", "summary"]))?;
    let session_summary = Some(app.config.contents.of(summary.into_string()));
    let patch = SessionPatch { session_summary, ..SessionPatch::default() };
    let now = app.clock.now();
    let told = told_of_update(&app, &on.session, &patch, now).await?;
    let change = edits::update((&on.session).into(), patch, told, now);
    edit(&app, &on, once, change, "Session summary updated successfully".to_owned(), true).await
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedSession {
    /// The session.
    #[schema(max_length = 36, value_type = String)]
    session_id: Arc<str>,
    /// Always true.
    deleted: bool,
}

/// Delete a session
///
/// With its messages and its memory. Usage records that name it stay.
#[utoipa::path(
    delete, path = "/api/v1/sessions/{session_id}", tag = "Sessions", operation_id = "delete_session",
    params(SessionPath), security(("bearer" = []), ("service_key" = ["sessions:write"])),
    responses((status = 200, body = Envelope<DeletedSession>, description = "It is gone")),
)]
pub async fn delete_session(State(app): State<Arc<App>>, on: CanWriteSession) -> Result<Response, ApiError> {
    let (of, now) = ((&on.session).into(), app.clock.now());
    let told = telling::of_change(&app, of, EventType::SessionDeleted, now, |_| {}).await?;
    let edit = edits::delete(of, now).telling(told);
    let done = app.writer.execute(Command::Edit(edit)).await;
    done.map_err(|error| match error {
        WriteError::Refused(_) => not_found(&on.session.session_id),
        other => other.into(),
    })?;
    let session_id = Arc::clone(&on.session.session_id);
    let message = format!("Session {session_id} deleted successfully");
    Ok(json(&Envelope::new(message, app.clock.now(), DeletedSession { session_id, deleted: true })))
}

/// List what was used in a session
///
/// The usage records that carry the session's id, newest first.
#[utoipa::path(
    get, path = "/api/v1/sessions/{session_id}/usage", tag = "Sessions", operation_id = "list_session_usage",
    params(SessionPath, usage::UsageQuery, PageQuery), security(("bearer" = []), ("service_key" = ["usage:read"])),
    responses((status = 200, body = Envelope<Vec<usage::UsageView>>, description = "The records")),
)]
pub async fn list_session_usage(
    State(app): State<Arc<App>>,
    on: OnSession<ReadUsage>,
    Query(query): Query<usage::UsageQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let filter = query.filter(&page, Some(on.session.session_id.to_string()));
    usage::history(&app, on.session.user, &on.session.auth0_id, &filter, &page).await
}
