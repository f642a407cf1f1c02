//! Reading endpoints.

use super::model::Endpoint;
use super::{edits, wanted};
use crate::app::App;
use crate::db::{Db, DbError, FromRow, Row, Rows};
use crate::writer::{Command, WriteError};
use kernel::Timestamp;
use std::collections::HashSet;

macro_rules! columns {
    () => {
        "SELECT w.id, w.endpoint_id, w.url, w.description, w.event_types, w.user_ids, w.headers, w.status, w.disabled_reason, \
         w.disabled_at, w.failing_since, w.created_at, w.created_by, w.updated_at, (SELECT MAX(o.expires_at) FROM webhook_secrets o \
         WHERE o.endpoint = w.id AND o.expires_at > $1), s.kind, s.secret \
         FROM webhook_endpoints w JOIN webhook_secrets s ON s.endpoint = w.id AND s.expires_at IS NULL WHERE "
    };
}

/// An endpoint by its public id.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, endpoint_id: &str, now: Timestamp) -> Result<Option<Endpoint>, DbError> {
    db.find(concat!(columns!(), "w.endpoint_id = $2"), &[now.micros().into(), endpoint_id.into()]).await
}

/// Endpoints, the last one that was made first.
///
/// # Errors
/// [`DbError`].
pub async fn list(
    db: &Db,
    before: i64,
    limit: i64,
    offset: i64,
    now: Timestamp,
) -> Result<Rows<Endpoint>, DbError> {
    let sql = concat!(columns!(), "w.id < $2 ORDER BY w.id DESC LIMIT $3 OFFSET $4");
    let values = vec![now.micros().into(), before.into(), limit.saturating_add(1).into(), offset.into()];
    db.page(sql, values, limit).await
}

/// What an endpoint asks for, beside one kind of which it is written down; a row without a kind where none is.
struct Asked {
    endpoint_id: String,
    names: String,
    kind: Option<String>,
}

impl FromRow for Asked {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { endpoint_id: row.text(0)?, names: row.text(1)?, kind: row.optional_text(2)? })
    }
}

/// Writes down what the names of endpoints stand for since this release knows more kinds.
///
/// # Errors
/// [`WriteError`].
pub async fn spell_out(app: &App) -> Result<(), WriteError> {
    let sql = "SELECT w.endpoint_id, w.event_types, s.event_type FROM webhook_endpoints w \
        LEFT JOIN webhook_subscriptions s ON s.endpoint = w.id";
    let asked: Vec<Asked> = app.db.query(sql, vec![]).await?;
    let known: HashSet<(&str, &str)> =
        asked.iter().filter_map(|row| Some((row.endpoint_id.as_str(), row.kind.as_deref()?))).collect();
    let mut missing = Vec::new();
    for Asked { endpoint_id, names, .. } in &asked {
        let list: Vec<String> = serde_json::from_str(names)
            .map_err(|error| WriteError::Internal(format!("webhook_endpoints.event_types: {error}")))?;
        let kinds = wanted::spelled_out(&list);
        let kinds = kinds.into_iter().filter(|kind| !known.contains(&(endpoint_id.as_str(), kind.as_str())));
        missing.extend(kinds.map(|kind| (endpoint_id.clone(), names.clone(), kind)));
    }
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    app.outbox.want(missing.iter().map(|(_, _, kind)| *kind));
    app.writer.execute(Command::Edit(edits::spell_out(&missing))).await.map(|_| ())
}
