//! The numbers under `/metrics`, each named in one place.

pub use describe::describe;

use crate::db::DbError;
use axum::http::Method;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Requests that are under way, and the bytes that went in and out. They change with every request, so they are
/// added up here and told when somebody asks.
static IN_FLIGHT: AtomicI64 = AtomicI64::new(0);
static REQUEST_BYTES: AtomicU64 = AtomicU64::new(0);
static RESPONSE_BYTES: AtomicU64 = AtomicU64::new(0);

/// A request that is under way, until this is dropped: also where its client has gone.
#[must_use]
pub struct InFlight(());

/// A request came, with a body of so many bytes, where it said so.
pub fn asked(body: u64) -> InFlight {
    IN_FLIGHT.fetch_add(1, Ordering::Relaxed);
    REQUEST_BYTES.fetch_add(body, Ordering::Relaxed);
    InFlight(())
}

impl Drop for InFlight {
    fn drop(&mut self) {
        IN_FLIGHT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request was answered, with a body of so many bytes, where that is known. The route is its template, so that no
/// user id becomes a label; a method that HTTP does not know is `OTHER`, so that no caller makes labels.
pub fn request(method: &Method, route: &str, status: u16, body: u64, took: Duration) {
    RESPONSE_BYTES.fetch_add(body, Ordering::Relaxed);
    let labels =
        [("method", verb(method).to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", "route" => route.to_owned()).record(took);
}

/// A method as a label.
#[must_use]
pub fn verb(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("OTHER")
}

/// Tells what is added up of requests.
pub fn traffic() {
    metrics::gauge!("http_requests_in_flight").set(IN_FLIGHT.load(Ordering::Relaxed) as f64);
    metrics::counter!("http_request_bytes_total").absolute(REQUEST_BYTES.load(Ordering::Relaxed));
    metrics::counter!("http_response_bytes_total").absolute(RESPONSE_BYTES.load(Ordering::Relaxed));
}

/// An attempt to tell an endpoint was made: it was `delivered`, is to be `retried`, has `failed` for good, or the endpoint is `gone`.
pub fn webhook_attempt(outcome: &'static str, took: Duration) {
    metrics::counter!("webhook_attempts_total", "outcome" => outcome).increment(1);
    metrics::histogram!("webhook_attempt_duration_seconds").record(took);
}

/// How long the oldest event waits that was not tried, at endpoints that work and at those that fail, and how many deliveries are pending.
pub fn webhook_deliveries(working: f64, failing: f64, pending: usize) {
    metrics::gauge!("webhook_lag_seconds", "endpoints" => "working").set(working);
    metrics::gauge!("webhook_lag_seconds", "endpoints" => "failing").set(failing);
    metrics::gauge!("webhook_pending_deliveries").set(pending as f64);
}

/// How many endpoints there are.
pub fn webhook_endpoints(working: usize, failing: usize, disabled: usize) {
    for (state, count) in [("working", working), ("failing", failing), ("disabled", disabled)] {
        metrics::gauge!("webhook_endpoints", "state" => state).set(count as f64);
    }
}

/// A batch of commands was committed or refused; its first command had waited so long.
pub fn batch(commands: usize, waited: Duration, took: Duration) {
    metrics::histogram!("ledger_batch_size").record(commands as f64);
    metrics::histogram!("ledger_queue_wait_seconds").record(waited);
    metrics::histogram!("ledger_commit_duration_seconds").record(took);
}

/// A batch was not written as it was: `split` into its commands, decided again under lock (`lock`), or `failed`.
pub fn batch_trouble(what: &'static str) {
    metrics::counter!("ledger_batch_troubles_total", "kind" => what).increment(1);
}

/// Entries were committed, each with its kind and its amount in micro-credits.
pub fn entries(committed: impl Iterator<Item = (&'static str, i64)>) {
    // A batch has few kinds, so they are found fastest one after the other.
    let mut sums: Vec<(&'static str, u64, u64)> = Vec::new();
    for (kind, amount) in committed {
        let amount = amount.unsigned_abs();
        match sums.iter_mut().find(|(of, ..)| *of == kind) {
            Some((_, count, sum)) => (*count, *sum) = (*count + 1, sum.wrapping_add(amount)),
            None => sums.push((kind, 1, amount)),
        }
    }
    for (kind, count, sum) in sums {
        metrics::counter!("ledger_entries_total", "kind" => kind).increment(count);
        metrics::counter!("ledger_microcredits_total", "kind" => kind).increment(sum);
    }
}

/// The database did not do what it was asked.
pub fn database_error(of: &'static str, error: &DbError) {
    let kind = match error {
        DbError::Unavailable(_) => "unavailable",
        DbError::Conflict(_) => "conflict",
        // The caller's affair.
        DbError::Refused(_) => return,
        DbError::Internal(_) => "internal",
    };
    metrics::counter!("database_errors_total", "operation" => of, "kind" => kind).increment(1);
}

/// The SQLite file: its log, all of its pages, those that are free, and the scans under way.
pub fn sqlite(wal_bytes: u64, file_bytes: u64, free_bytes: u64, scans: usize) {
    metrics::gauge!("sqlite_wal_bytes").set(wal_bytes as f64);
    metrics::gauge!("sqlite_file_bytes").set(file_bytes as f64);
    metrics::gauge!("sqlite_free_bytes").set(free_bytes as f64);
    metrics::gauge!("sqlite_scans_running").set(scans as f64);
}

/// PostgreSQL's pool: connections that are open, that are free, that may be open, and who waits for one.
pub fn pool(open: usize, idle: usize, max: usize, waiting: usize) {
    metrics::gauge!("postgres_pool_connections", "state" => "idle").set(idle as f64);
    metrics::gauge!("postgres_pool_connections", "state" => "busy").set(open.saturating_sub(idle) as f64);
    metrics::gauge!("postgres_pool_max_connections").set(max as f64);
    metrics::gauge!("postgres_pool_waiting").set(waiting as f64);
}

/// Whether something that the service stands on answers.
pub fn dependency(name: &'static str, up: bool) {
    metrics::gauge!("dependency_up", "dependency" => name).set(f64::from(u8::from(up)));
}

/// A job ran to its end, at that second.
pub fn job(name: &'static str, took: Duration, done: bool, at_seconds: i64) {
    metrics::counter!("job_runs_total", "job_name" => name).increment(1);
    metrics::counter!("job_failures_total", "job_name" => name).increment(u64::from(!done));
    metrics::histogram!("job_duration_seconds", "job_name" => name).record(took);
    if done {
        metrics::gauge!("job_last_success_timestamp_seconds", "job_name" => name).set(at_seconds as f64);
    }
}

/// So many things of a class were removed because of their age.
pub fn retired(class: &'static str, count: usize) {
    if count > 0 {
        metrics::counter!("retention_removed_total", "class" => class).increment(count as u64);
    }
}

/// Stripe was asked.
pub fn stripe_request(outcome: &'static str, took: Duration) {
    metrics::counter!("stripe_requests_total", "outcome" => outcome).increment(1);
    metrics::histogram!("stripe_request_duration_seconds").record(took);
}

/// Whether requests to Stripe fail at once, because it did not answer the last ones.
pub fn stripe_breaker(open: bool) {
    metrics::gauge!("stripe_breaker_open").set(f64::from(u8::from(open)));
}

/// What became of an event of Stripe. Only types that are handled become labels.
pub fn stripe_event(kind: &str, handled: bool, outcome: &'static str) {
    let kind = if handled { kind.to_owned() } else { "(other)".to_owned() };
    metrics::counter!("stripe_events_total", "type" => kind, "outcome" => outcome).increment(1);
}

/// How many events of Stripe wait to be taken in, and how many seconds the oldest has waited.
pub fn stripe_inbox(waiting: i64, oldest_seconds: i64) {
    metrics::gauge!("stripe_inbox_events").set(waiting as f64);
    metrics::gauge!("stripe_inbox_oldest_seconds").set(oldest_seconds as f64);
}

/// The object store was asked.
pub fn object_store(operation: &'static str, outcome: &'static str) {
    metrics::counter!("object_store_requests_total", "operation" => operation, "outcome" => outcome)
        .increment(1);
}

/// A file of so many bytes was stored (`in`) or handed out by the service itself (`out`).
pub fn file(direction: &'static str, bytes: u64) {
    metrics::counter!("files_total", "direction" => direction).increment(1);
    metrics::counter!("file_bytes_total", "direction" => direction).increment(bytes);
}

/// Spans were sent to the collector, or were not taken.
pub fn trace_export(taken: bool) {
    let outcome = if taken { "taken" } else { "failed" };
    metrics::counter!("trace_exports_total", "outcome" => outcome).increment(1);
}

/// What runs here.
pub fn build(version: &'static str, engine: &'static str) {
    metrics::gauge!("user_service_build_info", "version" => version, "engine" => engine).set(1.0);
}

/// The runtime: its threads, its tasks, and those that wait for a thread.
pub fn runtime(workers: usize, tasks: usize, queued: usize) {
    metrics::gauge!("tokio_workers").set(workers as f64);
    metrics::gauge!("tokio_alive_tasks").set(tasks as f64);
    metrics::gauge!("tokio_global_queue_tasks").set(queued as f64);
}

/// How many commands wait for the writer.
pub fn queue(waiting: usize, max: usize) {
    metrics::gauge!("ledger_queue_commands").set(waiting as f64);
    metrics::gauge!("ledger_queue_max_commands").set(max as f64);
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

/// How many users are suspended, and how many other ids name a user.
pub fn identities(suspended: usize, aliases: usize) {
    metrics::gauge!("users_suspended").set(suspended as f64);
    metrics::gauge!("users_merged_identities").set(aliases as f64);
}

/// A user was erased, and nothing of it is left to do.
pub fn erased() {
    metrics::counter!("users_erased_total").increment(1);
}

/// An archive of a user was written to its end, or broke off.
pub fn exported(whole: bool) {
    let outcome = if whole { "whole" } else { "broken_off" };
    metrics::counter!("user_exports_total", "outcome" => outcome).increment(1);
}

/// An event is sent to somebody who watches.
pub fn live_event(kind: &'static str) {
    metrics::counter!("live_events_total", "event" => kind).increment(1);
}

/// The signing keys of an identity provider were fetched, or why not.
pub fn jwks_fetched(provider: &str, outcome: &'static str) {
    metrics::counter!("jwks_fetches_total", "provider" => provider.to_owned(), "outcome" => outcome)
        .increment(1);
}

/// How old the signing keys of an identity provider are.
pub fn jwks_age(provider: &str, age: Duration) {
    metrics::gauge!("jwks_age_seconds", "provider" => provider.to_owned()).set(age.as_secs_f64());
}

/// A token was verified, remembered from before, or refused, and why.
pub fn token_judged(outcome: &'static str) {
    metrics::counter!("token_verifications_total", "outcome" => outcome).increment(1);
}

/// A request was counted by the limiter of rates.
pub fn rate_limit_decision(class: &'static str, allowed: bool, backend: &'static str) {
    let outcome = if allowed { "allowed" } else { "refused" };
    metrics::counter!("rate_limit_decisions_total", "class" => class, "outcome" => outcome, "backend" => backend)
        .increment(1);
}

/// Redis failed to count a request.
pub fn rate_limit_redis_error() {
    metrics::counter!("rate_limit_redis_errors_total").increment(1);
}

/// How many buckets of the limiter are in debt.
pub fn rate_limit_keys(keys: usize) {
    metrics::gauge!("rate_limit_keys").set(keys as f64);
}

/// Connections were opened or closed.
pub fn connections(change: i32) {
    metrics::gauge!("http_connections").increment(f64::from(change));
}

/// Every connection that there may be is open; the next one waits.
pub fn connections_full() {
    metrics::counter!("http_connections_full_total").increment(1);
}

/// A request was refused because too many are under way.
pub fn request_shed() {
    metrics::counter!("http_requests_shed_total").increment(1);
}

/// A service key was shown, and this became of it.
pub fn service_key_use(outcome: &'static str) {
    metrics::counter!("service_key_uses_total", "outcome" => outcome).increment(1);
}

/// A token for a user was issued.
pub fn user_token_issued() {
    metrics::counter!("user_tokens_issued_total").increment(1);
}

/// Lets what should never be counted begin at 0, so that its first time is seen as one more. `types` are the events
/// of Stripe that are handled, where Stripe is set up.
pub fn begin(types: &[&'static str]) {
    for kind in ["split", "lock", "failed"] {
        metrics::counter!("ledger_batch_troubles_total", "kind" => kind).increment(0);
    }
    for operation in ["read", "write"] {
        for kind in ["unavailable", "conflict", "internal"] {
            metrics::counter!("database_errors_total", "operation" => operation, "kind" => kind).increment(0);
        }
    }
    for kind in types {
        metrics::counter!("stripe_events_total", "type" => *kind, "outcome" => "failed").increment(0);
    }
}

mod describe;
#[cfg(test)]
mod tests;
