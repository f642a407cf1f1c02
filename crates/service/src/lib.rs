//! The User Service as a library: what `main` starts and what tests drive.

pub mod cli;
pub mod config;
pub mod telemetry;
