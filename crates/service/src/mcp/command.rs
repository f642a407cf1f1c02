//! The command `mcp`: an agent on this machine speaks over standard input and output.

use super::stdio::{Bridge, Service};
use crate::boot::{self, BootError, Role};
use crate::cli::McpArgs;
use crate::config::{Config, DatabaseUrl, Environment};
use kernel::{Clock, Secret};
use tokio::io::BufReader;

/// Carries messages until the input ends or `stop` resolves.
///
/// # Errors
/// There is no token, the service cannot be built, or input and output are broken.
pub async fn run(config: Config, asked: &McpArgs, stop: impl Future<Output = ()>) -> Result<(), BootError> {
    let Some(token) = config.mcp_token.clone() else { return Err(BootError::Mcp(no_token(&config))) };
    if let Some(url) = &asked.url {
        let service = Service::at(url).map_err(|error| BootError::Mcp(format!("no HTTP client: {error}")))?;
        return carry(service, &token, stop).await;
    }
    let of_file = matches!(config.database, DatabaseUrl::Sqlite(_));
    let address = format!("http://localhost:{}", config.port);
    // On PostgreSQL other processes do what is done by and by; a file has this one alone.
    let role = if of_file { Role::Whole } else { Role::Beside };
    let service = boot::build_as(role, config, Clock::System, None).await;
    let service = service.map_err(|error| match error {
        BootError::Database(inside) if of_file => BootError::Mcp(format!(
            "DATABASE_URL: {inside}; where a service runs on it, speak through that one: user-service mcp --url {address}"
        )),
        error => error,
    })?;
    let carried = carry(Service::Here(service.router.clone()), &token, stop).await;
    service.finish().await;
    carried
}

async fn carry(service: Service, token: &Secret, stop: impl Future<Output = ()>) -> Result<(), BootError> {
    let broken = |why: String| BootError::Mcp(why);
    let bridge = Bridge::new(service, token).ok_or_else(|| broken("MCP_TOKEN: is no token".to_owned()))?;
    let lines = BufReader::new(tokio::io::stdin());
    tokio::select! {
        ended = bridge.run(lines, tokio::io::stdout()) => {
            ended.map_err(|error| broken(format!("standard input or output: {error}")))
        }
        () = stop => Ok(()),
    }
}

/// What is said to whoever has not said who it is.
fn no_token(config: &Config) -> String {
    let mut text = "MCP_TOKEN must be set: the token of a user, or a service key, which `user-service keys create --name agent \
                    --scopes users:read,credits:read,credits:spend` makes"
        .to_owned();
    if config.environment == Environment::Development {
        let at = format!("http://localhost:{}", config.port);
        text.push_str(&format!(
            "; in development a running service gives a token for an hour: \
             curl -s -X POST '{at}/auth/dev-token?user_id=auth0%7Ctest123&email=test@test.com'"
        ));
    }
    text
}
