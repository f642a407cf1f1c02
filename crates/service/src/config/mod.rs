//! What the operator decided: every setting, read once at the start, checked, typed.
//!
//! The environment wins over `.env`, which wins over `config.default.toml`; that file is compiled
//! in, names every key and is the documentation. What always holds: a [`Config`] that exists has
//! passed every rule, so nothing later asks again, and no message about it shows a secret.
//!
//! Next: `source` (where values come from), `value` (one value at a time), `rules` (values
//! against each other), `database_url`.

mod database_url;
mod files;
mod oidc;
mod payments;
mod plans;
mod prices;
mod privacy;
mod rate_limits;
mod rules;
mod source;
mod traces;
mod value;
mod webhooks;

#[cfg(test)]
mod tests;

pub use database_url::DatabaseUrl;
pub use files::{FileQuotas, FileStore, S3, S3Keys};
pub use payments::{PaymentSettings, Stripe};
pub use plans::{CENTS_MAX, Catalogue, PLANS_MAX, PRICE_MIN_CENTS};
pub use prices::{Markups, PriceSettings, UnknownModel};
pub use privacy::{Contents, Retention};
pub use rate_limits::RateLimitSettings;
pub use source::{ConfigError, Origin, Setting};
pub use traces::TraceSettings;
pub use value::is_authority;
pub use value::{AuthProvider, CorsOrigins, Environment, LogFormat};
pub use webhooks::WebhookSettings;

use crate::auth::Issuer;
use crate::http::client_ip::TrustedProxies;
use crate::mcp::guard::AllowedHosts;
use kernel::{Credits, Secret};
use source::Reader;
use std::{path::PathBuf, time::Duration};

/// Two lanes of the writer hold a connection each, and each wants another one to fetch ids: with
/// fewer they wait for each other, and no write succeeds.
const POOL_MIN: usize = 4;

