//! What every request must know of identities without asking the database: who is suspended, and
//! which other ids name a user since two identities of one person were merged.
//!
//! The book is read without a lock and replaced as a whole. Each suspension, reactivation, merge and
//! erasure moves its revision in its own transaction; the process that did it reads the book again
//! before it answers, the others ask for the revision twice a second. Where the database is away, the
//! last book stays in force.

use super::store;
use crate::app::App;
use crate::auth::grants::UserRef;
use crate::db::{Db, DbError};
use crate::live::Topic;
use crate::measure;
use arc_swap::ArcSwap;
use kernel::{ExternalId, UserRowId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How often a process asks whether another one changed the book: within a second it is everywhere.
const LOOK: Duration = Duration::from_millis(500);

/// Who is suspended, and who is somebody else.
#[derive(Debug, Default)]
pub struct Book {
    /// Moves with every change.
    pub revision: i64,
    /// Suspended users, by both ids.
    pub suspended: HashMap<ExternalId, UserRowId>,
    /// Their rows.
    pub suspended_rows: HashSet<UserRowId>,
    /// The users that other ids name.
    pub aliases: HashMap<ExternalId, UserRef>,
}

impl Book {
    /// The id of the user that this id names.
    #[must_use]
    pub fn survivor<'a>(&'a self, id: &'a ExternalId) -> &'a ExternalId {
        self.aliases.get(id).map_or(id, |user| &user.auth0_id)
    }

    /// Whether the user is suspended.
    #[must_use]
    pub fn is_suspended(&self, id: &ExternalId) -> bool {
        self.suspended.contains_key(id)
    }
}

/// The book, and the way to read it again.
pub struct Identities {
    book: ArcSwap<Book>,
    /// Who reads the database holds it, so that no older book replaces a newer one.
    reading: Mutex<()>,
}

impl Identities {
    /// Reads the book.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn open(db: &Db) -> Result<Self, DbError> {
        let book = store::identities(db).await?;
        measure::identities(book.suspended.len(), book.aliases.len());
        Ok(Self { book: ArcSwap::from_pointee(book), reading: Mutex::new(()) })
    }

    /// The book as it is now.
    #[must_use]
    pub fn book(&self) -> Arc<Book> {
        self.book.load_full()
    }
}

/// Reads the book again after a change that is committed, forgets what may have become wrong, and wakes
/// the streams of those who were suspended. Where that fails, the next look does it.
pub async fn refresh(app: &App) {
    let _reading = app.identities.reading.lock().await;
    match store::identities(&app.db).await {
        Ok(book) => {
            let book = Arc::new(book);
            measure::identities(book.suspended.len(), book.aliases.len());
            let before = app.identities.book.swap(Arc::clone(&book));
            // Ids may name other rows now.
            app.row_ids.clear();
            app.session_refs.clear();
            let suspended = book.suspended_rows.difference(&before.suspended_rows);
            app.live.ring(suspended.flat_map(|user| [Topic::User(*user), Topic::Edits(*user)]));
        }
        Err(error) => tracing::warn!(%error, "who is suspended could not be read; it is read again soon"),
    }
}

/// Follows what other processes change, until the task is aborted.
pub async fn follow(app: Arc<App>) {
    let mut again = false;
    loop {
        tokio::time::sleep(LOOK).await;
        match store::identity_revision(&app.db).await {
            Ok(revision) if revision != app.identities.book().revision => {
                refresh(&app).await;
                again = true;
            }
            // Whoever looked an id up before the change may have remembered it after.
            Ok(_) if again => {
                app.row_ids.clear();
                app.session_refs.clear();
                again = false;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the revision of identities could not be read"),
        }
    }
}
