//! Accounts, grants and entries on PostgreSQL.

use crate::credits::chain::{basis_text, funded_by_text, grant_terms_text};
use crate::credits::hold::Hold;
use crate::credits::ledger::Original;
use crate::credits::rows::{
    AccountPart, account_columns, account_parts, entry_columns, gather, grant_columns, hold_columns,
};
use crate::credits::{Entry, EntryKind, Grant};
use crate::db::write::Write;
use crate::db::{DbError, FromRow, Row};
use crate::writer::needs::Needs;
use crate::writer::plan::{Changes, Working};
use deadpool_postgres::Object;
use kernel::{Credits, GrantId, Timestamp, TransactionId, UserRowId};

/// Loads accounts with their open grants and holds: in one statement, and so as they were at one
/// instant; or with the accounts locked, and then nobody changes the rest.
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
    if lock {
        let sql = "SELECT user_id FROM credit_accounts WHERE user_id = ANY($1) ORDER BY user_id FOR UPDATE";
        connection.query(&connection.prepare_cached(sql).await?, &[&users]).await?;
    }
    let statement = connection.prepare_cached(account_parts!("a.user_id = ANY($1)")).await?;
    let rows = connection.query(&statement, &[&users]).await?;
    let parts = rows.iter().map(|row| AccountPart::from_row(&Row::Postgres(row)));
    let accounts = gather(parts.collect::<Result<Vec<_>, _>>()?);
    working.accounts.extend(accounts.into_iter().map(|account| (account.user, account)));
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
    load_holds(connection, needs, working).await?;
    for id in &needs.grants {
        let statement = connection
            .prepare_cached(concat!(
                "SELECT ",
                grant_columns!(),
                " FROM credit_grants WHERE user_id = $1 AND seq = $2"
            ))
            .await?;
        if let Some(row) = connection.query_opt(&statement, &[&id.user.0, &id.seq]).await? {
            working.grants.insert(*id, Grant::from_row(&Row::Postgres(&row))?);
        }
    }
    for id in &needs.originals {
        load_original(connection, *id, working).await?;
    }
    load_reversed(connection, needs, working).await
}

/// Loads what was taken back so far of the grants where it matters.
async fn load_reversed(connection: &Object, needs: &Needs, working: &mut Working) -> Result<(), DbError> {
    let grants = needs.reversible(working);
    if grants.is_empty() {
        return Ok(());
    }
    let statement = connection
        .prepare_cached(
            "SELECT e.user_id, e.reverses, (-sum(e.amount))::bigint FROM credit_entries e \
             JOIN UNNEST($1::bigint[], $2::bigint[]) AS t(user_id, seq) \
             ON e.user_id = t.user_id AND e.reverses = t.seq \
             WHERE e.transaction_type = 'reversal' GROUP BY e.user_id, e.reverses",
        )
        .await?;
    let (users, seqs): (Vec<i64>, Vec<i64>) = grants.iter().map(|id| (id.user.0, id.seq)).unzip();
    for row in connection.query(&statement, &[&users, &seqs]).await? {
        let id = GrantId { user: UserRowId(row.try_get(0)?), seq: row.try_get(1)? };
        working.reversed.insert(id, Credits::from_micro(row.try_get(2)?));
    }
    Ok(())
}

/// Loads the holds that are named, and the entries of those that were charged.
async fn load_holds(connection: &Object, needs: &Needs, working: &mut Working) -> Result<(), DbError> {
    if needs.holds.is_empty() {
        return Ok(());
    }
    let statement = connection
        .prepare_cached(concat!(
            "SELECT ",
            hold_columns!(),
            " FROM credit_holds WHERE (user_id, n) IN (SELECT * FROM UNNEST($1::bigint[], $2::bigint[]))"
        ))
        .await?;
    let (users, numbers): (Vec<i64>, Vec<i64>) = needs.holds.iter().map(|id| (id.user.0, id.seq)).unzip();
    let mut charged = Vec::new();
    for row in connection.query(&statement, &[&users, &numbers]).await? {
        let row = Row::Postgres(&row);
        let (user, hold) = (UserRowId(row.int(0)?), Hold::from_row(&row)?);
        let seq = hold.settled.and_then(|settled| settled.entry_seq);
        charged.extend(seq.map(|seq| TransactionId { user, seq }));
        working.holds.insert(hold.id(user), hold);
    }
    entries(connection, &charged, working).await
}

/// Loads entries by their ids.
///
/// # Errors
/// [`DbError`].
pub async fn entries(
    connection: &Object,
    ids: &[TransactionId],
    working: &mut Working,
) -> Result<(), DbError> {
    if ids.is_empty() {
        return Ok(());
    }
    let statement = connection
        .prepare_cached(concat!(
            "SELECT ",
            entry_columns!(),
            " FROM credit_entries WHERE (user_id, seq) IN (SELECT * FROM UNNEST($1::bigint[], $2::bigint[]))"
        ))
        .await?;
    let (users, seqs): (Vec<i64>, Vec<i64>) = ids.iter().map(|id| (id.user.0, id.seq)).unzip();
    for row in connection.query(&statement, &[&users, &seqs]).await? {
        let entry = Entry::from_row(&Row::Postgres(&row))?;
        working.entries.insert(entry.transaction_id(), entry);
    }
    Ok(())
}

