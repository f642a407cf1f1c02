//! Prices: what a call of a model costs, exactly.
//!
//! Reading order: [`model`] (pools of what is paid for, and how much of each was used).

pub mod model;

pub use model::{Pool, Quantities};
