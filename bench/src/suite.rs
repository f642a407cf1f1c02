//! What is measured, in which order: on each engine, for each case, a fresh server on fresh storage; at
//! each number of connections a no-op and then the case, so that a ratio compares neighbours in time;
//! after each row the books; after each server `verify-ledger`.

use crate::api::Api;
use crate::bodies;
use crate::books::{self, Closing};
use crate::cases::{self, Books, Case};
use crate::engine::{Bed, Engine, EngineSet, Storage};
use crate::files;
use crate::open_loop::{self, Plan};
use crate::pairs::{self, Pair};
use crate::server::Server;
use crate::sessions;
use crate::tokens::{FRESH, Issuer};
use crate::users::{self, User};
use crate::wrk::{Driven, Load, Request};
use crate::{Fallible, bare, machine, outbox, report, wall};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// What to measure, and for how long.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Which engines to run on.
    #[arg(long, value_enum, default_value = "both")]
    pub engine: EngineSet,
    /// How long each row is driven.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Which cases to run (all by default), as a comma list.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub cases: Vec<Case>,
    /// Numbers of connections, as a comma list.
    #[arg(long, value_delimiter = ',', default_value = "1,50,200")]
    pub connections: Vec<usize>,
    /// How many users the cases over many users take in turn.
    #[arg(long, default_value_t = 1000)]
    pub users: usize,
    /// How many users the records of one batch belong to.
    #[arg(long, default_value_t = 20)]
    pub batch_users: usize,
    /// How many records a batch has.
    #[arg(long, default_value_t = 1000)]
    pub batch_records: usize,
    /// Numbers of entries in the table at which consuming is compared, as a comma list.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000000")]
    pub entries: Vec<u64>,
    /// Lengths of the histories whose statistics are compared, as a comma list.
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000")]
    pub histories: Vec<usize>,
    /// Lengths of the conversations whose last messages are compared, as a comma list.
    #[arg(long, value_delimiter = ',', default_value = "100,100000")]
    pub conversations: Vec<usize>,
    /// How many events are sent to living and dead endpoints.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    pub events: u64,
    /// The service's binary.
    #[arg(long, default_value = "target/release/user-service")]
    pub program: PathBuf,
    /// Where the result is written (a dated file in bench/results by default).
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// The case, with its variant.
    pub case: String,
    /// Connections under way.
    pub connections: usize,
    /// Answers per second.
    pub per_second: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// Latency of the slowest hundredth in milliseconds.
    pub p99_ms: f64,
    /// The slowest answer in milliseconds.
    pub max_ms: f64,
    /// Answers with status 400 and above.
    pub refused: u64,
    /// Failed connects, reads, writes, time-outs.
    pub socket_errors: u64,
    /// The service's processor time per request, in microseconds.
    pub cpu_us: f64,
    /// PostgreSQL's own processor time per request, in microseconds.
    pub database_cpu_us: Option<f64>,
    /// Resident memory of the service after start, before any request, in MiB.
    pub idle_mib: f64,
    /// Resident memory of the service at the end of the row, in MiB.
    pub rss_mib: f64,
    /// Peak resident memory of the service so far, in MiB.
    pub peak_mib: f64,
    /// The no-op's rate at the same connections, measured just before on the same server.
    pub noop_per_second: Option<f64>,
    /// This row's rate over the no-op's.
    pub ratio: Option<f64>,
    /// Usage records per second, where a request holds many.
    pub records_per_second: Option<f64>,
    /// The books after the row, where it changes any.
    pub books: Option<Closing>,
}

