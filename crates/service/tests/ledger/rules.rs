//! The rules alone: long random stories, compared with the model after every step.

use crate::model::{Model, Outcome, given_max};
use crate::script::{Ask, Random, START, command, setting};
use kernel::{Credits, Timestamp, TransactionId, UserRowId};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use user_service::credits::ledger::{Decision, Facts, LedgerCommand, Original, Policy};
use user_service::credits::{Account, Entry, EntryKind, Grant, Rejection, chain, decide};

/// How many operations a run does unless `LEDGER_OPERATIONS` says otherwise.
const OPERATIONS: u64 = 200_000;
/// How many operations make one story.
const STORY: u64 = 150;

const USER: UserRowId = UserRowId(7);

#[test]
fn every_outcome_and_every_grant_is_as_the_model_has_it() {
    let first = setting("LEDGER_SEED").unwrap_or(1);
    let stories = setting("LEDGER_OPERATIONS").unwrap_or(OPERATIONS).div_ceil(STORY);
    let mut outcomes: HashMap<String, u64> = HashMap::new();
    for seed in first..first + stories {
        let told = std::panic::catch_unwind(|| tell(seed));
        let Ok(seen) = told else { panic!("the story of LEDGER_SEED={seed} went wrong; see above") };
        for (outcome, times) in seen {
            *outcomes.entry(outcome).or_default() += times;
        }
    }
    if stories >= 100 {
        // A generator that never makes a kind of outcome tests nothing of it.
        for kind in [
            "Done",
            "Again",
            "Insufficient",
            "TooMuch",
            "ReferenceTaken",
            "Unknown",
            "NotRefundable",
            "RefundExceeds",
            "BadPeriod",
            "expire",
            "refund into a new grant",
        ] {
            assert!(outcomes.contains_key(kind), "no story had the outcome {kind}: {outcomes:?}");
        }
    }
}

