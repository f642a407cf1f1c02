//! Loading and moving the counters of limits for the group-commit writer.
//!
//! Counters are read after the accounts whose limits they belong to. Whoever moves a counter moves the
//! version of its account in the same transaction, so a count that somebody else changed meanwhile
//! never decides anything.

pub mod postgres;
pub mod sqlite;
