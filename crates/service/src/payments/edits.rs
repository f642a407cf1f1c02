//! What is written of payments: rows, and facts that are learned of them in any order.

use super::model::{Payment, PaymentKind, PaymentStatus};
use super::telling;
use crate::db::Value;
use crate::writer::{Counter, Edit, Statement};
use kernel::{Credits, Timestamp, UserRowId};

/// A payment to write down before anybody is asked for money.
#[derive(Debug, Clone)]
pub struct NewPayment {
    /// Whose it is.
    pub user: UserRowId,
    /// What is paid for.
    pub kind: PaymentKind,
    /// What makes it, once for ever.
    pub cause: String,
    /// The pack's key, or the version of the plan.
    pub item: Option<String>,
    /// How much, in hundredths of the currency.
    pub amount: i64,
    /// Which currency.
    pub currency: String,
    /// What it gives.
    pub credits: Credits,
}

/// Writes a payment down; refused where its cause made one before, or the user is gone.
#[must_use]
pub fn insert(new: &NewPayment, now: Timestamp) -> Edit {
    let sql = "INSERT INTO payments (id, user_id, kind, cause, item, amount, currency, credits, status, created_at, updated_at) \
        SELECT $1, a.user_id, $2, $3, $4, $5, $6, $7, 'pending', $8, $8 FROM credit_accounts a \
        WHERE a.user_id = $9 AND NOT a.closed ON CONFLICT DO NOTHING";
    let values = vec![
        Value::Fresh,
        new.kind.as_str().into(),
        new.cause.as_str().into(),
        new.item.clone().into(),
        new.amount.into(),
        new.currency.as_str().into(),
        new.credits.micro().into(),
        now.micros().into(),
        new.user.0.into(),
    ];
    Edit::making(Counter::Payments, new.user, vec![Statement::one(sql, values)])
}

/// What was learned of a payment. Facts add up to the same, in whatever order and however often they come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where it stands; what is nearer to an end wins.
    pub status: Option<PaymentStatus>,
    /// How much was to come, and what of it has: the most wins.
    pub received: i64,
    /// How much was given back: the most wins.
    pub refunded: i64,
    /// What a bank has taken back, or nothing any more where the dispute was won, which is final.
    pub disputed: Option<Dispute>,
    /// Stripe's payment.
    pub payment_intent: Option<String>,
    /// Stripe's invoice.
    pub invoice: Option<String>,
    /// Stripe's checkout.
    pub checkout: Option<String>,
    /// Stripe's subscription.
    pub subscription: Option<String>,
    /// What an invoice says that it pays for.
    pub bill: Option<Bill>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// Where a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispute {
    /// The bank has taken so much.
    Open(i64),
    /// It has given it back.
    Won,
}

/// What a subscription's payment pays for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// Whether an invoice says so, which wins over what follows from the plan.
    pub exact: bool,
    /// The version of the plan.
    pub plan_version: String,
    /// From when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// How much is to come.
    pub amount: i64,
    /// What it gives.
    pub credits: Credits,
}

/// Adds facts to a payment, and counts them with its subscription's.
#[must_use]
pub fn learn(of: &Payment, facts: &Facts, now: Timestamp) -> Edit {
    let sql = "UPDATE payments SET \
        status = CASE WHEN CAST($2 AS TEXT) IS NULL OR status = 'succeeded' OR (status = 'canceled' AND $2 <> 'succeeded') \
            THEN status ELSE CAST($2 AS TEXT) END, \
        received = CASE WHEN $3 > received THEN CAST($3 AS BIGINT) ELSE received END, \
        refunded = CASE WHEN $4 > refunded THEN CAST($4 AS BIGINT) ELSE refunded END, \
        disputed = CASE WHEN disputed < 0 OR CAST($5 AS BIGINT) IS NULL THEN disputed ELSE CAST($5 AS BIGINT) END, \
        payment_intent = COALESCE(payment_intent, CAST($6 AS TEXT)), invoice = COALESCE(invoice, CAST($7 AS TEXT)), \
        checkout = COALESCE(checkout, CAST($8 AS TEXT)), subscription = COALESCE(subscription, CAST($9 AS TEXT)), \
        failure = COALESCE(CAST($10 AS TEXT), failure), updated_at = $11 WHERE id = $1";
    let disputed = facts.disputed.map(|dispute| match dispute {
        Dispute::Open(amount) => amount,
        Dispute::Won => -1,
    });
    let values = vec![
        of.id.into(),
        facts.status.map(|status| status.as_str().to_owned()).into(),
        facts.received.into(),
        facts.refunded.into(),
        disputed.into(),
        facts.payment_intent.clone().into(),
        facts.invoice.clone().into(),
        facts.checkout.clone().into(),
        facts.subscription.clone().into(),
        facts.failure.clone().into(),
        now.micros().into(),
    ];
    let mut statements = telling::of_facts(of, facts, now);
    statements.push(Statement::one(sql, values));
    if facts.refunded > 0 || matches!(facts.disputed, Some(Dispute::Open(_))) {
        statements.extend(telling::of_stopped_top_up(of, STOPPED, now));
        statements.push(stop_top_up(of.user, now));
    }
    statements.extend(facts.bill.as_ref().map(|bill| billed(of, bill)));
    if of.kind == PaymentKind::TopUp
        && of.status != PaymentStatus::Succeeded
        && facts.status == Some(PaymentStatus::Succeeded)
    {
        statements.push(super::top_up_rows::worked(of.user));
    }
    statements.extend(of.subscription.as_deref().or(facts.subscription.as_deref()).map(count));
    Edit::new(of.user, statements)
}