/// Every setting of the service; `config.default.toml` says what each one means.
#[derive(Debug, Clone)]
pub struct Config {
    /// `APP_NAME`.
    pub app_name: String,
    /// `APP_VERSION`, or the binary's own version.
    pub app_version: String,
    /// `ENVIRONMENT`.
    pub environment: Environment,
    /// `DEBUG`.
    pub debug: bool,
    /// `HOST`: an IP address or a host name, without brackets.
    pub host: String,
    /// `PORT`; 0 takes any free one.
    pub port: u16,
    /// `LOG_LEVEL` as filter directives, levels in the words of `tracing`.
    pub log_level: String,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `METRICS_ENABLED`.
    pub metrics_enabled: bool,
    /// `DATA_DIR`.
    pub data_dir: PathBuf,
    /// `DATABASE_URL`, or the file in [`Config::data_dir`].
    pub database: DatabaseUrl,
    /// `DATABASE_POOL_SIZE`.
    pub database_pool_size: usize,
    /// Where files are kept: `S3_*`, `MINIO_*`, or the data folder.
    pub file_store: FileStore,
    /// `FILE_QUOTAS`.
    pub file_quotas: FileQuotas,
    /// `UPLOAD_MAX_SIZE` in bytes.
    pub upload_max_size: u64,
    /// `PUBLIC_URL` without a slash at the end, when set.
    pub public_url: Option<String>,
    /// `AUTH_PROVIDER`.
    pub auth_provider: AuthProvider,
    /// Auth0, when [`Config::auth_provider`] includes it and `AUTH0_DOMAIN` is set.
    pub auth0: Option<Auth0>,
    /// Supabase, when [`Config::auth_provider`] includes it.
    pub supabase: Option<Supabase>,
    /// `OIDC_ISSUERS`.
    pub oidc: Vec<Issuer>,
    /// `ADMIN_ROLE`.
    pub admin_role: String,
    /// `ADMIN_CLAIMS`.
    pub admin_claims: Vec<String>,
    /// `USER_SERVICE_API_KEY`, when set.
    pub user_service_api_key: Option<Secret>,
    /// `ALLOW_SELF_RECHARGE`, or its default in this environment.
    pub allow_self_recharge: bool,
    /// `TRUSTED_PROXIES`; none means that nobody's word on the client's address is taken.
    pub trusted_proxies: TrustedProxies,
    /// How often callers may ask: `RATE_LIMIT_*`; nothing where rates are not limited.
    pub rate_limits: Option<RateLimitSettings>,
    /// `REDIS_URL`, when set.
    pub redis_url: Option<Secret>,
    /// `CORS_ORIGINS`, or their default in this environment.
    pub cors_origins: CorsOrigins,
    /// `MCP_ALLOWED_HOSTS`.
    pub mcp_allowed_hosts: AllowedHosts,
    /// `MCP_TOKEN`.
    pub mcp_token: Option<Secret>,
    /// `CORS_ALLOW_CREDENTIALS`; never together with [`CorsOrigins::Any`].
    pub cors_allow_credentials: bool,
    /// `WELCOME_CREDITS`; zero gives no grant.
    pub welcome_credits: Credits,
    /// `WELCOME_CREDITS_DAYS`; nothing means that they never expire.
    pub welcome_credits_life: Option<Duration>,
    /// `REFUND_CREDITS_DAYS`; nothing means that they never expire.
    pub refund_credits_life: Option<Duration>,
    /// `LOW_BALANCE_CREDITS`; zero means that nobody is told.
    pub low_balance: Credits,
    /// `TOP_UP_URL`, when set.
    pub top_up_url: Option<String>,
    /// `VERIFY_LEDGER_HOURS`; nothing means never.
    pub verify_ledger_every: Option<Duration>,
    /// How costs become credits, and what becomes of a model that nobody knows.
    pub prices: PriceSettings,
    /// `PLANS_FILE`, or the plans of the defaults.
    pub catalogue: Catalogue,
    /// Which Stripe account takes money, and where a checkout may lead.
    pub payments: PaymentSettings,
    /// How others are told of what happened: `WEBHOOK_*`.
    pub webhooks: WebhookSettings,
    /// `SESSION_DAYS`; nothing means that they never expire.
    pub session_life: Option<Duration>,
    /// `STORE_CONTENT`.
    pub contents: Contents,
    /// How old things get: `RETENTION_*`.
    pub retention: Retention,
    /// `JSON_BODY_LIMIT_BYTES`.
    pub json_body_limit_bytes: usize,
    /// `BATCH_BODY_LIMIT_BYTES`.
    pub batch_body_limit_bytes: usize,
    /// `MAX_CONCURRENT_REQUESTS`.
    pub max_concurrent_requests: usize,
    /// `MAX_CONNECTIONS`.
    pub max_connections: usize,
    /// `REQUEST_TIMEOUT_SECONDS`.
    pub request_timeout: Duration,
    /// `UPLOAD_TIMEOUT_SECONDS`.
    pub upload_timeout: Duration,
    /// The collector of traces, where one is set.
    pub traces: Option<TraceSettings>,
    /// `SHUTDOWN_DELAY_SECONDS`.
    pub shutdown_delay: Duration,
    /// `SHUTDOWN_GRACE_SECONDS`.
    pub shutdown_grace: Duration,
    /// `IDEMPOTENCY_DAYS`.
    pub idempotency_life: Duration,
}

/// The Auth0 tenant whose tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth0 {
    /// `AUTH0_DOMAIN` as an address without a slash at the end: `https://example.eu.auth0.com`.
    pub base_url: String,
    /// `AUTH0_AUDIENCE`; always there in production.
    pub audience: Option<String>,
}

impl Auth0 {
    /// What the tokens' `iss` must be: the address with one slash at the end.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("{}/", self.base_url)
    }

    /// Where the tenant publishes its public keys.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}/.well-known/jwks.json", self.base_url)
    }
}

/// The Supabase project whose tokens are taken.
#[derive(Debug, Clone)]
pub struct Supabase {
    /// `SUPABASE_URL` without a slash at the end, when set.
    pub url: Option<String>,
    /// `SUPABASE_JWT_SECRET`; outside development none where only its default is there.
    pub jwt_secret: Option<Secret>,
}

impl Supabase {
    /// What the project's own tokens carry as `iss`, when its address is known.
    #[must_use]
    pub fn issuer(&self) -> Option<String> {
        self.url.as_ref().map(|url| format!("{url}/auth/v1"))
    }
}

impl Config {
    /// Reads the environment, `.env` in the working folder and the defaults, and checks every rule.
    ///
    /// The settings come in the order of `config.default.toml`, secrets masked, as the `config`
    /// sub-command prints them.
    ///
    /// # Errors
    /// One sentence that names the key, the rule and, unless it is secret, the value.
    pub fn load() -> Result<(Self, Vec<Setting>), ConfigError> {
        let vars = source::process_vars()?;
        Self::from_vars(|key| vars.get(key).cloned())
    }

