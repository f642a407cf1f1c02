//! Users: who they are, from the first token on.
//!
//! A user's row is made by `ensure` and stays for ever, so that its ledger keeps its owner: a
//! deleted user is gone from every answer, and its e-mail address is free again. `ensure` after a
//! delete brings the same account back as it stood; the welcome grant is given once per identity.
//!
//! Reading order: [`model`], [`rules`], [`api`], [`store`], `engine`.

pub mod api;
pub mod directory;
pub mod edits;
pub mod engine;
pub mod erase;
pub mod export;
pub mod export_tables;
pub mod identities;
pub mod merge;
pub mod merge_api;
pub mod merge_rows;
pub mod model;
pub mod plan;
pub mod rules;
pub mod scrub;
pub mod store;
pub mod suspend;
pub mod told;

pub use model::User;
pub use rules::{Delete, Ensure, Patch, Rejection};
