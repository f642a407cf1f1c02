//! What every request can reach. Made in [`crate::boot`], and nowhere else.

use crate::auth::Authenticator;
use crate::config::Config;
use crate::credits::balances::Balances;
use crate::db::Db;
use crate::files::Files;
use crate::http::docs::Operations;
use crate::live::Live;
use crate::prices::Prices;
use crate::sessions::store::SessionRefs;
use crate::telemetry::Metrics;
use crate::users::store::RowIds;
use crate::writer::Writer;
use kernel::{Clock, Timestamp};
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
    /// What models cost.
    pub prices: Prices,
    /// Balances.
    pub balances: Balances,
    /// Which row a user's id names.
    pub row_ids: RowIds,
    /// Which row a session's id names.
    pub session_refs: SessionRefs,
    /// Where files are.
    pub files: Files,
    /// Who may come in.
    pub auth: Authenticator,
    /// The memory for large bodies, in KiB.
    pub body_room: Arc<Semaphore>,
    /// The names of the routes.
    pub operations: Operations,
    /// The numbers, where they are counted.
    pub metrics: Option<Metrics>,
    /// When it began.
    pub started_at: Timestamp,
    /// Whether it is stopping and takes no new work.
    pub draining: AtomicBool,
}
