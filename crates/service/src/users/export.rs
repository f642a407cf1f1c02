//! Everything that is kept about a user, as one archive.
//!
//! A ZIP whose members are JSON Lines, one per table, the files as they were uploaded, and a manifest at
//! its end. It is written while it is read: a page of rows or a piece of a file is in memory at a time,
//! and the next one is made when the client has taken the last. It is no snapshot: what changes meanwhile
//! may be in it or not. One that breaks off has no end, and no tool opens it.

use super::export_tables::{self as tables, Cells, Table};
use crate::app::App;
use crate::auth::grants::UserRef;
use crate::db::{DbError, Value};
use crate::files::objects::{ObjectError, key};
use crate::files::{self, model::Status, model::StoredFile};
use crate::measure;
use bytes::Bytes;
use serde_json::{Map, json};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, StreamWriter, ZipWriter};

/// How many archives a process writes at once.
pub const EXPORTS_MAX: usize = 4;
/// How many rows are read at once; fewer where they are large.
const ROWS_AT_ONCE: i64 = 500;
/// How many files are listed at once.
const FILES_AT_ONCE: i64 = 100;
/// How large a piece of the archive is.
const PIECE_BYTES: usize = 64 * 1024;
/// How many pieces wait for the client.
const PIECES_MAX: usize = 4;
/// How long a client may take for a piece.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a whole archive may take, so that nobody keeps a turn for ever.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Why an archive breaks off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database.
    #[error("{0}")]
    Db(#[from] DbError),
    /// The store of files.
    #[error("{0}")]
    Files(#[from] ObjectError),
    /// The archive, or the client that takes it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The archive's form.
    #[error("{0}")]
    Zip(#[from] zip::result::ZipError),
}

/// The pieces of an archive, in their order; an error is the last one.
pub type Pieces = mpsc::Receiver<Result<Bytes, io::Error>>;

/// Begins to write a user's archive on a thread of its own.
#[must_use]
pub fn begin(app: Arc<App>, user: UserRef, turn: OwnedSemaphorePermit) -> Pieces {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let out = Out {
            handle: handle.clone(),
            sender: sender.clone(),
            piece: Vec::with_capacity(PIECE_BYTES),
            ends: Instant::now() + ARCHIVE_TIMEOUT,
        };
        let mut archive = Archive { app, user, handle, zip: ZipWriter::new_stream(out), members: Map::new() };
        let written = archive.write_all().and_then(|()| archive.finish());
        measure::exported(written.is_ok());
        if let Err(error) = written {
            tracing::warn!(%error, "an export broke off");
            let _ = sender.try_send(Err(io::Error::other("the export broke off")));
        }
    });
    pieces
}

/// Where the archive goes: pieces for the client, which says when the next one is wanted.
struct Out {
    handle: Handle,
    sender: mpsc::Sender<Result<Bytes, io::Error>>,
    piece: Vec<u8>,
    ends: Instant,
}

impl Out {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let patience = PIECE_TIMEOUT.min(self.ends.saturating_duration_since(Instant::now()));
        let sent = tokio::time::timeout(patience, self.sender.send(Ok(piece.into())));
        let sent = self.handle.block_on(sent);
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len().min(PIECE_BYTES));
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Archive {
    app: Arc<App>,
    user: UserRef,
    handle: Handle,
    zip: ZipWriter<StreamWriter<Out>>,
    /// How many lines or bytes each member has.
    members: Map<String, serde_json::Value>,
}

impl Archive {
    fn write_all(&mut self) -> Result<(), ExportError> {
        let row = self.user.row.0;
        for table in tables::OF_USER {
            self.member(table.name, table, &[row])?;
        }
        // Messages and memories hang on sessions, and are found by them.
        let sessions = self.session_rows()?;
        for table in tables::OF_SESSION {
            self.member(table.name, table, &sessions)?;
        }
        self.files()
    }

    /// One member with the rows of a table that belong to these owners.
    fn member(&mut self, name: &str, table: &Table, owners: &[i64]) -> Result<(), ExportError> {
        self.zip.start_file(name, options(CompressionMethod::Deflated))?;
        let mut lines = 0_u64;
        for owner in owners {
            let mut after = (i64::MIN, i64::MIN);
            loop {
                let values: Vec<Value> =
                    vec![(*owner).into(), after.0.into(), after.1.into(), (ROWS_AT_ONCE + 1).into()];
                let page =
                    self.handle.block_on(self.app.db.page::<Cells>(table.sql, values, ROWS_AT_ONCE))?;
                for row in &page.rows {
                    serde_json::to_writer(&mut self.zip, &table.line(row)).map_err(io::Error::from)?;
                    self.zip.write_all(b"\n")?;
                    lines += 1;
                }
                let Some(last) = page.rows.last().filter(|_| page.more) else { break };
                after = last.place();
            }
        }
        self.members.insert(name.to_owned(), json!({ "lines": lines }));
        Ok(())
    }

    fn session_rows(&self) -> Result<Vec<i64>, ExportError> {
        let sql = "SELECT id FROM sessions WHERE user_id = $1 AND deleted_at IS NULL ORDER BY created_at, id";
        Ok(self.handle.block_on(self.app.db.query::<i64>(sql, vec![self.user.row.0.into()]))?)
    }

    /// The files as they were uploaded.
    fn files(&mut self) -> Result<(), ExportError> {
        let mut after = 0;
        loop {
            let listed = files::store::of_user(&self.app.db, self.user.row, after, FILES_AT_ONCE);
            let listed = self.handle.block_on(listed)?;
            let Some(last) = listed.last() else { return Ok(()) };
            after = last.id;
            for file in listed.iter().filter(|file| file.status == Status::Stored) {
                self.file(file)?;
            }
        }
    }

    fn file(&mut self, file: &StoredFile) -> Result<(), ExportError> {
        let files = &self.app.files;
        let size = u64::try_from(file.size).unwrap_or(0);
        let key = key(file.user, &file.path);
        let fetched = files.objects.fetch(&key, size, &files.spools);
        let spool = match self.handle.block_on(fetched) {
            Ok(spool) => spool,
            // It was deleted meanwhile.
            Err(ObjectError::NotFound) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The bytes are compressed as far as their kind is.
        self.zip.start_file(&file.path, options(CompressionMethod::Stored))?;
        let bytes = io::copy(&mut std::fs::File::open(spool.path())?, &mut self.zip)?;
        self.members.insert(file.path.clone(), json!({ "bytes": bytes, "sha256": file.sha256 }));
        Ok(())
    }

    fn finish(mut self) -> Result<(), ExportError> {
        let manifest = json!({
            "service": "User Service",
            "format": 1,
            "user_id": self.user.auth0_id,
            "exported_at": self.app.clock.now(),
            "members": self.members,
        });
        self.zip.start_file("manifest.json", options(CompressionMethod::Deflated))?;
        serde_json::to_writer_pretty(&mut self.zip, &manifest).map_err(io::Error::from)?;
        let mut out = self.zip.finish()?.into_inner();
        out.send()?;
        Ok(())
    }
}

fn options(method: CompressionMethod) -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(method).large_file(true)
}
