//! Loading and writing sessions and messages for the group-commit writer.

pub mod postgres;
pub mod sqlite;
