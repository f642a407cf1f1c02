//! Buckets in Redis, so that several processes count together.
//!
//! One script, one round trip, Redis' own clock. Whatever it does not answer within [`CALL_LIMIT`] is
//! decided in memory by whoever asked, and from then on nobody asks: [`keep`] connects again behind the
//! requests' backs, and only when Redis has answered there, they ask it again. So an outage costs each
//! request that was under way the limit once, and no later one anything.

use super::gcra::Quota;
use crate::measure;
use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use kernel::Secret;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Script};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How long a request waits for Redis.
pub const CALL_LIMIT: Duration = Duration::from_millis(50);
/// How long a connection may take to open and to answer for the first time.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Pause between two attempts to connect.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The rule of [`super::gcra`], with the key of a bucket, its interval and its depth in microseconds; gives
/// whether the request is allowed, and the debt afterwards. Numbers here are exact to 2^53, which the
/// microseconds of this century are below, but are written with 14 digits unless told otherwise.
const TAKE: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, depth = tonumber(ARGV[1]), tonumber(ARGV[2])
local debt = (tonumber(redis.call('GET', KEYS[1])) or now) - now
debt = math.min(math.max(debt, 0), depth)
if debt + interval > depth then return {0, debt} end
debt = debt + interval
redis.call('SET', KEYS[1], string.format('%.0f', now + debt), 'PX', math.ceil(debt / 1000))
return {1, debt}";

/// Redis, as long as it answers.
pub struct Shared {
    client: Client,
    take: Script,
    connection: ArcSwapOption<MultiplexedConnection>,
    lost: Notify,
}

impl Shared {
    /// Prepares what is needed; nothing is connected yet.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(url: &Secret) -> Result<Self, RedisError> {
        Ok(Self {
            client: Client::open(url.expose())?,
            take: Script::new(TAKE),
            connection: ArcSwapOption::empty(),
            lost: Notify::new(),
        })
    }

    /// Whether Redis answers, as far as is known.
    #[must_use]
    pub fn up(&self) -> bool {
        self.connection.load().is_some()
    }

    /// Counts a request: whether it is allowed, and the debt afterwards. Nothing where Redis does not say
    /// so in time.
    pub async fn take(&self, key: &(&str, &str), quota: Quota) -> Option<(bool, u64)> {
        let connection = self.connection.load_full()?;
        let mut own = MultiplexedConnection::clone(&connection);
        let mut call = self.take.key(redis_key(key));
        call.arg(quota.interval()).arg(quota.depth());
        let why = match timeout(CALL_LIMIT, call.invoke_async::<(u8, u64)>(&mut own)).await {
            Ok(Ok((allowed, debt))) => return Some((allowed == 1, debt)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", CALL_LIMIT.as_millis()),
        };
        measure::rate_limit_redis_error();
        self.lose(&connection, &why);
        None
    }

    /// Forgets a connection that failed, unless it was replaced meanwhile.
    fn lose(&self, connection: &Arc<MultiplexedConnection>, why: &str) {
        let before = self.connection.compare_and_swap(connection, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, connection)) {
            tracing::warn!(why, "Redis is lost; rates are limited in this process's memory");
            self.lost.notify_one();
        }
    }

    /// Opens a connection and hears that the script runs on it.
    async fn connect(&self) -> Result<(), String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(CONNECT_LIMIT));
        let opened = self.client.get_multiplexed_async_connection_with_config(&config);
        let opened = timeout(CONNECT_LIMIT, opened).await.map_err(|_| "no connection in time".to_owned())?;
        let mut connection = opened.map_err(|error| error.to_string())?;
        let loaded = timeout(CONNECT_LIMIT, self.take.prepare_invoke().load_async(&mut connection)).await;
        loaded.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        self.connection.store(Some(Arc::new(connection)));
        Ok(())
    }
}

/// Tries once to connect, and then keeps connected for as long as it runs.
pub async fn keep(shared: Arc<Shared>, mut why: Option<String>) {
    loop {
        while let Some(last) = why.take() {
            tracing::debug!(why = last, "Redis cannot be reached");
            sleep(RETRY_PAUSE).await;
            why = shared.connect().await.err();
            if why.is_none() {
                tracing::info!("Redis is back; rates are limited there");
            }
        }
        shared.lost.notified().await;
        why = Some("lost".to_owned());
    }
}

impl Shared {
    /// The first attempt, at the start: says why it failed.
    pub async fn first(&self) -> Option<String> {
        let why = self.connect().await.err();
        if let Some(why) = &why {
            tracing::warn!(why, "Redis cannot be reached; rates are limited in this process's memory");
        }
        why
    }
}

/// A bucket's key: the kind, and a digest of whose it is, so that ids of users are not kept there.
fn redis_key((bucket, whose): &(&str, &str)) -> String {
    let digest = digest::digest(&digest::SHA256, whose.as_bytes());
    let mut key = format!("rate:{bucket}:");
    for byte in &digest.as_ref()[..16] {
        let _ = write!(key, "{byte:02x}");
    }
    key
}
