//! The service's routes as the room's own set-up and checks call them: with the service key, and with
//! every number of an answer taken from its literal.

use crate::server::Server;
use crate::users::{User, concurrently};
use crate::{Fallible, exact};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

/// A client with the service key.
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: String,
}

/// The statistics of one user, exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of records.
    pub records: i128,
    /// Micro-credits charged.
    pub credits: i128,
    /// Nano-dollars of cost.
    pub cost: i128,
    /// Tokens used.
    pub tokens: i128,
    /// Records by event type.
    pub by_event_type: BTreeMap<String, i128>,
    /// Records by model.
    pub by_model: BTreeMap<String, i128>,
    /// Records by provider.
    pub by_provider: BTreeMap<String, i128>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

#[derive(Deserialize)]
struct StatsBody {
    total_records: Box<RawValue>,
    total_credits_charged: Box<RawValue>,
    total_cost_usd: Box<RawValue>,
    total_tokens_used: Box<RawValue>,
    by_event_type: BTreeMap<String, Box<RawValue>>,
    by_model: BTreeMap<String, Box<RawValue>>,
    by_provider: BTreeMap<String, Box<RawValue>>,
}

impl Api {
    /// A client of `server`.
    pub fn new(server: &Server) -> Fallible<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build()?;
        Ok(Self { http, base: format!("http://{}", server.address), key: server.key.clone() })
    }

    /// Posts a JSON body with the service key; anything but a success is a failure.
    pub async fn post(&self, path: &str, body: String) -> Fallible<String> {
        let request = self.http.post(format!("{}{path}", self.base)).header("X-API-Key", &self.key);
        settle("POST", path, request.header("Content-Type", "application/json").body(body)).await
    }

    /// Posts a JSON body as `user`.
    pub async fn post_as(&self, user: &User, path: &str, body: String) -> Fallible<String> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&user.token);
        settle("POST", path, request.header("Content-Type", "application/json").body(body)).await
    }

    async fn get(&self, path: &str) -> Fallible<String> {
        settle("GET", path, self.http.get(format!("{}{path}", self.base)).header("X-API-Key", &self.key))
            .await
    }

    /// A user's balance in micro-credits.
    pub async fn balance(&self, user: &User) -> Fallible<i128> {
        let body = self.get(&user.path("/credits/balance")).await?;
        exact::parse(data::<Box<RawValue>>(&body)?.get(), 6)
    }

    /// A user's statistics, all of them or those of a range (`?start_date=…&end_date=…`).
    pub async fn stats(&self, user: &User, query: &str) -> Fallible<Stats> {
        let body = self.get(&user.path(&format!("/usage/stats{query}"))).await?;
        let stats: StatsBody = data(&body)?;
        let counts = |map: BTreeMap<String, Box<RawValue>>| -> Fallible<BTreeMap<String, i128>> {
            map.into_iter().map(|(name, count)| Ok((name, exact::parse(count.get(), 0)?))).collect()
        };
        Ok(Stats {
            records: exact::parse(stats.total_records.get(), 0)?,
            credits: exact::parse(stats.total_credits_charged.get(), 6)?,
            cost: exact::parse(stats.total_cost_usd.get(), 9)?,
            tokens: exact::parse(stats.total_tokens_used.get(), 0)?,
            by_event_type: counts(stats.by_event_type)?,
            by_model: counts(stats.by_model)?,
            by_provider: counts(stats.by_provider)?,
        })
    }

    /// The balances of all users, in their order.
    pub async fn balances(&self, users: &[User]) -> Fallible<Vec<i128>> {
        concurrently(users, |user| self.balance(user)).await
    }

    /// The number of messages that all users' sessions count together.
    pub async fn messages(&self, users: &[User]) -> Fallible<i128> {
        #[derive(Deserialize)]
        struct Counted {
            message_count: i128,
        }
        let counts = concurrently(users, |user| async {
            let body = self.get(&user.path("/sessions")).await?;
            Ok(data::<Vec<Counted>>(&body)?.iter().map(|session| session.message_count).sum::<i128>())
        });
        Ok(counts.await?.iter().sum())
    }

    /// The number of usage records that all users have together.
    pub async fn records(&self, users: &[User]) -> Fallible<i128> {
        let stats = concurrently(users, |user| self.stats(user, "")).await?;
        Ok(stats.iter().map(|stats| stats.records).sum())
    }
}

/// The `data` of an envelope.
pub fn data<T: for<'a> Deserialize<'a>>(body: &str) -> Fallible<T> {
    let envelope: Envelope<T> = serde_json::from_str(body).map_err(|error| {
        format!("unexpected answer ({error}): {}", body.chars().take(400).collect::<String>())
    })?;
    Ok(envelope.data)
}

async fn settle(method: &str, path: &str, request: reqwest::RequestBuilder) -> Fallible<String> {
    let answer = request.send().await.map_err(|error| format!("{method} {path}: {error:?}"))?;
    let status = answer.status();
    let body = answer.text().await?;
    if status.is_success() {
        return Ok(body);
    }
    Err(format!("{method} {path}: {status}: {}", body.chars().take(600).collect::<String>()).into())
}
