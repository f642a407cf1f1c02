//! What one setting's text may be: the types, and the sentences that refuse anything else.
//!
//! Each `…_RULE` completes the sentence "KEY must …".

use kernel::{Credits, decimal};
use std::{fmt, net::IpAddr};
use tracing_subscriber::EnvFilter;

pub(super) const ENVIRONMENT_RULE: &str = "be development, staging or production";
pub(super) const AUTH_PROVIDER_RULE: &str = "be auth0, supabase or both";
pub(super) const FLAG_RULE: &str = "be true or false";
pub(super) const KEY_RULE: &str = "be 1 to 255 visible ASCII characters without spaces";
pub(super) const CREDITS_RULE: &str = "be a number from 0 to 9000000000000 with at most 6 decimal places";
pub(super) const WEB_ADDRESS_RULE: &str = "be an address such as https://abc.supabase.co";
pub(super) const WEB_PAGE_RULE: &str = "be an http(s) address such as https://example.com/credits";
pub(super) const AUTH0_DOMAIN_RULE: &str = "be a host name such as example.eu.auth0.com";
pub(super) const CORS_ORIGINS_RULE: &str =
    "be * or a comma list of origins without a path, such as https://app.example.com";
pub(super) const HOSTS_RULE: &str =
    "be * or up to 100 hosts such as users.example.com or users.example.com:8443 with commas between them";
pub(super) const TOKEN_RULE: &str = "be at most 8192 visible ASCII characters without spaces";
pub(super) const TRUSTED_PROXIES_RULE: &str =
    "be up to 100 addresses or networks such as 10.0.0.0/8 with commas between them";
pub(super) const LOG_LEVEL_RULE: &str =
    "be trace, debug, info, warn, error or off, or directives such as info,user_service::db=debug";

/// How careful the service must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// On a desk: development tokens, a known secret, users may recharge themselves.
    Development,
    /// Like production, with the freedom to look closer.
    Staging,
    /// Real users and real money: whatever is only safe on a desk is refused.
    Production,
}

impl Environment {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "development" => Some(Self::Development),
            "staging" => Some(Self::Staging),
            "production" => Some(Self::Production),
            _ => None,
        }
    }

    /// The word that the setting takes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// Whose tokens are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthProvider {
    /// Auth0's alone.
    Auth0,
    /// Supabase's alone.
    Supabase,
    /// Supabase's, and Auth0's once its domain is set.
    Both,
}

impl AuthProvider {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auth0" => Some(Self::Auth0),
            "supabase" => Some(Self::Supabase),
            "both" => Some(Self::Both),
            _ => None,
        }
    }

    /// The word that the setting takes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth0 => "auth0",
            Self::Supabase => "supabase",
            Self::Both => "both",
        }
    }

    /// Whether Auth0 is among them.
    #[must_use]
    pub const fn uses_auth0(self) -> bool {
        matches!(self, Self::Auth0 | Self::Both)
    }

    /// Whether Supabase is among them.
    #[must_use]
    pub const fn uses_supabase(self) -> bool {
        matches!(self, Self::Supabase | Self::Both)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Text,
}

impl LogFormat {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Some(Self::Auto),
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}

/// The web origins that browsers may call from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All of them, without credentials.
    Any,
    /// These: `scheme://host[:port]` in lower case and visible ASCII; none when empty.
    These(Vec<String>),
}

impl CorsOrigins {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(origin).collect::<Option<Vec<_>>>().map(Self::These)
    }

    /// The usual front-end development servers in development, none elsewhere.
    pub(super) fn default_in(environment: Environment) -> Self {
        Self::These(match environment {
            Environment::Development => {
                ["http://localhost:3000", "http://localhost:5173"].map(str::to_owned).to_vec()
            }
            Environment::Staging | Environment::Production => Vec::new(),
        })
    }
}

impl fmt::Display for CorsOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::These(origins) => f.write_str(&origins.join(",")),
        }
    }
}

/// An origin as browsers send it: lower case, no path, no slash at the end.
fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    (scheme_fits && is_authority(authority)).then_some(text)
}

/// Whether a text is a host with an optional port, without a user, path or query.
#[must_use]
pub fn is_authority(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !text.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name_fits = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(name),
    };
    name_fits && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && text.split('.').all(|label| !label.is_empty())
}

pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A text of 1 to `MAX` characters, none of them a control character.
pub(super) fn words<const MAX: usize>(text: &str) -> Option<String> {
    let fits = (1..=MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// An IP address, in brackets or not, or a host name.
pub(super) fn host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let bracketed = bare.len() < text.len();
    let fits = match bare.parse::<IpAddr>() {
        Ok(address) => address.is_ipv6() || !bracketed,
        Err(_) => !bracketed && is_host_name(bare),
    };
    fits.then(|| bare.to_owned())
}

pub(super) fn credits(text: &str) -> Option<Credits> {
    let micro = decimal::parse(text, 6, Credits::MAX.micro(), "9000000000000").ok()?;
    (micro >= 0).then_some(Credits::from_micro(micro))
}

/// Whether a text can travel in a header as it is.
pub(super) fn is_key(text: &str) -> bool {
    text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether a text can be a bearer token.
pub(super) fn is_token(text: &str) -> bool {
    text.len() <= 8192 && text.bytes().all(|b| b.is_ascii_graphic())
}

/// `http://` or `https://`, a host and perhaps a path, without a slash at the end.
pub(super) fn web_address(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let rest = rest.trim_end_matches('/');
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path_fits = path.bytes().all(|b| b.is_ascii_graphic() && !b"?#".contains(&b));
    let fits = matches!(scheme, "http" | "https") && is_authority(authority) && path_fits;
    fits.then(|| format!("{scheme}://{rest}"))
}

/// `http://` or `https://`, a host, and anything that may follow it.
pub(super) fn web_page(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let fits = matches!(scheme, "http" | "https") && is_authority(authority);
    (fits && text.len() <= 2_000 && text.bytes().all(|b| b.is_ascii_graphic())).then(|| text.to_owned())
}

/// A tenant's address from its host name, or from the address as people paste it.
pub(super) fn auth0_base_url(text: &str) -> Option<String> {
    let address = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let address = web_address(&address)?;
    let (_, authority) = address.split_once("://")?;
    is_authority(authority).then_some(address)
}

/// Filter directives with every level in the words of `tracing`.
///
/// Levels are taken in any case and in the words of other loggers (`WARNING`, `CRITICAL`). A lone
/// word that is no level is refused: `EnvFilter` would take `verbose` for the name of a module.
pub(super) fn log_directives(text: &str) -> Option<String> {
    let directives: Vec<String> = text
        .split(',')
        .map(str::trim)
        .map(|part| match part.rsplit_once('=') {
            Some((target, word)) if !target.is_empty() => Some(format!("{target}={}", level(word)?)),
            Some(_) => None,
            None => level(part).map(str::to_owned),
        })
        .collect::<Option<_>>()?;
    let directives = directives.join(",");
    EnvFilter::try_new(&directives).is_ok().then_some(directives)
}

fn level(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "trace" => Some("trace"),
        "debug" => Some("debug"),
        "info" => Some("info"),
        "warn" | "warning" => Some("warn"),
        "error" | "critical" | "fatal" => Some("error"),
        "off" => Some("off"),
        _ => None,
    }
}