/// The bare engine's rates beside the service's best.
#[derive(Debug, Clone, Serialize)]
pub struct Bare {
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// Records per second of the bare engine, by the way the rows went in.
    pub bare_per_second: Vec<(&'static str, f64)>,
    /// The service's best rate of records over all rows of the usage batch.
    pub service_per_second: f64,
    /// The service's best over the bare engine's best.
    pub ratio: f64,
}

/// Everything a run found.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// The table.
    pub rows: Vec<Row>,
    /// The bare engines.
    pub bare: Vec<Bare>,
    /// Files in and out.
    pub transfers: Vec<files::Transfer>,
    /// Seconds that `verify-ledger` took after each case.
    pub verified: Vec<(&'static str, &'static str, f64)>,
    /// Whatever must not happen: books that do not balance, errors, a ledger that does not verify.
    pub failures: Vec<String>,
    /// Names and versions of the engines.
    pub engines: Vec<String>,
    /// The machine's load average before the run.
    pub load_before: Option<f64>,
}

/// Runs the suite, prints the table, writes the result. Answers whether nothing failed; a target that is
/// not reached is reported, not failed.
pub async fn run(options: Options) -> Fallible<bool> {
    let program = options.program.canonicalize();
    let program = program.map_err(|error| format!("{}: {error}", options.program.display()))?;
    let chosen = if options.cases.is_empty() { Case::all() } else { options.cases.clone() };
    let mut findings = Findings { load_before: machine::load(), ..Findings::default() };
    for &engine in options.engine.engines() {
        let bed = Bed::prepare(engine).await?;
        findings.engines.push(bed.version());
        for &case in &chosen {
            // A case that breaks is a failure in the report; the others still have their say.
            if let Err(error) = one_case(&bed, &options, program.clone(), case, &mut findings).await {
                findings.fail(format!("{}: {}: {error}", engine.name(), case.name()));
            }
            bed.discard(case.name()).await?;
        }
    }
    report::publish(&options, &findings)
}

async fn one_case(
    bed: &Bed,
    options: &Options,
    program: PathBuf,
    case: Case,
    findings: &mut Findings,
) -> Fallible<()> {
    let mut session = Session::start(bed, options, program, case).await?;
    let failed_before = findings.failures.len();
    let outcome = session.measure(findings).await;
    if outcome.is_err() || findings.failures.len() > failed_before {
        eprintln!("the end of the service's log: {}", session.server.log_tail());
    }
    outcome?;
    session.finish(findings).await
}

/// One case on one fresh server.
pub struct Session<'a> {
    /// The ground that it stands on.
    pub bed: &'a Bed,
    /// What was asked for.
    pub options: &'a Options,
    case: Case,
    /// The server.
    pub server: Server,
    /// A client of it.
    pub api: Api,
    /// Its users.
    pub users: Vec<User>,
    /// The no-op of each of them.
    pub noop: Load,
    /// Whose tokens the service takes beside those of the users, in the case that is about them.
    issuer: Option<Issuer>,
}

impl<'a> Session<'a> {
    async fn start(bed: &'a Bed, options: &'a Options, program: PathBuf, case: Case) -> Fallible<Self> {
        let issuer = if case == Case::Tokens { Some(Issuer::start().await?) } else { None };
        let mut settings = issuer.as_ref().map_or(Vec::new(), |issuer| issuer.settings().to_vec());
        settings.extend(outbox::settings());
        let server = Server::start(program, bed.storage(case.name()).await?, &settings).await?;
        let api = Api::new(&server)?;
        let users = users::make(&api, "bench", options.users, &server.jwt_secret, "1000").await?;
        let noop = Load::prepare(&server.storage.folder, "noop", &cases::noop(server.address, &users))?;
        Ok(Self { bed, options, case, server, api, users, noop, issuer })
    }

    fn engine(&self) -> Engine {
        self.bed.engine()
    }

