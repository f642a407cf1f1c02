//! The wire contract, told as stories and run on both engines.
//!
//! Each module holds one part of the contract; what its answers look like is shown whole. Every
//! JSON answer is also held against `/openapi.json` by `testkit`.

mod batch;
mod credits;
mod document;
mod errors;
mod files;
mod grants;
mod hostile;
mod idempotency;
mod limits;
mod live;
mod matrix;
mod memory;
mod messages;
mod paging;
mod prices;
mod search;
mod service;
mod sessions;
mod stats;
mod support;
mod usage;
mod users;
