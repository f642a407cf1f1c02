//! How commands to the ledger are decided within a batch of the writer.

use super::hold::HoldStatus;
use super::ledger::{Decision, Facts, Issue, LedgerCommand};
use super::{Entry, EntryKind, chain, decide};
use crate::db::DbError;
use crate::limits;
use crate::webhooks::EventType;
use crate::webhooks::of_ledger::{Before, Ticking, of_account, of_entry, of_hold, of_moves};
use crate::writer::plan::{Plan, internal};
use crate::writer::{Done, WriteError};
use kernel::{Credits, GrantId, HoldId, TransactionId, UserRowId};

impl Plan<'_> {
    /// Decides a command on one account.
    ///
    /// # Errors
    /// Why it is refused; nothing of it is to be written then.
    pub fn ledger(&mut self, user: UserRowId, command: &LedgerCommand) -> Result<Done, WriteError> {
        let working = &mut *self.working;
        let account = working.accounts.get_mut(&user).ok_or(crate::credits::Rejection::UnknownAccount)?;
        let read = account.version;
        let now = account.time(self.now);
        let owner = |id: Option<i64>| id.and_then(|id| working.usage_owners.get(&id).copied());
        let hold = |n: i64| working.holds.get(&HoldId { user, seq: n });
        let reference = |id: &String| working.references.get(&(user, id.clone()));
        let grant = |seq: i64| working.grants.get(&GrantId { user, seq });
        let (counters, reversed) = (Some(&working.counters), Some(&working.reversed));
        let facts = Facts { counters, reversed, ..Facts::default() };
        let facts = match command {
            LedgerCommand::Consume(consume) => Facts { usage_owner: owner(consume.usage_record_id), ..facts },
            LedgerCommand::Issue(Issue { reference_id: Some(id), .. }) => {
                Facts { reference: reference(id), ..facts }
            }
            LedgerCommand::Refund(refund) => {
                Facts { original: working.originals.get(&refund.original), ..facts }
            }
            LedgerCommand::Adjust(adjust) => Facts {
                original: adjust.original.and_then(|id| working.originals.get(&id)),
                usage_owner: owner(adjust.usage_record_id),
                ..facts
            },
            LedgerCommand::Void(void) => Facts { grant: grant(void.grant), ..facts },
            LedgerCommand::Reclaim(reclaim) => {
                Facts { reference: reference(&reclaim.reference_id), grant: grant(reclaim.grant), ..facts }
            }
            LedgerCommand::Tick(tick) => Facts { hold: hold(tick.hold), ..facts },
            LedgerCommand::Capture(capture) => {
                Facts { hold: hold(capture.hold), usage_owner: owner(capture.usage_record_id), ..facts }
            }
            LedgerCommand::Release(n) => Facts { hold: hold(*n), ..facts },
            LedgerCommand::Issue(_)
            | LedgerCommand::Hold(_)
            | LedgerCommand::SetCreditLimit(_)
            | LedgerCommand::SetLimits(_)
            | LedgerCommand::SetPlanLimits(_)
            | LedgerCommand::Settle => facts,
        };
        let told = [EventType::CreditLowBalance, EventType::CreditLimitChanged];
        let before = told
            .iter()
            .any(|kind| self.wanted.has(*kind))
            .then(|| Before::of(account, self.rules.low_balance));
        let ticking = match command {
            LedgerCommand::Tick(tick) => {
                account.holds.iter().find(|hold| hold.n == tick.hold).map(Ticking::of)
            }
            _ => None,
        };
        let decision = decide(account, command, &facts, now, self.rules.ledger)?;
        let available = account.available(now);
        if let Some(entry) = decision.existing {
            return Ok(Done::Entry { entry: Box::new(entry), available });
        }
        if matches!(command, LedgerCommand::Settle) {
            self.changes.settled.push((user, now));
        }
        let hold = decision.hold.clone();
        let entry = self.write(user, Some(read), decision, ticking).map_err(internal)?;
        if let (Some(before), Some(account)) = (before, self.working.accounts.get(&user)) {
            of_account(&mut self.changes, self.wanted, account, (before, self.rules.low_balance), now);
        }
        if let Some(hold) = hold {
            let seq = hold.settled.and_then(|settled| settled.entry_seq);
            let entry = seq.and_then(|seq| self.working.entries.get(&TransactionId { user, seq }));
            return Ok(Done::Hold { hold: Box::new(hold), entry: entry.cloned().map(Box::new), available });
        }
        Ok(match (command, entry) {
            (
                LedgerCommand::SetCreditLimit(_)
                | LedgerCommand::SetLimits(_)
                | LedgerCommand::SetPlanLimits(_),
                _,
            ) => {
                let account = self.working.accounts.get(&user).cloned();
                account.map_or(Done::Settled, |account| Done::Account(Box::new(account)))
            }
            (_, Some(entry)) => Done::Entry { entry: Box::new(entry), available },
            (_, None) => Done::Settled,
        })
    }

    /// What the user can spend now, on anything.
    #[must_use]
    pub fn available(&self, user: UserRowId) -> Credits {
        self.working.accounts.get(&user).map_or(Credits::ZERO, |account| account.available(self.now))
    }

    /// Seals what the ledger decided, and notes it as changes; gives back the command's own entry.
    ///
    /// # Errors
    /// [`DbError`] when no ids are left; nothing of the batch is to be written then.
    pub fn write(
        &mut self,
        user: UserRowId,
        read: Option<i64>,
        decision: Decision,
        ticking: Option<Ticking>,
    ) -> Result<Option<Entry>, DbError> {
        if !decision.changed {
            return Ok(None);
        }
        self.changes.accounts.entry(user).or_insert(read);
        let Some(account) = self.working.accounts.get_mut(&user) else { return Ok(None) };
        let mut own = None;
        let issued: Vec<i64> =
            decision.entries.iter().filter(|entry| entry.grant.is_some()).map(|entry| entry.seq).collect();
        for (place, mut entry) in decision.entries.into_iter().enumerate() {
            entry.id = self.ids.entries.take()?;
            entry.prev_hash = account.head;
            entry.hash = chain::hash(&entry);
            account.head = entry.hash;
            if let Some(reference) = &entry.cause.reference_id {
                self.working.references.insert((user, reference.clone()), entry.clone());
            }
            if let (EntryKind::Refund, Some(seq)) = (entry.kind, entry.cause.reverses)
                && let Some(original) = self.working.originals.get_mut(&TransactionId { user, seq })
            {
                original.refunded = Credits::from_micro(original.refunded.micro() + entry.amount.micro());
            }
            if let (EntryKind::Reversal, Some(seq)) = (entry.kind, entry.cause.reverses) {
                let reversed = self.working.reversed.entry(GrantId { user, seq }).or_default();
                *reversed = Credits::from_micro(reversed.micro() - entry.amount.micro());
            }
            of_entry(&mut self.changes, self.wanted, &entry);
            if entry.cause.hold_id.is_some() {
                self.working.entries.insert(entry.transaction_id(), entry.clone());
            }
            if decision.own == Some(place) {
                own = Some(entry.clone());
            }
            self.changes.entries.push(entry);
        }
        for grant in decision.grants {
            let key = (user, grant.seq);
            self.working.grants.insert(grant.id(user), grant.clone());
            if grant.voided {
                // What a later refund of the batch would give back to it must know.
                let originals = self.working.originals.iter_mut().filter(|(id, _)| id.user == user);
                let paid = originals.flat_map(|(_, original)| &mut original.grants);
                paid.filter(|paid| paid.seq == grant.seq).for_each(|paid| paid.voided = true);
            }
            if issued.contains(&grant.seq) || self.changes.new_grants.contains_key(&key) {
                self.changes.new_grants.insert(key, grant);
            } else {
                self.changes.grants.insert(key, grant);
            }
        }
        let now = self.now;
        for hold in decision.holds {
            let before = ticking.filter(|_| hold.status == HoldStatus::Open);
            of_hold(&mut self.changes, self.wanted, (user, now), &hold, before);
            self.working.holds.insert(hold.id(user), hold.clone());
            self.changes.holds.insert((user, hold.n), hold);
        }
        if let Some(account) = self.working.accounts.get(&user) {
            let (limits, at) = (&account.limits, account.time(now));
            let counters = &self.working.counters;
            of_moves(&mut self.changes, self.wanted, (user, at), limits, counters, &decision.moves);
        }
        limits::apply(&mut self.working.counters, &decision.moves);
        self.changes.moves_of_limits.add(&decision.moves);
        Ok(own)
    }
}
