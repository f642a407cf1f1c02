//! An account with all that a database would keep of it, checked after every step.

use crate::model::Model;
use crate::model::holds::State;
use crate::script::{Ask, Outcome, command};
use kernel::{Credits, GrantId, Timestamp, TransactionId, UserRowId};
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use user_service::credits::hold::{Hold, HoldStatus};
use user_service::credits::ledger::{Decision, Facts, LedgerCommand, Original, Policy, settle};
use user_service::credits::{Account, Entry, EntryKind, Grant, Rejection, chain, decide};

pub const USER: UserRowId = UserRowId(7);

/// An account with all that a database would keep of it.
pub struct Books {
    pub account: Account,
    pub grants: BTreeMap<i64, Grant>,
    pub entries: Vec<Entry>,
    pub holds: BTreeMap<i64, Hold>,
    pub receipts: Vec<TransactionId>,
    /// How far the counter-accounts moved.
    counters: HashMap<&'static str, i128>,
    /// What was spent by each entry that can be refunded, less its refunds.
    refundable: HashMap<i64, i64>,
    /// What was taken back of each grant.
    reversed: HashMap<GrantId, Credits>,
    pub worth: i64,
    policy: Policy,
    /// Whether the account was ever let below zero, or had to go there.
    borrows: bool,
}

/// Whether an entry is one that a caller asked for, or may refer to: the others only say what time did.
pub fn is_receipt(entry: &Entry) -> bool {
    entry.kind != EntryKind::Expire && entry.amount != Credits::ZERO
}

impl Books {
    pub fn new(worth: i64, policy: Policy, now: i64) -> Self {
        Self {
            account: Account::new(USER, Timestamp::from_micros(now)),
            grants: BTreeMap::new(),
            entries: Vec::new(),
            holds: BTreeMap::new(),
            receipts: Vec::new(),
            counters: HashMap::new(),
            refundable: HashMap::new(),
            reversed: HashMap::new(),
            worth,
            policy,
            borrows: false,
        }
    }

    pub fn apply(&mut self, ask: &Ask, now: i64) -> Outcome {
        let command = command(ask, &self.receipts, self.worth);
        self.borrows |= matches!(ask, Ask::Limit(1..));
        match self.run(&command, now) {
            Ok(Decision { existing: Some(entry), .. }) => {
                let receipt = self.receipts.iter().position(|id| *id == entry.transaction_id());
                Outcome::Again(receipt.expect("a receipt of the entry"))
            }
            Ok(decision) if decision.hold.is_some() && !decision.changed => Outcome::Still,
            Ok(_) => Outcome::Done,
            Err(rejection) => outcome(&rejection),
        }
    }

    /// Decides a command as the writer does, and keeps what it did.
    pub fn run(&mut self, command: &LedgerCommand, now: i64) -> Result<Decision, Rejection> {
        let before = self.account.clone();
        let at = before.time(Timestamp::from_micros(now));
        let (reference, original) = (self.reference(command), self.original(command));
        let (mut grant, mut hold) = (None, None);
        match command {
            LedgerCommand::Void(void) => grant = self.grants.get(&void.grant),
            LedgerCommand::Reclaim(reclaim) => grant = self.grants.get(&reclaim.grant),
            LedgerCommand::Tick(tick) => hold = self.holds.get(&tick.hold),
            LedgerCommand::Capture(capture) => hold = self.holds.get(&capture.hold),
            LedgerCommand::Release(n) => hold = self.holds.get(n),
            _ => {}
        }
        let (reference, original) = (reference.as_ref(), original.as_ref());
        let reversed = Some(&self.reversed);
        let facts = Facts { reference, original, grant, hold, reversed, ..Facts::default() };
        let reserved = settle::entries_due(&before, at) + settle::entries_of_command(&before);
        let decided = decide(&mut self.account, command, &facts, at, self.policy);
        match &decided {
            Ok(decision) if decision.changed => {
                assert!(decision.entries.len() <= reserved, "more entries than ids: {decision:#?}");
                self.keep(decision.clone(), at);
            }
            unchanged => assert_eq!(self.account, before, "nothing is written, nothing moves: {unchanged:?}"),
        }
        decided
    }

    fn reference(&self, command: &LedgerCommand) -> Option<Entry> {
        let reference = match command {
            LedgerCommand::Issue(issue) => issue.reference_id.as_ref()?,
            LedgerCommand::Reclaim(reclaim) => &reclaim.reference_id,
            _ => return None,
        };
        self.entries.iter().find(|entry| entry.cause.reference_id.as_ref() == Some(reference)).cloned()
    }

