//! Receivers of webhooks that verify with the official libraries of Standard Webhooks, as child processes.
//!
//! `./test` installs the libraries: Python's into the environment that `TEST_PYTHON` names, JavaScript's beside the
//! script that `TEST_RECEIVER` names. A receiver can be killed and started again on its port; what it received is kept.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

#[cfg(test)]
mod tests;

/// How long a receiver may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often it is started when somebody else has its port.
const ATTEMPTS: usize = 50;
/// The pause before it is started again.
const PAUSE: Duration = Duration::from_millis(100);

/// Whose library verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `standardwebhooks` for Python.
    Python,
    /// `standardwebhooks` for JavaScript.
    JavaScript,
}

/// A delivery that the library verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The path that it came to.
    pub path: String,
    /// Its header `webhook-id`.
    pub id: String,
    /// Its header `webhook-timestamp`.
    pub timestamp: i64,
    /// How many signatures it has.
    pub signatures: u64,
    /// The bytes that were signed.
    pub body: String,
    /// What they say.
    pub payload: Value,
}

impl Received {
    /// The user that it is about; empty where it is about none.
    #[must_use]
    pub fn user(&self) -> &str {
        self.payload["user_id"].as_str().unwrap_or_default()
    }

    /// Its place among all events.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn sequence(&self) -> i64 {
        self.payload["sequence"].as_i64().unwrap_or_else(|| panic!("no sequence: {}", self.body))
    }
}

/// What was received so far.
#[derive(Debug, Default)]
struct Seen {
    received: Mutex<Vec<Received>>,
    refused: Mutex<Vec<String>>,
    more: Notify,
}

/// A receiver; killed when dropped.
pub struct Receiver {
    library: Library,
    port: u16,
    secrets: BTreeMap<String, String>,
    answers: BTreeMap<String, u16>,
    seen: Arc<Seen>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    asks: ChildStdin,
    /// The port, once for every line that it was asked.
    ports: mpsc::UnboundedReceiver<u16>,
    reading: JoinHandle<()>,
}

impl Receiver {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it does not start: run ./test.
    pub async fn start(library: Library) -> Self {
        let (secrets, answers) = (BTreeMap::new(), BTreeMap::new());
        let mut receiver = Self { library, port: 0, secrets, answers, seen: Arc::default(), running: None };
        receiver.start_again().await;
        receiver
    }

    /// An address on it, also while it is down.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Verifies what comes to this path with that secret from now on.
    pub async fn trust(&mut self, path: &str, secret: &str) {
        self.secrets.insert(path.to_owned(), secret.to_owned());
        self.ask().await;
    }

    /// Answers what comes to this path with that status from now on; what is answered 300 and above is not received.
    pub async fn answer(&mut self, path: &str, status: u16) {
        self.answers.insert(path.to_owned(), status);
        self.ask().await;
    }

    async fn ask(&mut self) {
        if let Some(running) = &mut self.running {
            let told = running.tell(self.port, &self.secrets, &self.answers).await;
            told.expect("the receiver listens");
        }
    }

    /// Kills it: connections break, and new ones are refused.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        running.child.kill().await.expect("SIGKILL is sent");
        // What it wrote before is still to be read.
        running.reading.await.expect("its output");
    }

    /// Starts it on its port, with what it was told before.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&mut self) {
        for _ in 0..ATTEMPTS {
            let mut running = Running::spawn(self.library, Arc::clone(&self.seen));
            if let Some(port) = running.tell(self.port, &self.secrets, &self.answers).await {
                (self.port, self.running) = (port, Some(running));
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("the receiver in {:?} does not start: run ./test", self.library);
    }

    /// All that was received so far, in its order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.seen.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the library refused, with its reasons.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.seen.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until what was received is enough.
    ///
    /// # Panics
    /// When it is not within `limit`.
    pub async fn until(&self, limit: Duration, what: &str, enough: impl Fn(&[Received]) -> bool) {
        let waiting = async {
            loop {
                let more = self.seen.more.notified();
                if enough(&self.seen.received.lock().unwrap_or_else(PoisonError::into_inner)) {
                    return;
                }
                more.await;
            }
        };
        if tokio::time::timeout(limit, waiting).await.is_err() {
            let (received, refused) = (self.received(), self.refused());
            let last = received.last().map(|last| &last.body);
            let (count, refused_count, why) = (received.len(), refused.len(), refused.last());
            panic!("{what}: {count} received, the last {last:?}; {refused_count} refused, the last {why:?}");
        }
    }
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "the tests' own settings")]
    fn spawn(library: Library, seen: Arc<Seen>) -> Self {
        let mut command = match library {
            Library::Python => {
                let mut command = Command::new(std::env::var("TEST_PYTHON").unwrap_or_default());
                command
                    .args(["-u", concat!(env!("CARGO_MANIFEST_DIR"), "/src/standard_webhooks/receive.py")]);
                command
            }
            Library::JavaScript => {
                let mut command = Command::new("node");
                command.arg(std::env::var("TEST_RECEIVER").unwrap_or_default());
                command
            }
        };
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("no receiver in {library:?} ({error}): run ./test"));
        let asks = child.stdin.take().expect("its input");
        let (told, ports) = mpsc::unbounded_channel();
        let reading = tokio::spawn(read(child.stdout.take().expect("its output"), seen, told));
        Self { child, asks, ports, reading }
    }

    /// Tells it all that it must know, and waits until it does; none if it has ended.
    async fn tell(
        &mut self,
        port: u16,
        secrets: &BTreeMap<String, String>,
        answers: &BTreeMap<String, u16>,
    ) -> Option<u16> {
        let line = format!("{}\n", json!({"port": port, "secrets": secrets, "answers": answers}));
        self.asks.write_all(line.as_bytes()).await.ok()?;
        tokio::time::timeout(START_LIMIT, self.ports.recv()).await.ok().flatten()
    }
}

/// Notes every line of a receiver.
async fn read(output: ChildStdout, seen: Arc<Seen>, ports: mpsc::UnboundedSender<u16>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A line that was cut off by a kill was not answered.
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(port) = line["port"].as_u64().and_then(|port| u16::try_from(port).ok()) {
            let _ = ports.send(port);
            continue;
        }
        match received(&line) {
            Some(received) => seen.received.lock().unwrap_or_else(PoisonError::into_inner).push(received),
            None => seen.refused.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_string()),
        }
        seen.more.notify_waiters();
    }
}

fn received(line: &Value) -> Option<Received> {
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let body = text("body")?;
    Some(Received {
        path: text("path")?,
        id: text("id")?,
        timestamp: text("timestamp")?.parse().ok()?,
        signatures: line["signatures"].as_u64()?,
        payload: serde_json::from_str(&body).ok()?,
        body,
    })
}
