//! Service keys: what programs prove themselves by, made and revoked by operators.
//!
//! What always holds:
//! - A key is shown once, when it is made or rotated, and kept as its SHA-256 alone. Its secret is 190 random
//!   bits, so that no slow hash is needed: there is nothing to guess.
//! - A key that is mistyped is refused by its checksum, without a look into the database.
//! - A revoked key is refused at once by the process that revoked it, and within [`known::FRESH`] by the others.
//! - Only admins make keys, and a key's scopes never change: more scopes are another key.
//!
//! Reading order: [`text`] (what a key looks like), [`model`], [`known`] (from a key to who it is),
//! [`store`], [`edits`], [`request`] and [`api`], [`command`] (the same at the command line).

pub mod api;
pub mod command;
pub mod edits;
pub mod known;
pub mod model;
pub mod request;
pub mod store;
pub mod text;

pub use known::Keys;
pub use model::Key;
