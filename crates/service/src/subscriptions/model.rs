//! A subscription. No I/O.

use super::period::Period;
use crate::credits::model::words;
use crate::db::{DbError, FromRow, Row};
use kernel::{Timestamp, UserRowId};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

words! {
    /// Who says when a subscription ends.
    SubscriptionProvider {
        /// The user, who pays nothing.
        Free = "free",
        /// An admin, whose customer pays by invoice or not at all.
        Manual = "manual",
        /// Stripe, which takes the money.
        Stripe = "stripe",
    }
}

words! {
    /// Where a subscription stands.
    SubscriptionStatus {
        /// It is in force.
        Active = "active",
        /// It is in force, and not to be paid for yet.
        Trialing = "trialing",
        /// It is in force for some days more, although its period was not paid.
        PastDue = "past_due",
        /// It is over.
        Canceled = "canceled",
    }
}

/// Which plan a user has, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its row.
    pub id: i64,
    /// Whose it is.
    pub user: UserRowId,
    /// The plan's key.
    pub plan: String,
    /// Which version of it.
    pub plan_version: String,
    /// Who says when it ends.
    pub provider: SubscriptionProvider,
    /// Where it stands.
    pub status: SubscriptionStatus,
    /// When period 0 began.
    pub anchor: Timestamp,
    /// The current period.
    pub period: Period,
    /// When the job looks at it next: its first instant of all until the period's credits are given, then its end.
    pub due_at: Timestamp,
    /// It is not renewed past it.
    pub ends_at: Option<Timestamp>,
    /// Whether it ends with its period.
    pub cancel_at_period_end: bool,
    /// When somebody cancelled it.
    pub canceled_at: Option<Timestamp>,
    /// Which version of a plan it becomes when its period ends.
    pub next_plan_version: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Subscription {
    /// Whether it is over once its period is.
    #[must_use]
    pub fn ends_with_period(&self) -> bool {
        self.cancel_at_period_end || self.ends_at.is_some_and(|end| end <= self.period.end)
    }

    /// Whether the credits of its period were given.
    #[must_use]
    pub fn has_given(&self) -> bool {
        self.due_at >= self.period.end
    }

    /// Whether time asks something of it.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self.provider {
            SubscriptionProvider::Stripe => self.due_at <= now,
            SubscriptionProvider::Free | SubscriptionProvider::Manual => self.period.end <= now,
        }
    }

    /// Whether it has no more periods at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|end| end <= now) || (self.cancel_at_period_end && self.period.end <= now)
    }

    /// What a period's grant is called, so that it is given once.
    #[must_use]
    pub fn reference(&self, n: i64) -> String {
        match self.provider {
            // Its periods are counted from the user's own beginning: whoever comes back gets none twice.
            SubscriptionProvider::Free => format!("plan:free:{n}"),
            SubscriptionProvider::Manual | SubscriptionProvider::Stripe => {
                format!("subscription:{}:{n}", self.id)
            }
        }
    }
}

/// The columns of a subscription, in the order that [`Subscription`] reads.
macro_rules! subscription_columns {
    () => {
        "s.id, s.user_id, s.plan, s.plan_version, s.provider, s.status, s.anchor, s.period, s.period_start, \
         s.period_end, s.due_at, s.ends_at, s.cancel_at_period_end, s.canceled_at, s.next_plan_version, s.created_at, s.updated_at"
    };
}
pub(super) use subscription_columns;

impl FromRow for Subscription {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let at = |column| row.int(column).map(Timestamp::from_micros);
        let perhaps = |column| Ok::<_, DbError>(row.optional_int(column)?.map(Timestamp::from_micros));
        let word = |rule: String| DbError::Internal(format!("subscriptions: {rule}"));
        Ok(Self {
            id: row.int(0)?,
            user: UserRowId(row.int(1)?),
            plan: row.text(2)?,
            plan_version: row.text(3)?,
            provider: row.text(4)?.parse().map_err(word)?,
            status: row.text(5)?.parse().map_err(word)?,
            anchor: at(6)?,
            period: Period { n: row.int(7)?, start: at(8)?, end: at(9)? },
            due_at: at(10)?,
            ends_at: perhaps(11)?,
            cancel_at_period_end: row.int(12)? != 0,
            canceled_at: perhaps(13)?,
            next_plan_version: row.optional_text(14)?,
            created_at: at(15)?,
            updated_at: at(16)?,
        })
    }
}
