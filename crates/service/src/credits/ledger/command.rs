//! What can be asked of an account, and what comes of it.

use crate::credits::context::{Basis, Context, Scope};
use crate::credits::hold::{Hold, OnExpiry};
use crate::credits::model::{Entry, EntryKind, Grant, Origin, Rollover, Source};
use crate::limits::{CounterKey, Limit, Move, Used};
use kernel::{Credits, GrantId, JsonObject, Timestamp, TransactionId, UserRowId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What can be asked of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerCommand {
    /// Spend credits.
    Consume(Consume),
    /// Give credits.
    Issue(Issue),
    /// Give spent credits back.
    Refund(Refund),
    /// Correct the balance.
    Adjust(Adjust),
    /// Take back what is left of a grant.
    Void(Void),
    /// Take back what a grant gave, also what was spent of it.
    Reclaim(Reclaim),
    /// Set credits aside.
    Hold(Box<NewHold>),
    /// Say what the work of a hold has cost so far, or give it more time.
    Tick(Tick),
    /// Charge a hold.
    Capture(Capture),
    /// Give a hold's credits back: its number.
    Release(i64),
    /// Let the account go that far below zero.
    SetCreditLimit(Credits),
    /// Replace the spending limits but those of the user's plan.
    SetLimits(Arc<[Limit]>),
    /// Replace the spending limits of the user's plan, whose names begin with `plan:`.
    SetPlanLimits(Arc<[Limit]>),
    /// Write down what is due.
    Settle,
}

/// What every command that writes an entry may say about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// The caller's words.
    pub description: Option<String>,
    /// The caller's data.
    pub metadata: JsonObject,
    /// Who asked.
    pub origin: Origin,
}

/// Spend `amount`. One of zero writes no entry; it only counts under spending limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consume {
    /// How much.
    pub amount: Credits,
    /// For which usage record; it need not exist, but must not be another user's.
    pub usage_record_id: Option<i64>,
    /// What it is for, and how the amount was found.
    pub basis: Basis,
    /// What it counts under spending limits beside its credits.
    pub measure: Measure,
    /// What to write beside it.
    pub note: Note,
}

/// What a debit counts under spending limits beside its credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measure {
    /// Nano-dollars.
    pub cost_usd: i64,
    /// Tokens.
    pub tokens: i64,
}

/// Give `amount`, which is more than zero, as a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// `Recharge` or `Grant`.
    pub kind: EntryKind,
    /// How much.
    pub amount: Credits,
    /// Where it comes from.
    pub source: Source,
    /// When it is spent, 0 first.
    pub priority: i64,
    /// From when on; now when absent.
    pub effective_at: Option<Timestamp>,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// What it may be spent on; anything when absent.
    pub scope: Option<Scope>,
    /// What of it lives on after its end.
    pub rollover: Option<Rollover>,
    /// Applied once for ever.
    pub reference_id: Option<String>,
    /// What to write beside it.
    pub note: Note,
}

/// Give back what an entry spent, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The entry.
    pub original: TransactionId,
    /// How much; all that is left to refund when absent.
    pub amount: Option<Credits>,
    /// What to write beside it.
    pub note: Note,
}

/// Move the balance by `amount`, which is not zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjust {
    /// By how much, with its sign.
    pub amount: Credits,
    /// Which entry is corrected.
    pub original: Option<TransactionId>,
    /// Which usage record.
    pub usage_record_id: Option<i64>,
    /// What it is for, and how the amount was found.
    pub basis: Basis,
    /// What to write beside it.
    pub note: Note,
}

/// Take back what is left of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Void {
    /// The entry that issued it.
    pub grant: i64,
    /// What to write beside it.
    pub note: Note,
}

/// Take back `amount` of what a grant gave, which is more than zero: the money behind it was given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reclaim {
    /// The entry that issued it.
    pub grant: i64,
    /// How much.
    pub amount: Credits,
    /// Applied once for ever.
    pub reference_id: String,
    /// What to write beside it.
    pub note: Note,
}

/// Set `amount` aside, which is more than zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHold {
    /// How much.
    pub amount: Credits,
    /// For how long.
    pub life: Duration,
    /// What becomes of it when nobody settles it.
    pub on_expiry: OnExpiry,
    /// What the work is.
    pub context: Context,
    /// What to write beside it.
    pub note: Note,
}

