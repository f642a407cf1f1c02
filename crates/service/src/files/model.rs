//! What is known of a file.

use super::kind::Kind;
use crate::db::{DbError, FromRow, Row, Weigh};
use kernel::{Timestamp, UserRowId};

/// Where a file is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A client has an address to send it to.
    Expected,
    /// It counts against the quota, and its bytes are on their way to the store.
    Storing,
    /// It is there.
    Stored,
    /// It counts no more and nobody sees it; its bytes are being removed.
    Deleting,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "expected" => Self::Expected,
            "storing" => Self::Storing,
            "stored" => Self::Stored,
            "deleting" => Self::Deleting,
            _ => return None,
        })
    }
}

/// A file's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// The row's id; 0 until it has one.
    pub id: i64,
    /// The public id, a UUID.
    pub file_id: String,
    /// Whose it is.
    pub user: UserRowId,
    /// Its path below the user: `files/2025/07/….pdf`.
    pub path: String,
    /// Its name as the client said it.
    pub file_name: String,
    /// What it is.
    pub kind: Kind,
    /// How many bytes it has.
    pub size: i64,
    /// The SHA-256 of its bytes in hex digits.
    pub sha256: String,
    /// The store's ETag, without quotes.
    pub etag: String,
    /// Where it is on its way.
    pub status: Status,
    /// The store's upload in parts, while it runs.
    pub upload_id: Option<String>,
    /// Until when a client may write to its staging key.
    pub staged_until: Option<Timestamp>,
    /// When it was uploaded.
    pub created_at: Timestamp,
}

/// The columns of a [`StoredFile`], in its order.
macro_rules! file_columns {
    () => {
        "f.id, f.file_id, f.user_id, f.path, f.file_name, f.content_type, f.size, f.sha256, f.etag, f.status, \
         f.upload_id, f.staged_until, f.created_at"
    };
}
pub(super) use file_columns;

impl FromRow for StoredFile {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let unknown = |column: &str, text: &str| DbError::Internal(format!("files.{column}: {text:?}"));
        let (kind, status) = (row.text(5)?, row.text(9)?);
        Ok(Self {
            id: row.int(0)?,
            file_id: row.text(1)?,
            user: UserRowId(row.int(2)?),
            path: row.text(3)?,
            file_name: row.text(4)?,
            kind: Kind::of_media_type(&kind).ok_or_else(|| unknown("content_type", &kind))?,
            size: row.int(6)?,
            sha256: row.text(7)?,
            etag: row.text(8)?,
            status: Status::parse(&status).ok_or_else(|| unknown("status", &status))?,
            upload_id: row.optional_text(10)?,
            staged_until: row.optional_int(11)?.map(Timestamp::from_micros),
            created_at: Timestamp::from_micros(row.int(12)?),
        })
    }
}

impl Weigh for StoredFile {
    fn weight(&self) -> usize {
        // The path and the name stand in the answer several times over.
        2 * (self.path.len() + self.file_name.len())
    }
}

/// What a user's files come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// How many there are.
    pub files: i64,
    /// Their bytes.
    pub bytes: i64,
}

impl FromRow for Totals {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { files: row.int(0)?, bytes: row.int(1)? })
    }
}
