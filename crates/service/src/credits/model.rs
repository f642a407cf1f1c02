//! Accounts, grants and entries: the ledger's nouns. No I/O.

use super::context::{Basis, Context, Scope};
use super::hold::Hold;
use super::ledger::settle;
use crate::limits::Limit;
use kernel::{Credits, GrantId, JsonObject, Timestamp, TransactionId, UserRowId};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// The hash of an entry, or zeros before an account's first.
pub type Hash = [u8; 32];

/// The most grants with something left that one account may have.
pub const OPEN_GRANTS_MAX: usize = 10_000;
/// The most that an account may be let to owe: beyond what any prepaid product extends, and far
/// enough below [`Credits::MAX`] that no sum of the two overflows.
pub const CREDIT_LIMIT_MAX: Credits = Credits::from_micro(100_000_000_000 * 1_000_000);
/// The most that an account may owe after a reclaim: what holds still have of the credit limit fits
/// on top of it.
pub const OWED_MAX: Credits = Credits::from_micro(Credits::MAX.micro() - CREDIT_LIMIT_MAX.micro());

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
pub(crate) use words;

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
    /// What it may be spent on; anything when absent.
    pub scope: Option<Arc<Scope>>,
    /// What of it lives on after its end.
    pub rollover: Option<Rollover>,
    /// Whether what was left of it was taken back, or all that it gave.
    pub voided: bool,
    /// What of `remaining` open holds have set aside; known where the grant is part of an account.
    pub held: Credits,
}

impl Grant {
    /// What is left and not set aside.
    #[must_use]
    pub const fn free(&self) -> i64 {
        self.remaining.micro() - self.held.micro()
    }

    /// Whether it may pay for that.
    #[must_use]
    pub fn pays_for(&self, context: &Context, now: Timestamp) -> bool {
        self.usable(now) && self.scope.as_ref().is_none_or(|scope| scope.covers(context))
    }

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
            scope: self.scope.as_deref().cloned(),
            rollover: self.rollover,
        }
    }

    /// The column `scope`.
    #[must_use]
    pub fn scope_text(&self) -> Option<String> {
        self.scope.as_ref().and_then(|scope| serde_json::to_string(scope).ok())
    }

    /// The column `rollover`.
    #[must_use]
    pub fn rollover_text(&self) -> Option<String> {
        self.rollover.as_ref().and_then(|rollover| serde_json::to_string(rollover).ok())
    }

    /// The grant that an entry issues on these terms, whole.
    #[must_use]
    pub fn issued(seq: i64, terms: &GrantTerms) -> Self {
        let amount = Credits::from_micro(terms.amount);
        Self {
            seq,
            source: terms.source,
            amount,
            remaining: amount,
            priority: terms.priority,
            effective_at: Timestamp::from_micros(terms.effective_at),
            expires_at: terms.expires_at.map(Timestamp::from_micros),
            scope: terms.scope.clone().map(Arc::new),
            rollover: terms.rollover,
            voided: false,
            held: Credits::ZERO,
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
    /// What it may be spent on; anything when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What of it lives on after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollover: Option<Rollover>,
}

/// What of a grant lives on after its end, once: at most `max` micro-credits, for so many days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollover {
    /// Micro-credits at most.
    pub max: i64,
    /// For how many days.
    pub days: i64,
}

/// One user's account as the rules see it: the row, the grants with something left, the open holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose it is.
    pub user: UserRowId,
    /// Moves with every change; what is written must still be what was read.
    pub version: i64,
    /// How many entries there are.
    pub seq: i64,
    /// The sum of all entries: what the grants have left until expiries are written down, less what is owed.
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
    /// How far below zero it may go.
    pub credit_limit: Credits,
    /// How many holds were ever made.
    pub hold_seq: i64,
    /// How much may be spent in which window of time.
    pub limits: Arc<[Limit]>,
    /// Grants with something left, in the order of spending.
    pub grants: Vec<Grant>,
    /// Open holds, in the order in which they were made.
    pub holds: Vec<Hold>,
}

