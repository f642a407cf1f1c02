//! What can be configured about authentication, checked before the first request.

use kernel::Secret;
use reqwest::Url;

/// The identity providers and keys that are accepted. What is absent is refused.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Auth0 (or any provider with RS256 tokens and a JWKS at the usual place).
    pub auth0: Option<Auth0>,
    /// Supabase with its shared secret; development tokens are of this kind too.
    pub supabase: Option<Supabase>,
    /// The bootstrap service key, `USER_SERVICE_API_KEY`.
    pub service_key: Option<Secret>,
    /// The role that makes a user an admin; an empty one makes nobody an admin.
    pub admin_role: String,
}

/// An Auth0 tenant.
#[derive(Debug, Clone)]
pub struct Auth0 {
    /// The tenant's host name, such as `tenant.eu.auth0.com`.
    pub domain: String,
    /// The API's identifier that a token's `aud` must contain; without one `aud` is not checked.
    pub audience: Option<String>,
    /// The issuer, where it is not `https://{domain}/`.
    pub issuer_url: Option<String>,
}

/// A Supabase project.
#[derive(Debug, Clone)]
pub struct Supabase {
    /// The secret that tokens are signed with.
    pub jwt_secret: Secret,
    /// The project's address; its tokens' issuer is `{url}/auth/v1`.
    pub url: Option<String>,
}

/// The configuration of authentication cannot work; the message names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthConfigError {
    /// The Auth0 domain is no host name.
    #[error("AUTH0_DOMAIN must be a host name such as tenant.eu.auth0.com")]
    Domain,
    /// The audience is an empty text, which no token can have.
    #[error("AUTH0_AUDIENCE must not be empty")]
    Audience,
    /// An empty secret would let anybody sign tokens.
    #[error("SUPABASE_JWT_SECRET must not be empty")]
    Secret,
    /// An empty service key would let anybody in.
    #[error("USER_SERVICE_API_KEY must not be empty")]
    ServiceKey,
    /// The HTTP client that fetches keys could not be made.
    #[error("AUTH0_DOMAIN is set, but no HTTPS client can be made to fetch its keys: {0}")]
    Client(String),
}

impl Auth0 {
    /// The issuer as tokens state it, always with a slash at the end.
    ///
    /// # Errors
    /// [`AuthConfigError::Domain`] when it would be no address.
    pub fn issuer(&self) -> Result<Url, AuthConfigError> {
        let text = match &self.issuer_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            // People paste the address as often as the host name.
            None => format!("https://{}", self.domain.trim_start_matches("https://").trim_end_matches('/')),
        };
        let url = Url::parse(&format!("{text}/")).map_err(|_| AuthConfigError::Domain)?;
        let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        let own_path = self.issuer_url.is_some() || url.path() == "/";
        let usable = url.has_host() && matches!(url.scheme(), "https" | "http") && plain && own_path;
        if usable { Ok(url) } else { Err(AuthConfigError::Domain) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(domain: &str, issuer_url: Option<&str>) -> Result<String, AuthConfigError> {
        let auth0 = Auth0 { domain: domain.into(), audience: None, issuer_url: issuer_url.map(Into::into) };
        auth0.issuer().map(Into::into)
    }

    #[test]
    fn the_issuer_is_the_domain_with_a_slash() {
        for domain in ["t.auth0.com", "t.auth0.com/", "https://t.auth0.com", "https://t.auth0.com/"] {
            assert_eq!(issuer(domain, None).expect(domain), "https://t.auth0.com/");
        }
        let own = issuer("", Some("http://127.0.0.1:7/realms/a"));
        assert_eq!(own.expect("an issuer"), "http://127.0.0.1:7/realms/a/");
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for domain in ["", "a b", "t.auth0.com/path", "t.auth0.com?x=1", "me@t.auth0.com", "https://"] {
            assert_eq!(issuer(domain, None), Err(AuthConfigError::Domain), "{domain}");
        }
        assert_eq!(issuer("t.auth0.com", Some("file:///keys")), Err(AuthConfigError::Domain));
    }
}
