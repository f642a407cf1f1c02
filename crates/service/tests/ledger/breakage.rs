//! What a bug or an unmet condition in one command does to the others: nothing; and what a forgery does: it is found.

use crate::script::START;
use crate::stage::{Engine, Stage, user};
use bytes::Bytes;
use futures_util::future::join_all;
use kernel::{Clock, Credits, Timestamp, UserRowId};
use user_service::credits::ledger::{Consume, Issue, Note, Reclaim, Refund};
use user_service::credits::model::Cause;
use user_service::credits::{Entry, EntryKind, LedgerCommand, Source, chain, verify};
use user_service::db::Value;
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

/// Writes an entry over the stored one, with the hash that it now has.
async fn forge(writer: &Writer, entry: &Entry) {
    let parts = chain::funded_by_text(&entry.funded_by);
    let Cause { reverses, reference_id, .. } = entry.cause.clone();
    let sql = "UPDATE credit_entries SET amount = $3, balance_after = $4, funded_by = $5, reverses = $6, \
               reference_id = $7, grant_terms = $8, hash = $9 WHERE user_id = $1 AND seq = $2";
    let (amount, after) = (entry.amount.micro().into(), entry.balance_after.micro().into());
    let values = vec![
        entry.user.0.into(),
        entry.seq.into(),
        amount,
        after,
        parts.as_str().into(),
        reverses.into(),
        reference_id.into(),
        chain::grant_terms_text(entry).into(),
        Value::Bytes(chain::hash(entry).to_vec()),
    ];
    let edit = Edit::new(entry.user, vec![Statement::one(sql, values)]);
    writer.execute(Command::Edit(edit)).await.expect("forged");
}

async fn a_forged_reversal_is_found_although_its_hash_is_right(engine: Engine) {
    let stage = Stage::open(engine, &format!("forged_{engine:?}").to_lowercase()).await;
    let writer = stage.writer(&Clock::manual(Timestamp::from_micros(START)));
    let a = user(&writer, "a").await;
    give(&writer, a, 100).await;
    give(&writer, a, 50).await;
    writer.execute(consume(a, 70)).await.expect("spent");
    let amount = Credits::whole(40);
    let reclaim = Reclaim { grant: 1, amount, reference_id: "re_1".to_owned(), note: Note::default() };
    writer.execute(Command::Ledger(a, LedgerCommand::Reclaim(reclaim))).await.expect("reclaimed");
    let credits = Credits::whole;
    let reclaimed = stage.entries(a).await[3].clone();
    assert_eq!(reclaimed.funded_by, [(1, credits(30)), (2, credits(10))]);

    let reclaims = |parts: &[(i64, i32)]| {
        let funded_by: Vec<_> = parts.iter().map(|(seq, part)| (*seq, credits(*part))).collect();
        let amount = credits(-parts.iter().map(|(_, part)| part).sum::<i32>());
        let balance_after = Credits::from_micro(reclaimed.balance_before.micro() + amount.micro());
        Entry { amount, balance_after, funded_by, ..reclaimed.clone() }
    };
    let of = |reverses: i64| Cause { reverses: Some(reverses), ..reclaimed.cause.clone() };
    let void = Cause { reference_id: None, ..reclaimed.cause.clone() };
    let foreign = "it takes back something else than it names";
    for (forged, rule) in [
        (reclaims(&[(1, 30), (2, 50), (0, 21)]), "more of a grant is taken back than it gave"),
        (reclaims(&[(1, 31), (2, 9)]), "a grant would have less than nothing or more than was given"),
        (Entry { cause: of(3), ..reclaimed.clone() }, "it takes back a grant that was never issued"),
        (Entry { cause: void.clone(), ..reclaimed.clone() }, foreign),
        (
            Entry { cause: void.clone(), ..reclaims(&[(1, 10)]) },
            "it leaves something of the grant that it takes back",
        ),
        (
            Entry { cause: void, ..reclaims(&[(1, 30), (0, 10)]) },
            "it is nothing that a credit limit pays for",
        ),
        (
            Entry { funded_by: vec![(1, credits(30))], ..reclaimed.clone() },
            "funded_by and the issued grant do not sum to amount",
        ),
    ] {
        forge(&writer, &forged).await;
        let found = verify::verify(&stage.location, None).await.expect("it can be read").first_bad;
        assert_eq!(found.map(|fault| fault.rule).as_deref(), Some(rule), "{forged:?}");
    }
    forge(&writer, &reclaimed).await;
    stage.verify().await;

    // What was reclaimed does not come back with a refund.
    let refund =
        Refund { original: stage.entries(a).await[2].transaction_id(), amount: None, note: Note::default() };
    writer.execute(Command::Ledger(a, LedgerCommand::Refund(refund))).await.expect("refunded");
    let refunded = stage.entries(a).await[4].clone();
    assert_eq!(
        (refunded.funded_by.as_slice(), refunded.grant.as_ref().map(|terms| terms.amount)),
        (&[(1, credits(60))][..], Some(10_000_000))
    );
    stage.verify().await;
    forge(&writer, &Entry { funded_by: vec![(1, credits(70))], grant: None, ..refunded }).await;
    let found = verify::verify(&stage.location, None).await.expect("it can be read").first_bad;
    let rule = "a grant would have less than nothing or more than was given";
    assert_eq!(found.map(|fault| fault.rule).as_deref(), Some(rule));
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

on_both!(
    a_panic_loses_its_batch_and_nothing_else,
    a_refused_edit_fails_alone,
    a_forged_reversal_is_found_although_its_hash_is_right
);
