//! Subscriptions: which plan a user has, since when, and until when.
//!
//! A user has one subscription at a time. `free` is taken by the user itself; any other plan is paid
//! for through Stripe, which then says where it stands ([`stripe`]), or set by an admin, for customers who pay by invoice. Each period gives the plan's credits, once: the grant's
//! reference names the subscription and the period. Periods are counted from an anchor, so the job
//! that turns them may run late, twice, or after a month of standstill: it comes out at the same period,
//! and periods that are over by then give nothing.
//!
//! Reading order: [`model`], [`period`], [`edits`], [`store`], [`change`], [`stripe`],
//! [`checkout`], [`view`], [`api`], [`sweeper`].

pub mod api;
pub mod change;
pub mod checkout;
pub mod edits;
pub mod model;
pub mod period;
pub mod store;
pub mod stripe;
pub mod sweeper;
pub mod telling;
pub mod view;
