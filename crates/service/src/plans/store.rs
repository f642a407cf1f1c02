//! The versions of plans that somebody could subscribe to.

use super::model::{FREE, Plan, Version};
use crate::app::App;
use crate::config::Catalogue;
use crate::db::{DbError, FromRow, Row, Value};
use crate::writer::{Command, Edit, Statement, Writer};
use kernel::{Timestamp, UserRowId};
use quick_cache::sync::Cache;
use std::sync::Arc;

/// How many versions are remembered; the next ones are read again.
const REMEMBERED_MAX: usize = 10_000;

/// Versions by their ids. A version never changes, so this never becomes wrong.
pub type Versions = Cache<String, Arc<Version>>;

/// A memory that knows the catalogue.
#[must_use]
pub fn versions(catalogue: &Catalogue) -> Versions {
    let versions = Cache::new(REMEMBERED_MAX);
    for version in &catalogue.plans {
        versions.insert(version.id.clone(), Arc::clone(version));
    }
    versions
}

/// Keeps the catalogue's versions for whoever subscribes to them.
///
/// # Errors
/// [`DbError`].
pub async fn publish(writer: &Writer, catalogue: &Catalogue, now: Timestamp) -> Result<(), DbError> {
    let insert = "INSERT INTO plan_versions (id, plan, body, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    let statements = catalogue.plans.iter().map(|version| {
        let key = version.plan.key.as_str();
        let values =
            vec![version.id.as_str().into(), key.into(), version.body().as_str().into(), now.micros().into()];
        Statement::any(insert, values)
    });
    let edit = Edit::new(UserRowId(0), statements.collect());
    writer.execute(Command::Edit(edit)).await.map(drop).map_err(|e| DbError::Unavailable(e.to_string()))
}

impl FromRow for Plan {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        serde_json::from_str(&row.text(0)?).map_err(|e| DbError::Internal(format!("plan_versions.body: {e}")))
    }
}

/// A version by its id.
///
/// # Errors
/// [`DbError`], also where it was never kept.
pub async fn version(app: &App, id: &str) -> Result<Arc<Version>, DbError> {
    if let Some(version) = app.versions.get(id) {
        return Ok(version);
    }
    let plan: Option<Plan> =
        app.db.find("SELECT body FROM plan_versions WHERE id = $1", &[id.into()]).await?;
    let plan = plan.ok_or_else(|| DbError::Internal(format!("plan_versions has no {id}")))?;
    let version = Arc::new(Version { id: id.to_owned(), plan });
    app.versions.insert(id.to_owned(), Arc::clone(&version));
    Ok(version)
}

struct Of {
    plan: String,
    version: Option<String>,
}

impl FromRow for Of {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { plan: row.text(0)?, version: row.optional_text(1)? })
    }
}

/// The plan that a user has: the version it subscribed to, or else the catalogue's.
///
/// # Errors
/// [`DbError`].
pub async fn of_user(app: &App, user: UserRowId) -> Result<Option<Arc<Version>>, DbError> {
    let found: Option<Of> =
        app.db.find("SELECT plan, plan_version FROM users WHERE id = $1", &[Value::from(user.0)]).await?;
    match found {
        Some(Of { version: Some(id), .. }) => version(app, &id).await.map(Some),
        Some(Of { plan, version: None }) => {
            let catalogue = &app.config.catalogue;
            Ok(catalogue.plan(&plan).or_else(|| catalogue.plan(FREE)).cloned())
        }
        None => Ok(None),
    }
}
