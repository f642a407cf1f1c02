//! What the entries of an account say, from the first to the last.

use super::compare::{compare_expiries, compare_grants, compare_lists};
use super::holds::compare_holds;
use super::reversal::{may_take_back, reclaims};
use super::snapshot::{Numbered, Snapshot};
use super::{Halt, Report, fault};
use crate::credits::chain;
use crate::credits::context::Context;
use crate::credits::model::{Account, Entry, EntryKind, Grant};
use crate::credits::reseal::Seam;
use crate::credits::rows::{Sealed, entry_columns};
use crate::db::{DbError, FromRow, Row};
use kernel::{Credits, Timestamp, UserRowId};
use std::collections::BTreeMap;

/// How many entries are read at once.
const ENTRIES_AT_ONCE: i64 = 5_000;

/// What the entries say so far.
pub(super) struct Replay {
    pub(super) user: UserRowId,
    pub(super) seq: i64,
    pub(super) balance: Credits,
    pub(super) credits_total: Credits,
    pub(super) head: [u8; 32],
    pub(super) at: Timestamp,
    pub(super) grants: BTreeMap<i64, Grant>,
    pub(super) references: Vec<(String, i64)>,
    /// What was spent by each entry that can be refunded, less its refunds.
    pub(super) refundable: BTreeMap<i64, i64>,
    pub(super) refunds: Vec<(i64, i64)>,
    /// What was spent of the credit limit and not paid back.
    pub(super) owed: i64,
    /// What charged each hold that was charged.
    pub(super) captures: BTreeMap<String, Capture>,
    /// How much of each grant rolled over.
    rolled: BTreeMap<i64, i64>,
    /// How much of each grant was taken back.
    pub(super) reversed: BTreeMap<i64, i64>,
    /// Where the chain was sealed anew, if its user is erased.
    seam: Option<Seam>,
}

/// An entry that charged a hold.
pub(super) struct Capture {
    pub(super) seq: i64,
    pub(super) amount: Credits,
    /// What of it was of grants that had ended: `(seq, part)`.
    pub(super) ended: Vec<(i64, Credits)>,
}

const ENTRIES: Numbered = Numbered {
    table: "credit_entries",
    prefix: "txn",
    rows: concat!(
        "SELECT ",
        entry_columns!(),
        ", counter_account FROM credit_entries WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
    ),
    keys: "SELECT seq FROM credit_entries WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
    one: concat!(
        "SELECT ",
        entry_columns!(),
        ", counter_account FROM credit_entries WHERE user_id = $1 AND seq = $2"
    ),
};

/// Replays an account and compares what comes out with the stored rows.
pub(super) async fn replay(
    snapshot: &mut Snapshot,
    stored: Sealed<Account>,
    seam: Option<&Seam>,
    report: &mut Report,
) -> Result<(), Halt> {
    let account = &stored.row;
    let mut replay = Replay {
        user: account.user,
        seq: 0,
        balance: Credits::ZERO,
        credits_total: Credits::ZERO,
        head: [0; 32],
        at: Timestamp::default(),
        grants: BTreeMap::new(),
        references: Vec::new(),
        refundable: BTreeMap::new(),
        refunds: Vec::new(),
        owed: 0,
        captures: BTreeMap::new(),
        rolled: BTreeMap::new(),
        reversed: BTreeMap::new(),
        seam: seam.copied(),
    };
    loop {
        let values = [account.user.0, replay.seq, ENTRIES_AT_ONCE];
        let rows = snapshot.numbered::<StoredEntry>(&ENTRIES, &values).await?;
        if rows.is_empty() {
            break;
        }
        for stored in rows {
            replay.entry(&stored)?;
            report.entries += 1;
        }
    }
    replay.compare(&stored)?;
    compare_grants(snapshot, &replay).await?;
    compare_lists(snapshot, &replay).await?;
    let held = compare_holds(snapshot, &replay, account).await?;
    compare_expiries(snapshot, &replay, &held).await?;
    report.accounts += 1;
    report.resealed += u64::from(seam.is_some());
    report.balance = report.balance.checked_add(account.balance).unwrap_or(report.balance);
    Ok(())
}

/// An entry with the texts as they are stored: the column that its type already says, and those
/// that are read into values, of which the hash covers only the values.
struct StoredEntry {
    entry: Entry,
    counter_account: String,
    funded_by: String,
    grant_terms: Option<String>,
    basis: Option<String>,
}

impl FromRow for StoredEntry {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            entry: Entry::from_row(row)?,
            counter_account: row.text(22)?,
            funded_by: row.text(13)?,
            grant_terms: row.optional_text(14)?,
            basis: row.optional_text(21)?,
        })
    }
}

