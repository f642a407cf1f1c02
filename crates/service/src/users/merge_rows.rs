//! What changes its owner when two identities are merged, beside the credits.
//!
//! Messages carry their owner among their search words, and files in their address, so those go first and
//! piece by piece; nobody reads them meanwhile, because their user is deleted. The rest goes in one
//! transaction, the identity with it.

use super::edits;
use super::merge::Merge;
use crate::app::App;
use crate::db::{Db, DbError, FromRow, Row, Value};
use crate::files;
use crate::files::model::{Status, StoredFile};
use crate::files::objects::{About, ObjectError, key};
use crate::http::facts::fresh_id;
use crate::sessions::words;
use crate::webhooks::bodies::UserMergedEvent;
use crate::webhooks::{Event, EventType};
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{ExternalId, UserRowId};

/// The most usage records of the identity that ends: they change their owner in one transaction.
pub const USAGE_MAX: i64 = 50_000;
/// How many messages change their owner in one commit.
const MESSAGES_AT_ONCE: i64 = 50;
/// How many files are listed at once.
const FILES_AT_ONCE: i64 = 100;

/// Copies the files to where the surviving user's are; says how many.
///
/// # Errors
/// [`WriteError`].
pub async fn copy_files(app: &App, merge: Merge) -> Result<i64, WriteError> {
    let (mut after, mut copied) = (0, 0);
    while let Some((files, last)) = stored(app, merge.from, after).await? {
        for file in &files {
            copy(app, merge, file).await.map_err(not_moved)?;
            copied += 1;
        }
        after = last;
    }
    Ok(copied)
}

async fn copy(app: &App, merge: Merge, file: &StoredFile) -> Result<(), ObjectError> {
    let objects = &app.files.objects;
    let size = u64::try_from(file.size).unwrap_or(0);
    let spool = match objects.fetch(&key(file.user, &file.path), size, &app.files.spools).await {
        Ok(spool) => spool,
        Err(ObjectError::NotFound) => return Ok(()),
        Err(error) => return Err(error),
    };
    let (to, about) = (key(merge.into, &file.path), About::new(file.kind, &file.file_name));
    let upload = objects.begin(&to, spool.size, &about).await?;
    objects.put(&to, spool, &about, upload.as_deref()).await.map(drop)
}

/// Removes the files from where they were. Those are among the surviving user's now, so each of its files
/// may have been one.
///
/// # Errors
/// [`WriteError`].
pub async fn remove_files(app: &App, merge: Merge) -> Result<(), WriteError> {
    let mut after = 0;
    while let Some((files, last)) = stored(app, merge.into, after).await? {
        for file in &files {
            app.files.objects.delete(&key(merge.from, &file.path)).await.map_err(not_moved)?;
        }
        after = last;
    }
    Ok(())
}

/// The next of a user's stored files, and the last row that was looked at.
async fn stored(app: &App, user: UserRowId, after: i64) -> Result<Option<(Vec<StoredFile>, i64)>, DbError> {
    let mut found = files::store::of_user(&app.db, user, after, FILES_AT_ONCE).await?;
    let Some(last) = found.last().map(|file| file.id) else { return Ok(None) };
    found.retain(|file| file.status == Status::Stored);
    Ok(Some((found, last)))
}

/// What went wrong, without the store's own words: they name the key, and so the file.
fn not_moved(error: ObjectError) -> WriteError {
    tracing::debug!(%error, "a file was not moved");
    WriteError::Unavailable("a file could not be moved in the store".to_owned())
}

struct Said(i64, String);

impl FromRow for Said {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self(row.int(0)?, row.text(1)?))
    }
}

/// Gives the messages to the surviving user, in the search index too.
///
/// # Errors
/// [`WriteError`].
pub async fn move_messages(app: &App, merge: Merge) -> Result<(), WriteError> {
    let sessions =
        "SELECT id FROM sessions WHERE user_id = $1 AND deleted_at IS NULL ORDER BY created_at, id";
    for session in app.db.query::<i64>(sessions, vec![merge.from.0.into()]).await? {
        loop {
            let sql = "SELECT id, content FROM messages WHERE session_row = $1 AND user_id = $2 ORDER BY seq LIMIT $3";
            let values = vec![session.into(), merge.from.0.into(), MESSAGES_AT_ONCE.into()];
            let said = app.db.query::<Said>(sql, values).await?;
            if said.is_empty() {
                break;
            }
            let statements = said.iter().flat_map(|said| owned_anew(&app.db, merge, said)).collect();
            app.writer.execute(Command::Edit(Edit::new(merge.from, statements))).await?;
        }
    }
    Ok(())
}

fn owned_anew(db: &Db, merge: Merge, Said(id, content): &Said) -> Vec<Statement> {
    let words = words::of_text(merge.into, content);
    let (id, into) = (Value::from(*id), Value::from(merge.into.0));
    match db {
        Db::Sqlite(_) => {
            let owner = "UPDATE messages SET user_id = $2 WHERE id = $1";
            let forget = "DELETE FROM message_words WHERE rowid = $1";
            let insert = "INSERT INTO message_words (rowid, words) SELECT $1, $2 WHERE $2 <> ''";
            vec![
                Statement::one(owner, vec![id.clone(), into]),
                Statement::any(forget, vec![id.clone()]),
                Statement::any(insert, vec![id, words.as_str().into()]),
            ]
        }
        Db::Postgres(_) => {
            let sql = "UPDATE messages SET user_id = $2, words = CAST($3 AS TEXT)::tsvector WHERE id = $1";
            vec![Statement::one(sql, vec![id, into, words::to_tsvector(&words).as_str().into()])]
        }
    }
}

