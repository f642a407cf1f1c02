//! Reading payments and customers.

use super::model::{Payment, payment_columns};
use crate::db::{Db, DbError, FromRow, Row, Rows, Value, Weigh};
use kernel::{Timestamp, UserRowId};

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", payment_columns!(), " FROM payments p ", $rest)
    };
}

/// By what a payment can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// Its row.
    Id(i64),
    /// What made it.
    Cause(&'a str),
    /// Stripe's payment.
    Intent(&'a str),
    /// Stripe's invoice.
    Invoice(&'a str),
    /// Stripe's checkout.
    Checkout(&'a str),
}

/// A payment.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, by: By<'_>) -> Result<Option<Payment>, DbError> {
    let (sql, value): (_, Value) = match by {
        By::Id(id) => (select!("WHERE p.id = $1"), id.into()),
        By::Cause(cause) => (select!("WHERE p.cause = $1"), cause.into()),
        By::Intent(id) => (select!("WHERE p.payment_intent = $1 ORDER BY p.id LIMIT 1"), id.into()),
        By::Checkout(id) => (select!("WHERE p.checkout = $1 ORDER BY p.id LIMIT 1"), id.into()),
        By::Invoice(id) => (select!("WHERE p.invoice = $1 ORDER BY p.id LIMIT 1"), id.into()),
    };
    db.find(sql, &[value]).await
}

/// The payments of one of Stripe's subscriptions.
///
/// # Errors
/// [`DbError`].
pub async fn of_subscription(db: &Db, subscription: &str) -> Result<Vec<Payment>, DbError> {
    db.query(select!("WHERE p.subscription = $1 ORDER BY p.id"), vec![subscription.into()]).await
}

/// Payments of open accounts that the ledger does not follow yet, after that one.
///
/// # Errors
/// [`DbError`].
pub async fn unsettled(db: &Db, after: i64, limit: i64) -> Result<Vec<Payment>, DbError> {
    let sql = select!(
        "JOIN credit_accounts a ON a.user_id = p.user_id WHERE p.id > $1 AND NOT a.closed AND p.status = 'succeeded' \
         AND (p.reclaiming <> p.reclaimed OR (p.grant_seq IS NULL AND p.credits > 0 AND p.received > 0) \
         OR ((p.refunded > 0 OR p.disputed > 0) AND p.reclaimed = 0 AND p.granted > 0)) ORDER BY p.id LIMIT $2"
    );
    db.query(sql, vec![after.into(), limit.into()]).await
}

/// Payments that came since then, after that one.
///
/// # Errors
/// [`DbError`].
pub async fn settled_since(
    db: &Db,
    since: Timestamp,
    after: i64,
    limit: i64,
) -> Result<Vec<Payment>, DbError> {
    let sql =
        select!("WHERE p.created_at >= $1 AND p.id > $2 AND p.status = 'succeeded' ORDER BY p.id LIMIT $3");
    db.query(sql, vec![since.micros().into(), after.into(), limit.into()]).await
}

/// How many payments a user began since then and has not finished.
///
/// # Errors
/// [`DbError`].
pub async fn pending(db: &Db, user: UserRowId, since: Timestamp) -> Result<i64, DbError> {
    let sql = "SELECT COUNT(*) FROM payments WHERE user_id = $1 AND created_at >= $2 AND status = 'pending'";
    Ok(db.find(sql, &[user.0.into(), since.micros().into()]).await?.unwrap_or(0))
}

impl Weigh for Payment {
    fn weight(&self) -> usize {
        self.failure.as_ref().map_or(0, String::len)
    }
}

/// A user's payments, the newest first.
///
/// # Errors
/// [`DbError`].
pub async fn list(
    db: &Db,
    user: UserRowId,
    before: i64,
    limit: i64,
    offset: i64,
) -> Result<Rows<Payment>, DbError> {
    let sql = select!("WHERE p.user_id = $1 AND p.id < $2 ORDER BY p.id DESC LIMIT $3 OFFSET $4");
    db.page(sql, vec![user.0.into(), before.into(), limit.saturating_add(1).into(), offset.into()], limit)
        .await
}

/// Stripe's customer of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// Whose.
    pub user: UserRowId,
    /// Stripe's id of it.
    pub id: String,
    /// What may be charged while the user is away.
    pub payment_method: Option<String>,
}

impl FromRow for Customer {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { user: UserRowId(row.int(0)?), id: row.text(1)?, payment_method: row.optional_text(2)? })
    }
}

/// The customer of a user.
///
/// # Errors
/// [`DbError`].
pub async fn customer(db: &Db, user: UserRowId) -> Result<Option<Customer>, DbError> {
    db.find(
        "SELECT user_id, customer, payment_method FROM stripe_customers WHERE user_id = $1",
        &[user.0.into()],
    )
    .await
}

/// The user of a customer.
///
/// # Errors
/// [`DbError`].
pub async fn customer_named(db: &Db, customer: &str) -> Result<Option<Customer>, DbError> {
    let sql = "SELECT user_id, customer, payment_method FROM stripe_customers WHERE customer = $1";
    db.find(sql, &[customer.into()]).await
}
