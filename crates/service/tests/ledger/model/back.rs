//! What is given back and what is taken back, in the model.

use super::{Grant, Lies, Model, Receipt, Unit};
use crate::script::Outcome;
use std::cmp::Reverse;

impl Model {
    pub fn refund(&mut self, receipt: Option<usize>, units: Option<u64>, now: i64) -> Outcome {
        let Some(original) = receipt.filter(|at| *at < self.receipts.len()) else { return Outcome::Unknown };
        if !matches!(self.receipts[original], Receipt::Spent) {
            return Outcome::NotRefundable;
        }
        let nth = |at: &usize| match self.units[*at].lies {
            Lies::Spent(receipt, nth) if receipt == original => Some(nth),
            _ => None,
        };
        let mut spent: Vec<usize> = (0..self.units.len()).filter(|at| nth(at).is_some()).collect();
        // Those spent last go back first.
        spent.sort_by_key(|at| Reverse(nth(at)));
        let wanted = units.unwrap_or(spent.len() as u64) as usize;
        if wanted == 0 || wanted > spent.len() {
            return Outcome::RefundExceeds;
        }
        if self.left() + wanted as u64 > self.most {
            return Outcome::TooMuch;
        }
        let (mut anew, mut borrowed) = (Vec::new(), false);
        for at in spent.into_iter().take(wanted) {
            match self.units[at].grant {
                // What was borrowed settles a debt first.
                None if self.owed > 0 => (self.owed, self.units[at].lies) = (self.owed - 1, Lies::Gone),
                Some(home) if !self.ended(home, now) && self.has_room(home) => {
                    self.units[at].lies = Lies::Free
                }
                home => {
                    anew.push(at);
                    borrowed |= home.is_none();
                }
            }
        }
        // Ended credits are not revived: they become a grant with a life of its own.
        if !anew.is_empty() {
            let until = self.refund_life.filter(|_| !borrowed).map(|life| now + life);
            let unit = Unit { grant: Some(self.grants.len()), lies: Lies::Free };
            let receipt = Some(self.receipts.len());
            let units = anew.len() as u64;
            self.grants.push(Grant { receipt, units, from: now, until, ..Grant::default() });
            anew.into_iter().for_each(|at| self.units[at] = unit);
        }
        self.receipts.push(Receipt::Other);
        Outcome::Done
    }

    pub fn void(&mut self, receipt: usize) -> Outcome {
        let of_it = |grant: &Grant| grant.receipt == Some(receipt);
        let Some(grant) = self.grants.iter().position(of_it) else { return Outcome::UnknownGrant };
        let free = self.lying(grant, Lies::Free);
        if !self.lying(grant, Lies::Held).is_empty() {
            return Outcome::GrantHeld;
        }
        let take = self.reclaimable(grant).min(free.len() as u64);
        if take == 0 {
            return Outcome::NothingToVoid;
        }
        self.grants[grant].voided = true;
        self.grants[grant].reversed += take;
        free.into_iter().take(take as usize).for_each(|at| self.units[at].lies = Lies::Gone);
        self.receipts.push(Receipt::Other);
        Outcome::Done
    }

    pub fn reclaim(&mut self, from: usize, units: u64, reference: u64, now: i64) -> Outcome {
        if let Some(receipt) = self.applied(reference) {
            let same =
                matches!(self.receipts[receipt], Receipt::Reclaimed { from: earlier, .. } if earlier == from);
            return if same { Outcome::Again(receipt) } else { Outcome::ReferenceTaken };
        }
        let of_it = |grant: &Grant| grant.receipt == Some(from);
        let Some(grant) = self.grants.iter().position(of_it) else { return Outcome::UnknownGrant };
        if units > self.reclaimable(grant) {
            return Outcome::ReclaimExceeds;
        }
        // What is free of it, what else may be spent on anything, and what is left of that is owed.
        let mut found = self.lying(grant, Lies::Free);
        let others = self.usable((None, None), now);
        found.extend(others.into_iter().filter(|at| self.units[*at].grant != Some(grant)));
        found.truncate(units as usize);
        self.owed += units - found.len() as u64;
        if self.owed > self.most - self.most.div_ceil(90) && (found.len() as u64) < units {
            return Outcome::OwesTooMuch;
        }
        found.into_iter().for_each(|at| self.units[at].lies = Lies::Gone);
        self.grants[grant].reversed += units;
        self.grants[grant].voided |= self.reclaimable(grant) == 0;
        self.receipts.push(Receipt::Reclaimed { from, reference });
        Outcome::Done
    }

    fn reclaimable(&self, grant: usize) -> u64 {
        self.grants[grant].units - self.grants[grant].reversed
    }

    /// Whether a unit more may lie in it: never as many as would bring back what was taken.
    fn has_room(&self, grant: usize) -> bool {
        let left = self.lying(grant, Lies::Free).len() + self.lying(grant, Lies::Held).len();
        !self.grants[grant].voided && (left as u64) < self.reclaimable(grant)
    }
}
