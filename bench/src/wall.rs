//! The wall clock and chance. The rest of the room asks here, as the service asks its `Clock`.

use crate::Fallible;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use std::fs::File;
use std::io::Read;
use std::time::SystemTime;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "the measuring room has no kernel clock; this is its one room")]
pub fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}

/// `at` as the contract writes instants: RFC 3339, UTC, microseconds, `Z`.
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// `micros` microseconds before or after `at`.
pub fn shifted(at: DateTime<Utc>, micros: i64) -> DateTime<Utc> {
    at + TimeDelta::microseconds(micros)
}

/// `bytes` random bytes as lower-case hexadecimal digits.
pub fn random_hex(bytes: usize) -> Fallible<String> {
    let mut raw = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut raw)?;
    Ok(raw.iter().map(|byte| format!("{byte:02x}")).collect())
}
