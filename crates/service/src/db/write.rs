//! A set statement on PostgreSQL: one text, one array per column, one row per element.

use super::DbError;
use crate::writer::Statement;
use deadpool_postgres::Object;
use futures_util::future::join_all;
use tokio_postgres::types::ToSql;

/// One statement of a batch, with its columns.
pub struct Write<'a> {
    sql: &'static str,
    columns: Vec<Box<dyn ToSql + Sync + Send + 'a>>,
    expected: Option<usize>,
    /// Its place in an edit, which is refused where the count is another.
    of_edit: Option<usize>,
}

impl<'a> Write<'a> {
    /// A statement that must write exactly `rows` rows.
    #[must_use]
    pub const fn rows(sql: &'static str, rows: usize) -> Self {
        Self { sql, columns: Vec::new(), expected: Some(rows), of_edit: None }
    }

    /// A statement that may write any number of rows.
    #[must_use]
    pub const fn any(sql: &'static str) -> Self {
        Self { sql, columns: Vec::new(), expected: None, of_edit: None }
    }

    /// A statement of an edit, by its place in it.
    #[must_use]
    pub fn of_edit((place, statement): (usize, &'a Statement)) -> Self {
        let columns = statement.values.iter().map(|value| Box::new(value) as Box<dyn ToSql + Sync + Send>);
        let (sql, expected) = (statement.sql, statement.rows);
        Self { sql, columns: columns.collect(), expected, of_edit: Some(place) }
    }

    /// Adds a single value.
    #[must_use]
    pub fn value(mut self, value: i64) -> Self {
        self.columns.push(Box::new(value));
        self
    }

    /// Adds a column of anything that PostgreSQL takes.
    #[must_use]
    pub fn column<T: ToSql + Sync + Send + 'a>(mut self, values: impl Iterator<Item = T>) -> Self
    where
        Vec<T>: ToSql,
    {
        self.columns.push(Box::new(values.collect::<Vec<T>>()));
        self
    }
}

/// Sends the statements all at once, so that a batch costs one round trip, and checks that each
/// wrote what it was meant to.
///
/// # Errors
/// [`DbError::Conflict`] when a statement wrote another number of rows, or what the database says;
/// the transaction is then to be rolled back.
pub async fn run(connection: &Object, writes: &[Write<'_>], begin: bool) -> Result<(), DbError> {
    let mut statements = Vec::with_capacity(writes.len());
    for write in writes {
        statements.push(connection.prepare_cached(write.sql).await?);
    }
    // Futures of one connection are sent in the order of their first poll.
    let begin = async { if begin { connection.batch_execute("BEGIN").await } else { Ok(()) } };
    let sent = join_all(statements.iter().zip(writes).map(|(statement, write)| async move {
        let values: Vec<&(dyn ToSql + Sync)> =
            write.columns.iter().map(|column| &**column as &(dyn ToSql + Sync)).collect();
        connection.execute(statement, &values).await
    }));
    let (begun, written) = futures_util::future::join(begin, sent).await;
    begun?;
    for (write, rows) in writes.iter().zip(written) {
        let rows = rows?;
        if write.expected.is_some_and(|expected| expected as u64 != rows) {
            return Err(match write.of_edit {
                Some(place) => DbError::Refused(place),
                None => DbError::Conflict(format!("{rows} rows were written by {}", write.sql)),
            });
        }
    }
    Ok(())
}
