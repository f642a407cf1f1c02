//! The rules alone: long random stories, compared with the model after every step.

use crate::books::{Books, first_bad};
use crate::model::Model;
use crate::script::{Random, START, setting};
use kernel::Credits;
use std::collections::HashMap;
use std::time::Duration;
use user_service::credits::EntryKind;
use user_service::credits::ledger::Policy;

/// How many operations a run does unless `LEDGER_OPERATIONS` says otherwise.
const OPERATIONS: u64 = 100_000;
/// How many operations make one story.
const STORY: u64 = 100;

#[test]
fn every_outcome_and_every_grant_is_as_the_model_has_it() {
    let first = setting("LEDGER_SEED").unwrap_or(1);
    let stories = setting("LEDGER_OPERATIONS").unwrap_or(OPERATIONS).div_ceil(STORY);
    let mut seen: HashMap<String, u64> = HashMap::new();
    // Each thread tells every so-many-th story: the same ones, however many threads there are.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        let told: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || tell_all((first + thread..first + stories).step_by(threads as usize)))
            })
            .collect();
        for told in told {
            for (outcome, times) in told.join().expect("every story goes as it must; see above") {
                *seen.entry(outcome).or_default() += times;
            }
        }
    });
    let mut counts: Vec<_> = seen.iter().collect();
    counts.sort();
    eprintln!("LEDGER_SEED={first}, {} operations: {counts:?}", stories * STORY);
    if stories >= 100 {
        // A generator that never makes a kind of outcome tests nothing of it.
        for kind in KINDS {
            assert!(seen.contains_key(kind), "no story had the outcome {kind}: {counts:?}");
        }
    }
}

/// What the stories of one run must have between them.
const KINDS: [&str; 35] = [
    "Done",
    "Again",
    "Still",
    "Insufficient",
    "TooMuch",
    "ReferenceTaken",
    "Unknown",
    "NotRefundable",
    "RefundExceeds",
    "BadPeriod",
    "RolloverWithoutEnd",
    "UnknownGrant",
    "NothingToVoid",
    "ReclaimExceeds",
    "GrantHeld",
    "UnknownHold",
    "HoldSettled",
    "TickFalls",
    "expire",
    "reversal",
    "adjust",
    "capture",
    "rolled over",
    "rolled over in parts",
    "paid back",
    "reclaimed of what was left",
    "reclaimed of other grants",
    "reclaimed as owed",
    "refund past what was reclaimed",
    "refund into a new grant",
    "refund of a debt",
    "captured after its grant's end",
    "captured more than held",
    "captured too little",
    "charged at its end",
];

fn tell_all(seeds: impl Iterator<Item = u64>) -> HashMap<String, u64> {
    let mut all: HashMap<String, u64> = HashMap::new();
    for seed in seeds {
        let told = std::panic::catch_unwind(|| tell(seed));
        let Ok(seen) = told else { panic!("the story of LEDGER_SEED={seed} went wrong; see above") };
        for (outcome, times) in seen {
            *all.entry(outcome).or_default() += times;
        }
    }
    all
}

/// One story; says how often each outcome came.
fn tell(seed: u64) -> HashMap<String, u64> {
    let mut random = Random(seed);
    // A unit is the least there is, some credits, or so much that an account holds few of them.
    let (worth, most, limit_max) =
        [(1, 1_000_000, 12), (2_500_000, 1_000_000, 12), (40_000_000_000_000_000, 225, 2)]
            [random.below(3) as usize];
    let limit_max = if random.one_in(2) { limit_max } else { 0 };
    let refund_life = (!random.one_in(3)).then_some(2_000);
    let life = refund_life.map(|life: i64| Duration::from_micros(life.unsigned_abs()));
    let mut books = Books::new(worth, Policy { refund_life: life }, START);
    let mut model = Model::new(most, refund_life, START);
    let (mut now, mut seen) = (START, HashMap::new());
    for _ in 0..STORY {
        // A machine's clock may also be set back; an account's time never is.
        now += if random.one_in(20) { -random.step() / 20 } else { random.step() };
        let ask = random.ask(books.receipts.len(), books.holds.len(), limit_max, now);
        let wanted = model.apply(&ask, now);
        let found = books.apply(&ask, now);
        assert_eq!(found, wanted, "at {now}: {ask:?}\n{model}\n{:#?}", books.account);
        books.invariants(now);
        books.compare(&model, now, random.step());
        if random.one_in(4) {
            books.reload();
        }
        let name = format!("{wanted:?}");
        *seen.entry(name.split('(').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    books.audit();
    count(&books, &mut seen);
    if !books.entries.is_empty() {
        let at = random.below(books.entries.len() as u64) as usize;
        books.entries[at].amount = Credits::from_micro(books.entries[at].amount.micro() + 1);
        assert_eq!(first_bad(&books.entries), Some(at), "a changed row is found");
    }
    seen
}

fn count(books: &Books, seen: &mut HashMap<String, u64>) {
    let mut note = |kind: &str| *seen.entry(kind.to_owned()).or_default() += 1;
    let mut rolled = HashMap::new();
    for entry in &books.entries {
        note(entry.kind.as_str());
        let borrowed = entry.funded_by.iter().any(|(seq, _)| *seq == 0);
        match entry.kind {
            EntryKind::Refund if entry.grant.is_some() => {
                note("refund into a new grant");
                let original = &books.entries[entry.cause.reverses.unwrap_or(1) as usize - 1];
                let home = |(seq, _): &(i64, Credits)| original.funded_by.iter().any(|(of, _)| of == seq);
                if original.funded_by.len() == 1 && entry.funded_by.iter().any(home) {
                    note("refund past what was reclaimed");
                }
            }
            EntryKind::Refund if borrowed => note("refund of a debt"),
            EntryKind::Adjust if entry.amount == Credits::ZERO => note("paid back"),
            EntryKind::Expire if entry.grant.is_some() => {
                note("rolled over");
                let times: &mut u64 = rolled.entry(entry.funded_by[0].0).or_default();
                *times += 1;
                if *times > 1 {
                    note("rolled over in parts");
                }
            }
            EntryKind::Reversal if entry.cause.reference_id.is_some() => {
                for (seq, _) in &entry.funded_by {
                    note(match *seq {
                        0 => "reclaimed as owed",
                        seq if Some(seq) == entry.cause.reverses => "reclaimed of what was left",
                        _ => "reclaimed of other grants",
                    });
                }
            }
            EntryKind::Capture => {
                let ended = |seq: &i64| books.grants.get(seq).is_some_and(|g| g.expired(entry.created_at));
                if entry.funded_by.iter().any(|(seq, _)| ended(seq)) {
                    note("captured after its grant's end");
                }
            }
            _ => {}
        }
    }
    for hold in books.holds.values() {
        match &hold.settled {
            Some(settled) if settled.captured > hold.amount => note("captured more than held"),
            Some(settled) if settled.short_by > Credits::ZERO => note("captured too little"),
            Some(settled) if settled.captured > Credits::ZERO && settled.at == hold.expires_at => {
                note("charged at its end");
            }
            _ => {}
        }
    }
}
