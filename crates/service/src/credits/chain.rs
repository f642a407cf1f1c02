//! The hash chain: each entry's hash covers its every field and the hash before it.

use super::model::{Entry, Hash};
use aws_lc_rs::digest::{Context, SHA256};
use kernel::Credits;

/// The hash of an entry: SHA-256 over its fields, each with its length, in a fixed order.
#[must_use]
pub fn hash(entry: &Entry) -> Hash {
    let mut row = Row::default();
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
    // Entries from before there was a basis, and those without one, end here.
    if let Some(basis) = basis_text(entry) {
        row.optional_text(Some(&basis));
    }
    row.hash()
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

/// The column `basis`.
#[must_use]
pub fn basis_text(entry: &Entry) -> Option<String> {
    entry.basis.as_ref().and_then(|basis| serde_json::to_string(basis).ok())
}

/// A row's bytes, unambiguous: every field with its length, absence told from emptiness.
pub struct Row(Vec<u8>);

impl Default for Row {
    fn default() -> Self {
        Self(Vec::with_capacity(512))
    }
}

impl Row {
    /// SHA-256 over all of it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut context = Context::new(&SHA256);
        context.update(&self.0);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Adds a number.
    pub fn int(&mut self, int: i64) {
        self.0.extend_from_slice(&int.to_be_bytes());
    }

    /// Adds a number or its absence.
    pub fn optional_int(&mut self, int: Option<i64>) {
        self.0.push(u8::from(int.is_some()));
        self.int(int.unwrap_or(0));
    }

    /// Adds a text or its absence.
    pub fn optional_text(&mut self, text: Option<&str>) {
        self.0.push(u8::from(text.is_some()));
        self.text(text.unwrap_or(""));
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::{Basis, Context, Scope};
    use super::super::model::{Cause, EntryKind, GrantTerms, Origin, Rollover, Source};
    use super::*;
    use kernel::{JsonObject, Timestamp, UserRowId};
    use std::collections::HashSet;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn terms() -> GrantTerms {
        GrantTerms {
            source: Source::Promo,
            amount: 5,
            priority: 1,
            effective_at: 7,
            expires_at: Some(9),
            scope: Some(Scope { models: vec!["m".to_owned()], features: vec!["f".to_owned()] }),
            rollover: Some(Rollover { max: 3, days: 4 }),
        }
    }

    fn basis() -> Basis {
        let context = Context {
            model: text("m"),
            feature: text("f"),
            session: text("s"),
            key: text("k"),
            tags: vec!["t".to_owned()],
        };
        Basis { context, pricing: Some(JsonObject::from_stored(r#"{"version":1}"#.to_owned())) }
    }

    fn context(change: impl FnOnce(&mut Context)) -> Option<Basis> {
        let mut changed = basis();
        change(&mut changed.context);
        Some(changed)
    }

    fn entry() -> Entry {
        Entry {
            user: UserRowId(112),
            seq: 7,
            id: 2001,
            kind: EntryKind::Consume,
            amount: Credits::from_micro(-5),
            balance_before: Credits::from_micro(20),
            balance_after: Credits::from_micro(15),
            cause: Cause {
                usage_record_id: Some(1),
                hold_id: text("h"),
                reverses: Some(3),
                reference_id: text("r"),
            },
            description: text("d"),
            metadata: JsonObject::from_stored("{}".to_owned()),
            funded_by: vec![(2, Credits::from_micro(4)), (3, Credits::from_micro(1))],
            grant: Some(terms()),
            basis: Some(basis()),
            origin: Origin { actor: "key:a".to_owned(), request_id: text("q"), idempotency_key: text("k") },
            created_at: Timestamp::from_micros(1_000),
            prev_hash: [1; 32],
            hash: [0; 32],
        }
    }

    #[test]
    fn every_field_is_under_the_hash() {
        // Taken apart without `..`, so that a new field does not compile until it is thought of here.
        let Entry {
            user: _,
            seq: _,
            id: _,
            kind: _,
            amount: _,
            balance_before: _,
            balance_after: _,
            cause: Cause { usage_record_id: _, hold_id: _, reverses: _, reference_id: _ },
            description: _,
            metadata: _,
            funded_by: _,
            grant: _,
            basis: _,
            origin: Origin { actor: _, request_id: _, idempotency_key: _ },
            created_at: _,
            prev_hash: _,
            hash: _,
        } = entry();
        type Change = fn(&mut Entry);
        let changes: &[(&str, Change)] = &[
            ("user", |e| e.user = UserRowId(113)),
            ("seq", |e| e.seq = 8),
            ("id", |e| e.id = 2002),
            ("kind", |e| e.kind = EntryKind::Capture),
            ("amount", |e| e.amount = Credits::from_micro(-6)),
            ("amount's sign", |e| e.amount = Credits::from_micro(5)),
            ("balance_before", |e| e.balance_before = Credits::from_micro(21)),
            ("balance_after", |e| e.balance_after = Credits::from_micro(16)),
            ("usage_record_id", |e| e.cause.usage_record_id = Some(2)),
            ("no usage_record_id", |e| e.cause.usage_record_id = None),
            ("usage_record_id of 0", |e| e.cause.usage_record_id = Some(0)),
            ("hold_id", |e| e.cause.hold_id = text("i")),
            ("no hold_id", |e| e.cause.hold_id = None),
            ("an empty hold_id", |e| e.cause.hold_id = text("")),
            ("reverses", |e| e.cause.reverses = Some(4)),
            ("no reverses", |e| e.cause.reverses = None),
            ("reference_id", |e| e.cause.reference_id = text("s")),
            ("no reference_id", |e| e.cause.reference_id = None),
            ("description", |e| e.description = text("e")),
            ("no description", |e| e.description = None),
            ("an empty description", |e| e.description = text("")),
            ("metadata", |e| e.metadata = JsonObject::from_stored("{ }".to_owned())),
            ("funded_by's part", |e| e.funded_by[0].1 = Credits::from_micro(3)),
            ("funded_by's grant", |e| e.funded_by[0].0 = 1),
            ("funded_by's order", |e| e.funded_by.reverse()),
            ("no funded_by", |e| e.funded_by.clear()),
            ("grant.source", |e| e.grant = Some(GrantTerms { source: Source::Plan, ..terms() })),
            ("grant.amount", |e| e.grant = Some(GrantTerms { amount: 6, ..terms() })),
            ("grant.priority", |e| e.grant = Some(GrantTerms { priority: 2, ..terms() })),
            ("grant.effective_at", |e| e.grant = Some(GrantTerms { effective_at: 8, ..terms() })),
            ("grant.expires_at", |e| e.grant = Some(GrantTerms { expires_at: Some(10), ..terms() })),
            ("no grant.expires_at", |e| e.grant = Some(GrantTerms { expires_at: None, ..terms() })),
            ("grant.scope's models", |e| {
                let scope = Scope { models: Vec::new(), ..terms().scope.expect("a scope") };
                e.grant = Some(GrantTerms { scope: Some(scope), ..terms() });
            }),
            ("grant.scope's features", |e| {
                let scope = Scope { features: Vec::new(), ..terms().scope.expect("a scope") };
                e.grant = Some(GrantTerms { scope: Some(scope), ..terms() });
            }),
            ("no grant.scope", |e| e.grant = Some(GrantTerms { scope: None, ..terms() })),
            ("grant.rollover's max", |e| {
                e.grant = Some(GrantTerms { rollover: Some(Rollover { max: 4, days: 4 }), ..terms() });
            }),
            ("grant.rollover's days", |e| {
                e.grant = Some(GrantTerms { rollover: Some(Rollover { max: 3, days: 5 }), ..terms() });
            }),
            ("no grant.rollover", |e| e.grant = Some(GrantTerms { rollover: None, ..terms() })),
            ("no grant", |e| e.grant = None),
            ("basis.model", |e| e.basis = context(|context| context.model = text("n"))),
            ("basis.feature", |e| e.basis = context(|context| context.feature = None)),
            ("basis.session", |e| e.basis = context(|context| context.session = text("f"))),
            ("basis.key", |e| e.basis = context(|context| context.key = None)),
            ("basis.tags", |e| e.basis = context(|context| context.tags.clear())),
            ("basis.pricing", |e| e.basis = Some(Basis { pricing: None, ..basis() })),
            ("no basis", |e| e.basis = None),
            ("actor", |e| e.origin.actor = "key:b".to_owned()),
            ("request_id", |e| e.origin.request_id = text("p")),
            ("no request_id", |e| e.origin.request_id = None),
            ("idempotency_key", |e| e.origin.idempotency_key = text("l")),
            ("no idempotency_key", |e| e.origin.idempotency_key = None),
            ("created_at", |e| e.created_at = Timestamp::from_micros(1_001)),
            ("prev_hash", |e| e.prev_hash[31] = 2),
            // What one field loses the next one gains.
            ("a moved boundary", |e| {
                (e.origin.request_id, e.origin.idempotency_key) = (text("qk"), text(""))
            }),
        ];
        let mut hashes = HashSet::from([hash(&entry())]);
        for (field, change) in changes {
            let mut changed = entry();
            change(&mut changed);
            assert!(hashes.insert(hash(&changed)), "{field} is not under the hash, or not told apart");
        }
    }

    #[test]
    fn the_hash_does_not_cover_itself() {
        assert_eq!(hash(&entry()), hash(&Entry { hash: [9; 32], ..entry() }));
    }
}
