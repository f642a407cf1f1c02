//! A subscription as Stripe has it: what was learned, and what follows from it.
//!
//! Events come twice, late and in any order, so none of them changes a subscription. Each adds a fact:
//! the newest state that Stripe told of, and which periods were paid. The subscription is then computed
//! from all facts, and comes out the same however they came.

use super::edits::{self, Standing};
use super::model::SubscriptionStatus;
use super::period::Period;
use super::store;
use crate::app::App;
use crate::db::{DbError, FromRow, Row, Value};
use crate::payments::model::{Payment, PaymentStatus};
use crate::payments::store::of_subscription;
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{Timestamp, UserRowId};
use std::time::Duration;

/// What Stripe said last of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Stripe's id of it.
    pub id: String,
    /// Whose it is.
    pub user: UserRowId,
    /// How many facts were learned of it.
    pub facts: i64,
    /// Stripe's word for where it stands; empty until it was heard.
    pub status: String,
    /// What is subscribed to, in Stripe.
    pub item: Option<String>,
    /// The version of the plan that it is.
    pub plan_version: Option<String>,
    /// Its period.
    pub period: Option<(Timestamp, Timestamp)>,
    /// Whether it ends with it.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl FromRow for Told {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let perhaps = |column| Ok::<_, DbError>(row.optional_int(column)?.map(Timestamp::from_micros));
        Ok(Self {
            id: row.text(0)?,
            user: UserRowId(row.int(1)?),
            facts: row.int(2)?,
            status: row.text(3)?,
            item: row.optional_text(4)?,
            plan_version: row.optional_text(5)?,
            period: perhaps(6)?.zip(perhaps(7)?),
            cancel_at_period_end: row.int(8)? != 0,
            ended_at: perhaps(9)?,
        })
    }
}

/// What is known of one of Stripe's subscriptions.
///
/// # Errors
/// [`DbError`].
pub async fn told(app: &App, id: &str) -> Result<Option<Told>, DbError> {
    let sql = "SELECT id, user_id, facts, status, item, plan_version, period_start, period_end, cancel_at_period_end, ended_at \
        FROM stripe_subscriptions WHERE id = $1";
    app.db.find(sql, &[id.into()]).await
}

/// Makes room for what is learned of a subscription.
#[must_use]
pub fn hear_of(id: &str, user: UserRowId, customer: Option<&str>) -> Edit {
    let sql = "INSERT INTO stripe_subscriptions (id, user_id, customer, facts, seen_at, seen_rank, seen_event, status) \
        VALUES ($1, $2, $3, 0, 0, 0, '', '') ON CONFLICT DO NOTHING";
    let values = vec![id.into(), user.0.into(), customer.map(str::to_owned).into()];
    Edit::new(user, vec![Statement::any(sql, values)])
}

/// Which of two tellings is the newer one: the second it was made in, what happened, and the event.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// When, in seconds.
    pub created: i64,
    /// Created before updated before deleted.
    pub rank: i64,
    /// The event.
    pub event: &'a str,
}

/// Takes a state over, unless a newer one is known; one that Stripe answered with, and no event told, is the newest.
#[must_use]
pub fn hear(told: &Told, customer: Option<&str>, telling: Option<Telling<'_>>) -> Edit {
    let sql = "UPDATE stripe_subscriptions SET facts = facts + 1, \
        seen_at = CASE WHEN CAST($2 AS BIGINT) < 0 THEN seen_at ELSE CAST($2 AS BIGINT) END, \
        seen_rank = CASE WHEN CAST($2 AS BIGINT) < 0 THEN seen_rank ELSE CAST($3 AS BIGINT) END, \
        seen_event = CASE WHEN CAST($2 AS BIGINT) < 0 THEN seen_event ELSE CAST($4 AS TEXT) END, status = $5, \
        item = $6, plan_version = COALESCE(CAST($7 AS TEXT), plan_version), period_start = $8, period_end = $9, \
        cancel_at_period_end = $10, ended_at = $11, customer = COALESCE(CAST($12 AS TEXT), customer) \
        WHERE id = $1 AND (CAST($2 AS BIGINT) < 0 OR seen_at < $2 OR (seen_at = $2 AND (seen_rank < $3 OR (seen_rank = $3 AND seen_event < $4))))";
    let answered = Telling { created: -1, rank: 0, event: "" };
    let telling = telling.unwrap_or(answered);
    let values: Vec<Value> = vec![
        told.id.as_str().into(),
        telling.created.into(),
        telling.rank.into(),
        telling.event.into(),
        told.status.as_str().into(),
        told.item.clone().into(),
        told.plan_version.clone().into(),
        told.period.map(|(start, _)| start.micros()).into(),
        told.period.map(|(_, end)| end.micros()).into(),
        i64::from(told.cancel_at_period_end).into(),
        told.ended_at.map(Timestamp::micros).into(),
        customer.map(str::to_owned).into(),
    ];
    Edit::new(told.user, vec![Statement::any(sql, values)])
}

