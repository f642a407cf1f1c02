//! Why the ledger refuses.

use kernel::Credits;

/// A command that the rules refuse; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The user has no account, or is deleted.
    #[error("User not found")]
    UnknownAccount,
    /// The account cannot pay.
    #[error("Insufficient credits. Available: {available}, Required: {required}")]
    Insufficient {
        /// What can be spent now.
        available: Credits,
        /// What was asked for.
        required: Credits,
    },
    /// A balance or lifetime total would pass the maximum.
    #[error("amount: the account may hold and be given at most 9000000000000 credits")]
    TooMuch,
    /// The account has too many open grants.
    #[error("the account already has 10000 grants with credits left")]
    TooManyGrants,
    /// The reference was applied before, to something else.
    #[error("reference_id: already applied to transaction {transaction_id} with another amount or type")]
    ReferenceTaken {
        /// What it was applied to.
        transaction_id: String,
    },
    /// The usage record is another user's.
    #[error("usage_record_id: the record belongs to another user")]
    ForeignUsage,
    /// There is no such transaction in this account.
    #[error("Transaction not found: {0}")]
    UnknownTransaction(String),
    /// Only spending can be refunded.
    #[error("transaction_id: only consume and capture transactions can be refunded, this is a {0}")]
    NotRefundable(&'static str),
    /// More than was spent.
    #[error("amount: at most {refundable} credits of this transaction can still be refunded")]
    RefundExceeds {
        /// What is left to refund.
        refundable: Credits,
    },
    /// The grant would end before it begins.
    #[error("expires_at: must be later than effective_at and than now")]
    BadPeriod,
}
