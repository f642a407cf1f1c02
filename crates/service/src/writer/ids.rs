//! Integer ids, taken from the database in blocks.
//!
//! An answer carries the id of its row, and may have to be stored before the row is, so ids are
//! known before the write. What is left of a block when a process ends is never used.

use super::needs::Needs;
use crate::db::DbError;

/// How many ids are fetched at once at least.
const BLOCK: i64 = 1_000;
/// Users and sessions are made one by one and people read their ids, so their gaps are kept small.
const SMALL_BLOCK: i64 = 10;

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
    fn lacking(&self, wanted: usize) -> i64 {
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

/// Rows whose ids an [`super::Edit`] may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Sessions.
    Sessions,
    /// What is remembered of a session.
    Memories,
    /// Files.
    Files,
    /// Subscriptions.
    Subscriptions,
    /// Payments.
    Payments,
    /// Events of Stripe.
    StripeEvents,
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
    /// Of messages.
    pub messages: Block,
    sessions: Block,
    memories: Block,
    files: Block,
    subscriptions: Block,
    payments: Block,
    stripe_events: Block,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            users: Block::new("users", SMALL_BLOCK),
            entries: Block::new("credit_entries", BLOCK),
            usage: Block::new("usage_records", BLOCK),
            messages: Block::new("messages", BLOCK),
            sessions: Block::new("sessions", SMALL_BLOCK),
            memories: Block::new("session_memories", SMALL_BLOCK),
            files: Block::new("files", SMALL_BLOCK),
            subscriptions: Block::new("subscriptions", SMALL_BLOCK),
            payments: Block::new("payments", SMALL_BLOCK),
            stripe_events: Block::new("stripe_events", SMALL_BLOCK),
        }
    }
}

impl Ids {
    /// The ids of an edit's rows.
    pub const fn of(&mut self, counter: Counter) -> &mut Block {
        match counter {
            Counter::Sessions => &mut self.sessions,
            Counter::Memories => &mut self.memories,
            Counter::Files => &mut self.files,
            Counter::Subscriptions => &mut self.subscriptions,
            Counter::Payments => &mut self.payments,
            Counter::StripeEvents => &mut self.stripe_events,
        }
    }

    /// The blocks that hold too few ids for a batch that writes so many entries, each with how many
    /// are to be fetched.
    pub fn lacking(&mut self, needs: &Needs, entries: usize) -> impl Iterator<Item = (&mut Block, i64)> {
        let edited = |counter| needs.fresh.iter().filter(|fresh| **fresh == counter).count();
        [
            (&mut self.users, needs.fresh_users),
            (&mut self.entries, entries),
            (&mut self.usage, needs.fresh_usage),
            (&mut self.messages, needs.fresh_messages),
            (&mut self.sessions, edited(Counter::Sessions)),
            (&mut self.memories, edited(Counter::Memories)),
            (&mut self.files, edited(Counter::Files)),
            (&mut self.subscriptions, edited(Counter::Subscriptions)),
            (&mut self.payments, edited(Counter::Payments)),
            (&mut self.stripe_events, edited(Counter::StripeEvents)),
        ]
        .into_iter()
        .filter_map(|(block, wanted)| {
            let lacking = block.lacking(wanted);
            (lacking > 0).then_some((block, lacking))
        })
    }
}
