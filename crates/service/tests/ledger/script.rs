//! Random asks: what callers may want of an account, sensible or not.

use kernel::{Credits, JsonObject, Timestamp, TransactionId};
use user_service::credits::ledger::{Consume, Issue, LedgerCommand, Note, Refund};
use user_service::credits::model::{EntryKind, Origin, Source};

/// When every story begins, in microseconds.
pub const START: i64 = 1_750_000_000_000_000;

/// What is asked of an account. Amounts are units, receipts are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Consume(u64),
    Give(Give),
    /// `receipt` is nothing where no such transaction exists; `units` where all that is left is wanted.
    Refund {
        receipt: Option<usize>,
        units: Option<u64>,
    },
    Settle,
}

/// Credits to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Give {
    pub recharge: bool,
    pub units: u64,
    pub priority: i64,
    pub from: Option<i64>,
    pub until: Option<i64>,
    pub reference: Option<u64>,
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

    /// How far the clock moves between two asks; mostly little.
    pub fn step(&mut self) -> i64 {
        if self.one_in(3) { 0 } else { self.time() }
    }

    /// An ask of an account with so many receipts.
    pub fn ask(&mut self, receipts: usize, now: i64) -> Ask {
        match self.below(20) {
            0..9 => Ask::Consume(self.below(12) + 1),
            9..12 => Ask::Give(Give {
                recharge: true,
                units: self.below(16) + 1,
                priority: 0,
                from: None,
                until: None,
                reference: self.one_in(2).then(|| self.below(40)),
            }),
            12..15 => {
                let from = match self.below(4) {
                    0 => Some(now + self.time()),
                    1 => Some(now - self.time()),
                    _ => None,
                };
                let until = (!self.one_in(4)).then(|| if self.one_in(9) { now } else { now + self.time() });
                let reference = self.one_in(4).then(|| self.below(40));
                let (units, priority) = (self.below(16) + 1, self.below(3) as i64);
                Ask::Give(Give { recharge: false, units, priority, from, until, reference })
            }
            15..19 => {
                let receipt = if self.one_in(30) { None } else { Some(self.below(receipts as u64) as usize) };
                Ask::Refund { receipt, units: (!self.one_in(3)).then(|| self.below(9) + 1) }
            }
            _ => Ask::Settle,
        }
    }
}

/// An ask as the service's command; `receipts` are the ids of its transactions, `worth` is a unit's.
pub fn command(ask: &Ask, receipts: &[TransactionId], worth: i64) -> LedgerCommand {
    let credits = |units: u64| Credits::from_micro(units as i64 * worth);
    let note = || Note {
        description: Some("a test".to_owned()),
        metadata: JsonObject::from_stored(r#"{"from":"a test"}"#.to_owned()),
        origin: Origin { actor: "key:test".to_owned(), ..Origin::default() },
    };
    match ask {
        Ask::Consume(units) => LedgerCommand::Consume(Consume {
            amount: credits(*units),
            usage_record_id: (units % 5 == 0).then_some(1_000_000_007),
            note: note(),
        }),
        Ask::Give(give) => LedgerCommand::Issue(Issue {
            kind: if give.recharge { EntryKind::Recharge } else { EntryKind::Grant },
            amount: credits(give.units),
            source: if give.recharge { Source::Purchase } else { Source::Promo },
            priority: give.priority,
            effective_at: give.from.map(Timestamp::from_micros),
            expires_at: give.until.map(Timestamp::from_micros),
            reference_id: give.reference.map(|reference| format!("ref_{reference}")),
            note: note(),
        }),
        Ask::Refund { receipt, units } => {
            let known = receipt.and_then(|at| receipts.get(at)).copied();
            let unknown = TransactionId { user: kernel::UserRowId(1), seq: 999_999_999 };
            let (original, amount) = (known.unwrap_or(unknown), units.map(credits));
            LedgerCommand::Refund(Refund { original, amount, note: note() })
        }
        Ask::Settle => LedgerCommand::Settle,
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
