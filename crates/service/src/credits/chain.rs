//! The hash chain: each entry's hash covers its every field and the hash before it.

use super::model::{Entry, Hash};
use aws_lc_rs::digest::{Context, SHA256};
use kernel::Credits;

/// The hash of an entry: SHA-256 over its fields, each with its length, in a fixed order.
#[must_use]
pub fn hash(entry: &Entry) -> Hash {
    let mut row = Row(Vec::with_capacity(512));
    row.bytes(&entry.prev_hash);
    row.int(entry.user.0);
    row.int(entry.seq);
    row.int(entry.id);
    row.text(entry.kind.as_str());
    row.int(entry.amount.micro());
    row.int(entry.balance_before.micro());
    row.int(entry.balance_after.micro());
    row.text(entry.kind.counter_account());
    row.optional_int(entry.cause.usage_record_id);
    row.optional_text(entry.cause.hold_id.as_deref());
    row.optional_int(entry.cause.reverses);
    row.optional_text(entry.cause.reference_id.as_deref());
    row.optional_text(entry.description.as_deref());
    row.text(entry.metadata.as_str());
    row.text(&funded_by_text(&entry.funded_by));
    row.optional_text(grant_terms_text(entry).as_deref());
    row.text(&entry.origin.actor);
    row.optional_text(entry.origin.request_id.as_deref());
    row.optional_text(entry.origin.idempotency_key.as_deref());
    row.int(entry.created_at.micros());
    let mut context = Context::new(&SHA256);
    context.update(&row.0);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The column `funded_by`: `[[grant seq, micro-credits], …]`.
#[must_use]
pub fn funded_by_text(parts: &[(i64, Credits)]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 + parts.len() * 16);
    text.push('[');
    for (at, (seq, part)) in parts.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(text, "{comma}[{seq},{}]", part.micro());
    }
    text.push(']');
    text
}

/// The column `grant_terms`.
#[must_use]
pub fn grant_terms_text(entry: &Entry) -> Option<String> {
    entry.grant.as_ref().and_then(|terms| serde_json::to_string(terms).ok())
}

/// A row's bytes, unambiguous: every field with its length, absence told from emptiness.
struct Row(Vec<u8>);

impl Row {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn int(&mut self, int: i64) {
        self.0.extend_from_slice(&int.to_be_bytes());
    }

    fn optional_int(&mut self, int: Option<i64>) {
        self.0.push(u8::from(int.is_some()));
        self.int(int.unwrap_or(0));
    }

    fn optional_text(&mut self, text: Option<&str>) {
        self.0.push(u8::from(text.is_some()));
        self.text(text.unwrap_or(""));
    }
}
