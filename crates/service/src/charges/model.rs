//! Charges, and what they say of their usage records. No I/O.

use crate::credits::Entry;
use crate::credits::context::Basis;
use crate::credits::ledger::{Measure, Note};
use crate::usage::{NewUsage, UsageRecord};
use kernel::Credits;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

crate::credits::model::words! {
    /// How the usage record of a charge was paid for.
    ChargeStatus {
        /// Its credits were spent.
        Charged = "charged",
        /// It cost nothing.
        Free = "free",
        /// It was kept although its credits could not be spent.
        Unpaid = "unpaid",
        /// Its model had no price; it is to be rated later.
        Unpriced = "unpriced",
        /// Its model had no price, and it was charged at the fallback rate.
        Fallback = "fallback",
        /// It was rated later, and paid for by an adjustment.
        Rerated = "rerated",
    }
}

crate::credits::model::words! {
    /// What becomes of a charge that the account cannot pay, or that a spending limit denies.
    OnInsufficient {
        /// Nothing is written.
        Reject = "reject",
        /// The usage record is kept, and flagged as unpaid.
        Record = "record",
    }
}

/// What a usage record says of its payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeMark {
    /// How it was paid for.
    pub status: ChargeStatus,
    /// The entry that paid.
    pub entry_seq: Option<i64>,
    /// What was not paid.
    pub due: Option<Credits>,
    /// What was used, pool by pool, as JSON: enough to price it again.
    pub pools: Option<String>,
}

/// A usage record to write, to price and to pay for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The record; its `credits_charged` is the price.
    pub new: NewUsage,
    /// How the price was found: `Charged`, `Unpriced` or `Fallback`.
    pub status: ChargeStatus,
    /// What was used, pool by pool.
    pub pools: Option<String>,
    /// What the debit is for, and how its amount was found.
    pub basis: Basis,
    /// What it counts under spending limits beside its credits.
    pub measure: Measure,
    /// What becomes of it when it cannot be paid.
    pub on_insufficient: OnInsufficient,
    /// What to write beside the entry.
    pub note: Note,
}

/// Many charges, all or each on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charges {
    /// What to charge.
    pub charges: Vec<Charge>,
    /// Whether one refusal refuses all.
    pub atomic: bool,
}

/// What became of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    /// The usage record.
    pub usage: Box<UsageRecord>,
    /// The entry that paid for it, where anything was paid.
    pub entry: Option<Box<Entry>>,
    /// Whether its event was charged before, by this record.
    pub duplicate: bool,
    /// What can be spent now, on anything.
    pub available: Credits,
}
