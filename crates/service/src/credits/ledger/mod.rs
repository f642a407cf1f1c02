//! The rules of the ledger: one pure function over loaded state.
//!
//! No I/O, no clock, no randomness. Both engines load what a command needs, call [`decide`], and
//! write what it drafted. A refused command leaves the account as it was.
//!
//! What always holds (`docs/ledger.md` numbers them): nothing is spent beyond what there is and the credit
//! limit, the balance is the sum of the entries, each debit's parts sum to
//! its amount, refunds never sum to more than was spent, an ended grant's rest is never spent, and
//! what a hold has set aside is there when it is captured.
//!
//! Reading order: [`command`] (what can be asked), `draft` (an account while it is decided on),
//! [`settle`] (what the passing of time does), `debit` (spending), `credit` (giving, giving
//! back), `reversal` (taking back), `holds`.

pub mod command;
mod credit;
mod debit;
mod draft;
mod holds;
mod reversal;
pub mod settle;

pub use command::{
    Adjust, Capture, Consume, Decision, Facts, Issue, LedgerCommand, Measure, NewHold, Note, Original,
    Policy, Reclaim, Refund, Tick, Void,
};

use super::error::Rejection;
use super::model::Account;
use crate::limits;
use draft::Draft;
use kernel::Timestamp;

/// Decides one command at `now` and, if it is accepted, applies it to the account.
///
/// `now` must not be earlier than the account's last change.
///
/// # Errors
/// A [`Rejection`]; then the account is as it was.
pub fn decide(
    account: &mut Account,
    command: &LedgerCommand,
    facts: &Facts<'_>,
    now: Timestamp,
    policy: Policy,
) -> Result<Decision, Rejection> {
    if account.closed && !matches!(command, LedgerCommand::Settle) {
        return Err(Rejection::UnknownAccount);
    }
    if !settle::is_due(account, now) {
        return run(account, command, facts, now, policy);
    }
    // What time has done is kept only if the command is accepted; otherwise it is done again by the next.
    let mut later = account.clone();
    let mut settled = Draft::of(&mut later);
    settled.settle(now);
    let mut decision = settled.decision;
    // A hold that has just been charged is no longer reserved under the limits, but counted.
    let mut counters = facts.counters.cloned().unwrap_or_default();
    limits::apply(&mut counters, &decision.moves);
    let facts = Facts { counters: Some(&counters), ..facts.clone() };
    let own = run(&mut later, command, &facts, now, policy)?;
    if !own.changed && !matches!(command, LedgerCommand::Settle) {
        // It only says again what was done before, so nothing is written and the account stays as it was.
        return Ok(own);
    }
    decision.append(own);
    *account = later;
    Ok(decision)
}

/// Decides a command on an account of which nothing is due.
fn run(
    account: &mut Account,
    command: &LedgerCommand,
    facts: &Facts<'_>,
    now: Timestamp,
    policy: Policy,
) -> Result<Decision, Rejection> {
    let draft = Draft::of(account);
    match command {
        LedgerCommand::Consume(consume) => debit::consume(draft, consume, facts, now),
        LedgerCommand::Issue(issue) => credit::issue(draft, issue, facts, now),
        LedgerCommand::Refund(refund) => credit::refund(draft, refund, facts, now, policy),
        LedgerCommand::Adjust(adjust) => credit::adjust(draft, adjust, facts, now),
        LedgerCommand::Void(void) => reversal::void(draft, void, facts, now),
        LedgerCommand::Reclaim(reclaim) => reversal::reclaim(draft, reclaim, facts, now),
        LedgerCommand::Hold(new) => holds::hold(draft, new, facts, now),
        LedgerCommand::Tick(tick) => holds::tick(draft, tick, facts, now),
        LedgerCommand::Capture(capture) => holds::capture(draft, capture, facts, now),
        LedgerCommand::Release(n) => holds::release(draft, *n, facts, now),
        LedgerCommand::SetCreditLimit(limit) => Ok(draft.set(now, |account| account.credit_limit = *limit)),
        LedgerCommand::SetLimits(limits) => Ok(draft.set_limits(limits::Source::User, limits, now)),
        LedgerCommand::SetPlanLimits(limits) => Ok(draft.set_limits(limits::Source::Plan, limits, now)),
        LedgerCommand::Settle => Ok(draft.decision),
    }
}
