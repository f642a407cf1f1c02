//! Accounts, grants and entries on PostgreSQL.

use crate::credits::chain::{funded_by_text, grant_terms_text};
use crate::credits::ledger::Original;
use crate::credits::store::{account_columns, entry_columns, grant_columns};
use crate::credits::{Account, Entry, EntryKind, Grant};
use crate::db::write::Write;
use crate::db::{DbError, FromRow, Row};
use crate::writer::needs::Needs;
use crate::writer::plan::{Changes, Working};
use deadpool_postgres::Object;
use kernel::{Credits, Timestamp, TransactionId, UserRowId};

/// Loads accounts with their open grants, locked when asked to.
///
/// The accounts come first: where the grants are newer than the account, the account's version
/// is too old to be written, and the batch is decided again.
///
/// # Errors
/// [`DbError`].
pub async fn accounts(
    connection: &Object,
    users: &[UserRowId],
    lock: bool,
    working: &mut Working,
) -> Result<(), DbError> {
    if users.is_empty() {
        return Ok(());
    }
    let users: Vec<i64> = users.iter().map(|user| user.0).collect();
    let sql = if lock {
        concat!(
            "SELECT ",
            account_columns!(),
            " FROM credit_accounts WHERE user_id = ANY($1) ORDER BY user_id FOR UPDATE"
        )
    } else {
        concat!("SELECT ", account_columns!(), " FROM credit_accounts WHERE user_id = ANY($1)")
    };
    let statement = connection.prepare_cached(sql).await?;
    for row in connection.query(&statement, &[&users]).await? {
        let account = Account::from_row(&Row::Postgres(&row))?;
        working.accounts.insert(account.user, account);
    }
    let statement = connection
        .prepare_cached(concat!(
            "SELECT ",
            grant_columns!(),
            ", user_id FROM credit_grants WHERE user_id = ANY($1) AND remaining > 0"
        ))
        .await?;
    for row in connection.query(&statement, &[&users]).await? {
        let row = Row::Postgres(&row);
        let grant = Grant::from_row(&row)?;
        if let Some(account) = working.accounts.get_mut(&UserRowId(row.int(7)?)) {
            account.insert_grant(grant);
        }
    }
    Ok(())
}

/// Loads what the ledger's commands refer to, beside their accounts.
///
/// # Errors
/// [`DbError`].
pub async fn load(connection: &Object, needs: &Needs, working: &mut Working) -> Result<(), DbError> {
    if !needs.references.is_empty() {
        let statement = connection
            .prepare_cached(concat!(
                "SELECT ",
                entry_columns!(),
                " FROM credit_entries WHERE (user_id, seq) IN (SELECT r.user_id, r.seq FROM credit_references r \
                 JOIN UNNEST($1::bigint[], $2::text[]) AS t(user_id, reference_id) \
                 ON t.user_id = r.user_id AND t.reference_id = r.reference_id)"
            ))
            .await?;
        let (users, references): (Vec<i64>, Vec<&str>) =
            needs.references.iter().map(|(user, reference)| (user.0, reference.as_str())).unzip();
        for row in connection.query(&statement, &[&users, &references]).await? {
            let entry = Entry::from_row(&Row::Postgres(&row))?;
            if let Some(reference) = entry.cause.reference_id.clone() {
                working.references.insert((entry.user, reference), entry);
            }
        }
    }
    for id in &needs.originals {
        load_original(connection, *id, working).await?;
    }
    Ok(())
}

async fn load_original(connection: &Object, id: TransactionId, working: &mut Working) -> Result<(), DbError> {
    let statement = connection
        .prepare_cached(concat!(
            "SELECT ",
            entry_columns!(),
            " FROM credit_entries WHERE user_id = $1 AND seq = $2"
        ))
        .await?;
    let Some(row) = connection.query_opt(&statement, &[&id.user.0, &id.seq]).await? else { return Ok(()) };
    let entry = Entry::from_row(&Row::Postgres(&row))?;
    let statement = connection
        .prepare_cached(
            "SELECT coalesce(sum(e.amount), 0)::bigint FROM credit_refunds r \
             JOIN credit_entries e ON e.user_id = r.user_id AND e.seq = r.refund_seq \
             WHERE r.user_id = $1 AND r.original_seq = $2",
        )
        .await?;
    let refunded: i64 = connection.query_one(&statement, &[&id.user.0, &id.seq]).await?.try_get(0)?;
    let statement = connection
        .prepare_cached(concat!(
            "SELECT ",
            grant_columns!(),
            " FROM credit_grants WHERE user_id = $1 AND seq = ANY($2)"
        ))
        .await?;
    let seqs: Vec<i64> = entry.funded_by.iter().map(|(seq, _)| *seq).collect();
    let rows = connection.query(&statement, &[&id.user.0, &seqs]).await?;
    let grants = rows.iter().map(|row| Grant::from_row(&Row::Postgres(row))).collect::<Result<_, _>>()?;
    working.originals.insert(id, Original { entry, refunded: Credits::from_micro(refunded), grants });
    Ok(())
}

