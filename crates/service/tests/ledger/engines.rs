//! The same random asks through the real writer, many at a time, on both engines.

use crate::script::{Random, START, command, setting};
use crate::stage::{Engine, Player, Stage, set, user};
use futures_util::future::join_all;
use kernel::Clock;
use user_service::credits::Entry;
use user_service::credits::balances::Balances;
use user_service::writer::Command;

/// How many asks one run makes of each engine.
const ASKS: usize = 3_000;
/// How many asks are under way together at most; up to 30 `join_all` sends them in their order.
const TOGETHER: u64 = 28;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_agrees_with_the_model_however_many_asks_are_under_way() {
    crowd(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_agrees_with_the_model_however_many_asks_are_under_way() {
    crowd(Engine::Postgres).await;
}

async fn crowd(engine: Engine) {
    let seed = setting("LEDGER_SEED").unwrap_or(41);
    eprintln!("LEDGER_SEED={seed}");
    let stage = Stage::open(engine, "crowd").await;
    let (clock, mut random) = (Clock::manual(kernel::Timestamp::from_micros(START)), Random(seed));
    let writer = stage.writer(&clock);
    let balances = Balances::start(&stage.db, &stage.memory);
    let mut players = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let worth = [1, 2_500_000, 40_000_000_000_000_000][players.len() % 3];
        players.push(Player::new(user(&writer, name).await, worth, START));
    }
    let (mut now, mut asked) = (START, 0);
    while asked < ASKS {
        // A machine's clock may also be set back; an account's time never is.
        now += if random.one_in(15) { -random.step() / 20 } else { random.step() };
        set(&clock, now);
        let mut asks = Vec::new();
        for _ in 0..=random.below(TOGETHER) {
            let at = if random.one_in(2) { 0 } else { random.below(players.len() as u64) as usize };
            asks.push((at, players[at].ask(&mut random, now)));
        }
        asked += asks.len();
        let under_way = asks.iter().map(|(at, ask)| {
            let player = &players[*at];
            writer.execute(Command::Ledger(player.user, command(ask, &player.receipts, player.worth)))
        });
        let answers = join_all(under_way).await;
        let mut answers: Vec<_> = asks.into_iter().zip(answers).map(|((at, ask), a)| (at, ask, a)).collect();
        for (at, player) in players.iter_mut().enumerate() {
            let (own, others) = answers.into_iter().partition(|(of, _, _)| *of == at);
            answers = others;
            let own: Vec<(usize, _, _)> = own;
            let own = own.into_iter().map(|(_, ask, answer)| (ask, answer)).collect();
            player.judge(&stage, &balances, own, &[now]).await;
        }
        if random.one_in(7) {
            // As after a crash: what was committed is all that is left.
            stage.memory.forget_all();
        }
        if random.one_in(5) {
            for player in &players {
                player.compare(&balances, now).await;
            }
        }
    }
    let report = stage.verify().await;
    assert_eq!(report.accounts, players.len() as u64);
    drop((writer, balances));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_engines_write_the_same_history() {
    let [sqlite, postgres] = [alone(Engine::Sqlite).await, alone(Engine::Postgres).await];
    assert_eq!(sqlite.len(), postgres.len());
    for (ours, theirs) in sqlite.iter().zip(&postgres) {
        assert_eq!(ours, theirs);
    }
    assert!(sqlite.len() > 300, "only {} entries were written", sqlite.len());
}

/// One ask after the other; the entries without what may differ: the integer ids and so the hashes.
async fn alone(engine: Engine) -> Vec<Entry> {
    let stage = Stage::open(engine, "alone").await;
    let (clock, mut random) = (Clock::manual(kernel::Timestamp::from_micros(START)), Random(97));
    let writer = stage.writer(&clock);
    let balances = Balances::start(&stage.db, &stage.memory);
    let mut players = [
        Player::new(user(&writer, "a").await, 1, START),
        Player::new(user(&writer, "b").await, 1_000, START),
    ];
    let mut now = START;
    for _ in 0..700 {
        now += random.step();
        set(&clock, now);
        let player = &mut players[random.below(2) as usize];
        let ask = player.ask(&mut random, now);
        let command = Command::Ledger(player.user, command(&ask, &player.receipts, player.worth));
        let answer = writer.execute(command).await;
        player.judge(&stage, &balances, vec![(ask, answer)], &[now]).await;
    }
    stage.verify().await;
    let mut history = Vec::new();
    for (nth, player) in players.iter().enumerate() {
        for entry in stage.entries(player.user).await {
            let user = kernel::UserRowId(nth as i64);
            history.push(Entry { user, id: 0, prev_hash: [0; 32], hash: [0; 32], ..entry });
        }
    }
    drop((writer, balances));
    stage.close().await;
    history
}
