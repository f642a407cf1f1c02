//! The service in this process: a port of its own, a database of its own, a clock that stands still.

use crate::actors::{self, Actor, Identity};
use crate::{postgres, schema::Document};
use kernel::{Clock, Timestamp};
use reqwest::Client;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use user_service::app::App;
use user_service::boot;
use user_service::config::{Config, Origin};
use user_service::credits::{sweeper, verify};
use user_service::telemetry;

/// What the clock of every story shows at first.
pub const START: &str = "2025-07-27T00:11:26.479685Z";
/// The service key that [`TestApp::backend`] sends.
pub const SERVICE_KEY: &str = "usk_testkit_0123456789abcdef";
/// The secret that signs every actor's token.
pub const JWT_SECRET: &str = "testkit-secret-that-is-long-enough-for-hs256";

/// Which database the service stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file in a temporary folder.
    Sqlite,
    /// A database of its own on the server that `TEST_POSTGRES_URL` names.
    Postgres,
}

/// A running service with its callers; cheap to clone, and stopped by [`TestApp::finish`].
#[derive(Clone)]
pub struct TestApp {
    site: Arc<Site>,
    /// Nobody: no token, no key.
    pub anon: Actor,
    /// The plain user `auth0|alice`.
    pub alice: Actor,
    /// The plain user `auth0|bob`.
    pub bob: Actor,
    /// A program with the service key.
    pub backend: Actor,
    /// A user with the role `admin`.
    pub admin: Actor,
}

/// What the actors of one service share.
pub struct Site {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its clock.
    pub clock: Clock,
    /// What it says of itself.
    pub document: Arc<Document>,
    pub(crate) client: Client,
    config: Config,
    running: Mutex<Option<Running>>,
    _folder: TempDir,
}

struct Running {
    app: Arc<App>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    database: Option<String>,
}

impl Deref for TestApp {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl TestApp {
    /// Starts the service with its defaults.
    pub async fn start(engine: Engine) -> Self {
        Self::start_with(engine, &[]).await
    }

    /// Starts the service with settings, named as in the environment.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(engine: Engine, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (url, database) = match engine {
            Engine::Sqlite => (format!("sqlite:{}/story.db", folder.path().display()), None),
            Engine::Postgres => {
                let (url, name) = postgres::fresh_database().await;
                (url, Some(name))
            }
        };
        let data_dir = folder.path().display().to_string();
        let mut vars: BTreeMap<&str, &str> = BTreeMap::from([
            ("DATABASE_URL", url.as_str()),
            ("DATABASE_POOL_SIZE", "6"),
            ("DATA_DIR", &data_dir),
            ("SUPABASE_JWT_SECRET", JWT_SECRET),
            ("USER_SERVICE_API_KEY", SERVICE_KEY),
            ("SHUTDOWN_GRACE_SECONDS", "10"),
        ]);
        vars.extend(settings.iter().copied());
        let config = config(&vars);
        let clock = Clock::manual(START.parse().expect("an instant"));
        let metrics = config.metrics_enabled.then(telemetry::metrics).and_then(Result::ok);
        let service = boot::build(config.clone(), clock.clone(), metrics).await.expect("the service starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Arc::clone(&service.app);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(service.serve(listener, async move {
            let _ = stopped.await;
        }));
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.timeout(Duration::from_secs(60)).build().expect("an HTTP client");
        let site = Arc::new(Site {
            document: Document::of(&client, address).await,
            running: Mutex::new(Some(Running { app, stop, served, database })),
            _folder: folder,
            address,
            clock,
            client,
            config,
        });
        let actor = |identity| Actor::new(&site, identity);
        Self {
            anon: actor(Identity::Nobody),
            alice: actor(Identity::user("auth0|alice", "alice@example.com", "Alice")),
            bob: actor(Identity::user("auth0|bob", "bob@example.com", "Bob")),
            backend: actor(Identity::Key(SERVICE_KEY.to_owned())),
            admin: actor(Identity::admin("auth0|admin", "admin@example.com", "Admin")),
            site,
        }
    }

    /// A plain user of that id, with an e-mail address made of it.
    #[must_use]
    pub fn user(&self, id: &str) -> Actor {
        let local: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '.' }).collect();
        Actor::new(&self.site, Identity::user(id, &format!("{local}@example.com"), id))
    }

    /// A caller who sends this `Authorization` header.
    #[must_use]
    pub fn bearing(&self, authorization: &str) -> Actor {
        Actor::new(&self.site, Identity::Raw(authorization.to_owned()))
    }

    /// A program with that service key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Actor {
        Actor::new(&self.site, Identity::Key(key.to_owned()))
    }

    /// A caller whose token carries exactly these claims, signed with the configured secret.
    #[must_use]
    pub fn with_claims(&self, claims: &serde_json::Value) -> Actor {
        self.bearing(&format!("Bearer {}", actors::sign(claims, JWT_SECRET)))
    }

    /// Stops the service, and verifies its ledger.
    ///
    /// # Panics
    /// When the ledger is not sound.
    pub async fn finish(self) {
        let Some(Running { app, stop, served, database }) = self.running().take() else { return };
        drop(app);
        let _ = stop.send(());
        served.await.expect("the service stops in peace");
        let location = boot::location(&self.config);
        let report = verify::verify(&location, None).await.expect("the ledger can be read");
        assert!(report.is_sound(), "{report}");
        if let Some(name) = database {
            postgres::drop_database(&name).await;
        }
    }
}

