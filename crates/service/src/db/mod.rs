//! The two engines behind one face: SQLite embedded, PostgreSQL for many replicas.
//!
//! Cold reads have one SQL text for both (`$1`, `$2`, …) and one [`FromRow`] per type; each engine
//! runs it natively. Everything that changes a user's rows goes through [`crate::writer`].
//! Columns are integers, texts, bytes and booleans only, so that a row reads the same on both.

pub mod migrate;
pub mod postgres;
pub mod row;
pub mod sqlite;
pub mod write;

pub use row::{FromRow, Row, Value, Weigh};

use crate::measure;
use crate::telemetry::traces;
use opentelemetry::KeyValue;
use std::path::PathBuf;

/// How many bytes of callers' texts one page of a list carries, unless a single row has more.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why the database did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// It is down, restarting, or out of connections; trying again later makes sense.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// Another transaction was there first; trying again at once makes sense.
    #[error("database conflict: {0}")]
    Conflict(String),
    /// This statement of an edit wrote another number of rows than it must.
    #[error("statement {0} of an edit found its condition unmet")]
    Refused(usize),
    /// It does not understand us: a bug.
    #[error("database error: {0}")]
    Internal(String),
}

/// The database that the service runs on.
#[derive(Clone)]
pub enum Db {
    /// The embedded engine.
    Sqlite(sqlite::Sqlite),
    /// The shared engine.
    Postgres(postgres::Postgres),
}

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// A connection string, and how many connections to open at most.
    Postgres(String, usize),
}

impl Db {
    /// Connects, without touching the schema.
    ///
    /// # Errors
    /// A sentence for the operator when the database cannot be opened or reached.
    pub async fn open(location: &Location) -> Result<Self, DbError> {
        match location {
            Location::Sqlite(path) => sqlite::Sqlite::open(path).map(Self::Sqlite),
            Location::Postgres(url, pool_size) => {
                postgres::Postgres::connect(url, *pool_size).await.map(Self::Postgres)
            }
        }
    }

    /// The engine's name, for the banner, health and metrics.
    #[must_use]
    pub const fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Runs a query that may read many rows.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn query<T: FromRow>(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<T>, DbError> {
        let _wait = self.wait(sql);
        noted(match self {
            Self::Sqlite(db) => db.scan(sql, values).await,
            Self::Postgres(db) => db.query(sql, &values).await,
        })
    }

    /// Runs a query for a page of at most `limit` rows, of which it reads one more; a page ends early
    /// where its texts pass [`PAGE_BYTES_MAX`].
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn page<T: FromRow + Weigh>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        limit: i64,
    ) -> Result<Rows<T>, DbError> {
        let rows = Rows::up_to(limit);
        let _wait = self.wait(sql);
        noted(match self {
            Self::Sqlite(db) => db.page(sql, values, rows).await,
            Self::Postgres(db) => db.page(sql, &values, rows).await,
        })
    }

    /// Runs a query that reads one row by its key.
    ///
    /// On SQLite it runs right here, which takes a few microseconds; a scan would block the runtime.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn find<T: FromRow>(&self, sql: &'static str, values: &[Value]) -> Result<Option<T>, DbError> {
        let _wait = self.wait(sql);
        noted(match self {
            Self::Sqlite(db) => db.point(sql, values),
            Self::Postgres(db) => db.query(sql, values).await.map(|mut found| found.pop()),
        })
    }

    /// A span for a read, of a traced request. The text of the statement holds no value of anybody.
    fn wait(&self, sql: &'static str) -> traces::Wait {
        traces::wait("database.read", || {
            [KeyValue::new("db.system.name", self.engine()), KeyValue::new("db.query.text", sql)]
        })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`DbError`] when it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.find::<i64>("SELECT CAST(1 AS BIGINT)", &[]).await.map(|_| ())
    }

    /// Tells the metrics how the engine stands; asks nothing of a server.
    pub fn observe(&self) {
        match self {
            Self::Sqlite(db) => db.observe(),
            Self::Postgres(db) => db.observe(),
        }
    }
}

/// Counts a read that failed.
fn noted<T>(read: Result<T, DbError>) -> Result<T, DbError> {
    read.inspect_err(|error| measure::database_error("read", error))
}

/// Rows of a page, and whether the list goes on.
#[derive(Debug)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether more follow.
    pub more: bool,
    limit: usize,
    bytes: usize,
}

impl<T: Weigh> Rows<T> {
    /// No rows yet, and room for so many.
    #[must_use]
    pub fn up_to(limit: i64) -> Self {
        Self { rows: Vec::new(), more: false, limit: usize::try_from(limit).unwrap_or(0), bytes: 0 }
    }

    /// Takes a row and says whether another one may be offered.
    pub fn take(&mut self, row: T) -> bool {
        let bytes = self.bytes + row.weight();
        if self.rows.len() >= self.limit || (bytes > PAGE_BYTES_MAX && !self.rows.is_empty()) {
            self.more = true;
            return false;
        }
        self.bytes = bytes;
        self.rows.push(row);
        true
    }
}
