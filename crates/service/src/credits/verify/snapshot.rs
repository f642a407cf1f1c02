//! One state of the database to look at, however long the looking takes.

use super::{Halt, TABLES, fault};
use crate::db::{Db, DbError, FromRow, Location, Row};
use rusqlite::{ErrorCode, OpenFlags};
use std::fmt::Display;
use std::path::Path;

/// The indexes of some rows only: their tables, and of which rows.
const PARTIAL_INDEXES: [(&str, &str, &str); 3] = [
    ("credit_entries", "credit_entries_rare", "transaction_type <> 'consume'"),
    ("credit_holds", "credit_holds_open", "status = 'open'"),
    ("credit_holds", "credit_holds_ending", "status = 'open'"),
];

/// One state of the database, however long the looking takes.
pub(super) enum Snapshot {
    Sqlite(rusqlite::Connection),
    Postgres(deadpool_postgres::Object),
}

impl Snapshot {
    pub(super) async fn open(location: &Location) -> Result<Self, Halt> {
        if let Location::Sqlite(path) = location {
            if !path.exists() {
                let why = format!("there is no database at {}", path.display());
                return Err(DbError::Unavailable(why).into());
            }
            if let Some(why) = damage(path) {
                return fault("database", path.display(), why);
            }
        }
        let mut snapshot = match Db::open(location).await? {
            Db::Sqlite(db) => {
                let connection = db.reading_connection()?;
                connection.execute_batch("BEGIN").map_err(DbError::from)?;
                Self::Sqlite(connection)
            }
            Db::Postgres(db) => {
                let connection = db.connection().await?;
                let begin = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                             BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                connection.batch_execute(begin).await.map_err(DbError::from)?;
                Self::Postgres(connection)
            }
        };
        snapshot.has_ledger().await?;
        Ok(snapshot)
    }

    /// Refuses a database in which nobody has made the tables.
    async fn has_ledger(&mut self) -> Result<(), Halt> {
        let sql = match self {
            Self::Sqlite(_) => {
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name LIKE 'credit_%'"
            }
            Self::Postgres(_) => {
                "SELECT count(*) FROM information_schema.tables \
                 WHERE table_schema = ANY (current_schemas(false)) AND table_name LIKE 'credit_%'"
            }
        };
        match self.query::<i64>("database", "its schema", sql, &[]).await?.first() {
            Some(0) | None => {
                Err(DbError::Unavailable("there is no ledger in this database".to_owned()).into())
            }
            Some(_) => Ok(()),
        }
    }

    /// What an engine with pages and indexes of its own finds of them: what the rows say may fit, and
    /// yet an index may hide one.
    pub(super) fn check_pages(&mut self) -> Result<(), Halt> {
        let Self::Sqlite(connection) = self else { return Ok(()) };
        let wrong = |table, found: Result<String, rusqlite::Error>| match found.map_err(DbError::from) {
            Ok(found) if found == "ok" => Ok(()),
            Ok(why) | Err(DbError::Internal(why)) => fault(table, "and its indexes", why),
            Err(error) => Err(error.into()),
        };
        for table in TABLES {
            let sql = format!("PRAGMA integrity_check({table})");
            wrong(table, connection.query_row(&sql, [], |row| row.get(0)))?;
        }
        // The engine does not count what is too much in an index of some rows only.
        for (table, index, rows) in PARTIAL_INDEXES {
            let sql = format!(
                "SELECT CASE WHEN (SELECT count(*) FROM {table} INDEXED BY {index} WHERE {rows}) \
                 = (SELECT count(*) FROM {table} NOT INDEXED WHERE {rows}) \
                 THEN 'ok' ELSE 'wrong # of entries in index {index}' END"
            );
            wrong(table, connection.query_row(&sql, [], |row| row.get(0)))?;
        }
        Ok(())
    }

    pub(super) async fn try_query<T: FromRow>(
        &mut self,
        sql: &str,
        values: &[i64],
    ) -> Result<Vec<T>, DbError> {
        let values: Vec<crate::db::Value> = values.iter().map(|value| (*value).into()).collect();
        self.run(sql, &values).await
    }

    /// Reads rows of a table. If they cannot be read, although the database answers, that is a fault.
    pub(super) async fn query<T: FromRow>(
        &mut self,
        table: &'static str,
        row: impl Display,
        sql: &str,
        values: &[i64],
    ) -> Result<Vec<T>, Halt> {
        match self.try_query(sql, values).await {
            Err(DbError::Internal(why)) => fault(table, row, format!("cannot be read: {why}")),
            read => Ok(read?),
        }
    }

    /// Reads the rows of a table that belong to a user, by their numbers. If one cannot be read it is
    /// found with `keys` and `one`, which take the same values, and named.
    pub(super) async fn numbered<T: FromRow>(
        &mut self,
        of: &Numbered,
        values: &[i64],
    ) -> Result<Vec<T>, Halt> {
        let why = match self.try_query(of.rows, values).await {
            Err(DbError::Internal(why)) => why,
            read => return Ok(read?),
        };
        let (user, whole) = (values[0], format!("of user {}", values[0]));
        for n in self.query::<i64>(of.table, &whole, of.keys, values).await? {
            if let Err(DbError::Internal(why)) = self.try_query::<T>(of.one, &[user, n]).await {
                return fault(
                    of.table,
                    format!("{}_{user}_{n}", of.prefix),
                    format!("cannot be read: {why}"),
                );
            }
        }
        fault(of.table, whole, format!("cannot be read: {why}"))
    }

    pub(super) async fn query_text<T: FromRow>(
        &mut self,
        table: &'static str,
        sql: &str,
        value: &str,
    ) -> Result<Vec<T>, Halt> {
        match self.run(sql, &[value.into()]).await {
            Err(DbError::Internal(why)) => fault(table, value, format!("cannot be read: {why}")),
            read => Ok(read?),
        }
    }

    async fn run<T: FromRow>(&mut self, sql: &str, values: &[crate::db::Value]) -> Result<Vec<T>, DbError> {
        match self {
            Self::Sqlite(connection) => crate::db::sqlite::run(connection, sql, values),
            Self::Postgres(connection) => {
                let statement = connection.prepare_cached(sql).await?;
                let values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                    values.iter().map(|value| value as _).collect();
                let rows = connection.query(&statement, &values).await?;
                rows.iter().map(|row| T::from_row(&Row::Postgres(row))).collect()
            }
        }
    }
}

/// How the rows of a table are read that are numbered within their account.
pub(super) struct Numbered {
    pub(super) table: &'static str,
    /// How their public ids begin.
    pub(super) prefix: &'static str,
    /// Many of them.
    pub(super) rows: &'static str,
    /// The numbers of the same ones.
    pub(super) keys: &'static str,
    /// One, by its number.
    pub(super) one: &'static str,
}

/// What the engine says of a file that is no sound database at first sight.
fn damage(path: &Path) -> Option<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, flags);
    let looked = connection.and_then(|connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
    });
    let damaged = |code| matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase);
    looked.err().filter(|error| error.sqlite_error_code().is_some_and(damaged)).map(|error| error.to_string())
}
