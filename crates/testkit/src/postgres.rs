//! A fresh PostgreSQL database for each story, copied from a template that is migrated once.
//!
//! `./test` starts the server and names it in `TEST_POSTGRES_URL`. The template's name is made of
//! the migrations, so every test binary of a run shares it and changed migrations make a new one.

use aws_lc_rs::digest::{Context, SHA256};
use kernel::Secret;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use user_service::db::{Db, Location, migrate};

/// Where the migrations stand, whose digest names the template.
const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../service/migrations/postgres");
/// Whoever makes the template holds this lock of the server.
const LOCK: i64 = 0x0074_6573_746b_6974;

static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// The server that the stories may use.
///
/// # Panics
/// When there is none.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the tests' own settings")]
pub fn server() -> Secret {
    match std::env::var("TEST_POSTGRES_URL") {
        Ok(url) if !url.is_empty() => Secret::new(url),
        _ => panic!("there is no PostgreSQL to test on: run ./test"),
    }
}

/// The address of another database of the server.
#[must_use]
pub fn url_of(name: &str) -> String {
    let server = server();
    let (address, parameters) = server.expose().split_once('?').unwrap_or((server.expose(), ""));
    let host_at = address.find("://").map_or(0, |at| at + 3);
    let end = address[host_at..].find('/').map_or(address.len(), |at| host_at + at);
    let mark = if parameters.is_empty() { "" } else { "?" };
    format!("{}/{name}{mark}{parameters}", &address[..end])
}

/// Makes a database with the service's schema; gives its address and its name.
///
/// # Panics
/// When the server refuses.
pub async fn fresh_database() -> (String, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let template = TEMPLATE.get_or_init(make_template).await;
    let name = format!("story_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let client = connect().await;
    run(&client, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    run(&client, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    (url_of(&name), name)
}

/// Makes a database without any schema; gives its address and its name.
///
/// # Panics
/// When the server refuses.
pub async fn empty_database(name: &str) -> (String, String) {
    let client = connect().await;
    run(&client, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    run(&client, &format!("CREATE DATABASE {name}")).await;
    (url_of(name), name.to_owned())
}

/// Removes a database, whoever is still connected to it.
///
/// # Panics
/// When the server refuses.
pub async fn drop_database(name: &str) {
    run(&connect().await, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
}

async fn make_template() -> String {
    let template = format!("testkit_{}", digest(Path::new(MIGRATIONS)));
    let client = connect().await;
    // Other test binaries wait here; the lock ends with the connection.
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.expect("the lock");
    let known = client.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&template]).await;
    if known.expect("the list of databases").is_empty() {
        // Under another name until it is whole, so that nobody ever copies half a schema.
        let draft = format!("{template}_draft");
        run(&client, &format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)")).await;
        run(&client, &format!("CREATE DATABASE {draft}")).await;
        let db = Db::open(&Location::Postgres(url_of(&draft), 2)).await.expect("the template");
        migrate::migrate(&db).await.expect("the migrations");
        drop(db);
        run(&client, &format!("ALTER DATABASE {draft} RENAME TO {template}")).await;
    }
    template
}

/// Runs a statement about databases; one that somebody is just leaving is waited for.
async fn run(client: &Client, statement: &str) {
    for _ in 0..200 {
        match client.batch_execute(statement).await {
            Ok(()) => return,
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            Err(error) => panic!("{statement}: {error:?}"),
        }
    }
    panic!("{statement}: the database stays in use");
}

async fn connect() -> Client {
    let (client, connection) =
        tokio_postgres::connect(server().expose(), NoTls).await.expect("the server of TEST_POSTGRES_URL");
    tokio::spawn(connection);
    client
}

fn digest(folder: &Path) -> String {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the migrations")
        .map(|entry| entry.expect("a migration").path())
        .collect();
    files.sort();
    let mut context = Context::new(&SHA256);
    for file in files {
        context.update(&std::fs::read(file).expect("a migration"));
    }
    context.finish().as_ref().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
