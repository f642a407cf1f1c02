//! The ledger once more, from the words of `docs/ledger.md` and as naive as can be.
//!
//! Every unit of credit is a thing of its own that lies in a grant or was spent by a receipt. There
//! are no entries, no running sums and no expiry to be written down: all is counted when asked.

use crate::script::{Ask, Give};

/// The most units that one account may ever be given, for units of `worth` micro-credits.
pub fn given_max(worth: i64) -> u64 {
    9_000_000_000_000_000_000_u64 / worth.unsigned_abs()
}

/// What became of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The same reference was applied by this receipt.
    Again(usize),
    Insufficient,
    TooMuch,
    ReferenceTaken,
    Unknown,
    NotRefundable,
    RefundExceeds,
    BadPeriod,
}

#[derive(Debug, Clone)]
struct Grant {
    receipt: usize,
    priority: i64,
    from: i64,
    until: Option<i64>,
}

#[derive(Debug, Clone)]
struct Unit {
    grant: usize,
    spent_by: Option<usize>,
    /// When it was spent, among the units of its receipt.
    place: usize,
}

#[derive(Debug, Clone)]
enum Receipt {
    Spent,
    Given(Give),
    Refunded,
}

/// One account.
#[derive(Debug, Clone)]
pub struct Model {
    grants: Vec<Grant>,
    units: Vec<Unit>,
    receipts: Vec<Receipt>,
    given_max: u64,
    refund_life: Option<i64>,
    /// Its time never runs backwards, whatever a clock says.
    last_change: i64,
}

impl Model {
    pub fn new(given_max: u64, refund_life: Option<i64>, now: i64) -> Self {
        let (grants, units, receipts) = (Vec::new(), Vec::new(), Vec::new());
        Self { grants, units, receipts, given_max, refund_life, last_change: now }
    }

    pub fn apply(&mut self, ask: &Ask, now: i64) -> Outcome {
        let now = now.max(self.last_change);
        let outcome = match ask {
            Ask::Consume(units) => self.consume(*units, now),
            Ask::Give(give) => self.give(give, now),
            Ask::Refund { receipt, units } => self.refund(*receipt, *units, now),
            Ask::Settle => {
                // All that settling does is to write down when the lost units were lost.
                let ends = self.units.iter().filter(|unit| unit.spent_by.is_none());
                let ends = ends.filter_map(|unit| self.grants[unit.grant].until).filter(|end| *end <= now);
                self.last_change = ends.max().unwrap_or(0).max(self.last_change);
                return Outcome::Done;
            }
        };
        if outcome == Outcome::Done {
            self.last_change = now;
        }
        outcome
    }

    pub fn available(&self, now: i64) -> u64 {
        let now = now.max(self.last_change);
        self.count(|unit| self.usable(unit, now))
    }

    pub fn total(&self, now: i64) -> u64 {
        let now = now.max(self.last_change);
        self.count(|unit| unit.spent_by.is_none() && !self.ended(unit.grant, now))
    }

    pub fn given(&self) -> u64 {
        self.receipts.iter().map(|r| if let Receipt::Given(give) = r { give.units } else { 0 }).sum()
    }

    /// What is left in each unended grant: its receipt and its units.
    pub fn remaining(&self, now: i64) -> Vec<(usize, u64)> {
        let now = now.max(self.last_change);
        let mut remaining = vec![0; self.grants.len()];
        self.units.iter().filter(|unit| unit.spent_by.is_none()).for_each(|unit| remaining[unit.grant] += 1);
        let open = (0..self.grants.len()).filter(|grant| !self.ended(*grant, now));
        open.map(|grant| (self.grants[grant].receipt, remaining[grant])).collect()
    }

    fn count(&self, counts: impl Fn(&Unit) -> bool) -> u64 {
        self.units.iter().filter(|unit| counts(unit)).count() as u64
    }

    fn ended(&self, grant: usize, now: i64) -> bool {
        self.grants[grant].until.is_some_and(|until| until <= now)
    }

    fn usable(&self, unit: &Unit, now: i64) -> bool {
        unit.spent_by.is_none() && self.grants[unit.grant].from <= now && !self.ended(unit.grant, now)
    }

    fn consume(&mut self, wanted: u64, now: i64) -> Outcome {
        let mut usable: Vec<usize> =
            (0..self.units.len()).filter(|at| self.usable(&self.units[*at], now)).collect();
        if (usable.len() as u64) < wanted {
            return Outcome::Insufficient;
        }
        // By priority, then soonest expiry (never last), then oldest.
        usable.sort_by_key(|at| {
            let grant = self.units[*at].grant;
            let Grant { priority, until, .. } = self.grants[grant];
            (priority, until.is_none(), until, grant)
        });
        for (place, at) in usable.into_iter().take(wanted as usize).enumerate() {
            self.units[at].spent_by = Some(self.receipts.len());
            self.units[at].place = place;
        }
        self.receipts.push(Receipt::Spent);
        Outcome::Done
    }

    fn give(&mut self, give: &Give, now: i64) -> Outcome {
        for (receipt, earlier) in self.receipts.iter().enumerate() {
            if let Receipt::Given(earlier) = earlier
                && give.reference.is_some()
                && earlier.reference == give.reference
            {
                let same = (earlier.recharge, earlier.units) == (give.recharge, give.units);
                return if same { Outcome::Again(receipt) } else { Outcome::ReferenceTaken };
            }
        }
        let from = give.from.unwrap_or(now);
        if give.until.is_some_and(|until| until <= from || until <= now) {
            return Outcome::BadPeriod;
        }
        if self.given() + give.units > self.given_max {
            return Outcome::TooMuch;
        }
        let grant = Grant { receipt: self.receipts.len(), priority: give.priority, from, until: give.until };
        self.grants.push(grant);
        let unit = Unit { grant: self.grants.len() - 1, spent_by: None, place: 0 };
        self.units.extend((0..give.units).map(|_| unit.clone()));
        self.receipts.push(Receipt::Given(give.clone()));
        Outcome::Done
    }

    fn refund(&mut self, receipt: Option<usize>, units: Option<u64>, now: i64) -> Outcome {
        let Some(original) = receipt.filter(|at| *at < self.receipts.len()) else { return Outcome::Unknown };
        if !matches!(self.receipts[original], Receipt::Spent) {
            return Outcome::NotRefundable;
        }
        let mut spent: Vec<usize> =
            (0..self.units.len()).filter(|at| self.units[*at].spent_by == Some(original)).collect();
        let wanted = units.unwrap_or(spent.len() as u64);
        if wanted == 0 || wanted > spent.len() as u64 {
            return Outcome::RefundExceeds;
        }
        // Those spent last go back first.
        spent.sort_by_key(|at| std::cmp::Reverse(self.units[*at].place));
        let mut new_grant = None;
        for at in spent.into_iter().take(wanted as usize) {
            self.units[at].spent_by = None;
            if self.ended(self.units[at].grant, now) {
                // Expired credits are not revived: they become a grant with a life of its own.
                let until = self.refund_life.map(|life| now + life);
                let grant = Grant { receipt: self.receipts.len(), priority: 0, from: now, until };
                self.units[at].grant = *new_grant.get_or_insert_with(|| {
                    self.grants.push(grant);
                    self.grants.len() - 1
                });
            }
        }
        self.receipts.push(Receipt::Refunded);
        Outcome::Done
    }
}
