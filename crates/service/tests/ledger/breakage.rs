//! What a bug or an unmet condition in one command does to the others: nothing.

use crate::script::START;
use crate::stage::{Engine, Stage, user};
use bytes::Bytes;
use futures_util::future::join_all;
use kernel::{Clock, Credits, Timestamp, UserRowId};
use user_service::credits::ledger::{Consume, Issue, Note};
use user_service::credits::{EntryKind, LedgerCommand, Source};
use user_service::writer::{Command, Edit, IdempotencyKey, Statement, Ticket, WriteError, Writer};

async fn give(writer: &Writer, user: UserRowId, credits: i32) {
    let issue = Issue {
        kind: EntryKind::Recharge,
        amount: Credits::whole(credits),
        source: Source::Purchase,
        priority: 0,
        effective_at: None,
        expires_at: None,
        scope: None,
        rollover: None,
        reference_id: None,
        note: Note::default(),
    };
    writer.execute(Command::Ledger(user, LedgerCommand::Issue(issue))).await.expect("credits");
}

fn consume(user: UserRowId, credits: i32) -> Command {
    let consume = Consume { amount: Credits::whole(credits), ..Consume::default() };
    Command::Ledger(user, LedgerCommand::Consume(consume))
}

/// A change of one user's name that is refused where the condition is not met.
fn rename(user: UserRowId, condition: i64) -> Command {
    let sql = "UPDATE users SET name = 'renamed' WHERE id = $1 AND id + $2 = id";
    let first = Statement::any("UPDATE users SET name = 'half done' WHERE id = $1", vec![user.0.into()]);
    let second = Statement::one(sql, vec![user.0.into(), condition.into()]);
    Command::Edit(Edit::new(user, vec![first, second]))
}

async fn a_panic_loses_its_batch_and_nothing_else(engine: Engine) {
    let stage = Stage::open(engine, &format!("panic_{engine:?}").to_lowercase()).await;
    let writer = stage.writer(&Clock::manual(Timestamp::from_micros(START)));
    let (a, b) = (user(&writer, "a").await, user(&writer, "b").await);
    give(&writer, a, 100).await;
    give(&writer, b, 100).await;
    for round in 0..5 {
        let key = IdempotencyKey { caller: "c".to_owned(), key: format!("k{round}"), fingerprint: [0; 32] };
        let ticket = Ticket { key: Some(key), room: None };
        let broken = writer.submit(consume(a, 1), ticket, |_| -> Bytes { panic!("a bug in an answer") });
        assert!(matches!(broken.await, Err(WriteError::Unavailable(_))), "its caller hears of it");
        // The next ones are decided on what the database holds, not on what the broken batch thought.
        for user in [a, b] {
            writer.execute(consume(user, 1)).await.expect("the writer goes on");
        }
    }
    assert_eq!(stage.verify().await.balance, Credits::whole(190));
    drop(writer);
    stage.close().await;
}

async fn a_refused_edit_fails_alone(engine: Engine) {
    let stage = Stage::open(engine, &format!("refused_{engine:?}").to_lowercase()).await;
    let writer = stage.writer(&Clock::manual(Timestamp::from_micros(START)));
    let (a, b) = (user(&writer, "a").await, user(&writer, "b").await);
    give(&writer, a, 100).await;
    // Sent together, so that they share batches.
    let commands = (0..60).map(|n| match n % 3 {
        0 => consume(a, 1),
        1 => rename(b, 1),
        _ => rename(a, 0),
    });
    let answers = join_all(commands.map(|command| writer.execute(command))).await;
    for (n, answer) in answers.iter().enumerate() {
        match n % 3 {
            1 => assert!(matches!(answer, Err(WriteError::Refused(1))), "{n}: {answer:?}"),
            _ => assert!(answer.is_ok(), "{n}: {answer:?}"),
        }
    }
    assert_eq!(stage.verify().await.balance, Credits::whole(80));
    let named = "SELECT id FROM users WHERE name IS NOT NULL ORDER BY id";
    assert_eq!(stage.db.query::<i64>(named, Vec::new()).await.expect("rows"), [a.0], "nothing is half done");
    drop(writer);
    stage.close().await;
}

macro_rules! on_both {
    ($($name:ident),+) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(super::Engine::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(super::Engine::Postgres).await;
            }
        }
    )+};
}

on_both!(a_panic_loses_its_batch_and_nothing_else, a_refused_edit_fails_alone);
