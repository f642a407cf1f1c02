//! The rows of automatic top-ups: who wants one, which is under way, and how each ended.
//!
//! A top-up is claimed together with its payment's row, in one transaction, so a claim always has a payment;
//! it is under way until that payment has succeeded or is cancelled. A user has at most one under way.

use super::edits::{self, NewPayment};
use super::model::{Payment, payment_columns};
use super::telling;
use crate::auth::grants::UserRef;
use crate::db::{Db, DbError, FromRow, Row};
use crate::usage::rollup::Period;
use crate::writer::{Edit, Statement};
use kernel::{Credits, Timestamp, UserRowId};
use std::time::Duration;

/// How long a claim is its claimer's; until then nobody asks for it again, and no other one is made.
pub const COOL_OFF: Duration = Duration::from_secs(60);
/// After so many failures in a row it is turned off.
pub const FAILURES_MAX: i64 = 3;
/// The pause after the first failure; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(60 * 60);

/// What a user wants, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUp {
    /// Whose it is.
    pub user: UserRowId,
    /// Whether anything is bought.
    pub enabled: bool,
    /// Below this it is.
    pub threshold: Credits,
    /// The key of the pack.
    pub pack: String,
    /// How much may be spent in a month of UTC, in hundredths.
    pub monthly_max: i64,
    /// How many were claimed.
    pub attempt: i64,
    /// Nothing is done before.
    pub next_at: Timestamp,
    month: String,
    month_spent: i64,
    /// How many failed in a row.
    pub failures: i64,
    /// Why the last one did.
    pub failure: Option<String>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl TopUp {
    /// What was spent, or is being spent, in the month of `now`.
    #[must_use]
    pub fn spent(&self, now: Timestamp) -> i64 {
        if self.month >= month(now) { self.month_spent } else { 0 }
    }

    /// What makes the payment of its next claim.
    #[must_use]
    pub fn cause(&self) -> String {
        format!("topup:{}:{}", self.user.0, self.attempt + 1)
    }
}

/// The month of UTC, such as `2025-07`.
fn month(at: Timestamp) -> String {
    at.to_string().chars().take(7).collect()
}

macro_rules! columns {
    () => {
        "t.user_id, t.enabled, t.threshold, t.pack, t.monthly_max, t.attempt, t.next_at, t.month, t.month_spent, t.failures, \
         t.failure, t.updated_at"
    };
}

macro_rules! under_way {
    () => {
        "p.kind = 'top_up' AND p.status IN ('pending', 'failed')"
    };
}

impl FromRow for TopUp {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            user: UserRowId(row.int(0)?),
            enabled: row.int(1)? != 0,
            threshold: row.int(2).map(Credits::from_micro)?,
            pack: row.text(3)?,
            monthly_max: row.int(4)?,
            attempt: row.int(5)?,
            next_at: row.int(6).map(Timestamp::from_micros)?,
            month: row.text(7)?,
            month_spent: row.int(8)?,
            failures: row.int(9)?,
            failure: row.optional_text(10)?,
            updated_at: row.int(11).map(Timestamp::from_micros)?,
        })
    }
}

fn user_ref(row: &Row<'_>, id: i64, column: usize) -> Result<UserRef, DbError> {
    let auth0_id = row.text(column)?.parse();
    let auth0_id = auth0_id.map_err(|error| DbError::Internal(format!("users.auth0_id: {error}")))?;
    Ok(UserRef { row: UserRowId(id), auth0_id })
}

/// One whose user has few credits left.
#[derive(Debug, Clone)]
pub struct Due {
    /// What is wanted.
    pub of: TopUp,
    /// By whom.
    pub user: UserRef,
}

impl FromRow for Due {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let of = TopUp::from_row(row)?;
        Ok(Self { user: user_ref(row, of.user.0, 12)?, of })
    }
}

/// One that is under way, and left by whoever claimed it.
#[derive(Debug, Clone)]
pub struct Left {
    /// Its payment.
    pub of: Payment,
    /// Whose it is.
    pub user: UserRef,
    /// Until when it was somebody's, where its row is still there.
    pub next_at: Option<i64>,
    /// Whether it is still wanted.
    pub wanted: bool,
}

impl FromRow for Left {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let of = Payment::from_row(row)?;
        let user = user_ref(row, of.user.0, 28)?;
        Ok(Self { of, user, next_at: row.optional_int(29)?, wanted: row.int(30)? != 0 })
    }
}

