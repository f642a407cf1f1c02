//! Users on PostgreSQL.

use crate::db::write::Write;
use crate::db::{DbError, FromRow, Row};
use crate::users::User;
use crate::users::model::user_columns;
use crate::users::rules::Directory;
use crate::writer::needs::Needs;
use crate::writer::plan::Changes;
use deadpool_postgres::Object;
use kernel::{Timestamp, UserRowId};

/// Loads the users and the owners of addresses that a batch asks about.
///
/// # Errors
/// [`DbError`].
pub async fn load(connection: &Object, needs: &Needs, directory: &mut Directory) -> Result<(), DbError> {
    if !needs.users.is_empty() {
        let statement = connection
            .prepare_cached(concat!("SELECT ", user_columns!(), " FROM users WHERE auth0_id = ANY($1)"))
            .await?;
        let ids: Vec<&str> = needs.users.iter().map(kernel::ExternalId::as_str).collect();
        directory.by_id.extend(needs.users.iter().map(|id| (id.clone(), None)));
        for row in connection.query(&statement, &[&ids]).await? {
            let user = User::from_row(&Row::Postgres(&row))?;
            directory.by_id.insert(user.auth0_id.clone(), Some(user));
        }
    }
    let own = directory.by_id.values().flatten().filter_map(|user| user.email.as_ref());
    let emails: Vec<String> =
        needs.emails.iter().cloned().chain(own.map(|email| email.to_lowercase())).collect();
    if !emails.is_empty() {
        let statement = connection
            .prepare_cached(
                "SELECT email_folded, id FROM users WHERE email_folded = ANY($1) AND deleted_at IS NULL",
            )
            .await?;
        for row in connection.query(&statement, &[&emails]).await? {
            directory.by_email.insert(row.try_get(0)?, UserRowId(row.try_get(1)?));
        }
    }
    Ok(())
}

/// What a batch writes of users.
#[must_use]
pub fn writes(changes: &Changes) -> Vec<Write<'_>> {
    let mut writes = Vec::new();
    let folded = |user: &User| user.email.as_ref().map(|email| email.to_lowercase());
    if !changes.users.is_empty() {
        let users = || changes.users.values();
        writes.push(
            Write::rows(
                "UPDATE users u SET email = t.email, email_folded = t.email_folded, name = t.name, \
                 updated_at = t.updated_at, deleted_at = t.deleted_at, name_folded = t.name_folded FROM UNNEST($1::bigint[], $2::bigint[], \
                 $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[]) \
                 AS t(id, read_at, email, email_folded, name, updated_at, deleted_at, name_folded) \
                 WHERE u.id = t.id AND u.updated_at = t.read_at",
                changes.users.len(),
            )
            .column(users().map(|(_, user)| user.id.0))
            .column(users().map(|(read, _)| read.micros()))
            .column(users().map(|(_, user)| user.email.as_deref()))
            .column(users().map(|(_, user)| folded(user)))
            .column(users().map(|(_, user)| user.name.as_deref()))
            .column(users().map(|(_, user)| user.updated_at.micros()))
            .column(users().map(|(_, user)| user.deleted_at.map(Timestamp::micros)))
            .column(users().map(|(_, user)| user.name.as_ref().map(|name| name.to_lowercase()))),
        );
    }
    if !changes.new_users.is_empty() {
        let users = || changes.new_users.iter();
        writes.push(
            Write::rows(
                "INSERT INTO users (id, auth0_id, email, email_folded, name, plan, subscription_status, \
                 created_at, updated_at, deleted_at, name_folded) SELECT * FROM UNNEST($1::bigint[], $2::text[], \
                 $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[], \
                 $10::bigint[], $11::text[])",
                changes.new_users.len(),
            )
            .column(users().map(|user| user.id.0))
            .column(users().map(|user| user.auth0_id.as_str()))
            .column(users().map(|user| user.email.as_deref()))
            .column(users().map(folded))
            .column(users().map(|user| user.name.as_deref()))
            .column(users().map(|user| user.plan.as_str()))
            .column(users().map(|user| user.subscription_status.as_str()))
            .column(users().map(|user| user.created_at.micros()))
            .column(users().map(|user| user.updated_at.micros()))
            .column(users().map(|user| user.deleted_at.map(Timestamp::micros)))
            .column(users().map(|user| user.name.as_ref().map(|name| name.to_lowercase()))),
        );
    }
    writes
}
