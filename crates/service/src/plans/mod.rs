//! Plans: what users subscribe to, and what they may do with it.
//!
//! The catalogue is configuration. What somebody has subscribed to is a [`Version`] of a plan, which is
//! kept and never changes, so a new catalogue is for new subscribers only.
//!
//! Reading order: [`model`], [`store`], [`api`].

pub mod api;
pub mod limits;
pub mod model;
pub mod store;

pub use model::{FREE, Pack, Plan, Version, money};
