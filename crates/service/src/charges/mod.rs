//! Charges: a usage record, its price and its payment in one transaction.
//!
//! What always holds: a charge that is answered with success has its usage record, its ledger entry
//! and whatever moves under spending limits, all from one commit; one that is refused has none of
//! them, unless its caller asked for the record all the same.
//!
//! Reading order: [`model`] (what is asked, what comes of it), [`request`] (how it is sent and priced),
//! [`plan`] (how it is decided), [`api`] and [`batch`] (routes), [`view`] (answers).

pub mod model;
pub mod plan;

pub use model::{Charge, ChargeMark, ChargeStatus, Charged, Charges, OnInsufficient};

use crate::app::App;
use kernel::Timestamp;

/// The name that the price book has for a model; the one that is asked for where it has none.
#[must_use]
pub fn canonical(_app: &App, model: &str, _provider: Option<&str>, _at: Timestamp) -> String {
    model.to_owned()
}
