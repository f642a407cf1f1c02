//! Sessions: what users said, and what is remembered of it.
//!
//! A session has messages, numbered 1, 2, 3, … without gaps in the order of their commits, and
//! moves its totals in the transaction of each message. It lives as long as it is used: a message
//! extends `expires_at`, and one to an expired session makes it active again; expiry hides, it
//! destroys nothing. Deleting a session makes it unknown at once; its rows go bit by bit.
//!
//! Messages are added by a command with a plan of its own, because they are the hot path; the rest
//! is edits.
//!
//! Reading order: [`model`], [`api`], [`messages`], [`memory`], [`search`] over [`words`],
//! [`edits`], [`store`], `engine`, [`sweeper`], [`retention`].

pub mod api;
pub mod edits;
pub mod engine;
pub mod memory;
pub mod messages;
pub mod model;
pub mod retention;
pub mod search;
pub mod store;
pub mod sweeper;
pub mod telling;
pub mod words;

pub use model::{Append, Message, Move, NewMessage, SessionRef};
