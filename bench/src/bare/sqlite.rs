//! Bare SQLite: a new file beside the service's, WAL and `synchronous=FULL` as the service has them, one
//! prepared statement; once with the engine's default cache and checkpoints, once with larger ones.

use super::{Pace, SAMPLES, renewed_event_id};
use crate::Fallible;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Cache in KiB and pages between checkpoints: what the service gives its own writer.
const TUNED: (i64, i64) = (16_384, 4_000);

/// Records per second by each way.
pub fn measure(folder: &Path, batch: usize, pace: Pace) -> Fallible<Vec<(&'static str, f64)>> {
    let source =
        Connection::open_with_flags(database_file(&folder.join("data"))?, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sample = Sample::read(&source)?;
    let plain = sample.table(&folder.join("bare-plain.db"))?;
    let plain_rate = sample.fill(plain, batch, pace)?;
    let tuned = sample.table(&folder.join("bare-tuned.db"))?;
    tuned.pragma_update(None, "cache_size", -TUNED.0)?;
    tuned.pragma_update(None, "wal_autocheckpoint", TUNED.1)?;
    let tuned_rate = sample.fill(tuned, batch, pace)?;
    Ok(vec![("defaults", plain_rate), ("tuned", tuned_rate)])
}

/// The service's table: how it is made, and rows out of it.
struct Sample {
    page_size: i64,
    statements: Vec<String>,
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Sample {
    fn read(source: &Connection) -> Fallible<Self> {
        let page_size = source.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        // The table before its indexes; indexes that belong to a constraint have no text.
        let statements = "SELECT sql FROM sqlite_master WHERE tbl_name = 'usage_records' \
                          AND type IN ('table', 'index') AND sql IS NOT NULL ORDER BY type DESC";
        let statements =
            source.prepare(statements)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut select =
            source.prepare(&format!("SELECT * FROM usage_records ORDER BY id LIMIT {SAMPLES}"))?;
        let columns: Vec<String> = select.column_names().map(str::to_owned).collect();
        let rows = select
            .query_map([], |row| (0..columns.len()).map(|column| row.get(column)).collect())?
            .collect::<Result<_, _>>()?;
        Ok(Self { page_size, statements, columns, rows })
    }

    /// An empty copy of the table in a new file.
    fn table(&self, path: &Path) -> Fallible<Connection> {
        let target = Connection::open(path)?;
        target.pragma_update(None, "page_size", self.page_size)?;
        target.pragma_update(None, "journal_mode", "WAL")?;
        target.pragma_update(None, "synchronous", "FULL")?;
        target.pragma_update(None, "foreign_keys", false)?;
        target.execute_batch(&self.statements.join(";\n"))?;
        Ok(target)
    }

    fn fill(&self, mut target: Connection, batch: usize, mut pace: Pace) -> Fallible<f64> {
        let marks: Vec<String> = (1..=self.columns.len()).map(|number| format!("?{number}")).collect();
        let (names, marks) = (self.columns.join(", "), marks.join(", "));
        let insert = format!("INSERT INTO usage_records ({names}) VALUES ({marks})");
        while !pace.over() {
            let first = pace.rows + 1;
            let rows = (first..first + batch as u64).map(|number| self.renewed(number));
            let rows: Vec<Vec<Value>> = rows.collect::<Fallible<_>>()?;
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

    /// Row `number` of the run: a sample with a new id, a later instant and a new event id.
    fn renewed(&self, number: u64) -> Fallible<Vec<Value>> {
        let mut row = self.rows[usize::try_from(number)? % self.rows.len()].clone();
        for (name, value) in self.columns.iter().zip(&mut row) {
            match (name.as_str(), value) {
                ("id", value) => *value = Value::Integer(i64::try_from(number)?),
                ("created_at", Value::Integer(at)) => *at += i64::try_from(number)?,
                ("event_id", Value::Text(event)) => *event = renewed_event_id(event.len(), number),
                _ => {}
            }
        }
        Ok(row)
    }
}

/// The SQLite file below `folder` that holds the usage records.
fn database_file(folder: &Path) -> Fallible<PathBuf> {
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
