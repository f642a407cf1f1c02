//! How the ledger shows itself in answers.

use super::context::Scope;
use super::model::{Account, Entry, EntryKind, Grant, Source};
use kernel::{Credits, ExternalId, GrantId, JsonObject, Timestamp, TransactionId, UserRowId};
use serde::Serialize;
use utoipa::ToSchema;

/// How many scopes the balance names at most.
const SCOPED_MAX: usize = 100;
/// How many coming expiries the balance names at most.
const EXPIRING_MAX: usize = 100;

/// One entry of the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub struct TransactionView {
    /// The integer id.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: i64,
    /// The public id.
    transaction_id: TransactionId,
    /// Whose it is.
    user_id: ExternalId,
    /// What happened.
    transaction_type: EntryKind,
    /// How many credits moved, without sign.
    amount: Credits,
    /// The balance before.
    balance_before: Credits,
    /// The balance after.
    balance_after: Credits,
    /// `amount` under its other name.
    credits_amount: Credits,
    /// `balance_before` under its other name.
    credits_before: Credits,
    /// `balance_after` under its other name.
    credits_after: Credits,
    /// The usage record that was paid for.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    usage_record_id: Option<i64>,
    /// The caller's reference.
    #[schema(max_length = 255)]
    reference_id: Option<String>,
    /// The transaction that this one takes back or corrects; of a `reversal`, the one that issued the grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    reverses: Option<TransactionId>,
    /// The hold that this one charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 43)]
    hold_id: Option<String>,
    /// The caller's words.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// The caller's data.
    metadata: JsonObject,
    /// When.
    created_at: Timestamp,
}

impl TransactionView {
    /// Shows an entry.
    #[must_use]
    pub fn new(entry: &Entry, user_id: &ExternalId) -> Self {
        let amount = entry.amount.abs();
        Self {
            id: entry.id,
            transaction_id: entry.transaction_id(),
            user_id: user_id.clone(),
            transaction_type: entry.kind,
            amount,
            balance_before: entry.balance_before,
            balance_after: entry.balance_after,
            credits_amount: amount,
            credits_before: entry.balance_before,
            credits_after: entry.balance_after,
            usage_record_id: entry.cause.usage_record_id,
            reference_id: entry.cause.reference_id.clone(),
            reverses: entry.cause.reverses.map(|seq| TransactionId { user: entry.user, seq }),
            hold_id: entry.cause.hold_id.clone(),
            description: entry.description.clone(),
            metadata: entry.metadata.clone(),
            created_at: entry.created_at,
        }
    }
}

/// The answer of `consume`: flat fields of older clients beside the transaction.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumeAnswer {
    /// Always true.
    success: bool,
    /// Always `success`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// What can be spent now.
    remaining_credits: Credits,
    /// What was spent.
    consumed_amount: Credits,
    /// What can be spent now.
    balance: Credits,
    /// The transaction's id.
    transaction_id: TransactionId,
    /// One sentence for people.
    #[schema(max_length = 300)]
    message: String,
    /// When the answer was made.
    timestamp: Timestamp,
    /// The transaction.
    data: TransactionView,
}

impl ConsumeAnswer {
    /// Answers a consume.
    #[must_use]
    pub fn new(entry: &Entry, available: Credits, user_id: &ExternalId, now: Timestamp) -> Self {
        let amount = entry.amount.abs();
        Self {
            success: true,
            status: "success",
            remaining_credits: available,
            consumed_amount: amount,
            balance: available,
            transaction_id: entry.transaction_id(),
            message: format!("Successfully consumed {amount} credits"),
            timestamp: now,
            data: TransactionView::new(entry, user_id),
        }
    }
}

/// The answer of `balance`.
#[derive(Debug, Serialize, ToSchema)]
pub struct BalanceAnswer {
    /// Always true.
    pub success: bool,
    /// Always `success`.
    #[schema(max_length = 20)]
    pub status: &'static str,
    /// One sentence for people.
    #[schema(max_length = 300)]
    pub message: &'static str,
    /// When the answer was made.
    pub timestamp: Timestamp,
    /// What can be spent now.
    pub data: Credits,
    /// The same in parts.
    pub balance: BalanceView,
}

/// A balance in parts.
#[derive(Debug, Serialize, ToSchema)]
pub struct BalanceView {
    /// What can be spent now, on anything: 0 where the account owes more than its limit.
    available: Credits,
    /// What open holds have set aside.
    held: Credits,
    /// What is left in all unexpired grants, those not yet effective included, less what is owed.
    total: Credits,
    /// All that was ever given; not said of an instant before the last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    credits_total: Option<Credits>,
    /// How far below zero the account may go; not said of an instant before the last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_limit: Option<Credits>,
    /// What was spent of the credit limit, or was taken back after it was spent, and is not paid back.
    owed: Credits,
    /// What can be spent now on some things only, one row per scope; at most 100.
    #[schema(max_items = 100)]
    scoped: Vec<ScopedView>,
    /// What ends, soonest first; at most 100.
    #[schema(max_items = 100)]
    expiring: Vec<Expiring>,
}