impl Account {
    /// An account without history.
    #[must_use]
    pub fn new(user: UserRowId, now: Timestamp) -> Self {
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
            credit_limit: Credits::ZERO,
            hold_seq: 0,
            limits: Arc::new([]),
            grants: Vec::new(),
            holds: Vec::new(),
        }
    }

    /// The account's own time: a clock that runs behind the one of the last change does not count,
    /// or what was just given would not be there yet.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> Timestamp {
        now.max(self.updated_at)
    }

    /// The account as it is at `now`, whether or not what is due was written down.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Cow<'_, Self> {
        let now = self.time(now);
        if settle::is_due(self, now) { Cow::Owned(settle::settled(self, now)) } else { Cow::Borrowed(self) }
    }

    /// What can be spent on anything at `now`: usable grants without a scope and the credit limit,
    /// less open holds; zero where the limit was lowered under what is owed.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> Credits {
        self.at(now).free_for(&Context::default(), self.time(now)).max(Credits::ZERO)
    }

    /// What can be spent on that at `now`, of an account of which nothing is due.
    #[must_use]
    pub fn free_for(&self, context: &Context, now: Timestamp) -> Credits {
        let of_grants: i64 =
            self.grants.iter().filter(|grant| grant.pays_for(context, now)).map(Grant::free).sum();
        Credits::from_micro(of_grants + self.line_free())
    }

    /// What is left of the credit limit; below zero where it was lowered under what is owed.
    #[must_use]
    pub fn line_free(&self) -> i64 {
        self.credit_limit.micro() - self.owed() - self.holds.iter().map(Hold::of_line).sum::<i64>()
    }

    /// What was spent of the credit limit and not paid back.
    #[must_use]
    pub fn owed(&self) -> i64 {
        // Within i64: every issue checks that the balance stays within Credits::MAX.
        self.grants.iter().map(|grant| grant.remaining.micro()).sum::<i64>() - self.balance.micro()
    }

    /// What the account is worth at `now`: what is left in unexpired grants, held or not yet
    /// effective ones included, less what is owed.
    #[must_use]
    pub fn total(&self, now: Timestamp) -> Credits {
        self.at(now).balance
    }

    /// Puts a grant where the order of spending has it.
    pub fn insert_grant(&mut self, grant: Grant) {
        let at = self.grants.partition_point(|other| other.order() < grant.order());
        self.grants.insert(at, grant);
    }

    /// Takes an open hold, whose grants are there already.
    pub fn insert_hold(&mut self, hold: Hold) {
        for (seq, part) in &hold.parts {
            if let Some(grant) = self.grants.iter_mut().find(|grant| grant.seq == *seq) {
                grant.held = Credits::from_micro(grant.held.micro() + part.micro());
            }
        }
        let at = self.holds.partition_point(|other| other.n < hold.n);
        self.holds.insert(at, hold);
    }

    /// The column `spending_limits`.
    #[must_use]
    pub fn limits_text(&self) -> String {
        serde_json::to_string(&self.limits).unwrap_or_default()
    }

    /// The seal of its row: SHA-256 over its every column.
    #[must_use]
    pub fn seal(&self) -> Hash {
        let mut row = super::chain::Row::default();
        row.int(self.user.0);
        row.int(self.version);
        row.int(self.seq);
        row.int(self.balance.micro());
        row.int(self.held.micro());
        row.int(self.credits_total.micro());
        row.bytes(&self.head);
        row.int(self.closed.into());
        row.int(self.updated_at.micros());
        row.int(self.credit_limit.micro());
        row.int(self.hold_seq);
        row.text(&self.limits_text());
        row.hash()
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
    /// What a debit rests on.
    pub basis: Option<Basis>,
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
    /// The entry that is taken back or corrected; of a reversal, the one that issued the grant.
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
