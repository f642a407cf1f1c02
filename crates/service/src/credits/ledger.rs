//! The rules of the ledger: one pure function over loaded state.
//!
//! No I/O, no clock, no randomness. Both engines load what a command needs, call [`decide`], and
//! write what it drafted. A refused command leaves the account as it was.
//!
//! What always holds (`docs/ledger.md` numbers them): what can be spent never falls below zero,
//! the balance is the sum of the entries, each debit's parts sum to its amount, refunds never sum
//! to more than was spent, and an ended grant's rest is never spent.

use super::error::Rejection;
use super::model::{Account, Cause, Entry, EntryKind, Grant, OPEN_GRANTS_MAX, Origin, Source};
use kernel::{Credits, JsonObject, Timestamp, UserRowId};
use std::time::Duration;

/// What can be asked of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerCommand {
    /// Spend credits.
    Consume(Consume),
    /// Give credits.
    Issue(Issue),
    /// Give spent credits back.
    Refund(Refund),
    /// Write down the expiries that are due.
    Settle,
}

/// What every command that writes an entry may say about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// The caller's words.
    pub description: Option<String>,
    /// The caller's data.
    pub metadata: JsonObject,
    /// Who asked.
    pub origin: Origin,
}

/// Spend `amount`, which is more than zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consume {
    /// How much.
    pub amount: Credits,
    /// For which usage record; it need not exist, but must not be another user's.
    pub usage_record_id: Option<i64>,
    /// What to write beside it.
    pub note: Note,
}

/// Give `amount`, which is more than zero, as a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// `Recharge` or `Grant`.
    pub kind: EntryKind,
    /// How much.
    pub amount: Credits,
    /// Where it comes from.
    pub source: Source,
    /// When it is spent, 0 first.
    pub priority: i64,
    /// From when on; now when absent.
    pub effective_at: Option<Timestamp>,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// Applied once for ever.
    pub reference_id: Option<String>,
    /// What to write beside it.
    pub note: Note,
}

/// Give back what an entry spent, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The entry.
    pub original: kernel::TransactionId,
    /// How much; all that is left to refund when absent.
    pub amount: Option<Credits>,
    /// What to write beside it.
    pub note: Note,
}

/// What the engines look up beside the account.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// The entry that the command's reference was applied to.
    pub reference: Option<&'a Entry>,
    /// The entry to refund.
    pub original: Option<&'a Original>,
    /// Whose the usage record is.
    pub usage_owner: Option<UserRowId>,
}

/// An entry that is to be refunded, with what bears on it.
#[derive(Debug, Clone)]
pub struct Original {
    /// The entry.
    pub entry: Entry,
    /// What was already refunded.
    pub refunded: Credits,
    /// The grants that paid for it, as they stand.
    pub grants: Vec<Grant>,
}

/// What configuration decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a grant lives that replaces credits whose grant had ended before the refund.
    pub refund_life: Option<Duration>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// The entries to write, in order; the command's own is the last.
    pub entries: Vec<Entry>,
    /// The grants to write, as they now stand.
    pub grants: Vec<Grant>,
    /// The entry that the same reference made before; then there is nothing to write.
    pub existing: Option<Entry>,
}

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
    match command {
        LedgerCommand::Consume(consume) => decide_consume(account, consume, facts, now),
        LedgerCommand::Issue(issue) => decide_issue(account, issue, facts, now),
        LedgerCommand::Refund(refund) => decide_refund(account, refund, facts, now, policy),
        LedgerCommand::Settle => {
            let mut decision = Decision::default();
            settle(account, now, &mut decision);
            Ok(decision)
        }
    }
}

fn decide_consume(
    account: &mut Account,
    consume: &Consume,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if facts.usage_owner.is_some_and(|owner| owner != account.user) {
        return Err(Rejection::ForeignUsage);
    }
    let available = account.available(now);
    if available < consume.amount {
        return Err(Rejection::Insufficient { available, required: consume.amount });
    }
    let mut decision = Decision::default();
    settle(account, now, &mut decision);
    let funded_by = spend(account, consume.amount, now, &mut decision);
    let cause = Cause { usage_record_id: consume.usage_record_id, ..Cause::default() };
    let draft = Draft { kind: EntryKind::Consume, amount: -consume.amount, cause, funded_by, grant: None };
    append(account, draft, &consume.note, now, &mut decision);
    Ok(decision)
}

