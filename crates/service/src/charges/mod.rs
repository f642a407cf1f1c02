//! Charges: a usage record, its price and its payment in one transaction.
//!
//! What always holds: a charge that is answered with success has its usage record, its ledger entry
//! and whatever moves under spending limits, all from one commit; one that is refused has none of
//! them, unless its caller asked for the record all the same.
//!
//! Reading order: [`model`] (what is asked, what comes of it), [`request`] (how it is sent and priced),
//! [`plan`] (how it is decided), [`api`] and [`batch`] (routes), [`rerate`] (what had no price), [`view`] (answers).

pub mod api;
pub mod batch;
pub mod model;
pub mod plan;
pub mod request;
pub mod rerate;
pub mod view;

pub use model::{Charge, ChargeMark, ChargeStatus, Charged, Charges, OnInsufficient};

use crate::app::App;
use kernel::Timestamp;

/// The name that the price book has for a model; the one that is asked for where it has none.
#[must_use]
pub fn canonical(app: &App, model: &str, provider: Option<&str>, at: Timestamp) -> String {
    let book = app.prices.book();
    let version = book.resolve(model, provider, at);
    version.map_or_else(|| model.to_owned(), |version| version.model.to_string())
}
