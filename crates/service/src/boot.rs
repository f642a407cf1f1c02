//! From settings to a running service: the only wiring.

use crate::app::App;
use crate::auth::user_token::UserTokens;
use crate::auth::{AuthConfig, Authenticator};
use crate::config::{Config, DatabaseUrl};
use crate::credits::balances::Balances;
use crate::credits::ledger::Policy;
use crate::credits::memory::Accounts;
use crate::credits::seal;
use crate::credits::verify::watch::Verifications;
use crate::db::{Db, DbError, Location, migrate};
use crate::files::Files;
use crate::http::input::BODY_ROOM_BYTES;
use crate::http::operations::Operations;
use crate::http::{router, server};
use crate::jobs;
use crate::keys::Keys;
use crate::live::{Live, listen};
use crate::measure;
use crate::payments::top_up;
use crate::plans;
use crate::prices::Prices;
use crate::rate_limits::RateLimiter;
use crate::sessions::store::session_refs;
use crate::stripe;
use crate::telemetry::{Metrics, Traces};
use crate::users::export::EXPORTS_MAX;
use crate::users::identities::{self, Identities};
use crate::users::store::row_ids;
use crate::webhooks::{self, Outbox, delivery};
use crate::writer::{Finished, Rules, Told, Writer};
use axum::Router;
use kernel::Clock;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How many events of Stripe are taken in at once as they come; the others are left to the job.
const EVENT_TURNS: usize = 16;

/// Open files that are kept for other things than connections: the database, spools, logs.
const FILES_KEPT: usize = 256;
/// The fewest connections, however few files may be open.
const CONNECTIONS_MIN: usize = 16;

/// Why the service does not start: one sentence that names the setting.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The database cannot be opened or reached.
    #[error("DATABASE_URL: {0}")]
    Database(#[from] DbError),
    /// The data folder cannot be used.
    #[error("DATA_DIR: {0}")]
    DataDir(String),
    /// The store for files cannot be used.
    #[error("{0}")]
    Files(String),
    /// The address cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// Traces cannot be sent.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Traces(String),
    /// Stripe cannot be asked.
    #[error("{0}")]
    Stripe(String),
    /// Webhooks cannot be sent.
    #[error("{0}")]
    Webhooks(String),
    /// Redis cannot be asked.
    #[error("REDIS_URL: {0}")]
    Redis(redis::RedisError),
    /// An agent cannot be spoken with.
    #[error("{0}")]
    Mcp(String),
    /// Authentication cannot work.
    #[error("{0}")]
    Auth(#[from] crate::auth::AuthConfigError),
}

/// What a process does beside answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It does what is done by and by, brings the schema up to date and publishes what the settings say.
    Whole,
    /// Only answers, beside processes that do the rest.
    Beside,
}

/// What is done by and by.
struct Workers {
    jobs: tokio::task::JoinHandle<()>,
    inbox: tokio::task::JoinHandle<()>,
    top_ups: tokio::task::JoinHandle<()>,
    sending: delivery::Sending,
}

impl Workers {
    fn start(app: &Arc<App>) -> Result<Self, BootError> {
        Ok(Self {
            sending: delivery::start(app).map_err(BootError::Webhooks)?,
            jobs: tokio::spawn(jobs::run(Arc::clone(app))),
            inbox: tokio::spawn(stripe::inbox::run(Arc::clone(app))),
            top_ups: tokio::spawn(top_up::run(Arc::clone(app))),
        })
    }

    async fn stop(self) {
        for worker in [self.jobs, self.inbox, self.top_ups] {
            worker.abort();
            let _ = worker.await;
        }
        // What it finishes goes through the writer, which is still there.
        self.sending.stop().await;
    }
}

/// A service that is ready to serve.
pub struct Service {
    /// What every request can reach.
    pub app: Arc<App>,
    /// Every route.
    pub router: Router,
    finished: Finished,
    workers: Option<Workers>,
    listening: Option<tokio::task::JoinHandle<()>>,
    following: tokio::task::JoinHandle<()>,
    identities: tokio::task::JoinHandle<()>,
    _claim: Option<File>,
}

