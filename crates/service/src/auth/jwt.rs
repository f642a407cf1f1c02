//! From a token to a principal.
//!
//! What always holds:
//! - The issuer that the token states selects one configured issuer, and with it the keys that may have signed
//!   it; each key has one algorithm, and the token's own `alg` must agree. A token with HS256 meets the shared
//!   secret and nothing else, any other never meets it.
//! - What is cheap to refuse is refused first: length, form, issuer, claims and times, then the key, and the
//!   signature last. Nobody learns which it was.
//! - Its times are checked on every request, also when its signature was verified before, so
//!   nothing outlives its expiry.

use super::claims::{Claims, Verified};
use super::config::{AuthConfigError, Issuer, SharedSecret};
use super::jwks::{Jwks, KeyState, Limits};
use super::key_set::{Digest, digest_of};
use super::principal::Principal;
use super::token::{Refusal, Token};
use crate::measure;
use aws_lc_rs::hmac;
use jsonwebtoken::Algorithm;
use kernel::{Clock, Timestamp};

/// Verifies the tokens of the configured issuers.
pub struct Verifier {
    secret: Option<Shared>,
    issuers: Vec<Provider>,
    clock: Clock,
}

/// The holder of the shared secret.
struct Shared {
    key: hmac::Key,
    config: SharedSecret,
}

/// An issuer with its keys.
struct Provider {
    jwks: Jwks,
    config: Issuer,
}

/// How a token came to be believed.
#[derive(Clone, Copy)]
enum How {
    Verified,
    Remembered,
}

impl Verifier {
    /// Prepares the keys, and starts to fetch those that are fetched; needs a tokio runtime then.
    ///
    /// # Errors
    /// [`AuthConfigError`] names the key of the configuration that cannot work.
    pub fn new(
        issuers: Vec<Issuer>,
        secret: Option<SharedSecret>,
        clock: Clock,
    ) -> Result<Self, AuthConfigError> {
        let issuers = issuers.into_iter().map(|issuer| Provider::new(issuer, &clock));
        let secret = secret.map(Shared::new).transpose()?;
        Ok(Self { secret, issuers: issuers.collect::<Result<_, _>>()?, clock })
    }

    /// How the keys are: as those of the issuer who is worst off.
    #[must_use]
    pub fn state(&self) -> KeyState {
        let needed = self.issuers.iter().filter(|issuer| !issuer.config.optional);
        needed.map(|issuer| issuer.jwks.state()).max().unwrap_or(KeyState::Ok)
    }

    /// Each issuer whose tokens are accepted: its provider, what `iss` must be, and whether its keys are published.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        let published = self.issuers.iter().map(|issuer| (&issuer.config.terms, &issuer.config.url, true));
        let secret = self.secret.iter().map(|secret| &secret.config);
        let secret = secret.flat_map(|s| s.issuers.iter().map(|issuer| (&s.terms, issuer, false)));
        published.chain(secret).map(|(terms, issuer, keys)| (terms.name.as_str(), issuer.as_str(), keys))
    }

    /// Puts the ages of all keys among the numbers.
    pub fn measure(&self) {
        for issuer in &self.issuers {
            if let Some(age) = issuer.jwks.age() {
                measure::jwks_age(&issuer.config.terms.name, age);
            }
        }
    }

    /// Whom a token stands for.
    ///
    /// # Errors
    /// A [`Refusal`] that says why the token is not accepted.
    pub async fn verify(&self, token: &[u8]) -> Result<Principal, Refusal> {
        let judged = self.judge(token).await;
        measure::token_judged(match &judged {
            Ok((_, How::Verified)) => "verified",
            Ok((_, How::Remembered)) => "remembered",
            Err(refusal) => refusal.name(),
        });
        judged.map(|(principal, _)| principal)
    }

    async fn judge(&self, text: &[u8]) -> Result<(Principal, How), Refusal> {
        let token = Token::read(text)?;
        if token.algorithm == Algorithm::HS256 {
            let secret = self.secret.as_ref().ok_or(Refusal::Algorithm)?;
            return Ok((secret.verify(&token, self.clock.now())?.principal, How::Verified));
        }
        let digest = digest_of(text);
        if let Some(verified) = self.remembered(&digest) {
            return verified.map(|verified| (verified.principal, How::Remembered));
        }
        let claims = Claims(token.claims()?);
        let stated = claims.issuer().ok_or(Refusal::Issuer)?;
        let issuer = self.issuers.iter().find(|issuer| issuer.config.url == stated).ok_or(Refusal::Issuer)?;
        let verified = issuer.verify(&token, &claims, digest, self.clock.now()).await?;
        Ok((verified.principal, How::Verified))
    }

    /// What a token says that was verified before with a key that still is its issuer's.
    fn remembered(&self, token: &Digest) -> Option<Result<Verified, Refusal>> {
        let mut current = self.issuers.iter().map(|issuer| issuer.jwks.current());
        current.find_map(|keys| {
            let keys = keys.as_ref()?;
            let verified = keys.remembered(token)?;
            let judged = verified.check_times(self.clock.now());
            if judged == Err(Refusal::Expired) {
                keys.forget(token);
            }
            Some(judged.map(|()| verified))
        })
    }
}

impl Shared {
    fn new(config: SharedSecret) -> Result<Self, AuthConfigError> {
        let secret = config.secret.expose().as_bytes();
        if secret.is_empty() {
            return Err(AuthConfigError::Secret);
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), config })
    }

    fn verify(&self, token: &Token<'_>, now: Timestamp) -> Result<Verified, Refusal> {
        let claims = Claims(token.claims()?);
        if !claims.issuer().is_some_and(|stated| self.config.issuers.iter().any(|issuer| issuer == stated)) {
            return Err(Refusal::Issuer);
        }
        let verified = self.config.terms.read(&claims)?;
        verified.check_times(now)?;
        hmac::verify(&self.key, token.message.as_bytes(), &token.signature_bytes()?)
            .map_err(|_| Refusal::Signature)?;
        Ok(verified)
    }
}

impl Provider {
    fn new(config: Issuer, clock: &Clock) -> Result<Self, AuthConfigError> {
        let (name, limits) = (&config.terms.name, limits(&config));
        let jwks = Jwks::start(name, config.keys.clone(), clock.clone(), limits)
            .map_err(|error| AuthConfigError::Client(name.clone(), error.to_string()))?;
        Ok(Self { jwks, config })
    }

    async fn verify(
        &self,
        token: &Token<'_>,
        claims: &Claims,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        let verified = self.config.terms.read(claims)?;
        verified.check_times(now)?;
        let key_id = token.key_id.as_deref().ok_or(Refusal::KeyId)?;
        let keys = self.jwks.having(key_id).await?;
        keys.verify(key_id, token)?;
        keys.remember(digest, verified.clone());
        Ok(verified)
    }
}

/// Keys that may be missing for good are not asked for all the time.
fn limits(config: &Issuer) -> Limits {
    let usual = Limits::default();
    if config.optional { Limits { first_retry: usual.refresh, retry: usual.refresh, ..usual } } else { usual }
}
