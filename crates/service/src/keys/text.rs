//! What a key looks like: `usk_`, its public id, its secret, and a checksum.
//!
//! `usk_k3Jx9TqLm2_` + 32 characters of secret + 6 of checksum, all of them letters and digits. The checksum
//! is the CRC-32 of all that precedes it, as GitHub's tokens have it: scanners that look for leaked
//! keys can tell one from noise, and a slip of the pen is found without asking the database.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use kernel::Secret;

/// What every key begins with.
pub const PREFIX: &str = "usk_";
/// How many characters its public id has.
pub const ID_CHARS: usize = 10;
/// How many characters its secret has: 190 bits.
const SECRET_CHARS: usize = 32;
const CHECKSUM_CHARS: usize = 6;
/// How many characters a key has.
pub const KEY_CHARS: usize = PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS + CHECKSUM_CHARS;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key that was just made, to be shown once.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The whole key.
    pub key: Secret,
    /// Its public id.
    pub key_id: String,
    /// What of it is kept.
    pub digest: [u8; 32],
}

/// Makes a key, of that id where it is one's next secret.
#[must_use]
pub fn make(key_id: Option<&str>) -> Fresh {
    let key_id = key_id.map_or_else(|| random(ID_CHARS), str::to_owned);
    let body = format!("{PREFIX}{key_id}_{}", random(SECRET_CHARS));
    let key = format!("{body}{}", checksum(&body));
    Fresh { digest: digest_of(key.as_bytes()), key: Secret::new(key), key_id }
}

/// Whether a text has the form of a key's public id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The public id of a key whose form and checksum are right.
#[must_use]
pub fn id_of(key: &[u8]) -> Option<&str> {
    if key.len() != KEY_CHARS {
        return None;
    }
    let text = std::str::from_utf8(key).ok()?;
    let (body, sum) = text.split_at_checked(KEY_CHARS - CHECKSUM_CHARS)?;
    let (key_id, secret) = body.strip_prefix(PREFIX)?.split_once('_')?;
    let plain = secret.bytes().all(|b| b.is_ascii_alphanumeric());
    let right = is_id(key_id) && plain && checksum(body) == sum;
    right.then_some(key_id)
}

/// What of a key is kept.
#[must_use]
pub fn digest_of(key: &[u8]) -> [u8; 32] {
    let mut kept = [0; 32];
    kept.copy_from_slice(digest(&SHA256, key).as_ref());
    kept
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    digits.map(char::from).iter().collect()
}

/// Random letters and digits, each as likely as any other.
pub fn random(chars: usize) -> String {
    // The largest multiple of 62 that a byte can be below: what is above it would favour the first ones.
    const FAIR: u8 = 248;
    let mut text = String::with_capacity(chars);
    let mut bytes = [0; 64];
    while text.len() < chars {
        SystemRandom::new().fill(&mut bytes).expect("the system has random bytes");
        let fair = bytes.iter().filter(|byte| **byte < FAIR);
        text.extend(fair.take(chars - text.len()).map(|byte| ALPHABET[usize::from(byte % 62)] as char));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_form_and_its_checksum() {
        let fresh = make(None);
        let key = fresh.key.expose();
        assert_eq!((key.len(), id_of(key.as_bytes())), (KEY_CHARS, Some(&*fresh.key_id)));
        assert_eq!(fresh.digest, digest_of(key.as_bytes()));
        for place in 0..key.len() {
            let mut mistyped = key.as_bytes().to_vec();
            mistyped[place] = if mistyped[place] == b'x' { b'y' } else { b'x' };
            assert_eq!(id_of(&mistyped), None, "{place}");
        }
        let (short, long, swapped) = (&key[..key.len() - 1], format!("{key}0"), key.replace("usk_", "USK_"));
        for bad in ["", "usk_", short, &long, &swapped, &"é".repeat(KEY_CHARS / 2)] {
            assert_eq!(id_of(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn callers_that_are_no_keys_of_ours_have_no_id_of_one() {
        assert!(is_id(&make(None).key_id));
        // The bootstrap key, and programs with tokens of their issuer.
        for other in ["bootstrap", "auth0:abc@clients", "supabase:k3Jx9TqLm2", "k3Jx9TqLm:", ""] {
            assert!(!is_id(other), "{other}");
        }
    }

    #[test]
    fn the_checksum_is_what_is_written_down() {
        // From `zlib.crc32`, so that others can check keys by the documents.
        assert_eq!(checksum("usk_k3Jx9TqLm2_00000000000000000000000000000000"), "15werP");
    }

    #[test]
    fn keys_are_never_alike_and_a_next_secret_keeps_its_id() {
        let (one, two) = (make(None), make(None));
        assert!(one.key_id != two.key_id && one.digest != two.digest);
        let next = make(Some(&one.key_id));
        assert_eq!(id_of(next.key.expose().as_bytes()), Some(&*one.key_id));
        assert_ne!(next.digest, one.digest);
        let text = random(62 * 200);
        assert!(ALPHABET.iter().all(|letter| {
            let times = text.bytes().filter(|b| b == letter).count();
            (100..300).contains(&times)
        }));
    }
}
