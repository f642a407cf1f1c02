//! Accounts, grants and entries on SQLite.

use crate::credits::chain::{funded_by_text, grant_terms_text};
use crate::credits::ledger::Original;
use crate::credits::store::{account_columns, entry_columns, grant_columns};
use crate::credits::{Account, Entry, EntryKind, Grant};
use crate::db::{DbError, FromRow, Row};
use crate::writer::needs::Needs;
use crate::writer::plan::{Changes, Working};
use crate::writer::sqlite::exactly_one;
use kernel::{Credits, Timestamp, UserRowId};
use rusqlite::{CachedStatement, Connection, Params, ToSql, params, params_from_iter};

/// Loads one account with its open grants.
///
/// # Errors
/// [`DbError`].
pub fn account(connection: &Connection, user: UserRowId) -> Result<Option<Account>, DbError> {
    let mut select = connection.prepare_cached(concat!(
        "SELECT ",
        account_columns!(),
        " FROM credit_accounts WHERE user_id = ?1"
    ))?;
    let Some(mut account) = first::<Account>(&mut select, [user.0])? else { return Ok(None) };
    let mut select = connection.prepare_cached(concat!(
        "SELECT ",
        grant_columns!(),
        " FROM credit_grants WHERE user_id = ?1 AND remaining > 0"
    ))?;
    account.grants = all::<Grant>(&mut select, [user.0])?;
    account.grants.sort_by_key(Grant::order);
    Ok(Some(account))
}

/// Loads what the ledger's commands refer to, beside their accounts.
///
/// # Errors
/// [`DbError`].
pub fn load(connection: &Connection, needs: &Needs, working: &mut Working) -> Result<(), DbError> {
    for (user, reference) in &needs.references {
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            entry_columns!(),
            " FROM credit_entries WHERE user_id = ?1 AND seq = \
             (SELECT seq FROM credit_references WHERE user_id = ?1 AND reference_id = ?2)"
        ))?;
        if let Some(entry) = first::<Entry>(&mut select, params![user.0, reference])? {
            working.references.insert((*user, reference.clone()), entry);
        }
    }
    for id in &needs.originals {
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            entry_columns!(),
            " FROM credit_entries WHERE user_id = ?1 AND seq = ?2"
        ))?;
        let Some(entry) = first::<Entry>(&mut select, params![id.user.0, id.seq])? else { continue };
        let refunded: i64 = connection
            .prepare_cached(
                "SELECT coalesce(sum(e.amount), 0) FROM credit_refunds r \
                 JOIN credit_entries e ON e.user_id = r.user_id AND e.seq = r.refund_seq \
                 WHERE r.user_id = ?1 AND r.original_seq = ?2",
            )?
            .query_row(params![id.user.0, id.seq], |row| row.get(0))?;
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            grant_columns!(),
            " FROM credit_grants WHERE user_id = ?1 AND seq = ?2"
        ))?;
        let mut grants = Vec::new();
        for (seq, _) in &entry.funded_by {
            grants.extend(first::<Grant>(&mut select, params![id.user.0, seq])?);
        }
        working.originals.insert(*id, Original { entry, refunded: Credits::from_micro(refunded), grants });
    }
    Ok(())
}

/// Writes what a batch did to the ledger.
///
/// # Errors
/// [`DbError`].
pub fn write(connection: &Connection, changes: &Changes, working: &Working) -> Result<(), DbError> {
    write_accounts(connection, changes, working)?;
    write_grants(connection, changes)?;
    write_entries(connection, changes)?;
    for (user, now) in &changes.settled {
        connection
            .prepare_cached("DELETE FROM credit_expiries WHERE expires_at <= ?1 AND user_id = ?2")?
            .execute(params![now.micros(), user.0])?;
    }
    Ok(())
}

