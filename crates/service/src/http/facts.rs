//! What is known of a request beside what it asks for.

use super::client_ip::{Peer, TrustedProxies};
use crate::rate_limits::{Class, Decision};
use crate::telemetry::traceparent::TraceParent;
use axum::http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use tokio::sync::OwnedSemaphorePermit;

/// The longest request id that is taken from a caller.
const REQUEST_ID_MAX: usize = 128;

/// A request's id and who sent it; travels in the request's extensions.
#[derive(Debug)]
pub struct RequestFacts {
    /// The id: the caller's `X-Request-ID`, the trace id of its `traceparent`, or a fresh one.
    pub id: Arc<str>,
    /// The trace and span by which the caller names itself, where it does.
    pub parent: Option<TraceParent>,
    /// The kind of principal, once known.
    pub principal: OnceLock<&'static str>,
    /// The address of the client, behind the proxies that are trusted; nothing where the request came
    /// by no connection.
    pub client_ip: Option<IpAddr>,
    /// What kind of work its route is, for the limits of rates.
    pub class: Class,
    /// What the limits of rates said, once they were asked.
    pub rate: OnceLock<Decision>,
    /// The request that it is made for, where it is made within the service.
    pub within: Option<Within>,
}

/// Says that a request is made within the service, for another one that is under way.
#[derive(Debug, Clone)]
pub struct Within {
    /// The request that it is made for.
    pub outer: Arc<RequestFacts>,
    /// The span beneath which its own belongs.
    pub parent: Option<TraceParent>,
    /// The room that the other's body takes, for the one of the two that needs it longer.
    pub room: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl RequestFacts {
    /// What is known of a request that is made within the service: it has the id and the client of the one that it
    /// is made for.
    #[must_use]
    pub fn within(within: &Within, class: Class) -> Arc<Self> {
        Arc::new(Self {
            id: Arc::clone(&within.outer.id),
            parent: within.parent.clone(),
            principal: OnceLock::new(),
            client_ip: within.outer.client_ip,
            class,
            rate: OnceLock::new(),
            within: Some(within.clone()),
        })
    }

    /// Reads or makes the id, and finds the client's address.
    #[must_use]
    pub fn of(headers: &HeaderMap, peer: Option<Peer>, trusted: &TrustedProxies, class: Class) -> Arc<Self> {
        let given = headers.get("x-request-id").and_then(request_id);
        let parent = TraceParent::of(headers);
        let id = given.or_else(|| parent.as_ref().map(|parent| parent.trace_id().into()));
        Arc::new(Self {
            id: id.unwrap_or_else(fresh_id),
            parent,
            principal: OnceLock::new(),
            class,
            rate: OnceLock::new(),
            within: None,
            client_ip: peer.map(|peer| trusted.client(peer, headers)),
        })
    }

    /// The kind of principal for logs.
    #[must_use]
    pub fn principal(&self) -> &'static str {
        self.principal.get().copied().unwrap_or("anonymous")
    }
}

fn request_id(value: &HeaderValue) -> Option<Arc<str>> {
    let text = value.to_str().ok()?;
    // It goes into logs and the audit log: no address fits, and what looks like a key or a token is none.
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/+=-".contains(&b));
    let secret = text.starts_with("usk_") || text.starts_with("eyJ");
    ((1..=REQUEST_ID_MAX).contains(&text.len()) && plain && !secret).then(|| text.into())
}

/// A fresh id, a UUID of version 7: unique, and later ones sort after earlier ones.
#[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
#[must_use]
pub fn fresh_id() -> Arc<str> {
    uuid::Uuid::now_v7().to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(name: &'static str, value: &str) -> Arc<str> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header value"));
        RequestFacts::of(&headers, None, &TrustedProxies::default(), Class::Public).id.clone()
    }

    #[test]
    fn the_callers_id_is_kept_and_a_bad_one_replaced() {
        assert_eq!(&*id_of("x-request-id", "req-1"), "req-1");
        for odd in ["has space", "me@example.com", "eyJhbGciOiJub25lIn0.e30.", "usk_k3Jx9TqLm2_secret"] {
            assert_eq!(id_of("x-request-id", odd).len(), 36, "{odd}");
        }
        assert_eq!(id_of("x-request-id", &"x".repeat(129)).len(), 36);
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(&*id_of("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")), trace);
        assert_eq!(id_of("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01").len(), 36);
    }
}