/// What makes the one subscription that stands for Stripe's.
#[must_use]
pub fn cause(id: &str) -> String {
    format!("stripe:{id}")
}

/// How often it is computed anew where something else was written meanwhile.
const TRIES_MAX: usize = 5;

/// Makes the subscription say what the facts say.
///
/// # Errors
/// [`WriteError`]; whatever comes next does it again.
pub async fn project(app: &App, id: &str) -> Result<(), WriteError> {
    for _ in 0..TRIES_MAX {
        match project_once(app, id).await {
            // More was learned meanwhile, or another subscription began.
            Err(WriteError::Refused(_)) => {}
            done => return done,
        }
    }
    Err(WriteError::Unavailable(format!("the subscription {id} changes all the time")))
}

async fn project_once(app: &App, id: &str) -> Result<(), WriteError> {
    let Some(told) = told(app, id).await? else { return Ok(()) };
    let payments = of_subscription(&app.db, id).await?;
    let now = app.clock.now();
    let Some(standing) = standing(&told, &payments, app.config.payments.grace, now) else { return Ok(()) };
    let version = crate::plans::store::version(app, &standing.plan_version).await?;
    let live = store::live(&app.db, told.user).await?;
    let found = store::of_cause(&app.db, &cause(id)).await?;
    let (plan, live) = (&version.plan.key, live.as_ref());
    let edit = match found {
        Some(of) => edits::stand(&of, plan, &standing, live, now),
        None => edits::begin_standing(told.user, &cause(id), plan, &standing, live, now),
    };
    app.writer.execute(Command::Edit(edit)).await?;
    crate::plans::limits::apply(app, told.user).await
}

/// What the facts come to; nothing as long as nothing was paid and nothing may be tried.
fn standing(told: &Told, payments: &[Payment], grace: Duration, now: Timestamp) -> Option<Standing> {
    let mut paid: Vec<&Payment> =
        payments.iter().filter(|of| of.status == PaymentStatus::Succeeded && of.period.is_some()).collect();
    paid.sort_by_key(|of| (of.period, of.created_at, of.id));
    let last = paid.last().copied();
    let trial = told.status == "trialing";
    let (plan_version, (start, end)) = match last {
        Some(of) if !trial || of.received > 0 => (of.item.clone()?, of.period?),
        _ if trial => (told.plan_version.clone()?, told.period?),
        _ => return None,
    };
    let ended = matches!(told.status.as_str(), "canceled" | "incomplete_expired" | "unpaid");
    let in_arrears = payments
        .iter()
        .any(|of| of.status == PaymentStatus::Failed && of.period.is_some_and(|(from, _)| from > start));
    let until = end.plus(grace);
    let status = if ended || until <= now {
        SubscriptionStatus::Canceled
    } else if in_arrears || told.status == "past_due" {
        SubscriptionStatus::PastDue
    } else if trial {
        SubscriptionStatus::Trialing
    } else {
        SubscriptionStatus::Active
    };
    let mut starts: Vec<Timestamp> = paid.iter().filter_map(|of| of.period.map(|(start, _)| start)).collect();
    starts.dedup();
    let n = i64::try_from(starts.len().saturating_sub(1)).unwrap_or(i64::MAX);
    Some(Standing {
        plan_version,
        status,
        period: Period { n, start, end },
        due_at: until,
        cancel_at_period_end: told.cancel_at_period_end,
        ended_at: (status == SubscriptionStatus::Canceled).then(|| told.ended_at.unwrap_or(until.min(now))),
        facts: told.facts,
    })
}
