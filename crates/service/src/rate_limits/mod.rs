//! How often a caller may ask: GCRA, in this process's memory or in Redis.
//!
//! What always holds:
//! - A refusal (429) comes before the handler: what was done is never answered with it.
//! - A request is counted once, in one bucket: of its principal and the class of its route, or, where
//!   nobody need prove who it is, of its address.
//! - Credentials that fail are counted by address, and an address that fails too often is refused before
//!   its credentials are looked at. Whoever authenticates well is not counted there.
//! - Memory is bounded ([`table`]), and so is the wait for Redis ([`shared`]): slow or down, its work is
//!   done by the memory at once.
//!
//! Reading order: [`gcra`] (the rule), [`class`] (which bucket), [`table`] (buckets in memory), [`shared`]
//! (buckets in Redis), [`limiter`] (the two together), [`headers`] (what callers are told).
//! `docs/rate-limits.md` is for callers and operators. Spending limits are another thing: [`crate::limits`].

pub mod class;
pub mod gcra;
pub mod headers;
pub mod limiter;
pub mod shared;
pub mod table;

pub use class::Class;
pub use gcra::{Decision, Quota};
pub use limiter::RateLimiter;
