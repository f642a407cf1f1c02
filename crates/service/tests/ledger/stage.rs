//! A database of its own for each test, on either engine, and what is asked of it.

use crate::books::{is_receipt, outcome};
use crate::model::Model;
use crate::model::holds::State;
use crate::script::{Ask, Outcome, Random, setting_text};
use kernel::{Clock, Credits, Timestamp, TransactionId, UserRowId};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_postgres::NoTls;
use user_service::credits::balances::Balances;
use user_service::credits::ledger::Policy;
use user_service::credits::memory::Accounts;
use user_service::credits::{Account, Entry, Grant, store, verify};
use user_service::db::{Db, DbError, FromRow, Location, Row, migrate};
use user_service::users::Ensure;
use user_service::webhooks::EventType;
use user_service::writer::{Command, Done, Edit, Rules, Statement, Told, WriteError, Writer};

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
        let stage = Self { db, location, folder, database, memory: Arc::default() };
        // Somebody wants to be told of everything; nobody sends it here.
        let sql = "INSERT INTO webhook_subscriptions (event_type, endpoint) VALUES ($1, 1)";
        let wanted = EventType::ALL.iter().map(|kind| Statement::one(sql, vec![kind.as_str().into()]));
        let wanted = Command::Edit(Edit::new(UserRowId(0), wanted.collect()));
        stage.writer(&Clock::System).execute(wanted).await.expect("subscriptions");
        stage
    }

    /// A writer, as one replica has it.
    pub fn writer(&self, clock: &Clock) -> Writer {
        let life = Duration::from_micros(REFUND_LIFE.unsigned_abs());
        let rules = Rules {
            ledger: Policy { refund_life: Some(life) },
            welcome: Credits::ZERO,
            welcome_life: None,
            session_life: None,
            low_balance: Credits::ZERO,
        };
        Writer::start(&self.db, rules, clock, &self.memory, &Told::default()).expect("the writer starts").0
    }

    /// Replays every account, and insists that others were told of each entry: once, and in order.
    pub async fn verify(&self) -> verify::Report {
        let report = verify::verify(&self.location, None).await.expect("the ledger can be read");
        assert!(report.is_sound(), "{report}");
        let entries = "SELECT e.user_id, e.transaction_type, e.id, e.seq, abs(e.amount), e.balance_after, u.auth0_id \
            FROM credit_entries e JOIN users u ON u.id = e.user_id ORDER BY e.user_id, e.seq";
        let entries: Vec<Moved> = self.db.query(entries, vec![]).await.expect("entries");
        let told = "SELECT user_id, event_type, body FROM webhook_events WHERE event_type LIKE 'credit.%' \
            AND event_type NOT IN ('credit.low_balance', 'credit.limit_changed') ORDER BY user_id, id";
        let told: Vec<Heard> = self.db.query(told, vec![]).await.expect("events");
        assert_eq!(told.len(), entries.len(), "an event per entry");
        for (Moved(moved), Heard(heard)) in entries.iter().zip(&told) {
            assert!(heard.starts_with(moved), "{heard} is not about {moved}");
        }
        report
    }

    /// An account's history, oldest first.
    pub async fn entries(&self, user: UserRowId) -> Vec<Entry> {
        let filter = store::TransactionFilter { limit: 1_000_000, ..Default::default() };
        let mut entries = store::transactions(&self.db, user, &filter).await.expect("entries");
        entries.rows.reverse();
        entries.rows
    }

    /// The entries of an account after that one, oldest first.
    pub async fn entries_after(&self, user: UserRowId, seq: i64) -> Vec<Entry> {
        let filter = store::TransactionFilter { limit: 300, ..Default::default() };
        let mut entries = store::transactions(&self.db, user, &filter).await.expect("entries").rows;
        entries.retain(|entry| entry.seq > seq);
        entries.reverse();
        assert!(entries.first().is_none_or(|first| first.seq == seq + 1), "too many at once");
        entries
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

/// What an event begins with that is about an entry: its user, its kind, and what it says first.
struct Moved(String);

impl FromRow for Moved {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let (user, id, seq, name) = (row.int(0)?, row.int(2)?, row.int(3)?, row.text(6)?);
        let (amount, after) = (Credits::from_micro(row.int(4)?), Credits::from_micro(row.int(5)?));
        let kind = match row.text(1)?.as_str() {
            "consume" | "capture" => "credit.consumed",
            "recharge" => "credit.recharged",
            "grant" => "credit.granted",
            "refund" => "credit.refunded",
            "reversal" => "credit.reversed",
            "expire" => "credit.expired",
            "adjust" => "credit.adjusted",
            other => panic!("nobody is told of {other}"),
        };
        let said = format!(
            r#"{{"amount":{amount},"balance_after":{after},"data":{{"id":{id},"transaction_id":"txn_{user}_{seq}","user_id":"{name}","#
        );
        Ok(Self(format!("{user} {kind} {said}")))
    }
}

