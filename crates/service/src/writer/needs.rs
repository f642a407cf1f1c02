//! What a batch of commands has to have loaded before it can be decided.

use super::command::{Command, Job};
use super::ids::Counter;
use super::plan::Working;
use crate::charges::{Charge, OnInsufficient};
use crate::credits::LedgerCommand;
use crate::credits::context::Context;
use crate::credits::ledger::Measure;
use crate::limits::{Limit, Wanted, counters_of};
use kernel::{Credits, ExternalId, GrantId, HoldId, Timestamp, TransactionId, UserRowId};
use std::sync::Arc;

/// The keys of the rows that a batch looks at. No key stands twice.
#[derive(Debug, Default)]
pub struct Needs {
    /// Accounts that may come from a cache.
    pub accounts: Vec<UserRowId>,
    /// Accounts of which a memory will not do: to settle, because what it does not know of could not be written
    /// down, where nothing may be what is to be written, and where a refusal is not given back but becomes part of what is written or answered.
    pub settled: Vec<UserRowId>,
    /// Users by external id; their accounts are loaded too, never from a cache.
    pub users: Vec<ExternalId>,
    /// Folded e-mail addresses.
    pub emails: Vec<String>,
    /// References of accounts.
    pub references: Vec<(UserRowId, String)>,
    /// Entries that are to be refunded.
    pub originals: Vec<TransactionId>,
    /// Holds that are to be settled or ticked.
    pub holds: Vec<HoldId>,
    /// Grants that are to be taken back.
    pub grants: Vec<GrantId>,
    /// What is to be spent, as far as spending limits may be about it: the counters that it moves
    /// follow from the accounts, once they are loaded.
    pub spends: Vec<(UserRowId, Context)>,
    /// Spending limits that the batch itself sets.
    pub limits: Vec<(UserRowId, Arc<[Limit]>)>,
    /// Usage records that are to be rated.
    pub records: Vec<i64>,
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
                Command::Reseal(reseal) => {
                    needs.accounts.push(reseal.user);
                    // Whether it is the last piece follows from the account as it stands.
                    needs.settled.push(reseal.user);
                }
                Command::Edit(edit) => needs.fresh.extend(edit.fresh),
                Command::ForgetKeys(_) => {}
                Command::Rerate(rerate) => {
                    needs.accounts.push(rerate.user);
                    // What the account cannot pay is written down as unpaid, so it must not rest on a memory.
                    needs.settled.push(rerate.user);
                    needs.records.push(rerate.record);
                    needs.originals.extend(rerate.entry);
                }
                Command::Charge(charge) => needs.charge(charge),
                Command::Charges(charges) => {
                    for charge in &charges.charges {
                        needs.charge(charge);
                        // A refusal of one of many is part of the answer, so it must not rest on a memory.
                        needs.settled.push(charge.new.user);
                    }
                }
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

    fn charge(&mut self, charge: &Charge) {
        let user = charge.new.user;
        self.accounts.push(user);
        self.fresh_usage += 1;
        self.events.extend(charge.new.event_id.clone().map(|event| (user, event)));
        self.spends.push((user, charge.basis.context.clone()));
        if charge.on_insufficient == OnInsufficient::Record {
            // A refusal is written down as unpaid, so it must not rest on a memory.
            self.settled.push(user);
        }
    }

    fn ledger(&mut self, user: UserRowId, command: &LedgerCommand) {
        self.accounts.push(user);
        match command {
            LedgerCommand::Consume(consume) => {
                self.usage_ids.extend(consume.usage_record_id);
                self.spends.push((user, consume.basis.context.clone()));
            }
            LedgerCommand::Hold(new) => self.spends.push((user, new.context.clone())),
            // A hold's own context is known only once it is loaded: `counters` adds it.
            LedgerCommand::Tick(tick) => self.holds.push(HoldId { user, seq: tick.hold }),
            LedgerCommand::Capture(capture) => {
                self.usage_ids.extend(capture.usage_record_id);
                self.holds.push(HoldId { user, seq: capture.hold });
            }
            LedgerCommand::Release(n) => self.holds.push(HoldId { user, seq: *n }),
            LedgerCommand::Adjust(adjust) => {
                self.originals.extend(adjust.original);
                self.usage_ids.extend(adjust.usage_record_id);
            }
            LedgerCommand::Void(void) => self.grants.push(GrantId { user, seq: void.grant }),
            LedgerCommand::Reclaim(reclaim) => {
                self.grants.push(GrantId { user, seq: reclaim.grant });
                self.references.push((user, reclaim.reference_id.clone()));
            }
            LedgerCommand::SetLimits(limits) | LedgerCommand::SetPlanLimits(limits) => {
                self.limits.push((user, Arc::clone(limits)));
                // That they are the same already, and nothing is to be written, must not rest on a memory.
                self.settled.push(user);
            }
            LedgerCommand::SetCreditLimit(_) => {}
            LedgerCommand::Issue(issue) => {
                self.references.extend(issue.reference_id.clone().map(|reference| (user, reference)));
            }
            LedgerCommand::Refund(refund) => self.originals.push(refund.original),
            LedgerCommand::Settle => self.settled.push(user),
        }
    }

    /// The counters that may be asked: of the limits of each account, and of those that the batch sets.
    #[must_use]
    pub fn counters(&self, working: &Working, now: Timestamp) -> Vec<Wanted> {
        let held = self.holds.iter().filter_map(|id| Some((id.user, &working.holds.get(id)?.context)));
        let spends = self.spends.iter().map(|(user, context)| (*user, context)).chain(held);
        let mut wanted: Vec<Wanted> = spends
            .flat_map(|(user, context)| {
                let standing = working.accounts.get(&user).map(|account| &account.limits);
                let set = self.limits.iter().filter(move |(of, _)| *of == user).map(|(_, limits)| limits);
                let spend = context.spend(Credits::ZERO, Measure::default());
                let of = move |limits: &Arc<[Limit]>| counters_of(user, limits, &spend, now);
                standing.into_iter().chain(set).flat_map(of)
            })
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// The grants of which it matters what was taken back: those that the batch takes back, and those that
    /// what it refunds may return to.
    #[must_use]
    pub fn reversible(&self, working: &Working) -> Vec<GrantId> {
        let refunded = self.originals.iter().filter_map(|id| working.originals.get(id));
        let homes = refunded.flat_map(|original| original.grants.iter().map(|g| g.id(original.entry.user)));
        let mut grants: Vec<GrantId> = self.grants.iter().copied().chain(homes).collect();
        grants.sort_unstable();
        grants.dedup();
        grants
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
        unique(&mut self.holds);
        unique(&mut self.grants);
        unique(&mut self.records);
        unique(&mut self.usage_ids);
        unique(&mut self.events);
        unique(&mut self.keys);
        unique(&mut self.sessions);
    }
}
