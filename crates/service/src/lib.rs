//! The User Service as a library: what `main` starts and what tests drive.
//!
//! Reading order: [`app`] (what every request can reach), [`boot`] (the only wiring), [`http`]
//! (around every request), [`auth`] (who asks and what it may), [`db`] and [`writer`] (how rows are
//! read and changed), then the product: [`users`], [`usage`], [`credits`], [`plans`],
//! [`subscriptions`], [`payments`] and [`stripe`], [`sessions`], [`live`], [`mcp`], [`ops`], [`keys`], [`audit`] beside all of it, and
//! what goes by and by: [`jobs`], [`retention`].

pub mod app;
pub mod audit;
pub mod auth;
pub mod boot;
pub mod charges;
pub mod cli;
pub mod config;
pub mod credits;
pub mod db;
pub mod files;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod limits;
pub mod live;
pub mod mcp;
pub mod measure;
pub mod ops;
pub mod payments;
pub mod plans;
pub mod prices;
pub mod rate_limits;
pub mod retention;
pub mod sessions;
pub mod stripe;
pub mod subscriptions;
pub mod telemetry;
pub mod usage;
pub mod users;
pub mod webhooks;
pub mod writer;