/// Why a top-up is turned off when money goes back.
const STOPPED: &str = "Money of a payment went back";

/// Whoever got money back is not charged again by itself.
fn stop_top_up(user: UserRowId, now: Timestamp) -> Statement {
    let sql = "UPDATE auto_top_ups SET enabled = 0, failure = $3, updated_at = $2 WHERE user_id = $1 AND enabled = 1";
    Statement::any(sql, vec![user.0.into(), now.micros().into(), STOPPED.into()])
}

/// Once its credits are given, what a payment pays for stays.
fn billed(of: &Payment, bill: &Bill) -> Statement {
    let sql = "UPDATE payments SET item = $2, period_start = $3, period_end = $4, amount = $5, credits = CASE WHEN grant_seq IS NULL \
        THEN CAST($6 AS BIGINT) ELSE credits END WHERE id = $1 AND (CAST($7 AS BIGINT) = 1 OR period_start IS NULL)";
    let values = vec![
        of.id.into(),
        bill.plan_version.as_str().into(),
        bill.start.micros().into(),
        bill.end.micros().into(),
        bill.amount.into(),
        bill.credits.micro().into(),
        i64::from(bill.exact).into(),
    ];
    Statement::any(sql, values)
}

/// Counts a fact of a subscription.
pub fn count(subscription: &str) -> Statement {
    let sql = "UPDATE stripe_subscriptions SET facts = facts + 1 WHERE id = $1";
    Statement::any(sql, vec![subscription.into()])
}

/// Says what it is to give, before that is given: whatever is learned meanwhile, it is given once.
#[must_use]
pub fn granting(of: &Payment, credits: Credits, now: Timestamp) -> Edit {
    let sql = "UPDATE payments SET granted = $2, updated_at = $3 WHERE id = $1 AND grant_seq IS NULL AND granted = 0";
    let values = [of.id, credits.micro(), now.micros()];
    Edit::new(of.user, vec![Statement::any(sql, values.map(Value::from).to_vec())])
}

/// Notes what it gave, once.
#[must_use]
pub fn granted(of: &Payment, grant: i64, credits: Credits, now: Timestamp) -> Edit {
    let sql = "UPDATE payments SET grant_seq = $2, granted = $3, updated_at = $4 WHERE id = $1 AND grant_seq IS NULL";
    let values = [of.id, grant, credits.micro(), now.micros()];
    Edit::new(of.user, vec![Statement::any(sql, values.map(Value::from).to_vec())])
}

/// Says how much is to have been taken back, before it is; nothing happens where that is being done already.
#[must_use]
pub fn reclaiming(of: &Payment, target: Credits, now: Timestamp) -> Edit {
    let sql = "UPDATE payments SET reclaiming = $3, step = step + 1, updated_at = $4 \
        WHERE id = $1 AND step = $2 AND reclaiming = reclaimed";
    let values = [of.id, of.step, target.micro(), now.micros()];
    Edit::new(of.user, vec![Statement::any(sql, values.map(Value::from).to_vec())])
}

/// Notes that it was done, what of it is owed, and which grant gave back.
#[must_use]
pub fn reclaimed(of: &Payment, owed: Credits, back: Option<i64>, now: Timestamp) -> Edit {
    let sql = "UPDATE payments SET reclaimed = reclaiming, owed = owed + $3, updated_at = $4, \
        back_seq = COALESCE(CAST($5 AS BIGINT), back_seq) \
        WHERE id = $1 AND step = $2 AND reclaiming <> reclaimed";
    let values = vec![of.id.into(), of.step.into(), owed.micro().into(), now.micros().into(), back.into()];
    Edit::new(of.user, vec![Statement::any(sql, values)])
}

/// Notes that Stripe broke over it, so that it is asked under another key the next time.
#[must_use]
pub fn broke(of: &Payment) -> Edit {
    let sql = "UPDATE payments SET asked = asked + 1 WHERE id = $1 AND asked = $2";
    Edit::new(of.user, vec![Statement::any(sql, vec![of.id.into(), of.asked.into()])])
}

/// Remembers Stripe's customer of a user; the first one stays.
#[must_use]
pub fn customer(user: UserRowId, customer: &str, now: Timestamp) -> Edit {
    let sql = "INSERT INTO stripe_customers (user_id, customer, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    Edit::new(user, vec![Statement::any(sql, vec![user.0.into(), customer.into(), now.micros().into()])])
}

/// Remembers with what the user may be charged while it is away.
#[must_use]
pub fn payment_method(user: UserRowId, customer: &str, method: &str) -> Edit {
    let sql = "UPDATE stripe_customers SET payment_method = $3 WHERE user_id = $1 AND customer = $2";
    Edit::new(user, vec![Statement::any(sql, vec![user.0.into(), customer.into(), method.into()])])
}