    /// The same from any source of variables; the source is asked for each key in capitals.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_vars(
        vars: impl Fn(&str) -> Option<(String, Origin)>,
    ) -> Result<(Self, Vec<Setting>), ConfigError> {
        let mut reader = Reader::new(vars)?;
        let config = Self::read(&mut reader)?;
        rules::check(&config, &reader)?;
        Ok((config, reader.into_settings()))
    }

    fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        let environment = reader.parse("ENVIRONMENT", value::ENVIRONMENT_RULE, Environment::parse)?;
        let data_dir = PathBuf::from(reader.text("DATA_DIR")?);
        let auth_provider = reader.parse("AUTH_PROVIDER", value::AUTH_PROVIDER_RULE, AuthProvider::parse)?;
        let cors_origins = cors_origins(reader, environment)?;
        let named_origins = cors_origins != CorsOrigins::Any;
        Ok(Self {
            app_name: reader.parse("APP_NAME", "be 1 to 100 characters", value::words::<100>)?,
            app_version: app_version(reader)?,
            environment,
            debug: reader.flag("DEBUG")?,
            host: reader.parse("HOST", "be an IP address or a host name", value::host)?,
            port: reader.number("PORT", 0..=65_535)?,
            log_level: reader.parse("LOG_LEVEL", value::LOG_LEVEL_RULE, value::log_directives)?,
            log_format: reader.parse("LOG_FORMAT", "be auto, json or text", LogFormat::parse)?,
            metrics_enabled: reader.flag("METRICS_ENABLED")?,
            traces: traces::settings(reader)?,
            database: database(reader, &data_dir)?,
            data_dir,
            database_pool_size: reader.number("DATABASE_POOL_SIZE", POOL_MIN..=1000)?,
            file_store: files::store(reader)?,
            file_quotas: files::quotas(reader)?,
            upload_max_size: reader.number("UPLOAD_MAX_SIZE", 1024..=5_368_709_120)?,
            public_url: reader.optional("PUBLIC_URL", value::WEB_ADDRESS_RULE, value::web_address)?,
            auth_provider,
            auth0: auth0(reader, auth_provider)?,
            supabase: supabase(reader, auth_provider, environment)?,
            oidc: oidc::issuers(reader)?,
            admin_role: reader.parse("ADMIN_ROLE", "be 1 to 100 characters", value::words::<100>)?,
            admin_claims: reader.parse("ADMIN_CLAIMS", oidc::CLAIMS_RULE, oidc::claims)?,
            user_service_api_key: reader.secret("USER_SERVICE_API_KEY", value::KEY_RULE, value::is_key)?,
            allow_self_recharge: reader
                .flag_or("ALLOW_SELF_RECHARGE", environment == Environment::Development)?,
            trusted_proxies: reader
                .optional("TRUSTED_PROXIES", value::TRUSTED_PROXIES_RULE, TrustedProxies::parse)?
                .unwrap_or_default(),
            rate_limits: rate_limits::settings(reader, environment)?,
            redis_url: rate_limits::redis_url(reader)?,
            cors_origins,
            mcp_allowed_hosts: reader
                .optional("MCP_ALLOWED_HOSTS", value::HOSTS_RULE, AllowedHosts::parse)?
                .unwrap_or_default(),
            mcp_token: reader.secret("MCP_TOKEN", value::TOKEN_RULE, value::is_token)?,
            cors_allow_credentials: reader.flag_or("CORS_ALLOW_CREDENTIALS", named_origins)?,
            welcome_credits: reader.parse("WELCOME_CREDITS", value::CREDITS_RULE, value::credits)?,
            welcome_credits_life: life(reader, "WELCOME_CREDITS_DAYS")?,
            refund_credits_life: life(reader, "REFUND_CREDITS_DAYS")?,
            low_balance: reader.parse("LOW_BALANCE_CREDITS", value::CREDITS_RULE, value::credits)?,
            top_up_url: reader.optional("TOP_UP_URL", value::WEB_PAGE_RULE, value::web_page)?,
            verify_ledger_every: hours(reader.number("VERIFY_LEDGER_HOURS", 0..=8760)?),
            prices: prices::settings(reader)?,
            catalogue: plans::catalogue(reader)?,
            payments: payments::settings(reader)?,
            webhooks: webhooks::settings(reader)?,
            session_life: life(reader, "SESSION_DAYS")?,
            contents: privacy::contents(reader)?,
            retention: privacy::retention(reader)?,
            json_body_limit_bytes: reader.number("JSON_BODY_LIMIT_BYTES", 1024..=104_857_600)?,
            batch_body_limit_bytes: reader.number("BATCH_BODY_LIMIT_BYTES", 1024..=1_073_741_824)?,
            max_concurrent_requests: reader.number("MAX_CONCURRENT_REQUESTS", 1..=100_000)?,
            max_connections: reader.number("MAX_CONNECTIONS", 16..=1_000_000)?,
            request_timeout: Duration::from_secs(reader.number("REQUEST_TIMEOUT_SECONDS", 1..=3600)?),
            upload_timeout: Duration::from_secs(reader.number("UPLOAD_TIMEOUT_SECONDS", 1..=3600)?),
            shutdown_delay: Duration::from_secs(reader.number("SHUTDOWN_DELAY_SECONDS", 0..=600)?),
            shutdown_grace: Duration::from_secs(reader.number("SHUTDOWN_GRACE_SECONDS", 0..=3600)?),
            idempotency_life: days(reader.number("IDEMPOTENCY_DAYS", 30..=3650)?),
        })
    }
}