/// News of the work of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Which hold, by its number.
    pub hold: i64,
    /// What the work has cost so far; as before when absent.
    pub amount: Option<Credits>,
    /// How long it lives from now on; as before when absent.
    pub life: Option<Duration>,
}

/// Charge a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Which hold, by its number.
    pub hold: i64,
    /// How much; what was ticked when absent, or else all of it.
    pub amount: Option<Credits>,
    /// For which usage record.
    pub usage_record_id: Option<i64>,
    /// How the amount was found.
    pub pricing: Option<JsonObject>,
    /// What it counts under spending limits beside its credits.
    pub measure: Measure,
    /// What to write beside it.
    pub note: Note,
}

/// What the engines look up beside the account.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// The entry that the command's reference was applied to.
    pub reference: Option<&'a Entry>,
    /// The entry to refund or to correct.
    pub original: Option<&'a Original>,
    /// Whose the usage record is.
    pub usage_owner: Option<UserRowId>,
    /// The grant to take back, where it has nothing left.
    pub grant: Option<&'a Grant>,
    /// What was taken back so far of the grants that the command is about; those of which nothing was are absent.
    pub reversed: Option<&'a HashMap<GrantId, Credits>>,
    /// The hold, where it is settled.
    pub hold: Option<&'a Hold>,
    /// What counts under spending limits.
    pub counters: Option<&'a HashMap<CounterKey, Used>>,
}

impl Facts<'_> {
    /// What of a grant was not taken back yet, in micro-credits.
    #[must_use]
    pub fn unreversed(&self, user: UserRowId, grant: &Grant) -> i64 {
        let reversed = self.reversed.and_then(|reversed| reversed.get(&grant.id(user)).copied());
        grant.amount.micro() - reversed.unwrap_or_default().micro()
    }
}

/// An entry that is to be refunded, with what bears on it.
#[derive(Debug, Clone)]
pub struct Original {
    /// The entry.
    pub entry: Entry,
    /// What was already refunded.
    pub refunded: Credits,
    /// The grants that paid for it, as they stand.
    pub grants: Vec<Grant>,
}

/// What configuration decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a grant lives that replaces credits whose grant had ended before the refund.
    pub refund_life: Option<Duration>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// The entries to write, in order.
    pub entries: Vec<Entry>,
    /// Which of them is the command's own, where it has one.
    pub own: Option<usize>,
    /// The grants to write, as they now stand.
    pub grants: Vec<Grant>,
    /// The holds to write, as they now stand.
    pub holds: Vec<Hold>,
    /// The command's own hold.
    pub hold: Option<Hold>,
    /// What moves under spending limits.
    pub moves: Vec<Move>,
    /// Whether the account's row changes; it does with every entry and every hold.
    pub changed: bool,
    /// The entry that the same reference made before; then there is nothing to write.
    pub existing: Option<Entry>,
}

impl Decision {
    /// Adds what was decided after it.
    pub(super) fn append(&mut self, later: Self) {
        let before = self.entries.len();
        self.entries.extend(later.entries);
        self.own = later.own.map(|own| before + own);
        later.grants.iter().for_each(|grant| self.touch_grant(grant));
        later.holds.iter().for_each(|hold| self.touch_hold(hold));
        self.hold = later.hold;
        self.moves.extend(later.moves);
        self.changed |= later.changed;
        self.existing = later.existing;
    }

    /// Notes how a grant stands; the last word counts.
    pub(super) fn touch_grant(&mut self, grant: &Grant) {
        match self.grants.iter_mut().find(|other| other.seq == grant.seq) {
            Some(other) => *other = grant.clone(),
            None => self.grants.push(grant.clone()),
        }
    }

    /// Notes how a hold stands; the last word counts.
    pub(super) fn touch_hold(&mut self, hold: &Hold) {
        match self.holds.iter_mut().find(|other| other.n == hold.n) {
            Some(other) => *other = hold.clone(),
            None => self.holds.push(hold.clone()),
        }
    }

    /// The command's own entry.
    #[must_use]
    pub fn own_entry(&self) -> Option<&Entry> {
        self.own.and_then(|own| self.entries.get(own))
    }
}
