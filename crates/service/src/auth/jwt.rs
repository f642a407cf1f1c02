//! From a token to a user.
//!
//! What always holds:
//! - The issuer that the token states selects one configured provider, and with it the one
//!   algorithm and the keys that may have signed it. The token's own `alg` must agree.
//! - Its times are checked on every request, also when its signature was verified before, so
//!   nothing outlives its expiry.

use super::config::{Auth0, AuthConfigError, Supabase};
use super::jwks::{Jwks, Limits};
use super::principal::UserPrincipal;
use super::token::{Refusal, Rules, TOKEN_MAX_BYTES, Verified};
use jsonwebtoken::{Algorithm, DecodingKey, dangerous::insecure_decode_claims, decode_header};
use kernel::Clock;

/// The audience of Supabase's tokens for signed-in users.
const SUPABASE_AUDIENCE: &str = "authenticated";

/// Verifies the tokens of the configured identity providers.
pub struct Verifier {
    supabase: Option<SupabaseIssuer>,
    auth0: Option<Auth0Issuer>,
    clock: Clock,
}

struct SupabaseIssuer {
    key: DecodingKey,
    rules: Rules,
}

struct Auth0Issuer {
    jwks: Jwks,
    rules: Rules,
}

/// What must be known of a token before its key is.
#[derive(serde::Deserialize)]
struct Stated {
    iss: String,
}

impl Verifier {
    /// Prepares the keys, and starts to fetch those that are fetched; needs a tokio runtime then.
    ///
    /// # Errors
    /// [`AuthConfigError`] names the key of the configuration that cannot work.
    pub fn new(
        auth0: Option<&Auth0>,
        supabase: Option<&Supabase>,
        admin_role: String,
        clock: Clock,
    ) -> Result<Self, AuthConfigError> {
        let supabase = supabase.map(|config| SupabaseIssuer::new(config, admin_role.clone())).transpose()?;
        let auth0 = auth0.map(|config| Auth0Issuer::new(config, admin_role, clock.clone())).transpose()?;
        Ok(Self { supabase, auth0, clock })
    }

    /// Whether every configured provider's keys are there.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.auth0.as_ref().is_none_or(|auth0| auth0.jwks.ready())
    }

    /// The user whom a token stands for.
    ///
    /// # Errors
    /// A [`Refusal`] that says why the token is not accepted.
    pub async fn verify(&self, token: &[u8]) -> Result<UserPrincipal, Refusal> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(Refusal::TooLong);
        }
        let verified = match (&self.auth0, &self.supabase) {
            (Some(auth0), _) if auth0.issued(token)? => auth0.verify(token).await?,
            (_, Some(supabase)) => supabase.rules.verify(token, &supabase.key)?,
            _ => return Err(Refusal::Issuer),
        };
        verified.check_times(self.clock.now())?;
        Ok(verified.user)
    }
}

impl SupabaseIssuer {
    fn new(config: &Supabase, admin_role: String) -> Result<Self, AuthConfigError> {
        let secret = config.jwt_secret.expose().as_bytes();
        if secret.is_empty() {
            return Err(AuthConfigError::Secret);
        }
        let project = config.url.as_ref().map(|url| format!("{}/auth/v1", url.trim_end_matches('/')));
        let issuers: Vec<String> = project.into_iter().chain(["supabase".into()]).collect();
        let rules = Rules::new(Algorithm::HS256, &issuers, Some(SUPABASE_AUDIENCE), admin_role);
        Ok(Self { key: DecodingKey::from_secret(secret), rules })
    }
}

impl Auth0Issuer {
    fn new(config: &Auth0, admin_role: String, clock: Clock) -> Result<Self, AuthConfigError> {
        let url = config.issuer()?;
        if config.audience.as_ref().is_some_and(String::is_empty) {
            return Err(AuthConfigError::Audience);
        }
        let keys_url = url.join(".well-known/jwks.json").map_err(|_| AuthConfigError::Domain)?;
        let jwks = Jwks::start(keys_url, clock, Limits::default())
            .map_err(|error| AuthConfigError::Client(error.to_string()))?;
        let rules = Rules::new(Algorithm::RS256, &[url.into()], config.audience.as_deref(), admin_role);
        Ok(Self { jwks, rules })
    }

    /// Whether an unverified token states this issuer.
    fn issued(&self, token: &[u8]) -> Result<bool, Refusal> {
        Ok(self.rules.has_issuer(&insecure_decode_claims::<Stated>(token)?.iss))
    }

    async fn verify(&self, token: &[u8]) -> Result<Verified, Refusal> {
        let kid = decode_header(token)?.kid.ok_or(Refusal::KeyId)?;
        self.jwks.having(&kid).await?.verify(&kid, token, &self.rules)
    }
}
