//! What deliveries are signed with, in the forms of Standard Webhooks.
//!
//! It is kept as it is, for a digest signs nothing; it leaves once, in the answer that made it. Of an Ed25519 key only the public half
//! ever leaves (`whpk_…`): with it a receiver can check and not forge.

use super::model::SignatureKind;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kernel::Secret;
use std::fmt;

/// What a secret of [`SignatureKind::V1`] begins with.
const SECRET_PREFIX: &str = "whsec_";
/// What a public key of [`SignatureKind::V1a`] begins with.
const PUBLIC_PREFIX: &str = "whpk_";
/// How many bytes a key has that is made here.
const KEY_BYTES: usize = 32;
/// The fewest and the most bytes of a secret that a caller brings along, as Standard Webhooks has it.
const OWN_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What signs.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    kind: SignatureKind,
    bytes: Vec<u8>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***", self.kind)
    }
}

impl SigningKey {
    /// A key that nobody knows.
    #[must_use]
    pub fn fresh(kind: SignatureKind) -> Self {
        let mut bytes = vec![0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).expect("the system has random bytes");
        Self { kind, bytes }
    }

    /// The key of a row.
    #[must_use]
    pub const fn stored(kind: SignatureKind, bytes: Vec<u8>) -> Self {
        Self { kind, bytes }
    }

    /// Takes a secret that a caller brings along.
    ///
    /// # Errors
    /// The rule that it breaks; the secret is not in it.
    pub fn own(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be whsec_ and the base64 of 24 to 64 bytes";
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(RULE)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| RULE)?;
        if !OWN_BYTES.contains(&bytes.len()) {
            return Err(RULE);
        }
        Ok(Self { kind: SignatureKind::V1, bytes })
    }

    /// How it signs.
    #[must_use]
    pub const fn kind(&self) -> SignatureKind {
        self.kind
    }

    /// The key of the HMAC, or the seed of the key pair.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a receiver checks deliveries by that it shares with this side.
    #[must_use]
    pub fn secret(&self) -> Option<Secret> {
        let shared = self.kind == SignatureKind::V1;
        shared.then(|| Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(&self.bytes))))
    }

    /// What a receiver checks deliveries by that everybody may know.
    #[must_use]
    pub fn public_key(&self) -> Option<String> {
        let pair = self.pair()?;
        Some(format!("{PUBLIC_PREFIX}{}", STANDARD.encode(pair.public_key().as_ref())))
    }

    /// The key pair, where it is one.
    #[must_use]
    pub fn pair(&self) -> Option<Ed25519KeyPair> {
        (self.kind == SignatureKind::V1a)
            .then(|| Ed25519KeyPair::from_seed_unchecked(&self.bytes).ok())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn a_secret_is_shared_and_a_key_pair_is_not() {
        let shared = SigningKey::fresh(SignatureKind::V1);
        let text = shared.secret().expect("a secret");
        assert_eq!(text.expose().len(), "whsec_".len() + 44);
        assert_eq!(SigningKey::own(text.expose()), Ok(shared.clone()));
        assert_eq!(shared.public_key(), None);
        let paired = SigningKey::fresh(SignatureKind::V1a);
        assert!(paired.secret().is_none());
        let public = paired.public_key().expect("a public key");
        let public = STANDARD.decode(public.strip_prefix("whpk_").expect("the prefix")).expect("base64");
        let signature = paired.pair().expect("a key pair").sign(b"text");
        assert!(UnparsedPublicKey::new(&ED25519, public).verify(b"text", signature.as_ref()).is_ok());
    }

    #[test]
    fn what_is_no_secret_is_refused_and_none_is_printed() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        assert!(SigningKey::own(&of(24)).is_ok() && SigningKey::own(&of(64)).is_ok());
        for bad in [
            of(23),
            of(65),
            of(0),
            "whsec_%%%".into(),
            "whsk_AAAA".into(),
            of(32).replace("whsec_", ""),
            of(25).replace('=', ""),
        ] {
            let rule = SigningKey::own(&bad).expect_err(&bad);
            assert!(rule.starts_with("must be whsec_"), "{bad}");
        }
        assert_eq!(format!("{:?}", SigningKey::fresh(SignatureKind::V1a)), "v1a:***");
    }
}
