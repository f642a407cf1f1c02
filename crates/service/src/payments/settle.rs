//! Making the ledger say what the money says: credits for what came, and back again for what went back.
//!
//! A payment's row holds the facts; this brings the account in line with them, step by step. Each step
//! has a name of its own in the ledger and is written down before it is done, so it happens once,
//! however often and in how many processes this runs.

use super::edits;
use super::model::{Payment, PaymentKind};
use super::store::{self, By};
use crate::app::App;
use crate::credits::Rejection;
use crate::credits::ledger::{Issue, LedgerCommand, Note, Reclaim};
use crate::credits::model::{EntryKind, Origin, Source};
use crate::plans;
use crate::writer::{Command, Done, WriteError};
use kernel::{Credits, JsonObject, Timestamp};

/// More steps than facts can ask for at once; the next event goes on.
const STEPS_MAX: usize = 16;
/// How many payments the job settles in one go.
const AT_ONCE: i64 = 100;

/// Brings the account in line with what is known of a payment.
///
/// # Errors
/// [`WriteError`]; what was begun is finished the next time.
pub async fn settle(app: &App, id: i64) -> Result<(), WriteError> {
    for _ in 0..STEPS_MAX {
        let Some(of) = store::find(&app.db, By::Id(id)).await? else { return Ok(()) };
        let now = app.clock.now();
        let edit = if of.grant.is_none() {
            if of.granted > Credits::ZERO {
                give(app, &of, now).await?
            } else if of.due() > Credits::ZERO {
                edits::granting(&of, of.due(), now)
            } else {
                return Ok(());
            }
        } else if of.reclaiming == of.reclaimed {
            let target = of.to_reclaim();
            if target == of.reclaimed {
                return Ok(());
            }
            edits::reclaiming(&of, target, now)
        } else {
            let Step { owed, back } = step(app, &of).await?;
            if owed > Credits::ZERO {
                tracing::warn!(payment = of.id, %owed, "money went back whose credits were spent; the account owes them");
            }
            edits::reclaimed(&of, owed, back, now)
        };
        app.writer.execute(Command::Edit(edit)).await?;
    }
    Ok(())
}

/// Settles what was learned while an account was closed and is open again, or what broke off; one that cannot be
/// settled does not hold up the others.
///
/// # Errors
/// The last of them, for the log.
pub async fn sweep(app: &App) -> Result<(), WriteError> {
    let (mut after, mut failed) = (0, None);
    loop {
        let rows = store::unsettled(&app.db, after, AT_ONCE).await?;
        let Some(last) = rows.last() else { return failed.map_or(Ok(()), Err) };
        after = last.id;
        for of in rows {
            failed = settle(app, of.id).await.err().or(failed);
        }
    }
}

/// Gives the credits of the money that came.
async fn give(app: &App, of: &Payment, now: Timestamp) -> Result<crate::writer::Edit, WriteError> {
    let mut issue = issue(of, of.granted, format!("stripe:payment:{}", of.id));
    if of.kind == PaymentKind::Subscription {
        let (Some((_, end)), Some(version)) = (of.period, &of.item) else {
            return Err(WriteError::Internal(format!("payment {} does not say what it pays for", of.id)));
        };
        let version = plans::store::version(app, version).await?;
        issue.kind = EntryKind::Grant;
        issue.source = Source::Plan;
        issue.expires_at = Some(end);
        issue.rollover = version.plan.rollover;
        issue.note.description = Some(format!("Plan {}", version.plan.name));
    }
    match grant(app, of, issue).await {
        Ok(grant) => Ok(edits::granted(of, grant, of.granted, now)),
        // What was paid for is over before it was given: there is nothing to use any more.
        Err(WriteError::Credits(Rejection::BadPeriod)) => Ok(edits::granted(of, 0, Credits::ZERO, now)),
        Err(error) => Err(error),
    }
}

fn issue(of: &Payment, amount: Credits, reference_id: String) -> Issue {
    Issue {
        kind: EntryKind::Recharge,
        amount,
        source: Source::Purchase,
        priority: 0,
        effective_at: None,
        expires_at: None,
        scope: None,
        rollover: None,
        reference_id: Some(reference_id),
        note: note(of, "Payment received"),
    }
}

fn note(of: &Payment, description: &str) -> Note {
    Note {
        description: Some(description.to_owned()),
        metadata: JsonObject::default().with_member("payment_id", &of.id.to_string()),
        origin: Origin { actor: "stripe".to_owned(), ..Origin::default() },
    }
}

async fn grant(app: &App, of: &Payment, issue: Issue) -> Result<i64, WriteError> {
    match app.writer.execute(Command::Ledger(of.user, LedgerCommand::Issue(issue))).await? {
        Done::Entry { entry, .. } => Ok(entry.seq),
        other => Err(WriteError::Internal(format!("an issue was answered with {other:?}"))),
    }
}

/// What a step came to.
struct Step {
    /// What was spent before it could be taken back.
    owed: Credits,
    /// The grant that gave back.
    back: Option<i64>,
}

/// Takes back, or gives back, what the step says.
async fn step(app: &App, of: &Payment) -> Result<Step, WriteError> {
    let reference = format!("stripe:payment:{}:{}", of.id, of.step);
    let micro = of.reclaiming.micro() - of.reclaimed.micro();
    if micro < 0 {
        let back = grant(app, of, issue(of, Credits::from_micro(-micro), reference)).await?;
        return Ok(Step { owed: Credits::ZERO, back: Some(back) });
    }
    let amount = Credits::from_micro(micro);
    let (mut taken, mut owed) =
        take(app, of, of.grant.unwrap_or_default(), amount, reference.clone()).await?;
    // What was taken before and given back stands in a grant of its own.
    if let Some(back) = of.back.filter(|_| taken < amount) {
        let rest = Credits::from_micro(amount.micro() - taken.micro());
        let more = take(app, of, back, rest, format!("{reference}:back")).await?;
        taken = Credits::from_micro(taken.micro() + more.0.micro());
        owed = Credits::from_micro(owed.micro() + more.1.micro());
    }
    if taken < amount {
        // The rest was taken back by hand.
        tracing::warn!(payment = of.id, %amount, %taken, "less can be taken back than money went back");
    }
    Ok(Step { owed, back: None })
}

/// Takes back what a grant gave, or as much as can be; what was taken, and what of it is owed.
async fn take(
    app: &App,
    of: &Payment,
    grant: i64,
    mut amount: Credits,
    reference_id: String,
) -> Result<(Credits, Credits), WriteError> {
    while amount > Credits::ZERO {
        let (reference_id, note) = (reference_id.clone(), note(of, "Money given back"));
        let reclaim = LedgerCommand::Reclaim(Reclaim { grant, amount, reference_id, note });
        match app.writer.execute(Command::Ledger(of.user, reclaim)).await {
            Ok(Done::Entry { entry, .. }) => return Ok((-entry.amount, owed(&entry))),
            Err(WriteError::Credits(Rejection::ReclaimExceeds { reclaimable })) => amount = reclaimable,
            Ok(other) => return Err(WriteError::Internal(format!("a reclaim was answered with {other:?}"))),
            Err(error) => return Err(error),
        }
    }
    Ok((Credits::ZERO, Credits::ZERO))
}

/// What an entry took from no grant.
fn owed(entry: &crate::credits::Entry) -> Credits {
    entry.funded_by.iter().find(|(grant, _)| *grant == 0).map_or(Credits::ZERO, |(_, part)| *part)
}
