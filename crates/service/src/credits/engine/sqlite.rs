//! Accounts, grants and entries on SQLite.

use crate::credits::chain::{basis_text, funded_by_text, grant_terms_text};
use crate::credits::hold::Hold;
use crate::credits::ledger::Original;
use crate::credits::rows::{account_columns, entry_columns, grant_columns, hold_columns};
use crate::credits::{Account, Entry, EntryKind, Grant};
use crate::db::{DbError, FromRow, Row};
use crate::writer::needs::Needs;
use crate::writer::plan::{Changes, Working};
use crate::writer::sqlite::exactly_one;
use kernel::{Credits, Timestamp, TransactionId, UserRowId};
use rusqlite::{CachedStatement, Connection, Params, ToSql, params, params_from_iter};

/// Loads one account with its open grants and holds.
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
    if account.held > Credits::ZERO {
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            hold_columns!(),
            " FROM credit_holds WHERE user_id = ?1 AND status = 'open'"
        ))?;
        all::<Hold>(&mut select, [user.0])?.into_iter().for_each(|hold| account.insert_hold(hold));
    }
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
    for id in &needs.holds {
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            hold_columns!(),
            " FROM credit_holds WHERE user_id = ?1 AND n = ?2"
        ))?;
        let Some(hold) = first::<Hold>(&mut select, params![id.user.0, id.seq])? else { continue };
        if let Some(seq) = hold.settled.and_then(|settled| settled.entry_seq) {
            let id = TransactionId { user: id.user, seq };
            working.entries.extend(entry(connection, id)?.map(|entry| (id, entry)));
        }
        working.holds.insert(*id, hold);
    }
    for id in &needs.grants {
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            grant_columns!(),
            " FROM credit_grants WHERE user_id = ?1 AND seq = ?2"
        ))?;
        working
            .grants
            .extend(first::<Grant>(&mut select, params![id.user.0, id.seq])?.map(|grant| (*id, grant)));
    }
    for id in &needs.originals {
        let Some(entry) = entry(connection, *id)? else { continue };
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
    for id in needs.reversible(working) {
        let reversed: i64 = connection
            .prepare_cached(
                "SELECT coalesce(-sum(amount), 0) FROM credit_entries WHERE user_id = ?1 AND reverses = ?2 \
                 AND transaction_type = 'reversal' AND transaction_type <> 'consume'",
            )?
            .query_row(params![id.user.0, id.seq], |row| row.get(0))?;
        working.reversed.insert(id, Credits::from_micro(reversed));
    }
    Ok(())
}

/// One entry.
///
/// # Errors
/// [`DbError`].
pub fn entry(connection: &Connection, id: TransactionId) -> Result<Option<Entry>, DbError> {
    let mut select = connection.prepare_cached(concat!(
        "SELECT ",
        entry_columns!(),
        " FROM credit_entries WHERE user_id = ?1 AND seq = ?2"
    ))?;
    first::<Entry>(&mut select, params![id.user.0, id.seq])
}

/// Writes what a batch did to the ledger.
///
/// # Errors
/// [`DbError`].
pub fn write(connection: &Connection, changes: &Changes, working: &Working) -> Result<(), DbError> {
    write_accounts(connection, changes, working)?;
    write_grants(connection, changes)?;
    write_entries(connection, changes)?;
    write_holds(connection, changes)?;
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
        let row: [&dyn ToSql; 13] = [
            &user.0,
            &account.version,
            &account.seq,
            &account.balance.micro(),
            &account.held.micro(),
            &account.credits_total.micro(),
            &account.head,
            &account.closed,
            &account.updated_at.micros(),
            &account.credit_limit.micro(),
            &account.hold_seq,
            &account.limits_text(),
            &account.seal(),
        ];
        let written = match read {
            Some(read) => connection
                .prepare_cached(
                    "UPDATE credit_accounts SET version = ?2, seq = ?3, balance = ?4, held = ?5, \
                     credits_total = ?6, head_hash = ?7, closed = ?8, updated_at = ?9, credit_limit = ?10, \
                     hold_seq = ?11, spending_limits = ?12, seal = ?13 WHERE user_id = ?1 AND version = ?14",
                )?
                .execute(params_from_iter(row.into_iter().chain([read as &dyn ToSql])))?,
            None => connection
                .prepare_cached(concat!(
                    "INSERT INTO credit_accounts (",
                    account_columns!(),
                    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
                ))?
                .execute(row.as_slice())?,
        };
        exactly_one(written, "credit_accounts")?;
    }
    Ok(())
}

fn write_grants(connection: &Connection, changes: &Changes) -> Result<(), DbError> {
    let mut update = connection.prepare_cached(
        "UPDATE credit_grants SET remaining = ?3, voided = ?4 WHERE user_id = ?1 AND seq = ?2",
    )?;
    for ((user, seq), grant) in &changes.grants {
        let row = params![user.0, seq, grant.remaining.micro(), grant.voided];
        exactly_one(update.execute(row)?, "credit_grants")?;
    }
    for ((user, seq), grant) in &changes.new_grants {
        connection
            .prepare_cached(
                "INSERT INTO credit_grants (user_id, seq, source, amount, remaining, priority, effective_at, \
                 expires_at, scope, rollover, voided) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
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
                grant.scope_text(),
                grant.rollover_text(),
                grant.voided,
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
         ?18, ?19, ?20, ?21, ?22, ?23)"
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
            basis_text(entry),
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

fn write_holds(connection: &Connection, changes: &Changes) -> Result<(), DbError> {
    if changes.holds.is_empty() {
        return Ok(());
    }
    let mut upsert = connection.prepare_cached(concat!(
        "INSERT INTO credit_holds (",
        hold_columns!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21) \
         ON CONFLICT (user_id, n) DO UPDATE SET status = excluded.status, amount = excluded.amount, \
         ticked = excluded.ticked, expires_at = excluded.expires_at, parts = excluded.parts, \
         settled_at = excluded.settled_at, asked = excluded.asked, captured = excluded.captured, \
         short_by = excluded.short_by, entry_seq = excluded.entry_seq, seal = excluded.seal"
    ))?;
    for ((user, _), hold) in &changes.holds {
        let settled = hold.settled.as_ref();
        let written = upsert.execute(params![
            user.0,
            hold.n,
            hold.status.as_str(),
            hold.amount.micro(),
            hold.ticked.micro(),
            hold.on_expiry.as_str(),
            hold.created_at.micros(),
            hold.expires_at.micros(),
            funded_by_text(&hold.parts),
            hold.context_text(),
            hold.description,
            hold.metadata.as_str(),
            hold.origin.actor,
            hold.origin.request_id,
            hold.origin.idempotency_key,
            settled.map(|settled| settled.at.micros()),
            settled.map(|settled| settled.asked.micro()),
            settled.map(|settled| settled.captured.micro()),
            settled.map(|settled| settled.short_by.micro()),
            settled.and_then(|settled| settled.entry_seq),
            hold.seal(*user),
        ])?;
        exactly_one(written, "credit_holds")?;
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
