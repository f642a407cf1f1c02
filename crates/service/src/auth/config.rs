//! What can be configured about authentication, checked before the first request.

use super::claims::Terms;
use crate::config::{Auth0, Config, Supabase};
use kernel::Secret;
use reqwest::Url;

/// The audience of Supabase's tokens for signed-in users.
const SUPABASE_AUDIENCE: &str = "authenticated";

/// The issuer that development tokens, and those of old Supabase projects, state.
const SUPABASE_ISSUER: &str = "supabase";

/// The issuers and keys that are accepted. What is absent is refused.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// The issuers that publish the keys of their tokens.
    pub issuers: Vec<Issuer>,
    /// The secret that signs tokens too, where there is one.
    pub secret: Option<SharedSecret>,
    /// The bootstrap service key, `USER_SERVICE_API_KEY`.
    pub service_key: Option<Secret>,
}

/// An issuer of tokens that publishes its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// What its tokens state as `iss`, to the letter.
    pub url: String,
    /// Where its keys are.
    pub keys: KeySource,
    /// Whether tokens can also be checked without its keys, as in a Supabase project that signs with a secret.
    pub optional: bool,
    /// What its tokens must be, and how they are read.
    pub terms: Terms,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// At this address.
    Jwks(Url),
    /// Where the discovery document of this issuer says.
    Discovery(String),
}

/// A secret that signs tokens (HS256).
#[derive(Debug, Clone)]
pub struct SharedSecret {
    /// The secret.
    pub secret: Secret,
    /// What its tokens state as `iss`, one of these.
    pub issuers: Vec<String>,
    /// What its tokens must be, and how they are read.
    pub terms: Terms,
}

/// The configuration of authentication cannot work; the message names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthConfigError {
    /// An address where keys would be is none.
    #[error("{0}: no address of signing keys can be made of it")]
    Address(&'static str),
    /// An empty secret would let anybody sign tokens.
    #[error("SUPABASE_JWT_SECRET must not be empty")]
    Secret,
    /// An empty service key would let anybody in.
    #[error("USER_SERVICE_API_KEY must not be empty")]
    ServiceKey,
    /// The HTTP client that fetches keys could not be made.
    #[error("no HTTPS client can be made to fetch the signing keys of {0}: {1}")]
    Client(String, String),
}

impl AuthConfig {
    /// What the settings come to.
    ///
    /// # Errors
    /// [`AuthConfigError::Address`] names the setting.
    pub fn of(config: &Config) -> Result<Self, AuthConfigError> {
        let mut issuers = Vec::new();
        issuers.extend(config.auth0.as_ref().map(|auth0| auth0_issuer(auth0, config)).transpose()?);
        if let Some(supabase) = &config.supabase {
            issuers.extend(supabase_issuer(supabase, config)?);
        }
        issuers.extend(config.oidc.iter().cloned());
        let mut secret = config.supabase.as_ref().and_then(|supabase| shared_secret(supabase, config));
        keep_apart(
            issuers.iter_mut().map(|issuer| &mut issuer.terms).chain(secret.as_mut().map(|s| &mut s.terms)),
        );
        Ok(Self { issuers, secret, service_key: config.user_service_api_key.clone() })
    }
}

/// Tells each issuer which prefixes are others'.
fn keep_apart<'a>(terms: impl Iterator<Item = &'a mut Terms>) {
    let mut terms: Vec<&mut Terms> = terms.collect();
    let prefixes: Vec<String> =
        terms.iter().map(|terms| terms.prefix.clone()).filter(|prefix| !prefix.is_empty()).collect();
    for terms in &mut terms {
        terms.foreign_prefixes = prefixes.iter().filter(|prefix| **prefix != terms.prefix).cloned().collect();
    }
}

fn terms(name: &str, audiences: Vec<String>, config: &Config) -> Terms {
    Terms {
        name: name.to_owned(),
        audiences,
        audience_claim: "aud".into(),
        subject_claim: "sub".into(),
        prefix: String::new(),
        foreign_prefixes: Vec::new(),
        admin_claims: config.admin_claims.clone(),
        admin_role: config.admin_role.clone(),
        services: false,
    }
}

fn auth0_issuer(auth0: &Auth0, config: &Config) -> Result<Issuer, AuthConfigError> {
    let audiences = auth0.audience.iter().cloned().collect();
    Ok(Issuer {
        url: auth0.issuer(),
        keys: KeySource::Jwks(
            auth0.jwks_url().parse().map_err(|_| AuthConfigError::Address("AUTH0_DOMAIN"))?,
        ),
        optional: false,
        terms: Terms { services: true, ..terms("auth0", audiences, config) },
    })
}

fn supabase_issuer(supabase: &Supabase, config: &Config) -> Result<Option<Issuer>, AuthConfigError> {
    let Some(url) = supabase.issuer() else { return Ok(None) };
    let keys = format!("{url}/.well-known/jwks.json");
    let keys = keys.parse().map_err(|_| AuthConfigError::Address("SUPABASE_URL"))?;
    Ok(Some(Issuer {
        url,
        keys: KeySource::Jwks(keys),
        optional: supabase.jwt_secret.is_some(),
        terms: terms("supabase", vec![SUPABASE_AUDIENCE.into()], config),
    }))
}

fn shared_secret(supabase: &Supabase, config: &Config) -> Option<SharedSecret> {
    let secret = supabase.jwt_secret.clone()?;
    Some(SharedSecret {
        secret,
        issuers: supabase.issuer().into_iter().chain([SUPABASE_ISSUER.into()]).collect(),
        terms: terms("supabase", vec![SUPABASE_AUDIENCE.into()], config),
    })
}
