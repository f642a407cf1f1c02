//! From a key to who it is: looked up, remembered for a second, compared in constant time.
//!
//! A remembered key is read anew once it is half a second old, beside the requests, and never used when it is
//! a second old. What is changed here counts at once: a change makes everything that was read before it old.

use super::model::{Key, Standing};
use super::store::{self, StoredSecret};
use super::{edits, text};
use crate::auth::ServicePrincipal;
use crate::db::{Db, DbError};
use crate::measure;
use crate::writer::{Command, Writer};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use kernel::{Clock, Timestamp};
use quick_cache::sync::Cache;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long what was read of a key is used.
pub const FRESH: Duration = Duration::from_secs(1);
/// From which age on it is read anew, beside the requests.
const AGEING: Duration = Duration::from_millis(500);
/// How many keys are remembered, those that do not exist included.
const REMEMBERED_MAX: usize = 10_000;
/// How often the use of a key is written down.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// Why a key is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has not the form of one, or its checksum is wrong.
    #[error("the key is malformed")]
    Malformed,
    /// There is no such key.
    #[error("the key is unknown")]
    Unknown,
    /// Its secret is wrong, or one whose overlap is over.
    #[error("the key's secret is wrong")]
    Secret,
    /// Its time is over.
    #[error("the key is expired")]
    Expired,
    /// Somebody took it back.
    #[error("the key is revoked")]
    Revoked,
    /// It may not be used from there.
    #[error("the key is not for this address")]
    Address,
    /// It cannot be looked up.
    #[error("the key cannot be looked up: {0}")]
    Unavailable(String),
}

impl KeyError {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Secret => "wrong_secret",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Address => "wrong_address",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// The keys, as far as they are known. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    db: Db,
    writer: Writer,
    clock: Clock,
    remembered: Cache<Arc<str>, Arc<Remembered>>,
    /// How many changes were made here.
    changes: AtomicU64,
}

/// What was read of a key, and when.
struct Remembered {
    read_at: Instant,
    changes: u64,
    refreshing: AtomicBool,
    found: Option<Live>,
}

struct Live {
    key: Key,
    secrets: Vec<StoredSecret>,
    principal: ServicePrincipal,
    /// Up to when its use was written down, in microseconds.
    noted: Arc<AtomicI64>,
}

impl Keys {
    /// The keys of a database.
    #[must_use]
    pub fn new(db: Db, writer: Writer, clock: Clock) -> Self {
        let remembered = Cache::new(REMEMBERED_MAX);
        Self(Arc::new(Inner { db, writer, clock, remembered, changes: AtomicU64::new(0) }))
    }

    /// Who a key is, used from that address.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn authenticate(
        &self,
        key: &[u8],
        address: Option<IpAddr>,
    ) -> Result<ServicePrincipal, KeyError> {
        let found = self.judge(key, address).await;
        measure::service_key_use(found.as_ref().map_or_else(KeyError::outcome, |_| "accepted"));
        found
    }

    /// Whether the key of that id works, whoever has it.
    ///
    /// # Errors
    /// [`KeyError::Unavailable`].
    pub async fn is_active(&self, key_id: &str) -> Result<bool, KeyError> {
        let remembered = self.remembered(key_id).await?;
        let now = self.0.clock.now();
        Ok(remembered.found.as_ref().is_some_and(|live| live.key.standing(now) == Standing::Active))
    }

    /// Says that a key was changed here, so that nothing that was read before counts.
    pub fn changed(&self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
    }

    async fn judge(&self, key: &[u8], address: Option<IpAddr>) -> Result<ServicePrincipal, KeyError> {
        let key_id = text::id_of(key).ok_or(KeyError::Malformed)?;
        let remembered = self.remembered(key_id).await?;
        let live = remembered.found.as_ref().ok_or(KeyError::Unknown)?;
        let now = self.0.clock.now();
        match live.key.standing(now) {
            Standing::Revoked => return Err(KeyError::Revoked),
            Standing::Expired => return Err(KeyError::Expired),
            Standing::Active => {}
        }
        let digest = text::digest_of(key);
        let mut valid = live.secrets.iter().filter(|secret| secret.expires_at.is_none_or(|end| end > now));
        if !valid.any(|secret| verify_slices_are_equal(&secret.digest, &digest).is_ok()) {
            return Err(KeyError::Secret);
        }
        if !live.key.may_come_from(address) {
            return Err(KeyError::Address);
        }
        self.note_use(live, now);
        Ok(live.principal.clone())
    }

    /// What is known of a key, read less than a second ago and after the last change here.
    async fn remembered(&self, key_id: &str) -> Result<Arc<Remembered>, KeyError> {
        let known = self.0.remembered.get(key_id);
        if let Some(known) = &known {
            let age = known.read_at.elapsed();
            if known.changes == self.0.changes.load(Ordering::SeqCst) && age < FRESH {
                // The first to see that it ages has it read anew; nobody waits for that.
                if age >= AGEING && !known.refreshing.swap(true, Ordering::Relaxed) {
                    let (keys, key_id, known) = (self.clone(), key_id.to_owned(), Arc::clone(known));
                    tokio::spawn(async move { keys.read(&key_id, Some(&known)).await });
                }
                return Ok(Arc::clone(known));
            }
        }
        self.read(key_id, known.as_deref()).await.map_err(|error| KeyError::Unavailable(error.to_string()))
    }

    async fn read(&self, key_id: &str, before: Option<&Remembered>) -> Result<Arc<Remembered>, DbError> {
        // Both before the read: what is changed meanwhile makes it old.
        let (read_at, changes) = (Instant::now(), self.0.changes.load(Ordering::SeqCst));
        let found = store::find(&self.0.db, key_id, self.0.clock.now()).await?;
        let secrets = match &found {
            Some(_) => store::secrets(&self.0.db, key_id).await?,
            None => Vec::new(),
        };
        let found = found.map(|key| Live {
            principal: ServicePrincipal {
                key_id: key.key_id.as_str().into(),
                scopes: key.scopes,
                requests_per_minute: key.requests_per_minute,
            },
            noted: before.and_then(|before| before.found.as_ref()).map_or_else(
                || Arc::new(AtomicI64::new(key.last_used_at.map_or(i64::MIN, Timestamp::micros))),
                |live| Arc::clone(&live.noted),
            ),
            secrets,
            key,
        });
        let remembered = Arc::new(Remembered { read_at, changes, refreshing: AtomicBool::new(false), found });
        self.0.remembered.insert(key_id.into(), Arc::clone(&remembered));
        Ok(remembered)
    }

    /// Has the use of a key written down, beside the request, unless that was done within the minute.
    fn note_use(&self, live: &Live, now: Timestamp) {
        let (noted, at) = (live.noted.load(Ordering::Relaxed), now.micros());
        let due = i64::try_from(NOTED_EVERY.as_micros()).unwrap_or(i64::MAX);
        let mine = noted.saturating_add(due) <= at
            && live.noted.compare_exchange(noted, at, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            let (writer, edit) = (self.0.writer.clone(), edits::used(&live.key.key_id, now));
            tokio::spawn(async move {
                if let Err(error) = writer.execute(Command::Edit(edit)).await {
                    tracing::debug!(%error, "the use of a service key was not written down");
                }
            });
        }
    }
}