fn write_accounts(connection: &Connection, changes: &Changes, working: &Working) -> Result<(), DbError> {
    for (user, read) in &changes.accounts {
        let Some(account) = working.accounts.get(user) else { continue };
        let row: [&dyn ToSql; 9] = [
            &user.0,
            &account.version,
            &account.seq,
            &account.balance.micro(),
            &account.held.micro(),
            &account.credits_total.micro(),
            &account.head,
            &account.closed,
            &account.updated_at.micros(),
        ];
        let written = match read {
            Some(read) => connection
                .prepare_cached(
                    "UPDATE credit_accounts SET version = ?2, seq = ?3, balance = ?4, held = ?5, \
                     credits_total = ?6, head_hash = ?7, closed = ?8, updated_at = ?9 \
                     WHERE user_id = ?1 AND version = ?10",
                )?
                .execute(params_from_iter(row.into_iter().chain([read as &dyn ToSql])))?,
            None => connection
                .prepare_cached(concat!(
                    "INSERT INTO credit_accounts (",
                    account_columns!(),
                    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
                ))?
                .execute(row.as_slice())?,
        };
        exactly_one(written, "credit_accounts")?;
    }
    Ok(())
}

fn write_grants(connection: &Connection, changes: &Changes) -> Result<(), DbError> {
    let mut update = connection
        .prepare_cached("UPDATE credit_grants SET remaining = ?3 WHERE user_id = ?1 AND seq = ?2")?;
    for ((user, seq), grant) in &changes.grants {
        exactly_one(update.execute(params![user.0, seq, grant.remaining.micro()])?, "credit_grants")?;
    }
    for ((user, seq), grant) in &changes.new_grants {
        connection
            .prepare_cached(
                "INSERT INTO credit_grants (user_id, seq, source, amount, remaining, priority, effective_at, \
                 expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                user.0,
                seq,
                grant.source.as_str(),
                grant.amount.micro(),
                grant.remaining.micro(),
                grant.priority,
                grant.effective_at.micros(),
                grant.expires_at.map(Timestamp::micros),
            ])?;
        if let Some(end) = grant.expires_at {
            connection
                .prepare_cached("INSERT INTO credit_expiries (expires_at, user_id, seq) VALUES (?1, ?2, ?3)")?
                .execute(params![end.micros(), user.0, seq])?;
        }
    }
    Ok(())
}

fn write_entries(connection: &Connection, changes: &Changes) -> Result<(), DbError> {
    let mut insert = connection.prepare_cached(concat!(
        "INSERT INTO credit_entries (",
        entry_columns!(),
        ", counter_account) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
         ?18, ?19, ?20, ?21, ?22)"
    ))?;
    for entry in &changes.entries {
        insert.execute(params![
            entry.user.0,
            entry.seq,
            entry.id,
            entry.kind.as_str(),
            entry.amount.micro(),
            entry.balance_before.micro(),
            entry.balance_after.micro(),
            entry.cause.usage_record_id,
            entry.cause.hold_id,
            entry.cause.reverses,
            entry.cause.reference_id,
            entry.description,
            entry.metadata.as_str(),
            funded_by_text(&entry.funded_by),
            grant_terms_text(entry),
            entry.origin.actor,
            entry.origin.request_id,
            entry.origin.idempotency_key,
            entry.created_at.micros(),
            entry.prev_hash,
            entry.hash,
            entry.kind.counter_account(),
        ])?;
        if let Some(reference) = &entry.cause.reference_id {
            connection
                .prepare_cached(
                    "INSERT INTO credit_references (user_id, reference_id, seq) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![entry.user.0, reference, entry.seq])?;
        }
        if let (EntryKind::Refund, Some(original)) = (entry.kind, entry.cause.reverses) {
            connection
                .prepare_cached(
                    "INSERT INTO credit_refunds (user_id, original_seq, refund_seq) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![entry.user.0, original, entry.seq])?;
        }
    }
    Ok(())
}

fn first<T: FromRow>(select: &mut CachedStatement<'_>, values: impl Params) -> Result<Option<T>, DbError> {
    let mut rows = select.query(values)?;
    rows.next()?.map(|row| T::from_row(&Row::Sqlite(row))).transpose()
}

fn all<T: FromRow>(select: &mut CachedStatement<'_>, values: impl Params) -> Result<Vec<T>, DbError> {
    let mut rows = select.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(T::from_row(&Row::Sqlite(row))?);
    }
    Ok(found)
}
