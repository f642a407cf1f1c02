//! Rows of the ledger: their columns, and how they are read.

use super::chain;
use super::context::Basis;
use super::hold::{Hold, Settled};
use super::model::{Account, Cause, Entry, Grant, GrantTerms, Hash, Origin};
use crate::db::{DbError, FromRow, Row, Weigh};
use crate::limits;
use kernel::{Credits, JsonObject, Timestamp, UserRowId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The columns of an account's row, in the order that its `FromRow` reads them.
macro_rules! account_columns {
    () => {
        "user_id, version, seq, balance, held, credits_total, head_hash, closed, updated_at, credit_limit, \
         hold_seq, spending_limits, seal"
    };
}
/// The columns of a grant, in the order that its `FromRow` reads them.
macro_rules! grant_columns {
    () => {
        "seq, source, amount, remaining, priority, effective_at, expires_at, scope, rollover, voided"
    };
}
/// The columns of a hold, in the order that its `FromRow` reads them.
macro_rules! hold_columns {
    () => {
        "user_id, n, status, amount, ticked, on_expiry, created_at, expires_at, parts, context, description, \
         metadata, actor, request_id, idempotency_key, settled_at, asked, captured, short_by, entry_seq, seal"
    };
}
/// The columns of an entry, in the order that its `FromRow` reads them.
macro_rules! entry_columns {
    () => {
        "user_id, seq, id, transaction_type, amount, balance_before, balance_after, usage_record_id, hold_id, \
         reverses, reference_id, description, metadata, funded_by, grant_terms, actor, request_id, \
         idempotency_key, created_at, prev_hash, hash, basis"
    };
}
pub(crate) use {account_columns, entry_columns, grant_columns, hold_columns};

/// The word of an enum column.
fn word<T: std::str::FromStr<Err = String>>(row: &Row<'_>, column: usize) -> Result<T, DbError> {
    row.text(column)?.parse().map_err(|rule| DbError::Internal(format!("column {column} {rule}")))
}

fn malformed(column: &str, why: &dyn std::fmt::Display) -> DbError {
    DbError::Internal(format!("{column}: {why}"))
}

/// A column that is a JSON text or nothing.
fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
    name: &str,
) -> Result<Option<T>, DbError> {
    let text = row.optional_text(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|e| malformed(name, &e))).transpose()
}

/// A column of parts: `[[grant seq, micro-credits], …]`.
fn parts(row: &Row<'_>, column: usize, name: &str) -> Result<Vec<(i64, Credits)>, DbError> {
    let parts: Vec<(i64, i64)> = serde_json::from_str(&row.text(column)?).map_err(|e| malformed(name, &e))?;
    Ok(parts.into_iter().map(|(seq, part)| (seq, Credits::from_micro(part))).collect())
}

impl FromRow for Account {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let limits = row.text(11)?;
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
            credit_limit: Credits::from_micro(row.int(9)?),
            hold_seq: row.int(10)?,
            limits: limits::model::from_text(&limits).map_err(DbError::Internal)?,
            grants: Vec::new(),
            holds: Vec::new(),
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
        scope: json(row, from + 7, "scope")?.map(Arc::new),
        rollover: json(row, from + 8, "rollover")?,
        voided: row.boolean(from + 9)?,
        held: Credits::ZERO,
    })
}

impl FromRow for Hold {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        hold(row, 0)
    }
}

fn hold(row: &Row<'_>, from: usize) -> Result<Hold, DbError> {
    let credits = |column: usize| row.optional_int(from + column).map(|micro| micro.map(Credits::from_micro));
    let zero = |credits: Option<Credits>| credits.unwrap_or_default();
    let settled_at = row.optional_int(from + 15)?.map(Timestamp::from_micros);
    let settled = Settled {
        at: settled_at.unwrap_or_default(),
        asked: zero(credits(16)?),
        captured: zero(credits(17)?),
        short_by: zero(credits(18)?),
        entry_seq: row.optional_int(from + 19)?,
    };
    Ok(Hold {
        n: row.int(from + 1)?,
        status: word(row, from + 2)?,
        amount: Credits::from_micro(row.int(from + 3)?),
        ticked: Credits::from_micro(row.int(from + 4)?),
        on_expiry: word(row, from + 5)?,
        created_at: Timestamp::from_micros(row.int(from + 6)?),
        expires_at: Timestamp::from_micros(row.int(from + 7)?),
        parts: parts(row, from + 8, "parts")?,
        context: json(row, from + 9, "context")?.unwrap_or_default(),
        description: row.optional_text(from + 10)?,
        metadata: JsonObject::from_stored(row.text(from + 11)?),
        origin: Origin {
            actor: row.text(from + 12)?,
            request_id: row.optional_text(from + 13)?,
            idempotency_key: row.optional_text(from + 14)?,
        },
        settled: settled_at.map(|_| settled),
    })
}

