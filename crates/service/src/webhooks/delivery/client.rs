//! One attempt at a delivery: one request, within a time, without redirects and proxies.

use super::guard::{self, Guard, Refusal};
use super::log::{excerpt, short};
use super::schedule::retry_after;
use super::sign::{Signer, signature};
use crate::webhooks::address::Reach;
use crate::webhooks::model::Attempt;
use crate::webhooks::payload::event_id;
use kernel::{Clock, Timestamp};
use reqwest::header::{
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, RETRY_AFTER, USER_AGENT,
};
use reqwest::{Response, StatusCode, Url, redirect};
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

/// How long a connection may take to open.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer's body is waited for, once its status is known.
const BODY_MAX: Duration = Duration::from_secs(2);
/// How much of an answer's body is read, so that its connection can be used again.
const BODY_MAX_BYTES: usize = 4_096;
/// How many quiet connections to one host are kept, and for how long.
const IDLE_MAX: usize = 16;
const IDLE_FOR: Duration = Duration::from_secs(30);
/// Who sends.
const AGENT: &str = concat!("user-service/", env!("CARGO_PKG_VERSION"));

/// Where deliveries go, and how they are signed.
pub struct Target {
    /// The address.
    pub url: Url,
    /// The endpoint's own headers.
    pub headers: HeaderMap,
    /// The keys.
    pub signers: Vec<Signer>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Delivered,
    /// It was not; the receiver may have said when to come back.
    Failed(Option<Timestamp>),
    /// There is nobody any more, and nobody will be.
    Gone,
}

/// What sends.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    reach: Reach,
    clock: Clock,
    timeout: Duration,
}

impl Client {
    /// One that reaches so far and waits so long.
    ///
    /// # Errors
    /// When no HTTPS client can be made, for want of root certificates.
    pub fn new(reach: Reach, timeout: Duration, clock: Clock) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .dns_resolver(Guard::new(reach.clone()))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_MAX.min(timeout))
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_FOR)
            .build()?;
        Ok(Self { http, reach, clock, timeout })
    }

    /// Sends a text once.
    pub async fn attempt(&self, target: &Target, event: i64, text: String) -> (Attempt, Verdict) {
        let (at, began) = (self.clock.now(), Instant::now());
        let answer = tokio::time::timeout(self.timeout, self.send(target, event, text, at)).await;
        let (status, verdict, error, response) = match answer {
            Ok(Ok(answer)) => self.read(answer).await,
            Ok(Err(why)) => (None, Verdict::Failed(None), Some(why), None),
            Err(_) => {
                let why = format!("no answer within {} s", self.timeout.as_secs_f64());
                (None, Verdict::Failed(None), Some(why), None)
            }
        };
        let attempt = Attempt {
            at,
            status_code: status.map(|status| status.as_u16()),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            error: error.map(|error| short(&error)),
            excerpt: response,
        };
        (attempt, verdict)
    }

    async fn send(
        &self,
        target: &Target,
        event: i64,
        text: String,
        at: Timestamp,
    ) -> Result<Response, String> {
        guard::judge(&target.url, &self.reach).map_err(|why| why.to_string())?;
        let headers = headers(target, event, &text, at).map_err(|why| why.to_string())?;
        let request = self.http.post(target.url.clone()).headers(headers).body(text);
        request.send().await.map_err(|error| words(&error))
    }

    /// What an answer says.
    async fn read(
        &self,
        mut answer: Response,
    ) -> (Option<StatusCode>, Verdict, Option<String>, Option<String>) {
        let status = answer.status();
        let asked = answer.headers().get(RETRY_AFTER).and_then(|header| header.to_str().ok());
        let asked = asked.and_then(|header| retry_after(header, self.clock.now()));
        let mut body = Vec::new();
        // The status decides; a body that is long or does not end costs its connection and no more.
        let _ = tokio::time::timeout(BODY_MAX.min(self.timeout), async {
            while let Ok(Some(chunk)) = answer.chunk().await {
                body.extend_from_slice(&chunk[..chunk.len().min(BODY_MAX_BYTES - body.len())]);
                if body.len() == BODY_MAX_BYTES {
                    break;
                }
            }
        })
        .await;
        if status.is_success() {
            return (Some(status), Verdict::Delivered, None, None);
        }
        let (verdict, why) = match status {
            StatusCode::GONE => (Verdict::Gone, "the endpoint is gone"),
            _ if status.is_redirection() => (Verdict::Failed(asked), "a redirect is not followed"),
            _ => (Verdict::Failed(asked), "the endpoint refused it"),
        };
        (Some(status), verdict, Some(format!("{why} ({})", status.as_u16())), excerpt(&body))
    }
}

/// The endpoint's own headers, and ours, which none of them can replace.
fn headers(target: &Target, event: i64, text: &str, at: Timestamp) -> Result<HeaderMap, InvalidHeaderValue> {
    let id = event_id(event);
    let mut headers = target.headers.clone();
    let signature = signature(&target.signers, &id, at, text);
    let ours = [
        (HeaderName::from_static("webhook-id"), id),
        (HeaderName::from_static("webhook-timestamp"), at.seconds().to_string()),
        (HeaderName::from_static("webhook-signature"), signature),
    ];
    for (name, value) in ours {
        headers.insert(name, value.try_into()?);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    Ok(headers)
}

/// Why a request failed, in words that do not repeat its URL, which may carry a secret.
fn words(error: &reqwest::Error) -> String {
    let mut causes: Vec<&(dyn Error + 'static)> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    if let Some(refusal) = causes.iter().find_map(|cause| cause.downcast_ref::<Refusal>()) {
        return refusal.to_string();
    }
    let text: Vec<String> = causes.iter().map(ToString::to_string).collect();
    let last = text.last().cloned().unwrap_or_default();
    if causes.iter().any(|cause| cause.is::<rustls::Error>()) || last.contains("certificate") {
        return format!("TLS: {last}");
    }
    if text.iter().any(|cause| cause.contains("dns error")) {
        return format!("the name was not resolved: {last}");
    }
    if error.is_timeout() {
        return format!("no connection within {} s", CONNECT_MAX.as_secs());
    }
    let io = causes.iter().find_map(|cause| cause.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "the connection was refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "the connection was reset".to_owned(),
        _ if last.is_empty() => "the request failed".to_owned(),
        _ if error.is_connect() => format!("not connected: {last}"),
        _ => format!("the connection broke: {last}"),
    }
}

#[cfg(test)]
mod tests;
