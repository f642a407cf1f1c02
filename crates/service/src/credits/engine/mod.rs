//! Loading and writing accounts, grants and entries for the group-commit writer.

pub mod postgres;
pub mod sqlite;
