//! `user-service keys …`: service keys on the command line.
//!
//! It works beside a running service on SQLite too, where a database otherwise has one process: it writes rows that
//! nobody keeps in memory for longer than a second, and waits its turn like any writer.

use super::model::{KEYS_MAX, Key};
use super::{edits, store, text};
use crate::audit::around;
use crate::boot::{self, BootError};
use crate::cli::{KeysCommand, KeysCreate};
use crate::config::Config;
use crate::credits::memory::Accounts;
use crate::db::{Db, DbError, Location};
use crate::live::Live;
use crate::prices::command::CommandError;
use crate::writer::{Command, Edit, Told, WriteError, Writer};
use kernel::{Clock, Timestamp};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// How many keys are read at once.
const AT_ONCE: i64 = 1_000;

/// Does what was asked; what a program reads goes to `out`, what a person reads to `aside`.
///
/// # Errors
/// [`CommandError`].
pub async fn run(
    config: &Config,
    asked: &KeysCommand,
    out: &mut impl Write,
    aside: &mut impl Write,
) -> Result<(), CommandError> {
    let (db, _claim) = open(config).await?;
    let written = match asked {
        KeysCommand::Create(asked) => {
            let (key, secret) = around::at_the_command_line("create_key", create(config, &db, asked)).await?;
            let about = format!("{} may {}; this is shown only now:", key.key_id, key.scopes);
            writeln!(aside, "{about}").and_then(|()| writeln!(out, "{secret}"))
        }
        KeysCommand::List { all } => list(&db, *all, out).await?,
        KeysCommand::Revoke { key_id } => {
            around::at_the_command_line("revoke_key", revoke(config, &db, key_id)).await?;
            writeln!(aside, "{key_id} is revoked; a running service refuses it within a second")
        }
    };
    match written {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| failed(format!("the answer cannot be written: {error}"))),
    }
}

const fn failed(why: String) -> CommandError {
    CommandError::Failed(why)
}

/// Opens the database and brings its schema up to date; one that a service has open already is taken as it is.
async fn open(config: &Config) -> Result<(Db, Option<File>), CommandError> {
    let location = boot::location(config);
    let busy = match boot::open(config).await {
        Ok(opened) => return Ok(opened),
        Err(BootError::Database(DbError::Unavailable(why)))
            if matches!(location, Location::Sqlite(_)) && why.contains("already serves") =>
        {
            why
        }
        Err(error) => return Err(error.into()),
    };
    let db = Db::open(&location).await.map_err(BootError::from)?;
    let known = store::list(&db, false, 0, 1, 0, Timestamp::default()).await;
    known.map(|_| (db, None)).map_err(|_| {
        failed(format!("{busy}, and its version knows no keys; stop it, or start this version of it"))
    })
}

async fn create(config: &Config, db: &Db, asked: &KeysCreate) -> Result<(Key, String), CommandError> {
    let now = Clock::System.now();
    let fresh = text::make(None);
    let life = asked.expires_days.map(|days| Duration::from_secs(u64::from(days) * 24 * 60 * 60));
    let key = Key {
        id: 0,
        key_id: fresh.key_id,
        name: asked.name.clone(),
        scopes: asked.scopes,
        requests_per_minute: asked.requests_per_minute,
        allowed_ips: asked.ip.clone(),
        created_at: now,
        created_by: around::actor(),
        expires_at: life.map(|life| now.plus(life)),
        last_used_at: None,
        revoked_at: None,
        overlap_ends_at: None,
    };
    around::target(|| format!("key:{}", key.key_id));
    key.note();
    match write(config, db, edits::create(&key, fresh.digest)).await {
        Err(WriteError::Refused(0)) => {
            Err(failed(format!("{KEYS_MAX} keys are in use; revoke those that are not needed")))
        }
        Err(error) => Err(failed(format!("the key was not made: {error}"))),
        Ok(()) => Ok((key, fresh.key.expose().to_owned())),
    }
}

async fn revoke(config: &Config, db: &Db, key_id: &str) -> Result<(), CommandError> {
    let now = Clock::System.now();
    let found = store::find(db, key_id, now).await.map_err(BootError::from)?;
    if found.is_none() {
        return Err(failed(format!("there is no key {key_id}")));
    }
    around::target(|| format!("key:{key_id}"));
    let done = write(config, db, edits::revoke(key_id, now)).await;
    done.map_err(|error| failed(format!("the key was not revoked: {error}")))
}

async fn write(config: &Config, db: &Db, edit: Edit) -> Result<(), WriteError> {
    let memory = Arc::new(Accounts::default());
    let told = Told { live: Live::over(db), ..Told::default() };
    let (writer, finished) = Writer::start(db, boot::rules(config), &Clock::System, &memory, &told)?;
    let done = writer.execute(Command::Edit(edit)).await;
    drop(writer);
    for lane in finished {
        let _ = lane.await;
    }
    done.map(drop)
}

async fn list(db: &Db, all: bool, out: &mut impl Write) -> Result<io::Result<()>, CommandError> {
    let now = Clock::System.now();
    let mut before = i64::MAX;
    let mut written =
        writeln!(out, "{:<12}{:<9}{:<29}{:<29}NAME AND SCOPES", "KEY ID", "STATUS", "LAST USED", "EXPIRES");
    loop {
        let page = store::list(db, all, before, AT_ONCE, 0, now).await.map_err(BootError::from)?;
        for key in &page.rows {
            let instant = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
            written = written.and_then(|()| {
                let (status, used, ends) =
                    (key.standing(now).as_str(), instant(key.last_used_at), instant(key.expires_at));
                writeln!(out, "{:<12}{status:<9}{used:<29}{ends:<29}{}: {}", key.key_id, key.name, key.scopes)
            });
            before = key.id;
        }
        if !page.more {
            return Ok(written.and_then(|()| out.flush()));
        }
    }
}