    fn original(&self, command: &LedgerCommand) -> Option<Original> {
        let id = match command {
            LedgerCommand::Refund(refund) => refund.original,
            LedgerCommand::Adjust(adjust) => adjust.original?,
            _ => return None,
        };
        let entry = self.entries.get(usize::try_from(id.seq - 1).ok()?).filter(|e| e.user == id.user)?;
        let spent = entry.amount.abs().micro();
        let left = self.refundable.get(&entry.seq).copied().unwrap_or(spent);
        Some(Original {
            refunded: Credits::from_micro(spent - left),
            grants: entry.funded_by.iter().filter_map(|(seq, _)| self.grants.get(seq).cloned()).collect(),
            entry: entry.clone(),
        })
    }

    /// Seals the entries and keeps them, as the writer does, and checks each.
    fn keep(&mut self, decision: Decision, now: Timestamp) {
        let before: BTreeMap<i64, Grant> = self.grants.clone();
        for grant in decision.grants {
            assert!(grant.remaining >= Credits::ZERO && grant.remaining <= grant.amount, "{grant:?}");
            self.grants.insert(grant.seq, grant);
        }
        for hold in decision.holds {
            self.holds.insert(hold.n, hold);
        }
        let mut at = self.entries.last().map(|entry| entry.created_at).unwrap_or_default();
        let mut left = before.into_iter().map(|(seq, grant)| (seq, grant.remaining.micro())).collect();
        for mut entry in decision.entries {
            entry.id = entry.seq + 100;
            entry.prev_hash = self.account.head;
            entry.hash = chain::hash(&entry);
            self.account.head = entry.hash;
            assert_eq!(entry.seq, self.entries.len() as i64 + 1, "no gap in the sequence");
            assert!(at <= entry.created_at && entry.created_at <= now, "time never falls: {entry:?}");
            at = entry.created_at;
            self.check(&entry, &mut left);
            *self.counters.entry(entry.kind.counter_account()).or_default() -=
                i128::from(entry.amount.micro());
            if is_receipt(&entry) {
                self.receipts.push(entry.transaction_id());
            }
            self.entries.push(entry);
        }
        // What the entries say and what is kept of the grants is the same.
        left.retain(|_, left| *left > 0);
        let kept = self.grants.values().filter(|grant| grant.remaining > Credits::ZERO);
        let kept: BTreeMap<i64, i64> = kept.map(|grant| (grant.seq, grant.remaining.micro())).collect();
        assert_eq!(kept, left, "the grants are what the entries make of them");
    }

    /// The sums of one entry, and that it moves only what it may.
    fn check(&mut self, entry: &Entry, left: &mut BTreeMap<i64, i64>) {
        let parts: i64 = entry.funded_by.iter().map(|(_, part)| part.micro()).sum();
        let issued = entry.grant.as_ref().map_or(0, |terms| terms.amount);
        let amount = entry.amount.micro();
        assert_eq!(entry.balance_after.micro(), entry.balance_before.micro() + amount, "{entry:?}");
        let sums = match entry.kind {
            EntryKind::Expire => -parts + issued,
            EntryKind::Consume | EntryKind::Capture | EntryKind::Reversal => -parts,
            EntryKind::Refund => parts + issued,
            EntryKind::Recharge | EntryKind::Grant => issued,
            EntryKind::Adjust if amount > 0 => issued,
            // Paying back moves grants, and the debt as much.
            EntryKind::Adjust if amount == 0 => 0,
            EntryKind::Adjust => -parts,
        };
        assert_eq!(sums, amount, "its parts sum to its amount: {entry:?}");
        let gives_back = entry.kind == EntryKind::Refund;
        let (reverses, reversal) = (entry.cause.reverses, entry.kind == EntryKind::Reversal);
        let reclaims = reversal && entry.cause.reference_id.is_some();
        if let (true, Some(seq)) = (reversal, reverses) {
            let reversed = self.reversed.entry(GrantId { user: USER, seq }).or_default();
            *reversed = Credits::from_micro(reversed.micro() - amount);
            let grant = &self.grants[&seq];
            assert!(*reversed <= grant.amount, "more was taken back than was given: {entry:?}");
            assert!(grant.voided || (reclaims && *reversed < grant.amount), "{entry:?}");
        }
        let hold = entry.cause.hold_id.as_ref().and_then(|id| id.rsplit('_').next()?.parse().ok());
        let hold = hold.and_then(|n: i64| self.holds.get(&n));
        for (seq, part) in &entry.funded_by {
            assert!(*part > Credits::ZERO, "{entry:?}");
            if *seq == 0 {
                self.borrows |= reclaims;
                assert!(self.borrows, "nothing is borrowed without a credit limit: {entry:?}");
                continue;
            }
            let grant = &self.grants[seq];
            let ended = grant.expired(entry.created_at);
            if entry.kind == EntryKind::Expire {
                assert!(ended, "it ends at its instant or later: {entry:?}");
            } else if ended {
                let held = hold.expect("only a hold may charge what has ended").parts.iter();
                let held: i64 = held.filter(|(of, _)| of == seq).map(|(_, part)| part.micro()).sum();
                assert!(part.micro() <= held, "and only what it has set aside: {entry:?}");
            } else if !reversal || reverses != Some(*seq) {
                assert!(!reversal || (reclaims && grant.scope.is_none()), "{entry:?}");
                assert!(grant.usable(entry.created_at), "only what may be spent is moved: {entry:?}");
            }
            assert!(!gives_back || !grant.voided, "what was taken back stays so: {entry:?}");
            *left.entry(*seq).or_default() += if gives_back { part.micro() } else { -part.micro() };
            let reversed = self.reversed.get(&grant.id(USER)).copied().unwrap_or_default();
            let most = grant.amount.micro() - if gives_back { reversed.micro() } else { 0 };
            assert!((0..=most).contains(&left[seq]), "{entry:?}");
        }
        if entry.grant.is_some() {
            left.insert(entry.seq, issued);
        }
        match entry.kind {
            EntryKind::Consume | EntryKind::Capture => {
                self.refundable.insert(entry.seq, -amount);
            }
            EntryKind::Refund => {
                let of_original = self.refundable.get_mut(&entry.cause.reverses.expect("of an entry"));
                let of_original = of_original.expect("of one that spent");
                *of_original -= amount;
                assert!(*of_original >= 0, "refunded too much: {entry:?}");
            }
            _ => {}
        }
    }

