//! What streams read: where a session or a user stands, and what came after a cursor.

use crate::credits::EntryKind;
use crate::db::{Db, DbError, FromRow, Row};
use crate::usage::rollup::Sums;
use kernel::{Credits, Timestamp, UserRowId, WideSum};

/// The number of a session's last message, 0 before the first; nothing when the session or its user
/// is deleted.
///
/// # Errors
/// [`DbError`].
pub async fn last_message(db: &Db, session: i64) -> Result<Option<i64>, DbError> {
    let sql = "SELECT s.message_count FROM sessions s JOIN users u ON u.id = s.user_id \
               WHERE s.id = $1 AND s.deleted_at IS NULL AND u.deleted_at IS NULL";
    db.find(sql, &[session.into()]).await
}

/// What of a ledger's entry is told.
pub struct Step {
    /// Its number within the account.
    pub seq: i64,
    /// What happened.
    pub kind: EntryKind,
    /// How many credits moved, with their sign.
    pub amount: Credits,
    /// The balance after it.
    pub balance_after: Credits,
    /// When.
    pub created_at: Timestamp,
}

impl FromRow for Step {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let kind =
            row.text(1)?.parse().map_err(|rule| DbError::Internal(format!("transaction_type {rule}")))?;
        Ok(Self {
            seq: row.int(0)?,
            kind,
            amount: Credits::from_micro(row.int(2)?),
            balance_after: Credits::from_micro(row.int(3)?),
            created_at: Timestamp::from_micros(row.int(4)?),
        })
    }
}

/// The entries of an account after one and up to another, oldest first.
///
/// # Errors
/// [`DbError`].
pub async fn steps(
    db: &Db,
    user: UserRowId,
    after: i64,
    last: i64,
    limit: i64,
) -> Result<Vec<Step>, DbError> {
    let sql = "SELECT seq, transaction_type, amount, balance_after, created_at FROM credit_entries \
               WHERE user_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
    db.query(sql, vec![user.0.into(), after.into(), last.into(), limit.into()]).await
}

impl FromRow for Sums {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let wide = |at: usize| Ok::<_, DbError>(WideSum { hi: row.int(at)?, lo: row.int(at + 1)? });
        Ok(Self { records: row.int(0)?, credits: wide(1)?, cost: wide(3)?, tokens: row.int(5)? })
    }
}

/// All that a user ever used, from the roll-ups of the months.
///
/// # Errors
/// [`DbError`].
pub async fn usage(db: &Db, user: UserRowId) -> Result<Sums, DbError> {
    let sql = "SELECT CAST(COALESCE(sum(records), 0) AS BIGINT), CAST(COALESCE(sum(credits_hi), 0) AS BIGINT), \
               CAST(COALESCE(sum(credits_lo), 0) AS BIGINT), CAST(COALESCE(sum(cost_hi), 0) AS BIGINT), \
               CAST(COALESCE(sum(cost_lo), 0) AS BIGINT), CAST(COALESCE(sum(tokens), 0) AS BIGINT) \
               FROM usage_rollups WHERE user_id = $1 AND period = 'month'";
    Ok(db.query(sql, vec![user.0.into()]).await?.pop().unwrap_or_default())
}
