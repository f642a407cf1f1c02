//! Routes of what is remembered of a session: add, list, forget.

use super::api::{SessionPath, gone};
use super::edits::{self, MEMORIES_MAX};
use super::model::Memory;
use super::store;
use crate::app::App;
use crate::auth::grants::{CanReadSession, CanWriteSession};
use crate::http::envelope::bytes as to_bytes;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, Query, json};
use crate::users::api::answered;
use crate::writer::{Command, Done, WriteError};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use kernel::{Content, ExternalId, JsonObject, Text, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many rows the list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;

/// Something to remember.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MemoryRequest {
    /// What kind; `conversation` when absent.
    memory_type: Option<Text<1, 50>>,
    /// What to remember.
    content: Content,
    /// Anything.
    metadata: Option<JsonObject>,
}

/// Something that is remembered.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemoryView {
    /// The integer id.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: i64,
    /// Of which session.
    #[schema(max_length = 36, value_type = String)]
    session_id: Arc<str>,
    /// Whose it is.
    user_id: ExternalId,
    /// What kind.
    #[schema(max_length = 50)]
    memory_type: String,
    /// What is remembered.
    #[schema(max_length = 262_144)]
    content: String,
    /// False where `content` was not stored (`STORE_CONTENT`), and absent where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_stored: Option<bool>,
    /// Anything.
    metadata: JsonObject,
    /// When it was added.
    created_at: Timestamp,
}

impl MemoryView {
    fn new(memory: Memory, session_id: &Arc<str>, user_id: &ExternalId) -> Self {
        Self {
            id: memory.id,
            session_id: Arc::clone(session_id),
            user_id: user_id.clone(),
            memory_type: memory.memory_type,
            content: memory.content,
            content_stored: (!memory.content_stored).then_some(false),
            metadata: memory.metadata,
            created_at: memory.created_at,
        }
    }
}

/// Remember something of a session
///
/// At most 1000 things a session; past that, 409 until one is forgotten.
#[utoipa::path(
    post, path = "/api/v1/sessions/{session_id}/memory", tag = "Sessions", operation_id = "add_memory",
    params(SessionPath), security(("bearer" = []), ("service_key" = ["sessions:write"])),
    request_body(content = MemoryRequest, example = json!({
        "memory_type": "preference", "content": "Prefers trains to flights.", "metadata": {"source": "message 12"}})),
    responses((status = 200, body = Envelope<MemoryView>, description = "What is remembered", links(
        ("list" = (operation_id = "list_memories", parameters(("session_id" = "$response.body#/data/session_id")))),
        ("forget" = (operation_id = "delete_memory", parameters(
            ("session_id" = "$response.body#/data/session_id"), ("memory_id" = "$response.body#/data/id")))),
    ))),
)]
pub async fn add_memory(
    State(app): State<Arc<App>>,
    on: CanWriteSession,
    Input { value, once }: Input<MemoryRequest>,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let memory = Memory {
        id: 0,
        memory_type: value.memory_type.map_or_else(|| "conversation".to_owned(), Text::into_string),
        content: app.config.contents.of(value.content.into_string()),
        content_stored: app.config.contents.are_stored(),
        metadata: value.metadata.unwrap_or_default(),
        created_at: now,
    };
    let change = edits::remember((&on.session).into(), &memory);
    let session = on.session.clone();
    let respond = move |done: &Done| {
        let Done::Edited(Some(id)) = done else { return Bytes::new() };
        let memory = Memory { id: *id, ..memory.clone() };
        let view = MemoryView::new(memory, &session.session_id, &session.auth0_id);
        to_bytes(&Envelope::new("Memory added to session", now, view))
    };
    let ticket = once.ticket(on.caller.principal.caller());
    match app.writer.submit(Command::Edit(change), ticket, respond).await {
        Err(WriteError::Refused(1)) => Err(ApiError::conflict(format!(
            "The session remembers {MEMORIES_MAX} things already; forget one first"
        ))),
        answer => Ok(answered(gone(answer, &on.session)?)),
    }
}

/// Which memory is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MemoryQuery {
    /// Of this kind only.
    #[param(value_type = Option<String>, max_length = 50)]
    memory_type: Option<Text<0, 50>>,
}

/// List what is remembered of a session
///
/// Newest first. A page ends before its limit where its rows pass 4 MiB.
#[utoipa::path(
    get, path = "/api/v1/sessions/{session_id}/memory", tag = "Sessions", operation_id = "list_memories",
    params(SessionPath, MemoryQuery, PageQuery), security(("bearer" = []), ("service_key" = ["sessions:read"])),
    responses((status = 200, body = Envelope<Vec<MemoryView>>, description = "What is remembered")),
)]
pub async fn list_memories(
    State(app): State<Arc<App>>,
    on: CanReadSession,
    Query(query): Query<MemoryQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let memory_type = query.memory_type.map(Text::into_string).filter(|kind| !kind.is_empty());
    let found = store::memories(&app.db, on.session.row, memory_type, page.stretch(LIMIT_DEFAULT)).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |memory| (memory.created_at.micros(), memory.id));
    let view = |memory| MemoryView::new(memory, &on.session.session_id, &on.session.auth0_id);
    let rows: Vec<_> = found.rows.into_iter().map(view).collect();
    let message = format!("Retrieved {} memories", rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), rows).paged(pagination)))
}

/// The memory that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct MemoryPath {
    /// The integer id.
    #[param(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 1)]
    memory_id: String,
}

/// What was forgotten.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Forgotten {
    /// The integer id.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: i64,
    /// Always true.
    deleted: bool,
}

/// Forget something of a session
#[utoipa::path(
    delete, path = "/api/v1/sessions/{session_id}/memory/{memory_id}", tag = "Sessions", operation_id = "delete_memory",
    params(SessionPath, MemoryPath), security(("bearer" = []), ("service_key" = ["sessions:write"])),
    responses((status = 200, body = Envelope<Forgotten>, description = "It is forgotten")),
)]
pub async fn delete_memory(
    State(app): State<Arc<App>>,
    on: CanWriteSession,
    axum::extract::Path(path): axum::extract::Path<MemoryPath>,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::not_found(format!("Memory not found: {}", path.memory_id));
    let id = path.memory_id.parse::<i64>().map_err(|_| unknown())?;
    let change = edits::forget((&on.session).into(), id);
    match app.writer.execute(Command::Edit(change)).await {
        Ok(_) => {
            let gone = Forgotten { id, deleted: true };
            Ok(json(&Envelope::new("Memory deleted successfully", app.clock.now(), gone)))
        }
        Err(WriteError::Refused(_)) => Err(unknown()),
        Err(other) => Err(other.into()),
    }
}