/// The database that the settings name.
#[must_use]
pub fn location(config: &Config) -> Location {
    match &config.database {
        DatabaseUrl::Sqlite(path) => Location::Sqlite(path.clone()),
        DatabaseUrl::Postgres(url) => Location::Postgres(url.expose().to_owned(), config.database_pool_size),
    }
}

/// Connects, claims the file where there is one, and brings the schema up to date.
///
/// # Errors
/// [`BootError`].
pub async fn open(config: &Config) -> Result<(Db, Option<File>), BootError> {
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|e| BootError::DataDir(format!("{} cannot be made: {e}", config.data_dir.display())))?;
    let db = Db::open(&location(config)).await?;
    let claim = match &db {
        Db::Sqlite(sqlite) => Some(sqlite.claim()?),
        Db::Postgres(_) => None,
    };
    let applied = migrate::migrate(&db).await?;
    if applied > 0 {
        seal::accounts(&db).await?;
        tracing::info!(applied, engine = db.engine(), "the schema was brought up to date");
    }
    Ok((db, claim))
}

/// Builds the service.
///
/// # Errors
/// [`BootError`].
pub async fn build(config: Config, clock: Clock, metrics: Option<Metrics>) -> Result<Service, BootError> {
    build_as(Role::Whole, config, clock, metrics).await
}

/// Builds the service for a role.
///
/// # Errors
/// [`BootError`]; for [`Role::Beside`] also where the schema is not the one of this version.
pub async fn build_as(
    role: Role,
    config: Config,
    clock: Clock,
    metrics: Option<Metrics>,
) -> Result<Service, BootError> {
    let (db, claim) = match role {
        Role::Whole => open(&config).await?,
        Role::Beside => (Db::open(&location(&config)).await?, None),
    };
    if role == Role::Beside && !migrate::is_current(&db).await? {
        let why =
            "the schema is not the one of this version; start the service, or run `user-service migrate`";
        return Err(DbError::Unavailable(why.to_owned()).into());
    }
    let memory = Arc::new(Accounts::default());
    let live = Live::over(&db);
    let outbox = Outbox::over(&db).await?;
    let told = Told { live: live.clone(), outbox: outbox.clone() };
    let (writer, finished) = Writer::start(&db, rules(&config), &clock, &memory, &told)?;
    let prices = Prices::open(&db, &writer, clock.now()).await?;
    let following = prices.follow();
    let versions = plans::store::versions(&config.catalogue);
    if role == Role::Whole {
        plans::store::publish(&writer, &config.catalogue, clock.now()).await?;
    }
    let traces =
        Traces::start(&config, &clock).map_err(|error| BootError::Traces(error.to_string()))?.map(Arc::new);
    let keys = Keys::new(db.clone(), writer.clone(), clock.clone());
    let tokens = UserTokens::new(db.clone(), writer.clone(), clock.clone(), keys.clone());
    let (routes, document) = router::table();
    let app = Arc::new(App {
        auth: Authenticator::new(AuthConfig::of(&config)?, clock.clone())?.with_issued(keys.clone(), tokens),
        keys,
        rate_limiter: RateLimiter::start(&config, &clock).await.map_err(BootError::Redis)?,
        balances: Balances::start(&db, &memory),
        verifications: Verifications::default(),
        identities: Identities::open(&db).await?,
        row_ids: row_ids(),
        session_refs: session_refs(),
        files: Files::open(&config, claim.is_some()).map_err(BootError::Files)?,
        stripe: stripe(&config, &clock)?,
        export_turns: Arc::new(Semaphore::new(EXPORTS_MAX)),
        event_turns: Arc::new(Semaphore::new(EVENT_TURNS)),
        request_room: Semaphore::new(config.max_concurrent_requests),
        body_room: Arc::new(body_room(&config)),
        operations: Operations::of(&document),
        started_at: clock.now(),
        draining: AtomicBool::new(false),
        metrics,
        traces,
        live,
        outbox,
        prices,
        versions,
        writer,
        config,
        clock,
        db,
    });
    if role == Role::Whole {
        webhooks::store::spell_out(&app).await.map_err(|error| DbError::Unavailable(error.to_string()))?;
    }
    measure::begin(if app.stripe.is_some() { stripe::apply::HANDLED } else { &[] });
    let identities = tokio::spawn(identities::follow(Arc::clone(&app)));
    let listening = listen::start(&app.db, &app.live);
    let workers = if role == Role::Whole { Some(Workers::start(&app)?) } else { None };
    let router = router::router(Arc::clone(&app), routes, &document);
    Ok(Service { app, router, finished, workers, listening, following, identities, _claim: claim })
}

