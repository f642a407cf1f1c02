//! One row and one parameter of either engine.

use super::DbError;
use bytes::BytesMut;
use rusqlite::types::ValueRef;
use std::error::Error;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A row of a result.
pub enum Row<'a> {
    /// From SQLite.
    Sqlite(&'a rusqlite::Row<'a>),
    /// From PostgreSQL.
    Postgres(&'a tokio_postgres::Row),
}

/// Makes a getter that reads a column the same way on both engines.
macro_rules! getter {
    ($(#[$doc:meta])* $name:ident -> $type:ty) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// [`DbError::Internal`] when the column is of another type.
        pub fn $name(&self, column: usize) -> Result<$type, DbError> {
            match self {
                Self::Sqlite(row) => row.get(column).map_err(|e| DbError::Internal(e.to_string())),
                Self::Postgres(row) => row.try_get(column).map_err(|e| DbError::Internal(e.to_string())),
            }
        }
    };
}

/// One value of a row, whatever its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// An integer.
    Int(i64),
    /// A text.
    Text(String),
    /// Yes or no.
    Bool(bool),
}

impl Row<'_> {
    /// Every column that is no bytes, as the database has it.
    ///
    /// # Errors
    /// [`DbError::Internal`] when a column is of none of these types.
    pub fn cells(&self) -> Result<Vec<Cell>, DbError> {
        let failed = |why: &dyn std::fmt::Display| DbError::Internal(why.to_string());
        let cell = |column: usize| match self {
            Self::Sqlite(row) => match row.get_ref(column).map_err(|e| failed(&e))? {
                ValueRef::Null => Ok(Cell::Null),
                ValueRef::Integer(int) => Ok(Cell::Int(int)),
                ValueRef::Text(_) => self.text(column).map(Cell::Text),
                other => Err(failed(&format!("column {column} is a {}", other.data_type()))),
            },
            Self::Postgres(row) => match *row.columns()[column].type_() {
                Type::BOOL => row.try_get(column).map(|yes: Option<bool>| yes.map_or(Cell::Null, Cell::Bool)),
                Type::INT8 => row.try_get(column).map(|int: Option<i64>| int.map_or(Cell::Null, Cell::Int)),
                _ => row.try_get(column).map(|text: Option<String>| text.map_or(Cell::Null, Cell::Text)),
            }
            .map_err(|e| failed(&e)),
        };
        let columns = match self {
            Self::Sqlite(row) => row.as_ref().column_count(),
            Self::Postgres(row) => row.len(),
        };
        (0..columns).map(cell).collect()
    }

    getter!(
        /// An integer.
        int -> i64
    );
    getter!(
        /// An integer or nothing.
        optional_int -> Option<i64>
    );
    getter!(
        /// A text.
        text -> String
    );
    getter!(
        /// A text or nothing.
        optional_text -> Option<String>
    );
    getter!(
        /// Bytes.
        bytes -> Vec<u8>
    );

    /// A truth: on SQLite 0 or 1 and nothing else.
    ///
    /// # Errors
    /// [`DbError::Internal`] when the column is of another type.
    pub fn boolean(&self, column: usize) -> Result<bool, DbError> {
        match self {
            Self::Sqlite(_) => match self.int(column)? {
                0 => Ok(false),
                1 => Ok(true),
                other => Err(DbError::Internal(format!("column {column} is {other}, not 0 or 1"))),
            },
            Self::Postgres(row) => row.try_get(column).map_err(|e| DbError::Internal(e.to_string())),
        }
    }

    /// A hash of 32 bytes.
    ///
    /// # Errors
    /// [`DbError::Internal`] when the column is of another type or length.
    pub fn hash(&self, column: usize) -> Result<[u8; 32], DbError> {
        self.bytes(column)?
            .try_into()
            .map_err(|_| DbError::Internal(format!("column {column} is not 32 bytes long")))
    }
}

/// What can be read from a row.
pub trait FromRow: Sized + Send + 'static {
    /// Reads it.
    ///
    /// # Errors
    /// [`DbError::Internal`] when the row does not hold one.
    fn from_row(row: &Row<'_>) -> Result<Self, DbError>;
}

/// How much of callers' texts a row carries, in bytes.
pub trait Weigh {
    /// The bytes, roughly.
    fn weight(&self) -> usize;
}

impl FromRow for i64 {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        row.int(0)
    }
}

impl FromRow for String {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        row.text(0)
    }
}

/// A parameter of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer or nothing.
    Int(Option<i64>),
    /// A text or nothing.
    Text(Option<String>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// The id that the row is given when it is written.
    Fresh,
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(Some(int))
    }
}

impl From<Option<i64>> for Value {
    fn from(int: Option<i64>) -> Self {
        Self::Int(int)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Self::Int(int) => rusqlite::ToSql::to_sql(int),
            Self::Text(text) => rusqlite::ToSql::to_sql(text),
            Self::Bytes(bytes) => rusqlite::ToSql::to_sql(bytes),
            Self::Fresh => rusqlite::ToSql::to_sql(&None::<i64>),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Int(int) => int.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Bytes(bytes) => bytes.to_sql(ty, out),
            Self::Fresh => Ok(IsNull::Yes),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::TEXT | Type::VARCHAR | Type::BYTEA)
    }

    to_sql_checked!();
}
