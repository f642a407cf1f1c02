//! Delivering: each endpoint is told of every event that it asks for, at least once, of a user in order.
//!
//! An endpoint has a cursor, like a reader of a log: every event up to it is over, or has a row in `webhook_deliveries`. So what is
//! delivered at once costs one row, what nobody can take yet costs none, and a crash loses nothing but the knowledge of the last
//! moments, whose events are sent again under the same id. One process at a time sends to an endpoint, by a lease.
//!
//! It runs on a thread of its own with a low priority, over connections of its own, so that telling others never makes
//! a request wait; one endpoint never waits for another, because each has a task, and places of its own.
//!
//! Reading order: [`window`] (what goes next; pure), [`sender`] (one endpoint), [`hub`] (which endpoints, and waking them),
//! [`client`] and [`guard`] (one attempt), [`flush`] and [`write`](mod@write) (what came of it), [`lease`], [`numbering`].

pub mod client;
pub mod flush;
pub mod guard;
pub mod hub;
pub mod lease;
pub mod log;
pub mod numbered;
pub mod numbering;
pub mod retention;
pub mod schedule;
pub mod sender;
pub mod sign;
pub mod store;
pub mod window;
pub mod write;

use crate::app::App;
use crate::boot;
use crate::db::postgres::Postgres;
use crate::db::{Db, DbError, Location};
use crate::http::facts::fresh_id;
use crate::webhooks::Outbox;
use crate::writer::Writer;
use client::Client;
use kernel::Clock;
use schedule::Schedule;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, watch};

/// How long a process has an endpoint to itself without saying so again. The statements of [`lease`] say it in microseconds.
pub const LEASE: Duration = Duration::from_secs(15);
/// How long it begins deliveries without having said so.
const UNRENEWED_MAX: Duration = Duration::from_secs(10);
/// How many connections to PostgreSQL deliveries have.
const CONNECTIONS: usize = 2;
/// How many pages of events are read at once.
const READS: usize = 2;
/// The priority of the thread, from -20 (the highest) to 19.
const NICE: i32 = 10;
/// How long the pause is before it is begun anew, where it could not begin.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a stop may take.
const STOP_MAX: Duration = Duration::from_secs(12);

/// What all senders share.
pub struct Shared {
    /// Where events and endpoints are read.
    pub db: Db,
    /// Where it is written what came of deliveries.
    pub writer: Writer,
    /// What the time is.
    pub clock: Clock,
    /// What rings when something happened.
    pub outbox: Outbox,
    /// What sends.
    pub client: Client,
    /// When what failed is tried again.
    pub schedule: Schedule,
    /// The name of this process.
    pub me: String,
    /// How many deliveries to one endpoint may be under way.
    pub concurrency: usize,
    /// Turns at reading pages of events.
    pub reading: Semaphore,
    /// The turn at writing: one flush at a time, with a rest after it.
    pub writing: Semaphore,
    /// Whether the process stops: then nothing rests.
    pub stopping: AtomicBool,
    /// When leases were last renewed, in milliseconds since `began`.
    renewed: AtomicU64,
    began: Instant,
}

impl Shared {
    /// Whether deliveries may begin: nobody else can have the endpoints yet.
    #[must_use]
    pub fn may_send(&self) -> bool {
        let renewed = Duration::from_millis(self.renewed.load(std::sync::atomic::Ordering::Relaxed));
        matches!(self.db, Db::Sqlite(_)) || self.began.elapsed().saturating_sub(renewed) < UNRENEWED_MAX
    }

    /// Notes that the leases held at that instant.
    fn renewed_at(&self, at: Instant) {
        let at = u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        self.renewed.store(at, std::sync::atomic::Ordering::Relaxed);
    }
}

