//! The machine and the build that a result belongs to.

use serde::Serialize;
use std::fs;
use std::process::Command;

/// Facts without which a number means nothing.
#[derive(Debug, Serialize)]
pub struct Machine {
    cores: usize,
    processor: Option<String>,
    memory_mib: Option<u64>,
    kernel: Option<String>,
    rustc: Option<String>,
    wrk: Option<String>,
    commit: Option<String>,
    /// Whether the working tree held changes beyond the commit.
    changed_since: bool,
}

impl Machine {
    /// Reads the facts; what cannot be read is left out.
    pub fn read() -> Self {
        let line_of = |file: &str, name: &str| {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = line_of("/proc/meminfo", "MemTotal");
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: line_of("/proc/cpuinfo", "model name"),
            memory_mib: memory.and_then(|text| Some(text.strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
            rustc: said("rustc", &["--version"]),
            wrk: said("wrk", &["--version"]),
            commit: said("git", &["rev-parse", "--short", "HEAD"]),
            changed_since: said("git", &["status", "--porcelain"]).is_some(),
        }
    }

    /// Whether `load` leaves the service and the load generator less than they need to themselves.
    pub fn is_busy(&self, load: Option<f64>) -> bool {
        load.is_some_and(|load| load > self.cores as f64 * 0.4)
    }

    /// The facts in one line.
    pub fn line(&self) -> String {
        let or = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "?".to_owned());
        let changed = if self.changed_since { " with changes" } else { "" };
        format!(
            "{} cores ({}), Linux {}, {}, commit {}{changed}",
            self.cores,
            or(&self.processor),
            or(&self.kernel),
            or(&self.rustc),
            or(&self.commit)
        )
    }
}

/// The load average over the last minute: what else the machine is doing, when read before a run.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The first line that a program prints, if it prints any.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
