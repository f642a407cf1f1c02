//! Loading and writing usage records and roll-ups for the group-commit writer.

pub mod postgres;
pub mod sqlite;
