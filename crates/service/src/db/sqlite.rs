//! SQLite: one file, one writer (the group-commit thread), readers beside it.
//!
//! Point reads run on the caller's thread over a few connections; scans run on blocking threads
//! over others, so that a long one never holds up a short one. One process at a time may serve a
//! database file; a lock file beside it says so, and the system frees it when the process dies.

use super::{DbError, FromRow, Row, Rows, Value, Weigh};
use crate::measure;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Connections for reads by key.
const POINT_READERS: usize = 4;
/// Connections for scans, and so how many run at once.
const SCANNERS: usize = 4;
/// How long a connection waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages (4 KiB) in the log before the writer writes them back to the file. It stands still
/// meanwhile: fewer pages make shorter waits, more pages a higher rate (`docs/decisions/0011`).
const CHECKPOINT_PAGES: i64 = 1_000;

/// A SQLite database.
#[derive(Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    points: Vec<Mutex<Connection>>,
    next_point: AtomicUsize,
    scanners: Mutex<Vec<Connection>>,
    scan_permits: Semaphore,
}

impl Sqlite {
    /// Opens the file, and makes it when there is none.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when it cannot be opened, read or written, or is no database.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| {
                DbError::Unavailable(format!("the folder {} cannot be made: {e}", folder.display()))
            })?;
        }
        connect(path, true)?;
        let readers = |n: usize| (0..n).map(|_| connect(path, false)).collect::<Result<Vec<_>, DbError>>();
        Ok(Self {
            inner: Arc::new(Inner {
                points: readers(POINT_READERS)?.into_iter().map(Mutex::new).collect(),
                next_point: AtomicUsize::new(0),
                scanners: Mutex::new(readers(SCANNERS)?),
                scan_permits: Semaphore::new(SCANNERS),
                path: path.to_owned(),
            }),
        })
    }

    /// A connection that may write. The writer has the only one while the service runs.
    ///
    /// # Errors
    /// [`DbError::Unavailable`].
    pub fn writing_connection(&self) -> Result<Connection, DbError> {
        connect(&self.inner.path, true)
    }

    /// A connection that only reads, for a long look of its own.
    ///
    /// # Errors
    /// [`DbError::Unavailable`].
    pub fn reading_connection(&self) -> Result<Connection, DbError> {
        connect(&self.inner.path, false)
    }

    /// Claims the file for this process until the returned guard is dropped.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when another process serves it.
    pub fn claim(&self) -> Result<File, DbError> {
        let path = self.inner.path.with_extension("lock");
        let file = File::create(&path)
            .map_err(|e| DbError::Unavailable(format!("{} cannot be written: {e}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(DbError::Unavailable(format!(
                "another process already serves {}",
                self.inner.path.display()
            ))),
            Err(TryLockError::Error(e)) => {
                Err(DbError::Unavailable(format!("{} cannot be locked: {e}", path.display())))
            }
        }
    }

    /// Tells the metrics how large the file and its log are.
    pub fn observe(&self) {
        let wal = self.inner.path.with_file_name(self.wal_name());
        let wal_bytes = std::fs::metadata(wal).map_or(0, |about| about.len());
        let pages = self.with_point_reader(|connection| {
            let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let size = pragma("page_size")?;
            Ok((size * pragma("page_count")?, size * pragma("freelist_count")?))
        });
        if let Ok((file, free)) = pages {
            let scans = SCANNERS - self.inner.scan_permits.available_permits().min(SCANNERS);
            measure::sqlite(wal_bytes, file.unsigned_abs(), free.unsigned_abs(), scans);
        }
    }

    fn wal_name(&self) -> OsString {
        let mut name = self.inner.path.file_name().unwrap_or_default().to_owned();
        name.push("-wal");
        name
    }

    /// Reads one row on this thread.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn point<T: FromRow>(&self, sql: &str, values: &[Value]) -> Result<Option<T>, DbError> {
        self.with_point_reader(|connection| {
            let mut found = run(connection, sql, values)?;
            Ok(found.pop())
        })
    }

    /// Runs `work` on a connection for reads by key, on this thread.
    ///
    /// # Errors
    /// Whatever `work` returns.
    pub fn with_point_reader<R>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        let start = self.inner.next_point.fetch_add(1, Ordering::Relaxed);
        let points = &self.inner.points;
        for step in 0..points.len() {
            if let Some(connection) = points[(start + step) % points.len()].try_lock() {
                return work(&connection);
            }
        }
        let connection = points[start % points.len()].lock();
        work(&connection)
    }

    /// Reads many rows on a blocking thread.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn scan<T: FromRow>(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<T>, DbError> {
        self.with_scanner(move |connection| run(connection, sql, &values)).await
    }

    /// Reads a page of rows on a blocking thread.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn page<T: FromRow + Weigh>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        mut page: Rows<T>,
    ) -> Result<Rows<T>, DbError> {
        self.with_scanner(move |connection| {
            each(connection, sql, &values, |row| page.take(row))?;
            Ok(page)
        })
        .await
    }

    /// Runs `work` with a reading connection on a blocking thread; at most four run at once.
    ///
    /// # Errors
    /// Whatever `work` returns.
    pub async fn with_scanner<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, DbError> + Send + 'static,
    ) -> Result<R, DbError> {
        let closed = |_| DbError::Unavailable("the service is stopping".to_owned());
        let permit = self.inner.scan_permits.acquire().await.map_err(closed)?;
        let inner = Arc::clone(&self.inner);
        let answer = tokio::task::spawn_blocking(move || {
            let connection = inner.scanners.lock().pop();
            let connection = connection.map_or_else(|| connect(&inner.path, false), Ok)?;
            let answer = work(&connection);
            inner.scanners.lock().push(connection);
            answer
        })
        .await
        .map_err(|e| DbError::Internal(e.to_string()))?;
        drop(permit);
        answer
    }
}

fn connect(path: &Path, writing: bool) -> Result<Connection, DbError> {
    let access = if writing {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    let open = || {
        let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Every commit reaches the disk before it is answered.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", if writing { -16_384 } else { -2_048 })?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        // What is deleted is overwritten, in its page and when the page is free: erased means gone.
        connection.pragma_update(None, "secure_delete", writing)?;
        connection.pragma_update(None, "query_only", !writing)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok::<_, rusqlite::Error>(connection)
    };
    open().map_err(|e| DbError::Unavailable(format!("{} cannot be opened: {e}", path.display())))
}

/// Runs a query whose parameters are written `$1`, `$2`, … as PostgreSQL has them; to SQLite a
/// `$1` is a *name*, and `?1` is the first parameter.
///
/// # Errors
/// [`DbError`].
pub fn run<T: FromRow>(connection: &Connection, sql: &str, values: &[Value]) -> Result<Vec<T>, DbError> {
    let mut found = Vec::new();
    each(connection, sql, values, |row| {
        found.push(row);
        true
    })?;
    Ok(found)
}

/// The same, row by row, until no more are wanted.
fn each<T: FromRow>(
    connection: &Connection,
    sql: &str,
    values: &[Value],
    mut take: impl FnMut(T) -> bool,
) -> Result<(), DbError> {
    let mut statement = connection.prepare_cached(&sql.replace('$', "?"))?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        if !take(T::from_row(&Row::Sqlite(row))?) {
            break;
        }
    }
    Ok(())
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(Code::ConstraintViolation) => Self::Conflict(text),
            Some(
                Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::DiskFull
                | Code::CannotOpen
                | Code::ReadOnly
                | Code::SystemIoFailure
                | Code::OutOfMemory,
            ) => Self::Unavailable(text),
            _ => Self::Internal(text),
        }
    }
}
