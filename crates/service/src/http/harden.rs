//! What every answer tells browsers: load nothing, embed nothing, guess nothing.
//!
//! These answers are for programs. Whatever is meant for people (the pages of the documentation, files)
//! says more itself, and what it says stays.

use crate::config::{Config, Environment};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

/// What stands on every answer, unless the answer says otherwise.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// A year of nothing but https.
const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Adds them. Browsers are told to come by https alone where callers are known to.
#[must_use]
pub fn harden<B>(https: bool, mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    for (name, value) in &HEADERS {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
    }
    response
}

/// Whether callers come by https: `PUBLIC_URL` says so, or it is production and says nothing.
#[must_use]
pub fn by_https(config: &Config) -> bool {
    match &config.public_url {
        Some(url) => url.starts_with("https:"),
        None => config.environment == Environment::Production,
    }
}
