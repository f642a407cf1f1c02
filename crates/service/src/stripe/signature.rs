//! Whether an event comes from Stripe: the signature over its raw bytes.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use kernel::{Secret, Timestamp};

/// How old, or how far ahead, a signature may be in seconds.
pub const TOLERANCE_S: i64 = 300;
/// The longest header that is looked at.
const HEADER_MAX_BYTES: usize = 4096;
/// How many signatures of one header are looked at.
const SIGNATURES_MAX: usize = 16;

/// Why an event is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is missing or has no `t=` or no `v1=`.
    #[error("must be t=…,v1=… as Stripe sends it")]
    Malformed,
    /// None of its signatures is made with a secret of ours.
    #[error("no signature in it matches the body and STRIPE_WEBHOOK_SECRET")]
    Wrong,
    /// It is too old, or from the future.
    #[error("its time is more than 300 seconds away from the service's clock")]
    OutOfTime,
}

/// Checks the header `Stripe-Signature` of a body against each secret that is good.
///
/// # Errors
/// A [`SignatureError`]; the time is only looked at once a signature fits.
pub fn verify(header: &str, body: &[u8], secrets: &[Secret], now: Timestamp) -> Result<(), SignatureError> {
    if header.len() > HEADER_MAX_BYTES {
        return Err(SignatureError::Malformed);
    }
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let time =
        parts().find(|(name, _)| *name == "t").map(|(_, time)| time).ok_or(SignatureError::Malformed)?;
    let signed_at: i64 = time.parse().map_err(|_| SignatureError::Malformed)?;
    let signatures: Vec<[u8; 32]> = parts()
        .filter(|(name, _)| *name == "v1")
        .take(SIGNATURES_MAX)
        .filter_map(|(_, hex)| unhex(hex))
        .collect();
    if signatures.is_empty() {
        return Err(SignatureError::Malformed);
    }
    let mut signed = Vec::with_capacity(time.len() + 1 + body.len());
    signed.extend_from_slice(time.as_bytes());
    signed.push(b'.');
    signed.extend_from_slice(body);
    let fits = secrets.iter().any(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let tag = hmac::sign(&key, &signed);
        signatures.iter().any(|signature| verify_slices_are_equal(tag.as_ref(), signature).is_ok())
    });
    if !fits {
        return Err(SignatureError::Wrong);
    }
    if (now.seconds() - signed_at).abs() > TOLERANCE_S { Err(SignatureError::OutOfTime) } else { Ok(()) }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_753_574_400 * 1_000_000);

    fn sign(body: &str, secret: &str, at: i64) -> String {
        use std::fmt::Write as _;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
        tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    fn check(header: &str) -> Result<(), SignatureError> {
        let secrets = ["whsec_new", "whsec_old"].map(|secret| Secret::new(secret.to_owned()));
        verify(header, b"{}", &secrets, NOW)
    }

    #[test]
    fn any_good_secret_and_any_of_several_signatures_will_do() {
        let at = NOW.seconds();
        let (new, old, other) =
            (sign("{}", "whsec_new", at), sign("{}", "whsec_old", at), sign("{}", "whsec_x", at));
        for header in [
            format!("t={at},v1={new}"),
            format!("t={at},v1={old},v0=abc"),
            format!("t={at},v1={other},v1={new}"),
            format!("t={at}, v1={new}"),
            format!("v1={new},t={at}"),
        ] {
            assert_eq!(check(&header), Ok(()), "{header}");
        }
        for edge in [at - TOLERANCE_S, at + TOLERANCE_S] {
            assert_eq!(check(&format!("t={edge},v1={}", sign("{}", "whsec_new", edge))), Ok(()));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let at = NOW.seconds();
        let good = sign("{}", "whsec_new", at);
        for (header, why) in [
            (String::new(), SignatureError::Malformed),
            (format!("v1={good}"), SignatureError::Malformed),
            (format!("t={at}"), SignatureError::Malformed),
            (format!("t=now,v1={good}"), SignatureError::Malformed),
            (format!("t={at},v0={good}"), SignatureError::Malformed),
            (format!("t={at},v1=ab"), SignatureError::Malformed),
            (format!("t={at},v1={}é", &good[..62]), SignatureError::Malformed),
            (format!("t={at},v1={}", "a".repeat(HEADER_MAX_BYTES)), SignatureError::Malformed),
            (format!("t={},v1={good}", at + 1), SignatureError::Wrong),
            (format!("t={at},v1={}", sign("{ }", "whsec_new", at)), SignatureError::Wrong),
            (format!("t={at},v1={}", sign("{}", "whsec_x", at)), SignatureError::Wrong),
            (format!("t={},v1={}", at - 301, sign("{}", "whsec_new", at - 301)), SignatureError::OutOfTime),
            (format!("t={},v1={}", at + 301, sign("{}", "whsec_new", at + 301)), SignatureError::OutOfTime),
        ] {
            assert_eq!(check(&header), Err(why), "{header}");
        }
        assert_eq!(verify(&format!("t={at},v1={good}"), b"{}", &[], NOW), Err(SignatureError::Wrong));
    }
}
