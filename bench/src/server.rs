//! The release binary under measurement: started with a clean environment, stopped with SIGTERM.

use crate::engine::Storage;
use crate::{Fallible, proc, wall};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Migrations on an empty database included.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// The service drains for as long as a request may take.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// A running service.
pub struct Server {
    child: Child,
    program: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its bootstrap service key.
    pub key: String,
    /// The secret that signs user tokens.
    pub jwt_secret: String,
    /// Where it keeps its data.
    pub storage: Storage,
    /// Resident memory shortly after it was ready, before any request, in KiB.
    pub idle_kib: u64,
}

impl Server {
    /// Starts `program` on `storage`, with more settings, and waits until it is ready. Nobody's rate is limited,
    /// unless the settings say so.
    pub async fn start(program: PathBuf, storage: Storage, more: &[(&str, String)]) -> Fallible<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let (key, jwt_secret) = (format!("usk_{}", wall::random_hex(24)?), wall::random_hex(32)?);
        let log = File::create(storage.folder.join("service.log"))?;
        let mut command = command(&program, &storage);
        command
            .env("HOST", "127.0.0.1")
            .env("PORT", address.port().to_string())
            .env("LOG_FORMAT", "json")
            .env("SUPABASE_JWT_SECRET", &jwt_secret)
            .env("USER_SERVICE_API_KEY", &key)
            .env("RATE_LIMIT_ENABLED", "false")
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut server = Self { child, program, address, key, jwt_secret, storage, idle_kib: 0 };
        server.wait_until_ready().await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.idle_kib = server.memory_kib("VmRSS")?;
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> Fallible<()> {
        let begun = Instant::now();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://{}/health/ready", self.address);
        loop {
            if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the service ended with {status}: {}", self.log_tail()).into());
            }
            if begun.elapsed() > READY_LIMIT {
                return Err(format!("the service is not ready after 30 s: {}", self.log_tail()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of the service's log, for a failure's sentence.
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.storage.folder.join("service.log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(1500)..]).into_owned()
    }

    /// Processor time of the service so far, in microseconds.
    pub fn cpu_micros(&self) -> Fallible<u64> {
        proc::cpu_micros(self.child.id(), false)
    }

    /// `VmRSS` or `VmHWM` of the service, in KiB.
    pub fn memory_kib(&self, field: &str) -> Fallible<u64> {
        proc::memory_kib(self.child.id(), field)
    }

    /// Stops the service with SIGTERM and fails unless it ended well.
    pub fn stop(&mut self) -> Fallible<Stopped> {
        match stop(&mut self.child, Signal::TERM, STOP_LIMIT) {
            Some(0) => Ok(Stopped { program: self.program.clone(), storage: self.storage.clone() }),
            code => Err(format!("SIGTERM ended the service with {code:?}: {}", self.log_tail()).into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.child, Signal::TERM, Duration::from_secs(5));
    }
}

/// A service that has stopped, with its data still there.
pub struct Stopped {
    program: PathBuf,
    /// Where its data is.
    pub storage: Storage,
}

impl Stopped {
    /// Runs the service's own `verify-ledger` on the data; fails when it finds anything.
    pub async fn verify_ledger(&self) -> Fallible<Duration> {
        let begun = Instant::now();
        let mut command = tokio::process::Command::from(command(&self.program, &self.storage));
        let output = command.arg("verify-ledger").stdin(Stdio::null()).kill_on_drop(true).output().await?;
        if output.status.success() {
            return Ok(begun.elapsed());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(1500)..]).into_owned();
        Err(format!("verify-ledger: {}: {said}", output.status).into())
    }
}

/// The service's environment holds what is set here and nothing of the caller's.
fn command(program: &PathBuf, storage: &Storage) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("ENVIRONMENT", "development");
    command.env("DATA_DIR", storage.folder.join("data")).current_dir(&storage.folder);
    if let Some(url) = &storage.database_url {
        command.env("DATABASE_URL", url);
    }
    command
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> Fallible<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Asks a child to end, waits up to `limit`, then kills it. Answers its exit code, if it ended by itself.
pub fn stop(child: &mut Child, signal: Signal, limit: Duration) -> Option<i32> {
    if let Ok(Some(status)) = child.try_wait() {
        return status.code();
    }
    let begun = Instant::now();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw)?;
    let mut asked = kill_process(pid, signal).is_ok();
    while asked && begun.elapsed() < limit {
        match child.try_wait() {
            Ok(Some(status)) => return status.code(),
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(_) => asked = false,
        }
    }
    drop(child.kill());
    drop(child.wait());
    None
}
