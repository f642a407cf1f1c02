//! Files: uploaded by users, told by their bytes, kept in a folder or a bucket, fetched by addresses
//! that carry their permission.
//!
//! What always holds: a file that is seen is stored whole, is of an accepted kind and counts against
//! its user's quota. Row first, bytes second: no object is without a row that leads to it, so what a
//! crash leaves is found and removed ([`sweeper`]). Users are kept apart by their row ids; the public
//! path says the external id.
//!
//! Reading order: [`model`], [`kind`], [`name`], [`spool`], [`objects`], [`signature`], [`edits`],
//! [`keep`] (from a spool to a stored file), [`receive`], [`upload`], [`address`], [`api`], [`direct`],
//! [`serve`], [`store`], [`sweeper`], [`retention`].

pub mod address;
pub mod api;
pub mod direct;
pub mod edits;
pub mod keep;
pub mod kind;
pub mod model;
pub mod name;
pub mod objects;
pub mod receive;
pub mod retention;
pub mod serve;
pub mod signature;
pub mod spool;
pub mod store;
pub mod sweeper;
pub mod turns;
pub mod upload;

use crate::config::Config;
use crate::http::{ApiError, facts};
use objects::Objects;
use parking_lot::Mutex;
use signature::Signer;
use spool::Spools;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use turns::Turns;

/// How many files are looked into at a time: it takes a processor, and memory for old workbooks.
const LOOKS_MAX: usize = 2;
/// How long the object store's health is believed.
const HEALTH_LIFE: Duration = Duration::from_secs(2);

/// What files need of the process.
pub struct Files {
    /// Where the bytes are.
    pub objects: Objects,
    /// Where uploads wait.
    pub spools: Spools,
    /// Signs addresses on this machine's disk.
    pub signer: Signer,
    /// Whether no other process has the same database.
    pub alone: bool,
    /// Turns to receive an upload.
    pub turns: Turns,
    looks: Semaphore,
    health: Mutex<Option<(Instant, bool)>>,
}

impl Files {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn open(config: &Config, alone: bool) -> Result<Self, String> {
        let data_dir = &config.data_dir;
        let unusable = |what: &str| {
            let what = what.to_owned();
            move |error| format!("DATA_DIR: {what} cannot be used: {error}")
        };
        Ok(Self {
            objects: Objects::open(config)?,
            spools: Spools::open(data_dir, &facts::fresh_id()).map_err(unusable("the folder for uploads"))?,
            signer: Signer::open(&data_dir.join("files.key")).map_err(unusable("files.key"))?,
            alone,
            turns: Turns::default(),
            looks: Semaphore::new(LOOKS_MAX),
            health: Mutex::new(None),
        })
    }

    /// Waits for a turn to look into a file.
    async fn look(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.looks.acquire().await.map_err(|error| ApiError::internal(error.to_string()))
    }

    /// Whether the object store works, as of two seconds ago at most.
    pub async fn healthy(&self) -> bool {
        let known = *self.health.lock();
        if let Some((at, healthy)) = known
            && at.elapsed() < HEALTH_LIFE
        {
            return healthy;
        }
        let checked = self.objects.check().await;
        if let Err(error) = &checked {
            tracing::warn!(%error, "the object store is not healthy");
        }
        *self.health.lock() = Some((Instant::now(), checked.is_ok()));
        checked.is_ok()
    }
}
