//! Batches decided over rows made by hand.

use super::*;
use crate::credits::ledger::{Consume, Issue, LedgerCommand, Note, Reclaim, Refund, Void};
use crate::credits::model::{GrantTerms, OPEN_GRANTS_MAX};
use crate::credits::{EntryKind, Source};
use crate::limits;
use crate::usage::NewUsage;
use crate::usage::model::UsageFacts;
use crate::users::{self, Delete, Ensure};
use crate::writer::Respond;
use kernel::{Email, ExternalId};

const NOW: Timestamp = Timestamp::from_micros(1_750_000_000_000_000);
const ADA: UserRowId = UserRowId(1);
const NOBODY: UserRowId = UserRowId(99);

/// What a database would hold, with Ada and her 100 credits in it.
struct Table {
    working: Working,
    ids: Ids,
    welcome: Credits,
    /// What the last batch was to write.
    changes: Changes,
}

impl Table {
    fn new() -> Self {
        let mut ids = Ids::default();
        ids.users.refill(2, 100);
        ids.entries.refill(1, 1_000);
        ids.usage.refill(1, 1_000);
        let mut working = Working::default();
        working.accounts.insert(ADA, Account::new(ADA, NOW));
        let ada = User {
            id: ADA,
            auth0_id: id("ada"),
            email: Some("ada@x.de".to_owned()),
            name: None,
            plan: "free".to_owned(),
            subscription_status: "free".to_owned(),
            is_active: true,
            created_at: NOW,
            updated_at: NOW,
            deleted_at: None,
        };
        working.directory.by_email.insert("ada@x.de".to_owned(), ADA);
        working.directory.by_id.insert(id("ada"), Some(ada));
        let mut table = Self { working, ids, welcome: Credits::whole(10), changes: Changes::default() };
        table.run(vec![plain(recharge(100))]);
        table
    }

    fn run(&mut self, jobs: Vec<Job>) -> Vec<Result<Reply, WriteError>> {
        self.try_run(jobs).expect("the batch is decided")
    }

    fn try_run(&mut self, jobs: Vec<Job>) -> Result<Vec<Result<Reply, WriteError>>, DbError> {
        let mut plan = Plan {
            wanted: Kinds::ALL,
            working: &mut self.working,
            ids: &mut self.ids,
            rules: Rules {
                ledger: Policy { refund_life: None },
                welcome: self.welcome,
                welcome_life: None,
                session_life: None,
                low_balance: Credits::ZERO,
            },
            now: NOW,
            changes: Changes::default(),
        };
        let replies = plan.run(&jobs.iter().collect::<Vec<_>>());
        self.changes = plan.changes;
        replies
    }

    fn balance(&self) -> Credits {
        self.working.accounts[&ADA].available(NOW)
    }
}

fn id(text: &str) -> ExternalId {
    text.parse().expect("an id")
}

fn plain(command: Command) -> Job {
    Job { command, keyed: None, room: None, audit: None }
}

/// A job whose answer says which entry it made.
fn keyed(key: &str, print: u8, command: Command) -> Job {
    let key = IdempotencyKey { caller: "key:a".to_owned(), key: key.to_owned(), fingerprint: [print; 32] };
    let respond: Respond = Box::new(|done| match done {
        Done::Entry { entry, .. } => Bytes::from(entry.transaction_id().to_string()),
        _ => Bytes::from("done"),
    });
    Job { keyed: Some((key, respond)), ..plain(command) }
}

fn consume_of(user: UserRowId, credits: i32) -> Command {
    let amount = Credits::whole(credits);
    Command::Ledger(user, LedgerCommand::Consume(Consume { amount, ..Consume::default() }))
}

fn consume(credits: i32) -> Command {
    consume_of(ADA, credits)
}