/// Ends the plan of the identity that ends, while it has its name: others are told of it under that. Statements of the
/// transaction that moves the rest could not ask whether it was in force.
///
/// # Errors
/// [`WriteError`].
pub async fn end_plan(app: &App, merge: Merge) -> Result<(), WriteError> {
    crate::subscriptions::change::end_now(app, merge.from, app.clock.now()).await
}

/// Gives the rest to the surviving user, the identity with it; statement 0 finds that its account is not
/// closed and empty any more, or that not all of its files were copied.
///
/// # Errors
/// [`WriteError`].
pub async fn move_rest(app: &App, merge: Merge, auth0_id: &ExternalId, files: i64) -> Result<(), WriteError> {
    let now = app.clock.now();
    let both = || vec![Value::from(merge.from.0), Value::from(merge.into.0)];
    let from = || vec![Value::from(merge.from.0)];
    let names = "UPDATE users SET auth0_id = $2, email = NULL, email_folded = NULL, name = NULL, name_folded = NULL, \
        updated_at = $3 WHERE id = $1 AND deleted_at IS NOT NULL \
        AND EXISTS (SELECT 1 FROM credit_accounts a WHERE a.user_id = $1 AND a.balance = 0 AND a.held = 0) \
        AND (SELECT count(*) FROM files f WHERE f.user_id = $1) = CAST($4 AS BIGINT) \
        AND NOT EXISTS (SELECT 1 FROM files f WHERE f.user_id = $1 AND f.status <> 'stored')";
    let pseudonym = format!("merged:{}", fresh_id());
    let alias =
        "INSERT INTO user_identities (auth0_id, user_id, merged_from, created_at) VALUES ($1, $2, $3, $4)";
    let alias_values =
        vec![auth0_id.as_str().into(), merge.into.0.into(), merge.from.0.into(), now.micros().into()];
    // An event that both recorded stays the survivor's; the other record stays, without the event.
    let events = "UPDATE usage_records SET event_id = NULL WHERE user_id = $1 AND event_id IN \
        (SELECT event_id FROM usage_records WHERE user_id = $2 AND event_id IS NOT NULL)";
    // The entry that paid is in the ledger of the one that ended.
    let usage = "UPDATE usage_records SET user_id = $2, charge_seq = NULL WHERE user_id = $1";
    let rollups = "INSERT INTO usage_rollups (user_id, period, bucket, event_type, model_name, provider, records, credits_hi, \
        credits_lo, cost_hi, cost_lo, tokens) SELECT $2, period, bucket, event_type, model_name, provider, records, \
        credits_hi, credits_lo, cost_hi, cost_lo, tokens FROM usage_rollups WHERE user_id = $1 \
        ON CONFLICT (user_id, period, bucket, event_type, model_name, provider) DO UPDATE SET \
        records = usage_rollups.records + excluded.records, credits_hi = usage_rollups.credits_hi + excluded.credits_hi, \
        credits_lo = usage_rollups.credits_lo + excluded.credits_lo, cost_hi = usage_rollups.cost_hi + excluded.cost_hi, \
        cost_lo = usage_rollups.cost_lo + excluded.cost_lo, tokens = usage_rollups.tokens + excluded.tokens";
    let memories = "UPDATE session_memories SET user_id = $2 WHERE session_row IN (SELECT id FROM sessions WHERE user_id = $1)";
    let totals = "INSERT INTO file_totals (user_id, files, bytes) SELECT $2, files, bytes FROM file_totals WHERE user_id = $1 \
        ON CONFLICT (user_id) DO UPDATE SET files = file_totals.files + excluded.files, \
        bytes = file_totals.bytes + excluded.bytes";
    let ended = "UPDATE subscriptions SET status = 'canceled', canceled_at = COALESCE(canceled_at, $2), \
        next_plan_version = NULL, updated_at = $2 WHERE user_id = $1 AND status <> 'canceled'";
    let customer = "UPDATE stripe_customers SET user_id = $2 WHERE user_id = $1 \
        AND NOT EXISTS (SELECT 1 FROM stripe_customers s WHERE s.user_id = $2)";
    let moved = "UPDATE user_merges SET status = 'moved' WHERE from_user = $1 AND status = 'pending'";
    let statements = vec![
        Statement::one(
            names,
            vec![merge.from.0.into(), pseudonym.as_str().into(), now.micros().into(), files.into()],
        ),
        Statement::one(alias, alias_values),
        Statement::any("UPDATE user_identities SET user_id = $2 WHERE user_id = $1", both()),
        Statement::any(events, both()),
        Statement::any(usage, both()),
        Statement::any(rollups, both()),
        Statement::any("DELETE FROM usage_rollups WHERE user_id = $1", from()),
        Statement::any(memories, both()),
        Statement::any("UPDATE sessions SET user_id = $2 WHERE user_id = $1", both()),
        Statement::any("UPDATE files SET user_id = $2 WHERE user_id = $1 AND status = 'stored'", both()),
        Statement::any(totals, both()),
        Statement::any("UPDATE file_totals SET files = 0, bytes = 0 WHERE user_id = $1", from()),
        Statement::any(ended, vec![merge.from.0.into(), now.micros().into()]),
        Statement::any(customer, both()),
        Statement::any("DELETE FROM auto_top_ups WHERE user_id = $1", from()),
        Statement::any("DELETE FROM spending_counters WHERE user_id = $1", from()),
        Statement::one(moved, from()),
        edits::turn_book(),
    ];
    let told = Event::of(EventType::UserMerged, merge.into, now, &UserMergedEvent::new(auth0_id));
    app.writer.execute(Command::Edit(Edit::new(merge.from, statements).telling(told))).await.map(drop)
}