    async fn measure(&mut self, findings: &mut Findings) -> Fallible<()> {
        let (address, users) = (self.server.address, &self.users);
        match self.case {
            Case::Noop => self.rows("noop", &cases::noop(address, users), findings).await,
            Case::Balance => self.rows("balance", &cases::balance(address, users), findings).await,
            Case::ConsumeOne => {
                self.rows("consume_one", &cases::consume(address, &users[..1]), findings).await
            }
            Case::ConsumeMany => self.rows("consume_many", &cases::consume(address, users), findings).await,
            Case::UsageRecord => {
                self.rows("usage_record", &cases::usage_record(address, users), findings).await
            }
            Case::UsageBatch => {
                let (spread, records) = (self.options.batch_users, self.options.batch_records);
                let key = &self.server.key;
                let batches = cases::usage_batch(address, key, users, spread, records, wall::now());
                self.rows("usage_batch", &batches, findings).await
            }
            Case::Charge => self.rows("charge", &cases::charge(address, users), findings).await,
            Case::HoldCapture => self.hold_capture(findings).await,
            Case::ConsumeEntries => self.consume_entries(findings).await,
            Case::HalfRate => self.half_rate(findings).await,
            Case::Stats => self.stats(findings).await,
            Case::MessageAppend => self.message_append(findings).await,
            Case::LastMessages => self.last_messages(findings).await,
            Case::RateLimited => self.rate_limited(findings).await,
            Case::Tokens => self.tokens(findings).await,
            Case::Outbox => self.outbox(findings).await,
            Case::ConsumeSubscribed => self.consume_subscribed(findings).await,
            Case::DeadEndpoints => self.dead_endpoints(findings).await,
            Case::Files => {
                let moved = files::measure(self.engine().name(), &self.server, &self.users).await?;
                findings.transfers.extend(moved);
                Ok(())
            }
        }
    }

    /// The rows of one set of requests, one for each number of connections.
    async fn rows(&self, name: &str, requests: &[Request], findings: &mut Findings) -> Fallible<()> {
        let load = Load::prepare(&self.server.storage.folder, name, requests)?;
        for &connections in &self.options.connections {
            let row = self.row(name, &load, connections).await?;
            report::progress(&row);
            findings.note(row);
        }
        Ok(())
    }

    async fn row(&self, name: &str, load: &Load, connections: usize) -> Fallible<Row> {
        let seconds = self.options.seconds;
        let noop = match self.case {
            Case::Noop => None,
            _ => Some(self.noop.drive(self.server.address, connections, seconds.div_ceil(2)).await?),
        };
        let books = self.case.books(self.options.batch_records);
        let opening = books::open(&self.api, &self.users, books).await?;
        let cpu = self.cpu()?;
        let driven = load.drive(self.server.address, connections, seconds).await?;
        let mut row = self.reading(name, connections, &driven, cpu)?;
        if let Some(noop) = noop {
            row.noop_per_second = Some(noop.per_second());
            row.ratio = Some(driven.per_second() / noop.per_second());
        }
        if let Books::Usage(records) = books {
            row.records_per_second = Some(driven.per_second() * records as f64).filter(|_| records > 1);
        }
        if let Some(opening) = opening {
            let closing = opening.close(&self.api, &self.users, driven.acknowledged(), connections).await?;
            row.books = Some(closing);
        }
        Ok(row)
    }

    /// The no-op on a second server that limits rates, beside the no-op on this one, which does not.
    async fn rate_limited(&self, findings: &mut Findings) -> Fallible<()> {
        let storage = self.bed.storage("rate_limited_on").await?;
        let limits = [
            ("RATE_LIMIT_ENABLED", "true".to_owned()),
            ("RATE_LIMIT_WINDOW", "1".to_owned()),
            ("RATE_LIMIT_REQUESTS", "1000000".to_owned()),
            ("RATE_LIMIT_WRITE_REQUESTS", "1000000".to_owned()),
        ];
        let program = self.options.program.canonicalize()?;
        let mut server = Server::start(program, storage, &limits).await?;
        let api = Api::new(&server)?;
        let users = users::make(&api, "limited", self.users.len(), &server.jwt_secret, "1").await?;
        let requests = cases::noop(server.address, &users);
        let load = Load::prepare(&server.storage.folder, "noop", &requests)?;
        for &connections in &self.options.connections {
            let seconds = self.options.seconds;
            let free = self.noop.drive(self.server.address, connections, seconds).await?;
            let cpu = (server.cpu_micros()?, self.bed.database_cpu_micros()?);
            let limited = load.drive(server.address, connections, seconds).await?;
            let mut row = self.reading_of(&server, "rate_limited", connections, &limited, cpu)?;
            row.noop_per_second = Some(free.per_second());
            row.ratio = Some(limited.per_second() / free.per_second());
            report::progress(&row);
            findings.note(row);
        }
        server.stop()?;
        self.bed.discard("rate_limited_on").await
    }

