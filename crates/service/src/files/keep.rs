//! From a spool to a stored file, and back when that fails.
//!
//! Reserve (row and quota) → store the bytes → finish (the row says so, with the caller's idempotency
//! key). Whatever fails in between takes the row and the quota back; what cannot be removed at once
//! is left to the sweeper under a row that nobody sees. It runs as a task of its own, so that a
//! caller who leaves after its last byte cannot stop it half-way.

use super::model::{Status, StoredFile};
use super::objects::{About, ObjectError, key, staging_key};
use super::spool::Spool;
use super::{edits, store};
use crate::app::App;
use crate::http::ApiError;
use crate::measure;
use crate::writer::{Answer, Command, Done, Ticket, WriteError};
use axum::http::StatusCode;
use bytes::Bytes;
use kernel::ExternalId;
use std::sync::Arc;

/// A file that was received and is to be stored.
pub struct Incoming {
    /// Its row, to be written, or one that was expected.
    pub file: StoredFile,
    /// Its user, for errors.
    pub auth0_id: ExternalId,
    /// Its bytes.
    pub spool: Spool,
    /// The caller's idempotency key.
    pub ticket: Ticket,
}

/// Stores a file and answers with what `respond` makes of its row.
///
/// # Errors
/// 404 for a deleted user, 409, 413 past the quota, 422, 503.
pub async fn keep(
    app: &Arc<App>,
    incoming: Incoming,
    respond: impl Fn(&StoredFile) -> Bytes + Clone + Send + Sync + 'static,
) -> Result<Answer, ApiError> {
    let app = Arc::clone(app);
    let kept = tokio::spawn(async move { run(&app, incoming, respond).await });
    kept.await.map_err(|error| ApiError::internal(error.to_string()))?
}

async fn run(
    app: &App,
    incoming: Incoming,
    respond: impl Fn(&StoredFile) -> Bytes + Clone + Send + Sync + 'static,
) -> Result<Answer, ApiError> {
    let Incoming { mut file, auth0_id, spool, ticket } = incoming;
    let size = spool.size;
    reserve(app, &mut file, &auth0_id).await?;
    match store_bytes(app, &mut file, spool).await {
        Ok(etag) => file.etag = etag,
        Err(error) => {
            take_back(app, &file).await;
            return Err(ApiError::unavailable("The file cannot be stored now; try again", error.to_string()));
        }
    }
    file.status = Status::Stored;
    let edit = edits::finish(&file, app.clock.now());
    let stored = file.clone();
    let answer = app.writer.submit(Command::Edit(edit), ticket, move |_: &Done| respond(&stored)).await;
    match &answer {
        // Another request with the same key was first, and its answer counts.
        Ok(Answer { replayed: true, .. }) | Err(WriteError::IdempotencyMismatch) => {
            take_back(app, &file).await
        }
        Err(WriteError::Refused(_)) => remove_orphan(app, &file).await,
        _ => {}
    }
    let answer = answer?;
    if !answer.replayed {
        measure::file("in", size);
    }
    if !answer.replayed && file.staged_until.is_some() {
        // The sweeper does it again when nobody can write there any more.
        let _ = app.files.objects.delete(&staging_key(file.user, &file.file_id)).await;
    }
    Ok(answer)
}

/// Writes the row and takes its room under the quota.
async fn reserve(app: &App, file: &mut StoredFile, auth0_id: &ExternalId) -> Result<(), ApiError> {
    let quota = store::quota(app, file.user).await?;
    let waiting = file.status == Status::Expected;
    let edit = if waiting { edits::claim(file, quota) } else { edits::reserve(file, quota) };
    match app.writer.execute(Command::Edit(edit)).await {
        Ok(Done::Edited(id)) => {
            file.id = id.unwrap_or(file.id);
            Ok(())
        }
        Ok(_) => Err(ApiError::internal("an edit was answered by something else")),
        Err(WriteError::Refused(0)) if waiting => {
            Err(ApiError::conflict("The upload is being completed by another request; try again"))
        }
        Err(WriteError::Refused(0)) => Err(ApiError::user_not_found(auth0_id.as_str())),
        Err(WriteError::Refused(2)) => {
            let used = store::totals(&app.db, file.user).await?.bytes;
            Err(quota_exceeded(quota, used, file.size))
        }
        Err(error) => Err(error.into()),
    }
}

