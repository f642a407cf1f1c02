//! The face of the service: routes, input, answers, errors, and what happens around each request.
//!
//! Reading order: [`router`] (the flat table of routes), [`around`] (request ids, time limit, logs), [`client_ip`] (who sent it),
//! [`input`] (bodies and queries), [`many`] and [`object`] (parts of bodies), [`kept`] (keys of long requests), [`page`], [`envelope`], [`error`], [`docs`] (OpenAPI), [`operations`] (what it says of each route), [`harden`] and [`compress`] (what every answer gets), [`server`].

pub mod around;
pub mod client_ip;
pub mod compress;
pub mod docs;
pub mod envelope;
pub mod error;
pub mod examples;
pub mod facts;
pub mod harden;
pub mod input;
pub mod kept;
pub mod many;
pub mod object;
pub mod operations;
pub mod page;
pub mod router;
pub mod server;

pub use envelope::{Envelope, json};
pub use error::{ApiError, Invalid};
pub use facts::{RequestFacts, Within};
pub use input::{BatchInput, Input, Query, RawBody};