    /// Holds and their captures, beside pairs of no-ops driven in the same way.
    async fn hold_capture(&self, findings: &mut Findings) -> Fallible<()> {
        let seconds = self.options.seconds;
        for &connections in &self.options.connections {
            let noop = self.pairs(Pair::Noop, connections, seconds.div_ceil(2)).await?;
            let opening = books::open(&self.api, &self.users, self.case.books(0)).await?;
            let cpu = self.cpu()?;
            let driven = self.pairs(Pair::HoldCapture, connections, seconds).await?;
            let mut row = self.reading("hold_capture", connections, &driven, cpu)?;
            row.noop_per_second = Some(noop.per_second());
            row.ratio = Some(driven.per_second() / noop.per_second());
            if let Some(opening) = opening {
                // Every pair was awaited to its end.
                row.books = Some(opening.close(&self.api, &self.users, driven.acknowledged(), 0).await?);
            }
            report::progress(&row);
            findings.note(row);
        }
        Ok(())
    }

    /// The no-op with tokens that were verified before, and with tokens that were not: of those there is only
    /// enough for a second, with most connections.
    async fn tokens(&self, findings: &mut Findings) -> Fallible<()> {
        let issuer = self.issuer.as_ref().ok_or("this case has an issuer")?;
        let (address, users) = (self.server.address, self.users.len());
        let connections = self.options.connections.iter().copied().max().unwrap_or(200);
        let tokens = tokio::task::block_in_place(|| issuer.tokens(FRESH + users))?;
        let (seldom, often) = tokens.split_at(FRESH);
        let fresh =
            Load::prepare(&self.server.storage.folder, "rs256_first", &cases::noop_with(address, seldom))?;
        let noop = self.noop.drive(address, connections, 2).await?;
        let cpu = self.cpu()?;
        let driven = fresh.drive(address, connections, 1).await?;
        let mut row = self.reading("rs256_first", connections, &driven, cpu)?;
        row.noop_per_second = Some(noop.per_second());
        row.ratio = Some(driven.per_second() / noop.per_second());
        report::progress(&row);
        findings.note(row);
        self.rows("rs256_remembered", &cases::noop_with(address, often), findings).await
    }

    async fn pairs(&self, pair: Pair, connections: usize, seconds: u64) -> Fallible<Driven> {
        let (address, users) = (self.server.address, self.users.clone());
        let drive = move || pairs::drive(address, &users, pair, connections, seconds);
        tokio::task::spawn_blocking(drive).await?
    }

    /// Consumes with the table as it is after each of the wanted numbers of entries.
    async fn consume_entries(&self, findings: &mut Findings) -> Fallible<()> {
        let requests = cases::consume(self.server.address, &self.users);
        let load = Load::prepare(&self.server.storage.folder, "fill", &requests)?;
        let connections = self.options.connections.iter().copied().max().unwrap_or(200);
        // The welcome grant and the recharge of each user.
        let mut entries = 2 * self.users.len() as u64;
        for &wanted in &self.options.entries {
            while entries < wanted {
                // What is needed at 10 000 a second, in goes of at most a minute.
                let seconds = ((wanted - entries) / 10_000).clamp(1, 60);
                entries += load.drive(self.server.address, connections, seconds).await?.acknowledged();
                eprintln!("{entries} entries");
            }
            self.rows(&format!("consume_entries_{wanted}"), &requests, findings).await?;
            let driven = findings.rows.iter().rev().take(self.options.connections.len());
            entries +=
                driven.filter_map(|row| row.books.as_ref()).map(|books| books.acknowledged).sum::<u64>();
        }
        Ok(())
    }

    /// Processor time so far, of the service and of the database.
    pub fn cpu(&self) -> Fallible<(u64, Option<u64>)> {
        Ok((self.server.cpu_micros()?, self.bed.database_cpu_micros()?))
    }

