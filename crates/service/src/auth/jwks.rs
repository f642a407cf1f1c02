//! The signing keys of an identity provider, fetched in the background and kept through outages.
//!
//! What always holds:
//! - One task per provider fetches, so there is never more than one fetch at a time, and a caller
//!   that goes away does not end one. The task ends when its [`Jwks`] is dropped.
//! - Only the configured address is fetched, and with discovery the one that the provider's own document
//!   names, without redirects, within a time and a size. Nothing that a token says is ever an address.
//! - A failed fetch of whatever kind leaves the last good keys in place.
//! - A key id that nobody knows costs the provider at most one fetch per [`Limits::refetch`].

use super::config::KeySource;
use super::discovery;
use super::key_set::KeySet;
use super::token::Refusal;
use crate::measure;
use arc_swap::{ArcSwapOption, Guard};
use kernel::{Clock, Timestamp};
use reqwest::{Client, StatusCode, Url, redirect};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::{error::Error as _, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time};

/// The longest key document, or document of discovery, that is read, in bytes.
pub const DOCUMENT_MAX_BYTES: usize = 256 * 1024;

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest that a fetch of one document may take.
    pub fetch: Duration,
    /// The longest that a request waits for a fetch.
    pub wait: Duration,
    /// The shortest time between two fetches that unknown key ids ask for.
    pub refetch: Duration,
    /// The pause after a fetch that went well.
    pub refresh: Duration,
    /// The pause after a fetch that failed.
    pub retry: Duration,
    /// The pause after the first fetch, if it failed; it doubles up to [`Limits::retry`] until there are keys.
    pub first_retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(5),
            wait: Duration::from_secs(2),
            refetch: Duration::from_secs(30),
            refresh: Duration::from_secs(600),
            retry: Duration::from_secs(30),
            first_retry: Duration::from_secs(1),
        }
    }
}

/// How the keys of a provider are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyState {
    /// Fetched, and the last fetch went well.
    Ok,
    /// Fetched once, but the last fetch failed.
    Stale,
    /// Never fetched.
    Unavailable,
}

impl KeyState {
    /// The state's word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stale => "stale",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The keys of one identity provider.
pub struct Jwks {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    provider: String,
    source: KeySource,
    client: Client,
    clock: Clock,
    limits: Limits,
    keys: ArcSwapOption<KeySet>,
    failing: AtomicBool,
    /// Whether the issuer said last that it has no key.
    keyless: AtomicBool,
    /// When the keys were last fetched, in microseconds.
    fetched_at: AtomicI64,
    round: watch::Sender<Round>,
}

/// Where the fetching stands; requests and the task wait for it to change.
struct Round {
    /// A fetch is wanted or under way.
    fetching: bool,
    /// When an unknown key id last asked for a fetch.
    asked: Option<Timestamp>,
}

impl Jwks {
    /// Starts to fetch the keys of a provider; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When no HTTPS client can be made, for want of root certificates.
    pub fn start(
        provider: &str,
        source: KeySource,
        clock: Clock,
        limits: Limits,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::builder().redirect(redirect::Policy::none()).timeout(limits.fetch).build()?;
        let shared = Arc::new(Shared {
            provider: provider.to_owned(),
            source,
            client,
            clock,
            limits,
            keys: ArcSwapOption::empty(),
            failing: AtomicBool::new(false),
            keyless: AtomicBool::new(false),
            fetched_at: AtomicI64::new(0),
            round: watch::Sender::new(Round { fetching: true, asked: None }),
        });
        let task = tokio::spawn(keep_fresh(Arc::clone(&shared)));
        Ok(Self { shared, task })
    }

    /// How the keys are.
    #[must_use]
    pub fn state(&self) -> KeyState {
        match (self.shared.keys.load().is_some(), self.shared.failing.load(Ordering::Relaxed)) {
            (false, _) => KeyState::Unavailable,
            (true, true) => KeyState::Stale,
            (true, false) => KeyState::Ok,
        }
    }

