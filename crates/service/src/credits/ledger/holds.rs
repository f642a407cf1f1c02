//! Setting credits aside, and settling what was set aside.

use super::command::{Capture, Decision, Facts, NewHold, Note, Tick};
use super::draft::{Draft, Words};
use crate::credits::context::Basis;
use crate::credits::error::Rejection;
use crate::credits::hold::{
    Hold, HoldStatus, LIFE_MAX, OPEN_HOLDS_BYTES_MAX, OPEN_HOLDS_MAX, Settled, words_bytes,
};
use crate::credits::model::{Cause, EntryKind};
use crate::limits::Spend;
use kernel::{Credits, HoldId, JsonObject, Timestamp};

pub(super) fn hold(
    mut draft: Draft<'_>,
    new: &NewHold,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if draft.account.holds.len() >= OPEN_HOLDS_MAX {
        return Err(Rejection::TooManyHolds);
    }
    let open: usize = draft.account.holds.iter().map(Hold::bytes).sum();
    let note = &new.note;
    if open + words_bytes(&new.context, note.description.as_deref(), &note.metadata) > OPEN_HOLDS_BYTES_MAX {
        return Err(Rejection::HoldsTooLarge);
    }
    draft.covers(new.amount, &new.context, now)?;
    // What it may cost is held against the limits now, and counted when it is charged.
    draft.within_limits(&new.context.spend(new.amount, super::Measure::default()), facts, now)?;
    let parts = draft.set_aside(new.amount, &new.context, now);
    draft.account.hold_seq += 1;
    let hold = Hold {
        n: draft.account.hold_seq,
        status: HoldStatus::Open,
        amount: new.amount,
        ticked: Credits::ZERO,
        on_expiry: new.on_expiry,
        created_at: now,
        expires_at: now.plus(new.life.min(LIFE_MAX)),
        parts,
        context: new.context.clone(),
        description: new.note.description.clone(),
        metadata: new.note.metadata.clone(),
        origin: new.note.origin.clone(),
        settled: None,
    };
    Ok(draft.answer_with(hold, now))
}

pub(super) fn tick(
    mut draft: Draft<'_>,
    tick: &Tick,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let place = draft.open(tick.hold, facts)?;
    let mut hold = draft.account.holds[place].clone();
    if let Some(amount) = tick.amount {
        if amount < hold.ticked {
            return Err(Rejection::TickFalls { ticked: hold.ticked });
        }
        if amount > hold.amount {
            let more = Credits::from_micro(amount.micro() - hold.amount.micro());
            draft.covers(more, &hold.context, now)?;
            let spend = Spend { requests: 0, ..hold.context.spend(more, super::Measure::default()) };
            draft.within_limits(&spend, facts, now)?;
            let parts = draft.set_aside(more, &hold.context, now);
            merge(&mut hold.parts, parts);
            hold.amount = amount;
        }
        hold.ticked = amount;
    }
    if let Some(life) = tick.life {
        hold.expires_at = now.plus(life.min(LIFE_MAX));
    }
    draft.account.holds.remove(place);
    Ok(draft.answer_with(hold, now))
}

pub(super) fn capture(
    mut draft: Draft<'_>,
    capture: &Capture,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if facts.usage_owner.is_some_and(|owner| owner != draft.account.user) {
        return Err(Rejection::ForeignUsage);
    }
    let place = match draft.open(capture.hold, facts) {
        Ok(place) => place,
        Err(refusal) => {
            return draft.again(capture.hold, facts, refusal, |hold, settled| {
                hold.status == HoldStatus::Captured && capture.asked(hold) == settled.asked
            });
        }
    };
    let hold = draft.account.holds[place].clone();
    let asked = capture.asked(&hold);
    let held = asked.min(hold.amount);
    let more = Credits::from_micro(asked.micro() - held.micro());
    // What is lacking is looked for while the hold still stands: what it has set aside is not free.
    let covered = more > Credits::ZERO && draft.account.free_for(&hold.context, now) >= more;
    let rest = if covered { draft.spend(more, &hold.context, now) } else { Vec::new() };
    let captured = if covered { asked } else { held };
    draft.account.holds.remove(place);
    let mut funded_by = draft.unhold(&hold, held);
    merge(&mut funded_by, rest);
    if captured > Credits::ZERO {
        let words = Words {
            cause: Cause {
                hold_id: Some(hold.id(draft.account.user).to_string()),
                usage_record_id: capture.usage_record_id,
                ..Cause::default()
            },
            funded_by,
            basis: Basis { context: hold.context.clone(), pricing: capture.pricing.clone() }.given(),
            grant: None,
        };
        draft.enter_own(EntryKind::Capture, -captured, words, &capture.words(&hold), now);
        draft.count(&hold.context.spend(captured, capture.measure), now);
    }
    let settled = Settled {
        at: now,
        asked,
        captured,
        short_by: Credits::from_micro(asked.micro() - captured.micro()),
        entry_seq: (captured > Credits::ZERO).then_some(draft.account.seq),
    };
    draft.returned(&hold, now);
    Ok(draft.answer_with(Hold { status: HoldStatus::Captured, settled: Some(settled), ..hold }, now))
}

