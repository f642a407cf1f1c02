//! Files: uploaded by users, told by their bytes, kept in a folder or a bucket.

pub mod kind;
pub mod name;
pub mod objects;
pub mod signature;
pub mod spool;
