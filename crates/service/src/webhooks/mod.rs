//! Outgoing webhooks: others are told what happened here.
//!
//! What happened is written as an event in the transaction in which it happened, so none is lost and
//! none is invented: what the writer decides notes its events in [`crate::writer::Changes`], and an
//! edit brings its own along ([`crate::writer::Edit::telling`]). Only what some endpoint asks for is kept.
//!
//! Reading order: [`event`] (what can happen), [`bodies`] (what events say), [`of_ledger`] (what the ledger says of it),
//! [`types`] and [`examples`] (what others may know of all that), [`outbox`] (how it is kept); [`model`] (endpoints and deliveries),
//! [`payload`] (an event as it is sent), [`secret`] (what signs it), [`wanted`], [`url`], [`address`] and [`headers`] (what an endpoint
//! may ask for) for [`request`], [`edits`] and [`store`] for [`api`]; [`deliveries`] for [`deliveries_api`]; [`delivery`] (telling).

pub mod address;
pub mod api;
pub mod bodies;
pub mod deliveries;
pub mod deliveries_api;
pub mod delivery;
pub mod edits;
pub mod event;
pub mod examples;
pub mod headers;
pub mod model;
pub mod of_ledger;
pub mod outbox;
pub mod payload;
pub mod request;
pub mod secret;
pub mod store;
pub mod types;
pub mod url;
pub mod wanted;

pub use event::{Event, EventType, Kinds};
pub use outbox::Outbox;
