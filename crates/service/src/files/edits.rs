//! The small changes of files, each with its statements.
//!
//! Row and totals move in one transaction, so the quota holds whatever comes at the same time. What
//! a refused statement means stands with each edit.

use super::model::StoredFile;
use crate::db::Value;
use crate::writer::{Counter, Edit, Statement};
use kernel::{Timestamp, UserRowId};

/// How many direct uploads of a user may be open at a time.
pub const EXPECTED_MAX: i64 = 20;

fn ensure_totals(user: UserRowId) -> Statement {
    let sql = "INSERT INTO file_totals (user_id, files, bytes) VALUES ($1, 0, 0) ON CONFLICT DO NOTHING";
    Statement::any(sql, vec![user.0.into()])
}

fn add(user: UserRowId, size: i64, quota: i64) -> Statement {
    let sql = "UPDATE file_totals SET files = files + 1, bytes = bytes + $2 WHERE user_id = $1 AND bytes + $2 <= $3";
    Statement::one(sql, vec![user.0.into(), size.into(), quota.into()])
}

fn subtract(user: UserRowId, size: i64) -> Statement {
    let sql = "UPDATE file_totals SET files = files - 1, bytes = bytes - $2 WHERE user_id = $1";
    Statement::one(sql, vec![user.0.into(), size.into()])
}

/// Begins to store a file: 0 finds the user deleted, 2 finds no room under the quota.
#[must_use]
pub fn reserve(file: &StoredFile, quota: i64) -> Edit {
    let insert = "INSERT INTO files (id, file_id, user_id, path, file_name, content_type, size, sha256, etag, status, \
        created_at, updated_at) SELECT $1, $2, a.user_id, $3, $4, $5, $6, $7, '', 'storing', $8, $8 \
        FROM credit_accounts a WHERE a.user_id = $9 AND NOT a.closed";
    let values = vec![
        Value::Fresh,
        file.file_id.as_str().into(),
        file.path.as_str().into(),
        file.file_name.as_str().into(),
        file.kind.media_type().into(),
        file.size.into(),
        file.sha256.as_str().into(),
        file.created_at.micros().into(),
        file.user.0.into(),
    ];
    let statements =
        vec![Statement::one(insert, values), ensure_totals(file.user), add(file.user, file.size, quota)];
    Edit::making(Counter::Files, file.user, statements)
}

/// Notes a direct upload: 0 finds the user deleted, 1 finds too many open.
#[must_use]
pub fn expect(file: &StoredFile) -> Edit {
    let insert = "INSERT INTO files (id, file_id, user_id, path, file_name, content_type, size, sha256, etag, status, \
        staged_until, created_at, updated_at) SELECT $1, $2, a.user_id, $3, $4, $5, $6, '', '', 'expected', $7, $8, $8 \
        FROM credit_accounts a WHERE a.user_id = $9 AND NOT a.closed";
    let values = vec![
        Value::Fresh,
        file.file_id.as_str().into(),
        file.path.as_str().into(),
        file.file_name.as_str().into(),
        file.kind.media_type().into(),
        file.size.into(),
        file.staged_until.map(Timestamp::micros).into(),
        file.created_at.micros().into(),
        file.user.0.into(),
    ];
    let few = "UPDATE files SET upload_id = NULL WHERE id = $1 AND \
        (SELECT COUNT(*) FROM files WHERE user_id = $2 AND status = 'expected') <= $3";
    let few = Statement::one(few, vec![Value::Fresh, file.user.0.into(), EXPECTED_MAX.into()]);
    let statements = vec![Statement::one(insert, values), few];
    Edit::making(Counter::Files, file.user, statements)
}

