//! A token's outside: three parts, decoded but not yet believed.

use super::words::Words;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::{Deserialize, IgnoredAny};

/// The longest token that is looked at, in bytes; it is also half of what all headers may have.
pub const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// Why a token is refused; for the debug log, the caller learns only that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Longer than any sensible token.
    #[error("the token is too long")]
    TooLong,
    /// Not three base64 parts with a JSON header and JSON claims.
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
    /// It has no expiry, or has expired.
    #[error("the token is expired or has no expiry")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet")]
    NotYet,
    /// Its subject is no user id.
    #[error("the subject is no user id")]
    Subject,
}

/// A token in its parts, still in base64.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    /// All of it.
    pub whole: &'a [u8],
    /// What the signature signs: header, dot, claims.
    pub message: &'a [u8],
    header: &'a [u8],
    claims: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Token<'a> {
    /// Splits a token at its two dots.
    ///
    /// # Errors
    /// [`Refusal::TooLong`] or [`Refusal::Malformed`].
    pub fn split(whole: &'a [u8]) -> Result<Self, Refusal> {
        if whole.len() > TOKEN_MAX_BYTES {
            return Err(Refusal::TooLong);
        }
        let mut parts = whole.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed);
        };
        let message = &whole[..header.len() + 1 + claims.len()];
        Ok(Self { whole, message, header, claims, signature })
    }

    /// Decodes header and claims, in this order, into one buffer; returns the header's length.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when a part is not unpadded, canonical base64url.
    pub fn decode(&self, buffer: &mut Vec<u8>) -> Result<usize, Refusal> {
        buffer.reserve(self.message.len());
        URL_SAFE_NO_PAD.decode_vec(self.header, buffer).map_err(|_| Refusal::Malformed)?;
        let header_len = buffer.len();
        URL_SAFE_NO_PAD.decode_vec(self.claims, buffer).map_err(|_| Refusal::Malformed)?;
        Ok(header_len)
    }

    /// Decodes the signature into `buffer`.
    ///
    /// # Errors
    /// [`Refusal::Signature`] when it is no base64url or does not fit.
    pub fn signature<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Refusal> {
        match URL_SAFE_NO_PAD.decode_slice(self.signature, buffer) {
            Ok(len) => Ok(&buffer[..len]),
            Err(_) => Err(Refusal::Signature),
        }
    }
}

/// The first part of a token.
#[derive(serde::Deserialize)]
pub struct Header<'a> {
    /// The algorithm that it claims to be signed with.
    #[serde(default, borrow)]
    pub alg: Words<'a>,
    /// The id of the key that it claims to be signed with.
    #[serde(default, borrow)]
    pub kid: Words<'a>,
    /// Extensions that must be understood; none is.
    crit: Option<IgnoredAny>,
}

impl Header<'_> {
    /// Whether the token claims exactly this algorithm, and demands nothing beyond.
    #[must_use]
    pub fn is(&self, alg: &str) -> bool {
        self.alg.one() == Some(alg) && self.crit.is_none()
    }
}

/// Reads a JSON object; a list is none, though serde would take one for a struct.
pub fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let opens = json.trim_ascii_start().first() == Some(&b'{');
    opens.then(|| serde_json::from_slice(json).ok()).flatten()
}
