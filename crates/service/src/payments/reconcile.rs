//! Comparing Stripe's truth with ours, and making ours say the same.
//!
//! Whatever Stripe has is looked at as if an event had told of it: where a fact is lacking here, that is
//! a difference, and mending it is taking the object in as its event would have been.

use super::edits::{Dispute, Facts};
use super::model::{Payment, PaymentKind, PaymentStatus};
use super::settle::settle;
use super::store::{self, By};
use crate::app::App;
use crate::stripe::Client;
use crate::stripe::apply::{self, ApplyError};
use crate::stripe::object::{self, USER_ID};
use crate::subscriptions::stripe as subscriptions;
use kernel::{Credits, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;

/// How many of our payments are read at once.
const ROWS: i64 = 500;

/// One thing that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is about: Stripe's id, or our payment.
    pub about: String,
    /// What is different.
    pub what: String,
    /// What became of mending it; nothing where that was not asked for, or nothing here can mend it.
    pub mended: Option<Result<(), String>>,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many objects and payments were looked at.
    pub looked_at: usize,
    /// What is different.
    pub differences: Vec<Difference>,
}

impl Report {
    /// Whether nothing is different any more.
    #[must_use]
    pub fn is_even(&self) -> bool {
        self.differences.iter().all(|difference| matches!(difference.mended, Some(Ok(()))))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Difference { about, what, mended } in &self.differences {
            let end = match mended {
                None => String::new(),
                Some(Ok(())) => " (mended)".to_owned(),
                Some(Err(why)) => format!(" (not mended: {why})"),
            };
            writeln!(f, "{about}: {what}{end}")?;
        }
        write!(f, "{} looked at, {} different", self.looked_at, self.differences.len())
    }
}

struct Comparison<'a> {
    app: &'a App,
    stripe: &'a Client,
    fix: bool,
    since: i64,
    report: Report,
}

/// Compares all that was made since that second, and mends what is different where `fix` says so.
///
/// # Errors
/// [`ApplyError`] where Stripe or the database does not answer.
pub async fn reconcile(app: &App, stripe: &Client, since: i64, fix: bool) -> Result<Report, ApplyError> {
    let mut comparison = Comparison { app, stripe, fix, since, report: Report::default() };
    let intents = comparison.intents().await?;
    comparison.invoices().await?;
    comparison.subscriptions().await?;
    comparison.reversals().await?;
    comparison.checkouts().await?;
    comparison.ours(&intents).await?;
    Ok(comparison.report)
}