fn decide_issue(
    account: &mut Account,
    issue: &Issue,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if let Some(entry) = facts.reference {
        return if entry.kind == issue.kind && entry.amount == issue.amount {
            Ok(Decision { existing: Some(entry.clone()), ..Decision::default() })
        } else {
            Err(Rejection::ReferenceTaken { transaction_id: entry.transaction_id().to_string() })
        };
    }
    let effective_at = issue.effective_at.unwrap_or(now);
    if issue.expires_at.is_some_and(|end| end <= effective_at || end <= now) {
        return Err(Rejection::BadPeriod);
    }
    let credits_total = account.credits_total.checked_add(issue.amount).ok_or(Rejection::TooMuch)?;
    account.balance.checked_add(issue.amount).ok_or(Rejection::TooMuch)?;
    if open_grants(account, now) >= OPEN_GRANTS_MAX {
        return Err(Rejection::TooManyGrants);
    }

    let mut decision = Decision::default();
    settle(account, now, &mut decision);
    account.credits_total = credits_total;
    let grant = Grant {
        seq: account.seq + 1,
        source: issue.source,
        amount: issue.amount,
        remaining: issue.amount,
        priority: issue.priority,
        effective_at,
        expires_at: issue.expires_at,
    };
    let cause = Cause { reference_id: issue.reference_id.clone(), ..Cause::default() };
    let draft =
        Draft { kind: issue.kind, amount: issue.amount, cause, funded_by: Vec::new(), grant: Some(grant) };
    append(account, draft, &issue.note, now, &mut decision);
    Ok(decision)
}

fn decide_refund(
    account: &mut Account,
    refund: &Refund,
    facts: &Facts<'_>,
    now: Timestamp,
    policy: Policy,
) -> Result<Decision, Rejection> {
    let original = facts
        .original
        .filter(|original| original.entry.user == account.user)
        .ok_or_else(|| Rejection::UnknownTransaction(refund.original.to_string()))?;
    let entry = &original.entry;
    if !matches!(entry.kind, EntryKind::Consume | EntryKind::Capture) {
        return Err(Rejection::NotRefundable(entry.kind.as_str()));
    }
    let refundable = Credits::from_micro(entry.amount.abs().micro() - original.refunded.micro());
    let amount = refund.amount.unwrap_or(refundable);
    if amount > refundable || amount <= Credits::ZERO {
        return Err(Rejection::RefundExceeds { refundable });
    }
    account.balance.checked_add(amount).ok_or(Rejection::TooMuch)?;
    // What comes back may open a grant again or become a new one.
    if open_grants(account, now) >= OPEN_GRANTS_MAX {
        return Err(Rejection::TooManyGrants);
    }

    let mut decision = Decision::default();
    settle(account, now, &mut decision);
    let (funded_by, ended) = give_back(account, original, amount, now, &mut decision);
    let grant = (ended > Credits::ZERO).then(|| Grant {
        seq: account.seq + 1,
        source: Source::Refund,
        amount: ended,
        remaining: ended,
        priority: 0,
        effective_at: now,
        expires_at: policy.refund_life.map(|life| now.plus(life)),
    });
    let cause =
        Cause { reverses: Some(entry.seq), usage_record_id: entry.cause.usage_record_id, ..Cause::default() };
    let draft = Draft { kind: EntryKind::Refund, amount, cause, funded_by, grant };
    append(account, draft, &refund.note, now, &mut decision);
    Ok(decision)
}

/// How many grants have something left, those left out whose time is over.
fn open_grants(account: &Account, now: Timestamp) -> usize {
    account.grants.iter().filter(|grant| !grant.expired(now)).count()
}

/// Writes down every expiry that is due, each at its own instant.
fn settle(account: &mut Account, now: Timestamp, decision: &mut Decision) {
    if !account.grants.iter().any(|grant| grant.expired(now)) {
        return;
    }
    let (mut due, open): (Vec<_>, Vec<_>) =
        std::mem::take(&mut account.grants).into_iter().partition(|grant| grant.expired(now));
    account.grants = open;
    due.sort_by_key(|grant| (grant.expires_at, grant.seq));
    let note = Note { origin: Origin { actor: "system".to_owned(), ..Origin::default() }, ..Note::default() };
    for mut grant in due {
        let rest = std::mem::take(&mut grant.remaining);
        let draft = Draft {
            kind: EntryKind::Expire,
            amount: -rest,
            cause: Cause::default(),
            funded_by: vec![(grant.seq, rest)],
            grant: None,
        };
        let at = grant.expires_at.unwrap_or(now);
        touch(decision, &grant);
        append(account, draft, &note, at, decision);
    }
}

