//! Accounts, grants and entries: the ledger's nouns. No I/O.

use kernel::{Credits, GrantId, JsonObject, Timestamp, TransactionId, UserRowId};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// The hash of an entry, or zeros before an account's first.
pub type Hash = [u8; 32];

/// The most grants with something left that one account may have.
pub const OPEN_GRANTS_MAX: usize = 10_000;

/// Makes an enum whose values are written as one word in JSON, tables and hashes.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// The word for it in JSON and tables.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Every word there is.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("must be one of {}", Self::WORDS.join(", "))),
                }
            }
        }
    };
}

words! {
    /// What an entry did: the API's transaction type.
    EntryKind {
        /// Credits were spent.
        Consume = "consume",
        /// Credits were bought.
        Recharge = "recharge",
        /// Credits were given.
        Grant = "grant",
        /// Spent credits came back.
        Refund = "refund",
        /// Issued credits were taken back.
        Reversal = "reversal",
        /// A grant's rest ended with its date.
        Expire = "expire",
        /// A hold was settled.
        Capture = "capture",
        /// A correction by hand.
        Adjust = "adjust",
    }
}

words! {
    /// Where a grant came from.
    Source {
        /// The welcome grant.
        Signup = "signup",
        /// A plan's period.
        Plan = "plan",
        /// Money.
        Purchase = "purchase",
        /// A promotion.
        Promo = "promo",
        /// A refund whose own grant had ended.
        Refund = "refund",
        /// A correction.
        Adjustment = "adjustment",
    }
}

impl EntryKind {
    /// The account on the other side of the posting, which moves by the opposite amount.
    #[must_use]
    pub const fn counter_account(self) -> &'static str {
        match self {
            Self::Recharge | Self::Grant | Self::Reversal | Self::Adjust => "issued",
            Self::Consume | Self::Capture => "spent",
            Self::Expire => "expired",
            Self::Refund => "refunded",
        }
    }
}

/// Credits given once, with the terms on which they may be spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The entry that issued it.
    pub seq: i64,
    /// Where it came from.
    pub source: Source,
    /// What was given.
    pub amount: Credits,
    /// What is left.
    pub remaining: Credits,
    /// Lower is spent first; 0 is first.
    pub priority: i64,
    /// From when on it may be spent.
    pub effective_at: Timestamp,
    /// The first instant at which it may not; never when absent.
    pub expires_at: Option<Timestamp>,
}

impl Grant {
    /// Whether its time is over.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether it may be spent now.
    #[must_use]
    pub fn usable(&self, now: Timestamp) -> bool {
        self.effective_at <= now && !self.expired(now)
    }

    /// The order of spending: by priority, then soonest expiry (never last), then oldest.
    #[must_use]
    pub fn order(&self) -> (i64, Timestamp, i64) {
        (self.priority, self.expires_at.unwrap_or(Timestamp::MAX), self.seq)
    }

    /// The terms, as the issuing entry keeps them.
    #[must_use]
    pub fn terms(&self) -> GrantTerms {
        GrantTerms {
            source: self.source,
            amount: self.amount.micro(),
            priority: self.priority,
            effective_at: self.effective_at.micros(),
            expires_at: self.expires_at.map(Timestamp::micros),
        }
    }

    /// The public id.
    #[must_use]
    pub const fn id(&self, user: UserRowId) -> GrantId {
        GrantId { user, seq: self.seq }
    }
}

/// A grant's terms inside the entry that issued it, and so under its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTerms {
    /// Where it came from.
    pub source: Source,
    /// Micro-credits given.
    pub amount: i64,
    /// The priority.
    pub priority: i64,
    /// Microseconds since 1970.
    pub effective_at: i64,
    /// Microseconds since 1970.
    pub expires_at: Option<i64>,
}