/// What a batch writes of the ledger. The accounts come first: they are the lock.
#[must_use]
pub fn writes<'a>(changes: &'a Changes, working: &'a Working) -> Vec<Write<'a>> {
    let mut writes = Vec::new();
    account_writes(changes, working, &mut writes);
    grant_writes(changes, &mut writes);
    if !changes.entries.is_empty() {
        entry_writes(&changes.entries, &mut writes);
    }
    if !changes.settled.is_empty() {
        let settled = || changes.settled.iter();
        writes.push(
            Write::any(
                "DELETE FROM credit_expiries e USING UNNEST($1::bigint[], $2::bigint[]) AS t(user_id, now) \
                 WHERE e.user_id = t.user_id AND e.expires_at <= t.now",
            )
            .column(settled().map(|(user, _)| user.0))
            .column(settled().map(|(_, now)| now.micros())),
        );
    }
    writes
}

fn account_writes<'a>(changes: &'a Changes, working: &'a Working, writes: &mut Vec<Write<'a>>) {
    let touched = |new: bool| {
        changes
            .accounts
            .iter()
            .filter(move |(_, read)| read.is_none() == new)
            .filter_map(|(user, read)| Some((read.unwrap_or(0), working.accounts.get(user)?)))
    };
    let columns = |write: Write<'a>, new: bool| {
        write
            .column(touched(new).map(|(_, account)| account.user.0))
            .column(touched(new).map(|(_, account)| account.version))
            .column(touched(new).map(|(_, account)| account.seq))
            .column(touched(new).map(|(_, account)| account.balance.micro()))
            .column(touched(new).map(|(_, account)| account.held.micro()))
            .column(touched(new).map(|(_, account)| account.credits_total.micro()))
            .column(touched(new).map(|(_, account)| account.head.as_slice()))
            .column(touched(new).map(|(_, account)| account.closed))
            .column(touched(new).map(|(_, account)| account.updated_at.micros()))
    };
    let (fresh, known) = (touched(true).count(), touched(false).count());
    if fresh > 0 {
        let insert = Write::rows(
            concat!(
                "INSERT INTO credit_accounts (",
                account_columns!(),
                ") SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
                 $6::bigint[], $7::bytea[], $8::boolean[], $9::bigint[])"
            ),
            fresh,
        );
        writes.push(columns(insert, true));
    }
    if known > 0 {
        let update = Write::rows(
            concat!(
                "WITH moved AS (SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], \
                 $5::bigint[], $6::bigint[], $7::bytea[], $8::boolean[], $9::bigint[], $10::bigint[]) AS t(",
                account_columns!(),
                ", read_version)), locked AS (SELECT a.user_id FROM credit_accounts a JOIN moved m \
                 ON m.user_id = a.user_id WHERE a.version = m.read_version ORDER BY a.user_id FOR UPDATE OF a) \
                 UPDATE credit_accounts a SET version = m.version, seq = m.seq, balance = m.balance, \
                 held = m.held, credits_total = m.credits_total, head_hash = m.head_hash, closed = m.closed, \
                 updated_at = m.updated_at FROM moved m JOIN locked l ON l.user_id = m.user_id \
                 WHERE a.user_id = m.user_id"
            ),
            known,
        );
        writes.push(columns(update, false).column(touched(false).map(|(read, _)| read)));
    }
}

