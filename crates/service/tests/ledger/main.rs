//! The ledger against a naive model of itself: its rules alone, and through the writer on both engines.
//!
//! `LEDGER_OPERATIONS` asks for more operations, `LEDGER_SEED` for those of a failure.

mod books;
mod breakage;
mod engines;
mod model;
mod replicas;
mod rules;
mod script;
mod stage;
mod stories;
mod year;
