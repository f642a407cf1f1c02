//! Usage: what was used, recorded and summed; it never deducts.
//!
//! A record is written once; with an `event_id`, once for ever per user. In the same transaction
//! the sums of its hour, day and month move ([`rollup`]), so statistics cost the same over ten
//! records and over ten million.
//!
//! Reading order: [`model`], [`rollup`], [`api`], [`batch`], [`stats`], [`store`], `engine`, [`retention`].

pub mod api;
pub mod batch;
pub mod engine;
pub mod model;
pub mod retention;
pub mod rollup;
pub mod stats;
pub mod store;

pub use model::{NewUsage, Outcome, Record, UsageRecord};
