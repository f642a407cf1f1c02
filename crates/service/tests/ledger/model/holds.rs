//! What holds do in the model.

use super::{Lies, Model, Receipt};
use crate::script::{Ask, Outcome, What};
use user_service::credits::hold::OnExpiry;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    Captured { asked: u64, captured: u64 },
    Released,
    Expired { captured: u64 },
}

#[derive(Debug, Clone)]
pub struct Hold {
    pub units: Vec<usize>,
    pub ticked: u64,
    pub until: i64,
    on_expiry: OnExpiry,
    what: What,
    pub state: State,
}

impl Hold {
    /// What a capture asks for that does not say.
    fn so_far(&self) -> u64 {
        if self.ticked > 0 { self.ticked } else { self.units.len() as u64 }
    }
}

impl Model {
    pub fn end_hold(&mut self, hold: usize, now: i64) {
        let captured = match self.holds[hold].on_expiry {
            OnExpiry::Release => 0,
            OnExpiry::CaptureTicked => self.holds[hold].ticked,
            OnExpiry::CaptureAll => self.holds[hold].units.len() as u64,
        };
        let spent = self.holds[hold].units[..captured as usize].to_vec();
        self.settle(hold, &spent, State::Expired { captured }, now);
    }

    /// Spends these units; what else the hold has returns, and ends where its grant has.
    fn settle(&mut self, hold: usize, spent: &[usize], state: State, now: i64) -> Outcome {
        let units = self.holds[hold].units.clone();
        self.holds[hold].state = state;
        for at in &units {
            let home = self.units[*at].grant;
            self.units[*at].lies = if home.is_some() { Lies::Free } else { Lies::Gone };
        }
        if !spent.is_empty() {
            self.pay(spent, Receipt::Spent);
        }
        for grant in units.iter().filter_map(|at| self.units[*at].grant).collect::<Vec<_>>() {
            if self.ended(grant, now) {
                self.end_grant(grant, now);
            }
        }
        Outcome::Done
    }

    pub fn of_hold(&mut self, ask: &Ask, now: i64) -> Outcome {
        if let Ask::Hold { units, life, on_expiry, what } = *ask {
            let (until, state) = (now + life, State::Open);
            self.holds.push(Hold { units: Vec::new(), ticked: 0, until, on_expiry, what, state });
            return self.set_aside(self.holds.len() - 1, units, now);
        }
        let (Ask::Tick { hold, .. } | Ask::Capture { hold, .. } | Ask::Release { hold }) = ask else {
            unreachable!("{ask:?} is of no hold")
        };
        let Some(Hold { state, ticked, what, units: held, .. }) = self.holds.get(*hold).cloned() else {
            return Outcome::UnknownHold;
        };
        let so_far = self.holds[*hold].so_far();
        match (ask, state) {
            (Ask::Tick { units: Some(units), .. }, State::Open) if *units < ticked => Outcome::TickFalls,
            (Ask::Tick { units, life, .. }, State::Open) => {
                let more = units.map_or(0, |units| units.saturating_sub(held.len() as u64));
                let outcome = if more > 0 { self.set_aside(*hold, more, now) } else { Outcome::Done };
                let hold = &mut self.holds[*hold];
                hold.ticked = units.unwrap_or(hold.ticked);
                hold.until = life.map_or(hold.until, |life| now + life);
                outcome
            }
            (Ask::Capture { units, .. }, State::Open) => {
                let asked = units.unwrap_or(so_far);
                let more = asked.saturating_sub(held.len() as u64);
                let more =
                    if more > 0 { self.choose(more, what, now).unwrap_or_default() } else { Vec::new() };
                let spent = held.into_iter().take(asked as usize).chain(more).collect();
                let spent = self.by_grant(spent);
                self.settle(*hold, &spent, State::Captured { asked, captured: spent.len() as u64 }, now)
            }
            (Ask::Capture { units, .. }, State::Captured { asked, .. })
                if asked == units.unwrap_or(so_far) =>
            {
                Outcome::Still
            }
            (Ask::Release { .. }, State::Open) => self.settle(*hold, &[], State::Released, now),
            (Ask::Release { .. }, State::Released) => Outcome::Still,
            _ => Outcome::HoldSettled,
        }
    }

    fn set_aside(&mut self, hold: usize, units: u64, now: i64) -> Outcome {
        let Some(units) = self.choose(units, self.holds[hold].what, now) else {
            return Outcome::Insufficient;
        };
        units.iter().for_each(|at| self.units[*at].lies = Lies::Held);
        let all = self.holds[hold].units.iter().copied().chain(units).collect();
        self.holds[hold].units = self.by_grant(all);
        Outcome::Done
    }

    /// The same units, those of one grant together, where the first of them is.
    fn by_grant(&self, mut units: Vec<usize>) -> Vec<usize> {
        let order: Vec<Option<usize>> = units.iter().map(|at| self.units[*at].grant).collect();
        units.sort_by_key(|at| order.iter().position(|grant| *grant == self.units[*at].grant));
        units
    }
}
