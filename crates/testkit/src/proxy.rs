//! A TCP proxy that loses answers by a seeded rule: what a bad network does to a client.
//!
//! Every connection carries one exchange (the proxy never reuses one for a second). An unlucky one
//! is cut after the request was forwarded: half of them at once, half when the answer has arrived
//! here. Either way the client cannot know whether its request had its effect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A proxy before one service; it ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    cut: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    CutAtOnce,
    CutAnswer,
}

impl Proxy {
    /// Listens on a free port and forwards to `upstream`, losing `percent` of the answers.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(upstream: SocketAddr, percent: u64, seed: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let cut = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cut);
        let accepting = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                number += 1;
                let fate = fate(mix(seed ^ number), percent);
                counted.fetch_add(u64::from(fate != Fate::Pass), Ordering::Relaxed);
                tokio::spawn(exchange(client, upstream, fate));
            }
        });
        Self { address, cut, accepting }
    }

    /// How many connections were cut so far.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn fate(random: u64, percent: u64) -> Fate {
    match (random % 100 < percent, random & (1 << 40) == 0) {
        (false, _) => Fate::Pass,
        (true, true) => Fate::CutAtOnce,
        (true, false) => Fate::CutAnswer,
    }
}

/// SplitMix64: neighbours become strangers.
const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

async fn exchange(mut client: TcpStream, upstream: SocketAddr, fate: Fate) -> Option<()> {
    let mut server = TcpStream::connect(upstream).await.ok()?;
    let mut chunk = vec![0; 65_536];
    loop {
        tokio::select! {
            read = client.read(&mut chunk) => {
                let read = read.ok().filter(|read| *read > 0)?;
                server.write_all(&chunk[..read]).await.ok()?;
                if fate == Fate::CutAtOnce && whole(&chunk[..read]) {
                    return None;
                }
            }
            answer = answer(&mut server) => {
                let answer = answer?;
                if fate == Fate::Pass {
                    client.write_all(&answer).await.ok()?;
                }
                // One exchange is all: the client opens a new connection for the next.
                return client.shutdown().await.ok();
            }
        }
    }
}

/// Whether a request's header and the body that it announces are in one piece, as small ones are.
fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((header, body)) = text.split_once("\r\n\r\n") else { return false };
    body.len() >= announced(header)
}

fn announced(header: &str) -> usize {
    let mut lengths = header.lines().filter_map(|line| line.split_once(':'));
    let length = lengths.rfind(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.and_then(|(_, length)| length.trim().parse().ok()).unwrap_or(0)
}

/// Reads one whole answer.
async fn answer(server: &mut TcpStream) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    loop {
        let mut chunk = [0; 16_384];
        let read = server.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        answer.extend_from_slice(&chunk[..read]);
        if whole(&answer) {
            return Some(answer);
        }
    }
}
