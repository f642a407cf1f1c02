//! A private PostgreSQL cluster: made by `initdb` in a temporary folder, on a free loopback port, with
//! default settings (fsync on), stopped and removed when dropped. No existing server is ever touched.

use crate::server::{free_port, stop};
use crate::{Fallible, engine, proc, wall};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

const OWNER: &str = "bench";
/// A fresh cluster answers within a second; a busy machine may need more.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running cluster of our own.
pub struct Cluster {
    postmaster: Child,
    folder: TempDir,
    port: u16,
    password: String,
    version: String,
}

impl Cluster {
    /// Makes and starts a cluster, and waits until it answers.
    pub async fn start() -> Fallible<Self> {
        let binaries = binaries()?;
        let owner = unprivileged_owner()?;
        let folder = engine::disk_folder()?;
        let password = wall::random_hex(16)?;
        let (secret, data) = (folder.path().join("password"), folder.path().join("data"));
        fs::write(&secret, &password)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = owner {
            chown(folder.path(), Some(uid), Some(gid))?;
            chown(&secret, Some(uid), Some(gid))?;
        }
        let mut initdb = command(&binaries.join("initdb"), owner, folder.path());
        initdb.args(["--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--username", OWNER]);
        initdb.arg("--pwfile").arg(&secret).arg("--pgdata").arg(&data);
        let made = initdb.output()?;
        if !made.status.success() {
            return Err(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        let port = free_port()?;
        let log = File::create(folder.path().join("postgres.log"))?;
        let mut postmaster = command(&binaries.join("postgres"), owner, folder.path());
        postmaster.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        postmaster.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display()));
        postmaster.stdout(log.try_clone()?).stderr(log).process_group(0);
        let postmaster = postmaster.spawn()?;
        let mut cluster = Self { postmaster, folder, port, password, version: String::new() };
        cluster.version = cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    async fn wait_until_ready(&mut self) -> Fallible<String> {
        let begun = Instant::now();
        loop {
            if let Ok(client) = self.connect("postgres").await {
                let row = client.query_one("SELECT split_part(version(), ' (', 1)", &[]).await?;
                return Ok(row.get(0));
            }
            if self.postmaster.try_wait()?.is_some() || begun.elapsed() > START_LIMIT {
                let log = fs::read_to_string(self.folder.path().join("postgres.log")).unwrap_or_default();
                return Err(format!("the private PostgreSQL did not start: {log}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn connect(&self, database: &str) -> Fallible<Client> {
        connect(&self.url(database)).await
    }

    fn url(&self, database: &str) -> String {
        format!("postgresql://{OWNER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Creates an empty database and answers its address. The checkpoint leaves no earlier case's
    /// dirty pages to be written during the next one.
    pub async fn create_database(&self, name: &str) -> Fallible<String> {
        let client = self.connect("postgres").await?;
        client.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await?;
        client.batch_execute("CHECKPOINT").await?;
        Ok(self.url(name))
    }

    /// Drops a database, together with connections that were left open.
    pub async fn drop_database(&self, name: &str) -> Fallible<()> {
        let client = self.connect("postgres").await?;
        Ok(client.batch_execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await?)
    }

    /// Processor time of the postmaster and all its children so far, in microseconds.
    pub fn cpu_micros(&self) -> Fallible<u64> {
        proc::cpu_micros(self.postmaster.id(), true)
    }

    /// The server's name and version.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown; a kill is the last resort, the data is thrown away anyway.
        stop(&mut self.postmaster, rustix::process::Signal::INT, Duration::from_secs(20));
    }
}

/// Connects to a PostgreSQL of our own.
pub async fn connect(url: &str) -> Fallible<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn command(program: &Path, owner: Option<(u32, u32)>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").current_dir(folder);
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command
}

/// The folder of the newest installed server binaries.
fn binaries() -> Fallible<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let version = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(version), true) = (version, entry.path().join("bin/initdb").is_file()) {
            found.push((version, entry.path().join("bin")));
        }
    }
    if let Some((_, newest)) = found.into_iter().max() {
        return Ok(newest);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .ok_or_else(|| "PostgreSQL's server binaries (initdb, postgres) are not installed".into())
}

/// PostgreSQL refuses to run as root: its own account when there is one, else `nobody`. None when this
/// process is not root and simply runs it as itself.
fn unprivileged_owner() -> Fallible<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .map(Some)
        .ok_or_else(|| "no account to run PostgreSQL as".into())
}
