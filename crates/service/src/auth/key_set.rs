//! The usable keys of one key document, and what they have verified.

use super::token::{Refusal, Token, object};
use super::words::Words;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use quick_cache::sync::Cache;

/// How many verified tokens are remembered; 32 bytes each and some bookkeeping.
const VERIFIED_MAX: usize = 10_000;

/// The sizes of RSA moduli that are taken, in bytes: 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The RS256 keys of one key document.
///
/// The digests of tokens whose signature was found right are remembered here, so they are
/// forgotten with the keys. Only the signature is remembered: claims are checked every time.
pub struct KeySet {
    keys: Vec<Key>,
    verified: Cache<[u8; 32], ()>,
}

struct Key {
    kid: String,
    public: ParsedPublicKey,
}

#[derive(serde::Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<Jwk<'a>>,
}

#[derive(serde::Deserialize)]
struct Jwk<'a> {
    #[serde(default, borrow)]
    kty: Words<'a>,
    #[serde(default, borrow, rename = "use")]
    purpose: Words<'a>,
    #[serde(default, borrow)]
    alg: Words<'a>,
    #[serde(default, borrow)]
    kid: Words<'a>,
    #[serde(default, borrow)]
    n: Words<'a>,
    #[serde(default, borrow)]
    e: Words<'a>,
}

impl Jwk<'_> {
    /// The key, where it is an RSA key for RS256 signatures with an id.
    fn usable(&self) -> Option<Key> {
        let fits = self.kty.has("RSA")
            && self.purpose.one().is_none_or(|purpose| purpose == "sig")
            && self.alg.one().is_none_or(|alg| alg == "RS256");
        let (true, Some(kid), Some(n), Some(e)) = (fits, self.kid.one(), self.n.one(), self.e.one()) else {
            return None;
        };
        let (n, e) = (number(n)?, number(e)?);
        if !MODULUS_BYTES.contains(&n.len()) {
            return None;
        }
        let components = RsaPublicKeyComponents { n, e };
        let public = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?;
        Some(Key { kid: kid.to_owned(), public })
    }
}

/// A big-endian number; some providers write leading zeros, which the library refuses.
fn number(base64: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(base64).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Some(bytes[zeros..].to_vec())
}

impl KeySet {
    /// Reads a key document (RFC 7517); none when it has no usable key.
    #[must_use]
    pub fn read(document: &[u8]) -> Option<Self> {
        let keys: Vec<Key> = object::<Document<'_>>(document)?.keys.iter().filter_map(Jwk::usable).collect();
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
        self.keys.iter().any(|key| key.kid == kid)
    }

    /// Whether both sets have the same keys in the same order.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let ids = |set: &Self| {
            set.keys.iter().map(|key| (key.kid.clone(), key.public.as_ref().to_vec())).collect::<Vec<_>>()
        };
        ids(self) == ids(other)
    }

    /// Verifies a token's signature with the key `kid`.
    ///
    /// # Errors
    /// [`Refusal::KeyId`] or [`Refusal::Signature`].
    pub fn verify(&self, kid: &str, token: &Token<'_>) -> Result<(), Refusal> {
        let key = self.keys.iter().find(|key| key.kid == kid).ok_or(Refusal::KeyId)?;
        let id: Option<[u8; 32]> = digest(&SHA256, token.whole).as_ref().try_into().ok();
        if id.is_some_and(|id| self.verified.get(&id).is_some()) {
            return Ok(());
        }
        let mut buffer = [0; *MODULUS_BYTES.end() + 2];
        let signature = token.signature(&mut buffer)?;
        key.public.verify_sig(token.message, signature).map_err(|_| Refusal::Signature)?;
        if let Some(id) = id {
            self.verified.insert(id, ());
        }
        Ok(())
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
    use crate::auth::test_support::RsaKey;
    use serde_json::{Value, json};

    fn read(keys: &[Value]) -> Option<KeySet> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes())
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
            assert!(read(&[but(&change)]).is_some(), "{change}");
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
        let good = RsaKey::first().sign(&json!({"sub": "a"}));
        let forged = RsaKey::second().signed_as("first", &json!({"sub": "a"}));
        for _ in 0..2 {
            let token = Token::split(forged.as_bytes()).expect("a token");
            assert_eq!(set.verify("first", &token), Err(Refusal::Signature));
            assert_eq!(set.remembered(), 0);
        }
        for _ in 0..2 {
            let token = Token::split(good.as_bytes()).expect("a token");
            assert_eq!(set.verify("first", &token), Ok(()));
            assert_eq!(set.remembered(), 1);
        }
        let other_claims = format!("{}x{}", &good[..good.len() / 2], &good[good.len() / 2 + 1..]);
        let token = Token::split(other_claims.as_bytes()).expect("a token");
        assert_eq!(set.verify("first", &token), Err(Refusal::Signature));
    }
}
