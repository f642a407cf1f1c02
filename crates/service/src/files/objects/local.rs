//! Objects as files below the data folder.
//!
//! An upload's spool is on the same file system, so storing is a rename: an object is there whole or
//! not at all. File and folder are written to the disk before the rename counts as done.

use super::ObjectError;
use crate::files::spool::{Spool, Spools};
use crate::http::facts;
use object_store::ObjectStoreExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// How often a folder is made again that a deletion next to it has just removed.
const ATTEMPTS: usize = 5;

/// How many files are moved to their place at a time: each takes a thread that waits for the disk, and a
/// thread takes megabytes.
const MOVES_MAX: usize = 4;

/// The folder.
pub struct Local {
    moves: Semaphore,
    root: PathBuf,
    store: Arc<LocalFileSystem>,
}

impl Local {
    /// Makes the folder where it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        // Folders that a deletion leaves empty go with it.
        let store = LocalFileSystem::new_with_prefix(&root)?.with_automatic_cleanup(true);
        Ok(Self { moves: Semaphore::new(MOVES_MAX), root, store: Arc::new(store) })
    }

    /// Where an object is.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`] when no object can have that key.
    pub fn path(&self, key: &str) -> Result<PathBuf, ObjectError> {
        let key = Key::parse(key).map_err(|_| ObjectError::NotFound)?;
        self.store.path_to_filesystem(&key).map_err(|_| ObjectError::NotFound)
    }

    /// Moves a file to its place; its ETag is its SHA-256.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn put(&self, key: &str, file: Spool) -> Result<String, ObjectError> {
        let (to, root) = (self.path(key)?, self.root.clone());
        let _turn =
            self.moves.acquire().await.map_err(|error| ObjectError::Unavailable(error.to_string()))?;
        spawn_blocking(move || {
            File::open(file.path())?.sync_all()?;
            move_into(file.path(), &to, &root)?;
            Ok(file.hex())
        })
        .await
        .map_err(|error| ObjectError::Unavailable(error.to_string()))?
    }

    /// Removes an object.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let key = Key::parse(key).map_err(|_| ObjectError::NotFound)?;
        Ok(self.store.delete(&key).await?)
    }

    /// Takes an object under a second name. It is never written to: uploads replace it whole.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn fetch(&self, key: &str, limit: u64, spools: &Spools) -> Result<Spool, ObjectError> {
        let file = spools.link(self.path(key)?).await?;
        if file.size > limit { Err(ObjectError::TooLarge) } else { Ok(file) }
    }

    /// Writes and removes a small file.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn check(&self) -> Result<(), ObjectError> {
        let probe = self.root.join(format!(".health.{}", facts::fresh_id()));
        let checked = spawn_blocking(move || {
            std::fs::write(&probe, b"ok")?;
            std::fs::remove_file(&probe)
        });
        let checked = checked.await.map_err(io::Error::other).flatten();
        checked.map_err(|error| ObjectError::Unavailable(error.to_string()))
    }
}

/// Renames, making the folders on the way, and writes the folders down.
fn move_into(from: &Path, to: &Path, root: &Path) -> Result<(), ObjectError> {
    let folder = to.parent().unwrap_or(root);
    let mut attempt = 0;
    let made = loop {
        let made = !folder.exists();
        std::fs::create_dir_all(folder)?;
        match std::fs::rename(from, to) {
            Ok(()) => break made,
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    };
    let mut folder = Some(folder);
    while let Some(at) = folder.filter(|at| at.starts_with(root)) {
        File::open(at)?.sync_all()?;
        folder = at.parent().filter(|_| made);
    }
    Ok(())
}
