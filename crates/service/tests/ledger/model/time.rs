//! What time does to the model's account, and what may be borrowed.

use super::holds::{Hold, State};
use super::{Grant, Lies, Model, Receipt, Unit};
use crate::script::{DAY, What};

/// What a failure shows: the open grants and holds.
impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (grant, free, held) in self.open_grants() {
            writeln!(f, "{free} free, {held} held of {grant}: {:?}", self.grants[grant])?;
        }
        for (hold, of_it) in self.holds.iter().enumerate().filter(|(_, hold)| hold.state == State::Open) {
            writeln!(f, "{hold}: {of_it:?}")?;
        }
        let (limit, owed, at) = (self.limit, self.owed, self.last_change);
        write!(f, "limit {limit}, owed {owed}, last change {at}, {} receipts", self.receipts.len())
    }
}

impl Model {
    /// What can be spent on anything.
    pub fn available(&self, now: i64) -> u64 {
        (self.usable((None, None), now).len() as i64 + self.may_borrow()).max(0) as u64
    }

    /// All that was ever given.
    pub fn given(&self) -> u64 {
        self.receipts.iter().map(|r| if let Receipt::Given(give) = r { give.units } else { 0 }).sum()
    }

    /// What grants have left, held or not.
    pub fn left(&self) -> u64 {
        let lies = |unit: &&Unit| unit.grant.is_some() && matches!(unit.lies, Lies::Free | Lies::Held);
        self.units.iter().filter(lies).count() as u64
    }

    /// What is free and what is held of each grant that has something left, oldest first.
    pub fn open_grants(&self) -> Vec<(usize, u64, u64)> {
        let mut counted = vec![(0, 0); self.grants.len()];
        for Unit { grant, lies } in &self.units {
            match (grant, lies) {
                (Some(grant), Lies::Free) => counted[*grant].0 += 1,
                (Some(grant), Lies::Held) => counted[*grant].1 += 1,
                _ => {}
            }
        }
        let counted = counted.into_iter().enumerate().map(|(grant, (free, held))| (grant, free, held));
        counted.filter(|(_, free, held)| free + held > 0).collect()
    }

    pub fn lying(&self, grant: usize, lies: Lies) -> Vec<usize> {
        let is = |unit: &Unit| unit.grant == Some(grant) && unit.lies == lies;
        (0..self.units.len()).filter(|at| is(&self.units[*at])).collect()
    }

    pub fn ended(&self, grant: usize, now: i64) -> bool {
        self.grants[grant].until.is_some_and(|until| until <= now)
    }

    /// How many more units may be borrowed; below nothing where the limit was lowered since.
    fn may_borrow(&self) -> i64 {
        let held = self.units.iter().filter(|unit| unit.grant.is_none() && unit.lies == Lies::Held).count();
        self.limit as i64 - self.owed as i64 - held as i64
    }

    /// Units to spend on that: the usable ones in the order of spending, and then borrowed ones.
    pub fn choose(&mut self, wanted: u64, what: What, now: i64) -> Option<Vec<usize>> {
        let mut units = self.usable(what, now);
        if units.len() as i64 + self.may_borrow() < wanted as i64 {
            return None;
        }
        units.truncate(wanted as usize);
        while (units.len() as u64) < wanted {
            units.push(self.units.len());
            self.units.push(Unit { grant: None, lies: Lies::Gone });
        }
        Some(units)
    }

    /// What is owed is paid back with whatever may be spent on anything.
    pub fn pay_back(&mut self, now: i64) {
        let usable = self.usable((None, None), now);
        for at in usable.into_iter().take(self.owed as usize) {
            self.units[at].lies = Lies::Gone;
            self.owed -= 1;
        }
    }

    /// The account as it is at `now`: what happened until then, one instant after the other.
    pub fn at(&self, now: i64) -> Self {
        let (mut next, now) = (self.clone(), now.max(self.last_change));
        while let Some(at) = next.next_instant().filter(|at| *at <= now) {
            next.last_change = at.max(next.last_change);
            let at = next.last_change;
            let ends = |hold: &Hold| hold.state == State::Open && hold.until <= at;
            if let Some(hold) = next.holds.iter().position(ends) {
                next.end_hold(hold, at);
            } else if let Some(grant) = next.ended_with_rest(at) {
                next.end_grant(grant, at);
            }
            next.pay_back(at);
        }
        next
    }

    /// When something happens next: a hold ends, a grant with something free does, or one begins that
    /// pays back what is owed.
    fn next_instant(&self) -> Option<i64> {
        let holds = self.holds.iter().filter(|hold| hold.state == State::Open).map(|hold| hold.until);
        let free = self.open_grants().into_iter().filter(|(_, free, _)| *free > 0);
        let grants = free.map(|(grant, _, _)| &self.grants[grant]);
        let pays_back = |grant: &&Grant| self.owed > 0 && grant.scope == (None, None);
        let instants = grants.flat_map(|grant| {
            grant.until.into_iter().chain(Some(grant).filter(pays_back).map(|grant| grant.from))
        });
        holds.chain(instants).min()
    }

    fn ended_with_rest(&self, now: i64) -> Option<usize> {
        let mut open = self.open_grants().into_iter();
        open.find(|(grant, free, _)| *free > 0 && self.ended(*grant, now)).map(|(grant, _, _)| grant)
    }

    /// What is free of it rolls over, as far as it may, and is gone otherwise. What is held of it may
    /// come back and roll over later, so room is kept for that.
    pub fn end_grant(&mut self, grant: usize, now: i64) {
        let rest = self.lying(grant, Lies::Free);
        rest.iter().for_each(|at| self.units[*at].lies = Lies::Gone);
        let old = self.grants[grant].clone();
        let Some((most, days)) = old.roll else { return };
        let rolls = (most as usize).saturating_sub(self.lying(grant, Lies::Held).len()).min(rest.len());
        if rolls > 0 {
            let unit = Unit { grant: Some(self.grants.len()), lies: Lies::Free };
            let until = Some(now + days * DAY);
            self.grants.push(Grant {
                receipt: None,
                units: rolls as u64,
                reversed: 0,
                voided: false,
                from: now,
                until,
                roll: None,
                ..old
            });
            rest[..rolls].iter().for_each(|at| self.units[*at] = unit);
        }
    }
}
