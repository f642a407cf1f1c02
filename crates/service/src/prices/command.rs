//! `user-service prices …`: the price book on the command line.

use super::import::{self, Import, ImportOutcome, ImportReport, ImportStatus};
use super::litellm::List;
use super::{Book, Prices, shelf, store};
use crate::audit;
use crate::boot::{self, BootError};
use crate::cli::{PricesCommand, PricesImport, PricesList};
use crate::config::{Config, DatabaseUrl};
use crate::credits::memory::Accounts;
use crate::db::{Db, DbError};
use crate::live::Live;
use crate::writer::{Told, Writer};
use indicatif::{ProgressBar, ProgressStyle};
use kernel::{Clock, Timestamp};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::Arc;

/// The largest price list in bytes; the whole of LiteLLM's is 3 MB.
const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// After how many models a line says how far it is, where there is no terminal to draw on.
const LINE_EVERY: usize = 1_000;
/// How many reasons and fields a report names; `--verbose` names all.
const NAMED_MAX: usize = 10;

/// Why a command ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The settings or the database; code 2.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The file, or the import broke off; code 1.
    #[error("{0}")]
    Failed(String),
}

/// Does what was asked and writes it to `out`.
///
/// # Errors
/// [`CommandError`].
pub async fn run(config: &Config, asked: &PricesCommand, out: &mut impl Write) -> Result<(), CommandError> {
    let written = match asked {
        PricesCommand::Import(asked) => {
            let list = read_list(&asked.file)?;
            let report = if asked.dry_run {
                rehearse(config, asked, &list).await?
            } else {
                take_over(config, asked, &list).await?
            };
            write_report(out, &report, asked)
        }
        PricesCommand::List(asked) => write_prices(out, &look(config).await?, asked),
    };
    match written {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => {
            written.map_err(|error| CommandError::Failed(format!("the answer cannot be written: {error}")))
        }
    }
}

fn read_list(path: &Path) -> Result<List, CommandError> {
    let failed = |why: String| CommandError::Failed(format!("{}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| failed(format!("cannot be read: {e}")))?.len();
    if size > FILE_MAX_BYTES {
        return Err(failed(format!("has {size} bytes, more than {FILE_MAX_BYTES}")));
    }
    let text = std::fs::read(path).map_err(|e| failed(format!("cannot be read: {e}")))?;
    serde_json::from_slice(&text).map_err(|e| failed(format!("is no price list: {e}")))
}

fn import_of(asked: &PricesImport) -> Import {
    let now = Clock::System.now();
    Import {
        source: "import".to_owned(),
        actor: "command".to_owned(),
        effective_at: asked.effective_at.unwrap_or(now),
        now,
    }
}

/// Imports with a writer of its own, which on SQLite nobody else may have.
async fn take_over(config: &Config, asked: &PricesImport, list: &List) -> Result<ImportReport, CommandError> {
    let (db, _claim) = boot::open(config).await.map_err(|error| locked(config, error))?;
    let memory = Arc::new(Accounts::default());
    let told = Told { live: Live::over(&db), ..Told::default() };
    let start = Writer::start(&db, boot::rules(config), &Clock::System, &memory, &told);
    let (writer, finished) = start.map_err(BootError::from)?;
    Prices::open(&db, &writer, Clock::System.now()).await.map_err(BootError::from)?;
    let progress = Progress::start(list.0.len());
    let import = import_of(asked);
    let running = import::run(&db, &writer, &import, list, |done| progress.at(done));
    let report = audit::around::at_the_command_line("import_prices", running).await;
    progress.finish();
    drop(writer);
    for lane in finished {
        let _ = lane.await;
    }
    report.map_err(|error| {
        CommandError::Failed(format!("the import broke off, and what was written before stays: {error}"))
    })
}

/// A database that another process serves is reached by that process alone.
fn locked(config: &Config, error: BootError) -> CommandError {
    match (&config.database, &error) {
        (DatabaseUrl::Sqlite(_), BootError::Database(DbError::Unavailable(why))) if why.contains("already serves") => {
            BootError::Files(format!(
                "DATABASE_URL: {why}; stop it, or send the file to its route POST /api/v1/prices/import as an admin"
            ))
            .into()
        }
        _ => error.into(),
    }
}

/// What an import would do; it neither writes nor needs the database for itself.
async fn rehearse(config: &Config, asked: &PricesImport, list: &List) -> Result<ImportReport, CommandError> {
    Ok(import::rehearse(&look(config).await?, &import_of(asked), list))
}

/// The book as the database has it; where there is no database yet, as the first start will make it.
async fn look(config: &Config) -> Result<Book, BootError> {
    if let DatabaseUrl::Sqlite(path) = &config.database
        && !path.exists()
    {
        return first_book().map_err(BootError::from);
    }
    let db = Db::open(&boot::location(config)).await?;
    match store::book(&db).await {
        Ok(book) if !book.models().is_empty() => Ok(book),
        // Either the schema is older than prices, or nobody has started the service since.
        Ok(_) | Err(DbError::Internal(_)) => first_book().map_err(BootError::from),
        Err(error) => Err(error.into()),
    }
}

fn first_book() -> Result<Book, DbError> {
    shelf::starter(Timestamp::default()).map(|versions| Book::new(0, versions, Vec::new()))
}

/// How far an import is: a bar on a terminal, lines elsewhere, both beside the report.
struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    said: std::cell::Cell<usize>,
}

impl Progress {
    fn start(total: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} models, {elapsed}");
            let bar = ProgressBar::new(total as u64);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, total, said: std::cell::Cell::new(0) }
    }

    fn at(&self, done: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if done - self.said.get() >= LINE_EVERY || done == self.total => {
                self.said.set(done);
                let _ = writeln!(io::stderr(), "{done} of {} models", self.total);
            }
            None => {}
        }
    }

    fn finish(&self) {
        self.bar.as_ref().inspect(|bar| bar.finish_and_clear());
    }
}

