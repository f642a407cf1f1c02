//! Who is calling: credentials in, a [`Principal`] out.
//!
//! What always holds:
//! - A credential is either understood completely or refused; nothing is guessed.
//! - The key that verifies a token is chosen by the token's issuer and key id among the keys that
//!   the operator configured. What the token says of its own algorithm can only make it refused.
//! - No token, key or secret is logged, and no token kept; the cache of verified tokens holds
//!   their digests and what became of them.
//!
//! Reading order: [`principal`] (what comes out), [`authenticator`] (from headers to a principal),
//! [`jwt`] (which issuer's token it is) over [`token`] (a token taken apart), [`claims`] (what it says) and
//! [`jwks`] (the keys of an issuer, a [`key_set`] of [`jwk`]s, found by [`discovery`]), [`config`] (what can be
//! configured), [`dev_token`] (tokens for development), [`user_token`] and [`user_token_api`] (tokens that this
//! service issues). Which principal may do what is decided by the routes, not here.

pub mod api;
pub mod authenticator;
pub mod claims;
pub mod config;
pub mod dev_token;
pub mod discovery;
pub mod grants;
pub mod jwk;
pub mod jwks;
pub mod jwt;
pub mod key_set;
pub mod principal;
pub mod token;
pub mod unique;
pub mod user_token;
pub mod user_token_api;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub use authenticator::{AuthError, Authenticator};
pub use claims::Terms;
pub use config::{AuthConfig, AuthConfigError, Issuer, KeySource, SharedSecret};
pub use jwks::KeyState;
pub use principal::{Principal, Scope, ScopeError, Scopes, ServicePrincipal, UserPrincipal};
