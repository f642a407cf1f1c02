//! The real binary as a child process, on either engine, with data of its own.
//!
//! A [`Place`] is where one service keeps its data; a [`Program`] is the binary; a [`Running`] is a
//! child that serves and is killed when dropped. Nothing of the caller's environment reaches the
//! child. Every wait has a deadline, and a failure shows what the child said.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use user_service::db::Location;

/// The service key of every service that is started here.
pub const SERVICE_KEY: &str = "usk_3f9c1d7be2a84c05b6d1e9f0a7c35b42";
/// The secret that signs its user tokens.
pub const JWT_SECRET: &str = "q8Zt1vKx0Wm4Rb7Ns2Hd9Lc6Jf3Pg5Ya";
/// Where the PostgreSQL of the tests is; its user may create databases.
pub const POSTGRES_VARIABLE: &str = "TEST_POSTGRES_URL";

/// How long a child may take to serve, on a busy machine, migrations included.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a command such as `verify-ledger` may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// How long to wait between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Where one service keeps its data: a folder and, on PostgreSQL, a database.
pub struct Place {
    folder: TempDir,
    database: Option<Database>,
}

struct Database {
    admin: Option<tokio_postgres::Config>,
    name: String,
    url: String,
}

impl Place {
    /// A fresh folder for the embedded engine.
    #[must_use]
    pub fn sqlite() -> Self {
        Self { folder: folder(), database: None }
    }

    /// A fresh database on the PostgreSQL that `TEST_POSTGRES_URL` names; dropped with the place.
    ///
    /// # Panics
    /// When there is none: `run ./test`.
    pub async fn postgres() -> Self {
        let admin = std::env::var_os(POSTGRES_VARIABLE).and_then(|url| url.into_string().ok());
        let admin = admin.unwrap_or_else(|| panic!("{POSTGRES_VARIABLE} names no PostgreSQL: run ./test"));
        let parsed: tokio_postgres::Config = admin.parse().expect("TEST_POSTGRES_URL is a connection string");
        let folder = folder();
        // The folder's name is unique on this machine, and so the database's is.
        let unique = folder.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let unique: String = unique.chars().filter(char::is_ascii_alphanumeric).collect();
        let name = format!("process_{}_{}", std::process::id(), unique.to_ascii_lowercase());
        let (head, tail) = admin.rsplit_once('/').expect("TEST_POSTGRES_URL names a database");
        let options = tail.split_once('?').map(|(_, options)| format!("?{options}")).unwrap_or_default();
        let url = format!("{head}/{name}{options}");
        connect(&parsed)
            .await
            .unwrap_or_else(|error| panic!("{POSTGRES_VARIABLE} does not answer ({error}): run ./test"))
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .expect("a database of its own");
        Self { folder, database: Some(Database { admin: Some(parsed), name, url }) }
    }

    /// A database that somebody else made and removes.
    #[must_use]
    pub fn on(url: String) -> Self {
        Self { folder: folder(), database: Some(Database { admin: None, name: String::new(), url }) }
    }

    /// Whether this is PostgreSQL.
    #[must_use]
    pub const fn is_postgres(&self) -> bool {
        self.database.is_some()
    }

    /// The folder, which is also the working folder of what runs here.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The SQLite file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("data/user-service.db")
    }

    /// The rows of a query as texts, on either engine; a null is empty.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        match &self.database {
            None => {
                let connection = rusqlite::Connection::open(self.file()).expect("the file opens");
                sqlite_rows(&connection, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
            }
            Some(database) => {
                let client = connect(&database.url.parse().expect("an address")).await.expect("a connection");
                let messages =
                    client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
                let row = |row: tokio_postgres::SimpleQueryRow| {
                    (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect()
                };
                messages
                    .into_iter()
                    .filter_map(|message| match message {
                        SimpleQueryMessage::Row(found) => Some(row(found)),
                        _ => None,
                    })
                    .collect()
            }
        }
    }

    /// The one value of a query that gives one.
    ///
    /// # Panics
    /// When the query fails or gives none.
    pub async fn value(&self, sql: &str) -> String {
        self.rows(sql).await.pop().and_then(|mut row| row.pop()).unwrap_or_else(|| panic!("no row: {sql}"))
    }

    /// Runs a statement as somebody would who has the database and no business in it; gives the
    /// number of rows that it changed.
    ///
    /// # Errors
    /// The engine's own refusal.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn tamper(&self, sql: &str) -> Result<u64, String> {
        match &self.database {
            None => {
                let connection = rusqlite::Connection::open(self.file()).expect("the file opens");
                connection.execute_batch("PRAGMA foreign_keys = OFF").expect("a setting");
                connection.execute(sql, []).map(|rows| rows as u64).map_err(|error| error.to_string())
            }
            Some(database) => {
                let client = connect(&database.url.parse().expect("an address")).await.expect("a connection");
                client.execute(sql, &[]).await.map_err(|error| format!("{error:?}"))
            }
        }
    }

    /// Where the service finds its database.
    #[must_use]
    pub fn location(&self) -> Location {
        match &self.database {
            None => Location::Sqlite(self.file()),
            Some(database) => Location::Postgres(database.url.clone(), 2),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(Database { admin: Some(admin), name, .. }) = &self.database else { return };
        let (admin, sql) = (admin.clone(), format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        // A runtime cannot be entered from within one; what stays behind goes with the instance.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async { connect(&admin).await.ok()?.batch_execute(&sql).await.ok() })
        });
        let _ = dropped.join();
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("us-").tempdir().expect("a temporary folder")
}

