//! The words of the User Service: money, ids, texts, time.
//!
//! Every type here validates once, at the edge, and then cannot hold a bad value. The limits a
//! type enforces are the limits its OpenAPI schema states, because both come from the same
//! constant. Nothing here does I/O, reads a clock or draws a random number, except [`Clock`],
//! which is how time is handed in.
//!
//! Reading order: [`credits`], [`usd`] and [`rate`] (money over [`decimal`]), [`wide_sum`] (sums that
//! cannot overflow), [`score`], [`ids`], [`text`], [`json`], [`timestamp`], [`clock`], [`secret`].

pub mod clock;
pub mod credits;
pub mod decimal;
pub mod ids;
pub mod json;
pub mod number;
pub mod rate;
pub mod score;
pub mod secret;
pub mod text;
pub mod timestamp;
pub mod usd;
pub mod wide_sum;

pub use clock::Clock;
pub use credits::{Amount, Charge, Credits, Signed};
pub use ids::{ExternalId, GrantId, HoldId, TransactionId, UserKey, UserRowId};
pub use json::{JsonArray, JsonObject};
pub use number::{Count, RecordId};
pub use rate::{ExactUsd, Rate};
pub use score::{Flag, Score};
pub use secret::Secret;
pub use text::{Content, Email, Name, Text};
pub use timestamp::Timestamp;
pub use usd::{Cost, Usd};
pub use wide_sum::WideSum;