async fn load_original(connection: &Object, id: TransactionId, working: &mut Working) -> Result<(), DbError> {
    entries(connection, &[id], working).await?;
    let Some(entry) = working.entries.get(&id).cloned() else { return Ok(()) };
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
    if !changes.holds.is_empty() {
        writes.push(hold_write(changes));
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
            .column(touched(new).map(|(_, account)| account.credit_limit.micro()))
            .column(touched(new).map(|(_, account)| account.hold_seq))
            .column(touched(new).map(|(_, account)| account.limits_text()))
            .column(touched(new).map(|(_, account)| account.seal().to_vec()))
    };
    let (fresh, known) = (touched(true).count(), touched(false).count());
    if fresh > 0 {
        let insert = Write::rows(
            concat!(
                "INSERT INTO credit_accounts (",
                account_columns!(),
                ") SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
                 $6::bigint[], $7::bytea[], $8::boolean[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], \
                 $13::bytea[])"
            ),
            fresh,
        );
        writes.push(columns(insert, true));
    }
    if known > 0 {
        let update = Write::rows(
            concat!(
                "WITH moved AS (SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], \
                 $5::bigint[], $6::bigint[], $7::bytea[], $8::boolean[], $9::bigint[], $10::bigint[], $11::bigint[], \
                 $12::text[], $13::bytea[], $14::bigint[]) AS t(",
                account_columns!(),
                ", read_version)), locked AS (SELECT a.user_id FROM credit_accounts a JOIN moved m \
                 ON m.user_id = a.user_id WHERE a.version = m.read_version ORDER BY a.user_id FOR UPDATE OF a) \
                 UPDATE credit_accounts a SET version = m.version, seq = m.seq, balance = m.balance, \
                 held = m.held, credits_total = m.credits_total, head_hash = m.head_hash, closed = m.closed, \
                 updated_at = m.updated_at, credit_limit = m.credit_limit, hold_seq = m.hold_seq, \
                 spending_limits = m.spending_limits, seal = m.seal FROM moved m JOIN locked l ON l.user_id = m.user_id \
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
                "UPDATE credit_grants g SET remaining = t.remaining, voided = t.voided \
                 FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[]) AS t(user_id, seq, remaining, voided) \
                 WHERE g.user_id = t.user_id AND g.seq = t.seq",
                changes.grants.len(),
            )
            .column(changes.grants.keys().map(|(user, _)| user.0))
            .column(changes.grants.keys().map(|(_, seq)| *seq))
            .column(changes.grants.values().map(|grant| grant.remaining.micro()))
            .column(changes.grants.values().map(|grant| grant.voided)),
        );
    }
    if changes.new_grants.is_empty() {
        return;
    }
    let grants = || changes.new_grants.values();
    writes.push(
        Write::rows(
            "INSERT INTO credit_grants (user_id, seq, source, amount, remaining, priority, effective_at, \
             expires_at, scope, rollover, voided) SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], \
             $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::boolean[])",
            changes.new_grants.len(),
        )
        .column(changes.new_grants.keys().map(|(user, _)| user.0))
        .column(changes.new_grants.keys().map(|(_, seq)| *seq))
        .column(grants().map(|grant| grant.source.as_str()))
        .column(grants().map(|grant| grant.amount.micro()))
        .column(grants().map(|grant| grant.remaining.micro()))
        .column(grants().map(|grant| grant.priority))
        .column(grants().map(|grant| grant.effective_at.micros()))
        .column(grants().map(|grant| grant.expires_at.map(Timestamp::micros)))
        .column(grants().map(Grant::scope_text))
        .column(grants().map(Grant::rollover_text))
        .column(grants().map(|grant| grant.voided)),
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
                 $19::bigint[], $20::bytea[], $21::bytea[], $22::text[], $23::text[])"
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
        .column(all().map(basis_text))
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

fn hold_write(changes: &Changes) -> Write<'_> {
    let all = || changes.holds.iter();
    let holds = || changes.holds.values();
    let settled = || holds().map(|hold| hold.settled.as_ref());
    Write::rows(
        concat!(
            "INSERT INTO credit_holds (",
            hold_columns!(),
            ") SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], \
             $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], \
             $15::text[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bytea[]) \
             ON CONFLICT (user_id, n) DO UPDATE SET status = excluded.status, amount = excluded.amount, \
             ticked = excluded.ticked, expires_at = excluded.expires_at, parts = excluded.parts, \
             settled_at = excluded.settled_at, asked = excluded.asked, captured = excluded.captured, \
             short_by = excluded.short_by, entry_seq = excluded.entry_seq, seal = excluded.seal"
        ),
        changes.holds.len(),
    )
    .column(all().map(|((user, _), _)| user.0))
    .column(holds().map(|hold| hold.n))
    .column(holds().map(|hold| hold.status.as_str()))
    .column(holds().map(|hold| hold.amount.micro()))
    .column(holds().map(|hold| hold.ticked.micro()))
    .column(holds().map(|hold| hold.on_expiry.as_str()))
    .column(holds().map(|hold| hold.created_at.micros()))
    .column(holds().map(|hold| hold.expires_at.micros()))
    .column(holds().map(|hold| funded_by_text(&hold.parts)))
    .column(holds().map(Hold::context_text))
    .column(holds().map(|hold| hold.description.as_deref()))
    .column(holds().map(|hold| hold.metadata.as_str()))
    .column(holds().map(|hold| hold.origin.actor.as_str()))
    .column(holds().map(|hold| hold.origin.request_id.as_deref()))
    .column(holds().map(|hold| hold.origin.idempotency_key.as_deref()))
    .column(settled().map(|settled| settled.map(|settled| settled.at.micros())))
    .column(settled().map(|settled| settled.map(|settled| settled.asked.micro())))
    .column(settled().map(|settled| settled.map(|settled| settled.captured.micro())))
    .column(settled().map(|settled| settled.map(|settled| settled.short_by.micro())))
    .column(settled().map(|settled| settled.and_then(|settled| settled.entry_seq)))
    .column(all().map(|((user, _), hold)| hold.seal(*user).to_vec()))
}
