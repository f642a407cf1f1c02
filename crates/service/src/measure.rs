//! The numbers under `/metrics`, each named in one place.

use std::time::Duration;

/// A request was answered. The route is its template, so that no user id becomes a label.
pub fn request(method: &str, route: &str, status: u16, took: Duration) {
    let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", "route" => route.to_owned()).record(took);
}

/// A batch of commands was committed or refused.
pub fn batch(commands: usize, took: Duration) {
    metrics::histogram!("ledger_batch_size").record(commands as f64);
    metrics::histogram!("ledger_commit_duration_seconds").record(took);
}

/// How many commands wait for the writer.
pub fn queue(waiting: usize) {
    metrics::gauge!("ledger_queue_commands").set(waiting as f64);
}

/// The whole ledger was verified.
pub fn verified(sound: bool, entries: u64, at_seconds: i64) {
    metrics::gauge!("ledger_sound").set(if sound { 1.0 } else { 0.0 });
    metrics::gauge!("ledger_verified_entries").set(entries as f64);
    metrics::gauge!("ledger_verified_timestamp_seconds").set(at_seconds as f64);
}

/// How many event streams are open.
pub fn live_streams(open: usize) {
    metrics::gauge!("live_streams").set(open as f64);
}

/// An event is sent to somebody who watches.
pub fn live_event(kind: &'static str) {
    metrics::counter!("live_events_total", "event" => kind).increment(1);
}

/// What each number means, for the metrics page.
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("http_requests_total", "Requests answered, by method, route and status.");
    describe_histogram!("http_request_duration_seconds", Unit::Seconds, "Time to answer, by route.");
    describe_histogram!("ledger_batch_size", "Commands committed together.");
    describe_histogram!(
        "ledger_commit_duration_seconds",
        Unit::Seconds,
        "Time to decide and commit a batch."
    );
    describe_gauge!("ledger_queue_commands", "Commands waiting for the writer.");
    describe_gauge!("ledger_sound", "1 when the last verification found the ledger sound, 0 when not.");
    describe_gauge!("ledger_verified_entries", "Entries that the last verification replayed.");
    describe_gauge!("ledger_verified_timestamp_seconds", Unit::Seconds, "When the last verification ended.");
    describe_gauge!("live_streams", "Event streams that are open.");
    describe_counter!("live_events_total", "Events sent on event streams, by kind.");
}
