//! Why the ledger refuses.

use super::hold::HoldStatus;
use super::model::OWED_MAX;
use crate::limits::Denial;
use kernel::{Credits, HoldId};

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
        /// What open holds have set aside, which may return.
        held: Credits,
    },
    /// A spending limit denies it.
    #[error("{0}")]
    LimitExceeded(Box<Denial>),
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
    /// What rolls over does so when the grant ends.
    #[error("rollover: needs expires_at, at which it happens")]
    RolloverWithoutEnd,
    /// There is no such grant in this account.
    #[error("Grant not found")]
    UnknownGrant,
    /// The grant has nothing left to take back.
    #[error("the grant has nothing left: it is spent, has ended or was voided before")]
    NothingToVoid,
    /// More than the grant gave and nobody took back before.
    #[error("at most {reclaimable} credits of this grant can still be reclaimed")]
    ReclaimExceeds {
        /// What is left to reclaim.
        reclaimable: Credits,
    },
    /// What the account would owe is more than it may.
    #[error("the account may owe at most {OWED_MAX} credits")]
    OwesTooMuch,
    /// Open holds have set some of the grant aside.
    #[error("open holds have set {held} credits of the grant aside; settle them first")]
    GrantHeld {
        /// How much.
        held: Credits,
    },
    /// The account has too many open holds.
    #[error("the account already has 1000 open holds")]
    TooManyHolds,
    /// The words of the account's open holds would be too many.
    #[error("the open holds of the account may carry at most 1048576 bytes of metadata and descriptions")]
    HoldsTooLarge,
    /// There is no such hold in this account.
    #[error("Hold not found: {0}")]
    UnknownHold(HoldId),
    /// The hold is settled, and not by the same request.
    #[error("Hold {id} is already {status}")]
    HoldSettled {
        /// Which hold.
        id: HoldId,
        /// How it was settled.
        status: HoldStatus,
    },
    /// A running total fell.
    #[error("amount: is the running total, which is already {ticked}")]
    TickFalls {
        /// What it was.
        ticked: Credits,
    },
    /// The grant would end before it begins.
    #[error("expires_at: must be later than effective_at and than now")]
    BadPeriod,
}