fn write_report(out: &mut impl Write, report: &ImportReport, asked: &PricesImport) -> io::Result<()> {
    let (count, imported) = (report.models.len(), report.imported);
    let would = if asked.dry_run { "would be " } else { "" };
    writeln!(
        out,
        "{count} models: {imported} {would}imported, {} {would}unchanged, {} {would}skipped.",
        report.unchanged, report.skipped
    )?;
    let mut why: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for outcome in report.models.iter().filter(|outcome| outcome.status == ImportStatus::Skipped) {
        why.entry(outcome.why.as_deref().unwrap_or_default()).or_default().push(&outcome.model);
    }
    write_groups(out, "Skipped, because of", &why, asked.verbose)?;
    let fields = |of: fn(&ImportOutcome) -> &Vec<String>| {
        let mut models: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for outcome in report.models.iter().filter(|outcome| outcome.status != ImportStatus::Skipped) {
            of(outcome).iter().for_each(|field| models.entry(field).or_default().push(&outcome.model));
        }
        models
    };
    write_groups(out, "Rounded to 15 decimal places", &fields(|outcome| &outcome.rounded), asked.verbose)?;
    write_groups(
        out,
        "Passed over, because no pool has that price",
        &fields(|outcome| &outcome.ignored),
        asked.verbose,
    )?;
    out.flush()
}

/// Reasons or fields with how many models they concern, most first; verbose, the models too.
fn write_groups(
    out: &mut impl Write,
    title: &str,
    groups: &BTreeMap<&str, Vec<&str>>,
    verbose: bool,
) -> io::Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title}:")?;
    let mut sorted: Vec<_> = groups.iter().collect();
    sorted.sort_by_key(|(name, models)| (std::cmp::Reverse(models.len()), **name));
    let shown = if verbose { sorted.len() } else { NAMED_MAX };
    for (name, models) in sorted.iter().take(shown) {
        writeln!(out, "  {:>5}  {name}", models.len())?;
        if verbose {
            models.iter().try_for_each(|model| writeln!(out, "           {model}"))?;
        }
    }
    match sorted.len().saturating_sub(shown) {
        0 => Ok(()),
        more => writeln!(out, "         and {more} more; --verbose names all"),
    }
}

/// The prices in force, one model a line: name, version, rates.
fn write_prices(out: &mut impl Write, book: &Book, asked: &PricesList) -> io::Result<()> {
    let now = Clock::System.now();
    let part = super::names::folded(asked.query.as_deref().unwrap_or_default());
    for version in book.models().iter().filter_map(|model| model.at(now)) {
        if super::names::folded(&version.model).contains(&part) {
            let rates: Vec<String> =
                version.tariff.rates.given().map(|(pool, rate)| format!("{pool} {rate}")).collect();
            writeln!(out, "{}  v{}  {}", version.model, version.version, rates.join(", "))?;
        }
    }
    out.flush()
}
