//! The wire contract, told as stories and run on both engines.
//!
//! Each module holds one part of the contract; what its answers look like is shown whole. Every
//! JSON answer is also held against `/openapi.json` by `testkit`.

mod audit;
mod batch;
mod charged_batch;
mod charges;
mod contents;
mod corrections;
mod credits;
mod deliveries;
mod directory;
mod document;
mod erase;
mod errors;
mod event_types;
mod events;
mod explain;
mod export;
mod files;
mod grants;
mod hardening;
mod holds;
mod holds_end;
mod hostile;
mod idempotency;
mod keys;
mod ledger_hostile;
mod limits;
mod live;
mod matrix;
mod mcp;
mod memory;
mod merge;
mod messages;
mod oidc;
mod paging;
mod payments;
mod prices;
mod rate_limits;
mod rerate;
mod retention;
mod scopes;
mod search;
mod service;
mod sessions;
mod stats;
mod subscriptions;
mod support;
mod token_attacks;
mod usage;
mod user_tokens;
mod users;
mod webhooks;
