//! The engine without the service: batches of 1000 rows into the very same `usage_records` table (its
//! statements are read from the service's own database, its rows are the service's own rows with new
//! ids), one transaction per batch. What the usage batch is measured against.
//!
//! Only `usage_records`: the service also keeps its roll-ups, which is part of what the ratio shows.

use crate::engine::Storage;
use crate::{Fallible, postgres};
use futures_util::SinkExt;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::fmt::Write;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

/// How many of the service's rows are taken as samples.
const SAMPLES: usize = 50_000;

/// Records per second of the bare engine, by the way the rows go in. `goal` rows are inserted, so that
/// the table grows as large as the service's did, but for no longer than `limit`.
pub async fn measure(
    storage: &Storage,
    batch: usize,
    goal: u64,
    limit: Duration,
) -> Fallible<Vec<(&'static str, f64)>> {
    if let Some(url) = &storage.database_url {
        let client = postgres::connect(url).await?;
        let unnest = postgres_run(&client, batch, goal, limit, true).await?;
        let copy = postgres_run(&client, batch, goal, limit, false).await?;
        return Ok(vec![("unnest", unnest), ("copy", copy)]);
    }
    let folder = storage.folder.clone();
    let rate = tokio::task::spawn_blocking(move || sqlite(&folder, batch, goal, limit)).await??;
    Ok(vec![("prepared", rate)])
}

/// Counts rows and the time that the engine took for them; making the rows up is not on its clock.
struct Pace {
    goal: u64,
    limit: Duration,
    rows: u64,
    busy: Duration,
}

impl Pace {
    fn new(goal: u64, limit: Duration) -> Self {
        Self { goal, limit, rows: 0, busy: Duration::ZERO }
    }

    fn over(&self) -> bool {
        self.rows >= self.goal || self.busy >= self.limit
    }

    fn add(&mut self, rows: usize, begun: Instant) {
        self.busy += begun.elapsed();
        self.rows += rows as u64;
    }

    fn per_second(&self) -> f64 {
        self.rows as f64 / self.busy.as_secs_f64()
    }
}

/// What a new row takes from its place in the run instead of from its sample.
fn renewed_event_id(sample_length: usize, number: u64) -> String {
    format!("{number:0>sample_length$}")
}

fn sqlite(folder: &Path, batch: usize, goal: u64, limit: Duration) -> Fallible<f64> {
    let source_path = database_file(&folder.join("data"))?;
    let source = Connection::open_with_flags(&source_path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let page_size: i64 = source.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let statements: Vec<String> = source
        .prepare("SELECT sql FROM sqlite_master WHERE tbl_name = 'usage_records' AND type IN ('table', 'index') AND sql IS NOT NULL ORDER BY type DESC")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut select = source.prepare(&format!("SELECT * FROM usage_records ORDER BY id LIMIT {SAMPLES}"))?;
    let columns: Vec<String> = select.column_names().map(str::to_owned).collect();
    let samples: Vec<Vec<Value>> = select
        .query_map([], |row| (0..columns.len()).map(|column| row.get(column)).collect())?
        .collect::<Result<_, _>>()?;
    let column = |name: &str| columns.iter().position(|column| column == name);
    let (id, created_at, event_id) = (column("id"), column("created_at"), column("event_id"));

    let mut target = Connection::open(folder.join("bare.db"))?;
    target.pragma_update(None, "page_size", page_size)?;
    target.pragma_update(None, "journal_mode", "WAL")?;
    target.pragma_update(None, "synchronous", "FULL")?;
    target.pragma_update(None, "foreign_keys", false)?;
    target.execute_batch(&statements.join(";\n"))?;
    let marks: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
    let insert = format!("INSERT INTO usage_records ({}) VALUES ({})", columns.join(", "), marks.join(", "));

    let renewed = |number: u64| -> Fallible<Vec<Value>> {
        let mut row = samples[usize::try_from(number)? % samples.len()].clone();
        if let Some(id) = id {
            row[id] = Value::Integer(i64::try_from(number)?);
        }
        if let Some(Value::Integer(at)) = created_at.map(|at| &mut row[at]) {
            *at += i64::try_from(number)?;
        }
        if let Some(Value::Text(event)) = event_id.map(|event| &mut row[event]) {
            *event = renewed_event_id(event.len(), number);
        }
        Ok(row)
    };

    let mut pace = Pace::new(goal, limit);
    while !pace.over() {
        let first = pace.rows + 1;
        let rows: Vec<Vec<Value>> = (first..first + batch as u64).map(renewed).collect::<Fallible<_>>()?;
        let begun = Instant::now();
        let transaction = target.transaction()?;
        {
            let mut insert = transaction.prepare_cached(&insert)?;
            for row in &rows {
                insert.execute(params_from_iter(row))?;
            }
        }
        transaction.commit()?;
        pace.add(batch, begun);
    }
    Ok(pace.per_second())
}

/// The SQLite file below `folder` that holds the usage records.
pub fn database_file(folder: &Path) -> Fallible<PathBuf> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Ok(found) = database_file(&path) {
                return Ok(found);
            }
        } else if let Ok(connection) = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            && connection.prepare("SELECT 1 FROM usage_records").is_ok()
        {
            return Ok(path);
        }
    }
    Err(format!("no SQLite file with usage_records below {}", folder.display()).into())
}

