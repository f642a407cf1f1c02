//! What a batch of commands has to have loaded before it can be decided.

use super::command::{Command, Job};
use super::ids::Counter;
use crate::credits::LedgerCommand;
use kernel::{ExternalId, TransactionId, UserRowId};

/// The keys of the rows that a batch looks at. No key stands twice.
#[derive(Debug, Default)]
pub struct Needs {
    /// Accounts that may come from a cache.
    pub accounts: Vec<UserRowId>,
    /// Accounts to settle: what a memory does not know of could not be written down.
    pub settled: Vec<UserRowId>,
    /// Users by external id; their accounts are loaded too, never from a cache.
    pub users: Vec<ExternalId>,
    /// Folded e-mail addresses.
    pub emails: Vec<String>,
    /// References of accounts.
    pub references: Vec<(UserRowId, String)>,
    /// Entries that are to be refunded.
    pub originals: Vec<TransactionId>,
    /// Usage records whose owner matters.
    pub usage_ids: Vec<i64>,
    /// Events that may have been recorded.
    pub events: Vec<(UserRowId, String)>,
    /// Idempotency keys: caller and key.
    pub keys: Vec<(String, String)>,
    /// Sessions that must be there.
    pub sessions: Vec<i64>,
    /// How many users may be made.
    pub fresh_users: usize,
    /// How many usage records may be written.
    pub fresh_usage: usize,
    /// How many messages may be written.
    pub fresh_messages: usize,
    /// The rows that edits make.
    pub fresh: Vec<Counter>,
}

impl Needs {
    /// What these jobs need.
    #[must_use]
    pub fn of(jobs: &[&Job]) -> Self {
        let mut needs = Self::default();
        for job in jobs {
            if let Some((key, _)) = &job.keyed {
                needs.keys.push((key.caller.clone(), key.key.clone()));
            }
            match &job.command {
                Command::Ledger(user, command) => needs.ledger(*user, command),
                Command::Ensure(ensure) => {
                    needs.users.push(ensure.auth0_id.clone());
                    needs.emails.extend(ensure.email.as_ref().map(kernel::Email::folded));
                    needs.fresh_users += 1;
                }
                Command::Patch(patch) => {
                    needs.users.push(patch.auth0_id.clone());
                    needs.emails.extend(patch.email.as_ref().map(kernel::Email::folded));
                }
                Command::Delete(delete) => needs.users.push(delete.auth0_id.clone()),
                Command::Append(append) => {
                    needs.accounts.push(append.session.user);
                    needs.sessions.push(append.session.row);
                    needs.fresh_messages += append.messages.len();
                }
                Command::Edit(edit) => needs.fresh.extend(edit.fresh),
                Command::ForgetKeys(_) => {}
                Command::Usage(usage) => {
                    needs.fresh_usage += usage.records.len();
                    for record in &usage.records {
                        needs.accounts.push(record.user);
                        needs.events.extend(record.event_id.clone().map(|event| (record.user, event)));
                    }
                }
            }
        }
        needs.sort();
        needs
    }

    fn ledger(&mut self, user: UserRowId, command: &LedgerCommand) {
        self.accounts.push(user);
        match command {
            LedgerCommand::Consume(consume) => self.usage_ids.extend(consume.usage_record_id),
            LedgerCommand::Issue(issue) => {
                self.references.extend(issue.reference_id.clone().map(|reference| (user, reference)));
            }
            LedgerCommand::Refund(refund) => self.originals.push(refund.original),
            LedgerCommand::Settle => self.settled.push(user),
        }
    }

    fn sort(&mut self) {
        fn unique<T: Ord>(keys: &mut Vec<T>) {
            keys.sort_unstable();
            keys.dedup();
        }
        unique(&mut self.accounts);
        unique(&mut self.settled);
        unique(&mut self.users);
        unique(&mut self.emails);
        unique(&mut self.references);
        unique(&mut self.originals);
        unique(&mut self.usage_ids);
        unique(&mut self.events);
        unique(&mut self.keys);
        unique(&mut self.sessions);
    }
}
