//! A payment: money that is to come or has come, and what it gives. No I/O.

use crate::credits::model::words;
use crate::db::{DbError, FromRow, Row};
use kernel::{Credits, Timestamp, UserRowId};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

words! {
    /// What is paid for.
    PaymentKind {
        /// Credits for an amount of money.
        Credits = "credits",
        /// A pack of credits.
        Pack = "pack",
        /// A pack that was bought because few credits were left.
        TopUp = "top_up",
        /// A period of a plan.
        Subscription = "subscription",
    }
}

words! {
    /// Where a payment stands.
    PaymentStatus {
        /// The money has not come.
        Pending = "pending",
        /// It has come.
        Succeeded = "succeeded",
        /// It was tried, and did not come; it may still.
        Failed = "failed",
        /// It will not come.
        Canceled = "canceled",
    }
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its row.
    pub id: i64,
    /// Whose it is.
    pub user: UserRowId,
    /// What is paid for.
    pub kind: PaymentKind,
    /// The pack's key, or the version of the plan.
    pub item: Option<String>,
    /// How much is to come, in hundredths of the currency.
    pub amount: i64,
    /// Which currency.
    pub currency: String,
    /// What it gives once all of it has come.
    pub credits: Credits,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Stripe's payment.
    pub payment_intent: Option<String>,
    /// Stripe's invoice.
    pub invoice: Option<String>,
    /// Stripe's checkout.
    pub checkout: Option<String>,
    /// Stripe's subscription.
    pub subscription: Option<String>,
    /// What a subscription's payment pays for.
    pub period: Option<(Timestamp, Timestamp)>,
    /// How much has come.
    pub received: i64,
    /// How much of it was given back.
    pub refunded: i64,
    /// How much of it a bank has taken back; less than nothing where the dispute was won.
    pub disputed: i64,
    /// The grant that it gave.
    pub grant: Option<i64>,
    /// The last grant that gave back what had been taken.
    pub back: Option<i64>,
    /// What it gave.
    pub granted: Credits,
    /// What of that was taken back.
    pub reclaimed: Credits,
    /// What that is to become; differs from it while it is being done.
    pub reclaiming: Credits,
    /// How many times something was taken or given back.
    pub step: i64,
    /// What was spent before it could be taken back.
    pub owed: Credits,
    /// How often Stripe broke over it.
    pub asked: i64,
    /// Why it failed the last time.
    pub failure: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Payment {
    /// How it is called beside Stripe's objects: its row, and when it was made, so that no other database's is taken for it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.id, self.created_at.micros())
    }

    /// What the money that has come is worth in credits.
    #[must_use]
    pub fn due(&self) -> Credits {
        if self.status == PaymentStatus::Succeeded {
            part(self.credits, self.received, self.amount)
        } else {
            Credits::ZERO
        }
    }

    /// What of the credits that it gave is to be taken back for money that went back.
    #[must_use]
    pub fn to_reclaim(&self) -> Credits {
        part(self.granted, self.refunded.saturating_add(self.disputed.max(0)), self.received)
    }
}

/// What `part` of `whole` money is worth where all of it is worth `credits`; all of them where it is more.
#[must_use]
pub fn part(credits: Credits, part: i64, whole: i64) -> Credits {
    if part <= 0 {
        return Credits::ZERO;
    }
    if part >= whole {
        return credits;
    }
    let micro = i128::from(credits.micro()) * i128::from(part) / i128::from(whole);
    Credits::from_micro(i64::try_from(micro).unwrap_or(i64::MAX))
}

/// The columns of a payment, in the order that [`Payment`] reads.
macro_rules! payment_columns {
    () => {
        "p.id, p.user_id, p.kind, p.item, p.amount, p.currency, p.credits, p.status, p.payment_intent, p.invoice, p.checkout, \
         p.subscription, p.period_start, p.period_end, p.received, p.refunded, p.disputed, p.grant_seq, p.granted, \
         p.reclaimed, p.reclaiming, p.step, p.owed, p.asked, p.failure, p.created_at, p.updated_at, p.back_seq"
    };
}
pub(super) use payment_columns;

impl FromRow for Payment {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let word = |rule: String| DbError::Internal(format!("payments: {rule}"));
        let credits = |column| row.int(column).map(Credits::from_micro);
        let perhaps = |column| Ok::<_, DbError>(row.optional_int(column)?.map(Timestamp::from_micros));
        Ok(Self {
            id: row.int(0)?,
            user: UserRowId(row.int(1)?),
            kind: row.text(2)?.parse().map_err(word)?,
            item: row.optional_text(3)?,
            amount: row.int(4)?,
            currency: row.text(5)?,
            credits: credits(6)?,
            status: row.text(7)?.parse().map_err(word)?,
            payment_intent: row.optional_text(8)?,
            invoice: row.optional_text(9)?,
            checkout: row.optional_text(10)?,
            subscription: row.optional_text(11)?,
            period: perhaps(12)?.zip(perhaps(13)?),
            received: row.int(14)?,
            refunded: row.int(15)?,
            disputed: row.int(16)?,
            grant: row.optional_int(17)?,
            back: row.optional_int(27)?,
            granted: credits(18)?,
            reclaimed: credits(19)?,
            reclaiming: credits(20)?,
            step: row.int(21)?,
            owed: credits(22)?,
            asked: row.int(23)?,
            failure: row.optional_text(24)?,
            created_at: row.int(25).map(Timestamp::from_micros)?,
            updated_at: row.int(26).map(Timestamp::from_micros)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_money_is_worth_that_part_rounded_down() {
        let credits = Credits::from_micro;
        for (part_of, whole, worth) in [
            (0, 100, 0),
            (-5, 100, 0),
            (1, 3, 333_333),
            (3, 3, 1_000_000),
            (9, 3, 1_000_000),
            (1, 0, 1_000_000),
        ] {
            assert_eq!(part(credits(1_000_000), part_of, whole), credits(worth), "{part_of}/{whole}");
        }
        assert_eq!(
            part(Credits::MAX, 999_999_998, 999_999_999).micro(),
            (i128::from(Credits::MAX.micro()) * 999_999_998 / 999_999_999) as i64
        );
    }
}