    /// The process dies, and another one reads what was written.
    pub fn reload(&mut self) {
        let open = self.grants.values().filter(|grant| grant.remaining > Credits::ZERO);
        let mut grants: Vec<Grant> =
            open.map(|grant| Grant { held: Credits::ZERO, ..grant.clone() }).collect();
        grants.sort_by_key(Grant::order);
        let mut account = Account { grants, holds: Vec::new(), ..self.account.clone() };
        let open = self.holds.values().filter(|hold| hold.status == HoldStatus::Open);
        open.for_each(|hold| account.insert_hold(hold.clone()));
        assert_eq!(account, self.account, "what was written is all there is");
        self.account = account;
    }

    fn units(&self, credits: Credits) -> u64 {
        assert_eq!(credits.micro() % self.worth, 0, "whole units");
        u64::try_from(credits.micro() / self.worth).expect("nothing below zero")
    }

    /// The state beside the model's, now and at some later instant.
    pub fn compare(&self, model: &Model, now: i64, later: i64) {
        for instant in [now, now + later] {
            let model = model.at(instant);
            let at = self.account.time(Timestamp::from_micros(instant));
            let account = self.account.at(at);
            let account: &Account = account.borrow();
            assert_eq!(self.units(account.available(at)), model.available(at.micros()), "available");
            let total = model.left() as i64 - model.owed as i64;
            assert_eq!(account.total(at).micro() / self.worth, total, "total");
            assert_eq!(account.owed() / self.worth, model.owed as i64, "owed");
            let mut grants: Vec<&Grant> = account.grants.iter().collect();
            grants.sort_by_key(|grant| grant.seq);
            let terms = |grant: &Grant| (grant.priority, grant.expires_at.map(Timestamp::micros));
            let found = grants.iter().map(|grant| {
                let free = self.units(Credits::from_micro(grant.free()));
                (terms(grant), free, self.units(grant.held))
            });
            let wanted = model.open_grants();
            let wanted = wanted.into_iter().map(|(grant, free, held)| {
                let of = &model.grants[grant];
                ((of.priority, of.until), free, held)
            });
            assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "what grants have left");
        }
        assert_eq!(self.units(self.account.credits_total), model.given(), "credits_total");
        assert_eq!(self.holds.len(), model.holds.len());
        for (hold, of_model) in self.holds.values().zip(&model.holds) {
            let state = match (hold.status, &hold.settled) {
                (HoldStatus::Open, None) => State::Open,
                (HoldStatus::Released, Some(_)) => State::Released,
                (HoldStatus::Captured, Some(settled)) => {
                    let (asked, captured) = (self.units(settled.asked), self.units(settled.captured));
                    assert_eq!(self.units(settled.short_by), asked - captured, "{hold:?}");
                    State::Captured { asked, captured }
                }
                (HoldStatus::Expired, Some(settled)) => {
                    State::Expired { captured: self.units(settled.captured) }
                }
                _ => panic!("status and settling do not go together: {hold:?}"),
            };
            let found = (state, self.units(hold.amount), self.units(hold.ticked), hold.expires_at.micros());
            let wanted = (of_model.state, of_model.units.len() as u64, of_model.ticked, of_model.until);
            assert_eq!(found, wanted, "{hold:?}");
        }
    }

    /// What always holds of the rows as they are written.
    pub fn invariants(&self, now: i64) {
        let account = &self.account;
        assert!(account.grants.is_sorted_by_key(Grant::order), "in the order of spending");
        let open: Vec<&Hold> = self.holds.values().filter(|hold| hold.status == HoldStatus::Open).collect();
        assert!(account.holds.iter().eq(open.iter().copied()), "the open holds are the account's");
        let held: i64 = open.iter().map(|hold| hold.amount.micro()).sum();
        assert_eq!(held, account.held.micro(), "the open holds make what is held");
        let mut parts: BTreeMap<i64, i64> = BTreeMap::new();
        for hold in open {
            assert_eq!(hold.parts.iter().map(|(_, part)| part.micro()).sum::<i64>(), hold.amount.micro());
            hold.parts.iter().for_each(|(seq, part)| *parts.entry(*seq).or_default() += part.micro());
        }
        let borrowed = parts.remove(&0).unwrap_or(0);
        for grant in &account.grants {
            assert_eq!(parts.remove(&grant.seq).unwrap_or(0), grant.held.micro(), "{grant:?}");
            assert!(grant.held <= grant.remaining, "{grant:?}");
        }
        assert!(parts.is_empty(), "holds have some of grants that have nothing left: {parts:?}");
        let left: i64 = account.grants.iter().map(|grant| grant.remaining.micro()).sum();
        assert_eq!(left - account.owed(), account.balance.micro(), "grants less what is owed");
        assert!(account.owed() >= 0, "nothing is paid back that was not owed");
        assert!(self.borrows || account.owed() + borrowed == 0, "below zero without a credit limit");
        assert!(self.borrows || account.balance >= Credits::ZERO, "below zero without a credit limit");
        assert!(account.available(account.time(Timestamp::from_micros(now))) >= Credits::ZERO);
        let postings = self.counters.values().sum::<i128>() + i128::from(account.balance.micro());
        assert_eq!(postings, 0, "the postings sum to nothing");
        assert_eq!(account.seq, self.entries.len() as i64);
        let head = self.entries.last().map_or([0; 32], |entry| entry.hash);
        assert_eq!(account.head, head, "the account knows its last entry");
    }

    /// The whole history: its sums, its chain, its refunds; gives back the first bad entry.
    pub fn audit(&self) {
        let sum: i64 = self.entries.iter().map(|entry| entry.amount.micro()).sum();
        assert_eq!(sum, self.account.balance.micro(), "the entries make the balance");
        assert_eq!(first_bad(&self.entries), None);
        let mut references: Vec<_> =
            self.entries.iter().filter_map(|entry| entry.cause.reference_id.as_ref()).collect();
        let all = references.len();
        references.sort();
        references.dedup();
        assert_eq!(references.len(), all, "a reference was applied twice");
        let captured = self.entries.iter().filter_map(|entry| entry.cause.hold_id.as_ref());
        let mut holds: Vec<_> = captured.collect();
        let all = holds.len();
        holds.sort();
        holds.dedup();
        assert_eq!(holds.len(), all, "a hold was charged twice");
    }
}

