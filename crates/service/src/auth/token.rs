//! A token taken apart, nothing of it believed yet, and why one is refused.
//!
//! It is read here rather than by `jsonwebtoken`, which takes members that stand twice and reads header and
//! claims two times; that library's cryptography verifies the signature. What always holds:
//! - A token is the compact form of RFC 7515 to the letter: three parts, URL-safe base64 without padding, JSON
//!   objects in UTF-8 that name no member of theirs twice.
//! - What a header says of keys (`jwk`, `jku`, `x5u`, `x5c`) is not looked at.

use super::unique::Unique;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

/// The longest token that is looked at, in bytes; it is also half of what all headers may have.
pub const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// The longest key id that is looked at, in bytes.
pub const KEY_ID_MAX_BYTES: usize = 255;

/// The algorithms that a header may name. `EdDSA` is also written as the curve's name (RFC 9864).
const ALGORITHMS: [(&str, Algorithm); 11] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("Ed25519", Algorithm::EdDSA),
];

/// Why a token is refused; for the debug log and the metrics, the caller learns only that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Longer than any sensible token.
    #[error("the token is too long")]
    TooLong,
    /// Not three base64 parts with a JSON header and JSON claims of the right types.
    #[error("the token is malformed")]
    Malformed,
    /// Its issuer is none of the configured ones.
    #[error("the issuer is unknown")]
    Issuer,
    /// Its algorithm is not the one of the issuer's key, or it demands an extension.
    #[error("the algorithm is not the issuer's")]
    Algorithm,
    /// It names no key, or one that the issuer does not have.
    #[error("the key id is unknown")]
    KeyId,
    /// The issuer's keys were never fetched.
    #[error("the issuer's keys are not known yet")]
    KeysUnavailable,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
    /// It is meant for somebody else.
    #[error("the audience is wrong")]
    Audience,
    /// It says that it is no access token.
    #[error("the token is no access token")]
    Kind,
    /// It has no expiry, or has expired.
    #[error("the token is expired or has no expiry")]
    Expired,
    /// It is not valid yet, or from the future.
    #[error("the token is not valid yet")]
    NotYet,
    /// Its subject is no user id, or another issuer's.
    #[error("the subject is no user id of this issuer's")]
    Subject,
    /// It is a program's, and its issuer may not speak for programs.
    #[error("the token is a program's")]
    Program,
}

impl Refusal {
    /// The refusal as metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::KeyId => "key_id",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Kind => "kind",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Subject => "subject",
            Self::Program => "program",
        }
    }
}

/// A token's parts, and what its header says.
pub struct Token<'a> {
    /// What it says it is signed with.
    pub algorithm: Algorithm,
    /// The key that it names.
    pub key_id: Option<String>,
    /// What is signed: the first two parts with the dot between them.
    pub message: &'a str,
    /// The third part.
    pub signature: &'a str,
    payload: &'a str,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Refusal::TooLong`], [`Refusal::Malformed`], [`Refusal::Algorithm`] or [`Refusal::Kind`].
    pub fn read(text: &'a [u8]) -> Result<Self, Refusal> {
        if text.len() > TOKEN_MAX_BYTES {
            return Err(Refusal::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| Refusal::Malformed)?;
        let (message, signature) = text.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        if payload.contains('.') {
            return Err(Refusal::Malformed);
        }
        let header = object(header)?;
        let name = header.get("alg").and_then(Value::as_str).ok_or(Refusal::Algorithm)?;
        let known = ALGORITHMS.iter().find(|(known, _)| *known == name);
        let algorithm = known.map(|(_, algorithm)| *algorithm).ok_or(Refusal::Algorithm)?;
        // Extensions that must be understood are not, and an unencoded payload is one of them.
        if header.contains_key("crit") || header.get("b64").is_some_and(|b64| b64 != true) {
            return Err(Refusal::Algorithm);
        }
        if !header.get("typ").is_none_or(is_token_type) {
            return Err(Refusal::Kind);
        }
        Ok(Self { algorithm, key_id: key_id(&header)?, message, signature, payload })
    }

    /// What it says of its bearer.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn claims(&self) -> Result<Map<String, Value>, Refusal> {
        object(self.payload)
    }

    /// The bytes of its signature.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn signature_bytes(&self) -> Result<Vec<u8>, Refusal> {
        URL_SAFE_NO_PAD.decode(self.signature).map_err(|_| Refusal::Malformed)
    }
}

fn key_id(header: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) if (1..=KEY_ID_MAX_BYTES).contains(&id.len()) => Ok(Some(id.clone())),
        Some(_) => Err(Refusal::KeyId),
    }
}

/// `JWT`, or `at+jwt` (RFC 9068), as media types or short: in any case, with `application/` or without.
fn is_token_type(typ: &Value) -> bool {
    let typ = typ.as_str().map(str::to_ascii_lowercase).unwrap_or_default();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// The JSON object in one part of a token.
fn object(part: &str) -> Result<Map<String, Value>, Refusal> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)?;
    match serde_json::from_slice(&json) {
        Ok(Unique(Value::Object(members))) => Ok(members),
        _ => Err(Refusal::Malformed),
    }
}
