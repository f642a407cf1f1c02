//! Random asks: what callers may want of an account, sensible or not, and what may become of it.

use kernel::{Credits, JsonObject, Timestamp, TransactionId, UserRowId};
use std::time::Duration;
use user_service::credits::context::{Basis, Context, Scope};
use user_service::credits::hold::OnExpiry;
use user_service::credits::ledger::{
    Adjust, Capture, Consume, Issue, LedgerCommand, Measure, NewHold, Note, Reclaim, Refund, Tick, Void,
};
use user_service::credits::model::{EntryKind, Origin, Rollover, Source};

/// When every story begins, in microseconds.
pub const START: i64 = 1_750_000_000_000_000;
/// One day, in microseconds.
pub const DAY: i64 = 24 * 3_600 * 1_000_000;

/// What a debit is for, and what a grant is for: a model and a feature, where any is named.
pub type What = (Option<u8>, Option<u8>);

/// Whether a grant may pay for that.
pub fn covers(scope: What, what: What) -> bool {
    (scope.0.is_none() || scope.0 == what.0) && (scope.1.is_none() || scope.1 == what.1)
}

/// What is asked of an account. Amounts are units, receipts and holds are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Consume {
        units: u64,
        what: What,
    },
    Give(Give),
    /// `receipt` is nothing where no such transaction exists; `units` where all that is left is wanted.
    Refund {
        receipt: Option<usize>,
        units: Option<u64>,
    },
    Adjust {
        units: i64,
        what: What,
    },
    /// The grant that this receipt gave.
    Void {
        receipt: usize,
    },
    /// Of the grant that this receipt gave.
    Reclaim {
        receipt: usize,
        units: u64,
        reference: u64,
    },
    Hold {
        units: u64,
        life: i64,
        on_expiry: OnExpiry,
        what: What,
    },
    Tick {
        hold: usize,
        units: Option<u64>,
        life: Option<i64>,
    },
    Capture {
        hold: usize,
        units: Option<u64>,
    },
    Release {
        hold: usize,
    },
    /// The credit limit.
    Limit(u64),
    Settle,
}

/// Credits to give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Give {
    pub recharge: bool,
    pub units: u64,
    pub priority: i64,
    pub from: Option<i64>,
    pub until: Option<i64>,
    pub scope: What,
    /// At most how many units live on, for how many days.
    pub roll: Option<(u64, i64)>,
    pub reference: Option<u64>,
}

/// What became of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The same reference was applied by this receipt.
    Again(usize),
    /// The hold was settled by the same request before.
    Still,
    Insufficient,
    TooMuch,
    ReferenceTaken,
    Unknown,
    NotRefundable,
    RefundExceeds,
    BadPeriod,
    RolloverWithoutEnd,
    UnknownGrant,
    NothingToVoid,
    ReclaimExceeds,
    OwesTooMuch,
    GrantHeld,
    UnknownHold,
    HoldSettled,
    TickFalls,
}