fn grant_writes<'a>(changes: &'a Changes, writes: &mut Vec<Write<'a>>) {
    if !changes.grants.is_empty() {
        writes.push(
            Write::rows(
                "UPDATE credit_grants g SET remaining = t.remaining \
                 FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS t(user_id, seq, remaining) \
                 WHERE g.user_id = t.user_id AND g.seq = t.seq",
                changes.grants.len(),
            )
            .column(changes.grants.keys().map(|(user, _)| user.0))
            .column(changes.grants.keys().map(|(_, seq)| *seq))
            .column(changes.grants.values().map(|grant| grant.remaining.micro())),
        );
    }
    if changes.new_grants.is_empty() {
        return;
    }
    let grants = || changes.new_grants.values();
    writes.push(
        Write::rows(
            "INSERT INTO credit_grants (user_id, seq, source, amount, remaining, priority, effective_at, \
             expires_at) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], \
             $6::bigint[], $7::bigint[], $8::bigint[])",
            changes.new_grants.len(),
        )
        .column(changes.new_grants.keys().map(|(user, _)| user.0))
        .column(changes.new_grants.keys().map(|(_, seq)| *seq))
        .column(grants().map(|grant| grant.source.as_str()))
        .column(grants().map(|grant| grant.amount.micro()))
        .column(grants().map(|grant| grant.remaining.micro()))
        .column(grants().map(|grant| grant.priority))
        .column(grants().map(|grant| grant.effective_at.micros()))
        .column(grants().map(|grant| grant.expires_at.map(Timestamp::micros))),
    );
    let ending = || {
        let with_end =
            |((user, seq), grant): (&(UserRowId, i64), &Grant)| Some((grant.expires_at?, *user, *seq));
        changes.new_grants.iter().filter_map(with_end)
    };
    writes.push(
        Write::rows(
            "INSERT INTO credit_expiries (expires_at, user_id, seq) \
             SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[])",
            ending().count(),
        )
        .column(ending().map(|(end, _, _)| end.micros()))
        .column(ending().map(|(_, user, _)| user.0))
        .column(ending().map(|(_, _, seq)| seq)),
    );
}

fn entry_writes<'a>(entries: &'a [Entry], writes: &mut Vec<Write<'a>>) {
    let all = || entries.iter();
    writes.push(
        Write::rows(
            concat!(
                "INSERT INTO credit_entries (",
                entry_columns!(),
                ", counter_account) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], \
                 $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::text[], \
                 $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], \
                 $19::bigint[], $20::bytea[], $21::bytea[], $22::text[])"
            ),
            entries.len(),
        )
        .column(all().map(|entry| entry.user.0))
        .column(all().map(|entry| entry.seq))
        .column(all().map(|entry| entry.id))
        .column(all().map(|entry| entry.kind.as_str()))
        .column(all().map(|entry| entry.amount.micro()))
        .column(all().map(|entry| entry.balance_before.micro()))
        .column(all().map(|entry| entry.balance_after.micro()))
        .column(all().map(|entry| entry.cause.usage_record_id))
        .column(all().map(|entry| entry.cause.hold_id.as_deref()))
        .column(all().map(|entry| entry.cause.reverses))
        .column(all().map(|entry| entry.cause.reference_id.as_deref()))
        .column(all().map(|entry| entry.description.as_deref()))
        .column(all().map(|entry| entry.metadata.as_str()))
        .column(all().map(|entry| funded_by_text(&entry.funded_by)))
        .column(all().map(grant_terms_text))
        .column(all().map(|entry| entry.origin.actor.as_str()))
        .column(all().map(|entry| entry.origin.request_id.as_deref()))
        .column(all().map(|entry| entry.origin.idempotency_key.as_deref()))
        .column(all().map(|entry| entry.created_at.micros()))
        .column(all().map(|entry| entry.prev_hash.as_slice()))
        .column(all().map(|entry| entry.hash.as_slice()))
        .column(all().map(|entry| entry.kind.counter_account())),
    );
    let referring = || all().filter(|entry| entry.cause.reference_id.is_some());
    if referring().next().is_some() {
        writes.push(
            Write::rows(
                "INSERT INTO credit_references (user_id, reference_id, seq) \
                 SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[])",
                referring().count(),
            )
            .column(referring().map(|entry| entry.user.0))
            .column(referring().filter_map(|entry| entry.cause.reference_id.as_deref()))
            .column(referring().map(|entry| entry.seq)),
        );
    }
    let refunds = || all().filter(|entry| entry.kind == EntryKind::Refund && entry.cause.reverses.is_some());
    if refunds().next().is_some() {
        writes.push(
            Write::rows(
                "INSERT INTO credit_refunds (user_id, original_seq, refund_seq) \
                 SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[])",
                refunds().count(),
            )
            .column(refunds().map(|entry| entry.user.0))
            .column(refunds().filter_map(|entry| entry.cause.reverses))
            .column(refunds().map(|entry| entry.seq)),
        );
    }
}
