//! What the tests of this room share: a clock, good claims, an authenticator.

pub use testkit::issuer::{Issuer as Server, Key, changed, hmac_signed, unsigned};

use super::{AuthConfig, Authenticator, Issuer, KeySource, SharedSecret, Terms};
use kernel::{Clock, Secret, Timestamp};
use serde_json::{Value, json};

/// The time at which the manual clock starts, in seconds since 1970.
pub const NOW_S: i64 = 1_800_000_000;
/// The secret of the Supabase project.
pub const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";
/// The audience of the Auth0 API.
pub const AUDIENCE: &str = "https://api.example.com";
/// The bootstrap service key.
pub const SERVICE_KEY: &str = "usk_bootstrap_key";

/// A clock that stands at [`NOW_S`].
pub fn manual_clock() -> Clock {
    Clock::manual(Timestamp::from_micros(NOW_S * 1_000_000))
}

/// The usual terms, without an audience.
pub fn terms() -> Terms {
    let claims = ["role", "roles", "permissions", "app_metadata.role", "app_metadata.roles"];
    Terms {
        name: "test".into(),
        audiences: Vec::new(),
        audience_claim: "aud".into(),
        subject_claim: "sub".into(),
        prefix: String::new(),
        foreign_prefixes: Vec::new(),
        admin_claims: claims.map(str::to_owned).to_vec(),
        admin_role: "admin".into(),
        services: false,
    }
}

/// The claims of a good Supabase token, with changes; a change to null takes the claim away.
pub fn supabase_claims(changes: &Value) -> Value {
    let good = json!({
        "iss": "supabase", "aud": "authenticated", "role": "authenticated", "sub": "auth0|test123",
        "email": "test@test.com", "iat": NOW_S, "exp": NOW_S + 3600,
    });
    changed(good, changes)
}

/// The claims of a good token of the tenant at `server`, with changes as above.
pub fn auth0_claims(server: &Server, changes: &Value) -> Value {
    let good = json!({
        "iss": server.url(), "aud": [AUDIENCE, "https://tenant/userinfo"], "sub": "auth0|abc",
        "name": "Ada", "iat": NOW_S, "exp": NOW_S + 3600,
    });
    changed(good, changes)
}

/// A token signed with a shared secret.
pub fn hs256(secret: &[u8], claims: &Value) -> String {
    hmac_signed(&unsigned(&json!({"alg": "HS256", "typ": "JWT"}), claims), secret)
}

/// An issuer whose keys are at `server`, with the usual terms and [`AUDIENCE`].
pub fn issuer(server: &Server) -> Issuer {
    Issuer {
        url: server.url(),
        keys: KeySource::Jwks(server.jwks_url().parse().expect("an address")),
        optional: false,
        terms: Terms { audiences: vec![AUDIENCE.into()], ..terms() },
    }
}

/// An authenticator that takes Supabase's tokens, the service key, and the tokens of `server`.
pub fn authenticator(server: Option<&Server>, clock: &Clock) -> Authenticator {
    let secret = SharedSecret {
        secret: Secret::new(SECRET.into()),
        issuers: vec!["https://project.supabase.co/auth/v1".into(), "supabase".into()],
        terms: Terms { audiences: vec!["authenticated".into()], ..terms() },
    };
    let config = AuthConfig {
        issuers: server.map(issuer).into_iter().collect(),
        secret: Some(secret),
        service_key: Some(Secret::new(SERVICE_KEY.into())),
    };
    Authenticator::new(config, clock.clone()).expect("an authenticator")
}
