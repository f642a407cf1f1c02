//! The usable keys of one key document, and what they have verified.

use super::claims::Verified;
use super::jwk::Key;
use super::token::{Refusal, Token};
use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;
use serde_json::Value;

/// How many verified tokens are remembered of one issuer; a digest and a principal each.
const VERIFIED_MAX: usize = 10_000;

/// The most keys of a document that are looked at.
pub const KEYS_MAX: usize = 100;

/// The SHA-256 of a token: what is remembered of it.
pub type Digest = [u8; 32];

/// The digest of a token.
pub fn digest_of(token: &[u8]) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}

/// The signing keys of one key document.
///
/// What verified tokens say is remembered here under the tokens' digests, so it is forgotten with
/// the keys. Their times are not judged here, but whenever a token is used.
pub struct KeySet {
    keys: Vec<Key>,
    verified: Cache<Digest, Verified>,
}

impl KeySet {
    /// Reads a key document (RFC 7517); none when it is no such document.
    #[must_use]
    pub fn read(document: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(document).ok()?;
        let published = document["keys"].as_array()?.iter().take(KEYS_MAX);
        let keys: Vec<Key> = published.filter_map(Key::usable).collect();
        Some(Self { keys, verified: Cache::new(VERIFIED_MAX) })
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key of the document is usable.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether there is a key with this id.
    #[must_use]
    pub fn has(&self, key_id: &str) -> bool {
        self.keys.iter().any(|key| key.id() == key_id)
    }

    /// Whether both sets have the same keys in the same order.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// Refuses a token that the key `key_id` did not sign with the key's own algorithm.
    ///
    /// # Errors
    /// [`Refusal::KeyId`], [`Refusal::Algorithm`] or [`Refusal::Signature`].
    pub fn verify(&self, key_id: &str, token: &Token<'_>) -> Result<(), Refusal> {
        if !self.has(key_id) {
            return Err(Refusal::KeyId);
        }
        // Keys of two types may share an id.
        let key = self.keys.iter().find(|key| key.id() == key_id && key.algorithm() == token.algorithm);
        key.ok_or(Refusal::Algorithm)?.verify(token)
    }

    /// What a token that was verified before says.
    #[must_use]
    pub fn remembered(&self, token: &Digest) -> Option<Verified> {
        self.verified.get(token)
    }

    /// Remembers what a token says that was verified with one of these keys.
    pub fn remember(&self, token: Digest, verified: Verified) {
        self.verified.insert(token, verified);
    }

    /// Forgets a token, for it is over.
    pub fn forget(&self, token: &Digest) {
        self.verified.remove(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_support::{Key as Pair, changed};
    use serde_json::json;

    fn read(keys: &[Value]) -> Option<KeySet> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).filter(|set| !set.is_empty())
    }

    fn verify(set: &KeySet, token: &str) -> Result<(), Refusal> {
        let token = Token::read(token.as_bytes())?;
        set.verify(&token.key_id.clone().ok_or(Refusal::KeyId)?, &token)
    }

    fn signed(key: &Pair) -> String {
        key.sign(&json!({"iss": "tenant", "sub": "a", "exp": 1}))
    }

    fn but(change: &Value) -> Value {
        changed(Pair::first().jwk(), change)
    }

    #[test]
    fn rsa_signing_keys_are_taken_and_others_passed_over() {
        let good = Pair::first().jwk();
        let mixed = [json!({"kty": "EC", "kid": "e"}), good.clone(), json!({}), json!(7)];
        assert_eq!(read(&mixed).map(|set| set.len()), Some(1));
        for change in [
            json!({"alg": null}),
            json!({"use": null}),
            json!({"use": null, "key_ops": ["verify"]}),
            json!({"n": format!("AAAA{}", good["n"].as_str().expect("n"))}),
        ] {
            let set = read(&[but(&change)]).expect("keys");
            assert_eq!(verify(&set, &signed(Pair::first())), Ok(()), "{change}");
        }
        for change in [
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "EC"}),
            json!({"use": "enc"}),
            json!({"key_ops": ["encrypt"]}),
            json!({"key_ops": "verify"}),
            json!({"alg": "HS256"}),
            json!({"alg": "none"}),
            json!({"alg": "RSA-OAEP"}),
            json!({"alg": "ES256"}),
            json!({"kid": null}),
            json!({"kid": ""}),
            json!({"kid": ["first"]}),
            json!({"n": "AQAB"}),
            json!({"n": "not base64!"}),
            json!({"e": ""}),
        ] {
            assert!(read(&[but(&change)]).is_none(), "{change}");
        }
        let weak = but(&json!({"n": "q".repeat(170)}));
        assert!(read(&[weak]).is_none(), "1020 bits");
    }

    #[test]
    fn curves_must_be_the_ones_that_a_key_names() {
        let (ec, ed) = (Pair::ec(), Pair::ed());
        for (jwk, token) in [
            (ec.jwk(), signed(ec)),
            (changed(ec.jwk(), &json!({"alg": null})), signed(ec)),
            (ed.jwk(), signed(ed)),
            (changed(ed.jwk(), &json!({"alg": "Ed25519"})), signed(ed)),
        ] {
            assert_eq!(verify(&read(&[jwk]).expect("keys"), &token), Ok(()));
        }
        for jwk in [
            changed(ec.jwk(), &json!({"crv": "P-384"})),
            changed(ec.jwk(), &json!({"crv": "P-384", "alg": "ES384"})),
            changed(ec.jwk(), &json!({"crv": "secp256k1"})),
            changed(ec.jwk(), &json!({"crv": null})),
            changed(ec.jwk(), &json!({"alg": "ES384"})),
            changed(ec.jwk(), &json!({"y": null})),
            changed(ed.jwk(), &json!({"crv": "Ed448"})),
            changed(ed.jwk(), &json!({"crv": "X25519"})),
            changed(ed.jwk(), &json!({"alg": "ES256"})),
        ] {
            assert!(read(std::slice::from_ref(&jwk)).is_none(), "{jwk}");
        }
        // A point that is not on its curve verifies nothing.
        let off = changed(ec.jwk(), &json!({"y": ec.jwk()["x"]}));
        assert_eq!(verify(&read(&[off]).expect("keys"), &signed(ec)), Err(Refusal::Signature));
    }

    #[test]
    fn a_key_verifies_its_own_algorithm_only() {
        for alg in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
            let set = read(&[but(&json!({ "alg": alg }))]).expect("keys");
            assert_eq!(verify(&set, &signed(Pair::first())), Err(Refusal::Algorithm), "{alg}");
            let token = Pair::first().signed_as(&json!({ "alg": alg }), &json!({"sub": "a"}));
            assert_eq!(verify(&set, &token), Ok(()), "{alg}");
        }
        let two = read(&[changed(Pair::ec().jwk(), &json!({"kid": "first"})), Pair::first().jwk()]);
        assert_eq!(verify(&two.expect("keys"), &signed(Pair::first())), Ok(()), "one id, two types");
    }

    #[test]
    fn sets_are_the_same_by_their_keys() {
        let (first, second) = (Pair::first().jwk(), Pair::second().jwk());
        let set = read(std::slice::from_ref(&first)).expect("keys");
        assert!(set.is_same(&read(std::slice::from_ref(&first)).expect("keys")));
        assert!(!set.is_same(&read(&[first, second.clone()]).expect("keys")));
        let replaced = but(&json!({"n": second["n"]}));
        assert!(!set.is_same(&read(&[replaced]).expect("keys")), "a new key under an old id");
    }

    #[test]
    fn a_document_has_at_most_100_keys() {
        let many = vec![json!({"kty": "oct"}); KEYS_MAX];
        assert!(read(&[&many[..], &[Pair::first().jwk()]].concat()).is_none());
        assert!(read(&[&many[1..], &[Pair::first().jwk()]].concat()).is_some());
    }
}