impl Replay {
    fn entry(&mut self, stored: &StoredEntry) -> Result<(), Halt> {
        let entry = &stored.entry;
        let bad = |rule: &str| fault("credit_entries", entry.transaction_id(), rule);
        if entry.seq != self.seq + 1 {
            return bad("the entry before it is missing");
        }
        // Behind the seam the old chain goes on, until it is sealed anew too.
        let seam = self.seam.filter(|seam| seam.entries == self.seq);
        if entry.prev_hash != self.head && seam.is_none_or(|seam| entry.prev_hash != seam.old_head) {
            return bad("prev_hash is not the hash of the entry before it");
        }
        if entry.hash != chain::hash(entry) {
            return bad("hash is not the hash of the row");
        }
        if self.seam.is_some_and(|seam| seam.entries == entry.seq && seam.new_head != entry.hash) {
            return fault(
                "erasures",
                format!("of user {}", self.user),
                "new_head is not the hash of that entry",
            );
        }
        if entry.kind.counter_account() != stored.counter_account {
            return bad("counter_account is not that of its type");
        }
        if chain::funded_by_text(&entry.funded_by) != stored.funded_by
            || chain::grant_terms_text(entry) != stored.grant_terms
            || chain::basis_text(entry) != stored.basis
        {
            return bad("funded_by, grant_terms or basis is not written as it was hashed");
        }
        if entry.balance_before != self.balance {
            return bad("balance_before is not the balance_after of the entry before it");
        }
        if entry.balance_before.checked_add(entry.amount) != Some(entry.balance_after) {
            return bad("balance_after is not balance_before and amount together");
        }
        if entry.created_at < self.at {
            return bad("it happened before the entry before it");
        }
        self.move_grants(entry)?;
        self.seq = entry.seq;
        self.balance = entry.balance_after;
        self.head = entry.hash;
        self.at = entry.created_at;
        self.references.extend(entry.cause.reference_id.clone().map(|reference| (reference, entry.seq)));
        Ok(())
    }

    /// Does to the grants, and to what is owed, what the entry says that it did.
    fn move_grants(&mut self, entry: &Entry) -> Result<(), Halt> {
        let bad = |rule: &str| fault("credit_entries", entry.transaction_id(), rule);
        let parts: i64 = entry.funded_by.iter().map(|(_, part)| part.micro()).sum();
        let issued = entry.grant.as_ref().map_or(0, |terms| terms.amount);
        let amount = entry.amount.micro();
        let fits = match entry.kind {
            EntryKind::Recharge | EntryKind::Grant => amount > 0 && issued == amount && parts == 0,
            EntryKind::Consume | EntryKind::Capture => amount < 0 && parts == -amount && issued == 0,
            EntryKind::Expire => amount <= 0 && parts - issued == -amount && entry.funded_by.len() == 1,
            EntryKind::Refund => amount > 0 && parts + issued == amount,
            EntryKind::Reversal => amount < 0 && parts == -amount && issued == 0,
            EntryKind::Adjust if amount > 0 => issued == amount && parts == 0,
            // An adjustment of nothing pays back what is owed.
            EntryKind::Adjust => issued == 0 && parts > 0 && (amount == 0 || parts == -amount),
        };
        if !fits {
            return bad("funded_by and the issued grant do not sum to amount");
        }
        for (seq, part) in &entry.funded_by {
            if part.micro() <= 0 {
                return bad("a part of it is nothing");
            }
            if *seq == 0 {
                self.owe(entry, part.micro())?;
            } else {
                self.move_grant(entry, *seq, part.micro())?;
            }
        }
        if entry.kind == EntryKind::Adjust && amount == 0 {
            self.owed -= parts;
        }
        if self.owed < 0 {
            return bad("it pays back more than was owed");
        }
        self.note_cause(entry)?;
        if let Some(terms) = &entry.grant {
            self.grants.insert(entry.seq, Grant::issued(entry.seq, terms));
        }
        Ok(())
    }

    /// What an entry took of the credit limit, or gave back to it.
    fn owe(&mut self, entry: &Entry, part: i64) -> Result<(), Halt> {
        match entry.kind {
            EntryKind::Consume | EntryKind::Capture | EntryKind::Adjust if entry.amount < Credits::ZERO => {
                self.owed += part;
            }
            EntryKind::Reversal if reclaims(entry) => self.owed += part,
            EntryKind::Refund => self.owed -= part,
            _ => {
                return fault(
                    "credit_entries",
                    entry.transaction_id(),
                    "it is nothing that a credit limit pays for",
                );
            }
        }
        Ok(())
    }

