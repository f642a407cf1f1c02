//! How charges are decided within a batch of the writer.

use super::{Charge, ChargeMark, ChargeStatus, Charged, Charges, OnInsufficient};
use crate::credits::ledger::{Consume, LedgerCommand};
use crate::credits::{Entry, Rejection};
use crate::usage::UsageRecord;
use crate::usage::model::UsageFacts;
use crate::webhooks::EventType;
use crate::writer::plan::{Plan, internal};
use crate::writer::{Done, WriteError};
use kernel::{Credits, TransactionId};
use std::sync::Arc;

impl Plan<'_> {
    /// Decides many charges.
    ///
    /// # Errors
    /// Where they are atomic, the first refusal, with its place; nothing of them is to be written then.
    pub fn charges(&mut self, charges: &Charges) -> Result<Vec<Result<Charged, WriteError>>, WriteError> {
        if !charges.atomic {
            return Ok(charges.charges.iter().map(|charge| self.charge(charge)).collect());
        }
        let before = (self.working.clone(), self.changes.clone());
        let mut done = Vec::with_capacity(charges.charges.len());
        for (place, charge) in charges.charges.iter().enumerate() {
            match self.charge(charge) {
                Ok(charged) => done.push(Ok(charged)),
                Err(refusal) => {
                    (*self.working, self.changes) = before;
                    return Err(WriteError::Charge(place, Box::new(refusal)));
                }
            }
        }
        Ok(done)
    }

    /// Decides one charge: once per event, and the record with its payment or neither.
    ///
    /// # Errors
    /// Why it is refused; nothing of it is to be written then.
    pub fn charge(&mut self, charge: &Charge) -> Result<Charged, WriteError> {
        let user = charge.new.user;
        if !self.is_open(user) {
            return Err(Rejection::UnknownAccount.into());
        }
        let event = charge.new.event_id.clone().map(|event| (user, event));
        if let Some(earlier) = event.as_ref().and_then(|event| self.working.events.get(event)) {
            let seq = earlier.charge.as_ref().and_then(|mark| mark.entry_seq);
            let entry = seq.and_then(|seq| self.working.entries.get(&TransactionId { user, seq }));
            let (usage, entry) = (Box::new(earlier.clone()), entry.cloned().map(Box::new));
            return Ok(Charged { usage, entry, duplicate: true, available: self.available(user) });
        }
        let id = self.ids.usage.take().map_err(internal)?;
        let price = charge.new.facts.credits_charged;
        let (status, entry, due) = match self.pay(charge, id, price) {
            Ok(entry) if entry.is_none() && charge.status != ChargeStatus::Unpriced => {
                (ChargeStatus::Free, None, None)
            }
            Ok(entry) => (charge.status, entry, None),
            Err(WriteError::Credits(Rejection::Insufficient { .. } | Rejection::LimitExceeded(_)))
                if charge.on_insufficient == OnInsufficient::Record =>
            {
                // What has no price yet owes nothing yet: it is to be rated, not forgotten at 0.
                match charge.status {
                    ChargeStatus::Unpriced => (ChargeStatus::Unpriced, None, None),
                    _ => (ChargeStatus::Unpaid, None, Some(price)),
                }
            }
            Err(refusal) => return Err(refusal),
        };
        let paid = entry.as_ref().map_or(Credits::ZERO, |entry| entry.amount.abs());
        let mark = ChargeMark {
            status,
            entry_seq: entry.as_ref().map(|entry| entry.seq),
            due,
            pools: charge.pools.clone(),
        };
        let usage = UsageRecord {
            id,
            user,
            created_at: charge.new.created_at.unwrap_or(self.now),
            recorded_at: self.now,
            event_id: charge.new.event_id.clone(),
            facts: Arc::new(UsageFacts { credits_charged: paid, ..(*charge.new.facts).clone() }),
            charge: Some(mark),
        };
        self.working.events.extend(event.map(|event| (event, usage.clone())));
        self.working.entries.extend(entry.iter().map(|entry| (entry.transaction_id(), (**entry).clone())));
        self.tell_usage(EventType::UsageRecorded, &usage);
        self.changes.usage.push(usage.clone());
        Ok(Charged { usage: Box::new(usage), entry, duplicate: false, available: self.available(user) })
    }

    /// Spends the price; of what costs nothing there is nothing to spend, but limits of requests,
    /// tokens and dollars are asked all the same.
    fn pay(&mut self, charge: &Charge, id: i64, price: Credits) -> Result<Option<Box<Entry>>, WriteError> {
        let consume = Consume {
            amount: price,
            usage_record_id: Some(id),
            basis: charge.basis.clone(),
            measure: charge.measure,
            note: charge.note.clone(),
        };
        match self.ledger(charge.new.user, &LedgerCommand::Consume(consume))? {
            Done::Entry { entry, .. } => Ok(Some(entry)),
            _ => Ok(None),
        }
    }
}
