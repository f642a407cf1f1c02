//! The rules that set one key against another: what each environment refuses, what needs what.

use super::source::{ConfigError, Origin, Reader, development_secret};
use super::{AuthProvider, Config, CorsOrigins, Environment, files, oidc, payments, webhooks};
use kernel::Secret;

/// The fewest characters of a signing secret in production: the key length of HS256 in bytes.
const SECRET_MIN_CHARS: usize = 32;
/// The fewest characters of the service key in production.
const KEY_MIN_CHARS: usize = 24;
/// The fewest different characters of a secret that somebody's random generator made.
const DISTINCT_MIN_CHARS: usize = 8;

/// Refuses the first setting that does not go with the others.
pub(super) fn check(config: &Config, reader: &Reader) -> Result<(), ConfigError> {
    if config.cors_allow_credentials && config.cors_origins == CorsOrigins::Any {
        return Err(reader.refusal("CORS_ALLOW_CREDENTIALS", "be false when CORS_ORIGINS is *"));
    }
    if config.auth_provider == AuthProvider::Auth0 && config.auth0.is_none() {
        return Err(reader.refusal("AUTH0_DOMAIN", "be set when AUTH_PROVIDER=auth0"));
    }
    oidc::check(config)?;
    if config.environment == Environment::Development {
        return Ok(());
    }
    guarded(config, reader)?;
    if config.environment == Environment::Production { production(config, reader) } else { Ok(()) }
}

/// What neither staging nor production takes: whatever lets a stranger sign tokens.
fn guarded(config: &Config, reader: &Reader) -> Result<(), ConfigError> {
    let environment = config.environment.as_str();
    if config.auth0.as_ref().is_some_and(|auth0| auth0.base_url.starts_with("http:")) {
        return Err(reader.refusal("AUTH0_DOMAIN", &format!("use https when ENVIRONMENT={environment}")));
    }
    if config.supabase.as_ref().and_then(|s| s.url.as_ref()).is_some_and(|url| url.starts_with("http:")) {
        return Err(reader.refusal("SUPABASE_URL", &format!("use https when ENVIRONMENT={environment}")));
    }
    oidc::guarded(config, reader)?;
    let key = "SUPABASE_JWT_SECRET";
    let nobody = config.auth0.is_none() && config.supabase.is_none() && config.oidc.is_empty();
    if nobody && reader.origin(key) == Origin::Default {
        let why = "because its default is the development secret, which everybody knows";
        return Err(ConfigError::new(format!("{key} must be set when ENVIRONMENT={environment}, {why}.")));
    }
    let secret = config.supabase.as_ref().and_then(|supabase| supabase.jwt_secret.as_ref());
    if secret.is_some_and(|secret| development_secret().is_some_and(|known| secret.expose() == known)) {
        let rule = format!("not be the development secret when ENVIRONMENT={environment}");
        return Err(reader.refusal(key, &rule));
    }
    Ok(())
}

fn production(config: &Config, reader: &Reader) -> Result<(), ConfigError> {
    let refuse =
        |key: &str, rule: &str| Err(reader.refusal(key, &format!("{rule} when ENVIRONMENT=production")));
    if config.debug {
        return refuse("DEBUG", "be false");
    }
    if config.allow_self_recharge {
        return refuse("ALLOW_SELF_RECHARGE", "be false");
    }
    if config.auth0.as_ref().is_some_and(|auth0| auth0.audience.is_none()) {
        return Err(reader.refusal("AUTH0_AUDIENCE", "be set when Auth0 is on and ENVIRONMENT=production"));
    }
    files::production(config, reader)?;
    payments::production(config, reader)?;
    webhooks::production(config, reader)?;
    let secrets = [
        (
            "SUPABASE_JWT_SECRET",
            config.supabase.as_ref().and_then(|s| s.jwt_secret.as_ref()),
            SECRET_MIN_CHARS,
        ),
        ("USER_SERVICE_API_KEY", config.user_service_api_key.as_ref(), KEY_MIN_CHARS),
    ];
    for (key, secret, least) in secrets {
        let Some(secret) = secret else { continue };
        if secret.expose().chars().count() < least {
            return refuse(key, &format!("have at least {least} characters"));
        }
        if is_placeholder(secret) {
            return refuse(key, "be a random secret and no placeholder");
        }
    }
    Ok(())
}

/// Whether somebody forgot to replace what an example said.
fn is_placeholder(secret: &Secret) -> bool {
    const STARTS: [&str; 4] = ["dev", "test", "demo", "local"];
    const PARTS: [&str; 8] = [
        "changeme",
        "placeholder",
        "replaceme",
        "yoursecret",
        "yourkey",
        "example",
        "supersecret",
        "password",
    ];
    let text = secret.expose().to_ascii_lowercase();
    let text = text.strip_prefix("usk_").unwrap_or(&text);
    let separated = |start: &&str| text.strip_prefix(*start).is_some_and(|rest| rest.starts_with(['-', '_']));
    let letters: String = text.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    let mut distinct: Vec<char> = letters.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    STARTS.iter().any(separated)
        || text.starts_with("development")
        || PARTS.iter().any(|part| letters.contains(part))
        || distinct.len() < DISTINCT_MIN_CHARS
}