/// What a user wants.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, user: UserRowId) -> Result<Option<TopUp>, DbError> {
    let sql = concat!("SELECT ", columns!(), " FROM auto_top_ups t WHERE t.user_id = $1");
    db.find(sql, &[user.0.into()]).await
}

/// Those that may be due, by user: an account's row and grants say so roughly, and never too few.
///
/// # Errors
/// [`DbError`].
pub async fn due(db: &Db, now: Timestamp, after: i64, limit: i64) -> Result<Vec<Due>, DbError> {
    // What can be spent is at least the balance and the limit, less all that is held, and less what cannot be spent on
    // anything or not now.
    let sql = concat!(
        "SELECT ",
        columns!(),
        ", u.auth0_id FROM auto_top_ups t JOIN credit_accounts a ON a.user_id = t.user_id JOIN users u ON u.id = t.user_id \
         WHERE t.enabled = 1 AND t.next_at <= $1 AND t.user_id > $2 AND NOT a.closed \
         AND a.balance + a.credit_limit - a.held - COALESCE((SELECT SUM(g.remaining) FROM credit_grants g \
            WHERE g.user_id = a.user_id AND g.remaining > 0 \
            AND (g.scope IS NOT NULL OR g.effective_at > $1 OR g.expires_at <= $1)), 0) < t.threshold \
         AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.user_id = t.user_id AND ",
        under_way!(),
        ") ORDER BY t.user_id LIMIT $3"
    );
    db.query(sql, vec![now.micros().into(), after.into(), limit.into()]).await
}

/// Those that are under way and nobody's any more, by payment.
///
/// # Errors
/// [`DbError`].
pub async fn left(db: &Db, now: Timestamp, after: i64, limit: i64) -> Result<Vec<Left>, DbError> {
    let sql = concat!(
        "SELECT ",
        payment_columns!(),
        ", u.auth0_id, t.next_at, CAST(CASE WHEN t.enabled = 1 AND NOT a.closed THEN 1 ELSE 0 END AS BIGINT) \
         FROM payments p JOIN users u ON u.id = p.user_id JOIN credit_accounts a ON a.user_id = p.user_id \
         LEFT JOIN auto_top_ups t ON t.user_id = p.user_id WHERE ",
        under_way!(),
        " AND (t.next_at <= $1 OR (t.next_at IS NULL AND p.created_at <= $2)) AND p.id > $3 ORDER BY p.id LIMIT $4"
    );
    let before = now.micros() - micros(COOL_OFF);
    db.query(sql, vec![now.micros().into(), before.into(), after.into(), limit.into()]).await
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// What a caller wants set.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whether anything is bought.
    pub enabled: bool,
    /// Below this.
    pub threshold: Credits,
    /// Which pack.
    pub pack: String,
    /// How much a month, in hundredths.
    pub monthly_max: i64,
}

/// Sets what a user wants, and forgives what failed; refused where there is nothing that may be charged.
///
/// What was spent this month counts also where it was removed in between, and a claim never has another's number.
#[must_use]
pub fn set(user: UserRowId, wanted: &Wanted, now: Timestamp) -> Edit {
    let sql = "INSERT INTO auto_top_ups (user_id, enabled, threshold, pack, monthly_max, attempt, month, month_spent, updated_at) \
        SELECT c.user_id, $2, $3, $4, $5, \
            (SELECT COUNT(*) FROM payments p WHERE p.user_id = c.user_id AND p.kind = 'top_up'), $6, \
            (SELECT CAST(COALESCE(SUM(p.amount), 0) AS BIGINT) FROM payments p WHERE p.user_id = c.user_id \
                AND p.kind = 'top_up' AND p.status <> 'canceled' AND p.created_at >= $7), $8 \
        FROM stripe_customers c WHERE c.user_id = $1 AND c.payment_method IS NOT NULL \
        ON CONFLICT (user_id) DO UPDATE SET enabled = excluded.enabled, threshold = excluded.threshold, pack = excluded.pack, \
            monthly_max = excluded.monthly_max, failures = 0, failure = NULL, updated_at = excluded.updated_at, \
            next_at = CASE WHEN auto_top_ups.next_at > $9 THEN CAST($9 AS BIGINT) ELSE auto_top_ups.next_at END";
    let values = vec![
        user.0.into(),
        i64::from(wanted.enabled).into(),
        wanted.threshold.micro().into(),
        wanted.pack.as_str().into(),
        wanted.monthly_max.into(),
        month(now).as_str().into(),
        Period::Month.bucket(now).micros().into(),
        now.micros().into(),
        now.plus(COOL_OFF).micros().into(),
    ];
    Edit::new(user, vec![Statement::one(sql, values)])
}