/// SplitMix64: the same numbers for the same seed, on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn time(&mut self) -> i64 {
        // Short and long times alike, and often the very same, so that instants meet.
        let scale = [1, 10, 1_000, 100_000][self.below(4) as usize];
        (self.below(6) as i64 + 1) * scale
    }

    /// How far the clock moves between two asks; mostly little, now and then by days.
    pub fn step(&mut self) -> i64 {
        match self.below(60) {
            0..20 => 0,
            20 => (self.below(3) as i64 + 1) * DAY / 2,
            _ => self.time(),
        }
    }

    fn what(&mut self) -> What {
        let mut part = |odds| self.one_in(odds).then(|| self.below(2) as u8);
        (part(2), part(3))
    }

    /// An ask of an account with so many receipts and holds, and a credit limit of at most so many units.
    pub fn ask(&mut self, receipts: usize, holds: usize, limit_max: u64, now: i64) -> Ask {
        let receipt = |random: &mut Self| random.below(receipts as u64) as usize;
        match self.below(51) {
            0..11 => Ask::Consume { units: self.below(12) + 1, what: self.what() },
            11..15 => Ask::Give(Give {
                recharge: true,
                units: self.below(16) + 1,
                reference: self.one_in(2).then(|| self.below(40)),
                ..Give::default()
            }),
            15..20 => Ask::Give(self.grant(now)),
            20..25 => {
                // What time alone has made, and nobody has written down, nobody can name.
                let receipt = (receipts > 0 && !self.one_in(30)).then(|| receipt(self));
                Ask::Refund { receipt, units: (!self.one_in(3)).then(|| self.below(9) + 1) }
            }
            25..27 => {
                let units = (self.below(6) as i64 + 1) * if self.one_in(2) { -1 } else { 1 };
                Ask::Adjust { units, what: self.what() }
            }
            27 => Ask::Void { receipt: receipt(self) },
            28..34 => Ask::Hold {
                units: self.below(9) + 1,
                life: self.time() * if self.one_in(2) { 50 } else { 1 },
                on_expiry: [OnExpiry::Release, OnExpiry::CaptureTicked, OnExpiry::CaptureAll]
                    [self.below(3) as usize],
                what: self.what(),
            },
            34 => Ask::Limit(self.below(limit_max + 1)),
            35..37 => Ask::Settle,
            37..40 => {
                let receipt = receipt(self);
                // Now and then the reference of another grant, or of one that was given.
                let of_it = 40 + 2 * receipt as u64;
                let reference = if self.one_in(6) { self.below(40) } else { of_it + self.below(3) };
                Ask::Reclaim { receipt, units: self.below(9) + 1, reference }
            }
            _ => self.of_hold(holds),
        }
    }

    fn grant(&mut self, now: i64) -> Give {
        let from = match self.below(4) {
            0 => Some(now + self.time()),
            1 => Some(now - self.time()),
            _ => None,
        };
        let until = (!self.one_in(4)).then(|| if self.one_in(9) { now } else { now + self.time() });
        let roll = until.filter(|_| self.one_in(2)).or_else(|| self.one_in(9).then_some(0));
        Give {
            recharge: false,
            units: self.below(16) + 1,
            priority: self.below(3) as i64,
            from,
            until,
            scope: if self.one_in(2) { self.what() } else { (None, None) },
            roll: roll.map(|_| (self.below(8), self.below(2) as i64 + 1)),
            reference: self.one_in(4).then(|| self.below(40)),
        }
    }

    fn of_hold(&mut self, holds: usize) -> Ask {
        // Mostly a recent one, which may still be open; seldom one that was never made.
        let back = self.below(5) as usize;
        let hold = if self.one_in(25) { holds + 3 } else { holds.saturating_sub(1 + back) };
        match self.below(11) {
            0..4 => {
                let life = self.one_in(3).then(|| self.time());
                Ask::Tick { hold, units: (!self.one_in(6)).then(|| self.below(12)), life }
            }
            4..8 => Ask::Capture { hold, units: (!self.one_in(3)).then(|| self.below(14)) },
            _ => Ask::Release { hold },
        }
    }
}

fn name(prefix: &str, part: u8) -> String {
    format!("{prefix}-{part}")
}

fn context(what: What) -> Context {
    let (model, feature) = (what.0.map(|part| name("model", part)), what.1.map(|part| name("feature", part)));
    Context { model, feature, ..Context::default() }
}