/// What the writer decides by.
#[must_use]
pub fn rules(config: &Config) -> Rules {
    Rules {
        ledger: Policy { refund_life: config.refund_credits_life },
        welcome: config.welcome_credits,
        welcome_life: config.welcome_credits_life,
        session_life: config.session_life,
        low_balance: config.low_balance,
    }
}

fn stripe(config: &Config, clock: &Clock) -> Result<Option<stripe::Client>, BootError> {
    let Some(settings) = &config.payments.stripe else { return Ok(None) };
    let client = stripe::Client::new(settings, clock.clone());
    client.map(Some).map_err(|error| BootError::Stripe(format!("STRIPE_API_BASE: {error}")))
}

/// The memory for large bodies, in KiB.
fn body_room(config: &Config) -> Semaphore {
    let bytes = config.batch_body_limit_bytes.max(config.json_body_limit_bytes).max(BODY_ROOM_BYTES);
    Semaphore::new(bytes.div_ceil(1024))
}

/// What connections may take. A process that may not open enough files takes fewer.
fn limits(config: &Config) -> server::Limits {
    let wanted = config.max_connections;
    let files = rlimit::increase_nofile_limit(u64::MAX)
        .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let connections = wanted.min(files.saturating_sub(FILES_KEPT)).max(CONNECTIONS_MIN);
    if connections < wanted {
        tracing::warn!(connections, files, "MAX_CONNECTIONS is more than the limit of open files allows");
    }
    server::Limits {
        connections,
        header: server::HEADER_TIMEOUT.min(config.request_timeout),
        untaken: config.request_timeout,
        grace: config.shutdown_grace,
    }
}

/// Listens where the settings say.
///
/// # Errors
/// [`BootError::Listen`] names the setting.
pub async fn listen(config: &Config) -> Result<TcpListener, BootError> {
    let address = (config.host.as_str(), config.port);
    TcpListener::bind(address).await.map_err(|error| {
        let key = if error.kind() == std::io::ErrorKind::AddrInUse { "PORT" } else { "HOST" };
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "is taken by another program".to_owned(),
            _ => format!("cannot be listened on: {error}"),
        };
        BootError::Listen(format!("{key}: {}:{} {why}", config.host, config.port))
    })
}

impl Service {
    /// Serves until `stop` resolves. Then it is `draining`: for `SHUTDOWN_DELAY_SECONDS` it goes on as before,
    /// so that whoever sends requests here notices; then it stops accepting, answers what was asked, and
    /// writes what was taken. Nothing that was accepted is lost.
    pub async fn serve(mut self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let router = std::mem::take(&mut self.router);
        let app = Arc::clone(&self.app);
        let draining = Arc::clone(&app);
        let stop = async move {
            stop.await;
            draining.draining.store(true, Ordering::Relaxed);
            let delay = draining.config.shutdown_delay;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            tracing::info!("no new connections; answering what was asked");
            // Streams have no end of their own that is worth waiting for.
            draining.live.close();
        };
        if !server::serve(listener, router, stop, limits(&app.config)).await {
            tracing::warn!("some connections did not end within SHUTDOWN_GRACE_SECONDS and were closed");
        }
        drop(app);
        self.finish().await;
    }

    /// Ends what runs beside the requests, and writes what was taken; whoever asks must have stopped.
    pub async fn finish(self) {
        let Self { app, router, finished, workers, listening, following, identities, _claim } = self;
        drop(router);
        let grace = app.config.shutdown_grace;
        following.abort();
        identities.abort();
        let _ = identities.await;
        if let Some(workers) = workers {
            workers.stop().await;
        }
        let traces = app.traces.clone();
        // The queue closes with the last handle on it; then the writer answers what it has and ends.
        drop(app);
        for lane in finished {
            let _ = tokio::time::timeout(grace, lane).await;
        }
        // Last, so that other processes still hear of what was written meanwhile.
        listening.inspect(tokio::task::JoinHandle::abort);
        if let Some(traces) = traces {
            traces.finish().await;
        }
    }
}