/// Removes what a user wants; refused where there is nothing.
#[must_use]
pub fn remove(user: UserRowId) -> Edit {
    let sql = "DELETE FROM auto_top_ups WHERE user_id = $1";
    Edit::new(user, vec![Statement::one(sql, vec![user.0.into()])])
}

/// Claims the next top-up and writes its payment down; refused where somebody else did, where anything has changed
/// since it was read, or where the month's money does not suffice.
#[must_use]
pub fn claim(of: &TopUp, new: &NewPayment, now: Timestamp) -> Edit {
    let sql = concat!(
        "UPDATE auto_top_ups SET attempt = attempt + 1, next_at = $3, \
            month_spent = CASE WHEN month >= $4 THEN month_spent ELSE 0 END + $5, \
            month = CASE WHEN month > $4 THEN month ELSE $4 END, updated_at = $6 \
         WHERE user_id = $1 AND attempt = $2 AND enabled = 1 AND next_at <= $6 AND pack = $7 \
            AND CASE WHEN month >= $4 THEN month_spent ELSE 0 END + $5 <= monthly_max \
            AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.user_id = $1 AND ",
        under_way!(),
        ")"
    );
    let values = vec![
        of.user.0.into(),
        of.attempt.into(),
        now.plus(COOL_OFF).micros().into(),
        month(now).as_str().into(),
        new.amount.into(),
        now.micros().into(),
        of.pack.as_str().into(),
    ];
    let mut edit = edits::insert(new, now);
    edit.statements.insert(0, Statement::one(sql, values));
    edit
}

/// Takes one that was left; refused where somebody else did.
#[must_use]
pub fn take(user: UserRowId, seen: i64, now: Timestamp) -> Edit {
    let sql = "UPDATE auto_top_ups SET next_at = $3 WHERE user_id = $1 AND next_at = $2";
    let values = vec![user.0.into(), seen.into(), now.plus(COOL_OFF).micros().into()];
    Edit::new(user, vec![Statement::one(sql, values)])
}

/// How a top-up ended without money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// The card, or Stripe, refused it: the next one waits, and after [`FAILURES_MAX`] there is none.
    Failed(&'a str),
    /// It was not wanted any more.
    Withdrawn,
}

/// Ends one that is under way, and gives the month its money back; refused where it has ended.
#[must_use]
pub fn ended(of: &Payment, end: End<'_>, now: Timestamp) -> Edit {
    let (failed, why) = match end {
        End::Failed(why) => (1, why),
        End::Withdrawn => (0, "It was turned off before anything was paid"),
    };
    let canceled = concat!(
        "UPDATE payments AS p SET status = 'canceled', failure = $2, updated_at = $3 WHERE p.id = $1 AND ",
        under_way!()
    );
    let sql = "UPDATE auto_top_ups SET month_spent = CASE WHEN month = $2 AND month_spent >= $3 \
            THEN month_spent - CAST($3 AS BIGINT) ELSE month_spent END, \
        failures = failures + CAST($4 AS BIGINT), failure = CASE WHEN $4 = 1 THEN CAST($5 AS TEXT) ELSE failure END, \
        enabled = CASE WHEN failures + CAST($4 AS BIGINT) >= $6 THEN 0 ELSE enabled END, \
        next_at = CASE WHEN $4 = 1 THEN $7 + CAST($8 AS BIGINT) * CASE failures WHEN 0 THEN 1 WHEN 1 THEN 2 ELSE 4 END \
            ELSE next_at END, updated_at = $7 WHERE user_id = $1";
    let given_back = vec![
        of.user.0.into(),
        month(of.created_at).as_str().into(),
        of.amount.into(),
        failed.into(),
        why.into(),
        FAILURES_MAX.into(),
        now.micros().into(),
        micros(PAUSE).into(),
    ];
    let mut statements = telling::of_top_up(of, why, (failed == 1).then_some(FAILURES_MAX), now);
    statements.push(Statement::one(canceled, vec![of.id.into(), why.into(), now.micros().into()]));
    statements.push(Statement::any(sql, given_back));
    Edit::new(of.user, statements)
}

/// Forgets the failures of before, because one was paid.
pub fn worked(user: UserRowId) -> Statement {
    let sql = "UPDATE auto_top_ups SET failures = 0, failure = NULL WHERE user_id = $1";
    Statement::any(sql, vec![user.0.into()])
}