/// An ask as the service's command; `receipts` are the ids of its transactions, `worth` is a unit's.
pub fn command(ask: &Ask, receipts: &[TransactionId], worth: i64) -> LedgerCommand {
    let credits = |units: u64| Credits::from_micro(units as i64 * worth);
    let basis = |what: What| Basis { context: context(what), pricing: None };
    let usage_record_id = |units: u64| units.is_multiple_of(5).then_some(1_000_000_007);
    let unknown = TransactionId { user: UserRowId(1), seq: 999_999_999 };
    let micros = |life: i64| Duration::from_micros(life.unsigned_abs());
    let number = |hold: usize| hold as i64 + 1;
    match ask {
        Ask::Consume { units, what } => LedgerCommand::Consume(Consume {
            amount: credits(*units),
            usage_record_id: usage_record_id(*units),
            basis: basis(*what),
            measure: Measure::default(),
            note: note(),
        }),
        Ask::Give(give) => LedgerCommand::Issue(issue(give, worth)),
        Ask::Refund { receipt, units } => {
            let original = receipt.and_then(|at| receipts.get(at)).copied().unwrap_or(unknown);
            LedgerCommand::Refund(Refund { original, amount: units.map(credits), note: note() })
        }
        Ask::Adjust { units, what } => LedgerCommand::Adjust(Adjust {
            amount: Credits::from_micro(units * worth),
            original: None,
            usage_record_id: usage_record_id(units.unsigned_abs()),
            basis: basis(*what),
            note: note(),
        }),
        Ask::Void { receipt } => {
            let grant = receipts.get(*receipt).map_or(unknown.seq, |id| id.seq);
            LedgerCommand::Void(Void { grant, note: note() })
        }
        Ask::Reclaim { receipt, units, reference } => LedgerCommand::Reclaim(Reclaim {
            grant: receipts.get(*receipt).map_or(unknown.seq, |id| id.seq),
            amount: credits(*units),
            reference_id: reference_id(*reference),
            note: note(),
        }),
        Ask::Hold { units, life, on_expiry, what } => LedgerCommand::Hold(Box::new(NewHold {
            amount: credits(*units),
            life: micros(*life),
            on_expiry: *on_expiry,
            context: context(*what),
            note: note(),
        })),
        Ask::Tick { hold, units, life } => LedgerCommand::Tick(Tick {
            hold: number(*hold),
            amount: units.map(credits),
            life: life.map(micros),
        }),
        Ask::Capture { hold, units } => LedgerCommand::Capture(Capture {
            hold: number(*hold),
            amount: units.map(credits),
            usage_record_id: units.and_then(usage_record_id),
            pricing: None,
            measure: Measure::default(),
            note: Note { origin: note().origin, ..Note::default() },
        }),
        Ask::Release { hold } => LedgerCommand::Release(number(*hold)),
        Ask::Limit(units) => LedgerCommand::SetCreditLimit(credits(*units)),
        Ask::Settle => LedgerCommand::Settle,
    }
}

fn reference_id(reference: u64) -> String {
    format!("ref_{reference}")
}

fn note() -> Note {
    Note {
        description: Some("a test".to_owned()),
        metadata: JsonObject::from_stored(r#"{"from":"a test"}"#.to_owned()),
        origin: Origin { actor: "key:test".to_owned(), ..Origin::default() },
    }
}

fn issue(give: &Give, worth: i64) -> Issue {
    let named = |prefix: &str, part: Option<u8>| part.map(|part| name(prefix, part)).into_iter().collect();
    Issue {
        kind: if give.recharge { EntryKind::Recharge } else { EntryKind::Grant },
        amount: Credits::from_micro(give.units as i64 * worth),
        source: if give.recharge { Source::Purchase } else { Source::Promo },
        priority: give.priority,
        effective_at: give.from.map(Timestamp::from_micros),
        expires_at: give.until.map(Timestamp::from_micros),
        scope: Some(Scope { models: named("model", give.scope.0), features: named("feature", give.scope.1) }),
        rollover: give.roll.map(|(units, days)| Rollover { max: units as i64 * worth, days }),
        reference_id: give.reference.map(reference_id),
        note: note(),
    }
}

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    setting_text(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// A text from the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where PostgreSQL is and how much to do"
)]
pub fn setting_text(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