impl Weigh for Hold {
    fn weight(&self) -> usize {
        self.metadata.as_str().len()
    }
}

/// A row with the seal that it carries.
pub struct Sealed<T> {
    /// The row.
    pub row: T,
    /// Its seal as it is stored.
    pub seal: Vec<u8>,
}

impl<T> Sealed<T> {
    /// Whether it carries this seal.
    #[must_use]
    pub fn is(&self, seal: Hash) -> bool {
        self.seal == seal
    }
}

impl FromRow for Sealed<Account> {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let account = Account::from_row(row)?;
        as_sealed("spending_limits", row.text(11)? == account.limits_text())?;
        Ok(Self { row: account, seal: row.bytes(12)? })
    }
}

impl FromRow for Sealed<Hold> {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let hold = Hold::from_row(row)?;
        as_sealed("parts", row.text(8)? == chain::funded_by_text(&hold.parts))?;
        as_sealed("context", row.text(9)? == hold.context_text())?;
        // How it was settled stands in several columns: all of them, or none.
        let settled = hold.settled.is_some();
        for (column, name) in [(16, "asked"), (17, "captured"), (18, "short_by")] {
            as_sealed(name, row.optional_int(column)?.is_some() == settled)?;
        }
        as_sealed("entry_seq", settled || row.optional_int(19)?.is_none())?;
        Ok(Self { row: hold, seal: row.bytes(20)? })
    }
}

/// A seal covers values, so a text that another value could have must be the very one that is made of it.
fn as_sealed(column: &str, is: bool) -> Result<(), DbError> {
    if is { Ok(()) } else { Err(malformed(column, &"is not written as it was sealed")) }
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
            funded_by: parts(row, 13, "funded_by")?,
            grant: json::<GrantTerms>(row, 14, "grant_terms")?,
            basis: json::<Basis>(row, 21, "basis")?,
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

/// An account's row beside one of its open grants or one of its open holds, if it has any: one
/// statement, one snapshot.
pub struct AccountPart(Account, Option<Grant>, Option<Hold>);

impl FromRow for AccountPart {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        const GRANT: usize = 13;
        const HOLD: usize = GRANT + 10;
        let has_grant = row.optional_int(GRANT)?.is_some();
        let has_hold = row.optional_int(HOLD)?.is_some();
        Ok(Self(
            Account::from_row(row)?,
            has_grant.then(|| grant(row, GRANT)).transpose()?,
            has_hold.then(|| hold(row, HOLD)).transpose()?,
        ))
    }
}

/// Puts the rows of [`AccountPart`] together again, one account each.
pub fn gather(rows: impl IntoIterator<Item = AccountPart>) -> Vec<Account> {
    let mut accounts: BTreeMap<UserRowId, Account> = BTreeMap::new();
    let mut holds = Vec::new();
    for AccountPart(account, grant, hold) in rows {
        let user = account.user;
        let account = accounts.entry(user).or_insert(account);
        if let Some(grant) = grant {
            account.insert_grant(grant);
        }
        holds.extend(hold.map(|hold| (user, hold)));
    }
    // A hold marks what it has set aside of its grants, so those come first.
    for (user, hold) in holds {
        if let Some(account) = accounts.get_mut(&user) {
            account.insert_hold(hold);
        }
    }
    accounts.into_values().collect()
}

/// The select of [`AccountPart`] of the accounts `a` of a condition. The condition stands in it
/// twice, with the same parameter.
macro_rules! account_parts {
    ($condition:literal) => {
        concat!(
            "SELECT a.user_id, a.version, a.seq, a.balance, a.held, a.credits_total, a.head_hash, a.closed, \
             a.updated_at, a.credit_limit, a.hold_seq, a.spending_limits, a.seal, g.seq, g.source, g.amount, \
             g.remaining, g.priority, g.effective_at, g.expires_at, g.scope, g.rollover, g.voided, \
             NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
             NULL, NULL, NULL, NULL \
             FROM credit_accounts a LEFT JOIN credit_grants g ON g.user_id = a.user_id AND g.remaining > 0 WHERE ",
            $condition,
            " UNION ALL SELECT a.user_id, a.version, a.seq, a.balance, a.held, a.credits_total, a.head_hash, \
             a.closed, a.updated_at, a.credit_limit, a.hold_seq, a.spending_limits, a.seal, NULL, NULL, NULL, \
             NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
             h.user_id, h.n, h.status, h.amount, h.ticked, h.on_expiry, h.created_at, h.expires_at, h.parts, \
             h.context, h.description, h.metadata, h.actor, h.request_id, h.idempotency_key, h.settled_at, \
             h.asked, h.captured, h.short_by, h.entry_seq, h.seal \
             FROM credit_accounts a JOIN credit_holds h ON h.user_id = a.user_id AND h.status = 'open' \
             WHERE a.held > 0 AND ",
            $condition
        )
    };
}
pub(crate) use account_parts;
