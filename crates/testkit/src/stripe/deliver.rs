//! Webhooks: events, signed by Stripe's own library, posted to the service.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a delivery may take, as at Stripe.
const DELIVERY_MAX: Duration = Duration::from_secs(20);

/// Something that happened at Stripe.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeEvent {
    /// Its id.
    pub id: String,
    /// Its type, such as `invoice.paid`.
    pub kind: String,
    /// When it happened, in seconds.
    pub created: i64,
    /// All of it.
    pub value: Value,
}

impl FakeEvent {
    pub(super) fn of(value: &Value) -> Self {
        let text = |field: &str| super::world::text(&value[field]);
        Self {
            id: text("id"),
            kind: text("type"),
            created: super::world::int(&value["created"]),
            value: value.clone(),
        }
    }

    /// What it is about, as it was then.
    #[must_use]
    pub fn object(&self) -> &Value {
        &self.value["data"]["object"]
    }

    /// The bytes that are delivered, which are the bytes that are signed.
    ///
    /// # Panics
    /// Never: it is JSON.
    #[must_use]
    pub fn body(&self) -> String {
        serde_json::to_string_pretty(&self.value).expect("JSON")
    }
}

/// What the service answered to a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The event's id.
    pub event: String,
    /// The status.
    pub status: u16,
    /// The body, a text where it is no JSON.
    pub body: Value,
}

/// Posts a body with a header `Stripe-Signature`.
///
/// # Panics
/// When the service does not answer.
pub async fn post(url: &str, body: String, signature: &str) -> (u16, Value) {
    // One client for all, because making one reads every certificate; no connection outlives its test's runtime.
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let client = reqwest::Client::builder().no_proxy().timeout(DELIVERY_MAX).pool_max_idle_per_host(0);
        client.build().expect("an HTTP client")
    });
    let request = CLIENT.post(url).header("content-type", "application/json; charset=utf-8");
    let request = request.header("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)");
    let answer = request.header("stripe-signature", signature).body(body).send().await;
    let answer = answer.unwrap_or_else(|error| panic!("{url} does not answer: {error}"));
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Makes headers `Stripe-Signature` with Stripe's own library, in one child process for all tests.
#[derive(Debug, Clone, Copy)]
pub struct Signer;

struct Running {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

impl Signer {
    /// The header of a body, with one signature per secret; `timestamp` is in seconds.
    ///
    /// # Panics
    /// When there is no Python with Stripe's library: run ./test. Also when the library refuses.
    #[must_use]
    pub fn header(payload: &str, secrets: &[&str], timestamp: i64) -> String {
        let ask = json!({"payload": STANDARD.encode(payload), "secrets": secrets, "timestamp": timestamp});
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let header = exchange(&mut running, &ask);
        assert!(header.starts_with("t="), "Stripe's library does not sign: {header:?}");
        header
    }
}

fn exchange(running: &mut MutexGuard<'_, Option<Running>>, ask: &Value) -> String {
    let signer = running.get_or_insert_with(start);
    let mut answer = String::new();
    let asked = writeln!(signer.asks, "{ask}").and_then(|()| signer.asks.flush());
    let answered = asked.and_then(|()| signer.answers.read_line(&mut answer));
    if !answered.is_ok_and(|length| length > 0) {
        let ended = signer.child.wait();
        **running = None;
        panic!("the program that signs has ended: {ended:?}");
    }
    answer.trim_end().to_owned()
}

/// The child ends when its input does, at the latest with this process.
fn start() -> Running {
    let mut child = Command::new(python())
        .args(["-u", concat!(env!("CARGO_MANIFEST_DIR"), "/src/stripe/sign.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program that signs starts");
    let asks = child.stdin.take().expect("its input");
    let answers = BufReader::new(child.stdout.take().expect("its output"));
    Running { child, asks, answers }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own settings")]
fn python() -> String {
    match std::env::var("TEST_PYTHON") {
        Ok(path) if !path.is_empty() => path,
        _ => panic!("TEST_PYTHON names no Python with Stripe's library to sign webhooks: run ./test"),
    }
}
