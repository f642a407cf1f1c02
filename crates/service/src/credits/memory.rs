//! Committed accounts in memory, for the engine that has the database to itself.
//!
//! On SQLite one process owns the file, so what its writer committed is the truth. The writer puts
//! an account here after the commit and before the answer; balances are read from here without a
//! system call. A reader that had to ask the file may leave what it found, unless the writer or a
//! clearing came between.

use super::model::Account;
use kernel::UserRowId;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// How many parts the memory has, so that readers seldom meet.
const SHARDS: usize = 16;

/// Accounts as they were last committed.
#[derive(Default)]
pub struct Accounts {
    shards: [RwLock<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    accounts: HashMap<UserRowId, Arc<Account>>,
    /// Moves with every clearing.
    clearings: u64,
}

/// When a reader began to ask the file.
#[derive(Debug, Clone, Copy)]
pub struct Asked(u64);

impl Accounts {
    /// The account as it was last committed, or when the asking began.
    ///
    /// # Errors
    /// The proof of when it was not here, for [`Accounts::leave`].
    pub fn get(&self, user: UserRowId) -> Result<Arc<Account>, Asked> {
        let shard = self.shard(user).read();
        shard.accounts.get(&user).cloned().ok_or(Asked(shard.clearings))
    }

    /// Takes what the writer has just committed.
    pub fn commit(&self, accounts: impl IntoIterator<Item = Account>) {
        for account in accounts {
            let mut shard = self.shard(account.user).write();
            if shard.accounts.len() >= super::ACCOUNTS_MAX / SHARDS {
                shard.accounts.clear();
                shard.clearings += 1;
            }
            shard.accounts.insert(account.user, Arc::new(account));
        }
    }

    /// Forgets accounts of which it is not known what was committed.
    pub fn forget<'a>(&self, users: impl IntoIterator<Item = &'a UserRowId>) {
        for user in users {
            let mut shard = self.shard(*user).write();
            shard.accounts.remove(user);
            shard.clearings += 1;
        }
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.accounts.clear();
            shard.clearings += 1;
        }
    }

    /// Takes what a reader found in the file, unless something newer was or may have been here.
    pub fn leave(&self, account: &Arc<Account>, asked: Asked) {
        let mut shard = self.shard(account.user).write();
        let room = shard.accounts.len() < super::ACCOUNTS_MAX / SHARDS;
        if shard.clearings == asked.0 && room {
            shard.accounts.entry(account.user).or_insert_with(|| Arc::clone(account));
        }
    }

    fn shard(&self, user: UserRowId) -> &RwLock<Shard> {
        &self.shards[usize::try_from(user.0).unwrap_or(0) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::Timestamp;

    fn account(version: i64) -> Account {
        Account { version, ..Account::new(UserRowId(1), Timestamp::default()) }
    }

    #[test]
    fn a_slow_reader_never_hides_what_the_writer_committed() {
        let memory = Accounts::default();
        let asked = memory.get(UserRowId(1)).expect_err("nothing yet");
        memory.commit([account(5)]);
        memory.leave(&Arc::new(account(4)), asked);
        assert_eq!(memory.get(UserRowId(1)).expect("committed").version, 5);
    }

    #[test]
    fn nor_does_it_when_the_memory_was_cleared_meanwhile() {
        let memory = Accounts::default();
        let asked = memory.get(UserRowId(1)).expect_err("nothing yet");
        memory.commit([account(5)]);
        let others = (1..=super::super::ACCOUNTS_MAX / SHARDS).map(|n| {
            Account::new(UserRowId(i64::try_from(n * SHARDS + 1).expect("small")), Timestamp::default())
        });
        memory.commit(others);
        assert!(memory.get(UserRowId(1)).is_err(), "cleared");
        memory.leave(&Arc::new(account(4)), asked);
        assert!(memory.get(UserRowId(1)).is_err(), "not taken: version 5 may be the truth");
    }

    #[test]
    fn what_may_have_been_committed_is_read_again() {
        let memory = Accounts::default();
        memory.commit([account(5)]);
        let asked = Accounts::default().get(UserRowId(1)).expect_err("nothing there");
        memory.forget(&[UserRowId(1)]);
        assert!(memory.get(UserRowId(1)).is_err(), "forgotten");
        memory.leave(&Arc::new(account(5)), asked);
        assert!(memory.get(UserRowId(1)).is_err(), "read before it was forgotten: 6 may be the truth");
        let asked = memory.get(UserRowId(1)).expect_err("still nothing");
        memory.leave(&Arc::new(account(6)), asked);
        assert_eq!(memory.get(UserRowId(1)).expect("read since").version, 6);
        memory.forget_all();
        assert!(memory.get(UserRowId(1)).is_err(), "everything is forgotten");
    }
}