fn issue(credits: i32, reference: Option<&str>) -> Issue {
    Issue {
        kind: EntryKind::Recharge,
        amount: Credits::whole(credits),
        source: Source::Purchase,
        priority: 0,
        effective_at: None,
        expires_at: None,
        scope: None,
        rollover: None,
        reference_id: reference.map(str::to_owned),
        note: Note::default(),
    }
}

fn recharge(credits: i32) -> Command {
    Command::Ledger(ADA, LedgerCommand::Issue(issue(credits, None)))
}

fn ensure(who: &str, email: &str) -> Command {
    Command::Ensure(Ensure {
        auth0_id: id(who),
        email: Some(Email::new(email).expect("an address")),
        name: None,
    })
}

fn usage(user: UserRowId, event: Option<&str>) -> NewUsage {
    NewUsage {
        user,
        auth0_id: id("ada"),
        created_at: None,
        event_id: event.map(str::to_owned),
        facts: std::sync::Arc::new(UsageFacts {
            event_type: "call".to_owned(),
            tokens_used: 7,
            ..UsageFacts::default()
        }),
    }
}

fn record(records: Vec<NewUsage>, atomic: bool) -> Job {
    plain(Command::Usage(Record { records, atomic }))
}

fn answer(reply: &Result<Reply, WriteError>) -> (&str, bool) {
    match reply {
        Ok(Reply::Answer(answer)) => (std::str::from_utf8(&answer.body).expect("text"), answer.replayed),
        other => panic!("no answer: {other:?}"),
    }
}

fn outcomes(reply: &Result<Reply, WriteError>) -> &[Outcome] {
    match reply {
        Ok(Reply::Done(Done::Usage(outcomes))) => outcomes,
        other => panic!("no outcomes: {other:?}"),
    }
}

#[test]
fn a_key_is_answered_once_within_a_batch_and_across_batches() {
    let mut table = Table::new();
    let again = || keyed("k", 1, consume(10));
    let replies = table.run(vec![again(), again()]);
    assert_eq!(answer(&replies[0]), ("txn_1_2", false));
    assert_eq!(answer(&replies[1]), ("txn_1_2", true));
    assert_eq!((table.changes.entries.len(), table.changes.answers.len()), (1, 1));

    let replies = table.run(vec![again()]);
    assert_eq!(answer(&replies[0]), ("txn_1_2", true));
    assert!(table.changes.is_empty(), "a replay writes nothing");
    assert_eq!(table.balance(), Credits::whole(90));
}

#[test]
fn a_key_of_another_request_is_refused_and_another_callers_is_its_own() {
    let mut table = Table::new();
    let replies = table.run(vec![keyed("k", 1, consume(10)), keyed("k", 2, consume(10))]);
    assert!(matches!(replies[1], Err(WriteError::IdempotencyMismatch)));
    let mut other = keyed("k", 2, consume(10));
    other.keyed.as_mut().expect("a key").0.caller = "key:b".to_owned();
    let replies = table.run(vec![other]);
    assert!(!answer(&replies[0]).1);
    assert_eq!(table.balance(), Credits::whole(80));
}

#[test]
fn a_refused_command_burns_no_key() {
    let mut table = Table::new();
    let replies = table.run(vec![keyed("k", 1, consume(101))]);
    assert!(matches!(replies[0], Err(WriteError::Credits(_))));
    assert!(table.changes.is_empty(), "a refusal writes nothing");
    let replies = table.run(vec![plain(recharge(1)), keyed("k", 1, consume(101))]);
    assert!(!answer(&replies[1]).1, "the same request may try again");
    assert_eq!(table.balance(), Credits::ZERO);
}