impl Site {
    /// Where the service answers: `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The service's data folder.
    #[must_use]
    pub fn data_dir(&self) -> &std::path::Path {
        &self.config.data_dir
    }

    /// The service from within, for what no caller can see.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn inside(&self) -> Arc<App> {
        let running = self.running();
        Arc::clone(&running.as_ref().expect("the service runs").app)
    }

    /// What the service's clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the service's clock.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Does what the jobs do by and by; says how many expiries of credits were written down.
    ///
    /// # Panics
    /// When that fails.
    pub async fn sweep(&self) -> usize {
        let app = self.running().as_ref().map(|running| Arc::clone(&running.app));
        let app = app.expect("the service runs");
        user_service::retention::Walks::default().sweep(&app).await.expect("retention succeeds");
        user_service::files::sweeper::sweep(&app).await.expect("the sweep of files succeeds");
        user_service::sessions::sweeper::sweep(&app).await.expect("the sweep of sessions succeeds");
        user_service::payments::settle::sweep(&app).await.expect("payments are settled");
        user_service::subscriptions::sweeper::sweep(&app).await.expect("the turn of subscriptions succeeds");
        let expired = sweeper::sweep(&app).await.expect("the sweep of credits succeeds");
        user_service::users::merge::sweep(&app).await.expect("merges are finished");
        user_service::users::erase::sweep(&app).await.expect("erasures are finished");
        user_service::payments::top_up::sweep(&app).await.expect("the sweep of top-ups succeeds");
        expired
    }

    /// Sends bytes that no HTTP client would, and gives everything that comes back until the
    /// service closes the connection.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        // The service may answer and close before it has read everything.
        let _ = stream.write_all(request.as_ref()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let forgotten = self.running().is_some();
        if forgotten && !std::thread::panicking() {
            // Verifying takes an await, which a drop does not have.
            panic!("a story must end with `app.finish().await`, which verifies the ledger");
        }
    }
}

fn config(vars: &BTreeMap<&str, &str>) -> Config {
    let given = |key: &str| vars.get(key).map(|value| ((*value).to_owned(), Origin::Environment));
    match Config::from_vars(given) {
        Ok((config, _)) => config,
        Err(error) => panic!("{error}"),
    }
}

/// Tells a story on an engine, then stops the service and verifies its ledger.
pub async fn run<F: Future<Output = ()>>(engine: Engine, story: impl FnOnce(TestApp) -> F) {
    let app = TestApp::start(engine).await;
    story(app.clone()).await;
    app.finish().await;
}

/// Makes two tests of each story, `name::sqlite` and `name::postgres`.
///
/// A story is `async fn name(app: TestApp) { … }`; the ledger is verified when it ends.
#[macro_export]
macro_rules! both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($app:ident: TestApp) $story:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn story($app: $crate::TestApp) $story

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                $crate::run($crate::Engine::Sqlite, story).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                $crate::run($crate::Engine::Postgres, story).await;
            }
        }
    )+};
}