/// An event as it is kept.
struct Heard(String);

impl FromRow for Heard {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self(format!("{} {} {}", row.int(0)?, row.text(1)?, row.text(2)?)))
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

/// The most units of that worth that an account may hold.
fn most(worth: i64) -> u64 {
    Credits::MAX.micro().unsigned_abs() / worth.unsigned_abs()
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
    /// One that was made at that time.
    pub fn new(user: UserRowId, worth: i64, made_at: i64) -> Self {
        let model = Model::new(most(worth), Some(REFUND_LIFE), made_at);
        Self { user, model, receipts: Vec::new(), worth, seen: 0 }
    }

    /// Something to ask of it.
    pub fn ask(&self, random: &mut Random, now: i64) -> Ask {
        let limit_max = if self.worth > 1_000_000_000 { 2 } else { 8 };
        random.ask(self.receipts.len(), self.model.holds.len(), limit_max, now)
    }

    /// Judges what became of asks that were under way together: there must be an order in which all
    /// that were accepted are right, each with what its answer says, the entries as they are numbered;
    /// and what was refused must be right at some moment of it.
    pub async fn judge(
        &mut self,
        stage: &Stage,
        balances: &Balances,
        answers: Vec<(Ask, Result<Done, WriteError>)>,
        nows: &[i64],
    ) {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for (ask, answer) in answers {
            match answer {
                Ok(done) => accepted.push((ask, done)),
                Err(WriteError::Credits(rejection)) => refused.push((ask, outcome(&rejection))),
                Err(error) => panic!("{ask:?}: {error}"),
            }
        }
        let mut moments = vec![self.model.clone()];
        let lines = accepted.iter().map(|(ask, done)| format!("\n  {ask:?} -> {}", summary(done)));
        let told: String = lines.collect();
        let kept = balances.account(self.user).await.expect("a balance").expect("an account");
        let search = Search { nows, worth: self.worth, kept: &kept };
        let found = search.order(&mut moments, &mut accepted);
        assert!(found, "at {nows:?} no order explains {told}\n{}\n{kept:#?}", self.model);
        for (ask, found) in refused {
            let right = |model: &Model| nows.iter().any(|now| model.clone().apply(&ask, *now) == found);
            assert!(moments.iter().any(right), "{ask:?} was never {found:?}: {told}\n{}", self.model);
        }
        self.model = moments.pop().expect("the last moment");
        for entry in stage.entries_after(self.user, self.seen).await {
            self.seen = entry.seq;
            self.receipts.extend(is_receipt(&entry).then(|| entry.transaction_id()));
        }
        assert_eq!(self.receipts.len(), self.model.receipts.len(), "{told}\n{}", self.model);
    }

    /// What a reader sees.
    pub async fn compare(&self, balances: &Balances, now: i64) {
        let account = balances.account(self.user).await.expect("a balance").expect("an account");
        let units = |credits: Credits| credits.micro() / self.worth;
        let (at, model) = (Timestamp::from_micros(now), self.model.at(now));
        let now = now.max(model.last_change);
        assert_eq!(units(account.available(at)), model.available(now) as i64, "available");
        assert_eq!(units(account.total(at)), model.left() as i64 - model.owed as i64, "total");
        assert_eq!(units(account.credits_total), model.given() as i64, "credits_total");
    }
}

/// The search for an order in which answers are right.
struct Search<'a> {
    /// What the clocks say.
    nows: &'a [i64],
    worth: i64,
    /// The account as the database has it in the end.
    kept: &'a Account,
}

impl Search<'_> {
    /// Finds an order, and adds the moments after each of the answers.
    fn order(&self, moments: &mut Vec<Model>, rest: &mut Vec<(Ask, Done)>) -> bool {
        for at in 0..rest.len() {
            let place = place_of(&rest[at]);
            let first = |other: &(Ask, Done)| match (place, place_of(other)) {
                (Place::Entry(own), Place::Entry(other)) => own <= other,
                (Place::Hold(own), Place::Hold(other)) => own <= other,
                _ => true,
            };
            if !rest.iter().all(first) {
                continue;
            }
            for now in self.nows {
                let mut next = moments[moments.len() - 1].clone();
                if explains(&mut next, &rest[at], *now, self.worth) {
                    let taken = rest.remove(at);
                    moments.push(next);
                    if self.order(moments, rest) {
                        return true;
                    }
                    moments.pop();
                    rest.insert(at, taken);
                }
            }
        }
        rest.is_empty() && self.is_kept(&moments[moments.len() - 1])
    }

    /// Whether the database has what the model has.
    fn is_kept(&self, model: &Model) -> bool {
        let units = |credits: Credits| (credits.micro() / self.worth) as u64;
        let open = model.holds.iter().zip(1..).filter(|(hold, _)| hold.state == State::Open);
        let holds = open.map(|(hold, n)| (n, hold.units.len() as u64, hold.ticked, hold.until));
        let kept = self.kept.holds.iter();
        let kept =
            kept.map(|hold| (hold.n, units(hold.amount), units(hold.ticked), hold.expires_at.micros()));
        let mut grants: Vec<_> = self.kept.grants.iter().collect();
        grants.sort_by_key(|grant| grant.seq);
        let left = |grant: &Grant| (units(Credits::from_micro(grant.free())), units(grant.held));
        kept.eq(holds)
            && grants
                .into_iter()
                .map(left)
                .eq(model.open_grants().into_iter().map(|(_, free, held)| (free, held)))
            && (self.kept.owed() / self.worth, units(self.kept.credit_limit))
                == (model.owed as i64, model.limit)
            && self.kept.updated_at.micros() == model.last_change
    }
}

