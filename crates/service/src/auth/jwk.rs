//! One signing key of a key document (RFC 7517): read, judged, used.
//!
//! What always holds:
//! - A key has one algorithm: the one that it names, or else the usual one of its type. Never a symmetric
//!   one, so that no published text can be a secret.
//! - A key for encryption, a weak one, or one of a form that is not known here is passed over.

use super::token::{Refusal, Token};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::Value;

/// The sizes of RSA moduli that are taken, in bytes: 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The algorithms that an RSA key may name; one that names none is for RS256.
const RSA: [(&str, Algorithm); 6] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
];

/// A key as it is published, as far as it matters here.
#[derive(PartialEq, Eq, Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A public key that verifies signatures of one algorithm.
pub struct Key {
    jwk: Jwk,
    algorithm: Algorithm,
    public: DecodingKey,
}

impl Key {
    /// The key, where it is one for signatures, with an id, and strong enough.
    pub fn usable(jwk: &Value) -> Option<Self> {
        let jwk = Jwk::deserialize(jwk).ok()?;
        let verifies = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let algorithm = jwk.algorithm().filter(|_| verifies && !jwk.kid.is_empty())?;
        let public = jwk.public(algorithm)?;
        Some(Self { jwk, algorithm, public })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.jwk.kid
    }

    /// The one algorithm that it is for.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Refuses a token that this key did not sign.
    ///
    /// # Errors
    /// [`Refusal::Signature`].
    pub fn verify(&self, token: &Token<'_>) -> Result<(), Refusal> {
        match crypto::verify(token.signature, token.message.as_bytes(), &self.public, self.algorithm) {
            Ok(true) => Ok(()),
            _ => Err(Refusal::Signature),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.jwk == other.jwk
    }
}

impl Jwk {
    fn algorithm(&self) -> Option<Algorithm> {
        match (self.kty.as_str(), self.crv.as_deref(), self.alg.as_deref()) {
            ("RSA", _, None) => Some(Algorithm::RS256),
            ("RSA", _, Some(name)) => RSA.iter().find(|(known, _)| *known == name).map(|(_, alg)| *alg),
            ("EC", Some("P-256"), None | Some("ES256")) => Some(Algorithm::ES256),
            ("EC", Some("P-384"), None | Some("ES384")) => Some(Algorithm::ES384),
            ("OKP", Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => Some(Algorithm::EdDSA),
            _ => None,
        }
    }

    fn public(&self, algorithm: Algorithm) -> Option<DecodingKey> {
        match algorithm {
            Algorithm::ES256 => self.point(32),
            Algorithm::ES384 => self.point(48),
            Algorithm::EdDSA => {
                bytes(self.x.as_deref()?).filter(|x| x.len() == 32).map(|x| DecodingKey::from_ed_der(&x))
            }
            _ => {
                let (n, e) = (bytes(self.n.as_deref()?)?, bytes(self.e.as_deref()?)?);
                let (n, e) = (number(&n)?, number(&e)?);
                let key = DecodingKey::from_rsa_raw_components(n, e);
                MODULUS_BYTES.contains(&n.len()).then_some(key)
            }
        }
    }

    /// An uncompressed point of a curve whose coordinates have `size` bytes.
    fn point(&self, size: usize) -> Option<DecodingKey> {
        let (x, y) = (bytes(self.x.as_deref()?)?, bytes(self.y.as_deref()?)?);
        let fits = x.len() == size && y.len() == size;
        fits.then(|| DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A big-endian number; some providers write leading zeros, with which no signature would verify.
fn number(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|byte| *byte != 0).map(|start| &bytes[start..])
}
