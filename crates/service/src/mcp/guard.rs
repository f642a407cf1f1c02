//! Whether a request may have been sent by a page in a browser that has no business here.
//!
//! A page can have its own name point to this machine (DNS rebinding) and then reads answers as its own. Its requests
//! still carry its name: in `Host`, which must be one of ours, and in `Origin`, which must be ours or one of
//! `CORS_ORIGINS`.

use crate::config::{Config, CorsOrigins};
use crate::http::ApiError;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri};
use std::fmt;

/// The most entries of `MCP_ALLOWED_HOSTS`.
const HOSTS_MAX: usize = 100;

/// The names of the machine itself, which no page can make its own.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The hosts under which messages are taken, beside the machine's own names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHosts {
    /// Any: something in front looks at them.
    Any,
    /// These, in lower case; with a port where only that one will do.
    These(Vec<String>),
}

impl Default for AllowedHosts {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl AllowedHosts {
    /// Reads hosts parted by commas, or `*`; nothing where one of them is no host.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Any);
        }
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let hosts = entries.map(|entry| {
            let authority: Authority = entry.parse().ok()?;
            (!entry.contains('@')).then(|| authority.as_str().to_ascii_lowercase())
        });
        let hosts = hosts.collect::<Option<Vec<_>>>()?;
        (hosts.len() <= HOSTS_MAX).then_some(Self::These(hosts))
    }

    /// Whether `*` or an entry lets a host pass.
    fn allows(&self, authority: &Authority) -> bool {
        *self == Self::Any || self.names(authority)
    }

    /// Whether it is one of the machine's own names, or an entry.
    fn names(&self, authority: &Authority) -> bool {
        let (host, whole) = (authority.host().to_ascii_lowercase(), authority.as_str().to_ascii_lowercase());
        LOOPBACK.contains(&host.as_str())
            || match self {
                Self::Any => false,
                Self::These(hosts) => hosts.iter().any(|one| *one == host || *one == whole),
            }
    }
}

impl fmt::Display for AllowedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::These(hosts) => f.write_str(&hosts.join(",")),
        }
    }
}

/// Looks at `Host` and `Origin`.
///
/// # Errors
/// 403 that names the setting.
pub fn check(config: &Config, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let read = |host: &HeaderValue| host.to_str().ok()?.parse::<Authority>().ok();
    // HTTP/2 has the host in the address; whatever is named must be ours.
    let mut hosts =
        headers.get_all(HOST).iter().map(read).chain(uri.authority().cloned().map(Some)).peekable();
    let named = hosts.peek().is_some();
    if !named || !hosts.all(|host| host.is_some_and(|host| allowed(config, &host))) {
        return Err(ApiError::forbidden("This host is not one of ours; MCP_ALLOWED_HOSTS names them"));
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let fine = origins.all(|origin| origin.to_str().is_ok_and(|origin| comes_from(config, origin)));
    if fine {
        Ok(())
    } else {
        Err(ApiError::forbidden("This origin may not call; CORS_ORIGINS names those that may"))
    }
}

/// Whether requests may come under a host.
fn allowed(config: &Config, host: &Authority) -> bool {
    !host.as_str().contains('@') && (config.mcp_allowed_hosts.allows(host) || is_ours(config, host))
}

/// Whether a host is known to be ours.
fn is_ours(config: &Config, authority: &Authority) -> bool {
    let public = config
        .public_url
        .as_ref()
        .and_then(|url| url.parse::<Uri>().ok())
        .and_then(|url| url.into_parts().authority);
    !authority.as_str().contains('@')
        && (config.mcp_allowed_hosts.names(authority)
            || public.is_some_and(|public| public.host().eq_ignore_ascii_case(authority.host())))
}

/// Whether a page of that origin may call. `CORS_ORIGINS=*` opens what needs no proof to every page, but not this; nor
/// does `MCP_ALLOWED_HOSTS=*`, which is about the names of this service.
fn comes_from(config: &Config, origin: &str) -> bool {
    let origin = origin.to_ascii_lowercase();
    let named = matches!(&config.cors_origins, CorsOrigins::These(origins) if origins.contains(&origin));
    let authority = || origin.split_once("://").and_then(|(_, rest)| rest.parse::<Authority>().ok());
    named || authority().is_some_and(|authority| is_ours(config, &authority))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn config(vars: &[(&'static str, &'static str)]) -> Config {
        let found = |key: &str| vars.iter().find(|(name, _)| *name == key);
        Config::from_vars(|key| found(key).map(|(_, text)| ((*text).to_owned(), Origin::Environment)))
            .expect("config")
            .0
    }

    fn passes(config: &Config, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a value"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().expect("a value"));
        }
        check(config, &Uri::from_static("/mcp"), &headers).is_ok()
    }

    #[test]
    fn a_page_that_names_itself_is_refused() {
        let desk = config(&[("CORS_ORIGINS", "*")]);
        for host in ["localhost", "localhost:8100", "127.0.0.1:1", "[::1]:8100", "LOCALHOST:80"] {
            assert!(passes(&desk, host, None), "{host}");
            assert!(passes(&desk, host, Some("http://localhost:3000")), "{host}");
            for origin in [
                "http://evil.example",
                "https://localhost.evil.example",
                "null",
                "",
                "http://localhost@evil.example",
            ] {
                assert!(!passes(&desk, host, Some(origin)), "{host} {origin}");
            }
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8100",
            "127.0.0.1.evil.example",
            "evil.example@localhost",
            "localhost@evil.example",
            "",
            "a b",
        ] {
            assert!(!passes(&desk, host, None), "{host}");
        }
        assert!(check(&desk, &Uri::from_static("/mcp"), &HeaderMap::new()).is_err());
        assert!(check(&desk, &Uri::from_static("http://localhost:8100/mcp"), &HeaderMap::new()).is_ok());
        let mut twice = HeaderMap::new();
        twice.append(HOST, HeaderValue::from_static("localhost"));
        assert!(check(&desk, &Uri::from_static("http://evil.example/mcp"), &twice).is_err());
        twice.append(HOST, HeaderValue::from_static("evil.example"));
        assert!(check(&desk, &Uri::from_static("/mcp"), &twice).is_err());
    }

    #[test]
    fn the_settings_name_the_others() {
        let open = config(&[
            ("PUBLIC_URL", "https://users.example.com"),
            ("MCP_ALLOWED_HOSTS", "agents.internal, other.internal:8443"),
            ("CORS_ORIGINS", "https://app.example.com"),
        ]);
        for host in [
            "users.example.com",
            "users.example.com:443",
            "agents.internal:1",
            "Agents.Internal",
            "other.internal:8443",
        ] {
            assert!(passes(&open, host, Some("https://app.example.com")), "{host}");
        }
        assert!(!passes(&open, "other.internal", None));
        assert!(!passes(&open, "users.example.com", Some("https://app.example.com.evil.example")));
        let any = config(&[("MCP_ALLOWED_HOSTS", "*"), ("CORS_ORIGINS", "*")]);
        assert!(
            passes(&any, "whatever.example", None)
                && passes(&any, "whatever.example", Some("http://localhost:3000"))
        );
        for origin in ["https://whatever.example", "null"] {
            assert!(!passes(&any, "whatever.example", Some(origin)), "{origin}");
        }
        for bad in ["a b", "http://x", "user@host", &"a,".repeat(101)] {
            assert_eq!(AllowedHosts::parse(bad), None, "{bad}");
        }
    }
}
