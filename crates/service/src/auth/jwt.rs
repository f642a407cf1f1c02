//! From a token to a user.
//!
//! What always holds:
//! - The issuer that the token states selects one configured provider, and with it the one
//!   algorithm and the keys that may have signed it. The token's own `alg` must agree.
//! - A token is parsed once and its claims are checked on every request, also when its
//!   signature was verified before, so nothing outlives its expiry.
//!
//! The parsing is our own and the cryptography `aws-lc-rs`: a library that owns both needs the
//! key before it hands out the issuer, so it would parse each token twice, and it prepares the
//! HMAC key anew for each token. The tests hold it against tokens that `jsonwebtoken` made.

use super::claims::Claims;
use super::config::{Auth0, AuthConfigError, Supabase};
use super::jwks::{Jwks, Limits};
use super::principal::UserPrincipal;
use super::token::{Header, Refusal, Token, object};
use aws_lc_rs::hmac;
use kernel::Clock;

/// The audience of Supabase's tokens for signed-in users.
const SUPABASE_AUDIENCE: &str = "authenticated";

/// Verifies the tokens of the configured identity providers.
pub struct Verifier {
    supabase: Option<SupabaseIssuer>,
    auth0: Option<Auth0Issuer>,
    admin_role: String,
    clock: Clock,
}

struct SupabaseIssuer {
    key: hmac::Key,
    project_issuer: Option<String>,
}

struct Auth0Issuer {
    issuer: String,
    audience: Option<String>,
    jwks: Jwks,
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
        let supabase = supabase.map(SupabaseIssuer::new).transpose()?;
        let auth0 = auth0.map(|auth0| Auth0Issuer::new(auth0, clock.clone())).transpose()?;
        Ok(Self { supabase, auth0, admin_role, clock })
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
        let token = Token::split(token)?;
        let mut buffer = Vec::new();
        let header_len = token.decode(&mut buffer)?;
        let (header, claims) = buffer.split_at(header_len);
        let header: Header<'_> = object(header).ok_or(Refusal::Malformed)?;
        let claims: Claims<'_> = object(claims).ok_or(Refusal::Malformed)?;
        let issuer = claims.issuer().ok_or(Refusal::Issuer)?;
        claims.check_times(self.clock.now())?;
        if let Some(supabase) = self.supabase.as_ref().filter(|supabase| supabase.is(issuer)) {
            supabase.verify(&token, &header, &claims)?;
        } else if let Some(auth0) = self.auth0.as_ref().filter(|auth0| auth0.issuer == issuer) {
            auth0.verify(&token, &header, &claims).await?;
        } else {
            return Err(Refusal::Issuer);
        }
        claims.user(&self.admin_role)
    }
}

impl SupabaseIssuer {
    fn new(config: &Supabase) -> Result<Self, AuthConfigError> {
        let secret = config.jwt_secret.expose().as_bytes();
        if secret.is_empty() {
            return Err(AuthConfigError::Secret);
        }
        let project_issuer = config.url.as_ref().map(|url| format!("{}/auth/v1", url.trim_end_matches('/')));
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), project_issuer })
    }

    fn is(&self, issuer: &str) -> bool {
        issuer == "supabase" || self.project_issuer.as_deref() == Some(issuer)
    }

    fn verify(&self, token: &Token<'_>, header: &Header<'_>, claims: &Claims<'_>) -> Result<(), Refusal> {
        if !header.is("HS256") {
            return Err(Refusal::Algorithm);
        }
        claims.check_audience(SUPABASE_AUDIENCE)?;
        let mut buffer = [0; 64];
        let signature = token.signature(&mut buffer)?;
        hmac::verify(&self.key, token.message, signature).map_err(|_| Refusal::Signature)
    }
}

impl Auth0Issuer {
    fn new(config: &Auth0, clock: Clock) -> Result<Self, AuthConfigError> {
        let url = config.issuer()?;
        if config.audience.as_ref().is_some_and(String::is_empty) {
            return Err(AuthConfigError::Audience);
        }
        let keys_url = url.join(".well-known/jwks.json").map_err(|_| AuthConfigError::Domain)?;
        let jwks = Jwks::start(keys_url, clock, Limits::default())
            .map_err(|error| AuthConfigError::Client(error.to_string()))?;
        Ok(Self { issuer: url.into(), audience: config.audience.clone(), jwks })
    }

    async fn verify(
        &self,
        token: &Token<'_>,
        header: &Header<'_>,
        claims: &Claims<'_>,
    ) -> Result<(), Refusal> {
        if !header.is("RS256") {
            return Err(Refusal::Algorithm);
        }
        if let Some(audience) = &self.audience {
            claims.check_audience(audience)?;
        }
        let kid = header.kid.one().ok_or(Refusal::KeyId)?;
        self.jwks.having(kid).await?.verify(kid, token)
    }
}