/// One story; says how often each outcome came.
fn tell(seed: u64) -> HashMap<String, u64> {
    let mut random = Random(seed);
    let worth = [1, 2_500_000, 40_000_000_000_000_000][random.below(3) as usize];
    let refund_life = (!random.one_in(3)).then_some(2_000);
    let mut books = Books::new(worth, refund_life);
    let mut model = Model::new(given_max(worth), refund_life, START);
    let (mut now, mut seen) = (START, HashMap::new());
    for _ in 0..STORY {
        now += random.step();
        let ask = random.ask(books.receipts.len(), now);
        let wanted = model.apply(&ask, now);
        let found = books.apply(&ask, now);
        assert_eq!(found, wanted, "at {now}: {ask:?}\n{:#?}", books.account);
        books.compare(&model, now, random.step());
        let name = format!("{wanted:?}");
        *seen.entry(name.split('(').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    books.audit(&mut random);
    for entry in &books.entries {
        *seen.entry(entry.kind.to_string()).or_default() += 1;
        if entry.kind == EntryKind::Refund && entry.grant.is_some() {
            *seen.entry("refund into a new grant".to_owned()).or_default() += 1;
        }
    }
    seen
}

/// An account with all that a database would keep of it.
struct Books {
    account: Account,
    grants: BTreeMap<i64, Grant>,
    entries: Vec<Entry>,
    receipts: Vec<TransactionId>,
    counters: HashMap<&'static str, i128>,
    worth: i64,
    policy: Policy,
}

impl Books {
    fn new(worth: i64, refund_life: Option<i64>) -> Self {
        Self {
            account: Account::new(USER, Timestamp::from_micros(START)),
            grants: BTreeMap::new(),
            entries: Vec::new(),
            receipts: Vec::new(),
            counters: HashMap::new(),
            worth,
            policy: Policy {
                refund_life: refund_life.map(|life| Duration::from_micros(life.unsigned_abs())),
            },
        }
    }

    fn entry(&self, id: TransactionId) -> Option<&Entry> {
        self.entries.get(usize::try_from(id.seq - 1).ok()?).filter(|entry| entry.user == id.user)
    }

    fn apply(&mut self, ask: &Ask, now: i64) -> Outcome {
        let command = command(ask, &self.receipts, self.worth);
        let (mut reference, mut original) = (None, None);
        match &command {
            LedgerCommand::Issue(issue) if issue.reference_id.is_some() => {
                let same = |entry: &&Entry| entry.cause.reference_id == issue.reference_id;
                reference = self.entries.iter().find(same).cloned();
            }
            LedgerCommand::Refund(refund) => {
                original = self.entry(refund.original).map(|entry| Original {
                    refunded: self.refunded(entry.seq),
                    grants: entry.funded_by.iter().map(|(seq, _)| self.grants[seq].clone()).collect(),
                    entry: entry.clone(),
                });
            }
            _ => {}
        }
        let facts = Facts { reference: reference.as_ref(), original: original.as_ref(), ..Facts::default() };
        let before = self.account.clone();
        let at = Timestamp::from_micros(now).max(before.updated_at);
        match decide(&mut self.account, &command, &facts, at, self.policy) {
            Ok(Decision { existing: Some(entry), .. }) => {
                assert_eq!(self.account, before, "what is already done changes nothing");
                let receipt = self.receipts.iter().position(|id| *id == entry.transaction_id());
                Outcome::Again(receipt.expect("a receipt of the entry"))
            }
            Ok(decision) => {
                self.keep(decision, at);
                if *ask != Ask::Settle {
                    self.receipts.push(TransactionId { user: USER, seq: self.account.seq });
                }
                Outcome::Done
            }
            Err(rejection) => {
                assert_eq!(self.account, before, "what is refused changes nothing: {rejection}");
                outcome(&rejection)
            }
        }
    }

    fn refunded(&self, original: i64) -> Credits {
        let of_it = self.entries.iter().filter(|entry| entry.cause.reverses == Some(original));
        Credits::from_micro(of_it.map(|entry| entry.amount.micro()).sum())
    }

    /// Seals the entries and keeps them, as the writer does, and checks each.
    fn keep(&mut self, decision: Decision, now: Timestamp) {
        for grant in decision.grants {
            assert!(grant.remaining >= Credits::ZERO && grant.remaining <= grant.amount, "{grant:?}");
            self.grants.insert(grant.seq, grant);
        }
        let mut at = self.entries.last().map(|entry| entry.created_at).unwrap_or_default();
        for mut entry in decision.entries {
            entry.id = entry.seq + 100;
            entry.prev_hash = self.account.head;
            entry.hash = chain::hash(&entry);
            self.account.head = entry.hash;
            assert_eq!(entry.seq, self.entries.len() as i64 + 1, "no gap in the sequence");
            assert!(at <= entry.created_at && entry.created_at <= now, "time never falls: {entry:?}");
            at = entry.created_at;
            self.check(&entry);
            *self.counters.entry(entry.kind.counter_account()).or_default() -=
                i128::from(entry.amount.micro());
            self.entries.push(entry);
        }
    }

    fn check(&self, entry: &Entry) {
        let parts: i64 = entry.funded_by.iter().map(|(_, part)| part.micro()).sum();
        let issued = entry.grant.as_ref().map_or(0, |terms| terms.amount);
        match entry.kind {
            EntryKind::Consume | EntryKind::Expire => assert_eq!(parts, -entry.amount.micro(), "{entry:?}"),
            _ => assert_eq!(parts + issued, entry.amount.micro(), "{entry:?}"),
        }
        for (seq, part) in &entry.funded_by {
            let grant = &self.grants[seq];
            assert!(*part > Credits::ZERO, "{entry:?}");
            if entry.kind == EntryKind::Expire {
                assert_eq!(Some(entry.created_at), grant.expires_at, "it ends at its instant: {entry:?}");
            } else {
                assert!(grant.usable(entry.created_at), "only what may be spent is moved: {entry:?}");
            }
        }
    }

    /// The state beside the model's, now and at some later instant.
    fn compare(&self, model: &Model, now: i64, later: i64) {
        let units = |credits: Credits| (credits.micro() / self.worth) as u64;
        for instant in [now, now + later] {
            let at = Timestamp::from_micros(instant).max(self.account.updated_at);
            assert_eq!(units(self.account.available(at)), model.available(instant), "available");
            assert_eq!(units(self.account.total(at)), model.total(instant), "total");
        }
        assert_eq!(units(self.account.credits_total), model.given(), "credits_total");
        let at = Timestamp::from_micros(now).max(self.account.updated_at);
        let found: BTreeMap<i64, u64> = self
            .grants
            .values()
            .filter(|grant| !grant.expired(at))
            .map(|grant| (grant.seq, units(grant.remaining)))
            .collect();
        let wanted: BTreeMap<i64, u64> = model
            .remaining(now)
            .into_iter()
            .map(|(receipt, left)| (self.receipts[receipt].seq, left))
            .collect();
        assert_eq!(found, wanted, "what is left in each grant");

        let open: Vec<&Grant> =
            self.grants.values().filter(|grant| grant.remaining > Credits::ZERO).collect();
        assert_eq!(open.len(), self.account.grants.len(), "open grants");
        assert!(self.account.grants.is_sorted_by_key(Grant::order), "in the order of spending");
        let left: i64 = open.iter().map(|grant| grant.remaining.micro()).sum();
        assert_eq!(left, self.account.balance.micro(), "the grants make the balance");
        assert!(self.account.available(at) >= Credits::ZERO);
        assert_eq!(self.counters.values().sum::<i128>() + i128::from(left), 0, "the postings sum to nothing");
    }

    /// The whole history: its sums, its chain, its refunds, and that a changed row is found.
    fn audit(&mut self, random: &mut Random) {
        let sum: i64 = self.entries.iter().map(|entry| entry.amount.micro()).sum();
        assert_eq!(sum, self.account.balance.micro(), "the entries make the balance");
        assert_eq!(first_bad(&self.entries), None);
        for entry in self.entries.iter().filter(|entry| entry.kind == EntryKind::Consume) {
            assert!(self.refunded(entry.seq) <= entry.amount.abs(), "refunded too much: {entry:?}");
        }
        let mut references: Vec<_> =
            self.entries.iter().filter_map(|e| e.cause.reference_id.as_ref()).collect();
        let all = references.len();
        references.sort();
        references.dedup();
        assert_eq!(references.len(), all, "a reference was applied twice");
        if !self.entries.is_empty() {
            let at = random.below(self.entries.len() as u64) as usize;
            self.entries[at].amount = -self.entries[at].amount;
            assert_eq!(first_bad(&self.entries), Some(at), "a changed row is found");
        }
    }
}

fn first_bad(entries: &[Entry]) -> Option<usize> {
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
        other => panic!("the model knows no such refusal: {other}"),
    }
}
