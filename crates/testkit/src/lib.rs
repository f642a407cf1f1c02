//! What the tests stand on: the service on either engine, and callers who speak HTTP to it.
//!
//! [`both_engines!`] turns one story into two tests. [`TestApp`] is the service in this process,
//! behind a real port, with a clock that stands still. [`Actor`]s are its callers; each JSON answer
//! that they get is held against the service's own `/openapi.json`. When a story ends, its ledger is
//! verified.

pub mod actors;
pub mod app;
pub mod events;
pub mod files;
pub mod issuer;
pub mod oidc;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod s3;
pub mod schema;
pub mod standard_webhooks;
pub mod stripe;

pub use actors::{Actor, Answer, Request};
pub use app::{Engine, TestApp, run};
pub use events::{Event, Events};
pub use receiver::{Delivery, Receiver, Reply};
