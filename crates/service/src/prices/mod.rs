//! Prices: what a call of a model costs, exactly.
//!
//! What always holds: a version of a price never changes, and an event is priced by the version that
//! was in force when it happened; nothing between a literal and the last step is rounded; what has no
//! price is said to have none, and is never a silent zero.
//!
//! Reading order: [`model`] (pools of what is paid for, and how much of each was used), [`rates`] and
//! [`version`] (what a price says), [`pricing`] and [`terms`] (from quantities to dollars, credits and
//! why), [`usage`] (what a provider says it used, read into pools), [`names`] and [`book`] (which price a name means), [`shelf`] (the book in memory), [`store`] and
//! [`edits`] (its rows), [`litellm`] and [`import`] (other people's price lists), [`api`], [`change`],
//! [`intake`], [`quotes`] and [`command`] (who asks).

pub mod api;
pub mod book;
pub mod change;
pub mod command;
pub mod edits;
pub mod import;
pub mod intake;
pub mod litellm;
pub mod model;
pub mod names;
pub mod pricing;
pub mod quotes;
pub mod rates;
pub mod shelf;
pub mod store;
pub mod terms;
pub mod usage;
pub mod version;
pub mod view;
mod wide;

pub use book::Book;
pub use model::{Pool, Quantities};
pub use pricing::{Explanation, Line, quote};
pub use rates::Rates;
pub use shelf::Prices;
pub use terms::{CreditsPerUsd, Markup, Terms, TooMuch};
pub use version::{PriceVersion, fallback_version};
