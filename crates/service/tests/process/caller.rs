//! A program that calls the service with its key.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use testkit::process::SERVICE_KEY;

/// A client of any service; cheap to clone.
#[derive(Clone)]
pub struct Caller {
    http: reqwest::Client,
}

/// An answer's status and body.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: Value,
}

/// The header of a request that shall have its effect once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Caller {
    pub fn new() -> Self {
        Self::with_idle_connections(64)
    }

    /// A client that opens a connection for every request.
    pub fn without_reuse() -> Self {
        Self::with_idle_connections(0)
    }

    fn with_idle_connections(idle: usize) -> Self {
        let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(40));
        Self { http: builder.pool_max_idle_per_host(idle).build().expect("a client") }
    }

    /// Sends a POST as the service; an error where no answer came.
    pub async fn post(
        &self,
        to: SocketAddr,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.http.post(format!("http://{to}{path}")).header("x-api-key", SERVICE_KEY);
        if let Some(key) = key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        Self::answer(request.json(body)).await
    }

    /// Sends a GET as the service.
    pub async fn get(&self, to: SocketAddr, path: &str) -> Result<Answer, reqwest::Error> {
        Self::answer(self.http.get(format!("http://{to}{path}")).header("x-api-key", SERVICE_KEY)).await
    }

    async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.map(str::to_owned);
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, retry_after, body })
    }

    /// Makes a user, or finds it.
    pub async fn ensure(&self, to: SocketAddr, user: &str) -> Value {
        let body = json!({"auth0_id": user, "name": user, "email": format!("{user}@example.com")});
        let answer = self.post(to, "/api/v1/users/ensure", &body, None).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// What a user can spend.
    pub async fn balance(&self, to: SocketAddr, user: &str) -> f64 {
        let answer = self.get(to, &format!("/api/v1/users/{user}/credits/balance")).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["data"].as_f64().expect("a number")
    }
}
