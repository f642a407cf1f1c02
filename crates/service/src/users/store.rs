//! Reading users.

use super::User;
use super::identities::Book;
use super::model::user_columns;
use crate::app::App;
use crate::auth::grants::UserRef;
use crate::db::{Db, DbError, FromRow, Row, Value};
use kernel::{ExternalId, UserKey, UserRowId};
use quick_cache::sync::Cache;
use std::collections::{BTreeMap, BTreeSet};

/// How many ids are remembered.
const REMEMBERED_MAX: usize = 100_000;

/// Which row an external id names. A row keeps its id for ever, so this never becomes wrong; it
/// does not say whether the user is deleted.
pub type RowIds = Cache<ExternalId, UserRowId>;

/// An empty memory.
#[must_use]
pub fn row_ids() -> RowIds {
    Cache::new(REMEMBERED_MAX)
}

/// Both ids of a live user.
impl FromRow for UserRef {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let auth0_id = row.text(1)?.parse().map_err(|e| DbError::Internal(format!("users.auth0_id: {e}")))?;
        Ok(Self { row: UserRowId(row.int(0)?), auth0_id })
    }
}

/// The live user that a caller named, by its external id or its row id.
///
/// With `remembered` the answer may rest on memory; then a deleted user is found too.
///
/// # Errors
/// [`DbError`].
pub async fn find_key(app: &App, key: &UserKey, remembered: bool) -> Result<Option<UserRef>, DbError> {
    let book = app.identities.book();
    let external = book.survivor(key.as_external());
    if remembered && let Some(row) = app.row_ids.get(external) {
        return Ok(Some(UserRef { row, auth0_id: external.clone() }));
    }
    let found: Option<UserRef> = match key.as_row() {
        Some(row) => {
            let sql = "SELECT id, auth0_id FROM users WHERE id = $1 AND deleted_at IS NULL";
            app.db.find(sql, &[row.0.into()]).await?
        }
        None => {
            let sql = "SELECT id, auth0_id FROM users WHERE auth0_id = $1 AND deleted_at IS NULL";
            app.db.find(sql, &[external.as_str().into()]).await?
        }
    };
    if let Some(user) = &found {
        app.row_ids.insert(user.auth0_id.clone(), user.row);
    }
    Ok(found)
}

/// A live user by its external id.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, id: &ExternalId) -> Result<Option<User>, DbError> {
    let sql = concat!("SELECT ", user_columns!(), " FROM users WHERE auth0_id = $1 AND deleted_at IS NULL");
    db.find(sql, &[Value::from(id.as_str())]).await
}

/// The live users of these names, each under its name; who is unknown is not in the answer.
///
/// # Errors
/// [`DbError`].
pub async fn find_keys(app: &App, keys: &BTreeSet<UserKey>) -> Result<BTreeMap<UserKey, UserRef>, DbError> {
    let book = app.identities.book();
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for key in keys {
        let external = book.survivor(key.as_external());
        match app.row_ids.get(external) {
            Some(row) => {
                found.insert(key.clone(), UserRef { row, auth0_id: external.clone() });
            }
            None => missing.push(key),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let names: Vec<&ExternalId> = missing.iter().map(|key| book.survivor(key.as_external())).collect();
    let rows: Vec<i64> = missing.iter().filter_map(|key| key.as_row()).map(|row| row.0).collect();
    let lists = [serde_json::to_string(&names), serde_json::to_string(&rows)];
    let values = lists.map(|list| Value::from(list.unwrap_or_default().as_str())).to_vec();
    let sql = match app.db {
        Db::Sqlite(_) => {
            "SELECT id, auth0_id FROM users WHERE deleted_at IS NULL AND (auth0_id IN \
             (SELECT value FROM json_each($1)) OR id IN (SELECT value FROM json_each($2)))"
        }
        Db::Postgres(_) => {
            "SELECT id, auth0_id FROM users WHERE deleted_at IS NULL AND (auth0_id IN \
             (SELECT json_array_elements_text($1::text::json)) \
             OR id IN (SELECT json_array_elements_text($2::text::json)::bigint))"
        }
    };
    let users = app.db.query::<UserRef>(sql, values).await?;
    for user in &users {
        app.row_ids.insert(user.auth0_id.clone(), user.row);
    }
    let by_id: BTreeMap<&ExternalId, &UserRef> = users.iter().map(|user| (&user.auth0_id, user)).collect();
    let by_row: BTreeMap<UserRowId, &UserRef> = users.iter().map(|user| (user.row, user)).collect();
    for key in missing {
        let named = match key.as_row() {
            Some(row) => by_row.get(&row),
            None => by_id.get(book.survivor(key.as_external())),
        };
        found.extend(named.map(|user| (key.clone(), (*user).clone())));
    }
    Ok(found)
}

/// Another id of a user.
struct Alias(ExternalId, UserRef);

impl FromRow for Alias {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let alias = row.text(2)?.parse();
        Ok(Self(
            alias.map_err(|e| DbError::Internal(format!("user_identities.auth0_id: {e}")))?,
            UserRef::from_row(row)?,
        ))
    }
}

/// Who is suspended, and which other ids name a user.
///
/// # Errors
/// [`DbError`].
pub async fn identities(db: &Db) -> Result<Book, DbError> {
    // First the revision: what changes meanwhile is read again, never missed.
    let revision = identity_revision(db).await?;
    let suspended = db.query::<UserRef>("SELECT id, auth0_id FROM users WHERE NOT is_active", vec![]).await?;
    let sql = "SELECT u.id, u.auth0_id, i.auth0_id FROM user_identities i JOIN users u ON u.id = i.user_id";
    let aliases = db.query::<Alias>(sql, vec![]).await?;
    Ok(Book {
        revision,
        suspended_rows: suspended.iter().map(|user| user.row).collect(),
        suspended: suspended.into_iter().map(|user| (user.auth0_id, user.row)).collect(),
        aliases: aliases.into_iter().map(|Alias(alias, user)| (alias, user)).collect(),
    })
}

/// The revision of [`identities`].
///
/// # Errors
/// [`DbError`].
pub async fn identity_revision(db: &Db) -> Result<i64, DbError> {
    let found = db.find("SELECT revision FROM identity_book WHERE id = 1", &[]).await?;
    found.ok_or_else(|| DbError::Internal("identity_book has no row".to_owned()))
}