#[test]
fn a_user_is_made_once_with_one_welcome_grant() {
    let mut table = Table::new();
    let replies = table.run(vec![plain(ensure("bob", "bob@x.de")), plain(ensure("bob", "bob@y.de"))]);
    let made: Vec<(bool, Credits)> = replies
        .iter()
        .map(|reply| match reply {
            Ok(Reply::Done(Done::User { created, available, .. })) => (*created, *available),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(made, [(true, Credits::whole(10)), (false, Credits::whole(10))]);
    let changes = &table.changes;
    assert_eq!((changes.new_users.len(), changes.users.len(), changes.entries.len()), (1, 0, 1));
    assert_eq!(changes.new_users[0].email.as_deref(), Some("bob@y.de"), "the last word is written");
}

#[test]
fn an_address_goes_to_the_first_of_a_batch() {
    let mut table = Table::new();
    let replies = table.run(vec![plain(ensure("bob", "B@x.de")), plain(ensure("eve", "b@X.de"))]);
    assert!(replies[0].is_ok());
    assert!(matches!(replies[1], Err(WriteError::Users(users::Rejection::EmailTaken))));
    assert_eq!((table.changes.new_users.len(), table.changes.accounts.len()), (1, 1));
}

#[test]
fn an_event_counts_once_within_a_batch_and_across_batches() {
    let mut table = Table::new();
    let event = || usage(ADA, Some("e"));
    let replies = table.run(vec![record(vec![event(), event()], false), record(vec![event()], true)]);
    let [Outcome::Recorded(first), Outcome::Duplicate(second)] = outcomes(&replies[0]) else {
        panic!("{replies:?}")
    };
    assert_eq!(first, second);
    assert!(matches!(&outcomes(&replies[1])[0], Outcome::Duplicate(third) if third == first));
    assert_eq!(table.changes.usage.len(), 1);
    let tokens: Vec<(i64, i64)> =
        table.changes.rollups.values().map(|sums| (sums.records, sums.tokens)).collect();
    assert_eq!(tokens, [(1, 7), (1, 7), (1, 7)], "its hour, its day and its month count it once");
    let replies = table.run(vec![record(vec![event()], false)]);
    assert!(matches!(outcomes(&replies[0])[0], Outcome::Duplicate(_)));
    assert!(table.changes.is_empty());
}

#[test]
fn an_atomic_batch_with_an_unknown_user_writes_nothing() {
    let mut table = Table::new();
    let records = || vec![usage(ADA, Some("e")), usage(NOBODY, None)];
    let replies = table.run(vec![record(records(), true)]);
    assert!(matches!(replies[0], Err(WriteError::UsageUser(1, _))));
    assert!(table.changes.is_empty() && table.changes.rollups.is_empty());
    let replies = table.run(vec![record(records(), false)]);
    assert!(matches!(outcomes(&replies[0]), [Outcome::Recorded(_), Outcome::UnknownUser(_)]));
    assert_eq!(table.changes.usage.len(), 1);
}

#[test]
fn a_deleted_user_spends_and_records_nothing_more() {
    let mut table = Table::new();
    let delete = || plain(Command::Delete(Delete { auth0_id: id("ada") }));
    let replies =
        table.run(vec![delete(), plain(consume(1)), record(vec![usage(ADA, None)], false), delete()]);
    assert!(replies[0].is_ok());
    assert!(matches!(replies[1], Err(WriteError::Credits(crate::credits::Rejection::UnknownAccount))));
    assert!(matches!(outcomes(&replies[2])[0], Outcome::UnknownUser(_)));
    assert!(matches!(replies[3], Err(WriteError::Users(users::Rejection::NotFound(_)))));
    assert_eq!((table.changes.entries.len(), table.changes.usage.len()), (0, 0));

    let replies = table.run(vec![plain(ensure("ada", "ada@x.de")), plain(consume(1))]);
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    assert_eq!(table.balance(), Credits::whole(99), "back as it stood, without a second welcome");
}

#[test]
fn the_versions_that_were_read_are_demanded_and_moved_by_one() {
    let mut table = Table::new();
    let read = table.working.accounts[&ADA].version;
    table.run(vec![plain(consume(1)), plain(consume(1)), plain(ensure("bob", "bob@x.de"))]);
    assert_eq!(table.changes.accounts[&ADA], Some(read), "what was read before the first of them");
    assert_eq!(table.working.accounts[&ADA].version, read + 1);
    let bob = table.changes.new_users[0].id;
    assert_eq!((table.changes.accounts[&bob], table.working.accounts[&bob].version), (None, 1));
    assert!(table.changes.new_grants.contains_key(&(bob, 1)) && table.changes.grants.contains_key(&(ADA, 1)));
}

#[test]
fn one_reference_in_one_batch_is_applied_once() {
    let mut table = Table::new();
    let issue = |credits| plain(Command::Ledger(ADA, LedgerCommand::Issue(issue(credits, Some("pi_1")))));
    let replies = table.run(vec![issue(5), issue(5), issue(6)]);
    let seqs: Vec<i64> = replies
        .iter()
        .filter_map(|reply| match reply {
            Ok(Reply::Done(Done::Entry { entry, .. })) => Some(entry.seq),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, [2, 2]);
    assert!(matches!(replies[2], Err(WriteError::Credits(_))));
    assert_eq!(table.balance(), Credits::whole(105));
}

#[test]
fn refunds_of_one_batch_sum_to_what_was_spent() {
    let mut table = Table::new();
    let replies = table.run(vec![plain(consume(10))]);
    let Ok(Reply::Done(Done::Entry { entry, .. })) = &replies[0] else { panic!("{replies:?}") };
    let original = entry.transaction_id();
    let grants = vec![table.changes.grants[&(ADA, 1)].clone()];
    let loaded = Original { entry: (**entry).clone(), refunded: Credits::ZERO, grants };
    table.working.originals.insert(original, loaded);
    let refund = |credits: Option<i32>| {
        let amount = credits.map(Credits::whole);
        plain(Command::Ledger(ADA, LedgerCommand::Refund(Refund { original, amount, note: Note::default() })))
    };
    let replies = table.run(vec![refund(Some(6)), refund(Some(6)), refund(None), refund(None)]);
    let accepted: Vec<bool> = replies.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true, false]);
    assert_eq!(table.balance(), Credits::whole(100));
}

#[test]
fn what_a_batch_takes_back_a_later_refund_of_it_does_not_revive() {
    let mut table = Table::new();
    let replies = table.run(vec![plain(consume(40))]);
    let Ok(Reply::Done(Done::Entry { entry, .. })) = &replies[0] else { panic!("{replies:?}") };
    let original = entry.transaction_id();
    let grants = vec![table.changes.grants[&(ADA, 1)].clone()];
    let loaded = Original { entry: (**entry).clone(), refunded: Credits::ZERO, grants };
    table.working.originals.insert(original, loaded);
    let void = LedgerCommand::Void(Void { grant: 1, note: Note::default() });
    let refund = LedgerCommand::Refund(Refund { original, amount: None, note: Note::default() });
    let replies = table.run([void, refund].map(|command| plain(Command::Ledger(ADA, command))).into());
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    let voided = &table.changes.grants[&(ADA, 1)];
    assert!(voided.voided && voided.remaining == Credits::ZERO, "{voided:?}");
    assert_eq!(table.changes.new_grants[&(ADA, 4)].remaining, Credits::whole(40), "a grant of its own");
}

#[test]
fn what_a_batch_reclaims_is_known_to_the_rest_of_it() {
    let mut table = Table::new();
    let replies = table.run(vec![plain(consume(40))]);
    let Ok(Reply::Done(Done::Entry { entry, .. })) = &replies[0] else { panic!("{replies:?}") };
    let original = entry.transaction_id();
    let grants = vec![table.changes.grants[&(ADA, 1)].clone()];
    let loaded = Original { entry: (**entry).clone(), refunded: Credits::ZERO, grants };
    table.working.originals.insert(original, loaded);
    let reclaim = |credits: i32, reference: &str| {
        let (amount, reference_id) = (Credits::whole(credits), reference.to_owned());
        LedgerCommand::Reclaim(Reclaim { grant: 1, amount, reference_id, note: Note::default() })
    };
    let refund = LedgerCommand::Refund(Refund { original, amount: None, note: Note::default() });
    let asks = [reclaim(30, "re_1"), reclaim(30, "re_1"), reclaim(71, "re_2"), reclaim(70, "re_3"), refund];
    let replies = table.run(asks.map(|command| plain(Command::Ledger(ADA, command))).into());
    let seqs: Vec<i64> = replies
        .iter()
        .filter_map(|reply| match reply {
            Ok(Reply::Done(Done::Entry { entry, .. })) => Some(entry.seq),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, [3, 3, 4, 5], "{replies:?}");
    let exceeds = crate::credits::Rejection::ReclaimExceeds { reclaimable: Credits::whole(70) };
    assert!(matches!(&replies[2], Err(WriteError::Credits(why)) if *why == exceeds), "{:?}", replies[2]);
    let parts: Vec<_> = table.changes.entries.iter().map(|entry| entry.funded_by.clone()).collect();
    let credits = Credits::whole;
    assert_eq!(parts[..2], [vec![(1, credits(30))], vec![(1, credits(30)), (0, credits(40))]]);
    assert_eq!(parts[2..], [vec![], vec![(5, credits(40))]], "what comes back pays what is owed");
    let grant = &table.changes.grants[&(ADA, 1)];
    assert!(grant.voided && grant.remaining == Credits::ZERO, "{grant:?}");
    assert_eq!(table.balance(), Credits::ZERO);
}

#[test]
fn an_account_owes_no_more_than_sums_can_hold() {
    let mut table = Table::new();
    table.run(vec![plain(consume(100))]);
    let account = table.working.accounts.get_mut(&ADA).expect("an account");
    let most = crate::credits::model::OWED_MAX.micro();
    account.balance = Credits::from_micro(1 - most);
    let reclaim = |amount: i64, reference: &str| {
        let (amount, reference_id) = (Credits::from_micro(amount), reference.to_owned());
        let reclaim = Reclaim { grant: 1, amount, reference_id, note: Note::default() };
        plain(Command::Ledger(ADA, LedgerCommand::Reclaim(reclaim)))
    };
    let replies = table.run(vec![reclaim(2, "re_1"), reclaim(1, "re_1")]);
    let refused = matches!(replies[0], Err(WriteError::Credits(crate::credits::Rejection::OwesTooMuch)));
    assert!(refused && replies[1].is_ok(), "{replies:?}");
    assert_eq!(table.working.accounts[&ADA].owed(), most);
}

#[test]
fn limits_that_are_the_same_are_not_written() {
    let mut table = Table::new();
    let limit = |id: &str| {
        let (per, unit, window) =
            (limits::model::Dimension::User, limits::model::Unit::Credits, limits::window::Window::Day);
        crate::limits::Limit { id: id.to_owned(), per, value: None, unit, window, amount: 1 }
    };
    let plan = || plain(Command::Ledger(ADA, LedgerCommand::SetPlanLimits([limit("plan:a")].into())));
    let own = |id: &str| plain(Command::Ledger(ADA, LedgerCommand::SetLimits([limit(id)].into())));
    table.run(vec![own("mine"), plan()]);
    assert_eq!(*table.working.accounts[&ADA].limits, [limit("mine"), limit("plan:a")]);
    let replies = table.run(vec![plan(), own("mine")]);
    assert!(table.changes.is_empty(), "nothing is written");
    assert!(matches!(&replies[0], Ok(Reply::Done(Done::Account(account))) if account.limits.len() == 2));
}

#[test]
fn a_reference_that_was_applied_moves_nothing_where_an_end_is_due() {
    let mut table = Table::new();
    let bought = || plain(Command::Ledger(ADA, LedgerCommand::Issue(issue(5, Some("pi_1")))));
    table.run(vec![bought()]);
    let account = table.working.accounts.get_mut(&ADA).expect("an account");
    account.grants[0].expires_at = Some(NOW);
    let before = account.clone();
    table.run(vec![bought()]);
    assert!(table.changes.is_empty(), "nothing is written");
    assert_eq!(table.working.accounts[&ADA], before, "so nothing may have moved");
}

#[test]
fn a_refund_opens_no_more_grants_than_there_may_be() {
    let mut table = Table::new();
    let replies = table.run(vec![plain(consume(100))]);
    let account = table.working.accounts.get_mut(&ADA).expect("an account");
    for seq in 10..10 + i64::try_from(OPEN_GRANTS_MAX).expect("a number") {
        let terms = Grant { seq, ..table.working.grants[&GrantId { user: ADA, seq: 1 }].clone() }.terms();
        account.insert_grant(Grant::issued(seq, &GrantTerms { amount: 1, ..terms }));
    }
    account.balance = Credits::from_micro(i64::try_from(OPEN_GRANTS_MAX).expect("a number"));
    let Ok(Reply::Done(Done::Entry { entry, .. })) = &replies[0] else { panic!("{:?}", replies[0]) };
    let original = entry.transaction_id();
    let grants = vec![table.changes.grants[&(ADA, 1)].clone()];
    let loaded = Original { entry: (**entry).clone(), refunded: Credits::ZERO, grants };
    table.working.originals.insert(original, loaded);
    let refund = LedgerCommand::Refund(Refund { original, amount: None, note: Note::default() });
    let replies = table.run(vec![plain(Command::Ledger(ADA, refund))]);
    let refused = matches!(replies[0], Err(WriteError::Credits(crate::credits::Rejection::TooManyGrants)));
    assert!(refused, "{:?}", replies[0]);
}

#[test]
fn a_job_that_breaks_off_half_way_stops_its_batch() {
    let mut table = Table::new();
    // One id for two entries: the second cannot be sealed, and its account has moved already.
    table.ids.entries.refill(10_000, 1);
    assert!(matches!(table.try_run(vec![plain(consume(1)), plain(consume(1))]), Err(DbError::Internal(_))));
    let mut table = Table::new();
    // More than an account may ever be given; the user was made when that is found.
    table.welcome = Credits::from_micro(i64::MAX);
    assert!(matches!(table.try_run(vec![plain(ensure("bob", "bob@x.de"))]), Err(DbError::Internal(_))));
}

#[test]
fn a_clock_that_runs_behind_neither_hides_nor_blocks_what_was_given() {
    let mut table = Table::new();
    let account = table.working.accounts.get_mut(&ADA).expect("an account");
    account.updated_at = NOW.plus(Duration::from_secs(2));
    for grant in &mut account.grants {
        grant.effective_at = account.updated_at;
    }
    assert_eq!(table.balance(), Credits::whole(100));
    let replies = table.run(vec![plain(consume(100))]);
    let Ok(Reply::Done(Done::Entry { entry, .. })) = &replies[0] else { panic!("{replies:?}") };
    assert_eq!(entry.created_at, NOW.plus(Duration::from_secs(2)), "time never falls along the sequence");
}

#[test]
fn an_edit_that_keeps_an_event_itself_comes_after_the_events_of_what_was_decided_before_it() {
    let mut table = Table::new();
    let at = Event { kind: EventType::UserSuspended, user: Some(ADA), body: "{}".to_owned(), at: NOW };
    let edit = Edit::new(ADA, vec![at.statement()]);
    table.run(vec![plain(consume(1)), plain(Command::Edit(edit)), plain(consume(2))]);
    let told: Vec<EventType> = table.changes.events.iter().map(|event| event.kind).collect();
    assert_eq!(told, [EventType::CreditConsumed, EventType::CreditConsumed]);
    let (before, edit) = &table.changes.edits[0];
    assert!(edit.tells());
    assert_eq!(*before, 1, "the first is kept before the edit, the second after it");
}
