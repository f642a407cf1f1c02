//! Payments: money that comes through Stripe, and the credits that it gives.
//!
//! A payment is written down before Stripe is asked, under what caused it, and Stripe is asked under
//! the same name: whatever breaks off is begun again without being done twice. Credits are given for
//! money received, and for nothing else; money that goes back takes its credits back.
//!
//! Reading order: [`model`], [`edits`] (facts), [`telling`], [`store`], [`settle`] (facts to ledger), [`start`] (asking Stripe), [`urls`],
//! [`view`], [`api`]; then [`top_up`] (buying when few credits are left), [`top_up_rows`], [`top_up_api`]; [`reconcile`].

pub mod api;
pub mod edits;
pub mod model;
pub mod reconcile;
pub mod settle;
pub mod start;
pub mod store;
pub mod telling;
pub mod top_up;
pub mod top_up_api;
pub mod top_up_rows;
pub mod urls;
pub mod view;

pub use start::worth;
