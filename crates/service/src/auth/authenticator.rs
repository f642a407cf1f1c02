//! From a request's headers to a principal.

use super::config::{AuthConfig, AuthConfigError};
use super::jwks::KeyState;
use super::jwt::Verifier;
use super::principal::{Principal, Scopes, ServicePrincipal};
use super::token::Refusal;
use super::user_token::UserTokens;
use crate::keys::{Keys, known::KeyError};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use kernel::{Clock, Secret};
use std::net::IpAddr;

/// The header of service keys.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What every service key that is made by this service starts with; no token does.
const KEY_PREFIX: &[u8] = crate::keys::text::PREFIX.as_bytes();

/// The id of the key `USER_SERVICE_API_KEY`.
pub const BOOTSTRAP: &str = "bootstrap";

/// Why a request has no principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It carries no credentials.
    #[error("no credentials")]
    Missing,
    /// Its credentials are not accepted; the debug log knows why.
    #[error("credentials that are not accepted")]
    Invalid,
    /// Its token cannot be judged, because the provider's keys were never fetched.
    #[error("the identity provider's keys are unavailable")]
    KeysUnavailable,
    /// Its key is right, and bound to other addresses.
    #[error("a key that is not for this address")]
    Address,
    /// Its key cannot be looked up.
    #[error("the service keys cannot be looked up")]
    Unavailable,
}

impl AuthError {
    /// Whether it says that the credentials are not good, rather than that nobody knows now.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Missing | Self::Invalid | Self::Address)
    }
}

/// Turns credentials into principals.
pub struct Authenticator {
    service_key: Option<(Secret, ServicePrincipal)>,
    verifier: Verifier,
    issued: Option<Issued>,
}

/// What this service issues itself.
struct Issued {
    keys: Keys,
    tokens: UserTokens,
}

/// What a request shows, as bytes of its headers.
enum Credential<'a> {
    Key(&'a [u8]),
    Bearer(&'a [u8]),
}

impl Authenticator {
    /// Prepares what is configured; with issuers it must be called inside a tokio runtime, because
    /// the keys are fetched in the background for as long as the authenticator lives.
    ///
    /// # Errors
    /// [`AuthConfigError`] names the key of the configuration that cannot work.
    pub fn new(config: AuthConfig, clock: Clock) -> Result<Self, AuthConfigError> {
        let AuthConfig { issuers, secret, service_key } = config;
        if service_key.as_ref().is_some_and(|key| key.expose().is_empty()) {
            return Err(AuthConfigError::ServiceKey);
        }
        let bootstrap = ServicePrincipal {
            key_id: BOOTSTRAP.into(),
            scopes: Scopes::all_but_admin(),
            requests_per_minute: None,
        };
        Ok(Self {
            service_key: service_key.map(|key| (key, bootstrap)),
            verifier: Verifier::new(issuers, secret, clock)?,
            issued: None,
        })
    }

    /// The same, which also accepts the keys and tokens that this service issues.
    #[must_use]
    pub fn with_issued(self, keys: Keys, tokens: UserTokens) -> Self {
        Self { issued: Some(Issued { keys, tokens }), ..self }
    }

    /// The principal of a request with these headers that came by no connection.
    ///
    /// # Errors
    /// As [`Authenticator::authenticate_from`].
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        self.authenticate_from(headers, None).await
    }

    /// The principal of a request with these headers, from that address.
    ///
    /// # Errors
    /// [`AuthError`]; the credentials themselves are in no error and no log.
    pub async fn authenticate_from(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> Result<Principal, AuthError> {
        match credential(headers)? {
            Credential::Key(key) => self.service(key, address).await,
            Credential::Bearer(value) if self.is_key(value) => self.service(value, address).await,
            Credential::Bearer(value) => match &self.issued {
                Some(issued) if issued.tokens.are_these(value) => {
                    issued.tokens.verify(value).await.map(Principal::User).map_err(refused)
                }
                _ => self.verifier.verify(value).await.map_err(refused),
            },
        }
    }

    /// How the keys are by which tokens are judged.
    #[must_use]
    pub fn key_state(&self) -> KeyState {
        self.verifier.state()
    }

    /// Each issuer whose tokens are accepted: its provider, what `iss` must be, and whether its keys are published.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.verifier.issuers()
    }

    /// Puts the ages of the keys among the numbers.
    pub fn measure(&self) {
        self.verifier.measure();
    }

    /// The tokens that this service issues.
    #[must_use]
    pub fn user_tokens(&self) -> Option<&UserTokens> {
        self.issued.as_ref().map(|issued| &issued.tokens)
    }

    /// Whether it is a key and no token: the bootstrap key may be any text.
    fn is_key(&self, value: &[u8]) -> bool {
        value.starts_with(KEY_PREFIX) || self.bootstrap(value).is_some()
    }

    fn bootstrap(&self, key: &[u8]) -> Option<&ServicePrincipal> {
        let (secret, principal) = self.service_key.as_ref()?;
        verify_slices_are_equal(secret.expose().as_bytes(), key).ok().map(|()| principal)
    }

    async fn service(&self, key: &[u8], address: Option<IpAddr>) -> Result<Principal, AuthError> {
        if let Some(principal) = self.bootstrap(key) {
            return Ok(Principal::Service(principal.clone()));
        }
        let Some(issued) = &self.issued else { return Err(AuthError::Invalid) };
        issued.keys.authenticate(key, address).await.map(Principal::Service).map_err(|error| {
            tracing::debug!(reason = %error, "key refused");
            match error {
                KeyError::Address => AuthError::Address,
                KeyError::Unavailable(_) => AuthError::Unavailable,
                _ => AuthError::Invalid,
            }
        })
    }
}

fn refused(refusal: Refusal) -> AuthError {
    tracing::debug!(reason = %refusal, "token refused");
    match refusal {
        Refusal::KeysUnavailable => AuthError::KeysUnavailable,
        _ => AuthError::Invalid,
    }
}

/// The one credential of a request; two are refused, for it would be unclear who acts.
fn credential(headers: &HeaderMap) -> Result<Credential<'_>, AuthError> {
    let mut keys = headers.get_all(API_KEY).iter();
    let mut authorizations = headers.get_all(AUTHORIZATION).iter();
    match (keys.next(), authorizations.next()) {
        (None, None) => Err(AuthError::Missing),
        (Some(key), None) if keys.next().is_none() => Ok(Credential::Key(key.as_bytes().trim_ascii())),
        (None, Some(value)) if authorizations.next().is_none() => {
            bearer(value.as_bytes()).map(Credential::Bearer).ok_or(AuthError::Invalid)
        }
        _ => Err(AuthError::Invalid),
    }
}

/// What follows the scheme `Bearer`, in upper or lower case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Bearer".len())?;
    let parted = rest.first() == Some(&b' ');
    (scheme.eq_ignore_ascii_case(b"Bearer") && parted).then(|| rest.trim_ascii())
}