/// One user's account as the rules see it: the row, and the grants with something left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose it is.
    pub user: UserRowId,
    /// Moves with every change; what is written must still be what was read.
    pub version: i64,
    /// How many entries there are.
    pub seq: i64,
    /// The sum of all entries, which is what the grants have left until expiries are written down.
    pub balance: Credits,
    /// Set aside by open holds.
    pub held: Credits,
    /// All that was ever given.
    pub credits_total: Credits,
    /// The last entry's hash.
    pub head: Hash,
    /// Whether the user is deleted.
    pub closed: bool,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Grants with something left, in the order of spending.
    pub grants: Vec<Grant>,
}

impl Account {
    /// An account without history.
    #[must_use]
    pub const fn new(user: UserRowId, now: Timestamp) -> Self {
        Self {
            user,
            version: 0,
            seq: 0,
            balance: Credits::ZERO,
            held: Credits::ZERO,
            credits_total: Credits::ZERO,
            head: [0; 32],
            closed: false,
            updated_at: now,
            grants: Vec::new(),
        }
    }

    /// The account's own time: a clock that runs behind the one of the last change does not count,
    /// or what was just given would not be there yet.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> Timestamp {
        now.max(self.updated_at)
    }

    /// What can be spent at `now`: usable grants less open holds.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> Credits {
        let now = self.time(now);
        let usable = self.sum(|grant| grant.usable(now));
        Credits::from_micro(usable - self.held.micro())
    }

    /// What is left in unexpired grants at `now`, held or not yet effective ones included.
    #[must_use]
    pub fn total(&self, now: Timestamp) -> Credits {
        let now = self.time(now);
        Credits::from_micro(self.sum(|grant| !grant.expired(now)))
    }

    /// Puts a grant where the order of spending has it.
    pub fn insert_grant(&mut self, grant: Grant) {
        let at = self.grants.partition_point(|other| other.order() < grant.order());
        self.grants.insert(at, grant);
    }

    fn sum(&self, counts: impl Fn(&Grant) -> bool) -> i64 {
        // Within i64: every issue checks that the balance stays within Credits::MAX.
        self.grants.iter().filter(|grant| counts(grant)).map(|grant| grant.remaining.micro()).sum()
    }
}

/// One immutable row of the ledger: the API's transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose account.
    pub user: UserRowId,
    /// Its place in the account; the first is 1.
    pub seq: i64,
    /// The integer id; 0 until it is sealed.
    pub id: i64,
    /// What happened.
    pub kind: EntryKind,
    /// What the balance moved by, with its sign.
    pub amount: Credits,
    /// The balance before.
    pub balance_before: Credits,
    /// The balance after.
    pub balance_after: Credits,
    /// Why it happened.
    pub cause: Cause,
    /// The caller's words.
    pub description: Option<String>,
    /// The caller's data.
    pub metadata: JsonObject,
    /// Which grants paid or were paid back, and how much: `(seq, part)`.
    pub funded_by: Vec<(i64, Credits)>,
    /// The grant that it issued.
    pub grant: Option<GrantTerms>,
    /// Who asked for it.
    pub origin: Origin,
    /// When.
    pub created_at: Timestamp,
    /// The hash of the entry before.
    pub prev_hash: Hash,
    /// The hash of this one; zeros until it is sealed.
    pub hash: Hash,
}

impl Entry {
    /// The public id.
    #[must_use]
    pub const fn transaction_id(&self) -> TransactionId {
        TransactionId { user: self.user, seq: self.seq }
    }
}

/// What an entry is the effect of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// The usage record that was paid for.
    pub usage_record_id: Option<i64>,
    /// The hold that was settled.
    pub hold_id: Option<String>,
    /// The entry that is taken back.
    pub reverses: Option<i64>,
    /// The caller's reference, applied once for ever.
    pub reference_id: Option<String>,
}

/// Who asked, and by which request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// `user:…`, `key:…` or `system`.
    pub actor: String,
    /// The request's id.
    pub request_id: Option<String>,
    /// The request's idempotency key.
    pub idempotency_key: Option<String>,
}
