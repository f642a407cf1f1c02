//! What callers are told of their bucket, on every answer that was counted.

use super::gcra::Decision;
use crate::http::ApiError;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use kernel::Timestamp;
use serde_json::json;

/// Every header that tells of a bucket: name and meaning.
pub const ALL: [(&str, &str); 5] = [
    ("RateLimit-Policy", "The bucket that counted the request: `\"read\";q=600;w=60` is 600 in 60 seconds."),
    (
        "RateLimit",
        "What is left of it: `\"read\";r=599;t=1` is 599 requests at once, and all after 1 second.",
    ),
    ("X-RateLimit-Limit", "How many requests the bucket holds."),
    ("X-RateLimit-Remaining", "How many may follow at once."),
    ("X-RateLimit-Reset", "When it is full again, in seconds since 1970."),
];

/// Writes them.
pub fn write(headers: &mut HeaderMap, decision: &Decision, now: Timestamp) {
    let (bucket, quota) = (decision.bucket, decision.quota);
    let (remaining, full_in) = (decision.remaining(), decision.full_in());
    let reset = u64::try_from(now.seconds()).unwrap_or(0).saturating_add(full_in);
    let policy = format!("\"{bucket}\";q={};w={}", quota.requests, quota.window);
    let standing = format!("\"{bucket}\";r={remaining};t={full_in}");
    for (name, text) in [("ratelimit-policy", policy), ("ratelimit", standing)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert("x-ratelimit-limit", quota.requests.into());
    headers.insert("x-ratelimit-remaining", remaining.into());
    headers.insert("x-ratelimit-reset", reset.into());
}

/// The refusal: 429.
#[must_use]
pub fn refusal(decision: &Decision) -> ApiError {
    let seconds = decision.retry_after();
    let about = if decision.bucket == "failures" { "failed attempts to authenticate" } else { "requests" };
    let message = format!("Too many {about}; try again in {seconds} s");
    let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RateLimitExceededException", message)
        .detail("bucket", json!(decision.bucket))
        .detail("limit", json!(decision.quota.requests))
        .detail("window_seconds", json!(decision.quota.window))
        .detail("retry_after", json!(seconds));
    error.retry_after = Some(seconds);
    error
}
