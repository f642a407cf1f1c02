//! The ledger once more, from the words of `docs/ledger.md` and as naive as can be.
//!
//! Every unit of credit is a thing of its own that lies in a grant, in a hold, with the receipt that
//! spent it, or is gone. There are no entries and no running sums: all is counted when asked, and time
//! passes from one instant at which something happens to the next. Here is what can be asked; `time` has
//! what happens by itself and what may be borrowed, `holds` what holds do, `back` what returns.

mod back;
pub mod holds;
mod time;

use crate::script::{Ask, Give, Outcome, What, covers};
use holds::Hold;

#[derive(Debug, Clone, Default)]
pub struct Grant {
    pub receipt: Option<usize>,
    /// How many units it gave.
    pub units: u64,
    /// How many of those were taken back, wherever they were found.
    pub reversed: u64,
    pub priority: i64,
    pub from: i64,
    pub until: Option<i64>,
    pub scope: What,
    pub roll: Option<(u64, i64)>,
    pub voided: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lies {
    Free,
    Held,
    /// With this receipt, as that many-th of its units.
    Spent(usize, usize),
    Gone,
}

/// A unit of a grant; one of no grant is borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    pub grant: Option<usize>,
    pub lies: Lies,
}

#[derive(Debug, Clone)]
pub enum Receipt {
    Spent,
    Given(Give),
    /// Taken back of what that receipt gave.
    Reclaimed {
        from: usize,
        reference: u64,
    },
    Other,
}

impl Receipt {
    fn reference(&self) -> Option<u64> {
        match self {
            Self::Given(give) => give.reference,
            Self::Reclaimed { reference, .. } => Some(*reference),
            Self::Spent | Self::Other => None,
        }
    }
}

/// One account.
#[derive(Debug, Clone)]
pub struct Model {
    pub grants: Vec<Grant>,
    pub units: Vec<Unit>,
    pub holds: Vec<Hold>,
    pub receipts: Vec<Receipt>,
    pub limit: u64,
    /// How many units were spent that were borrowed or taken back since, and not paid back.
    pub owed: u64,
    pub most: u64,
    pub refund_life: Option<i64>,
    /// Its time never runs backwards, whatever a clock says.
    pub last_change: i64,
}

impl Model {
    pub fn new(most: u64, refund_life: Option<i64>, last_change: i64) -> Self {
        let (grants, units, holds, receipts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { grants, units, holds, receipts, limit: 0, owed: 0, most, refund_life, last_change }
    }

    pub fn apply(&mut self, ask: &Ask, now: i64) -> Outcome {
        let mut next = self.at(now);
        let now = now.max(self.last_change);
        let outcome = match ask {
            Ask::Settle => {
                *self = next;
                return Outcome::Done;
            }
            Ask::Consume { units, what } => next.spend(*units, *what, now, Receipt::Spent),
            Ask::Give(give) => next.give(give, now),
            Ask::Refund { receipt, units } => next.refund(*receipt, *units, now),
            Ask::Adjust { units, what } if *units < 0 => {
                next.spend(units.unsigned_abs(), *what, now, Receipt::Other)
            }
            Ask::Adjust { units, .. } => {
                next.put(units.unsigned_abs(), Receipt::Other, Grant { from: now, ..Grant::default() })
            }
            Ask::Void { receipt } => next.void(*receipt),
            Ask::Reclaim { receipt, units, reference } => next.reclaim(*receipt, *units, *reference, now),
            Ask::Limit(units) => {
                next.limit = *units;
                Outcome::Done
            }
            of_hold => next.of_hold(of_hold, now),
        };
        if outcome == Outcome::Done {
            next.pay_back(now);
            *self = Self { last_change: now, ..next };
        }
        outcome
    }

    /// What may be spent on that: by priority, then soonest expiry (never last), then oldest.
    pub fn usable(&self, what: What, now: i64) -> Vec<usize> {
        let of = |at: &usize| self.units[*at].grant.filter(|_| self.units[*at].lies == Lies::Free);
        let may = |grant: usize| self.grants[grant].from <= now && !self.ended(grant, now);
        let pays = |grant: usize| may(grant) && covers(self.grants[grant].scope, what);
        let mut usable: Vec<usize> = (0..self.units.len()).filter(|at| of(at).is_some_and(pays)).collect();
        usable.sort_by_key(|at| {
            let Grant { priority, until, .. } = self.grants[of(at).unwrap_or(0)];
            (priority, until.is_none(), until, of(at))
        });
        usable
    }

    /// Hands units over to a new receipt.
    pub fn pay(&mut self, units: &[usize], receipt: Receipt) -> Outcome {
        for (nth, at) in units.iter().enumerate() {
            self.units[*at].lies = Lies::Spent(self.receipts.len(), nth);
            self.owed += u64::from(self.units[*at].grant.is_none());
        }
        self.receipts.push(receipt);
        Outcome::Done
    }

    fn spend(&mut self, units: u64, what: What, now: i64, receipt: Receipt) -> Outcome {
        match self.choose(units, what, now) {
            Some(units) => self.pay(&units, receipt),
            None => Outcome::Insufficient,
        }
    }

    /// What a reference was applied by.
    fn applied(&self, reference: u64) -> Option<usize> {
        self.receipts.iter().position(|receipt| receipt.reference() == Some(reference))
    }

    fn give(&mut self, give: &Give, now: i64) -> Outcome {
        if let Some(receipt) = give.reference.and_then(|reference| self.applied(reference)) {
            let given = |earlier: &Give| (earlier.recharge, earlier.units) == (give.recharge, give.units);
            let same = matches!(&self.receipts[receipt], Receipt::Given(earlier) if given(earlier));
            return if same { Outcome::Again(receipt) } else { Outcome::ReferenceTaken };
        }
        let from = give.from.unwrap_or(now);
        if give.until.is_some_and(|until| until <= from || until <= now) {
            return Outcome::BadPeriod;
        }
        if give.roll.is_some() && give.until.is_none() {
            return Outcome::RolloverWithoutEnd;
        }
        if self.given() + give.units > self.most {
            return Outcome::TooMuch;
        }
        let Give { priority, until, scope, roll, .. } = *give;
        let grant = Grant { priority, from, until, scope, roll, ..Grant::default() };
        self.put(give.units, Receipt::Given(give.clone()), grant)
    }

    /// Makes new units, in a grant of their own.
    fn put(&mut self, units: u64, receipt: Receipt, grant: Grant) -> Outcome {
        if self.left() + units > self.most {
            return Outcome::TooMuch;
        }
        let unit = Unit { grant: Some(self.grants.len()), lies: Lies::Free };
        self.grants.push(Grant { receipt: Some(self.receipts.len()), units, ..grant });
        self.units.extend((0..units).map(|_| unit));
        self.receipts.push(receipt);
        Outcome::Done
    }
}