/// 413: the user's files would be more than its plan allows.
#[must_use]
pub fn quota_exceeded(quota: i64, used: i64, required: i64) -> ApiError {
    let message =
        format!("Storage quota exceeded. Used: {used} of {quota} bytes, Required: {required} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "QuotaExceededException", message)
        .detail("quota", quota.into())
        .detail("used", used.into())
        .detail("required", required.into())
}

async fn store_bytes(app: &App, file: &mut StoredFile, spool: Spool) -> Result<String, ObjectError> {
    let objects = &app.files.objects;
    let key = key(file.user, &file.path);
    let about = About::new(file.kind, &file.file_name);
    file.upload_id = objects.begin(&key, spool.size, &about).await?;
    if let Some(upload) = &file.upload_id {
        let noted = app.writer.execute(Command::Edit(edits::set_upload(file, upload))).await;
        noted.map_err(|error| ObjectError::Unavailable(error.to_string()))?;
    }
    objects.put(&key, spool, &about, file.upload_id.as_deref()).await
}

/// Undoes a reservation, and removes whatever of the bytes has arrived.
async fn take_back(app: &App, file: &StoredFile) {
    // A direct upload waits again, so that its client can complete it once the store is back. Its
    // bytes go first: the next one to complete it writes to the same key.
    let waits = file.staged_until.is_some() && file.status != Status::Stored;
    let mut removed = if waits { remove_bytes(app, file).await } else { Ok(()) };
    // What could not be removed is remembered by a row that the sweeper comes back for.
    let waits = waits && removed.is_ok();
    let edit = if waits { edits::release(file) } else { edits::give_up(file, app.clock.now()) };
    if let Err(error) = app.writer.execute(Command::Edit(edit)).await {
        tracing::warn!(file = file.id, %error, "a file was not taken back; the sweeper will");
        return;
    }
    if !waits {
        removed = discard(app, file).await;
    }
    if removed.is_err() {
        // The store's own words name the key, and so the file.
        tracing::warn!(file = file.id, "a file was not removed; the sweeper will");
    }
}

/// Removes the bytes of a file whose row went while they were stored, as it does with its user: nobody else
/// would look for them. A row that is there belongs to whoever has it now, and so do the bytes.
async fn remove_orphan(app: &App, file: &StoredFile) {
    let sql = "SELECT id FROM files WHERE id = $1 AND status <> 'deleting'";
    let removed = match app.db.find::<i64>(sql, &[file.id.into()]).await {
        Ok(None) => remove_bytes(app, file).await.is_ok(),
        Ok(Some(_)) => true,
        Err(_) => false,
    };
    if !removed {
        tracing::warn!(file = file.id, "the bytes of a file without a row were not removed");
    }
}

async fn remove_bytes(app: &App, file: &StoredFile) -> Result<(), ObjectError> {
    let key = key(file.user, &file.path);
    let aborted = match &file.upload_id {
        Some(upload) => app.files.objects.abort(&key, upload).await,
        None => Ok(()),
    };
    app.files.objects.delete(&key).await?;
    aborted
}

/// Removes the bytes of a file that nobody sees any more, and then its row.
///
/// The row stays while a client may still write to its staging key; the sweeper comes back for it.
///
/// # Errors
/// A sentence for the log; it can be called again.
pub async fn discard(app: &App, file: &StoredFile) -> Result<(), ObjectError> {
    remove_bytes(app, file).await?;
    if let Some(until) = file.staged_until {
        app.files.objects.delete(&staging_key(file.user, &file.file_id)).await?;
        if app.clock.now() <= until {
            return Ok(());
        }
    }
    let removed = app.writer.execute(Command::Edit(edits::remove(file))).await;
    removed.map(drop).map_err(|error| ObjectError::Unavailable(error.to_string()))
}
