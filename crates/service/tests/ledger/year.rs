//! A year of ten thousand users, in the rules alone, with totals known beforehand to the last micro-credit.
//!
//! Every user has a plan that gives and rolls over month by month, a promotion, a purchase, a month in which
//! it spends more than its plan, streams that hold and capture, and one stream that dies. Amounts differ
//! from user to user by odd micro-credits.

use crate::script::{DAY, START};
use kernel::{Credits, Timestamp, UserRowId};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use user_service::credits::context::{Basis, Context, Scope};
use user_service::credits::hold::{HoldStatus, OnExpiry};
use user_service::credits::ledger::{
    Capture, Consume, Decision, Facts, Issue, LedgerCommand, Measure, NewHold, Note, Policy, Tick,
};
use user_service::credits::model::Rollover;
use user_service::credits::{Account, Entry, EntryKind, Source, decide};

const USERS: i64 = 10_000;
const MONTHS: i64 = 12;
/// A month of the plan.
const MONTH: i64 = 30 * DAY;

/// What one user's year is made of, in micro-credits.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// What the plan gives each month, and how much of it rolls over at most.
    plan: i64,
    rolls: i64,
    /// What is spent each month in two calls, and in a stream that holds more than it takes.
    calls: i64,
    stream: i64,
    promo: i64,
    purchase: i64,
    /// How far the seventh month goes beyond the plan and what rolled over.
    beyond: i64,
    /// What the stream that dies in the ninth month had ticked.
    ticked: i64,
}

impl Terms {
    fn of(user: i64) -> Self {
        Self {
            plan: 10_000_000_001 + 17 * user,
            rolls: 2_000_000_003 + 5 * user,
            calls: 3_000_000_002 + 2 * user,
            stream: 1_500_000_007 + 3 * user,
            promo: 500_000_011 + user,
            purchase: 4_000_000_013 + 11 * user,
            beyond: 1_250_000_017 + 7 * user,
            ticked: 40_000_019 + user,
        }
    }
}

/// One user's account on its way through the year.
struct User {
    account: Account,
    references: HashMap<String, Entry>,
    holds: HashMap<i64, user_service::credits::hold::Hold>,
    /// The sum of the entries of each type.
    sums: BTreeMap<&'static str, i64>,
    events: u64,
}

impl User {
    fn run(&mut self, command: &LedgerCommand, at: i64) -> Decision {
        let reference = match command {
            LedgerCommand::Issue(issue) => issue.reference_id.as_ref().and_then(|r| self.references.get(r)),
            _ => None,
        };
        let now = self.account.time(Timestamp::from_micros(at));
        let facts = Facts { reference, ..Facts::default() };
        let policy = Policy { refund_life: None };
        let decision = decide(&mut self.account, command, &facts, now, policy).expect("it can be paid");
        self.events += 1;
        for entry in &decision.entries {
            *self.sums.entry(entry.kind.as_str()).or_default() += entry.amount.micro();
            if let Some(reference) = &entry.cause.reference_id {
                self.references.insert(reference.clone(), entry.clone());
            }
        }
        self.holds.extend(decision.holds.iter().map(|hold| (hold.n, hold.clone())));
        decision
    }

    fn give(&mut self, issue: Issue, at: i64) -> Decision {
        self.run(&LedgerCommand::Issue(issue), at)
    }

    fn spend(&mut self, micro: i64, feature: Option<&str>, at: i64) {
        let context = Context { feature: feature.map(str::to_owned), ..Context::default() };
        let basis = Basis { context, pricing: None };
        let consume = Consume { amount: Credits::from_micro(micro), basis, ..Consume::default() };
        self.run(&LedgerCommand::Consume(consume), at);
    }

    fn hold(&mut self, micro: i64, ticked: i64, at: i64) -> i64 {
        let new = NewHold {
            amount: Credits::from_micro(micro),
            life: Duration::from_secs(600),
            on_expiry: OnExpiry::CaptureTicked,
            context: Context::default(),
            note: Note::default(),
        };
        let hold = self.run(&LedgerCommand::Hold(Box::new(new)), at).hold.expect("a hold").n;
        let tick = Tick { hold, amount: Some(Credits::from_micro(ticked)), life: None };
        self.run(&LedgerCommand::Tick(tick), at + 1_000_000);
        hold
    }
}

fn issue(source: Source, micro: i64) -> Issue {
    Issue {
        kind: if source == Source::Purchase { EntryKind::Recharge } else { EntryKind::Grant },
        amount: Credits::from_micro(micro),
        source,
        priority: 0,
        effective_at: None,
        expires_at: None,
        scope: None,
        rollover: None,
        reference_id: None,
        note: Note::default(),
    }
}

