//! What every request can reach. Made in [`crate::boot`], and nowhere else.

use crate::auth::Authenticator;
use crate::config::Config;
use crate::credits::Rejection;
use crate::credits::balances::Balances;
use crate::credits::verify::watch::Verifications;
use crate::db::Db;
use crate::files::Files;
use crate::http::ApiError;
use crate::http::operations::Operations;
use crate::keys::Keys;
use crate::live::Live;
use crate::plans::store::Versions;
use crate::prices::Prices;
use crate::rate_limits::RateLimiter;
use crate::sessions::store::SessionRefs;
use crate::telemetry::{Metrics, Traces};
use crate::users::api::refused;
use crate::users::identities::Identities;
use crate::users::store::RowIds;
use crate::webhooks::Outbox;
use crate::writer::{WriteError, Writer};
use axum::http::StatusCode;
use kernel::{Clock, ExternalId, Timestamp};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Semaphore;

/// The service.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// Reads.
    pub db: Db,
    /// Changes.
    pub writer: Writer,
    /// Whoever watches, and how it is woken.
    pub live: Live,
    /// What others want to be told of.
    pub outbox: Outbox,
    /// What is known of verifications of the ledger.
    pub verifications: Verifications,
    /// What models cost.
    pub prices: Prices,
    /// What plans were when somebody subscribed to them.
    pub versions: Versions,
    /// Balances.
    pub balances: Balances,
    /// Who is suspended, and which other ids name a user.
    pub identities: Identities,
    /// Which row a user's id names.
    pub row_ids: RowIds,
    /// Which row a session's id names.
    pub session_refs: SessionRefs,
    /// Where files are.
    pub files: Files,
    /// The way to Stripe, where one is set.
    pub stripe: Option<crate::stripe::Client>,
    /// Turns at archives of users.
    pub export_turns: Arc<Semaphore>,
    /// Turns at events of Stripe that are taken in as they come.
    pub event_turns: Arc<Semaphore>,
    /// Who may come in.
    pub auth: Authenticator,
    /// How often callers may ask.
    pub rate_limiter: RateLimiter,
    /// Places for requests that are under way.
    pub request_room: Semaphore,
    /// The keys of programs.
    pub keys: Keys,
    /// The memory for large bodies, in KiB.
    pub body_room: Arc<Semaphore>,
    /// The names of the routes.
    pub operations: Operations,
    /// Where spans go, where a collector is set.
    pub traces: Option<Arc<Traces>>,
    /// The numbers, where they are counted.
    pub metrics: Option<Metrics>,
    /// When it began.
    pub started_at: Timestamp,
    /// Whether it is stopping and takes no new work.
    pub draining: AtomicBool,
}

impl App {
    /// What the writer refused on a route where payment comes first: 402 where credits lack, with what
    /// is required, what there is, whether it may work later, and where to buy more.
    #[must_use]
    pub fn payment_required(&self, error: WriteError, user: &ExternalId) -> ApiError {
        let WriteError::Credits(Rejection::Insufficient { available, required, held }) = &error else {
            return refused(error, user);
        };
        // What open holds have set aside may return.
        let retryable = available.micro().saturating_add(held.micro()) >= required.micro();
        ApiError::new(StatusCode::PAYMENT_REQUIRED, "InsufficientCreditsException", error.to_string())
            .detail("available", json!(available))
            .detail("required", json!(required))
            .detail("retryable", retryable.into())
            .detail("top_up_url", json!(self.config.top_up_url))
    }

    /// The same on the routes whose older clients look for 400 where credits lack.
    #[must_use]
    pub fn payment_refused(&self, error: WriteError, user: &ExternalId) -> ApiError {
        let lacking = matches!(&error, WriteError::Credits(Rejection::Insufficient { .. }));
        let told = self.payment_required(error, user);
        if lacking { ApiError { status: StatusCode::BAD_REQUEST, ..told } } else { told }
    }
}
