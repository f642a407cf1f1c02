//! How a user's limits stand now: what was counted, and what open holds set aside.
//!
//! A hold whose time is over counts from that instant on, whether or not anybody wrote it down: as the next
//! command on the account would have it.

use super::model::{CounterKey, Limit, Move, Unit, Used, Wanted};
use super::rules::{self, Standing};
use super::store::{self, VALUES_MAX};
use crate::app::App;
use crate::auth::grants::UserRef;
use crate::credits::Account;
use crate::credits::ledger::Measure;
use crate::db::DbError;
use crate::http::ApiError;
use kernel::{Credits, Timestamp};
use std::collections::HashMap;

/// What of a user its limits are about.
pub struct Known {
    /// The account's time.
    pub now: Timestamp,
    /// The account, of which nothing is due.
    account: Account,
    /// What its open holds set aside, under each limit of credits and each value.
    held: HashMap<CounterKey, i64>,
    /// What holds that have ended count, where nobody has written it down.
    due: Vec<Move>,
}

impl Known {
    /// Reads it.
    ///
    /// # Errors
    /// 404 where the user is deleted, 503 when the database is down.
    pub async fn of(app: &App, user: &UserRef) -> Result<Self, ApiError> {
        let account = app.balances.account(user.row).await?;
        let account = account.ok_or_else(|| ApiError::user_not_found(user.auth0_id.as_str()))?;
        Ok(Self::at(&account, app.clock.now()))
    }

    fn at(account: &Account, now: Timestamp) -> Self {
        let now = account.time(now);
        let ended = account.holds.iter().filter(|hold| hold.ended(now) && hold.due_at_end() > Credits::ZERO);
        let due = ended.flat_map(|hold| {
            let spend = hold.context.spend(hold.due_at_end(), Measure::default());
            let at = hold.expires_at.max(account.updated_at);
            rules::moves(&account.limits, account.user, &spend, &HashMap::new(), at)
        });
        let due = due.collect();
        let account = account.at(now).into_owned();
        Self { now, held: held(&account), due, account }
    }

    /// The limits, in the order in which they were set.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.account.limits
    }

    /// The counter of one value of a limit.
    #[must_use]
    pub fn wanted(&self, limit: &Limit, value: &str) -> Wanted {
        limit.wanted(self.account.user, value, self.now)
    }

    /// What these counters hold.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn counters(
        &self,
        app: &App,
        wanted: Vec<Wanted>,
    ) -> Result<HashMap<CounterKey, Used>, DbError> {
        let mut counters = store::counters(&app.db, wanted).await?;
        rules::apply(&mut counters, &self.due);
        Ok(counters)
    }

    /// How a limit stands under one value.
    #[must_use]
    pub fn standing(&self, limit: &Limit, value: &str, counters: &HashMap<CounterKey, Used>) -> Standing {
        let nothing = Used::default();
        let used = counters.get(&self.wanted(limit, value).key).unwrap_or(&nothing);
        Standing::of(limit, used, self.held(limit, value), self.now)
    }

    /// How a limit that counts each value on its own stands, by value, and whether there are more values.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn values(&self, app: &App, limit: &Limit) -> Result<(Vec<(String, Standing)>, bool), DbError> {
        let (mut found, more) = store::values(&app.db, self.account.user, limit, self.now).await?;
        let key = limit.key();
        for due in self.due.iter().filter(|due| due.key.limit == key) {
            if found.contains_key(&due.key.value) || found.len() < VALUES_MAX as usize {
                found.entry(due.key.value.clone()).or_default().add(due.bucket, due.delta);
            }
        }
        let standings = found.into_iter().map(|(value, used)| {
            let standing = Standing::of(limit, &used, self.held(limit, &value), self.now);
            (value, standing)
        });
        Ok((standings.collect(), more))
    }

    /// What open holds set aside under a limit and a value, in the unit's smallest part.
    #[must_use]
    pub fn held(&self, limit: &Limit, value: &str) -> i64 {
        self.held.get(&self.wanted(limit, value).key).copied().unwrap_or_default()
    }
}

fn held(account: &Account) -> HashMap<CounterKey, i64> {
    let mut held = HashMap::new();
    for limit in account.limits.iter().filter(|limit| limit.unit == Unit::Credits) {
        let key = limit.key();
        for hold in &account.holds {
            for value in hold.context.spend(Credits::ZERO, Measure::default()).values(limit) {
                let key = CounterKey { user: account.user, limit: key.clone(), value: value.to_owned() };
                // Within i64: an account holds at most what it has.
                *held.entry(key).or_insert(0) += hold.amount.micro();
            }
        }
    }
    held
}
