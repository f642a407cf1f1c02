//! Prices: what a call of a model costs, exactly.
//!
//! Reading order: [`model`] (pools of what is paid for, and how much of each was used), [`usage`] (what
//! a provider says it used, read into pools).

pub mod model;
pub mod usage;

pub use model::{Pool, Quantities};
