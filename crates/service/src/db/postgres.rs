//! PostgreSQL: a pool of connections, prepared statements, TLS when the URL asks for it.

use super::{DbError, FromRow, Row, Rows, Value, Weigh};
use crate::measure;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures_util::TryStreamExt as _;
use std::future::poll_fn;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long to wait for a free connection, and for a new one to open.
const WAIT: Duration = Duration::from_secs(5);
/// How long a connection outside the pool may be quiet before its peer is asked whether it is there.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// Set statements are planned once, not for every batch. How long a statement may run, and wait for a lock; past it the request fails and nothing is kept.
const SESSION: &str = "-c plan_cache_mode=force_generic_plan -c statement_timeout=20000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=20000";

/// A PostgreSQL database.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    /// How to open a connection outside the pool.
    way: Arc<(tokio_postgres::Config, MakeRustlsConnect)>,
}

/// A connection outside the pool, which also hears notifications; closed when dropped.
pub struct Line {
    /// What can be asked over it.
    pub client: Client,
    carried: JoinHandle<()>,
}

impl Line {
    /// Waits until the connection is gone.
    pub async fn ended(&mut self) {
        let _ = (&mut self.carried).await;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.carried.abort();
    }
}

impl Postgres {
    /// Connects, and makes sure that the server answers.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] with a sentence for the operator.
    pub async fn connect(url: &str, pool_size: usize) -> Result<Self, DbError> {
        Self::connect_as(url, pool_size, "user-service").await
    }

    /// The same, under that name.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] with a sentence for the operator.
    pub async fn connect_as(url: &str, pool_size: usize, name: &str) -> Result<Self, DbError> {
        let mut config = tokio_postgres::Config::from_str(url)
            .map_err(|e| DbError::Unavailable(format!("the connection string is not valid: {e}")))?;
        let options = config.get_options().map_or(SESSION.to_owned(), |own| format!("{SESSION} {own}"));
        config.options(options).application_name(name).connect_timeout(WAIT);
        let tls = tls()?;
        let manager = Manager::from_config(
            config.clone(),
            tls.clone(),
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(pool_size)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| DbError::Internal(e.to_string()))?;
        let db = Self { pool, way: Arc::new((config, tls)) };
        drop(db.connection().await?);
        Ok(db)
    }

    /// A connection of the pool.
    ///
    /// # Errors
    /// [`DbError::Unavailable`].
    pub async fn connection(&self) -> Result<Object, DbError> {
        use std::error::Error as _;
        self.pool.get().await.map_err(|e| {
            let cause = e.source().and_then(|s| s.source()).map(|s| format!(": {s}")).unwrap_or_default();
            DbError::Unavailable(format!("{e}{cause}"))
        })
    }

    /// Opens a connection outside the pool, under a name of its own; `heard` is called with each
    /// notification of the channels that it listens to.
    ///
    /// # Errors
    /// [`DbError::Unavailable`].
    pub async fn line(
        &self,
        name: &str,
        mut heard: impl FnMut(Notification) + Send + 'static,
    ) -> Result<Line, DbError> {
        let (mut config, tls) = (*self.way).clone();
        // Nothing may be said on it for long; a peer that went without a word is noticed all the same.
        config
            .application_name(name)
            .keepalives_idle(QUIET_MAX)
            .keepalives_interval(WAIT)
            .keepalives_retries(3);
        let opened = tokio::time::timeout(WAIT, config.connect(tls)).await;
        let opened = opened.map_err(|_| DbError::Unavailable("it does not answer in time".to_owned()))?;
        let (client, mut connection) = opened.map_err(|e| DbError::Unavailable(e.to_string()))?;
        let carried = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    heard(notification);
                }
            }
        });
        Ok(Line { client, carried })
    }

    /// Tells the metrics how the pool stands.
    pub fn observe(&self) {
        let status = self.pool.status();
        measure::pool(status.size, status.available, status.max_size, status.waiting);
    }

    /// Closes every connection that waits in the pool, because one of them may be within a transaction.
    pub fn forget_connections(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Runs a query.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn query<T: FromRow>(&self, sql: &str, values: &[Value]) -> Result<Vec<T>, DbError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(sql).await?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
        let rows = connection.query(&statement, &values).await?;
        rows.iter().map(|row| T::from_row(&Row::Postgres(row))).collect()
    }

    /// Reads a page of rows as they arrive; what comes after it is dropped, never kept.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn page<T: FromRow + Weigh>(
        &self,
        sql: &str,
        values: &[Value],
        mut page: Rows<T>,
    ) -> Result<Rows<T>, DbError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(sql).await?;
        let mut rows = pin!(connection.query_raw(&statement, values).await?);
        while let Some(row) = rows.try_next().await? {
            if !page.take(T::from_row(&Row::Postgres(&row))?) {
                break;
            }
        }
        Ok(page)
    }
}

/// TLS with the system's certificates; the connection string's `sslmode` decides whether it is used.
fn tls() -> Result<MakeRustlsConnect, DbError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| DbError::Internal(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // Without an answer of the server, the connection is gone or the value did not fit.
            return if error.is_closed()
                || std::error::Error::source(&error).is_some_and(|s| s.is::<std::io::Error>())
            {
                Self::Unavailable(error.to_string())
            } else {
                Self::Internal(format!("{error}: {:?}", std::error::Error::source(&error)))
            };
        };
        let text = format!("{} ({})", db.message(), db.code().code());
        let conflicts = [
            SqlState::UNIQUE_VIOLATION,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
        ];
        // Classes 08 (connection), 53 (resources), 57 (operator intervention), 58 (system).
        if conflicts.contains(db.code()) {
            Self::Conflict(text)
        } else if ["08", "53", "57", "58"].iter().any(|class| db.code().code().starts_with(class))
            || *db.code() == SqlState::READ_ONLY_SQL_TRANSACTION
        {
            Self::Unavailable(text)
        } else {
            Self::Internal(text)
        }
    }
}
