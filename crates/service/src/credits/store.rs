//! Reading the ledger: transactions, grants, holds, balances of the past.

use super::hold::{Hold, HoldStatus};
use super::model::{Entry, EntryKind, Grant};
use super::rows::{entry_columns, grant_columns, hold_columns};
use crate::db::{Db, DbError, Rows, Value};
use kernel::{Credits, Timestamp, TransactionId, UserRowId};

/// Which transactions are wanted.
#[derive(Debug, Clone, Default)]
pub struct TransactionFilter {
    /// Of which type.
    pub kind: Option<EntryKind>,
    /// Not before.
    pub start: Option<Timestamp>,
    /// Not after.
    pub end: Option<Timestamp>,
    /// Only those with a smaller sequence number than this one.
    pub before_seq: Option<i64>,
    /// How many to pass over.
    pub offset: i64,
    /// How many to give.
    pub limit: i64,
}

/// Transactions of an account, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn transactions(
    db: &Db,
    user: UserRowId,
    filter: &TransactionFilter,
) -> Result<Rows<Entry>, DbError> {
    let (first, last) = seq_range(db, user, filter.start, filter.end).await?;
    let last = filter.before_seq.map_or(last, |before| last.min(before - 1));
    let mut values: Vec<Value> =
        vec![user.0.into(), first.into(), last.into(), (filter.limit + 1).into(), filter.offset.into()];
    let sql = match filter.kind {
        None => concat!(
            "SELECT ",
            entry_columns!(),
            " FROM credit_entries WHERE user_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq DESC LIMIT $4 OFFSET $5"
        ),
        Some(EntryKind::Consume) => concat!(
            "SELECT ",
            entry_columns!(),
            " FROM credit_entries WHERE user_id = $1 AND seq BETWEEN $2 AND $3 AND transaction_type = $6 \
             ORDER BY seq DESC LIMIT $4 OFFSET $5"
        ),
        // Says what the index on the rarer types says, so that it is used.
        Some(_) => concat!(
            "SELECT ",
            entry_columns!(),
            " FROM credit_entries WHERE user_id = $1 AND seq BETWEEN $2 AND $3 AND transaction_type = $6 \
             AND transaction_type <> 'consume' ORDER BY seq DESC LIMIT $4 OFFSET $5"
        ),
    };
    values.extend(filter.kind.map(|kind| Value::from(kind.as_str())));
    db.page(sql, values, filter.limit).await
}

/// The first and the last sequence number within a span of time, both ends included.
///
/// Time never falls along the sequence, so both are found by halving, whatever the account's length.
async fn seq_range(
    db: &Db,
    user: UserRowId,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
) -> Result<(i64, i64), DbError> {
    let last = db
        .find::<i64>("SELECT seq FROM credit_accounts WHERE user_id = $1", &[user.0.into()])
        .await?
        .unwrap_or(0);
    let first = match start {
        Some(start) => first_seq(db, user, last, |at| at >= start).await?,
        None => 1,
    };
    let last = match end {
        Some(end) => first_seq(db, user, last, |at| at > end).await? - 1,
        None => last,
    };
    Ok((first, last))
}