/// Credits that can be spent on some things only.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScopedView {
    /// What on.
    scope: Scope,
    /// How many.
    available: Credits,
}

/// Credits that end.
#[derive(Debug, Serialize, ToSchema)]
pub struct Expiring {
    /// The grant.
    grant_id: GrantId,
    /// What is left in it.
    amount: Credits,
    /// When it ends.
    expires_at: Timestamp,
}

impl BalanceView {
    /// Shows an account at `now`.
    #[must_use]
    pub fn new(account: &Account, now: Timestamp) -> Self {
        let now = account.time(now);
        let account = &*account.at(now);
        let mut expiring: Vec<Expiring> = account
            .grants
            .iter()
            .filter(|grant| !grant.expired(now))
            .filter_map(|grant| {
                let grant_id = grant.id(account.user);
                grant.expires_at.map(|expires_at| Expiring { grant_id, amount: grant.remaining, expires_at })
            })
            .collect();
        expiring.sort_by_key(|expiring| (expiring.expires_at, expiring.grant_id));
        expiring.truncate(EXPIRING_MAX);
        Self {
            available: account.available(now),
            held: account.held,
            total: account.balance,
            credits_total: Some(account.credits_total),
            credit_limit: Some(account.credit_limit),
            owed: Credits::from_micro(account.owed()),
            scoped: scoped(account, now),
            expiring,
        }
    }
}

impl BalanceView {
    /// What an account was worth, and what of it was held.
    #[must_use]
    pub fn of_past(balance: Credits, held: Credits) -> Self {
        let available = Credits::from_micro(balance.micro() - held.micro()).max(Credits::ZERO);
        Self {
            available,
            held,
            total: balance,
            credits_total: None,
            credit_limit: None,
            owed: (-balance).max(Credits::ZERO),
            scoped: Vec::new(),
            expiring: Vec::new(),
        }
    }

    /// What can be spent, on anything.
    #[must_use]
    pub const fn available(&self) -> Credits {
        self.available
    }
}

/// What can be spent on some things only, scope by scope in the order of spending.
fn scoped(account: &Account, now: Timestamp) -> Vec<ScopedView> {
    let mut found: Vec<ScopedView> = Vec::new();
    for grant in account.grants.iter().filter(|grant| grant.usable(now) && grant.free() > 0) {
        let Some(scope) = grant.scope.as_deref() else { continue };
        match found.iter_mut().find(|view| view.scope == *scope) {
            Some(view) => view.available = Credits::from_micro(view.available.micro() + grant.free()),
            None => {
                let available = Credits::from_micro(grant.free());
                found.push(ScopedView { scope: scope.clone(), available });
            }
        }
        found.truncate(SCOPED_MAX);
    }
    found
}

/// A grant.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantView {
    /// The public id.
    grant_id: GrantId,
    /// The transaction that issued it.
    transaction_id: TransactionId,
    /// Where it came from.
    source: Source,
    /// What was given.
    amount: Credits,
    /// What can still be spent of it; 0 when its time is over.
    remaining: Credits,
    /// When it is spent, 0 first.
    #[schema(minimum = 0, maximum = 1_000_000)]
    priority: i64,
    /// From when on it can be spent.
    effective_at: Timestamp,
    /// Until when.
    expires_at: Option<Timestamp>,
    /// Whether its time is over.
    expired: bool,
    /// What it can be spent on; anything when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
    /// What of it lives on after its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollover: Option<RolloverView>,
    /// Whether what was left of it was taken back.
    voided: bool,
}

/// What of a grant lives on after its end, once.
#[derive(Debug, Serialize, ToSchema)]
pub struct RolloverView {
    /// How many credits at most.
    max: Credits,
    /// For how many days.
    #[schema(minimum = 1, maximum = 36_500)]
    days: i64,
}

impl GrantView {
    /// Shows a grant at `now`.
    #[must_use]
    pub fn new(grant: &Grant, user: UserRowId, now: Timestamp) -> Self {
        let expired = grant.expired(now);
        Self {
            grant_id: grant.id(user),
            transaction_id: TransactionId { user, seq: grant.seq },
            source: grant.source,
            amount: grant.amount,
            remaining: if expired { Credits::ZERO } else { grant.remaining },
            priority: grant.priority,
            effective_at: grant.effective_at,
            expires_at: grant.expires_at,
            expired,
            scope: grant.scope.as_deref().cloned(),
            rollover: grant
                .rollover
                .map(|rollover| RolloverView { max: Credits::from_micro(rollover.max), days: rollover.days }),
            voided: grant.voided,
        }
    }
}
