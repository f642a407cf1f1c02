//! Loading and writing users for the group-commit writer.

pub mod postgres;
pub mod sqlite;