fn live(row: i64) -> User {
    let terms = Terms::of(row);
    let account = Account::new(UserRowId(row + 1), Timestamp::from_micros(START));
    let (references, holds, sums) = (HashMap::new(), HashMap::new(), BTreeMap::new());
    let mut user = User { account, references, holds, sums, events: 0 };
    for month in 0..MONTHS {
        let begin = START + month * MONTH;
        let plan = Issue {
            priority: 5,
            expires_at: Some(Timestamp::from_micros(begin + MONTH)),
            rollover: Some(Rollover { max: terms.rolls, days: 30 }),
            reference_id: Some(format!("plan_{month}")),
            ..issue(Source::Plan, terms.plan)
        };
        user.give(plan.clone(), begin);
        if month % 3 == 1 {
            // The payment provider says it again, days later.
            assert!(user.give(plan, begin + 3 * DAY).existing.is_some(), "a period is given once");
        }
        if month == 2 {
            // A promotion for one feature; its second half ends unspent.
            let end = Some(Timestamp::from_micros(begin + 10 * DAY));
            let scope = Some(Scope { features: vec!["images".to_owned()], ..Scope::default() });
            user.give(Issue { expires_at: end, scope, ..issue(Source::Promo, 2 * terms.promo) }, begin + DAY);
            user.spend(terms.promo, Some("images"), begin + 2 * DAY);
        }
        if month == 5 {
            let recharge = issue(Source::Purchase, terms.purchase);
            user.give(Issue { priority: 9, ..recharge }, begin + 4 * DAY);
        }
        user.spend(terms.calls, Some("chat"), begin + 5 * DAY);
        if month == 8 {
            // This stream dies; what it ticked is charged when its hold ends.
            user.hold(terms.stream, terms.ticked, begin + 6 * DAY);
            user.spend(terms.stream - terms.ticked, None, begin + 7 * DAY);
        } else {
            let hold = user.hold(2 * terms.stream, terms.stream / 2, begin + 6 * DAY);
            let capture = Capture {
                hold,
                amount: Some(Credits::from_micro(terms.stream)),
                usage_record_id: None,
                pricing: None,
                measure: Measure::default(),
                note: Note::default(),
            };
            user.run(&LedgerCommand::Capture(capture), begin + 6 * DAY + 60_000_000);
        }
        if month == 6 {
            let rest = terms.plan + terms.rolls - terms.calls - terms.stream;
            user.spend(rest + terms.beyond, None, begin + 20 * DAY);
        }
    }
    user.run(&LedgerCommand::Settle, START + MONTHS * MONTH);
    user
}

#[test]
fn a_year_of_ten_thousand_users_adds_up_to_the_last_micro_credit() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as i64;
    let mut sums: BTreeMap<&'static str, i128> = BTreeMap::new();
    let (mut left, mut events) = (0_i128, 0);
    std::thread::scope(|scope| {
        let lived: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    (thread..USERS).step_by(threads as usize).map(|row| judge(row, live(row))).collect()
                })
            })
            .collect();
        for lived in lived {
            let users: Vec<(BTreeMap<&'static str, i64>, i64, u64)> =
                lived.join().expect("a year; see above");
            for (own, balance, own_events) in users {
                own.into_iter().for_each(|(kind, sum)| *sums.entry(kind).or_default() += i128::from(sum));
                left += i128::from(balance);
                events += own_events;
            }
        }
    });
    eprintln!("{USERS} users, {events} events: {sums:?}, left {left}");

    // Each amount is a + b × user, so all users' together are a × USERS + b × (0 + 1 + … + USERS - 1).
    let all = |amount: fn(Terms) -> i64| {
        let (a, b) = (amount(Terms::of(0)), amount(Terms::of(1)) - amount(Terms::of(0)));
        i128::from(a) * i128::from(USERS) + i128::from(b) * i128::from(USERS * (USERS - 1) / 2)
    };
    let granted = 12 * all(|t| t.plan) + 2 * all(|t| t.promo);
    let streams = 11 * all(|t| t.stream) + all(|t| t.ticked);
    let calls = 12 * all(|t| t.calls) + all(|t| t.promo) + all(|t| t.stream) - all(|t| t.ticked)
        + all(|t| t.plan + t.rolls - t.calls - t.stream + t.beyond);
    let rest = all(|t| t.rolls) + all(|t| t.purchase) - all(|t| t.beyond);
    assert_eq!(left, rest);
    assert_eq!(sums["grant"], granted);
    assert_eq!(sums["recharge"], all(|t| t.purchase));
    assert_eq!(sums["capture"], -streams);
    assert_eq!(sums["consume"], -calls);
    assert_eq!(sums["expire"], rest - granted - all(|t| t.purchase) + streams + calls);
    assert_eq!(
        sums.keys().copied().collect::<Vec<_>>(),
        ["capture", "consume", "expire", "grant", "recharge"]
    );
}

/// One user's end of the year: what it has, and what became of its months.
fn judge(row: i64, user: User) -> (BTreeMap<&'static str, i64>, i64, u64) {
    let (terms, account) = (Terms::of(row), &user.account);
    let grants: Vec<(Source, i64)> =
        account.grants.iter().map(|grant| (grant.source, grant.remaining.micro())).collect();
    // What rolled over from the twelfth month, and what the purchase has left.
    let wanted = [(Source::Plan, terms.rolls), (Source::Purchase, terms.purchase - terms.beyond)];
    assert_eq!(grants, wanted, "user {row}");
    assert_eq!(account.balance.micro(), terms.rolls + terms.purchase - terms.beyond, "user {row}");
    // Of a month's plan and what rolled into it as much is spent as in every other, so what is lost is the
    // rest of the plan; but in the first nothing had rolled over yet, and after the seventh nothing did.
    let month = terms.calls + terms.stream;
    let lost = 12 * (terms.plan - month) - (terms.plan - month + terms.rolls) - terms.rolls + terms.promo;
    assert_eq!(user.sums["expire"], -lost, "user {row}");
    let expired: Vec<_> = user.holds.values().filter(|hold| hold.status == HoldStatus::Expired).collect();
    let captured = expired.iter().map(|hold| hold.settled.map_or(0, |settled| settled.captured.micro()));
    assert_eq!(captured.collect::<Vec<_>>(), [terms.ticked], "user {row}");
    assert_eq!((account.held, user.holds.len()), (Credits::ZERO, 12), "user {row}");
    (user.sums, account.balance.micro(), user.events)
}
