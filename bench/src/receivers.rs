//! Receivers of webhooks within this program: they take what comes, count it by its id, and note how late it is.
//!
//! They verify no signature, because the tests do, and because it would be they who are measured.

use crate::{Fallible, wall};
use chrono::DateTime;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// How long nothing may come while something is missing.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// What a receiver does with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It answers 204.
    Takes,
    /// It answers 500.
    Fails,
    /// It never answers.
    Silent,
    /// Nobody listens.
    Refuses,
}

/// A receiver; it ends when dropped.
pub struct Receiver {
    /// Where it is.
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    accepting: Option<JoinHandle<()>>,
    /// Holds the port that nobody listens at.
    _held: Option<TcpSocket>,
}

/// What came.
#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<u64>,
    again: u64,
    /// From the instant that an event carries to the one at which it came, in microseconds.
    lateness_us: Vec<u64>,
    last: Option<Instant>,
}

/// What a receiver saw since it was last asked.
#[derive(Debug)]
pub struct Tally {
    /// Different events.
    pub events: u64,
    /// Those that came once more.
    pub again: u64,
    /// How late each was, in microseconds, ascending.
    pub lateness_us: Vec<u64>,
    /// When the last one came.
    pub last: Option<Instant>,
}

impl Receiver {
    /// Starts one on a free port.
    pub async fn start(manner: Manner) -> Fallible<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let (address, seen) = (socket.local_addr()?, Arc::default());
        if manner == Manner::Refuses {
            return Ok(Self { address, seen, accepting: None, _held: Some(socket) });
        }
        let accepting = tokio::spawn(accept(socket.listen(1024)?, manner, Arc::clone(&seen)));
        Ok(Self { address, seen, accepting: Some(accepting), _held: None })
    }

    /// How many different events came since it was last asked for its tally.
    pub fn events(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).ids.len() as u64
    }

    /// What it saw since it was last asked.
    pub fn tally(&self) -> Tally {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let Seen { ids, again, mut lateness_us, last } = seen;
        lateness_us.sort_unstable();
        Tally { events: ids.len() as u64, again, lateness_us, last }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

/// Waits until each of them has that many events; fails when nothing comes though something is missing.
pub async fn all_have(receivers: &[Receiver], wanted: u64) -> Fallible<()> {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let counts: Vec<u64> = receivers.iter().map(Receiver::events).collect();
        if counts.iter().all(|&count| count >= wanted) {
            return Ok(());
        }
        let sum = counts.iter().sum();
        if sum != before {
            (before, since) = (sum, Instant::now());
        }
        if since.elapsed() > QUIET_MAX {
            return Err(format!("of {wanted} events only {counts:?} came, and no more do").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn accept(listener: TcpListener, manner: Manner, seen: Arc<Mutex<Seen>>) {
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(serve(connection, manner, Arc::clone(&seen)));
    }
}

/// Answers the requests of a connection until it ends.
async fn serve(mut connection: TcpStream, manner: Manner, seen: Arc<Mutex<Seen>>) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut bytes = Vec::with_capacity(16_384);
    loop {
        while let Some((end, id, at)) = request(&bytes) {
            let answer: &[u8] = match manner {
                Manner::Takes => b"HTTP/1.1 204 No Content\r\n\r\n",
                _ => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
            };
            bytes.drain(..end);
            if manner == Manner::Takes {
                note(&seen, id, at);
            }
            if manner != Manner::Silent {
                connection.write_all(answer).await.ok()?;
            }
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn note(seen: &Mutex<Seen>, id: u64, at: i64) {
    let late = wall::now().timestamp_micros() - at;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.ids.insert(id) {
        seen.lateness_us.push(u64::try_from(late).unwrap_or(0));
    } else {
        seen.again += 1;
    }
    seen.last = Some(Instant::now());
}

/// The first request, if all of it is there: where it ends, the event's number, and its instant.
fn request(bytes: &[u8]) -> Option<(usize, u64, i64)> {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let field = |wanted: &str| {
        let fields = text.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let end = head + field("content-length")?.parse::<usize>().ok()?;
    let body = std::str::from_utf8(bytes.get(head..end)?).ok()?;
    let id = field("webhook-id")?.strip_prefix("evt_")?.parse().ok()?;
    let (_, rest) = body.split_once(r#""timestamp":""#)?;
    let at = DateTime::parse_from_rfc3339(rest.split_once('"')?.0).ok()?;
    Some((end, id, at.timestamp_micros()))
}
