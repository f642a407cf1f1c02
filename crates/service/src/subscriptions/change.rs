//! Beginning a subscription, turning its periods, and giving each period's credits once.
//!
//! A period is written down first and its credits are given then; `due_at` says whether
//! that was done. Whatever breaks off in between is found by it, and the grant's reference keeps it from
//! being given twice.

use super::edits::{self, Replaces};
use super::model::{Subscription, SubscriptionProvider, SubscriptionStatus};
use super::period::Period;
use super::{store, stripe};
use crate::app::App;
use crate::credits::Rejection;
use crate::credits::ledger::{Issue, LedgerCommand, Note};
use crate::credits::model::{EntryKind, Origin, Source};
use crate::db::DbError;
use crate::plans::{self, Version};
use crate::writer::{Command, Done, WriteError};
use kernel::{Credits, Timestamp, UserRowId};

/// What to begin.
#[derive(Debug, Clone, Copy)]
pub struct Begin<'a> {
    /// For whom.
    pub user: UserRowId,
    /// Which plan.
    pub version: &'a Version,
    /// Who says when it ends.
    pub provider: SubscriptionProvider,
    /// When its periods begin.
    pub anchor: Timestamp,
    /// It is not renewed past it.
    pub ends_at: Option<Timestamp>,
    /// What it takes the place of.
    pub replaces: Replaces,
    /// Why it begins: once for ever, where it is said.
    pub cause: Option<&'a str>,
}

/// Ends the plan of a user that goes, whoever it is that renews it; others are told that it is over.
///
/// # Errors
/// [`WriteError`].
pub async fn end_now(app: &App, user: UserRowId, at: Timestamp) -> Result<(), WriteError> {
    match store::live(&app.db, user).await? {
        Some(of) => unless_done(app.writer.execute(Command::Edit(edits::cancel(&of, at))).await),
        None => Ok(()),
    }
}

/// Begins a subscription, and gives its first credits.
///
/// # Errors
/// [`WriteError::Refused`] where what it replaces is not what there is, or its cause began one before.
pub async fn begin(app: &App, begin: Begin<'_>) -> Result<Subscription, WriteError> {
    let now = app.clock.now();
    let mut new = Subscription {
        id: 0,
        user: begin.user,
        plan: begin.version.plan.key.clone(),
        plan_version: begin.version.id.clone(),
        provider: begin.provider,
        status: SubscriptionStatus::Active,
        anchor: begin.anchor,
        period: period(begin.anchor, begin.version, begin.ends_at, now),
        due_at: Timestamp::default(),
        ends_at: begin.ends_at,
        cancel_at_period_end: false,
        canceled_at: None,
        next_plan_version: None,
        created_at: now,
        updated_at: now,
    };
    let live = store::live(&app.db, new.user).await?;
    if let Replaces::This(id) = begin.replaces
        && live.as_ref().is_none_or(|live| live.id != id)
    {
        return Err(WriteError::Refused(0));
    }
    let edit = edits::begin(&new, begin.replaces, live.as_ref(), begin.cause, now);
    if let Done::Edited(Some(id)) = app.writer.execute(Command::Edit(edit)).await? {
        new.id = id;
    }
    plans::limits::apply(app, new.user).await?;
    give(app, &new, begin.version).await?;
    Ok(new)
}

/// The period at `now`, cut off where the subscription ends.
fn period(anchor: Timestamp, version: &Version, ends_at: Option<Timestamp>, now: Timestamp) -> Period {
    let period = Period::at(anchor, version.plan.duration_days, now);
    Period { end: ends_at.map_or(period.end, |end| end.min(period.end)), ..period }
}

/// Does what time asks of a subscription: it ends, becomes another, or turns to the period that it is in now.
///
/// # Errors
/// [`WriteError`]; what was begun is finished the next time.
pub async fn turn(app: &App, mut of: Subscription) -> Result<(), WriteError> {
    let now = app.clock.now();
    if of.provider == SubscriptionProvider::Stripe {
        let id = store::stripe_id(&app.db, of.id).await?;
        return match id {
            Some(id) => stripe::project(app, &id).await,
            None => Err(WriteError::Internal(format!("subscription {} does not name Stripe's", of.id))),
        };
    }
    if of.period.end <= now {
        if of.is_over(now) {
            unless_done(app.writer.execute(Command::Edit(edits::cancel(&of, now))).await)?;
            return plans::limits::apply(app, of.user).await;
        }
        if let Some(next) = &of.next_plan_version {
            let version = plans::store::version(app, next).await?;
            let next = Begin {
                user: of.user,
                version: &version,
                // An admin said so.
                provider: SubscriptionProvider::Manual,
                anchor: of.period.end,
                ends_at: of.ends_at,
                replaces: Replaces::This(of.id),
                cause: None,
            };
            return unless_done(begin(app, next).await);
        }
        let version = plans::store::version(app, &of.plan_version).await?;
        let next = period(of.anchor, &version, of.ends_at, now);
        match app.writer.execute(Command::Edit(edits::renew(&of, next, now))).await {
            Ok(_) => (of.period, of.due_at) = (next, Timestamp::default()),
            // It is over, or another process turned it and gives its credits.
            Err(WriteError::Refused(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    if !of.has_given() {
        let version = plans::store::version(app, &of.plan_version).await?;
        plans::limits::apply(app, of.user).await?;
        give(app, &of, &version).await?;
    }
    Ok(())
}

/// Another process may have done the same a moment ago.
fn unless_done<T>(done: Result<T, WriteError>) -> Result<(), WriteError> {
    match done {
        Ok(_) | Err(WriteError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives the credits of its current period, once, and notes that.
async fn give(app: &App, of: &Subscription, version: &Version) -> Result<(), WriteError> {
    let plan = &version.plan;
    let unavailable = |error: DbError| WriteError::Unavailable(error.to_string());
    // The welcome credits are those of the first free period.
    let welcomed = of.provider == SubscriptionProvider::Free
        && of.period.n == 0
        && store::was_welcomed(&app.db, of.user).await.map_err(unavailable)?;
    if plan.credits() > Credits::ZERO && !welcomed && of.period.end > app.clock.now() {
        let issue = Issue {
            kind: EntryKind::Grant,
            amount: plan.credits(),
            source: Source::Plan,
            priority: 0,
            effective_at: None,
            expires_at: Some(of.period.end),
            scope: None,
            rollover: plan.rollover,
            reference_id: Some(of.reference(of.period.n)),
            note: Note {
                description: Some(format!("Plan {}, period {}", plan.name, of.period.n + 1)),
                origin: Origin { actor: "system".to_owned(), ..Origin::default() },
                ..Note::default()
            },
        };
        match app.writer.execute(Command::Ledger(of.user, LedgerCommand::Issue(issue))).await {
            // The period's credits were given under the plan that the user had then.
            Ok(_) | Err(WriteError::Credits(Rejection::ReferenceTaken { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    app.writer.execute(Command::Edit(edits::granted(of))).await.map(drop)
}
