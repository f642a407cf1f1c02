//! Which bucket a request is counted in: the only table of classes.

use super::gcra::Quota;
use crate::auth::Principal;
use crate::config::RateLimitSettings;
use axum::http::Method;

/// Operations of users that cost more than others of their method: they read or carry much.
const EXPENSIVE: &[&str] = &["create_upload_url", "export_user", "search_messages", "upload_file"];

/// Operations that are never refused for their number: probes, and what Stripe sends, whose signature
/// nobody can guess.
const EXEMPT: &[&str] =
    &["get_root", "get_health", "get_live", "get_ready", "get_metrics", "take_stripe_event"];

/// What kind of work a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Class {
    /// Never refused.
    Exempt,
    /// Nobody need prove who it is; counted by address. So is whatever is no route.
    #[default]
    Public,
    /// Reads.
    Read,
    /// Changes.
    Write,
    /// What costs more than others.
    Expensive,
}

impl Class {
    /// The class of an operation.
    #[must_use]
    pub fn of(method: &Method, operation: &str, public: bool) -> Self {
        if EXEMPT.contains(&operation) {
            Self::Exempt
        } else if public {
            Self::Public
        } else if EXPENSIVE.contains(&operation) {
            Self::Expensive
        } else if *method == Method::GET || *method == Method::HEAD {
            Self::Read
        } else {
            Self::Write
        }
    }

    /// Whether its callers prove who they are.
    #[must_use]
    pub const fn authenticated(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Expensive)
    }
}

/// A kind of bucket and its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Its name in headers, metrics and Redis.
    pub name: &'static str,
    /// Its quota.
    pub quota: Quota,
}

/// The bucket of requests that need no authentication, by address.
#[must_use]
pub const fn public(settings: &RateLimitSettings) -> Bucket {
    Bucket { name: "public", quota: settings.public }
}

/// The bucket of credentials that were missing or not accepted, by address.
#[must_use]
pub const fn failures(settings: &RateLimitSettings) -> Bucket {
    Bucket { name: "failures", quota: settings.failures }
}

/// The bucket of an authenticated request: a user has one for each class, keys and admins one for all.
#[must_use]
pub fn of_principal(settings: &RateLimitSettings, principal: &Principal, class: Class) -> Bucket {
    if let Some(requests) = own_limit(principal) {
        return Bucket { name: "key", quota: Quota { requests, window: 60 } };
    }
    if principal.is_admin() || matches!(principal, Principal::Service(_)) {
        return Bucket { name: "service", quota: settings.service };
    }
    match class {
        Class::Expensive => Bucket { name: "expensive", quota: settings.expensive },
        Class::Write => Bucket { name: "write", quota: settings.write },
        Class::Read | Class::Public | Class::Exempt => Bucket { name: "read", quota: settings.read },
    }
}

/// The requests per minute that a service key was made with.
fn own_limit(principal: &Principal) -> Option<u32> {
    match principal {
        Principal::Service(key) => key.requests_per_minute.map(|most| most.clamp(1, Quota::REQUESTS_MAX)),
        Principal::User(_) => None,
    }
}