impl Comparison<'_> {
    fn created(&self) -> Value {
        json!({"created": {"gte": self.since}})
    }

    /// Notes a difference, and what became of mending it.
    async fn differs(
        &mut self,
        about: &str,
        what: String,
        mend: impl AsyncFnOnce(&App) -> Result<(), ApplyError>,
    ) {
        let mended =
            if self.fix { Some(mend(self.app).await.map_err(|error| error.to_string())) } else { None };
        self.report.differences.push(Difference { about: about.to_owned(), what, mended });
    }

    async fn intents(&mut self) -> Result<BTreeSet<String>, ApplyError> {
        let all: Vec<object::PaymentIntent> = self.stripe.list("/payment_intents", &self.created()).await?;
        let mut seen = BTreeSet::new();
        for pi in all {
            self.report.looked_at += 1;
            seen.insert(pi.id.clone());
            if pi.status != "succeeded" || !pi.metadata.contains_key(USER_ID) {
                continue;
            }
            let here = store::find(&self.app.db, By::Intent(&pi.id)).await?;
            let known = here.as_ref().is_some_and(|of| {
                of.kind == PaymentKind::Subscription
                    || (of.status == PaymentStatus::Succeeded && of.received == pi.amount_received)
            });
            if !known {
                let what = format!("{} {} came, and are not known here", pi.amount_received, pi.currency);
                self.differs(&pi.id, what, async |app| apply::intent(app, &pi).await.map(drop)).await;
            }
        }
        Ok(seen)
    }

    async fn invoices(&mut self) -> Result<(), ApplyError> {
        let mut query = self.created();
        query["status"] = "paid".into();
        let all: Vec<object::Invoice> = self.stripe.list("/invoices", &query).await?;
        for invoice in all.iter().filter(|invoice| invoice.subscription().is_some()) {
            self.report.looked_at += 1;
            let here = store::find(&self.app.db, By::Invoice(&invoice.id)).await?;
            let known = here.is_some_and(|of| {
                of.status == PaymentStatus::Succeeded
                    && of.received == invoice.amount_paid
                    && of.period.is_some()
            });
            if !known {
                let what =
                    format!("{} {} were paid, and are not known here", invoice.amount_paid, invoice.currency);
                self.differs(&invoice.id, what, async |app| {
                    apply::paid_invoice(app, invoice).await.map(drop)
                })
                .await;
            }
        }
        Ok(())
    }

    async fn subscriptions(&mut self) -> Result<(), ApplyError> {
        let all: Vec<object::Subscription> =
            self.stripe.list("/subscriptions", &json!({"status": "all"})).await?;
        for of in all {
            self.report.looked_at += 1;
            let told = subscriptions::told(self.app, &of.id).await?;
            let what = match &told {
                None => Some(format!("it is {} at Stripe, and not known here", of.status)),
                Some(told) if told.status != of.status => {
                    Some(format!("it is {} at Stripe, and here {}", of.status, or_unknown(&told.status)))
                }
                Some(told) if told.period != of.period() => Some("it is in another period here".to_owned()),
                Some(told) if told.cancel_at_period_end != of.cancel_at_period_end => {
                    Some(format!("cancel_at_period_end is {} at Stripe", of.cancel_at_period_end))
                }
                Some(_) => None,
            };
            if let Some(what) = what {
                let mend = async |app: &App| apply::subscription(app, &of, None).await.map(drop);
                self.differs(&of.id, what, mend).await;
            }
        }
        Ok(())
    }

    async fn reversals(&mut self) -> Result<(), ApplyError> {
        let charges: Vec<object::Charge> = self.stripe.list("/charges", &self.created()).await?;
        for charge in charges.iter().filter(|charge| charge.amount_refunded > 0) {
            self.report.looked_at += 1;
            let here = self.payment_of(charge.payment_intent.as_deref()).await?;
            if here.is_none_or(|of| of.refunded != charge.amount_refunded) {
                let what = format!(
                    "{} {} were given back, and not all of that is known here",
                    charge.amount_refunded, charge.currency
                );
                self.differs(&charge.id, what, async |app| {
                    apply::charge_refunded(app, charge).await.map(drop)
                })
                .await;
            }
        }
        let disputes: Vec<object::Dispute> = self.stripe.list("/disputes", &self.created()).await?;
        for dispute in &disputes {
            self.report.looked_at += 1;
            let Some(wanted) = apply::dispute_state(dispute) else { continue };
            let here = self.payment_of(dispute.payment_intent.as_deref()).await?;
            let known = here.is_some_and(|of| match wanted {
                Dispute::Open(amount) => of.disputed == amount,
                Dispute::Won => of.disputed <= 0,
            });
            if !known {
                let what = format!("the dispute is {} at Stripe", dispute.status);
                let charge = object::Charge {
                    payment_intent: dispute.payment_intent.clone(),
                    ..object::Charge::default()
                };
                let facts = Facts { disputed: Some(wanted), ..Facts::default() };
                let mend = async |app: &App| apply::reversed(app, &charge, facts).await.map(drop);
                self.differs(&dispute.id, what, mend).await;
            }
        }
        Ok(())
    }

    async fn payment_of(&self, pi: Option<&str>) -> Result<Option<Payment>, ApplyError> {
        match pi {
            Some(pi) => Ok(store::find(&self.app.db, By::Intent(pi)).await?),
            None => Ok(None),
        }
    }

    async fn checkouts(&mut self) -> Result<(), ApplyError> {
        let all: Vec<object::CheckoutSession> =
            self.stripe.list("/checkout/sessions", &self.created()).await?;
        for session in all.iter().filter(|session| session.status == "expired") {
            self.report.looked_at += 1;
            let here = store::find(&self.app.db, By::Checkout(&session.id)).await?;
            if here.is_some_and(|of| of.status == PaymentStatus::Pending) {
                let what = "nobody will pay this checkout any more".to_owned();
                self.differs(&session.id, what, async |app| {
                    apply::checkout_gone(app, session).await.map(drop)
                })
                .await;
            }
        }
        Ok(())
    }

    /// What we have and Stripe has not, and what the ledger does not say yet.
    async fn ours(&mut self, intents: &BTreeSet<String>) -> Result<(), ApplyError> {
        let since = object::seconds(self.since);
        let mut after = 0;
        loop {
            let rows = store::settled_since(&self.app.db, since, after, ROWS).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.id;
            for of in rows {
                self.report.looked_at += 1;
                let about = format!("payment {}", of.id);
                if of.kind != PaymentKind::Subscription
                    && of.payment_intent.as_ref().is_none_or(|id| !intents.contains(id))
                {
                    let what = "it came here, and Stripe does not know of it".to_owned();
                    self.report.differences.push(Difference { about: about.clone(), what, mended: None });
                }
                if let Some(what) = lacking(&of) {
                    self.differs(&about, what, async |app| Ok(settle(app, of.id).await?)).await;
                }
            }
        }
    }
}

/// What the ledger does not say yet of a payment.
fn lacking(of: &Payment) -> Option<String> {
    if of.grant.is_none() && of.due() > Credits::ZERO {
        return Some(format!("its {} credits were not given", of.due()));
    }
    let target = of.to_reclaim();
    (of.grant.is_some() && (of.reclaimed != target || of.reclaiming != of.reclaimed))
        .then(|| format!("{} of its credits are to have been taken back, and {} were", target, of.reclaimed))
}

fn or_unknown(status: &str) -> &str {
    if status.is_empty() { "unknown" } else { status }
}

/// The second that lies so many days back.
#[must_use]
pub fn days_ago(now: Timestamp, days: u32) -> i64 {
    now.seconds().saturating_sub(i64::from(days) * 24 * 60 * 60).max(0)
}
