//! Tokens for development: of the Supabase kind, signed with the configured secret.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kernel::{Email, ExternalId, Secret, Timestamp};

/// How long a token is valid, in seconds.
pub const LIFETIME_S: i64 = 3600;

/// A signed token for the user, valid for [`LIFETIME_S`] from `now`.
#[must_use]
pub fn mint(secret: &Secret, subject: &ExternalId, email: Option<&Email>, now: Timestamp) -> String {
    let mut claims = serde_json::json!({
        "aud": "authenticated",
        "role": "authenticated",
        "iss": "supabase",
        "sub": subject,
        "iat": now.seconds(),
        "exp": now.seconds() + LIFETIME_S,
    });
    if let Some(email) = email {
        claims["email"] = email.as_str().into();
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};

    #[test]
    fn another_implementation_reads_the_documented_claims() {
        let secret = Secret::new("development-secret".into());
        let subject = "auth0|test123".parse().expect("an id");
        let email = Email::new("test@test.com").expect("an address");
        let token = mint(&secret, &subject, Some(&email), Timestamp::from_micros(1_700_000_000_500_000));

        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&["authenticated"]);
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(b"development-secret");
        let read = jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation).expect("a token");
        assert_eq!(
            read.claims,
            serde_json::json!({
                "aud": "authenticated", "role": "authenticated", "iss": "supabase",
                "sub": "auth0|test123", "email": "test@test.com",
                "iat": 1_700_000_000, "exp": 1_700_003_600,
            })
        );
    }
}
