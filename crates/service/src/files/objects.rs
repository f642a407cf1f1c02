//! Where the bytes are: a folder of this machine, or an S3 bucket.
//!
//! A key names a user by its row (`users/112/files/…`), so the characters of external ids never
//! matter here. What always holds: an object appears whole or not at all. Errors say what the store
//! said, for the log; callers only learn that it is not available.

pub mod local;
pub mod s3;

use super::kind::Kind;
use super::name;
use super::spool::{Spool, Spools};
use crate::config::{Config, FileStore};
use crate::measure;
use kernel::UserRowId;
use local::Local;
use s3::S3;

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// There is no such object.
    #[error("there is no such object")]
    NotFound,
    /// The object is larger than it may be.
    #[error("the object is too large")]
    TooLarge,
    /// The store does not answer, or refuses us.
    #[error("{0}")]
    Unavailable(String),
}

impl From<std::io::Error> for ObjectError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound,
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<object_store::Error> for ObjectError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// What an object says of itself when it is fetched.
#[derive(Debug, Clone)]
pub struct About {
    /// What it is.
    pub kind: Kind,
    /// How it is named when it is saved.
    pub disposition: String,
}

impl About {
    /// A file of that kind and name.
    #[must_use]
    pub fn new(kind: Kind, file_name: &str) -> Self {
        Self { kind, disposition: name::disposition(file_name) }
    }
}

/// The store.
pub enum Objects {
    /// A folder.
    Local(Local),
    /// A bucket.
    S3(Box<S3>),
}

/// The key of a user's file.
#[must_use]
pub fn key(user: UserRowId, path: &str) -> String {
    format!("users/{user}/{path}")
}

/// The key under which a file that is uploaded directly waits.
#[must_use]
pub fn staging_key(user: UserRowId, file_id: &str) -> String {
    format!("staging/{user}/{file_id}")
}

impl Objects {
    /// The store that the settings name; nothing is asked of it yet.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn open(config: &Config) -> Result<Self, String> {
        match &config.file_store {
            FileStore::Local => Local::open(&config.data_dir.join("files"))
                .map(Self::Local)
                .map_err(|error| format!("DATA_DIR: the folder for files cannot be used: {error}")),
            FileStore::S3(settings) => S3::open(settings).map(|s3| Self::S3(Box::new(s3))),
        }
    }

    /// The store's name, for the banner and for health.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::S3(_) => "s3",
        }
    }

    /// Begins an upload in parts where the size wants one; what it gives must reach [`Self::put`] or
    /// [`Self::abort`].
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn begin(&self, key: &str, size: u64, about: &About) -> Result<Option<String>, ObjectError> {
        match self {
            Self::Local(_) => Ok(None),
            Self::S3(s3) => noted("begin", s3.begin(key, size, about).await),
        }
    }

    /// Stores a file and gives its ETag, without quotes.
    ///
    /// # Errors
    /// [`ObjectError`]; the object may be there nevertheless, when only the answer was lost.
    pub async fn put(
        &self,
        key: &str,
        file: Spool,
        about: &About,
        upload: Option<&str>,
    ) -> Result<String, ObjectError> {
        let stored = match self {
            Self::Local(local) => local.put(key, file).await,
            Self::S3(s3) => s3.put(key, &file, about, upload).await,
        };
        noted("put", stored)
    }

    /// Ends an upload in parts that will not be finished.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`]; one that is not there any more is fine.
    pub async fn abort(&self, key: &str, upload: &str) -> Result<(), ObjectError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::S3(s3) => noted("abort", s3.abort(key, upload).await),
        }
    }

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let deleted = match self {
            Self::Local(local) => local.delete(key).await,
            Self::S3(s3) => s3.delete(key).await,
        };
        let deleted = noted("delete", deleted);
        if deleted == Err(ObjectError::NotFound) { Ok(()) } else { deleted }
    }

    /// Brings an object of at most `limit` bytes here, where nobody can change it.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn fetch(&self, key: &str, limit: u64, spools: &Spools) -> Result<Spool, ObjectError> {
        let fetched = match self {
            Self::Local(local) => local.fetch(key, limit, spools).await,
            Self::S3(s3) => s3.fetch(key, limit, spools).await,
        };
        noted("fetch", fetched)
    }

    /// Whether the store works.
    ///
    /// # Errors
    /// [`ObjectError`] when it does not.
    pub async fn check(&self) -> Result<(), ObjectError> {
        let checked = match self {
            Self::Local(local) => local.check().await,
            Self::S3(s3) => s3.check().await,
        };
        noted("check", checked)
    }
}

/// Counts what became of a request to the store.
fn noted<T>(operation: &'static str, done: Result<T, ObjectError>) -> Result<T, ObjectError> {
    let outcome = match &done {
        Ok(_) => "done",
        Err(ObjectError::NotFound) => "not_found",
        Err(ObjectError::TooLarge) => "too_large",
        Err(ObjectError::Unavailable(_)) => "unavailable",
    };
    measure::object_store(operation, outcome);
    done
}
