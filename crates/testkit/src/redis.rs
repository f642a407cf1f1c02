//! A Redis server as a child process that keeps nothing, and can be paused, killed and started again.
//!
//! `./test` brings the program and names it in `TEST_REDIS_SERVER`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often another port is tried when somebody else was faster.
const ATTEMPTS: usize = 20;
/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A server that serves; killed when dropped.
pub struct RedisServer {
    port: u16,
    child: Child,
}

impl RedisServer {
    /// Starts an empty server.
    ///
    /// # Panics
    /// When there is no program: run ./test.
    #[must_use]
    pub fn start() -> Self {
        for _ in 0..ATTEMPTS {
            let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let port = free.expect("a free port").port();
            if let Some(child) = run(port) {
                return Self { port, child };
            }
        }
        panic!("no Redis server could be started");
    }

    /// What `REDIS_URL` is to be.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Lets it hang: connections stay, answers do not come.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills it as a power cut would.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("SIGKILL is sent");
        self.child.wait().expect("it is gone");
    }

    /// Starts it again where it was, empty.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.child = run(self.port).expect("Redis starts again");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} is sent");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server; nothing where it ends at once, as it does where the port is taken.
fn run(port: u16) -> Option<Child> {
    let program = std::env::var_os("TEST_REDIS_SERVER");
    let program = program.unwrap_or_else(|| panic!("TEST_REDIS_SERVER names no Redis server: run ./test"));
    let mut child = Command::new(program)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the Redis server starts");
    let until = Instant::now() + START_LIMIT;
    while Instant::now() < until && child.try_wait().is_ok_and(|ended| ended.is_none()) {
        if answers(port) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut answer = [0; 5];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"+PONG"
}