impl Capture {
    /// What it says of itself, or else what its hold says.
    fn words(&self, hold: &Hold) -> Note {
        let mut note = self.note.clone();
        note.description = note.description.or_else(|| hold.description.clone());
        if note.metadata == JsonObject::default() {
            note.metadata = hold.metadata.clone();
        }
        note
    }

    /// How much it asks for.
    fn asked(&self, hold: &Hold) -> Credits {
        let so_far = if hold.ticked > Credits::ZERO { hold.ticked } else { hold.amount };
        self.amount.unwrap_or(so_far)
    }
}

pub(super) fn release(
    mut draft: Draft<'_>,
    n: i64,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let place = match draft.open(n, facts) {
        Ok(place) => place,
        Err(refusal) => {
            return draft.again(n, facts, refusal, |hold, _| hold.status == HoldStatus::Released);
        }
    };
    let hold = draft.account.holds.remove(place);
    draft.unhold(&hold, Credits::ZERO);
    draft.returned(&hold, now);
    let nothing = Credits::ZERO;
    let settled = Settled { at: now, asked: nothing, captured: nothing, short_by: nothing, entry_seq: None };
    Ok(draft.answer_with(Hold { status: HoldStatus::Released, settled: Some(settled), ..hold }, now))
}

/// Adds parts to parts, so that each grant stands in them once.
fn merge(parts: &mut Vec<(i64, Credits)>, more: Vec<(i64, Credits)>) {
    for (seq, part) in more {
        match parts.iter_mut().find(|(other, _)| *other == seq) {
            Some((_, sum)) => *sum = Credits::from_micro(sum.micro() + part.micro()),
            None => parts.push((seq, part)),
        }
    }
}

impl Draft<'_> {
    /// Where an open hold stands among those of the account.
    fn open(&self, n: i64, facts: &Facts<'_>) -> Result<usize, Rejection> {
        if let Some(place) = self.account.holds.iter().position(|hold| hold.n == n) {
            return Ok(place);
        }
        let id = HoldId { user: self.account.user, seq: n };
        match facts.hold.filter(|hold| hold.n == n && hold.settled.is_some()) {
            Some(hold) => Err(Rejection::HoldSettled { id, status: hold.status }),
            // It was open until its time ended, which this very command has found.
            None if (1..=self.account.hold_seq).contains(&n) => {
                Err(Rejection::HoldSettled { id, status: HoldStatus::Expired })
            }
            None => Err(Rejection::UnknownHold(id)),
        }
    }

    /// The first answer again, where the hold was settled by the same request; otherwise the refusal.
    fn again(
        mut self,
        n: i64,
        facts: &Facts<'_>,
        refusal: Rejection,
        same: impl Fn(&Hold, &Settled) -> bool,
    ) -> Result<Decision, Rejection> {
        let settled = facts.hold.filter(|hold| hold.n == n);
        match settled.and_then(|hold| Some((hold, hold.settled.as_ref()?))) {
            Some((hold, settled)) if same(hold, settled) => {
                self.decision.hold = Some(hold.clone());
                Ok(self.decision)
            }
            _ => Err(refusal),
        }
    }

    fn answer_with(mut self, hold: Hold, now: Timestamp) -> Decision {
        self.decision.hold = Some(hold.clone());
        self.put_hold(hold, now);
        self.repay(now);
        self.decision
    }
}
