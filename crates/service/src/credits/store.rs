//! Reading the ledger: accounts, grants, transactions.

use super::model::{Account, Cause, Entry, EntryKind, Grant, GrantTerms, Origin};
use crate::db::{Db, DbError, FromRow, Row, Rows, Value, Weigh};
use kernel::{Credits, JsonObject, Timestamp, UserRowId};

/// The columns of an account's row, in the order that its `FromRow` reads them.
macro_rules! account_columns {
    () => {
        "user_id, version, seq, balance, held, credits_total, head_hash, closed, updated_at"
    };
}
/// The columns of a grant, in the order that its `FromRow` reads them.
macro_rules! grant_columns {
    () => {
        "seq, source, amount, remaining, priority, effective_at, expires_at"
    };
}
/// The columns of an entry, in the order that its `FromRow` reads them.
macro_rules! entry_columns {
    () => {
        "user_id, seq, id, transaction_type, amount, balance_before, balance_after, usage_record_id, hold_id, \
         reverses, reference_id, description, metadata, funded_by, grant_terms, actor, request_id, \
         idempotency_key, created_at, prev_hash, hash"
    };
}
pub(crate) use {account_columns, entry_columns, grant_columns};

/// The word of an enum column.
fn word<T: std::str::FromStr<Err = String>>(row: &Row<'_>, column: usize) -> Result<T, DbError> {
    row.text(column)?.parse().map_err(|rule| DbError::Internal(format!("column {column} {rule}")))
}

impl FromRow for Account {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            user: UserRowId(row.int(0)?),
            version: row.int(1)?,
            seq: row.int(2)?,
            balance: Credits::from_micro(row.int(3)?),
            held: Credits::from_micro(row.int(4)?),
            credits_total: Credits::from_micro(row.int(5)?),
            head: row.hash(6)?,
            closed: row.boolean(7)?,
            updated_at: Timestamp::from_micros(row.int(8)?),
            grants: Vec::new(),
        })
    }
}

impl FromRow for Grant {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        grant(row, 0)
    }
}

fn grant(row: &Row<'_>, from: usize) -> Result<Grant, DbError> {
    Ok(Grant {
        seq: row.int(from)?,
        source: word(row, from + 1)?,
        amount: Credits::from_micro(row.int(from + 2)?),
        remaining: Credits::from_micro(row.int(from + 3)?),
        priority: row.int(from + 4)?,
        effective_at: Timestamp::from_micros(row.int(from + 5)?),
        expires_at: row.optional_int(from + 6)?.map(Timestamp::from_micros),
    })
}

impl Weigh for Grant {
    /// A grant carries no text of a caller's.
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for Entry {
    fn weight(&self) -> usize {
        self.metadata.as_str().len()
    }
}

impl FromRow for Entry {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let malformed = |column: &str, e: &dyn std::fmt::Display| DbError::Internal(format!("{column}: {e}"));
        let funded_by: Vec<(i64, i64)> =
            serde_json::from_str(&row.text(13)?).map_err(|e| malformed("funded_by", &e))?;
        let grant: Option<GrantTerms> = row
            .optional_text(14)?
            .map(|terms| serde_json::from_str(&terms).map_err(|e| malformed("grant_terms", &e)))
            .transpose()?;
        Ok(Self {
            user: UserRowId(row.int(0)?),
            seq: row.int(1)?,
            id: row.int(2)?,
            kind: word(row, 3)?,
            amount: Credits::from_micro(row.int(4)?),
            balance_before: Credits::from_micro(row.int(5)?),
            balance_after: Credits::from_micro(row.int(6)?),
            cause: Cause {
                usage_record_id: row.optional_int(7)?,
                hold_id: row.optional_text(8)?,
                reverses: row.optional_int(9)?,
                reference_id: row.optional_text(10)?,
            },
            description: row.optional_text(11)?,
            metadata: JsonObject::from_stored(row.text(12)?),
            funded_by: funded_by.into_iter().map(|(seq, part)| (seq, Credits::from_micro(part))).collect(),
            grant,
            origin: Origin {
                actor: row.text(15)?,
                request_id: row.optional_text(16)?,
                idempotency_key: row.optional_text(17)?,
            },
            created_at: Timestamp::from_micros(row.int(18)?),
            prev_hash: row.hash(19)?,
            hash: row.hash(20)?,
        })
    }
}

/// An account's row beside one of its open grants, if it has any: one statement, one snapshot.
pub struct AccountAndGrant(Account, Option<Grant>);

impl FromRow for AccountAndGrant {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let has_grant = row.optional_int(9)?.is_some();
        Ok(Self(Account::from_row(row)?, has_grant.then(|| grant(row, 9)).transpose()?))
    }
}

/// Puts the rows of [`AccountAndGrant`] together again, one account each.
pub fn gather(rows: impl IntoIterator<Item = AccountAndGrant>) -> Vec<Account> {
    let mut accounts: Vec<Account> = Vec::new();
    for AccountAndGrant(account, grant) in rows {
        if accounts.last().is_none_or(|last| last.user != account.user) {
            accounts.push(account);
        }
        if let (Some(account), Some(grant)) = (accounts.last_mut(), grant) {
            account.insert_grant(grant);
        }
    }
    accounts
}

/// The select of [`AccountAndGrant`], up to the condition on accounts `a`.
macro_rules! account_and_grant {
    ($condition:literal) => {
        concat!(
            "SELECT a.user_id, a.version, a.seq, a.balance, a.held, a.credits_total, a.head_hash, a.closed, \
             a.updated_at, g.seq, g.source, g.amount, g.remaining, g.priority, g.effective_at, g.expires_at \
             FROM credit_accounts a LEFT JOIN credit_grants g ON g.user_id = a.user_id AND g.remaining > 0 WHERE ",
            $condition
        )
    };
}
pub(crate) use account_and_grant;

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

/// Accounts that have expiries to be written down at `now`, at most `limit` of them.
///
/// # Errors
/// [`DbError`].
pub async fn due(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<UserRowId>, DbError> {
    let sql = "SELECT DISTINCT user_id FROM (SELECT user_id FROM credit_expiries WHERE expires_at <= $1 \
               ORDER BY expires_at LIMIT $2) AS soonest";
    let users = db.query::<i64>(sql, vec![now.micros().into(), limit.into()]).await?;
    Ok(users.into_iter().map(UserRowId).collect())
}
