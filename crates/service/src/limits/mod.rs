//! Spending limits: how much a user, a key, a session, a model or a tag may spend in a window of time.
//!
//! A spend passes only if it fits every limit that is about it; then it is counted under each, in the
//! transaction that writes the spend down. What was counted stays counted: refunds do not give limits
//! back. `docs/limits.md` says what callers see.
//!
//! Reading order: [`window`] (calendar and rolling windows, their buckets), [`model`] (limits, spends,
//! counters), [`source`] (whose they are), [`rules`] (the decision, pure), [`request`] and [`view`] (what is sent and answered),
//! [`api`] (routes), [`standing`] and [`store`] (reads), `engine` (loading and moving counters for the
//! group-commit writer), [`sweeper`].

pub mod api;
pub mod engine;
pub mod model;
pub mod request;
pub mod rules;
pub mod source;
pub mod standing;
pub mod store;
pub mod sweeper;
pub mod view;
pub mod window;

pub use model::{CounterKey, Limit, Move, Moves, Spend, Used, Wanted};
pub use request::parse_list;
pub use rules::{Denial, apply, check, counters_of, moves};
pub use source::{PLAN_PREFIX, Source};