struct Sample {
    columns: Vec<(String, String)>,
    rows: Vec<Vec<Option<String>>>,
}

impl Sample {
    async fn read(client: &Client) -> Fallible<Self> {
        let described = "SELECT column_name::text, udt_name::text FROM information_schema.columns \
                         WHERE table_schema = current_schema() AND table_name = 'usage_records' ORDER BY ordinal_position";
        let described = client.query(described, &[]).await?;
        let columns: Vec<(String, String)> = described.iter().map(|row| (row.get(0), row.get(1))).collect();
        let texts: Vec<String> = columns.iter().map(|(name, _)| format!("{name}::text")).collect();
        let select = format!("SELECT {} FROM usage_records ORDER BY id LIMIT {SAMPLES}", texts.join(", "));
        let rows = client.query(&select, &[]).await?;
        let rows =
            rows.iter().map(|row| (0..columns.len()).map(|column| row.get(column)).collect()).collect();
        Ok(Self { columns, rows })
    }

    /// Row `number` of the run: a sample with a new id, a later instant and a new event id.
    fn row(&self, number: u64) -> Vec<Option<String>> {
        let mut row = self.rows[number as usize % self.rows.len()].clone();
        for ((name, kind), value) in self.columns.iter().zip(&mut row) {
            let Some(text) = value else { continue };
            match name.as_str() {
                "id" => *text = number.to_string(),
                "created_at" if kind == "int8" => {
                    if let Ok(at) = text.parse::<u64>() {
                        *text = (at + number).to_string();
                    }
                }
                "event_id" => *text = renewed_event_id(text.len(), number),
                _ => {}
            }
        }
        row
    }

    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The set statement: integer columns as arrays of integers, all others as arrays of texts.
    fn unnest(&self) -> String {
        let (mut values, mut arrays) = (String::new(), String::new());
        for (at, (_, kind)) in self.columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let array = if is_integer(kind) { "int8" } else { "text" };
            // Writing to a String cannot fail.
            let _ = write!(values, "{comma}u.c{at}::{kind}");
            let _ = write!(arrays, "{comma}${}::{array}[]", at + 1);
        }
        let names: Vec<String> = (0..self.columns.len()).map(|at| format!("c{at}")).collect();
        let names = names.join(", ");
        format!(
            "INSERT INTO bare_usage ({}) SELECT {values} FROM UNNEST({arrays}) AS u({names})",
            self.names()
        )
    }
}

fn is_integer(kind: &str) -> bool {
    matches!(kind, "int2" | "int4" | "int8")
}

async fn postgres_run(
    client: &Client,
    batch: usize,
    goal: u64,
    limit: Duration,
    by_unnest: bool,
) -> Fallible<f64> {
    let sample = Sample::read(client).await?;
    // LIKE copies columns, defaults, checks and indexes; foreign keys and triggers it does not.
    let fresh = "DROP TABLE IF EXISTS bare_usage; CREATE TABLE bare_usage (LIKE usage_records INCLUDING ALL); CHECKPOINT";
    for statement in fresh.split("; ") {
        client.batch_execute(statement).await?;
    }
    let insert = client.prepare(&sample.unnest()).await?;
    let copy = format!("COPY bare_usage ({}) FROM STDIN", sample.names());
    let mut pace = Pace::new(goal, limit);
    while !pace.over() {
        let first = pace.rows + 1;
        let rows: Vec<_> = (first..first + batch as u64).map(|number| sample.row(number)).collect();
        if by_unnest {
            let arrays = arrays(&sample, &rows)?;
            let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| &**array as _).collect();
            let begun = Instant::now();
            client.execute(&insert, &parameters).await?;
            pace.add(batch, begun);
        } else {
            let text = Cursor::new(copy_text(&rows));
            let begun = Instant::now();
            let sink = client.copy_in::<_, Cursor<Vec<u8>>>(&copy).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(text).await?;
            sink.finish().await?;
            pace.add(batch, begun);
        }
    }
    Ok(pace.per_second())
}

fn arrays(sample: &Sample, rows: &[Vec<Option<String>>]) -> Fallible<Vec<Box<dyn ToSql + Sync + Send>>> {
    let mut arrays: Vec<Box<dyn ToSql + Sync + Send>> = Vec::with_capacity(sample.columns.len());
    for (at, (_, kind)) in sample.columns.iter().enumerate() {
        let values = rows.iter().map(|row| row[at].clone());
        if is_integer(kind) {
            let numbers = values.map(|value| value.map(|text| text.parse::<i64>()).transpose());
            arrays.push(Box::new(numbers.collect::<Result<Vec<_>, _>>()?));
        } else {
            arrays.push(Box::new(values.collect::<Vec<_>>()));
        }
    }
    Ok(arrays)
}

/// Rows in COPY's text format.
fn copy_text(rows: &[Vec<Option<String>>]) -> Vec<u8> {
    let mut text = String::new();
    for row in rows {
        for (at, value) in row.iter().enumerate() {
            if at > 0 {
                text.push('\t');
            }
            match value {
                None => text.push_str("\\N"),
                Some(value) => {
                    let escaped = value.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n");
                    text.push_str(&escaped.replace('\r', "\\r"));
                }
            }
        }
        text.push('\n');
    }
    text.into_bytes()
}
