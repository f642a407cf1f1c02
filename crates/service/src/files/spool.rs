//! Where uploads wait: files of this process that hold what a client sends until it is known to be
//! whole, small enough and of an accepted kind.
//!
//! A spool is removed when it is dropped, and with the whole folder when its process has died: the
//! folder is locked while its process lives, and the next sweep of anybody removes the others.
//! Memory is one buffer per upload.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// How many bytes are gathered before they are hashed and written.
const BUFFER_BYTES: usize = 64 * 1024;
/// How many spools are written to at a time: each takes a thread, and the disk gains nothing by more.
const WRITES_MAX: usize = 4;
/// The file that is locked while the folder's process lives.
const LOCK: &str = "lock";

/// The folder of this process.
pub struct Spools {
    all: PathBuf,
    own: PathBuf,
    next: AtomicU64,
    writes: Arc<Semaphore>,
    _lock: File,
}

impl Spools {
    /// Makes and locks a folder of that unique name below `uploads` in the data folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(data_dir: &Path, unique: &str) -> io::Result<Self> {
        let all = data_dir.join("uploads");
        let own = all.join(unique);
        std::fs::create_dir_all(&all)?;
        // Locked under another name first, so that no sweep meets it unlocked.
        let fresh = all.join(format!("{LOCK}.{unique}"));
        let lock = File::create(&fresh)?;
        lock.lock()?;
        std::fs::create_dir(&own)?;
        std::fs::rename(&fresh, own.join(LOCK))?;
        Ok(Self {
            all,
            own,
            next: AtomicU64::new(0),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            _lock: lock,
        })
    }

    /// Removes the folders of processes that have died, and says how many.
    ///
    /// # Errors
    /// When a folder cannot be read or removed.
    pub fn sweep(&self) -> io::Result<usize> {
        let mut swept = 0;
        for entry in std::fs::read_dir(&self.all)? {
            let path = entry?.path();
            let (file, folder) = if path.is_dir() { (path.join(LOCK), true) } else { (path.clone(), false) };
            if path == self.own {
                continue;
            }
            let dead = match OpenOptions::new().write(true).open(&file) {
                Ok(lock) => lock.try_lock().is_ok(),
                // A folder without a lock is just being made, unless it has been there for long.
                Err(_) => path
                    .metadata()
                    .and_then(|about| about.modified())
                    .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > std::time::Duration::from_secs(60))),
            };
            if dead {
                if folder {
                    std::fs::remove_dir_all(&path)?
                } else {
                    std::fs::remove_file(&path)?
                }
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn path(&self) -> SpoolPath {
        SpoolPath(self.own.join(self.next.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    /// Begins to receive a file.
    ///
    /// # Errors
    /// When no file can be made.
    pub async fn receive(&self) -> io::Result<Receiving> {
        let path = self.path();
        let at = path.0.clone();
        let turn = Arc::clone(&self.writes).acquire_owned().await.map_err(io::Error::other)?;
        let made = spawn_blocking(move || {
            let _turn = turn;
            File::create_new(at)
        });
        let file = made.await??;
        let state = State { file, hash: Context::new(&SHA256) };
        let writes = Arc::clone(&self.writes);
        Ok(Receiving { path, state: Some(state), writes, buffer: Vec::new(), size: 0 })
    }

    /// Takes a file that nobody writes to any more under a second name, and reads it through.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is none.
    pub async fn link(&self, from: PathBuf) -> io::Result<Spool> {
        let path = self.path();
        spawn_blocking(move || {
            if std::fs::hard_link(&from, &path.0).is_err() {
                std::fs::copy(&from, &path.0)?;
            }
            let mut file = File::open(&path.0)?;
            let mut hash = Context::new(&SHA256);
            let mut buffer = vec![0; BUFFER_BYTES];
            let mut size = 0;
            loop {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    return Ok(Spool { path, size, sha256: digest(hash) });
                }
                hash.update(&buffer[..read]);
                size += read as u64;
            }
        })
        .await?
    }
}

impl Drop for Spools {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.own);
    }
}

/// A path whose file is removed with it.
#[derive(Debug)]
struct SpoolPath(PathBuf);

impl Drop for SpoolPath {
    fn drop(&mut self) {
        // It may have been moved to where it belongs.
        let _ = std::fs::remove_file(&self.0);
    }
}

struct State {
    file: File,
    hash: Context,
}

/// A file that is being received.
pub struct Receiving {
    path: SpoolPath,
    state: Option<State>,
    writes: Arc<Semaphore>,
    buffer: Vec<u8>,
    size: u64,
}

impl Receiving {
    /// How many bytes have come so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn push(&mut self, bytes: &Bytes) -> io::Result<()> {
        self.size += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> io::Result<()> {
        let mut state = self.state.take().ok_or_else(|| io::Error::other("an earlier write failed"))?;
        let turn = Arc::clone(&self.writes).acquire_owned().await.map_err(io::Error::other)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let (state, buffer) = spawn_blocking(move || {
            let _turn = turn;
            state.hash.update(&buffer);
            state.file.write_all(&buffer)?;
            buffer.clear();
            Ok::<_, io::Error>((state, buffer))
        })
        .await??;
        self.state = Some(state);
        self.buffer = buffer;
        Ok(())
    }

    /// Everything has come.
    ///
    /// # Errors
    /// When the last bytes cannot be written.
    pub async fn finish(mut self) -> io::Result<Spool> {
        self.write().await?;
        let state = self.state.take().ok_or_else(|| io::Error::other("an earlier write failed"))?;
        Ok(Spool { path: self.path, size: self.size, sha256: digest(state.hash) })
    }
}

fn digest(hash: Context) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

/// A file that was received whole.
#[derive(Debug)]
pub struct Spool {
    path: SpoolPath,
    /// How many bytes it has.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

impl Spool {
    /// Where it is, until this is dropped.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path.0
    }

    /// The SHA-256 in hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.sha256)
    }
}

/// Bytes as hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
