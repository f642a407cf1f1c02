//! Stripe, where money is: what we ask of it, and what it tells us.
//!
//! [`client`] asks, with a key for every change, time limits, retries and a [`breaker`]. What it
//! tells comes as signed events ([`signature`]), is stored once for ever, and is applied by and by
//! ([`inbox`]); [`object`] is what of its objects matters here. An event may come twice, late and in any
//! order: what it does is decided by the object in it, never by its place in line. What it said may be forgotten
//! with time ([`retention`]), that it came never.

pub mod api;
pub mod apply;
pub mod breaker;
pub mod client;
pub mod inbox;
pub mod object;
pub mod retention;
pub mod signature;

pub use client::{CallError, Client};
