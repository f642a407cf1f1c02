//! A PostgreSQL of the test's own, which it may restart.
//!
//! Made by `initdb` in a temporary folder, from the binaries that `TEST_POSTGRES_BIN` or the
//! system's folder has. PostgreSQL refuses to run as root, so root runs it as its own account.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A running instance; stopped and removed when dropped.
pub struct Cluster {
    folder: PathBuf,
    binaries: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
}

impl Cluster {
    /// Makes and starts one.
    pub fn start(folder: PathBuf) -> Self {
        std::fs::create_dir(&folder).expect("a folder for the instance");
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
        let port = port.expect("a free port").port();
        let cluster = Self { binaries: binaries(), owner: owner(), port, folder };
        if let Some((uid, gid)) = cluster.owner {
            // The account must reach it through the folder above, which only its maker may enter.
            let above = cluster.folder.parent().expect("a folder above");
            for folder in [above, &cluster.folder] {
                chown(folder, Some(uid), Some(gid)).expect("root may give it away");
            }
        }
        cluster.run("initdb", &["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={}",
            cluster.folder.display()
        );
        cluster.run("pg_ctl", &["start", "-w", "-l", "/dev/null", "-o", &options]);
        cluster
    }

    /// The address of its first database.
    pub fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Cuts every connection, and starts anew.
    pub fn restart(&self) {
        self.run("pg_ctl", &["restart", "-w", "-m", "fast", "-l", "/dev/null"]);
    }

    /// Stops it, as for a maintenance of some length.
    pub fn stop(&self) {
        self.run("pg_ctl", &["stop", "-w", "-m", "fast"]);
    }

    /// Starts it again on the same port.
    pub fn start_again(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={}",
            self.port,
            self.folder.display()
        );
        self.run("pg_ctl", &["start", "-w", "-l", "/dev/null", "-o", &options]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = self.command(program, arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{program} {arguments:?} fails");
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir(&self.folder);
        command.args(arguments).arg("-D").arg(self.folder.join("instance"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl", &["stop", "-w", "-m", "immediate"]).status();
    }
}

/// The folder of the newest server binaries.
fn binaries() -> PathBuf {
    if let Some(named) = std::env::var_os("TEST_POSTGRES_BIN") {
        return named.into();
    }
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = installed.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let binaries = entry.path().join("bin");
        binaries.join("initdb").is_file().then_some((version, binaries))
    });
    versions.max().expect("no initdb under TEST_POSTGRES_BIN or /usr/lib/postgresql: run ./test").1
}

/// Who runs it when we are root.
fn owner() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().expect("id runs").stdout;
    if id.trim_ascii() != b"0" {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").expect("accounts");
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("an account other than root"))
}
