//! Credits: the prepaid ledger. Never overdrawn, never charged twice, never lost, provable.
//!
//! What always holds is written in `docs/ledger.md`; [`ledger`] decides it, [`verify`] proves it on
//! a live database.
//!
//! Reading order: [`model`] (accounts, grants, entries), [`hold`], [`context`] (what a debit is for), [`ledger`]
//! (the rules, pure), [`chain`], [`seal`] and [`reseal`] (hashes); routes: [`api`], [`grants_api`], [`holds_api`],
//! [`corrections`], [`explain`], with their answers in [`view`] and [`holds_view`]; [`rows`], [`store`],
//! [`balances`] and [`memory`] (reads), `engine` (loading and writing for the group-commit writer), [`verify`],
//! [`sweeper`].

pub mod api;
pub mod balances;
pub mod chain;
pub mod context;
pub mod corrections;
pub mod engine;
pub mod error;
pub mod explain;
pub mod grants_api;
pub mod hold;
pub mod holds_api;
pub mod holds_view;
pub mod ledger;
pub mod memory;
pub mod model;
pub mod plan;
pub mod reseal;
pub mod rows;
pub mod seal;
pub mod store;
pub mod sweeper;
pub mod verify;
pub mod view;

/// How many accounts are kept in memory; a part that is full is emptied.
pub const ACCOUNTS_MAX: usize = 100_000;

pub use error::Rejection;
pub use ledger::{Facts, LedgerCommand, Policy, decide};
pub use model::{Account, Entry, EntryKind, Grant, Source};
