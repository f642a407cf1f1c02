//! Which answers are compressed, for whoever accepts gzip or zstd.
//!
//! Text of at least [`BYTES_MIN`] that is answered whole. Not event streams, whose events would wait for
//! each other, and not files: most are compressed already, and parts of them are asked for by the byte.
//! No answer shows a secret beside text that somebody else chose, but for the one that hands out a key or a
//! token, which is too small to be compressed; so lengths tell nothing (BREACH).

use axum::http::Response;
use axum::http::header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE};
use http_body::Body;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;

/// The smallest body that is compressed.
pub const BYTES_MIN: u64 = 1024;

/// What may be compressed.
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl Predicate for Text {
    fn should_compress<B: Body>(&self, response: &Response<B>) -> bool {
        let headers = response.headers();
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        let text = kind.starts_with(b"application/json")
            || kind.starts_with(b"application/problem+json")
            || (kind.starts_with(b"text/") && !kind.starts_with(b"text/event-stream"));
        let file =
            [CONTENT_DISPOSITION, CONTENT_RANGE, ACCEPT_RANGES].iter().any(|name| headers.contains_key(name));
        text && !file && response.body().size_hint().exact().is_some_and(|bytes| bytes >= BYTES_MIN)
    }
}

/// The layer: zstd, or gzip, at the levels that cost little.
#[must_use]
pub fn layer() -> CompressionLayer<Text> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(Text)
}
