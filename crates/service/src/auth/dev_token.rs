//! Tokens for development: of the Supabase kind, signed with the configured secret.

use jsonwebtoken::{EncodingKey, Header, encode};
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
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    encode(&Header::default(), &claims, &key).expect("HS256 takes any secret, and the claims are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};

    #[test]
    fn the_claims_are_the_documented_ones() {
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
