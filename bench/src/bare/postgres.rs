//! Bare PostgreSQL: a copy of the table in the service's own database, filled by one connection, once as
//! a set statement and once by `COPY`.

use super::{Pace, SAMPLES, renewed_event_id};
use crate::{Fallible, postgres};
use futures_util::SinkExt;
use std::fmt::Write;
use std::io::Cursor;
use std::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

/// Records per second by each way.
pub async fn measure(url: &str, batch: usize, pace: Pace) -> Fallible<Vec<(&'static str, f64)>> {
    let client = postgres::connect(url).await?;
    let sample = Sample::read(&client).await?;
    let unnest = fill(&client, &sample, batch, pace, true).await?;
    let copy = fill(&client, &sample, batch, pace, false).await?;
    Ok(vec![("unnest", unnest), ("copy", copy)])
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

async fn fill(
    client: &Client,
    sample: &Sample,
    batch: usize,
    mut pace: Pace,
    by_unnest: bool,
) -> Fallible<f64> {
    // LIKE copies columns, defaults, checks and indexes; foreign keys and triggers it does not.
    let fresh = "DROP TABLE IF EXISTS bare_usage; CREATE TABLE bare_usage (LIKE usage_records INCLUDING ALL); CHECKPOINT";
    for statement in fresh.split("; ") {
        client.batch_execute(statement).await?;
    }
    let insert = client.prepare(&sample.unnest()).await?;
    let copy = format!("COPY bare_usage ({}) FROM STDIN", sample.names());
    while !pace.over() {
        let first = pace.rows + 1;
        let rows: Vec<_> = (first..first + batch as u64).map(|number| sample.row(number)).collect();
        if by_unnest {
            let arrays = arrays(sample, &rows)?;
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