    /// How long ago the keys were last fetched, where they ever were.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let fetched = self.shared.fetched_at.load(Ordering::Relaxed);
        let age = self.shared.clock.now().micros().saturating_sub(fetched).max(0);
        (fetched > 0).then(|| Duration::from_micros(age.unsigned_abs()))
    }

    /// The keys as they are now.
    pub fn current(&self) -> Guard<Option<Arc<KeySet>>> {
        self.shared.keys.load()
    }

    /// A key set that has the key `key_id`, fetched anew where that is due.
    ///
    /// # Errors
    /// [`Refusal::KeyId`], or [`Refusal::KeysUnavailable`] while the issuer never said which keys it has.
    pub async fn having(&self, key_id: &str) -> Result<Arc<KeySet>, Refusal> {
        let known = |keys: &Arc<KeySet>| keys.has(key_id);
        if let Some(keys) = self.shared.keys.load_full().filter(known) {
            return Ok(keys);
        }
        let mut round = self.shared.round.subscribe();
        self.shared.ask();
        // Whoever waits in vain is answered from what there is.
        let _ = time::timeout(self.shared.limits.wait, until(&mut round, false)).await;
        let keyless = self.shared.keyless.load(Ordering::Relaxed);
        let nothing = if keyless { Refusal::KeyId } else { Refusal::KeysUnavailable };
        let keys = self.shared.keys.load_full().ok_or(nothing)?;
        Some(keys).filter(known).ok_or(Refusal::KeyId)
    }

