//! One state of the database to look at, however long the looking takes.

use super::Halt;
use crate::db::{Db, DbError, FromRow, Location, Row};

/// One state of the database, however long the looking takes.
pub(super) enum Snapshot {
    Sqlite(rusqlite::Connection),
    Postgres(deadpool_postgres::Object),
}

impl Snapshot {
    pub(super) async fn open(location: &Location) -> Result<Self, DbError> {
        if let Location::Sqlite(path) = location
            && !path.exists()
        {
            return Err(DbError::Unavailable(format!("there is no database at {}", path.display())));
        }
        match Db::open(location).await? {
            Db::Sqlite(db) => {
                let connection = db.reading_connection()?;
                connection.execute_batch("BEGIN")?;
                Ok(Self::Sqlite(connection))
            }
            Db::Postgres(db) => {
                let connection = db.connection().await?;
                connection
                    .batch_execute(
                        "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                         BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                    )
                    .await?;
                Ok(Self::Postgres(connection))
            }
        }
    }

    pub(super) async fn try_query<T: FromRow>(
        &mut self,
        sql: &str,
        values: &[i64],
    ) -> Result<Vec<T>, DbError> {
        let values: Vec<crate::db::Value> = values.iter().map(|value| (*value).into()).collect();
        self.run(sql, &values).await
    }

    pub(super) async fn query<T: FromRow>(&mut self, sql: &str, values: &[i64]) -> Result<Vec<T>, Halt> {
        self.try_query(sql, values).await.map_err(Halt::Db)
    }

    pub(super) async fn query_text<T: FromRow>(&mut self, sql: &str, value: &str) -> Result<Vec<T>, Halt> {
        self.run(sql, &[value.into()]).await.map_err(Halt::Db)
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
