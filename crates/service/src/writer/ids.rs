//! Integer ids, taken from the database in blocks.
//!
//! An answer carries the id of its row, and may have to be stored before the row is, so ids are
//! known before the write. What is left of a block when a process ends is never used.

use crate::db::DbError;

/// How many ids are fetched at once at least.
const BLOCK: i64 = 1_000;
/// Users are made one by one and people read their ids, so their gaps are kept small.
const USER_BLOCK: i64 = 10;

/// The statement that fetches a block: counter's name and size in, first id out.
pub const FETCH: &str = "UPDATE counters SET next = next + $2 WHERE name = $1 RETURNING next - $2";

/// A run of ids that nobody else has.
#[derive(Debug)]
pub struct Block {
    /// The counter's row.
    pub name: &'static str,
    size: i64,
    next: i64,
    end: i64,
}

impl Block {
    const fn new(name: &'static str, size: i64) -> Self {
        Self { name, size, next: 0, end: 0 }
    }

    /// How many must be fetched so that `wanted` are there; 0 when they are.
    #[must_use]
    pub fn lacking(&self, wanted: usize) -> i64 {
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        if self.end - self.next >= wanted { 0 } else { wanted.max(self.size) }
    }

    /// Takes over a fetched run; what was left of the last one is dropped.
    pub const fn refill(&mut self, first: i64, count: i64) {
        self.next = first;
        self.end = first + count;
    }

    /// The next id.
    ///
    /// # Errors
    /// [`DbError::Internal`] when fewer were reserved than are taken: a bug.
    pub fn take(&mut self) -> Result<i64, DbError> {
        if self.next >= self.end {
            return Err(DbError::Internal(format!("the block of {} ids is used up", self.name)));
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

/// The ids that one writer may give out.
#[derive(Debug)]
pub struct Ids {
    /// Of users.
    pub users: Block,
    /// Of ledger entries.
    pub entries: Block,
    /// Of usage records.
    pub usage: Block,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            users: Block::new("users", USER_BLOCK),
            entries: Block::new("credit_entries", BLOCK),
            usage: Block::new("usage_records", BLOCK),
        }
    }
}