/// Begins to store a file that was uploaded directly: 0 finds it not waiting any more, 2 finds no
/// room under the quota.
#[must_use]
pub fn claim(file: &StoredFile, quota: i64) -> Edit {
    let sql = "UPDATE files SET status = 'storing', size = $2, sha256 = $3, created_at = $4, updated_at = $4 \
        WHERE id = $1 AND status = 'expected'";
    let values =
        vec![file.id.into(), file.size.into(), file.sha256.as_str().into(), file.created_at.micros().into()];
    let statements =
        vec![Statement::one(sql, values), ensure_totals(file.user), add(file.user, file.size, quota)];
    Edit::new(file.user, statements)
}

/// Lets a direct upload wait again, when it could not be stored.
#[must_use]
pub fn release(file: &StoredFile) -> Edit {
    let sql = "UPDATE files SET status = 'expected', upload_id = NULL WHERE id = $1 AND status = 'storing'";
    Edit::new(file.user, vec![Statement::one(sql, vec![file.id.into()]), subtract(file.user, file.size)])
}

/// Notes the store's upload in parts, so that it can be ended after a crash.
#[must_use]
pub fn set_upload(file: &StoredFile, upload: &str) -> Edit {
    let sql = "UPDATE files SET upload_id = $2 WHERE id = $1 AND status = 'storing'";
    Edit::new(file.user, vec![Statement::one(sql, vec![file.id.into(), upload.into()])])
}

/// The bytes are there.
#[must_use]
pub fn finish(file: &StoredFile, now: Timestamp) -> Edit {
    let sql = "UPDATE files SET status = 'stored', etag = $2, upload_id = NULL, updated_at = $3 \
        WHERE id = $1 AND status = 'storing'";
    let values = vec![file.id.into(), file.etag.as_str().into(), now.micros().into()];
    Edit::new(file.user, vec![Statement::one(sql, values)])
}

/// Takes a file out of everybody's sight and out of the totals: 0 finds it not stored.
#[must_use]
pub fn delete(file: &StoredFile, now: Timestamp) -> Edit {
    let sql = "UPDATE files SET status = 'deleting', updated_at = $2 WHERE id = $1 AND status = 'stored'";
    retire(sql, file, now)
}

/// The same for a file that is not stored and will not be: 0 finds it stored, or gone.
#[must_use]
pub fn give_up(file: &StoredFile, now: Timestamp) -> Edit {
    let sql = "UPDATE files SET status = 'deleting', updated_at = $2 WHERE id = $1 AND status = 'storing'";
    retire(sql, file, now)
}

fn retire(sql: &'static str, file: &StoredFile, now: Timestamp) -> Edit {
    let statement = Statement::one(sql, vec![file.id.into(), now.micros().into()]);
    Edit::new(file.user, vec![statement, subtract(file.user, file.size)])
}

/// Stops expecting a direct upload, which never counted.
#[must_use]
pub fn give_up_expected(file: &StoredFile, now: Timestamp) -> Edit {
    let sql = "UPDATE files SET status = 'deleting', updated_at = $2 WHERE id = $1 AND status = 'expected'";
    Edit::new(file.user, vec![Statement::one(sql, vec![file.id.into(), now.micros().into()])])
}

/// Removes the row of a file whose bytes are gone.
#[must_use]
pub fn remove(file: &StoredFile) -> Edit {
    let sql = "DELETE FROM files WHERE id = $1 AND status = 'deleting'";
    Edit::new(file.user, vec![Statement::any(sql, vec![file.id.into()])])
}

/// Takes the names out of the row of a file whose bytes are gone, where it must stay for a while.
#[must_use]
pub fn without_names(file: &StoredFile) -> Edit {
    let sql = "UPDATE files SET path = 'erased/' || file_id, file_name = '', sha256 = '', etag = '', upload_id = NULL \
        WHERE id = $1 AND status = 'deleting'";
    Edit::new(file.user, vec![Statement::any(sql, vec![file.id.into()])])
}

/// Notes that nothing is left at the staging key.
#[must_use]
pub fn unstage(file: &StoredFile) -> Edit {
    let sql = "UPDATE files SET staged_until = NULL WHERE id = $1";
    Edit::new(file.user, vec![Statement::any(sql, vec![file.id.into()])])
}
