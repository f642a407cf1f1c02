//! The book in memory: read without a lock, replaced as a whole when the database has a newer one.

use super::book::Book;
use super::import::{self, Import};
use super::litellm::{self, List};
use super::store;
use super::version::PriceVersion;
use crate::db::{Db, DbError};
use crate::writer::Writer;
use arc_swap::ArcSwap;
use kernel::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// How often a process asks whether another one changed the prices.
const LOOK: Duration = Duration::from_secs(1);
/// What the versions of the bundled price list say of where they come from.
const STARTER_SOURCE: &str = "starter";
/// Its text.
const STARTER: &str = include_str!("../../assets/prices.json");

/// The prices. Cheap to clone.
#[derive(Clone)]
pub struct Prices {
    shelf: Arc<Shelf>,
}

struct Shelf {
    db: Db,
    book: ArcSwap<Book>,
    /// Who reads the database holds it, so that no older book replaces a newer one.
    reading: Mutex<()>,
}

impl Prices {
    /// Reads the prices. Where there are none yet, the starter list is written first, in force since 1970.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn open(db: &Db, writer: &Writer, now: Timestamp) -> Result<Self, DbError> {
        let mut book = store::book(db).await?;
        if book.models().is_empty() {
            let starter = Import {
                source: STARTER_SOURCE.to_owned(),
                actor: "system".to_owned(),
                effective_at: Timestamp::default(),
                now,
            };
            let list = starter_list()?;
            // Replicas that start together do it together; who is second finds it done.
            import::run(db, writer, &starter, &list, |_| {}).await.map_err(|e| e.into_db())?;
            book = store::book(db).await?;
        }
        let shelf = Shelf { db: db.clone(), book: ArcSwap::from_pointee(book), reading: Mutex::new(()) };
        Ok(Self { shelf: Arc::new(shelf) })
    }

    /// The prices as they are now; hold on to it as long as one thing is being priced.
    #[must_use]
    pub fn book(&self) -> Arc<Book> {
        self.shelf.book.load_full()
    }

    /// Reads the database again.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn reload(&self) -> Result<Arc<Book>, DbError> {
        let _reading = self.shelf.reading.lock().await;
        let book = Arc::new(store::book(&self.shelf.db).await?);
        self.shelf.book.store(Arc::clone(&book));
        Ok(book)
    }

    /// Reads the database again after a change that is committed. Where that fails, the next look does it.
    pub async fn refresh(&self) {
        if let Err(error) = self.reload().await {
            tracing::warn!(%error, "the changed prices could not be read; they are read again soon");
        }
    }

    /// Follows what other processes change, until the task is aborted.
    #[must_use]
    pub fn follow(&self) -> JoinHandle<()> {
        let prices = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                match store::revision(&prices.shelf.db).await {
                    Ok(revision) if revision != prices.book().revision => prices.refresh().await,
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "the prices' revision could not be read"),
                }
            }
        })
    }
}

/// What the starter list says, as the first start writes it.
///
/// # Errors
/// [`DbError::Internal`] when the binary was built with a broken one.
pub fn starter(now: Timestamp) -> Result<Vec<PriceVersion>, DbError> {
    let list = starter_list()?;
    let versions = list.0.iter().map(|(model, text)| {
        let listed = litellm::read(model, text)
            .map_err(|why| DbError::Internal(format!("assets/prices.json: {model}: {why}")))?;
        Ok(PriceVersion {
            model: model.as_str().into(),
            version: 1,
            effective_at: Timestamp::default(),
            created_at: now,
            tariff: listed.tariff,
            source: STARTER_SOURCE.to_owned(),
            actor: "system".to_owned(),
        })
    });
    versions.collect()
}

/// The bundled list.
///
/// # Errors
/// [`DbError::Internal`] when the binary was built with a broken one.
fn starter_list() -> Result<List, DbError> {
    serde_json::from_str(STARTER).map_err(|e| DbError::Internal(format!("assets/prices.json: {e}")))
}