    /// Waits until no fetch is wanted or under way.
    #[cfg(test)]
    pub(super) async fn settled(&self) {
        until(&mut self.shared.round.subscribe(), false).await;
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until a fetch is wanted (`true`), or none is under way any more (`false`).
async fn until(round: &mut watch::Receiver<Round>, fetching: bool) {
    // The sender lives as long as the receivers' owner, so there is no other end to this.
    let _ = round.wait_for(|round| round.fetching == fetching).await.is_ok();
}

async fn keep_fresh(shared: Arc<Shared>) {
    let mut round = shared.round.subscribe();
    let mut first_retry = shared.limits.first_retry;
    loop {
        let fetched = shared.fetch().await;
        shared.failing.store(fetched.is_err(), Ordering::Relaxed);
        shared.keyless.store(matches!(fetched, Err(FetchError::NoKeys)), Ordering::Relaxed);
        measure::jwks_fetched(&shared.provider, fetched.as_ref().err().map_or("ok", FetchError::name));
        let pause = match fetched {
            Ok(keys) => {
                shared.take(keys);
                shared.limits.refresh
            }
            Err(error) => {
                let (provider, cause) = (&shared.provider, error.source().map(ToString::to_string));
                tracing::warn!(provider, %error, cause, "the signing keys could not be fetched");
                let pause = if shared.keys.load().is_some() { shared.limits.retry } else { first_retry };
                first_retry = (first_retry * 2).min(shared.limits.retry);
                pause
            }
        };
        shared.round.send_modify(|round| round.fetching = false);
        if time::timeout(pause, until(&mut round, true)).await.is_err() {
            shared.round.send_modify(|round| round.fetching = true);
        }
    }
}

impl Shared {
    /// Asks for a fetch because of an unknown key id, unless one is under way or was asked for of late.
    fn ask(&self) {
        let now = self.clock.now();
        self.round.send_if_modified(|round| {
            // The distance, so that a clock set back does not forbid fetching for as long.
            let since = round.asked.map(|asked| Duration::from_micros(now.micros().abs_diff(asked.micros())));
            let due = !round.fetching && since.is_none_or(|since| since >= self.limits.refetch);
            if due {
                *round = Round { fetching: true, asked: Some(now) };
            }
            due
        });
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let url = match &self.source {
            KeySource::Jwks(url) => url.clone(),
            KeySource::Discovery(issuer) => {
                let address = discovery::address(issuer).ok_or(FetchError::Discovery)?;
                let document = self.document(address).await?;
                discovery::jwks_uri(issuer, &document).ok_or(FetchError::Discovery)?
            }
        };
        let keys = KeySet::read(&self.document(url).await?).ok_or(FetchError::Form)?;
        if keys.is_empty() { Err(FetchError::NoKeys) } else { Ok(keys) }
    }

    async fn document(&self, url: Url) -> Result<Vec<u8>, FetchError> {
        let mut response = self.client.get(url).send().await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if document.len() + chunk.len() > DOCUMENT_MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }

    /// Takes fetched keys. The same keys again change nothing, so that what they verified stays known.
    fn take(&self, fetched: KeySet) {
        self.fetched_at.store(self.clock.now().micros(), Ordering::Relaxed);
        let same = self.keys.load().as_ref().is_some_and(|keys| keys.is_same(&fetched));
        if !same {
            tracing::info!(provider = self.provider, keys = fetched.len(), "signing keys taken");
            self.keys.store(Some(Arc::new(fetched)));
        }
    }
}

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Transport(#[from] reqwest::Error),
    #[error("the answer's status is {0}")]
    Status(StatusCode),
    #[error("the answer has more than {DOCUMENT_MAX_BYTES} bytes")]
    TooLarge,
    #[error("the issuer's own document names another issuer, or no address of keys that may be fetched")]
    Discovery,
    #[error("the answer is no document of keys")]
    Form,
    #[error("the answer has no usable key")]
    NoKeys,
}

impl FetchError {
    /// The failure as metrics name it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Transport(_) => "transport",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::Discovery => "discovery",
            Self::Form => "form",
            Self::NoKeys => "no_keys",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_support::{Key, Server, manual_clock};

    async fn start(server: &Server, limits: Limits) -> (Jwks, Clock) {
        let clock = manual_clock();
        let jwks = Jwks::start(
            "test",
            KeySource::Jwks(server.jwks_url().parse().expect("an address")),
            clock.clone(),
            limits,
        )
        .expect("a client");
        jwks.settled().await;
        (jwks, clock)
    }

    async fn refusal(jwks: &Jwks, kid: &str) -> Option<Refusal> {
        jwks.having(kid).await.err()
    }

    #[tokio::test]
    async fn keys_are_fetched_at_the_start_and_then_used_without_asking() {
        let server = Server::start(&[Key::first()]).await;
        let (jwks, _) = start(&server, Limits::default()).await;
        assert_eq!((jwks.state(), jwks.age()), (KeyState::Ok, Some(Duration::ZERO)));
        for _ in 0..5 {
            assert_eq!(refusal(&jwks, "first").await, None);
        }
        assert_eq!(server.hits(), 1);
    }

    #[tokio::test]
    async fn an_unknown_key_id_fetches_at_most_every_30_seconds() {
        let server = Server::start(&[Key::first()]).await;
        let (jwks, clock) = start(&server, Limits::default()).await;
        for _ in 0..5 {
            assert_eq!(refusal(&jwks, "second").await, Some(Refusal::KeyId));
        }
        assert_eq!(server.hits(), 2);
        clock.advance(Duration::from_secs(29));
        assert_eq!(refusal(&jwks, "second").await, Some(Refusal::KeyId));
        assert_eq!(server.hits(), 2);

        server.rotate(&[Key::first(), Key::second()]);
        clock.advance(Duration::from_secs(1));
        assert_eq!(refusal(&jwks, "second").await, None);
        assert_eq!(server.hits(), 3);
    }

    #[tokio::test]
    async fn many_requests_share_one_fetch() {
        let server = Server::start(&[Key::first()]).await;
        let (jwks, _) = start(&server, Limits::default()).await;
        server.rotate(&[Key::second()]);
        let waiting = (0..50).map(|_| jwks.having("second"));
        let answers = futures_util::future::join_all(waiting).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(server.hits(), 2);
        assert_eq!(refusal(&jwks, "first").await, Some(Refusal::KeyId), "a key taken back is gone");
    }

    #[tokio::test]
    async fn no_wrong_answer_displaces_the_last_good_keys() {
        let server = Server::start(&[Key::first()]).await;
        // Long enough for a busy machine, and shorter than what a request waits.
        let limits = Limits { fetch: Duration::from_secs(1), ..Limits::default() };
        let (jwks, clock) = start(&server, limits).await;
        let good = serde_json::json!({"keys": [Key::second().jwk()]}).to_string();
        let huge = format!("{good}{}", " ".repeat(DOCUMENT_MAX_BYTES));
        for (index, (status, body)) in [
            ("200 OK", "<html><body>Maintenance</body></html>"),
            ("200 OK", "{}"),
            ("200 OK", r#"{"keys":[]}"#),
            ("200 OK", r#"{"keys":[{"kty":"EC","kid":"second"}]}"#),
            ("200 OK", huge.as_str()),
            ("500 Internal Server Error", good.as_str()),
            ("404 Not Found", good.as_str()),
            // No answer at all, until the fetch's time is over.
            ("", ""),
        ]
        .into_iter()
        .enumerate()
        {
            server.answer(status, "", body);
            clock.advance(Duration::from_secs(30));
            assert_eq!(refusal(&jwks, "second").await, Some(Refusal::KeyId), "{status} {index}");
            assert_eq!(refusal(&jwks, "first").await, None, "{status} {index}");
            assert_eq!(server.hits(), index + 2, "{status} {index}");
            assert_eq!(jwks.state(), KeyState::Stale, "{status} {index}");
        }
        assert_eq!(jwks.age(), Some(Duration::from_secs(8 * 30)));
        let address = server.jwks_url();
        drop(server);
        clock.advance(Duration::from_secs(30));
        assert_eq!(refusal(&jwks, "second").await, Some(Refusal::KeyId), "nobody at {address}");
        assert_eq!(refusal(&jwks, "first").await, None);
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let elsewhere = Server::start(&[Key::first()]).await;
        let server = Server::start(&[]).await;
        server.answer("302 Found", &format!("location: {}\r\n", elsewhere.jwks_url()), "");
        let (jwks, clock) = start(&server, Limits::default()).await;
        assert_eq!(refusal(&jwks, "first").await, Some(Refusal::KeysUnavailable));
        clock.advance(Duration::from_secs(30));
        assert_eq!(refusal(&jwks, "first").await, Some(Refusal::KeysUnavailable));
        assert_eq!((jwks.state(), jwks.age()), (KeyState::Unavailable, None));
        assert_eq!(elsewhere.hits(), 0);
    }

    #[tokio::test]
    async fn a_request_does_not_wait_longer_than_it_may() {
        let server = Server::start(&[]).await;
        server.answer("", "", "");
        let limits = Limits { wait: Duration::from_millis(20), ..Limits::default() };
        let jwks = Jwks::start(
            "test",
            KeySource::Jwks(server.jwks_url().parse().expect("an address")),
            manual_clock(),
            limits,
        )
        .expect("a client");
        assert_eq!(refusal(&jwks, "first").await, Some(Refusal::KeysUnavailable));
    }

    #[tokio::test]
    async fn keys_are_refreshed_without_being_asked_until_the_owner_goes() {
        let server = Server::start(&[Key::first()]).await;
        let limits = Limits { refresh: Duration::from_millis(1), ..Limits::default() };
        let (jwks, _) = start(&server, limits).await;
        let before = jwks.shared.keys.load_full();
        server.hit(4).await;
        jwks.settled().await;
        let after = jwks.shared.keys.load_full();
        assert!(before.zip(after).is_some_and(|(a, b)| Arc::ptr_eq(&a, &b)), "the same keys are kept");

        let mut round = jwks.shared.round.subscribe();
        drop(jwks);
        // Fails only once the task, the last owner of the sender, is gone.
        while round.changed().await.is_ok() {}
    }
}
