//! The route by which operators read the audit log.

use super::store::{self, Entry, Filter};
use crate::app::App;
use crate::auth::grants::Admin;
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Query, json};
use axum::extract::State;
use axum::response::Response;
use kernel::{JsonObject, Text, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many rows the list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;

/// Something that an operator or a service key did.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Its number.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: i64,
    /// When.
    at: Timestamp,
    /// Who: `user:<row id>`, `key:<key id>`, `admin:<number>` for an admin who is no user here, or `cli`.
    #[schema(max_length = 255)]
    actor: String,
    /// The `sub` of such an admin.
    #[schema(max_length = 255)]
    actor_subject: Option<String>,
    /// Did what: the operation's id, or the command.
    #[schema(max_length = 100)]
    action: String,
    /// To what: `user:<row id>`, `key:<key id>`, `model:<name>` and so on.
    #[schema(max_length = 300)]
    target: Option<String>,
    /// In which request, as `X-Request-ID` said.
    #[schema(max_length = 128)]
    request_id: Option<String>,
    /// From which address, where it is known.
    #[schema(max_length = 45)]
    client_ip: Option<String>,
    /// What else there is to say: the transaction that it made, its amount, what the path named.
    details: JsonObject,
}

impl From<Entry> for AuditEntry {
    fn from(of: Entry) -> Self {
        Self {
            id: of.id,
            at: of.at,
            actor: of.actor,
            actor_subject: of.subject,
            action: of.action,
            target: of.target,
            request_id: of.request_id,
            client_ip: of.client_ip,
            details: JsonObject::from_stored(of.details),
        }
    }
}

/// Which rows are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Of this actor only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 255, example = "cli")]
    actor: Option<Text<1, 255>>,
    /// Of this action only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 100, example = "create_grant")]
    action: Option<Text<1, 100>>,
    /// About this only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 300, example = "user:112")]
    target: Option<Text<1, 300>>,
    /// Not before: a date or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2025-01-01")]
    start_date: Option<Timestamp>,
    /// Not after: a date (its first instant) or an RFC 3339 date-time.
    #[param(value_type = Option<String>, min_length = 10, max_length = 40, example = "2099-12-31T23:59:59Z")]
    end_date: Option<Timestamp>,
}

/// Read the audit log
///
/// What admins and service keys did that gives credits, changes users, keys, prices or the service; newest first. Each
/// row was written in the transaction of what it tells, and none is ever changed or removed.
#[utoipa::path(
    get, path = "/api/v1/admin/audit", tag = "Admin", operation_id = "list_audit_log",
    params(AuditQuery, PageQuery), security(("bearer" = []), ("service_key" = ["admin"])),
    responses((status = 200, body = Envelope<Vec<AuditEntry>>, description = "The rows")),
)]
pub async fn list_audit_log(
    State(app): State<Arc<App>>,
    _on: Admin,
    Query(query): Query<AuditQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let filter = Filter {
        actor: query.actor.map(Text::into_string),
        action: query.action.map(Text::into_string),
        target: query.target.map(Text::into_string),
        start: query.start_date,
        end: query.end_date,
        after: page.after,
        offset: page.offset,
        limit: page.limit(LIMIT_DEFAULT),
    };
    let found = store::list(&app.db, filter).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |of: &Entry| (of.at.micros(), of.id));
    let rows: Vec<AuditEntry> = found.rows.into_iter().map(Into::into).collect();
    let message = format!("Retrieved {} entries of the audit log", rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), rows).paged(pagination)))
}
