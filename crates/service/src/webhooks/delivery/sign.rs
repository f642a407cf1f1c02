//! Signing a delivery as Standard Webhooks has it: who receives it can tell that it is from here, whole and fresh.
//!
//! What is signed is `id.timestamp.body`. While a secret is rotated, the one before signs too, so that a
//! receiver may change over whenever it likes.

use crate::webhooks::model::SignatureKind;
use crate::webhooks::secret::SigningKey;
use aws_lc_rs::{hmac, signature::Ed25519KeyPair};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use kernel::Timestamp;

/// A key as it signs.
pub enum Prepared {
    /// A secret that both sides know: `v1`.
    Shared(Box<hmac::Key>),
    /// A key whose public half the receiver knows: `v1a`.
    Pair(Ed25519KeyPair),
}

impl Prepared {
    /// The key of an endpoint, ready to sign.
    ///
    /// # Errors
    /// A sentence without the key, when it is none of its kind.
    pub fn of(key: &SigningKey) -> Result<Self, String> {
        match key.kind() {
            SignatureKind::V1 => Ok(Self::Shared(Box::new(hmac::Key::new(hmac::HMAC_SHA256, key.bytes())))),
            SignatureKind::V1a => {
                key.pair().map(Self::Pair).ok_or_else(|| "a stored key is no Ed25519 key".to_owned())
            }
        }
    }

    fn sign(&self, text: &[u8]) -> (&'static str, Vec<u8>) {
        match self {
            Self::Shared(key) => ("v1", hmac::sign(key, text).as_ref().to_vec()),
            Self::Pair(pair) => ("v1a", pair.sign(text).as_ref().to_vec()),
        }
    }
}

/// A key, and until when it signs.
pub struct Signer {
    /// The key.
    pub key: Prepared,
    /// The end of its overlap; absent for the one that is in force.
    pub until: Option<Timestamp>,
}

/// The header `webhook-signature`: one signature for each key that signs at that time, parted by spaces.
#[must_use]
pub fn signature(signers: &[Signer], id: &str, at: Timestamp, body: &str) -> String {
    let text = format!("{id}.{}.{body}", at.seconds());
    let live = signers.iter().filter(|signer| signer.until.is_none_or(|until| at < until));
    let signed = live.map(|signer| {
        let (kind, signature) = signer.key.sign(text.as_bytes());
        format!("{kind},{}", STANDARD.encode(signature))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, KeyPair as _, UnparsedPublicKey};

    fn prepared(kind: SignatureKind, key: &[u8]) -> Prepared {
        Prepared::of(&SigningKey::stored(kind, key.to_vec())).expect("a key")
    }

    const AT: Timestamp = Timestamp::from_micros(1_614_265_330_999_999);

    #[test]
    fn the_example_of_the_specification_is_signed_alike() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signers = [Signer { key: prepared(SignatureKind::V1, &secret), until: None }];
        assert_eq!(
            signature(&signers, "msg_p5jXN8AQM9LWM0D4loKWxJek", AT, r#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_pair_signs_what_its_public_half_verifies() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a pair");
        let public = pair.public_key().as_ref().to_vec();
        let signers = [Signer { key: prepared(SignatureKind::V1a, &[7; 32]), until: None }];
        let header = signature(&signers, "evt_1", AT, "{}");
        let signed = STANDARD.decode(header.strip_prefix("v1a,").expect("the kind")).expect("base64");
        let key = UnparsedPublicKey::new(&ED25519, public);
        assert!(key.verify(b"evt_1.1614265330.{}", &signed).is_ok());
        assert!(key.verify(b"evt_1.1614265330.{ }", &signed).is_err());
    }

    #[test]
    fn a_secret_signs_up_to_the_end_of_its_overlap() {
        let signers = |until| {
            let key = |secret: &[u8]| prepared(SignatureKind::V1, secret);
            [Signer { key: key(b"new"), until: None }, Signer { key: key(b"old"), until: Some(until) }]
        };
        assert_eq!(signature(&signers(AT), "evt_1", AT, "{}").split(' ').count(), 1);
        let later = Timestamp::from_micros(AT.micros() + 1);
        assert_eq!(signature(&signers(later), "evt_1", AT, "{}").split(' ').count(), 2);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let stored = SigningKey::stored(SignatureKind::V1a, b"hunter2".to_vec());
        assert!(Prepared::of(&stored).is_err_and(|why| !why.contains("hunter2")));
    }
}
