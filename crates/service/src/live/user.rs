//! A user's stream: each entry of its ledger, and its usage as it stands.
//!
//! Entries are sent one by one, because a bill is made of them. Usage is a state: what it was in
//! between is of no use to anybody, so its sums are sent whenever the number of records has moved.

use super::store::{self, Step};
use super::stream::{AT_ONCE, Read, Source};
use crate::app::App;
use crate::auth::grants::UserRef;
use crate::credits::EntryKind;
use crate::db::DbError;
use crate::usage::api::WideCredits;
use crate::usage::rollup::Sums;
use kernel::{Credits, ExternalId, Timestamp, TransactionId, Usd};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Where a user's stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The last entry that was sent.
    pub seq: i64,
    /// How many records the usage had that was sent last.
    pub records: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, self.records)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (seq, records) = text.split_once('-').ok_or(())?;
        Ok(Self { seq: number(seq).ok_or(())?, records: number(records).ok_or(())? })
    }
}

/// A number as ids have it: digits and nothing else.
#[must_use]
pub fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// How the ledger stands, and by which entry.
#[derive(Serialize)]
struct BalanceEvent<'a> {
    user_id: &'a ExternalId,
    /// What can be spent now; only where nothing has happened since.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<Credits>,
    /// What is in the account after it, held and not yet effective credits included.
    balance: Credits,
    #[serde(flatten)]
    transaction: Option<Transaction>,
}

#[derive(Serialize)]
struct Transaction {
    transaction_id: TransactionId,
    transaction_type: EntryKind,
    amount: Credits,
    balance_after: Credits,
    created_at: Timestamp,
}

/// All that was ever used.
#[derive(Serialize)]
struct UsageEvent<'a> {
    user_id: &'a ExternalId,
    total_records: i64,
    total_credits_charged: WideCredits,
    total_cost_usd: Usd,
    total_tokens_used: i64,
}

/// The last event of a user that was deleted.
#[derive(Serialize)]
struct Deleted<'a> {
    user_id: &'a ExternalId,
}

/// What happens to a user's balance and usage.
pub struct Activity {
    app: Arc<App>,
    user: UserRef,
    /// Absent before the first state was sent to one who comes without a cursor.
    cursor: Option<Cursor>,
}

impl Activity {
    /// What came after the cursor; without one, first how things stand.
    #[must_use]
    pub const fn new(app: Arc<App>, user: UserRef, cursor: Option<Cursor>) -> Self {
        Self { app, user, cursor }
    }

    fn step(&self, step: &Step, available: Option<Credits>) -> BalanceEvent<'_> {
        BalanceEvent {
            user_id: &self.user.auth0_id,
            available,
            balance: step.balance_after,
            transaction: Some(Transaction {
                transaction_id: TransactionId { user: self.user.row, seq: step.seq },
                transaction_type: step.kind,
                amount: step.amount.abs(),
                balance_after: step.balance_after,
                created_at: step.created_at,
            }),
        }
    }

    fn usage(&self, sums: &Sums) -> UsageEvent<'_> {
        UsageEvent {
            user_id: &self.user.auth0_id,
            total_records: sums.records,
            total_credits_charged: WideCredits(sums.credits.value()),
            total_cost_usd: Usd::from_nano(sums.cost.value()),
            total_tokens_used: sums.tokens,
        }
    }
}

impl Source for Activity {
    async fn read(&mut self) -> Result<Read, DbError> {
        let mut read = Read::default();
        let Some(account) = self.app.balances.account(self.user.row).await? else {
            read.event("deleted", None, &Deleted { user_id: &self.user.auth0_id });
            read.end();
            return Ok(read);
        };
        let available = Some(account.available(self.app.clock.now()));
        let steps = match self.cursor {
            Some(cursor) if cursor.seq < account.seq => {
                store::steps(&self.app.db, self.user.row, cursor.seq, account.seq, AT_ONCE).await?
            }
            _ => Vec::new(),
        };
        let sums = store::usage(&self.app.db, self.user.row).await?;
        // From here on nothing fails, so what is sent and the cursor go together.
        let mut at = self.cursor.unwrap_or(Cursor { seq: account.seq, records: sums.records });
        if self.cursor.is_none() {
            let user_id = &self.user.auth0_id;
            let state = BalanceEvent { user_id, available, balance: account.balance, transaction: None };
            // Without an id: whoever is cut off before the usage beside it begins anew.
            read.event("balance", None, &state);
        }
        for step in &steps {
            at.seq = step.seq;
            let available = available.filter(|_| step.seq == account.seq);
            read.event("balance", Some(&at), &self.step(step, available));
        }
        if self.cursor.is_none() || at.records != sums.records {
            at.records = sums.records;
            read.event("usage", Some(&at), &self.usage(&sums));
        }
        self.cursor = Some(at);
        if !steps.is_empty() && at.seq < account.seq {
            read.read_on();
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_two_numbers() {
        let cursor = Cursor { seq: 12, records: 3450 };
        assert_eq!(cursor.to_string(), "12-3450");
        assert_eq!("12-3450".parse(), Ok(cursor));
        for text in ["", "12", "-", "12-", "-3450", "12--1", "+1-2", "1-2-3", "1 -2", "9223372036854775808-1"]
        {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }
}