/// The first sequence number in `1..=last` whose time passes, or `last + 1`.
async fn first_seq(
    db: &Db,
    user: UserRowId,
    last: i64,
    passes: impl Fn(Timestamp) -> bool,
) -> Result<i64, DbError> {
    let (mut low, mut high) = (1, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let at = db
            .find::<i64>(
                "SELECT created_at FROM credit_entries WHERE user_id = $1 AND seq = $2",
                &[user.0.into(), middle.into()],
            )
            .await?;
        if at.is_some_and(|at| passes(Timestamp::from_micros(at))) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

/// Grants of an account, newest first: those with a smaller sequence number than `before_seq`.
///
/// # Errors
/// [`DbError`].
pub async fn grants(
    db: &Db,
    user: UserRowId,
    before_seq: Option<i64>,
    limit: i64,
    offset: i64,
) -> Result<Rows<Grant>, DbError> {
    db.page(
        concat!(
            "SELECT ",
            grant_columns!(),
            " FROM credit_grants WHERE user_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3 OFFSET $4"
        ),
        vec![user.0.into(), before_seq.unwrap_or(i64::MAX).into(), (limit + 1).into(), offset.into()],
        limit,
    )
    .await
}

/// The grants of an account with these sequence numbers.
///
/// # Errors
/// [`DbError`].
pub async fn grants_of(db: &Db, user: UserRowId, seqs: &[i64]) -> Result<Vec<Grant>, DbError> {
    let sql = match db {
        Db::Sqlite(_) => concat!(
            "SELECT ",
            grant_columns!(),
            " FROM credit_grants WHERE user_id = $1 AND seq IN (SELECT value FROM json_each($2))"
        ),
        Db::Postgres(_) => concat!(
            "SELECT ",
            grant_columns!(),
            " FROM credit_grants WHERE user_id = $1 \
             AND seq IN (SELECT json_array_elements_text($2::text::json)::bigint)"
        ),
    };
    let seqs = serde_json::to_string(seqs).unwrap_or_default();
    db.query(sql, vec![user.0.into(), seqs.as_str().into()]).await
}

/// One transaction.
///
/// # Errors
/// [`DbError`].
pub async fn one_entry(db: &Db, id: TransactionId) -> Result<Option<Entry>, DbError> {
    let sql = concat!("SELECT ", entry_columns!(), " FROM credit_entries WHERE user_id = $1 AND seq = $2");
    db.find(sql, &[id.user.0.into(), id.seq.into()]).await
}

/// One hold.
///
/// # Errors
/// [`DbError`].
pub async fn one_hold(db: &Db, user: UserRowId, n: i64) -> Result<Option<Hold>, DbError> {
    let sql = concat!("SELECT ", hold_columns!(), " FROM credit_holds WHERE user_id = $1 AND n = $2");
    db.find(sql, &[user.0.into(), n.into()]).await
}

/// Holds of an account, newest first: those with a smaller number than `before`.
///
/// # Errors
/// [`DbError`].
pub async fn holds(
    db: &Db,
    user: UserRowId,
    status: Option<HoldStatus>,
    before: Option<i64>,
    limit: i64,
    offset: i64,
) -> Result<Rows<Hold>, DbError> {
    let mut values: Vec<Value> =
        vec![user.0.into(), before.unwrap_or(i64::MAX).into(), (limit + 1).into(), offset.into()];
    let sql = match status {
        None => concat!(
            "SELECT ",
            hold_columns!(),
            " FROM credit_holds WHERE user_id = $1 AND n < $2 ORDER BY n DESC LIMIT $3 OFFSET $4"
        ),
        // Says what the index on open holds says, so that it is used.
        Some(HoldStatus::Open) => concat!(
            "SELECT ",
            hold_columns!(),
            " FROM credit_holds WHERE user_id = $1 AND n < $2 AND status = 'open' ORDER BY n DESC LIMIT $3 OFFSET $4"
        ),
        Some(_) => concat!(
            "SELECT ",
            hold_columns!(),
            " FROM credit_holds WHERE user_id = $1 AND n < $2 AND status = $5 ORDER BY n DESC LIMIT $3 OFFSET $4"
        ),
    };
    let named = status.filter(|status| *status != HoldStatus::Open);
    values.extend(named.map(|status| Value::from(status.as_str())));
    db.page(sql, values, limit).await
}

/// What an account's balance was at an instant, and what of it was held.
///
/// # Errors
/// [`DbError`].
pub async fn balance_at(db: &Db, user: UserRowId, at: Timestamp) -> Result<(Credits, Credits), DbError> {
    let (_, last) = seq_range(db, user, None, Some(at)).await?;
    let balance = db
        .find::<i64>(
            "SELECT balance_after FROM credit_entries WHERE user_id = $1 AND seq = $2",
            &[user.0.into(), last.into()],
        )
        .await?;
    let held = db
        .find::<i64>(
            "SELECT CAST(coalesce(sum(amount), 0) AS BIGINT) FROM credit_holds WHERE user_id = $1 \
             AND created_at <= $2 AND expires_at > $2 AND (settled_at IS NULL OR settled_at > $2)",
            &[user.0.into(), at.micros().into()],
        )
        .await?;
    Ok((Credits::from_micro(balance.unwrap_or(0)), Credits::from_micro(held.unwrap_or(0))))
}

/// Accounts that have expiries to be written down at `now`, at most `limit` of them.
///
/// # Errors
/// [`DbError`].
pub async fn due(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<UserRowId>, DbError> {
    let sql = "SELECT DISTINCT user_id FROM (SELECT user_id FROM credit_expiries WHERE expires_at <= $1 \
               ORDER BY expires_at LIMIT $2) AS soonest UNION SELECT user_id FROM (SELECT user_id FROM credit_holds \
               WHERE status = 'open' AND expires_at <= $1 ORDER BY expires_at LIMIT $2) AS ended";
    let users = db.query::<i64>(sql, vec![now.micros().into(), limit.into()]).await?;
    Ok(users.into_iter().map(UserRowId).collect())
}