/// Takes `amount` from the usable grants in the order of spending; there must be enough.
fn spend(
    account: &mut Account,
    amount: Credits,
    now: Timestamp,
    decision: &mut Decision,
) -> Vec<(i64, Credits)> {
    let mut due = amount.micro();
    let mut funded_by = Vec::with_capacity(1);
    for grant in account.grants.iter_mut().filter(|grant| grant.usable(now)) {
        let part = due.min(grant.remaining.micro());
        due -= part;
        grant.remaining = Credits::from_micro(grant.remaining.micro() - part);
        funded_by.push((grant.seq, Credits::from_micro(part)));
        touch(decision, grant);
        if due == 0 {
            break;
        }
    }
    assert_eq!(due, 0, "available covers the amount, so the usable grants do");
    account.grants.retain(|grant| grant.remaining > Credits::ZERO);
    funded_by
}

/// Returns `amount` to the grants that paid, those spent last first; also says how much was of
/// grants that have ended.
fn give_back(
    account: &mut Account,
    original: &Original,
    amount: Credits,
    now: Timestamp,
    decision: &mut Decision,
) -> (Vec<(i64, Credits)>, Credits) {
    // Earlier refunds took the same way, so the first `refunded` credits of it are already back.
    let (mut skip, mut due) = (original.refunded.micro(), amount.micro());
    let (mut back, mut ended) = (Vec::new(), 0);
    for (seq, part) in original.entry.funded_by.iter().rev() {
        let skipped = skip.min(part.micro());
        skip -= skipped;
        let part = due.min(part.micro() - skipped);
        if part == 0 {
            continue;
        }
        due -= part;
        let standing = account.grants.iter().position(|grant| grant.seq == *seq);
        let grant = match standing {
            Some(at) => Some(account.grants.remove(at)),
            None => original
                .grants
                .iter()
                .find(|grant| grant.seq == *seq)
                .map(|grant| Grant { remaining: Credits::ZERO, ..grant.clone() }),
        };
        match grant {
            Some(mut grant) if !grant.expired(now) => {
                grant.remaining = Credits::from_micro(grant.remaining.micro() + part);
                touch(decision, &grant);
                account.insert_grant(grant);
                back.push((*seq, Credits::from_micro(part)));
            }
            _ => ended += part,
        }
    }
    (back, Credits::from_micro(ended))
}

/// Notes how a grant stands; the last word of a command counts.
fn touch(decision: &mut Decision, grant: &Grant) {
    match decision.grants.iter_mut().find(|other| other.seq == grant.seq) {
        Some(other) => *other = grant.clone(),
        None => decision.grants.push(grant.clone()),
    }
}

/// What an entry says beside what it is noted with.
struct Draft {
    kind: EntryKind,
    amount: Credits,
    cause: Cause,
    funded_by: Vec<(i64, Credits)>,
    grant: Option<Grant>,
}

/// Appends an entry, and puts the grant that it issues into the account.
fn append(account: &mut Account, draft: Draft, note: &Note, at: Timestamp, decision: &mut Decision) {
    let before = account.balance;
    account.seq += 1;
    account.balance = Credits::from_micro(before.micro() + draft.amount.micro());
    account.updated_at = at;
    decision.entries.push(Entry {
        user: account.user,
        seq: account.seq,
        id: 0,
        kind: draft.kind,
        amount: draft.amount,
        balance_before: before,
        balance_after: account.balance,
        cause: draft.cause,
        description: note.description.clone(),
        metadata: note.metadata.clone(),
        funded_by: draft.funded_by,
        grant: draft.grant.as_ref().map(Grant::terms),
        origin: note.origin.clone(),
        created_at: at,
        prev_hash: [0; 32],
        hash: [0; 32],
    });
    if let Some(grant) = draft.grant {
        touch(decision, &grant);
        account.insert_grant(grant);
    }
}