fn app_version(reader: &mut Reader) -> Result<String, ConfigError> {
    let given = reader.optional("APP_VERSION", "be at most 50 characters", value::words::<50>)?;
    let version = given.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    reader.show("APP_VERSION", version.clone());
    Ok(version)
}

fn database(reader: &mut Reader, data_dir: &std::path::Path) -> Result<DatabaseUrl, ConfigError> {
    // The text may hold a password, also where it is no address at all, so no refusal shows it.
    let given =
        reader.secret("DATABASE_URL", database_url::RULE, |text| DatabaseUrl::parse(text).is_some())?;
    let url = given
        .and_then(|text| DatabaseUrl::parse(text.expose()))
        .unwrap_or_else(|| DatabaseUrl::Sqlite(data_dir.join("user-service.db")));
    reader.show("DATABASE_URL", url.to_string());
    Ok(url)
}

fn auth0(reader: &mut Reader, provider: AuthProvider) -> Result<Option<Auth0>, ConfigError> {
    let base_url = reader.optional("AUTH0_DOMAIN", value::AUTH0_DOMAIN_RULE, value::auth0_base_url)?;
    let audience = reader.optional("AUTH0_AUDIENCE", "be at most 255 characters", value::words::<255>)?;
    Ok(base_url.filter(|_| provider.uses_auth0()).map(|base_url| Auth0 { base_url, audience }))
}

fn supabase(
    reader: &mut Reader,
    provider: AuthProvider,
    environment: Environment,
) -> Result<Option<Supabase>, ConfigError> {
    let url = reader.optional("SUPABASE_URL", value::WEB_ADDRESS_RULE, value::web_address)?;
    let secret = reader.secret("SUPABASE_JWT_SECRET", "not be empty", |_| true)?;
    // Everybody knows the default, so it is good for a desk alone.
    let usable =
        environment == Environment::Development || reader.origin("SUPABASE_JWT_SECRET") != Origin::Default;
    let jwt_secret = secret.filter(|_| usable);
    let works = provider.uses_supabase() && (url.is_some() || jwt_secret.is_some());
    Ok(works.then_some(Supabase { url, jwt_secret }))
}

fn cors_origins(reader: &mut Reader, environment: Environment) -> Result<CorsOrigins, ConfigError> {
    let given = reader.optional("CORS_ORIGINS", value::CORS_ORIGINS_RULE, CorsOrigins::parse)?;
    let origins = given.unwrap_or_else(|| CorsOrigins::default_in(environment));
    reader.show("CORS_ORIGINS", origins.to_string());
    Ok(origins)
}

fn life(reader: &mut Reader, key: &str) -> Result<Option<Duration>, ConfigError> {
    let count = reader.number(key, 0..=36_500)?;
    Ok((count > 0).then(|| days(count)))
}

const fn hours(count: u64) -> Option<Duration> {
    if count == 0 { None } else { Some(Duration::from_secs(count * 60 * 60)) }
}

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 60 * 60)
}