/// What the hub and a sender tell each other.
#[derive(Debug)]
pub struct Signals {
    /// To the sender: look at what is below.
    pub wake: Notify,
    /// To the sender: end.
    pub stop: AtomicBool,
    /// To the sender: the position of the newest event.
    pub head: AtomicI64,
    /// To the sender: the revision of its endpoint.
    pub revision: AtomicI64,
    /// To the sender: how many deliveries it may have under way.
    pub concurrency: AtomicUsize,
    /// To the sender: how many bytes it may read ahead.
    pub bytes_max: AtomicUsize,
    /// From the sender: when something is due next, in microseconds.
    pub due: AtomicI64,
    /// From the sender: how many deliveries are pending.
    pub pending: AtomicUsize,
    /// From the sender: when the oldest event happened that it has not tried, in microseconds.
    pub untried: AtomicI64,
}

/// Deliveries under way, until they are stopped.
pub struct Sending {
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

/// What deliveries are begun from, on their thread.
struct Plan {
    location: Location,
    writer: Writer,
    clock: Clock,
    outbox: Outbox,
    client: Client,
    schedule: Schedule,
    concurrency: usize,
}

/// Begins to deliver.
///
/// # Errors
/// A sentence for the operator.
pub fn start(app: &App) -> Result<Sending, String> {
    let settings = &app.config.webhooks;
    let client = Client::new(settings.reach.clone(), settings.timeout, app.clock.clone());
    let plan = Plan {
        location: boot::location(&app.config),
        writer: app.writer.clone(),
        clock: app.clock.clone(),
        outbox: app.outbox.clone(),
        client: client.map_err(|error| format!("webhooks cannot be sent: {error}"))?,
        schedule: Schedule(settings.retries.clone()),
        concurrency: settings.concurrency,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("webhooks cannot be sent: {error}"))?;
    let (stop, stopped) = watch::channel(false);
    let thread = std::thread::Builder::new().name("webhooks".to_owned()).spawn(move || {
        // Requests go first, where there is not enough processor time for both.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        runtime.block_on(run(plan, stopped));
        // A look-up of a name may hang for longer than a stop.
        runtime.shutdown_timeout(Duration::from_millis(100));
    });
    let thread = thread.map_err(|error| format!("the thread for webhooks did not start: {error}"))?;
    Ok(Sending { stop, thread })
}

/// Delivers until it is stopped.
async fn run(plan: Plan, mut stop: watch::Receiver<bool>) {
    let me = fresh_id().to_string();
    let db = loop {
        match connect(&plan, &me).await {
            Ok(db) => break db,
            Err(error) => tracing::warn!(%error, "webhooks wait for the database"),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    };
    let Plan { writer, clock, outbox, client, schedule, concurrency, .. } = plan;
    let shared = Arc::new(Shared {
        db,
        writer,
        clock,
        outbox,
        client,
        schedule,
        me,
        concurrency,
        reading: Semaphore::new(READS),
        writing: Semaphore::new(1),
        stopping: AtomicBool::new(false),
        renewed: AtomicU64::new(0),
        began: Instant::now(),
    });
    // A bug must not end all deliveries: what was under way is sent again.
    while tokio::spawn(hub::run(Arc::clone(&shared), stop.clone())).await.is_err() {
        tracing::error!("delivering webhooks broke off; it begins again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The database as deliveries use it: over connections of their own, which no request waits for, and which this runtime drives.
async fn connect(plan: &Plan, me: &str) -> Result<Db, DbError> {
    match &plan.location {
        Location::Sqlite(_) => Db::open(&plan.location).await,
        Location::Postgres(url, _) => {
            let name = format!("{}{me}", lease::APPLICATION_PREFIX);
            Postgres::connect_as(url, CONNECTIONS, &name).await.map(Db::Postgres)
        }
    }
}

impl Sending {
    /// Ends: what is under way is finished, for some seconds, and written down.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join());
        if tokio::time::timeout(STOP_MAX, joined).await.is_err() {
            tracing::warn!("deliveries of webhooks did not end in time; what was under way is sent again");
        }
    }
}
