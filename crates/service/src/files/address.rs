//! Addresses that let whoever has them download a file, for an hour.

use super::model::StoredFile;
use super::name;
use super::objects::{Objects, key};
use crate::app::App;
use crate::config::is_authority;
use crate::http::ApiError;
use axum::extract::FromRequestParts;
use axum::http::header::HOST;
use axum::http::request::Parts;
use kernel::ExternalId;
use std::sync::Arc;
use std::time::Duration;

/// How long a download address works.
pub const DOWNLOAD_LIFE: Duration = Duration::from_secs(60 * 60);
/// Where callers reach the service, for addresses in answers: `PUBLIC_URL`, or what the request says.
pub struct BaseUrl(pub String);

impl FromRequestParts<Arc<App>> for BaseUrl {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        if let Some(url) = &app.config.public_url {
            return Ok(Self(url.clone()));
        }
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let host =
            parts.uri.authority().map(|authority| authority.as_str()).or_else(|| header(HOST.as_str()));
        let host = host.filter(|host| is_authority(host));
        let host =
            host.ok_or_else(|| ApiError::invalid(["header", "Host"], "must be a host and perhaps a port"))?;
        let secure = header("x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
        Ok(Self(format!("{}://{host}", if secure { "https" } else { "http" })))
    }
}

/// An address that lets whoever has it download a file, for an hour.
///
/// # Errors
/// 503 when the object store's credentials cannot be had.
pub async fn download_url(
    app: &App,
    base: &BaseUrl,
    user: &ExternalId,
    file: &StoredFile,
) -> Result<String, ApiError> {
    match &app.files.objects {
        Objects::Local(_) => {
            let until = app.clock.now().plus(DOWNLOAD_LIFE);
            let address = app.files.signer.address("GET", &name::public(user, &file.path), until);
            Ok(format!("{}{address}", base.0))
        }
        Objects::S3(s3) => s3
            .address_to_get(&key(file.user, &file.path), DOWNLOAD_LIFE)
            .await
            .map_err(|error| ApiError::unavailable("The object store is not available", error.to_string())),
    }
}
