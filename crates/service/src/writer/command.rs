//! What can be asked of the writer, and what it answers.

use super::edit::Edit;
use crate::audit::Record;
use crate::credits::hold::Hold;
use crate::credits::{self, Account, Entry, LedgerCommand};
use crate::db::DbError;
use crate::{charges, sessions, usage, users};
use bytes::Bytes;
use kernel::{Credits, Timestamp, UserRowId};
use tokio::sync::OwnedSemaphorePermit;

/// One change of one user's rows, or one batch of usage.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is the hot one, and a box for it would cost a trip to the heap"
)]
pub enum Command {
    /// Something for the ledger to decide.
    Ledger(UserRowId, LedgerCommand),
    /// Make or refresh a user.
    Ensure(users::Ensure),
    /// Change a user.
    Patch(users::Patch),
    /// Delete a user.
    Delete(users::Delete),
    /// Record usage.
    Usage(usage::Record),
    /// Record usage and pay for it.
    Charge(Box<charges::Charge>),
    /// The same, many times.
    Charges(charges::Charges),
    /// Rate usage that had no price.
    Rerate(Box<charges::rerate::Rerate>),
    /// Add messages to a session.
    Append(sessions::Append),
    /// Something small.
    Edit(Edit),
    /// Seal a piece of an erased user's account anew.
    Reseal(Box<credits::reseal::Reseal>),
    /// Forget idempotency keys from before that time.
    ForgetKeys(Timestamp),
}

impl Command {
    /// Whose rows it changes, where it says so and they are one user's.
    #[must_use]
    pub fn user(&self) -> Option<UserRowId> {
        let mut users: Box<dyn Iterator<Item = UserRowId>> = match self {
            Self::Ledger(user, _) => return Some(*user),
            Self::Edit(edit) => return Some(edit.user),
            Self::Reseal(reseal) => return Some(reseal.user),
            Self::Rerate(rerate) => return Some(rerate.user),
            Self::Charge(charge) => return Some(charge.new.user),
            Self::Append(append) => return Some(append.session.user),
            Self::Ensure(_) | Self::Patch(_) | Self::Delete(_) | Self::ForgetKeys(_) => return None,
            Self::Usage(record) => Box::new(record.records.iter().map(|record| record.user)),
            Self::Charges(charges) => Box::new(charges.charges.iter().map(|charge| charge.new.user)),
        };
        let first = users.next()?;
        users.all(|user| user == first).then_some(first)
    }
}

/// What a command did.
#[derive(Debug, Clone)]
pub enum Done {
    /// The ledger wrote this entry, or had written it before for the same reference.
    Entry {
        /// The entry.
        entry: Box<Entry>,
        /// What can be spent now.
        available: Credits,
    },
    /// The hold as it now stands, with the entry that charged it.
    Hold {
        /// The hold.
        hold: Box<Hold>,
        /// The entry that charged it, where anything was.
        entry: Option<Box<Entry>>,
        /// What can be spent now, on anything.
        available: Credits,
    },
    /// The account as it now stands.
    Account(Box<Account>),
    /// Expiries were written down, keys forgotten, an account sealed anew, or a charge of nothing was counted.
    Settled,
    /// The user as it now stands.
    User {
        /// The user.
        user: Box<users::User>,
        /// Whether this command made it.
        created: bool,
        /// What it can spend now.
        available: Credits,
        /// All that it was ever given.
        credits_total: Credits,
    },
    /// What became of each record.
    Usage(Vec<usage::Outcome>),
    /// What became of the charge.
    Charged(charges::Charged),
    /// The usage record as it was rated; nothing where it was rated before.
    Rerated(Option<usage::UsageRecord>),
    /// What became of each charge.
    Charges(Vec<Result<charges::Charged, WriteError>>),
    /// The messages that were added.
    Messages(Vec<sessions::Message>),
    /// The edit was made; the id of its new row, where it made one.
    Edited(Option<i64>),
}

/// A caller's key for one effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose key it is.
    pub caller: String,
    /// 1 to 255 printable ASCII characters.
    pub key: String,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
}

/// The body of a successful answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The JSON text.
    pub body: Bytes,
    /// Whether it was given before.
    pub replayed: bool,
}

/// Why the writer did not do it; nothing has changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The ledger's rules refuse.
    #[error(transparent)]
    Credits(#[from] credits::Rejection),
    /// The rules for users refuse.
    #[error(transparent)]
    Users(#[from] users::Rejection),
    /// A record of an atomic batch is bad: its place, and its user.
    #[error("records[{0}].user_id: User not found: {1}")]
    UsageUser(usize, kernel::ExternalId),
    /// A charge of an atomic batch is refused: its place, and why.
    #[error("charges[{0}]: {1}")]
    Charge(usize, Box<WriteError>),
    /// The session is unknown or deleted.
    #[error("Session not found")]
    UnknownSession,
    /// This statement of an edit wrote another number of rows than it must.
    #[error("statement {0} of the edit found its condition unmet")]
    Refused(usize),
    /// The key was used for another request.
    #[error("the idempotency key was used before with a different request")]
    IdempotencyMismatch,
    /// Too much is waiting already.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The database is down; whether the write happened may be unknown.
    #[error("{0}")]
    Unavailable(String),
    /// A bug.
    #[error("{0}")]
    Internal(String),
}

impl From<DbError> for WriteError {
    /// What a look-up that failed is to whoever writes by what it says.
    fn from(error: DbError) -> Self {
        match error {
            DbError::Internal(why) => Self::Internal(why),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Makes the answer's body of what was done. It may run more than once.
pub type Respond = Box<dyn Fn(&Done) -> Bytes + Send + Sync>;

/// A command on its way through the writer.
pub struct Job {
    /// What to do.
    pub command: Command,
    /// The caller's key, with what makes the body that is kept under it.
    pub keyed: Option<(IdempotencyKey, Respond)>,
    /// The room that its request takes, given back when the job is over.
    pub room: Option<OwnedSemaphorePermit>,
    /// What is to be written down of it in the audit log.
    pub audit: Option<Box<Record>>,
}

/// What a request brings along to the writer.
#[derive(Debug, Default)]
pub struct Ticket {
    /// Its idempotency key.
    pub key: Option<IdempotencyKey>,
    /// The room that its body takes in memory, even when its client has gone.
    pub room: Option<OwnedSemaphorePermit>,
}

/// What the writer hands back.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Done, and the body is still to be made.
    Done(Done),
    /// The body that is kept under the caller's key.
    Answer(Answer),
}
