//! What each number means.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// What each number means, for the metrics page; `docs/monitoring.md` says the same.
pub fn describe() {
    describe_requests();
    describe_ledger();
    describe_engines();
    describe_neighbours();
    describe_tokens();
    describe_webhooks();
}

fn describe_requests() {
    describe_counter!("http_requests_total", "Requests answered, by method, route and status.");
    describe_histogram!("http_request_duration_seconds", Unit::Seconds, "Time to answer, by route.");
    describe_gauge!("http_requests_in_flight", "Requests that are not answered yet.");
    describe_counter!(
        "http_request_bytes_total",
        Unit::Bytes,
        "Bytes of the bodies of requests that said how long they are."
    );
    describe_counter!(
        "http_response_bytes_total",
        Unit::Bytes,
        "Bytes of the bodies of answers whose length is known; streams are not."
    );
    describe_gauge!("http_connections", "Connections that are open.");
    describe_counter!(
        "http_connections_full_total",
        "How often a connection had to wait for MAX_CONNECTIONS."
    );
    describe_counter!("http_requests_shed_total", "Requests answered 503 for MAX_CONCURRENT_REQUESTS.");
    describe_counter!(
        "rate_limit_decisions_total",
        "Requests counted by the rate limiter, by bucket, outcome and where they were counted."
    );
    describe_counter!("rate_limit_redis_errors_total", "Requests that Redis failed to count within 50 ms.");
    describe_gauge!("rate_limit_keys", "Rate limit buckets in this process's memory that are in debt.");
    describe_counter!("service_key_uses_total", "Service keys shown, by what became of it.");
    describe_counter!("user_tokens_issued_total", "Short-lived tokens issued for users.");
    describe_gauge!("live_streams", "Event streams that are open.");
    describe_gauge!("users_suspended", "Users who are suspended.");
    describe_gauge!("users_merged_identities", "Ids that name another user since they were merged.");
    describe_counter!("users_erased_total", "Users who were erased.");
    describe_counter!("user_exports_total", "Archives of users, by outcome.");
    describe_counter!("live_events_total", "Events sent on event streams, by kind.");
}

fn describe_ledger() {
    describe_histogram!("ledger_batch_size", "Commands committed together.");
    describe_histogram!(
        "ledger_commit_duration_seconds",
        Unit::Seconds,
        "Time to decide and commit a batch."
    );
    describe_histogram!(
        "ledger_queue_wait_seconds",
        Unit::Seconds,
        "How long the first command of each batch had waited."
    );
    describe_counter!(
        "ledger_batch_troubles_total",
        "Batches that were split into their commands, decided again under lock, or failed, by kind."
    );
    describe_gauge!("ledger_queue_commands", "Commands waiting for the writer.");
    describe_gauge!("ledger_queue_max_commands", "Commands that may wait; beyond, writes are refused.");
    describe_counter!("ledger_entries_total", "Entries committed, by kind.");
    describe_counter!(
        "ledger_microcredits_total",
        "Micro-credits that committed entries moved, by kind, without sign; whole numbers, so exact."
    );
    describe_gauge!("ledger_sound", "1 when the last verification found the ledger sound, 0 when not.");
    describe_gauge!("ledger_verified_entries", "Entries that the last verification replayed.");
    describe_gauge!("ledger_verified_timestamp_seconds", Unit::Seconds, "When the last verification ended.");
}

fn describe_engines() {
    describe_counter!("database_errors_total", "Reads and writes that failed, by operation and kind.");
    describe_gauge!("sqlite_wal_bytes", Unit::Bytes, "Size of the log that is not written back yet.");
    describe_gauge!("sqlite_file_bytes", Unit::Bytes, "Size of the database, free pages included.");
    describe_gauge!("sqlite_free_bytes", Unit::Bytes, "Size of the database's free pages.");
    describe_gauge!("sqlite_scans_running", "Scans under way, of at most 4.");
    describe_gauge!("postgres_pool_connections", "Connections of the pool, by state.");
    describe_gauge!("postgres_pool_max_connections", "Connections that the pool may have.");
    describe_gauge!("postgres_pool_waiting", "Tasks waiting for a connection of the pool.");
    describe_gauge!("tokio_workers", "Threads that run tasks.");
    describe_gauge!("tokio_alive_tasks", "Tasks that have not ended.");
    describe_gauge!("tokio_global_queue_tasks", "Tasks waiting for a thread.");
    describe_gauge!(
        "user_service_build_info",
        "Always 1; the labels say which version runs on which engine."
    );
}

fn describe_neighbours() {
    describe_gauge!("dependency_up", "1 while what the service stands on answers, 0 while not.");
    describe_counter!("job_runs_total", "Runs of a job.");
    describe_counter!("job_failures_total", "Runs of a job that failed.");
    describe_histogram!("job_duration_seconds", Unit::Seconds, "Time that a run of a job took.");
    describe_gauge!(
        "job_last_success_timestamp_seconds",
        Unit::Seconds,
        "When a job last ran without failing."
    );
    describe_counter!(
        "retention_removed_total",
        "What was removed because of its age, by class; replicas that meet may both count it."
    );
    describe_counter!("stripe_requests_total", "Attempts to ask Stripe, by outcome.");
    describe_histogram!(
        "stripe_request_duration_seconds",
        Unit::Seconds,
        "Time of an attempt to ask Stripe."
    );
    describe_gauge!("stripe_breaker_open", "1 while Stripe is not asked because it did not answer.");
    describe_counter!("stripe_events_total", "Events of Stripe, by type and what became of them.");
    describe_gauge!("stripe_inbox_events", "Events of Stripe that wait to be taken in.");
    describe_gauge!("stripe_inbox_oldest_seconds", Unit::Seconds, "How long the oldest of them has waited.");
    describe_counter!(
        "object_store_requests_total",
        "Requests to the store of files, by operation and outcome."
    );
    describe_counter!("trace_exports_total", "Batches of spans sent to the collector, by outcome.");
    describe_counter!("files_total", "Files stored and handed out by the service itself, by direction.");
    describe_counter!("file_bytes_total", Unit::Bytes, "Bytes of those files, by direction.");
}

fn describe_tokens() {
    describe_counter!("jwks_fetches_total", "Fetches of signing keys, by identity provider and outcome.");
    describe_gauge!(
        "jwks_age_seconds",
        Unit::Seconds,
        "Time since signing keys were last fetched, by identity provider."
    );
    describe_counter!(
        "token_verifications_total",
        "Tokens judged: verified, remembered from before, or refused by the named rule."
    );
}

fn describe_webhooks() {
    describe_counter!("webhook_attempts_total", "Attempts to tell an endpoint of an event, by outcome.");
    describe_histogram!("webhook_attempt_duration_seconds", Unit::Seconds, "Time of such an attempt.");
    describe_gauge!(
        "webhook_lag_seconds",
        Unit::Seconds,
        "How long the oldest event has waited for its first attempt, at endpoints that work and at those that fail."
    );
    describe_gauge!("webhook_pending_deliveries", "Deliveries of this process that are to be tried again.");
    describe_gauge!("webhook_endpoints", "Endpoints that work, fail, or are disabled.");
}
