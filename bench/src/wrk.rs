//! Driving with `wrk`: closed loop, as fast as the service answers.

use crate::open_loop::Outcome;
use crate::{Fallible, wall};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::process::Command;

const SCRIPT: &str = include_str!("../lua/load.lua");
/// wrk's threads share the machine with the service; more than two only take its cores away.
const MOST_THREADS: usize = 2;
/// A request's own limit in the service is 30 s; wrk waits a little longer than that.
const TIMEOUT: &str = "35s";
/// Width of the id that `load.lua` puts between the fragments of a request.
pub const ID_WIDTH: usize = 16;

/// One whole HTTP request as fragments; see `load.lua`.
pub type Request = Vec<Vec<u8>>;

/// Prepared requests on disk, and the script that sends them.
pub struct Load {
    script: PathBuf,
    requests: PathBuf,
}

/// What wrk measured.
#[derive(Debug, Clone, Deserialize)]
pub struct Driven {
    /// Answers received, of any status.
    pub requests: u64,
    /// How long it drove.
    pub duration_us: u64,
    /// Median latency.
    pub p50_us: u64,
    /// Latency of the slowest hundredth.
    pub p99_us: u64,
    /// The slowest answer.
    pub max_us: u64,
    /// Answers with status 400 and above.
    pub status: u64,
    connect: u64,
    read: u64,
    write: u64,
    timeout: u64,
}

impl Driven {
    /// The same reading of an open-loop run, which has no socket errors: it fails at the first.
    pub fn from_open_loop(outcome: &Outcome) -> Self {
        Self {
            requests: outcome.sent,
            duration_us: u64::try_from(outcome.took.as_micros()).unwrap_or(u64::MAX),
            p50_us: outcome.percentile_us(0.5).into(),
            p99_us: outcome.percentile_us(0.99).into(),
            max_us: outcome.percentile_us(1.0).into(),
            status: outcome.refused,
            connect: 0,
            read: 0,
            write: 0,
            timeout: 0,
        }
    }

    /// The same reading of answers that all said yes, by their latencies in microseconds, ascending.
    pub fn of_latencies(latencies_us: &[u64], took: std::time::Duration) -> Self {
        let at = |share: f64| {
            let place = (latencies_us.len() as f64 * share).ceil() as usize;
            latencies_us.get(place.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self {
            requests: latencies_us.len() as u64,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: at(1.0),
            status: 0,
            connect: 0,
            read: 0,
            write: 0,
            timeout: 0,
        }
    }

    /// Answers per second.
    pub fn per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / self.duration_us.max(1) as f64
    }

    /// Failed connects, reads, writes and time-outs.
    pub fn socket_errors(&self) -> u64 {
        self.connect + self.read + self.write + self.timeout
    }

    /// Answers that said yes.
    pub fn acknowledged(&self) -> u64 {
        self.requests - self.status
    }
}

impl Load {
    /// Writes `requests` into `folder`, under `name`.
    pub fn prepare(folder: &Path, name: &str, requests: &[Request]) -> Fallible<Self> {
        let load =
            Self { script: folder.join("load.lua"), requests: folder.join(format!("{name}.requests")) };
        std::fs::write(&load.script, SCRIPT)?;
        let mut file = BufWriter::new(File::create(&load.requests)?);
        writeln!(file, "{}", requests.len())?;
        for fragments in requests {
            writeln!(file, "{}", fragments.len())?;
            for fragment in fragments {
                writeln!(file, "{}", fragment.len())?;
                file.write_all(fragment)?;
            }
        }
        file.flush()?;
        Ok(load)
    }

    /// Sends the requests over `connections` connections for `seconds` seconds.
    pub async fn drive(&self, address: SocketAddr, connections: usize, seconds: u64) -> Fallible<Driven> {
        let threads = connections.clamp(1, MOST_THREADS).to_string();
        let mut wrk = Command::new("wrk");
        wrk.args(["-t", &threads, "-c", &connections.to_string(), "-d", &format!("{seconds}s")]);
        wrk.args(["--timeout", TIMEOUT, "--latency", "-s"]).arg(&self.script);
        wrk.arg(format!("http://{address}/"))
            .arg("--")
            .arg(&self.requests)
            .args([&threads, &wall::random_hex(3)?]);
        let output = wrk.kill_on_drop(true).output().await.map_err(|error| format!("wrk: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let result = said.lines().find_map(|line| line.strip_prefix("RESULT "));
        let Some(result) = result.filter(|_| output.status.success()) else {
            return Err(
                format!("wrk: {}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr)).into()
            );
        };
        Ok(serde_json::from_str(result)?)
    }
}