    fn move_grant(&mut self, entry: &Entry, seq: i64, part: i64) -> Result<(), Halt> {
        let bad = |rule: &str| fault("credit_entries", entry.transaction_id(), rule);
        let Some(grant) = self.grants.get_mut(&seq) else {
            return bad("funded_by names a grant that was never issued");
        };
        let (ends, ended) = (entry.kind == EntryKind::Expire, grant.expired(entry.created_at));
        if ends && !ended {
            return bad("it ends a grant before its time");
        }
        // What a hold has set aside outlives its grant, until the hold is captured.
        if ended && !ends && entry.cause.hold_id.is_none() {
            return bad("it uses a grant that has ended");
        }
        let nothing = Context::default();
        let context = entry.basis.as_ref().map_or(&nothing, |basis| &basis.context);
        let spends = matches!(entry.kind, EntryKind::Consume | EntryKind::Capture | EntryKind::Adjust);
        if spends && grant.scope.as_ref().is_some_and(|scope| !scope.covers(context)) {
            return bad("it uses a grant that is not for this");
        }
        if spends && grant.effective_at > entry.created_at {
            return bad("it uses a grant that has not begun");
        }
        if let (true, Some(rolled)) = (ends, &entry.grant) {
            // Some of it may have rolled over before, and the rest was held until now.
            let all = self.rolled.entry(seq).or_default();
            *all += rolled.amount;
            if grant.rollover.is_none_or(|rollover| *all > rollover.max) {
                return bad("more rolls over than the grant allows");
            }
        }
        let gives_back = entry.kind == EntryKind::Refund;
        let remaining = grant.remaining.micro() + if gives_back { part } else { -part };
        let reversed = self.reversed.get(&seq).copied().unwrap_or(0);
        // What was taken back of a grant is never in it again.
        let most = grant.amount.micro() - if gives_back { reversed } else { 0 };
        if remaining < 0 || remaining > most || (gives_back && grant.voided) {
            return bad("a grant would have less than nothing or more than was given");
        }
        if entry.kind == EntryKind::Reversal && !may_take_back(entry, grant) {
            return bad("it takes back something else than it names");
        }
        grant.remaining = Credits::from_micro(remaining);
        Ok(())
    }

    /// Notes what later entries and rows refer to.
    fn note_cause(&mut self, entry: &Entry) -> Result<(), Halt> {
        let amount = entry.amount.micro();
        match entry.kind {
            EntryKind::Consume | EntryKind::Capture => {
                self.refundable.insert(entry.seq, -amount);
                if let Some(hold) = &entry.cause.hold_id {
                    let has_ended = |seq| self.grants.get(&seq).is_some_and(|g| g.expired(entry.created_at));
                    let ended = entry.funded_by.iter().copied().filter(|(seq, _)| has_ended(*seq)).collect();
                    let capture = Capture { seq: entry.seq, amount: entry.amount.abs(), ended };
                    if self.captures.insert(hold.clone(), capture).is_some() {
                        return fault(
                            "credit_entries",
                            entry.transaction_id(),
                            "its hold was charged before",
                        );
                    }
                }
            }
            EntryKind::Refund => {
                let original = entry.cause.reverses.unwrap_or(0);
                let Some(left) = self.refundable.get_mut(&original).filter(|left| **left >= amount) else {
                    return fault("credit_entries", entry.transaction_id(), "it refunds more than was spent");
                };
                *left -= amount;
                self.refunds.push((original, entry.seq));
            }
            EntryKind::Recharge | EntryKind::Grant => {
                let total = self.credits_total.checked_add(entry.amount);
                self.credits_total = total.unwrap_or(self.credits_total);
            }
            EntryKind::Reversal => self.reverse(entry)?,
            EntryKind::Expire | EntryKind::Adjust => {}
        }
        Ok(())
    }

    fn compare(&self, stored: &Sealed<Account>) -> Result<(), Halt> {
        let account = &stored.row;
        let bad = |rule: &str| fault("credit_accounts", format!("of user {}", account.user), rule);
        if self.seam.is_some_and(|seam| seam.entries > self.seq) {
            return bad("it has fewer entries than were sealed anew");
        }
        let left: i64 = self.grants.values().map(|grant| grant.remaining.micro()).sum();
        if account.seq != self.seq {
            return bad("seq is not the number of its entries");
        }
        if account.balance != self.balance {
            return bad("balance is not the sum of its entries");
        }
        if left - self.owed != self.balance.micro() {
            return bad("the grants' remaining credits, less what is owed, do not sum to the balance");
        }
        if account.head != self.head {
            return bad("head_hash is not the hash of its last entry");
        }
        if account.credits_total != self.credits_total {
            return bad("credits_total is not the sum of what was given");
        }
        if !stored.is(account.seal()) {
            return bad("seal is not the hash of the row");
        }
        Ok(())
    }
}
