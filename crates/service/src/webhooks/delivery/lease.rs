//! Which process sends to an endpoint: one at a time, by a lease.
//!
//! On PostgreSQL a lease ends by itself, by the database's clock, so that another process goes on where one
//! died; processes count each other by the names of their connections and share the endpoints evenly. On SQLite there is one process.

use super::store::database_now;
use crate::db::{Db, DbError, Value, postgres::Postgres};
use crate::writer::{Command, Edit, Statement, WriteError, Writer};
use kernel::UserRowId;
use tokio_postgres::types::ToSql;

/// What the connections of whoever sends are called, before the name of the process.
pub const APPLICATION_PREFIX: &str = "user-service sends ";

/// Runs a statement that changes rows of nobody.
///
/// # Errors
/// [`DbError`].
pub async fn execute(db: &Postgres, sql: &str, values: &[Value]) -> Result<u64, DbError> {
    let connection = db.connection().await?;
    let statement = connection.prepare_cached(sql).await?;
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    Ok(connection.execute(&statement, &values).await?)
}

/// How many processes send.
///
/// # Errors
/// [`DbError`].
pub async fn processes(db: &Db) -> Result<usize, DbError> {
    let Db::Postgres(_) = db else { return Ok(1) };
    let sql = "SELECT COUNT(DISTINCT application_name) FROM pg_stat_activity \
        WHERE datname = current_database() AND starts_with(application_name, $1)";
    let count: Option<i64> = db.find(sql, &[APPLICATION_PREFIX.into()]).await?;
    Ok(usize::try_from(count.unwrap_or(1)).unwrap_or(1).max(1))
}

/// Frees on SQLite what a process before this one held: it has ended, or this one would not have the file.
///
/// # Errors
/// [`WriteError`].
pub async fn begin(db: &Db, writer: &Writer) -> Result<(), WriteError> {
    if let Db::Sqlite(_) = db {
        let sql = "UPDATE webhook_endpoints SET leased_by = NULL WHERE leased_by IS NOT NULL";
        let edit = Edit::new(UserRowId(0), vec![Statement::any(sql, vec![])]);
        writer.execute(Command::Edit(edit)).await?;
    }
    Ok(())
}

/// Takes up to so many endpoints that nobody sends to.
///
/// # Errors
/// [`WriteError`].
pub async fn claim(db: &Db, writer: &Writer, me: &str, up_to: usize) -> Result<(), WriteError> {
    let up_to = i64::try_from(up_to).unwrap_or(i64::MAX);
    match db {
        Db::Sqlite(_) => {
            let sql =
                "UPDATE webhook_endpoints SET leased_by = $1 WHERE status = 'enabled' AND leased_by IS NULL";
            let edit = Edit::new(UserRowId(0), vec![Statement::any(sql, vec![me.into()])]);
            writer.execute(Command::Edit(edit)).await?;
        }
        Db::Postgres(db) => {
            let sql = concat!(
                "UPDATE webhook_endpoints SET leased_by = $1, leased_until = ",
                database_now!(),
                " + 15000000 WHERE id IN (SELECT id FROM webhook_endpoints WHERE status = 'enabled' AND (leased_by IS NULL \
                 OR leased_until < ",
                database_now!(),
                ") ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)"
            );
            execute(db, sql, &[me.into(), up_to.into()]).await?;
        }
    }
    Ok(())
}

/// Holds what is held for another while.
///
/// # Errors
/// [`DbError`].
pub async fn renew(db: &Postgres, me: &str) -> Result<(), DbError> {
    let sql = concat!(
        "UPDATE webhook_endpoints SET leased_until = ",
        database_now!(),
        " + 15000000 WHERE leased_by = $1 AND status = 'enabled'"
    );
    execute(db, sql, &[me.into()]).await.map(drop)
}

/// Gives an endpoint, or all of them, to whoever comes next.
///
/// # Errors
/// [`DbError`].
pub async fn release(db: &Db, me: &str, endpoint: Option<i64>) -> Result<(), DbError> {
    // On SQLite the next process takes all that there is.
    let Db::Postgres(db) = db else { return Ok(()) };
    let sql = "UPDATE webhook_endpoints SET leased_by = NULL, leased_until = 0 \
        WHERE leased_by = $1 AND (CAST($2 AS BIGINT) IS NULL OR id = $2)";
    execute(db, sql, &[me.into(), endpoint.into()]).await.map(drop)
}
