//! Where a checkout may lead: http or https, and within `PAYMENT_URL_ORIGINS` where it is set.

use crate::app::App;
use crate::http::ApiError;
use axum::http::Uri;
use kernel::Text;

/// The most characters of an address.
pub const URL_MAX_CHARS: usize = 2000;

/// An address as a caller gives it.
pub type UrlText = Text<1, URL_MAX_CHARS>;

/// The address that a request names, or else the one of the settings, or else the service's own.
///
/// # Errors
/// 400 that names the field and the rule.
pub fn choose(
    app: &App,
    field: &str,
    given: Option<&UrlText>,
    default: Option<&String>,
    own: &str,
) -> Result<String, ApiError> {
    let Some(given) = given else { return Ok(default.map_or_else(|| own.to_owned(), Clone::clone)) };
    let url = given.as_str();
    let refuse = |rule: &str| Err(ApiError::invalid(["body", field], rule));
    let Some(origin) = origin(url) else {
        return refuse("must be an http or https address, without a user in it");
    };
    let allowed = &app.config.payments.url_origins;
    if !allowed.is_empty() && !allowed.contains(&origin) {
        return refuse("must begin with one of the origins of PAYMENT_URL_ORIGINS");
    }
    Ok(url.to_owned())
}

/// The origin of an http or https address.
fn origin(url: &str) -> Option<String> {
    if url.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return None;
    }
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
    let authority = uri.authority()?.as_str();
    let fits = !authority.contains('@') && crate::config::is_authority(authority);
    fits.then(|| format!("{scheme}://{}", authority.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_have_an_origin() {
        for (url, wanted) in [
            ("https://App.example.com/done?s={CHECKOUT_SESSION_ID}", Some("https://app.example.com")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("javascript:alert(1)", None),
            ("ftp://example.com/", None),
            ("//example.com/", None),
            ("/done", None),
            ("https://good.example@evil.example/", None),
            ("https://good.example\\@evil.example/", None),
            ("https://", None),
            ("https://a b/", None),
        ] {
            assert_eq!(origin(url).as_deref(), wanted, "{url}");
        }
    }
}