async fn connect(config: &tokio_postgres::Config) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn sqlite_rows(connection: &rusqlite::Connection, sql: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    use rusqlite::types::ValueRef;
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at| {
            Ok(match row.get_ref(at)? {
                ValueRef::Null => String::new(),
                ValueRef::Integer(int) => int.to_string(),
                ValueRef::Real(real) => real.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            })
        };
        found.push((0..columns).map(text).collect::<rusqlite::Result<_>>()?);
    }
    Ok(found)
}

/// The binary.
#[derive(Debug, Clone, Copy)]
pub struct Program(pub &'static str);

/// What a child said before it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Program {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it does not end within two minutes.
    pub async fn run(self, place: &Place, arguments: &[&str], settings: &[(&str, &str)]) -> Ended {
        let mut child = Spawned::new(self.command(place, arguments, settings));
        let code = child.ended(COMMAND_LIMIT).await;
        Ended { code, stdout: child.stdout.text(), stderr: child.stderr.text() }
    }

    /// Starts a service and waits until it is ready.
    ///
    /// # Panics
    /// When it ends or is not ready in time.
    pub async fn start(self, place: &Place, settings: &[(&str, &str)]) -> Running {
        let mut child = Spawned::new(self.command(place, &[], settings));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let until = Instant::now() + READY_LIMIT;
        loop {
            if let Some(address) = child.address() {
                let ready = http.get(format!("http://{address}/health/ready")).send().await;
                if ready.is_ok_and(|answer| answer.status().is_success()) {
                    return Running { child, address };
                }
            }
            let ended = child.code();
            assert!(ended.is_none(), "the service ended with {ended:?}: {}", child.said());
            assert!(Instant::now() < until, "the service is not ready: {}", child.said());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `serve` where it is meant to refuse: gives what it said.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn refused(self, place: &Place, settings: &[(&str, &str)]) -> Ended {
        self.run(place, &["serve"], settings).await
    }

    /// What the binary's environment is, for whoever starts it in another way.
    #[must_use]
    pub fn environment(self, place: &Place, settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        let data = place.folder().join("data");
        let own = [
            ("PATH", "/usr/bin:/bin"),
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("LOG_FORMAT", "json"),
            ("DATA_DIR", data.to_str().expect("a path of letters")),
            ("USER_SERVICE_API_KEY", SERVICE_KEY),
            ("SUPABASE_JWT_SECRET", JWT_SECRET),
        ];
        let database = place.database.as_ref().map(|database| ("DATABASE_URL", database.url.as_str()));
        let all = own.into_iter().chain(database).chain(settings.iter().copied());
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn command(self, place: &Place, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(self.0);
        command
            .env_clear()
            .envs(self.environment(place, settings))
            .current_dir(place.folder())
            .args(arguments);
        command
    }
}

/// A child with what it has said so far; killed when dropped.
struct Spawned {
    child: Child,
    code: Option<Option<i32>>,
    stdout: Said,
    stderr: Said,
}

/// A stream of a child, read by a thread so that the child never waits for us.
struct Said {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Said {
    fn read(mut stream: impl std::io::Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 65_536];
            while let Ok(read @ 1..) = stream.read(&mut chunk) {
                theirs.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..read]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits for the end of a stream whose child has ended.
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Spawned {
    fn new(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = Said::read(child.stdout.take().expect("piped"));
        let stderr = Said::read(child.stderr.take().expect("piped"));
        Self { child, code: None, stdout, stderr }
    }

    /// The exit code once it has ended; the inner one is absent after a signal.
    fn code(&mut self) -> Option<Option<i32>> {
        if self.code.is_none() {
            self.code = self.child.try_wait().expect("our child").map(|status| status.code());
            if self.code.is_some() {
                self.stdout.finish();
                self.stderr.finish();
            }
        }
        self.code
    }

    async fn ended(&mut self, limit: Duration) -> Option<i32> {
        let until = Instant::now() + limit;
        loop {
            if let Some(code) = self.code() {
                return code;
            }
            assert!(Instant::now() < until, "it does not end: {}", self.said());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where the banner says that it listens.
    fn address(&self) -> Option<SocketAddr> {
        let text = self.stdout.text();
        let (_, rest) = text.split_once("  address   http://")?;
        rest.split_once('\n')?.0.parse().ok()
    }

    /// The end of what it said, for a failure's sentence.
    fn said(&self) -> String {
        let text = format!("{}\n{}", self.stdout.text(), self.stderr.text());
        let from = text.len().saturating_sub(2_000);
        String::from_utf8_lossy(&text.as_bytes()[from..]).into_owned()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service that serves.
pub struct Running {
    child: Spawned,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Running {
    /// An address on it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All that it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.child.stdout.text()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.code().is_none()
    }

    /// Its memory in KiB, as the system's `VmRSS` (now) or `VmHWM` (at most so far).
    ///
    /// # Panics
    /// When the system does not say.
    #[must_use]
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.child.id()));
        let status = status.expect("the system tells of its processes");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).expect("a number of KiB")
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn terminate(&self) {
        let pid = self.child.child.id();
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {pid}")).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIGTERM is sent");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub async fn ended(mut self, limit: Duration) -> Ended {
        let code = self.child.ended(limit).await;
        Ended { code, stdout: self.child.stdout.text(), stderr: self.child.stderr.text() }
    }

    /// Kills it as a power cut would, and waits until it is gone.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(mut self) {
        self.child.child.kill().expect("SIGKILL is sent");
        self.child.child.wait().expect("it is gone");
    }

    /// SIGTERM, and its end.
    pub async fn stop(self) -> Ended {
        self.terminate();
        self.ended(Duration::from_secs(60)).await
    }
}
