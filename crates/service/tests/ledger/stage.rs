//! A database of its own for each test, on either engine, and what is asked of it.

use crate::model::{Model, Outcome, given_max};
use crate::rules::outcome;
use crate::script::{Ask, START, setting_text};
use kernel::{Clock, Credits, Timestamp, TransactionId, UserRowId};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_postgres::NoTls;
use user_service::credits::balances::Balances;
use user_service::credits::ledger::Policy;
use user_service::credits::memory::Accounts;
use user_service::credits::{Entry, store, verify};
use user_service::db::{Db, Location, migrate};
use user_service::users::Ensure;
use user_service::writer::{Command, Done, Rules, WriteError, Writer};

/// How long a grant lives that a refund makes, in microseconds.
pub const REFUND_LIFE: i64 = 2_000;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A fresh database.
pub struct Stage {
    /// The committed accounts, where one process has the database to itself.
    pub memory: Arc<Accounts>,
    pub db: Db,
    pub location: Location,
    folder: Option<PathBuf>,
    database: Option<String>,
}

impl Stage {
    pub async fn open(engine: Engine, name: &str) -> Self {
        let name = format!("ledger_{name}_{}", std::process::id());
        let (location, folder, database) = match engine {
            Engine::Sqlite => {
                let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
                let _ = std::fs::remove_dir_all(&folder);
                (Location::Sqlite(folder.join("test.db")), Some(folder), None)
            }
            Engine::Postgres => {
                admin(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                admin(&format!("CREATE DATABASE {name}")).await;
                let url = admin_url();
                let (address, options) = url.split_once('?').unwrap_or((&url, ""));
                let server = address.rsplit_once('/').expect("a URL that names a database").0;
                (Location::Postgres(format!("{server}/{name}?{options}"), 8), None, Some(name))
            }
        };
        let db = Db::open(&location).await.expect("the database opens");
        migrate::migrate(&db).await.expect("the schema is made");
        Self { db, location, folder, database, memory: Arc::default() }
    }

    /// A writer, as one replica has it.
    pub fn writer(&self, clock: &Clock) -> Writer {
        let life = Duration::from_micros(REFUND_LIFE.unsigned_abs());
        let rules = Rules {
            ledger: Policy { refund_life: Some(life) },
            welcome: Credits::ZERO,
            welcome_life: None,
            session_life: None,
        };
        Writer::start(&self.db, rules, clock, &self.memory).expect("the writer starts").0
    }

    /// Replays every account.
    pub async fn verify(&self) -> verify::Report {
        let report = verify::verify(&self.location, None).await.expect("the ledger can be read");
        assert!(report.is_sound(), "{report}");
        report
    }

    /// An account's history, oldest first.
    pub async fn entries(&self, user: UserRowId) -> Vec<Entry> {
        let filter = store::TransactionFilter { limit: 1_000_000, ..Default::default() };
        let mut entries = store::transactions(&self.db, user, &filter).await.expect("entries");
        entries.rows.reverse();
        entries.rows
    }

    pub async fn close(self) {
        drop(self.db);
        if let Some(folder) = self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
        if let Some(database) = self.database {
            admin(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await;
        }
    }
}

fn admin_url() -> String {
    setting_text("TEST_POSTGRES_URL")
        .expect("there is no TEST_POSTGRES_URL: run ./test, which starts PostgreSQL")
}

async fn admin(statement: &str) {
    let (client, connection) =
        tokio_postgres::connect(&admin_url(), NoTls).await.expect("PostgreSQL answers: run ./test");
    let connection = tokio::spawn(connection);
    client.batch_execute(statement).await.expect(statement);
    drop(client);
    let _ = connection.await;
}

/// Sets a manual clock, also back.
pub fn set(clock: &Clock, micros: i64) {
    if let Clock::Manual(now) = clock {
        now.store(micros, Ordering::SeqCst);
    }
}

/// Makes a user without credits.
pub async fn user(writer: &Writer, name: &str) -> UserRowId {
    let ensure = Ensure { auth0_id: name.parse().expect("an id"), email: None, name: None };
    match writer.execute(Command::Ensure(ensure)).await {
        Ok(Done::User { user, .. }) => user.id,
        other => panic!("{other:?}"),
    }
}

/// An account beside its model.
pub struct Player {
    pub user: UserRowId,
    pub model: Model,
    pub receipts: Vec<TransactionId>,
    pub worth: i64,
    seen: i64,
}

impl Player {
    pub fn new(user: UserRowId, worth: i64) -> Self {
        let model = Model::new(given_max(worth), Some(REFUND_LIFE), START);
        Self { user, model, receipts: Vec::new(), worth, seen: 0 }
    }

    /// Judges what became of asks that were under way together: what was accepted must be right in
    /// the order of its entries, and what was not, at some moment among them.
    pub fn judge(&mut self, mut answers: Vec<(Ask, Result<Done, WriteError>)>, nows: &[i64]) {
        let mut written = Vec::new();
        while let Some(at) = answers.iter().position(|(ask, answer)| wrote(ask, answer, self.seen, &written))
        {
            match answers.remove(at) {
                (ask, Ok(Done::Entry { entry, available })) => written.push((*entry, ask, available)),
                _ => unreachable!("it was just found"),
            }
        }
        written.sort_by_key(|(entry, _, _)| entry.seq);
        let mut moments = vec![self.model.clone()];
        for (entry, ask, available) in written {
            let now = entry.created_at.micros();
            assert_eq!(self.model.apply(&ask, now), Outcome::Done, "{ask:?} made {entry:?}");
            let left = self.model.available(now);
            assert_eq!((available.micro() / self.worth) as u64, left, "available after {ask:?}: {entry:?}");
            self.receipts.push(entry.transaction_id());
            self.seen = entry.seq;
            moments.push(self.model.clone());
        }
        for (ask, answer) in answers {
            let found = match &answer {
                Ok(Done::Entry { entry, .. }) => {
                    let same = |id: &TransactionId| *id == entry.transaction_id();
                    Outcome::Again(self.receipts.iter().position(same).expect("an entry seen before"))
                }
                Ok(Done::Settled) => {
                    nows.iter().for_each(|now| assert_eq!(self.model.apply(&ask, *now), Outcome::Done));
                    continue;
                }
                Err(WriteError::Credits(rejection)) => outcome(rejection),
                other => panic!("{ask:?}: {other:?}"),
            };
            let right = |model: &Model| nows.iter().any(|now| model.clone().apply(&ask, *now) == found);
            assert!(moments.iter().any(right), "{ask:?} was never {found:?}: {answer:?}");
        }
    }

    /// What a reader sees.
    pub async fn compare(&self, balances: &Balances, now: i64) {
        let account = balances.account(self.user).await.expect("a balance").expect("an account");
        let units = |credits: Credits| (credits.micro() / self.worth) as u64;
        let at = Timestamp::from_micros(now);
        assert_eq!(units(account.available(at)), self.model.available(now), "available");
        assert_eq!(units(account.total(at)), self.model.total(now), "total");
        assert_eq!(units(account.credits_total), self.model.given(), "credits_total");
    }
}

/// Whether this ask wrote the entry that it was answered with, and none of those found so far did.
fn wrote(ask: &Ask, answer: &Result<Done, WriteError>, seen: i64, written: &[(Entry, Ask, Credits)]) -> bool {
    let Ok(Done::Entry { entry, .. }) = answer else { return false };
    if entry.seq <= seen || written.iter().any(|(other, _, _)| other.seq == entry.seq) {
        return false;
    }
    match (ask, &entry.grant) {
        // Of several with one reference, it is the one whose terms were kept.
        (Ask::Give(give), Some(terms)) => {
            terms.priority == give.priority
                && terms.effective_at == give.from.unwrap_or(entry.created_at.micros())
                && terms.expires_at == give.until
        }
        _ => true,
    }
}
