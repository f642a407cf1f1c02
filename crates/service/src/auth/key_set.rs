//! The usable keys of one key document, and what they have verified.

use super::token::{Refusal, Rules, Verified};
use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::Value;

/// How many verified tokens are remembered; a digest and a user each.
const VERIFIED_MAX: usize = 10_000;

/// The sizes of RSA moduli that are taken, in bytes: 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The RS256 keys of one key document.
///
/// What verified tokens say is remembered here under the tokens' digests, so it is forgotten with
/// the keys. Their times are not judged here, but whenever a token is used.
pub struct KeySet {
    keys: Vec<Key>,
    verified: Cache<Vec<u8>, Verified>,
}

struct Key {
    jwk: Jwk,
    public: DecodingKey,
}

impl Key {
    /// The key, where it is an RSA key for RS256 signatures with an id.
    fn usable(jwk: &Value) -> Option<Self> {
        let jwk = Jwk::deserialize(jwk).ok()?;
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
        let fits = jwk.common.key_algorithm.is_none_or(|alg| alg == KeyAlgorithm::RS256);
        let rsa = matches!(jwk.algorithm, AlgorithmParameters::RSA(_));
        if !(signs && fits && rsa && jwk.common.key_id.is_some()) {
            return None;
        }
        let public = DecodingKey::from_jwk(&jwk).ok()?;
        let DecodingKeyKind::RsaModulusExponent { n, e } = public.kind() else { return None };
        let (n, e) = (number(n)?, number(e)?);
        let public = DecodingKey::from_rsa_raw_components(n, e);
        MODULUS_BYTES.contains(&n.len()).then_some(Self { jwk, public })
    }

    fn is(&self, kid: &str) -> bool {
        self.jwk.common.key_id.as_deref() == Some(kid)
    }
}

/// A big-endian number; some providers write leading zeros, with which no signature would verify.
fn number(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|byte| *byte != 0).map(|start| &bytes[start..])
}

impl KeySet {
    /// Reads a key document (RFC 7517); none when it has no usable key.
    #[must_use]
    pub fn read(document: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(document).ok()?;
        let keys: Vec<Key> = document["keys"].as_array()?.iter().filter_map(Key::usable).collect();
        (!keys.is_empty()).then(|| Self { keys, verified: Cache::new(VERIFIED_MAX) })
    }

    /// How many keys there are; never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a key set is never empty")]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is a key with this id.
    #[must_use]
    pub fn has(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.is(kid))
    }

    /// Whether both sets have the same keys in the same order.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.keys.iter().map(|key| &key.jwk).eq(other.keys.iter().map(|key| &key.jwk))
    }

    /// Verifies all of a token but its times, with the key `kid`; `rules` must always be the same.
    ///
    /// # Errors
    /// A [`Refusal`] that says why the token is not accepted.
    pub fn verify(&self, kid: &str, token: &[u8], rules: &Rules) -> Result<Verified, Refusal> {
        let key = self.keys.iter().find(|key| key.is(kid)).ok_or(Refusal::KeyId)?;
        let id = digest(&SHA256, token);
        self.verified.get_or_insert_with(id.as_ref(), || rules.verify(token, &key.public))
    }

    /// How many verified tokens are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.verified.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_support::{RsaKey, unsigned};
    use jsonwebtoken::Algorithm;
    use serde_json::json;

    fn read(keys: &[Value]) -> Option<KeySet> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn claims() -> Value {
        json!({"iss": "tenant", "sub": "a", "exp": 1})
    }

    fn signed(key: &RsaKey) -> String {
        key.sign(&claims())
    }

    fn rules() -> Rules {
        Rules::new(Algorithm::RS256, &["tenant".into()], None, "admin".into())
    }

    fn but(change: &Value) -> Value {
        let mut jwk = RsaKey::first().jwk();
        for (name, value) in change.as_object().expect("an object") {
            jwk[name] = value.clone();
        }
        jwk
    }

    #[test]
    fn rsa_signing_keys_are_taken_and_others_passed_over() {
        let good = RsaKey::first().jwk();
        assert_eq!(
            read(&[json!({"kty": "EC", "kid": "e"}), good.clone(), json!({})]).map(|set| set.len()),
            Some(1)
        );
        for change in [
            json!({"alg": null}),
            json!({"use": null}),
            json!({"n": format!("AAAA{}", good["n"].as_str().expect("n"))}),
        ] {
            let set = read(&[but(&change)]).expect("keys");
            assert!(set.verify("first", signed(RsaKey::first()).as_bytes(), &rules()).is_ok(), "{change}");
        }
        for change in [
            json!({"kty": "oct"}),
            json!({"use": "enc"}),
            json!({"alg": "RS512"}),
            json!({"alg": "HS256"}),
            json!({"kid": null}),
            json!({"kid": ["first"]}),
            json!({"n": "AQAB"}),
            json!({"n": "not base64!"}),
            json!({"e": ""}),
        ] {
            assert!(read(&[but(&change)]).is_none(), "{change}");
        }
    }

    #[test]
    fn sets_are_the_same_by_their_keys() {
        let (first, second) = (RsaKey::first().jwk(), RsaKey::second().jwk());
        let set = read(std::slice::from_ref(&first)).expect("keys");
        assert!(set.is_same(&read(std::slice::from_ref(&first)).expect("keys")));
        assert!(!set.is_same(&read(&[first, second.clone()]).expect("keys")));
        let replaced = but(&json!({"n": second["n"]}));
        assert!(!set.is_same(&read(&[replaced]).expect("keys")), "a new key under an old id");
    }

    #[test]
    fn only_right_signatures_are_remembered() {
        let set = read(&[RsaKey::first().jwk()]).expect("keys");
        let verify = |token: &str| set.verify("first", token.as_bytes(), &rules()).map(|_| set.remembered());
        let good = signed(RsaKey::first());
        let forged = RsaKey::second().signed_as("first", &claims());
        for _ in 0..2 {
            assert_eq!(verify(&forged), Err(Refusal::Signature));
            assert_eq!(set.remembered(), 0);
        }
        for _ in 0..2 {
            assert_eq!(verify(&good), Ok(1));
        }
        let (_, signature) = good.rsplit_once('.').expect("a token");
        let other = unsigned(&json!({"alg": "RS256"}), &json!({"sub": "b"}));
        assert_eq!(verify(&format!("{other}.{signature}")), Err(Refusal::Signature));
    }
}
