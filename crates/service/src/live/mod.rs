//! The live tail: a session's messages, and a user's balance and usage, as server-sent events.
//!
//! Nothing is kept for it. A stream has a cursor, and reads from the tables what comes after it; a
//! wake-up only says that reading is worth while. So no event is lost, doubled or invented,
//! whatever becomes of a wake-up: a lost one costs at most a heartbeat, one too many a read. What a
//! stream sends is pulled by its connection, so a slow client makes nothing pile up.
//!
//! The writers ring after each commit ([`hub`]); on PostgreSQL each process tells the others
//! ([`listen`]). A stream ends after 15 minutes, when the service stops, and when what it is about
//! is deleted; its client comes back with `Last-Event-ID`, and is asked anew what it may see.
//!
//! Reading order: [`hub`], [`stream`], [`session`] and [`user`] (what is sent), [`store`], [`api`],
//! [`listen`] over [`outbox`].

pub mod api;
pub mod hub;
pub mod listen;
pub mod outbox;
pub mod session;
pub mod store;
pub mod stream;
pub mod user;

pub use hub::{Live, Topic};