/// The place of the first entry that is not what was sealed.
pub fn first_bad(entries: &[Entry]) -> Option<usize> {
    let mut head = [0; 32];
    entries.iter().position(|entry| {
        let fits = entry.prev_hash == head && entry.hash == chain::hash(entry);
        head = entry.hash;
        !fits
    })
}

/// A rejection in the model's words.
pub fn outcome(rejection: &Rejection) -> Outcome {
    match rejection {
        Rejection::Insufficient { .. } => Outcome::Insufficient,
        Rejection::TooMuch => Outcome::TooMuch,
        Rejection::ReferenceTaken { .. } => Outcome::ReferenceTaken,
        Rejection::UnknownTransaction(_) => Outcome::Unknown,
        Rejection::NotRefundable(_) => Outcome::NotRefundable,
        Rejection::RefundExceeds { .. } => Outcome::RefundExceeds,
        Rejection::BadPeriod => Outcome::BadPeriod,
        Rejection::RolloverWithoutEnd => Outcome::RolloverWithoutEnd,
        Rejection::UnknownGrant => Outcome::UnknownGrant,
        Rejection::NothingToVoid => Outcome::NothingToVoid,
        Rejection::ReclaimExceeds { .. } => Outcome::ReclaimExceeds,
        Rejection::OwesTooMuch => Outcome::OwesTooMuch,
        Rejection::GrantHeld { .. } => Outcome::GrantHeld,
        Rejection::UnknownHold(_) => Outcome::UnknownHold,
        Rejection::HoldSettled { .. } => Outcome::HoldSettled,
        Rejection::TickFalls { .. } => Outcome::TickFalls,
        other => panic!("the model knows no such refusal: {other}"),
    }
}
