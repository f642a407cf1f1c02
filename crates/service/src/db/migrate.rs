//! Migrations: the same numbers for both engines, run at the start, each once.

use super::{Db, DbError, FromRow, Row};
use refinery::{Migration, Runner};

/// Serialises replicas that start at the same time; any number that nobody else uses.
const ADVISORY_LOCK: i64 = 0x7573_6572_7376_6331;

macro_rules! migrations {
    ($engine:literal: $($number:literal $name:literal),+) => {
        [$((
            concat!("V", $number, "__", $name),
            include_str!(concat!("../../migrations/", $engine, "/", $number, "_", $name, ".sql")),
        )),+]
    };
}

const SQLITE: [(&str, &str); 14] = migrations!("sqlite": "0001" "users", "0002" "credits", "0003" "usage", "0004" "sessions", "0005" "files", "0006" "prices", "0007" "holds", "0008" "limits", "0009" "subscriptions", "0010" "payments", "0011" "access", "0012" "privacy", "0013" "retention", "0014" "webhooks");
const POSTGRES: [(&str, &str); 14] = migrations!("postgres": "0001" "users", "0002" "credits", "0003" "usage", "0004" "sessions", "0005" "files", "0006" "prices", "0007" "holds", "0008" "limits", "0009" "subscriptions", "0010" "payments", "0011" "access", "0012" "privacy", "0013" "retention", "0014" "webhooks");

/// Brings the schema up to date and says how many migrations that took.
///
/// # Errors
/// [`DbError::Internal`] when a migration fails or the database has a newer or altered schema.
pub async fn migrate(db: &Db) -> Result<usize, DbError> {
    match db {
        Db::Sqlite(sqlite) => {
            let mut connection = sqlite.writing_connection()?;
            tokio::task::spawn_blocking(move || runner(&SQLITE)?.run(&mut connection).map_err(failed))
                .await
                .map_err(|e| DbError::Internal(e.to_string()))?
                .map(|report| report.applied_migrations().len())
        }
        Db::Postgres(postgres) => {
            let mut connection = postgres.connection().await?;
            connection.batch_execute("SET lock_timeout = 0; SET statement_timeout = 0").await?;
            connection.execute("SELECT pg_advisory_lock($1)", &[&ADVISORY_LOCK]).await?;
            let report = runner(&POSTGRES)?.run_async(&mut **connection.as_mut()).await.map_err(failed);
            connection.execute("SELECT pg_advisory_unlock($1)", &[&ADVISORY_LOCK]).await?;
            // The connection has other time limits now, so it does not go back to the pool.
            drop(deadpool_postgres::Object::take(connection));
            report.map(|report| report.applied_migrations().len())
        }
    }
}

/// Whether the schema is exactly the one of this version; changes nothing.
///
/// # Errors
/// [`DbError`] when a migration cannot be read.
pub async fn is_current(db: &Db) -> Result<bool, DbError> {
    let known = match db {
        Db::Sqlite(_) => &SQLITE,
        Db::Postgres(_) => &POSTGRES,
    };
    let known = known.iter().map(|(name, sql)| {
        let migration = Migration::unapplied(name, sql).map_err(failed)?;
        Ok(migration.checksum().to_string())
    });
    let known = known.collect::<Result<Vec<String>, DbError>>()?;
    // Without the table there is no schema at all.
    let applied: Result<Vec<Applied>, DbError> =
        db.query("SELECT checksum FROM refinery_schema_history ORDER BY version", vec![]).await;
    Ok(applied.is_ok_and(|applied| applied.into_iter().map(|Applied(checksum)| checksum).eq(known)))
}

/// The checksum of a migration that was run.
struct Applied(String);

impl FromRow for Applied {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        row.text(0).map(Self)
    }
}

fn runner(migrations: &[(&str, &str)]) -> Result<Runner, DbError> {
    let migrations = migrations
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql).map_err(failed))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Runner::new(&migrations))
}

fn failed(error: refinery::Error) -> DbError {
    DbError::Internal(format!("migration failed: {error}"))
}
