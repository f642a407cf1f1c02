//! An S3 server that really checks signatures, as a child process with a folder and keys of its own.
//!
//! `./test` brings the program and names it in `TEST_S3_SERVER`. It can be killed and started again
//! where it was, for what happens when the object store is down.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The bucket.
pub const BUCKET: &str = "user-files";
/// Its key.
pub const ACCESS_KEY: &str = "TESTKITACCESSKEY";
/// The secret of that key.
pub const SECRET_KEY: &str = "testkit-s3-secret-4e1b7c9a";
/// How often another port is tried when somebody else was faster.
const ATTEMPTS: usize = 20;
/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The ports that servers of this process have tried.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A server that serves; killed when dropped.
pub struct S3Server {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl S3Server {
    /// Starts a server with an empty bucket.
    ///
    /// # Panics
    /// When there is no program: run ./test.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
        let mut server = Self { folder, port: 0, child: None };
        for _ in 0..ATTEMPTS {
            let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            server.port = free.expect("a free port").port();
            // Two servers of this process never try the same port, so neither is taken for the other.
            let fresh = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(server.port);
            if fresh && server.try_run() {
                return server;
            }
        }
        panic!("no S3 server could be started");
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        assert!(self.try_run(), "the S3 server does not start again");
    }

    fn try_run(&mut self) -> bool {
        let child = Command::new(program())
            .args(["--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the S3 server starts");
        self.child = Some(child);
        let until = Instant::now() + START_LIMIT;
        while Instant::now() < until && self.lives() {
            // Whoever answers in the words of S3 is ours, unless ours has ended.
            if self.answers() && self.lives() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        false
    }

    fn lives(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("our child").is_none())
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = String::new();
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.contains("AccessDenied")
    }

    /// Kills it; its objects stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where it answers.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The settings of a service that keeps its files here.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("S3_BUCKET", BUCKET.to_owned()),
            ("S3_ENDPOINT", self.endpoint()),
            ("S3_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("S3_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }

    /// Every object, and every part of one that is not complete, by its path on the server's disk.
    #[must_use]
    pub fn on_disk(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path(), &mut found);
        found
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own settings")]
fn program() -> PathBuf {
    match std::env::var("TEST_S3_SERVER") {
        Ok(path) if !path.is_empty() => path.into(),
        _ => panic!("there is no S3 server to test on: run ./test"),
    }
}