/// Where what was done stands in the account's history, where that can be told.
#[derive(Clone, Copy)]
enum Place {
    Entry(i64),
    Hold(i64),
    Unknown,
}

fn place_of((ask, done): &(Ask, Done)) -> Place {
    match done {
        Done::Entry { entry, .. } | Done::Hold { entry: Some(entry), .. } => Place::Entry(entry.seq),
        Done::Hold { hold, .. } if matches!(ask, Ask::Hold { .. }) => Place::Hold(hold.n),
        _ => Place::Unknown,
    }
}

/// What a failure shows of an answer.
fn summary(done: &Done) -> String {
    let of_entry = |entry: &Entry| {
        let Entry { seq, kind, amount, funded_by, created_at, .. } = entry;
        let parts: Vec<_> = funded_by.iter().map(|(seq, part)| (seq, part.micro())).collect();
        format!("entry {seq} {kind} {} {parts:?} at {}", amount.micro(), created_at.micros())
    };
    match done {
        Done::Entry { entry, available } => format!("{}, available {}", of_entry(entry), available.micro()),
        Done::Hold { hold, entry, available } => {
            let parts: Vec<_> = hold.parts.iter().map(|(seq, part)| (seq, part.micro())).collect();
            let entry = entry.as_ref().map(|entry| of_entry(entry));
            let (ticked, until) = (hold.ticked.micro(), hold.expires_at.micros());
            let available = available.micro();
            format!("hold {} {} {parts:?} {ticked} until {until} {entry:?}, {available}", hold.n, hold.status)
        }
        other => format!("{other:?}"),
    }
}

/// Whether the ask, made now, is answered like that.
fn explains(model: &mut Model, (ask, done): &(Ask, Done), now: i64, worth: i64) -> bool {
    let before = model.holds.len();
    let outcome = model.apply(ask, now);
    let now = now.max(model.last_change);
    let units = |credits: Credits| (credits.micro() / worth) as u64;
    match (ask, done, outcome) {
        (Ask::Settle, Done::Settled, Outcome::Done) => true,
        (Ask::Limit(_), Done::Account(account), Outcome::Done) => {
            units(account.credit_limit) == model.limit && account.owed() / worth == model.owed as i64
        }
        (Ask::Give(give), Done::Entry { entry, available }, Outcome::Done) => {
            // Of several with one reference, it is the one whose terms were kept.
            entry.created_at.micros() == now
                && entry.grant.as_ref().is_some_and(|terms| {
                    terms.priority == give.priority
                        && terms.effective_at == give.from.unwrap_or(now)
                        && terms.expires_at == give.until
                        && terms.rollover.is_some() == give.roll.is_some()
                })
                && units(*available) == model.available(now)
        }
        (Ask::Reclaim { units: asked, .. }, Done::Entry { entry, available }, Outcome::Done) => {
            entry.created_at.micros() == now
                && units(entry.amount.abs()) == *asked
                && units(*available) == model.available(now)
        }
        (Ask::Give(_) | Ask::Reclaim { .. }, Done::Entry { .. }, Outcome::Again(_)) => true,
        (_, Done::Entry { entry, available }, Outcome::Done) => {
            entry.created_at.micros() == now && units(*available) == model.available(now)
        }
        (_, Done::Hold { hold, available, .. }, Outcome::Done | Outcome::Still) => {
            let Some(of_model) = model.holds.get(usize::try_from(hold.n - 1).expect("a number")) else {
                return false;
            };
            let state = match (&hold.settled, of_model.state) {
                (None, state) => state == State::Open,
                (Some(settled), State::Captured { asked, captured }) => {
                    (units(settled.asked), units(settled.captured)) == (asked, captured)
                }
                (Some(_), state) => state == State::Released,
            };
            let new = !matches!(ask, Ask::Hold { .. }) || hold.n == before as i64 + 1;
            let same = (units(hold.amount), units(hold.ticked), hold.expires_at.micros())
                == (of_model.units.len() as u64, of_model.ticked, of_model.until);
            state && new && same && (outcome == Outcome::Still || units(*available) == model.available(now))
        }
        _ => false,
    }
}