    /// A row of this server.
    pub fn reading(
        &self,
        name: &str,
        connections: usize,
        driven: &Driven,
        before: (u64, Option<u64>),
    ) -> Fallible<Row> {
        self.reading_of(&self.server, name, connections, driven, before)
    }

    /// A row of any server on the same ground.
    pub fn reading_of(
        &self,
        server: &Server,
        name: &str,
        connections: usize,
        driven: &Driven,
        before: (u64, Option<u64>),
    ) -> Fallible<Row> {
        let after = (server.cpu_micros()?, self.bed.database_cpu_micros()?);
        let each = |micros: u64| micros as f64 / driven.requests.max(1) as f64;
        let mib = |kib: u64| kib as f64 / 1024.0;
        Ok(Row {
            engine: self.engine().name(),
            case: name.to_owned(),
            connections,
            per_second: driven.per_second(),
            p50_ms: driven.p50_us as f64 / 1000.0,
            p99_ms: driven.p99_us as f64 / 1000.0,
            max_ms: driven.max_us as f64 / 1000.0,
            refused: driven.status,
            socket_errors: driven.socket_errors(),
            cpu_us: each(after.0 - before.0),
            database_cpu_us: after.1.zip(before.1).map(|(after, before)| each(after.saturating_sub(before))),
            idle_mib: mib(server.idle_kib),
            rss_mib: mib(server.memory_kib("VmRSS")?),
            peak_mib: mib(server.memory_kib("VmHWM")?),
            noop_per_second: None,
            ratio: None,
            records_per_second: None,
            books: None,
        })
    }

    /// Consumes at half of the rate that this server has just reached with most connections.
    async fn half_rate(&self, findings: &mut Findings) -> Fallible<()> {
        let connections = self.options.connections.iter().copied().max().unwrap_or(200);
        let (address, requests) = (self.server.address, cases::consume(self.server.address, &self.users));
        let load = Load::prepare(&self.server.storage.folder, "full_rate", &requests)?;
        let full = load.drive(address, connections, self.options.seconds).await?;
        // What was under way at the cut-off is still being written; the books are opened when they stand still.
        let mut before = self.api.balances(&self.users).await?;
        loop {
            let again = self.api.balances(&self.users).await?;
            if again == before {
                break;
            }
            before = again;
        }
        let plan = Plan {
            address,
            requests: requests.into_iter().flatten().collect(),
            connections,
            per_second: full.per_second() / 2.0,
            seconds: self.options.seconds * 2,
        };
        let cpu = self.cpu()?;
        let outcome = tokio::task::spawn_blocking(move || open_loop::drive(&plan)).await??;
        let driven = Driven::from_open_loop(&outcome);
        let mut row = self.reading("consume_half_rate", connections, &driven, cpu)?;
        let after = self.api.balances(&self.users).await?;
        // Every answer was awaited, so each user's balance must be right to the last micro-credit.
        let expected = before.iter().zip(&outcome.acknowledged);
        let expected = expected.map(|(before, &count)| before - i128::from(count) * bodies::CONSUME_MICROS);
        let balanced = expected.eq(after.iter().copied());
        let stored = (before.iter().sum::<i128>() - after.iter().sum::<i128>()) / bodies::CONSUME_MICROS;
        row.books = Some(Closing { acknowledged: driven.acknowledged(), stored, balanced });
        report::progress(&row);
        findings.note(row);
        Ok(())
    }

