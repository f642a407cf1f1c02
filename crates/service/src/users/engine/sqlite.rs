//! Users on SQLite.

use crate::db::{DbError, FromRow, Row};
use crate::users::User;
use crate::users::model::user_columns;
use crate::users::rules::Directory;
use crate::writer::needs::Needs;
use crate::writer::plan::Changes;
use crate::writer::sqlite::exactly_one;
use kernel::{Timestamp, UserRowId};
use rusqlite::{Connection, OptionalExtension, params};

/// Loads the users and the owners of addresses that a batch asks about.
///
/// # Errors
/// [`DbError`].
pub fn load(connection: &Connection, needs: &Needs, directory: &mut Directory) -> Result<(), DbError> {
    if !needs.users.is_empty() {
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE auth0_id = ?1"
        ))?;
        for id in &needs.users {
            let mut rows = select.query([id.as_str()])?;
            let user = rows.next()?.map(|row| User::from_row(&Row::Sqlite(row))).transpose()?;
            directory.by_id.insert(id.clone(), user);
        }
    }
    let own = directory.by_id.values().flatten().filter_map(|user| user.email.as_ref());
    let emails: Vec<String> =
        needs.emails.iter().cloned().chain(own.map(|email| email.to_lowercase())).collect();
    if !emails.is_empty() {
        let mut select = connection
            .prepare_cached("SELECT id FROM users WHERE email_folded = ?1 AND deleted_at IS NULL")?;
        for email in emails {
            let owner = select.query_row([&email], |row| row.get(0)).optional()?;
            directory.by_email.extend(owner.map(|owner| (email, UserRowId(owner))));
        }
    }
    Ok(())
}

/// Writes the users that a batch made or changed.
///
/// # Errors
/// [`DbError`].
pub fn write(connection: &Connection, changes: &Changes) -> Result<(), DbError> {
    for (read, user) in changes.users.values() {
        let mut update = connection.prepare_cached(
            "UPDATE users SET email = ?2, email_folded = ?3, name = ?4, updated_at = ?5, deleted_at = ?6, \
             name_folded = ?8 WHERE id = ?1 AND updated_at = ?7",
        )?;
        let written = update.execute(params![
            user.id.0,
            user.email,
            user.email.as_ref().map(|email| email.to_lowercase()),
            user.name,
            user.updated_at.micros(),
            user.deleted_at.map(Timestamp::micros),
            read.micros(),
            user.name.as_ref().map(|name| name.to_lowercase()),
        ])?;
        exactly_one(written, "users")?;
    }
    for user in &changes.new_users {
        let mut insert = connection.prepare_cached(
            "INSERT INTO users (id, auth0_id, email, email_folded, name, plan, subscription_status, \
             created_at, updated_at, deleted_at, name_folded) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        insert.execute(params![
            user.id.0,
            user.auth0_id.as_str(),
            user.email,
            user.email.as_ref().map(|email| email.to_lowercase()),
            user.name,
            user.plan,
            user.subscription_status,
            user.created_at.micros(),
            user.updated_at.micros(),
            user.deleted_at.map(Timestamp::micros),
            user.name.as_ref().map(|name| name.to_lowercase()),
        ])?;
    }
    Ok(())
}
