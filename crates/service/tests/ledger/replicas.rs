//! Two replicas on one PostgreSQL, with clocks that differ, racing for the same rows.

use crate::script::{Ask, Give, Random, START, command, setting};
use crate::stage::{Engine, Player, Stage, set, user};
use bytes::Bytes;
use futures_util::future::join_all;
use kernel::{Clock, Email, Timestamp, UserRowId};
use user_service::charges::{Charge, ChargeStatus, OnInsufficient};
use user_service::credits::balances::Balances;
use user_service::usage::model::UsageFacts;
use user_service::usage::{NewUsage, Outcome, Record};
use user_service::users::{Ensure, Patch};
use user_service::writer::{Command, Done, IdempotencyKey, Ticket, WriteError, Writer};

/// How far the second replica's clock is behind, in microseconds.
const BEHIND: i64 = 1_500;

fn clocks() -> [Clock; 2] {
    [START, START - BEHIND].map(|start| Clock::manual(Timestamp::from_micros(start)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_agree_with_the_model() {
    let seed = setting("LEDGER_SEED").unwrap_or(5);
    eprintln!("LEDGER_SEED={seed}");
    let stage = Stage::open(Engine::Postgres, "replicas").await;
    let (clocks, mut random) = (clocks(), Random(seed));
    let writers = [stage.writer(&clocks[0]), stage.writer(&clocks[1])];
    let balances = Balances::start(&stage.db, &stage.memory);
    let (a, b) = (user(&writers[0], "a").await, user(&writers[1], "b").await);
    let mut players = [Player::new(a, 1, START), Player::new(b, 1_000, START - BEHIND)];
    let mut now = START;
    for _ in 0..120 {
        now += random.step();
        set(&clocks[0], now);
        set(&clocks[1], now - BEHIND);
        let mut asks = Vec::new();
        for _ in 0..=random.below(20) {
            let (at, replica) = (random.below(2) as usize, random.below(2) as usize);
            asks.push((at, replica, players[at].ask(&mut random, now)));
        }
        let answers = join_all(asks.iter().map(|(at, replica, ask)| {
            let player = &players[*at];
            let command = command(ask, &player.receipts, player.worth);
            writers[*replica].execute(Command::Ledger(player.user, command))
        }))
        .await;
        let mut of_players = [Vec::new(), Vec::new()];
        for ((at, _, ask), answer) in asks.into_iter().zip(answers) {
            of_players[at].push((ask, answer));
        }
        for (player, own) in players.iter_mut().zip(of_players) {
            player.judge(&stage, &balances, own, &[now, now - BEHIND]).await;
        }
    }
    stage.verify().await;
    drop((writers, balances));
    stage.close().await;
}

async fn recharge(writer: &Writer, user: UserRowId, units: u64) {
    let give = Give { recharge: true, units, ..Give::default() };
    let command = command(&Ask::Give(give), &[], 1_000_000);
    writer.execute(Command::Ledger(user, command)).await.expect("recharged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_credits_are_spent_once() {
    let stage = Stage::open(Engine::Postgres, "last").await;
    let clocks = clocks();
    let writers = [stage.writer(&clocks[0]), stage.writer(&clocks[1])];
    let user = user(&writers[0], "a").await;
    recharge(&writers[0], user, 30).await;
    let consume = command(&Ask::Consume { units: 3, what: (None, None) }, &[], 1_000_000);
    let answers =
        join_all((0..60).map(|nth| writers[nth % 2].execute(Command::Ledger(user, consume.clone())))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    for answer in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(answer, WriteError::Credits(_)), "{answer}");
    }
    stage.verify().await;
    drop(writers);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reclaimed_is_reclaimed_once_over_both_replicas() {
    let stage = Stage::open(Engine::Postgres, "reclaim").await;
    let clocks = clocks();
    let writers = [stage.writer(&clocks[0]), stage.writer(&clocks[1])];
    let user = user(&writers[0], "a").await;
    recharge(&writers[0], user, 100).await;
    let grants = [stage.entries(user).await[0].transaction_id()];
    let reclaim = |nth: usize, units: u64, reference: u64| {
        let ask = Ask::Reclaim { receipt: 0, units, reference };
        writers[nth % 2].execute(Command::Ledger(user, command(&ask, &grants, 1_000_000)))
    };
    let spend = command(&Ask::Consume { units: 30, what: (None, None) }, &[], 1_000_000);
    writers[1].execute(Command::Ledger(user, spend)).await.expect("spent");
    let answers = join_all((0..40).map(|nth| reclaim(nth, 20, nth as u64 / 10))).await;
    let mut entries = Vec::new();
    for answer in answers {
        let Ok(Done::Entry { entry, .. }) = answer else { panic!("{answer:?}") };
        entries.push(entry.transaction_id());
    }
    entries.sort();
    entries.dedup();
    assert_eq!(entries.len(), 4, "one for each reference");
    // What is left to reclaim is what the database says, on whichever replica.
    for nth in 0..2 {
        let WriteError::Credits(refused) = reclaim(nth, 21, 9).await.expect_err("too much") else {
            panic!("not the ledger")
        };
        assert_eq!(refused.to_string(), "at most 20 credits of this grant can still be reclaimed");
    }
    let owed = reclaim(1, 20, 9).await.expect("reclaimed");
    let Done::Entry { entry, .. } = owed else { panic!("{owed:?}") };
    assert_eq!(entry.balance_after.to_string(), "-30");
    stage.verify().await;
    drop(writers);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_an_event_and_a_user_count_once_over_both_replicas() {
    let stage = Stage::open(Engine::Postgres, "once").await;
    let clocks = clocks();
    let writers = [stage.writer(&clocks[0]), stage.writer(&clocks[1])];
    let made = join_all((0..20).map(|nth| {
        let auth0_id = "a".parse().expect("an id");
        writers[nth % 2].execute(Command::Ensure(Ensure { auth0_id, email: None, name: None }))
    }))
    .await;
    let created = |done: &Result<Done, WriteError>| matches!(done, Ok(Done::User { created: true, .. }));
    assert_eq!(made.iter().filter(|done| created(done)).count(), 1, "{made:?}");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let a = user(&writers[0], "a").await;
    let b = user(&writers[1], "b").await;
    recharge(&writers[0], a, 1_000).await;
    recharge(&writers[1], b, 1_000).await;

    let body = |done: &Done| match done {
        Done::Entry { entry, .. } => Bytes::from(entry.transaction_id().to_string()),
        _ => Bytes::new(),
    };
    for round in 0..10_u8 {
        // One key, two users: the first request wins it, and all others are told so.
        let answers = join_all((0..24_usize).map(|nth| {
            let (user, print) = if nth % 3 == 0 { (b, 2) } else { (a, 1) };
            let key = IdempotencyKey {
                caller: "key:test".to_owned(),
                key: format!("key {round}"),
                fingerprint: [print; 32],
            };
            let command = Command::Ledger(
                user,
                command(&Ask::Consume { units: 1, what: (None, None) }, &[], 1_000_000),
            );
            writers[nth % 2].submit(command, Ticket { key: Some(key), room: None }, body)
        }))
        .await;
        let first: Vec<_> = answers.iter().flatten().filter(|answer| !answer.replayed).collect();
        assert_eq!(first.len(), 1, "{answers:?}");
        for answer in &answers {
            match answer {
                Ok(answer) => assert_eq!(answer.body, first[0].body),
                Err(error) => assert!(matches!(error, WriteError::IdempotencyMismatch), "{error}"),
            }
        }
        let recorded = join_all((0..20).map(|nth| {
            let records = vec![usage(a, &format!("event {round}")), usage(b, &format!("event {round}"))];
            writers[nth % 2].execute(Command::Usage(Record { records, atomic: false }))
        }))
        .await;
        let outcomes = recorded.into_iter().map(|done| match done {
            Ok(Done::Usage(outcomes)) => outcomes,
            other => panic!("{other:?}"),
        });
        let fresh = outcomes.flatten().filter(|outcome| matches!(outcome, Outcome::Recorded(_))).count();
        assert_eq!(fresh, 2, "one record of the event for each user");
    }
    assert_eq!(stage.entries(a).await.len() + stage.entries(b).await.len(), 2 + 10, "one consume per key");
    stage.verify().await;
    drop(writers);
    stage.close().await;
}

fn usage(user: UserRowId, event: &str) -> NewUsage {
    NewUsage {
        user,
        auth0_id: "a".parse().expect("an id"),
        created_at: None,
        event_id: Some(event.to_owned()),
        facts: std::sync::Arc::new(UsageFacts { event_type: "call".to_owned(), ..UsageFacts::default() }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_moves_within_a_batch_fails_nobody_else() {
    let stage = Stage::open(Engine::Postgres, "address").await;
    let clock = Clock::manual(Timestamp::from_micros(START));
    let writer = stage.writer(&clock);
    let email = |text: String| Some(Email::new(&text).expect("an address"));
    let payer = user(&writer, "payer").await;
    recharge(&writer, payer, 100).await;
    for pair in 0..8 {
        // The one who takes the address has the lower id, so its row is written first.
        user(&writer, &format!("taker{pair}")).await;
        let auth0_id = format!("owner{pair}").parse().expect("an id");
        let ensure = Ensure { auth0_id, email: email(format!("p{pair}@x.de")), name: None };
        writer.execute(Command::Ensure(ensure)).await.expect("made");
    }
    let mut commands = Vec::new();
    for pair in 0..8 {
        let patch = |who: &str, address: String| {
            let auth0_id = format!("{who}{pair}").parse().expect("an id");
            Command::Patch(Patch { auth0_id, email: email(address), name: None })
        };
        commands.push(patch("owner", format!("q{pair}@x.de")));
        commands.push(patch("taker", format!("p{pair}@x.de")));
        commands.push(Command::Ledger(
            payer,
            command(&Ask::Consume { units: 1, what: (None, None) }, &[], 1_000_000),
        ));
    }
    // The first ones keep both lanes busy while the others queue behind them.
    let answers = join_all(commands.into_iter().map(|command| writer.execute(command))).await;
    for answer in answers {
        let fine = matches!(answer, Ok(_) | Err(WriteError::Users(_)));
        assert!(fine, "a command failed another: {answer:?}");
    }
    stage.verify().await;
    drop(writer);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_gave_can_be_seen_and_spent_on_one_whose_clock_is_behind() {
    let stage = Stage::open(Engine::Postgres, "behind").await;
    let clocks = clocks();
    let writers = [stage.writer(&clocks[0]), stage.writer(&clocks[1])];
    let user = user(&writers[0], "a").await;
    recharge(&writers[0], user, 5).await;
    let balances = Balances::start(&stage.db, &stage.memory);
    let account = balances.account(user).await.expect("a balance").expect("an account");
    assert_eq!(account.available(clocks[1].now()), kernel::Credits::whole(5));
    let consume = command(&Ask::Consume { units: 5, what: (None, None) }, &[], 1_000_000);
    writers[1].execute(Command::Ledger(user, consume)).await.expect("spent");
    drop((writers, balances));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_came_back_elsewhere_is_known_at_once() {
    let stage = Stage::open(Engine::Postgres, "back").await;
    let clocks = clocks();
    let writers = [stage.writer(&clocks[0]), stage.writer(&clocks[1])];
    let a = user(&writers[0], "a").await;
    let auth0_id = "a".parse().expect("an id");
    // Deleted where its account is remembered, and back through the other replica.
    writers[0].execute(Command::Delete(user_service::users::Delete { auth0_id })).await.expect("deleted");
    let record = || Command::Usage(Record { records: vec![usage(a, "e")], atomic: false });
    let refused = writers[0].execute(record()).await.expect("answered");
    assert!(matches!(&refused, Done::Usage(outcomes) if matches!(outcomes[0], Outcome::UnknownUser(_))));
    assert_eq!(user(&writers[1], "a").await, a);
    let known = writers[0].execute(record()).await.expect("answered");
    assert!(
        matches!(&known, Done::Usage(outcomes) if matches!(outcomes[0], Outcome::Recorded(_))),
        "{known:?}"
    );
    drop(writers);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settling_writes_down_what_another_replica_gave() {
    let stage = Stage::open(Engine::Postgres, "settle").await;
    let clocks = clocks();
    let writers = [stage.writer(&clocks[0]), stage.writer(&clocks[1])];
    let user = user(&writers[0], "a").await;
    recharge(&writers[0], user, 5).await;
    let give = Give { units: 3, until: Some(START + 100), ..Give::default() };
    let give = command(&Ask::Give(give), &[], 1_000_000);
    writers[1].execute(Command::Ledger(user, give)).await.expect("given");
    clocks.iter().for_each(|clock| set(clock, START + 5_000));
    // The first replica remembers the account without that grant.
    let settle = user_service::credits::LedgerCommand::Settle;
    writers[0].execute(Command::Ledger(user, settle)).await.expect("settled");
    let last = stage.entries(user).await.pop().expect("entries");
    assert_eq!(last.kind, user_service::credits::EntryKind::Expire);
    stage.verify().await;
    drop(writers);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_paid_is_not_decided_on_a_memory() {
    let stage = Stage::open(Engine::Postgres, "unpaid").await;
    let clocks = clocks();
    let writers = [stage.writer(&clocks[0]), stage.writer(&clocks[1])];
    let user = user(&writers[0], "a").await;
    recharge(&writers[0], user, 1).await;
    let charge = || {
        let facts = UsageFacts {
            event_type: "call".to_owned(),
            credits_charged: kernel::Credits::whole(3),
            ..UsageFacts::default()
        };
        let new = NewUsage { facts: std::sync::Arc::new(facts), event_id: None, ..usage(user, "e") };
        Command::Charge(Box::new(Charge {
            new,
            status: ChargeStatus::Charged,
            pools: None,
            basis: Default::default(),
            measure: Default::default(),
            on_insufficient: OnInsufficient::Record,
            note: Default::default(),
        }))
    };
    let status = |done: Result<Done, WriteError>| match done {
        Ok(Done::Charged(charged)) => charged.usage.charge.expect("a mark").status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status(writers[0].execute(charge()).await), ChargeStatus::Unpaid);
    // Paid for elsewhere, and known here at once.
    recharge(&writers[1], user, 2).await;
    assert_eq!(status(writers[0].execute(charge()).await), ChargeStatus::Charged);
    stage.verify().await;
    drop(writers);
    stage.close().await;
}