    /// Loads the histories and asks for their statistics, over all time and over a ragged range.
    async fn stats(&self, findings: &mut Findings) -> Fallible<()> {
        let now = wall::now();
        for (user, &total) in self.users.iter().zip(&self.options.histories) {
            let starts: Vec<usize> = (0..total).step_by(5000).collect();
            let load = |start: &usize| {
                let body = bodies::history(user, total, *start..(start + 5000).min(total), now);
                async move { self.api.post("/api/v1/usage/batch", body).await.map(drop) }
            };
            users::concurrently_few(&starts, load).await?;
            let stored = self.api.stats(user, "").await?.records;
            if stored != total as i128 {
                findings
                    .failures
                    .push(format!("{}: stats: {total} sent, {stored} counted", self.engine().name()));
            }
        }
        for (user, &total) in self.users.iter().zip(&self.options.histories) {
            let (plain, ragged) = (format!("stats_{total}"), format!("stats_{total}_ragged"));
            let address = self.server.address;
            self.rows(&plain, &cases::stats(address, user, ""), findings).await?;
            self.rows(&ragged, &cases::stats(address, user, &bodies::ragged_range(now)), findings).await?;
        }
        Ok(())
    }

    async fn message_append(&self, findings: &mut Findings) -> Fallible<()> {
        let sessions = sessions::begin(&self.api, &self.users).await?;
        let (address, users) = (self.server.address, &self.users);
        let one = cases::message_append(address, &users[..1], &sessions[..1]);
        self.rows("message_append_one", &one, findings).await?;
        self.rows("message_append", &cases::message_append(address, users, &sessions), findings).await
    }

    async fn last_messages(&self, findings: &mut Findings) -> Fallible<()> {
        for (user, &total) in self.users.iter().zip(&self.options.conversations) {
            let sessions = sessions::begin(&self.api, std::slice::from_ref(user)).await?;
            sessions::fill(&self.api, &sessions[0], total).await?;
            let requests = cases::last_messages(self.server.address, user, &sessions[0]);
            self.rows(&format!("last_messages_{total}"), &requests, findings).await?;
        }
        Ok(())
    }

    /// The bare engine beside the batches that the service has just stored.
    async fn bare(&self, storage: &Storage, findings: &Findings) -> Fallible<Bare> {
        let engine = self.bed.engine().name();
        let batches = findings.rows.iter().filter(|row| row.engine == engine && row.case == "usage_batch");
        let best = batches.clone().filter_map(|row| row.records_per_second).fold(0.0, f64::max);
        let stored: i128 = batches.filter_map(|row| row.books.as_ref()).map(|books| books.stored).sum();
        if stored == 0 {
            return Err(
                "the service stored no batch, so there is nothing to compare the bare engine with".into()
            );
        }
        let records = self.options.batch_records;
        let goal = u64::try_from(stored)? * records as u64;
        let limit = Duration::from_secs(self.options.seconds * self.options.connections.len() as u64);
        let rates = bare::measure(storage, records, goal, limit).await?;
        let bare_best = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        Ok(Bare { engine, bare_per_second: rates, service_per_second: best, ratio: best / bare_best })
    }

    /// Stops the server, verifies its ledger, and lets the bare engine try the same batches.
    async fn finish(mut self, findings: &mut Findings) -> Fallible<()> {
        let engine = self.engine().name();
        let stopped = self.server.stop()?;
        match stopped.verify_ledger().await {
            Ok(took) => findings.verified.push((engine, self.case.name(), took.as_secs_f64())),
            Err(error) => findings.fail(format!("{engine}: {}: {error}", self.case.name())),
        }
        if self.case == Case::UsageBatch {
            let bare = self.bare(&stopped.storage, findings).await?;
            findings.bare.push(bare);
        }
        Ok(())
    }
}

impl Findings {
    fn fail(&mut self, what: String) {
        eprintln!("FAILED: {what}");
        self.failures.push(what);
    }

    /// Keeps a row, and what is wrong with it.
    pub fn note(&mut self, row: Row) {
        let name = format!("{}: {} at {} connections", row.engine, row.case, row.connections);
        if let Some(books) = row.books.as_ref().filter(|books| !books.balanced) {
            let (acknowledged, stored) = (books.acknowledged, books.stored);
            self.fail(format!("{name}: {acknowledged} acknowledged, {stored} stored"));
        }
        if row.refused + row.socket_errors > 0 {
            let (refused, broken) = (row.refused, row.socket_errors);
            self.fail(format!("{name}: {refused} refused, {broken} socket errors"));
        }
        self.rows.push(row);
    }
}
