//! OpenID Connect Discovery: where an issuer says that its keys are.
//!
//! What always holds: the document is fetched from the configured issuer and must name exactly that issuer, and
//! the keys' address is `https`, unless the issuer itself is `http` (which only development takes) and the keys
//! are on the same host.

use reqwest::Url;
use serde::Deserialize;

/// What matters here of the document.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// The address of an issuer's document.
pub fn address(issuer: &str) -> Option<Url> {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')).parse().ok()
}

/// The address of its keys, as the document says it.
pub fn jwks_uri(issuer: &str, document: &[u8]) -> Option<Url> {
    let document: Document = serde_json::from_slice(document).ok()?;
    let own: Url = issuer.parse().ok()?;
    let keys: Url = document.jwks_uri.parse().ok()?;
    let plain = own.scheme() == "http" && keys.scheme() == "http" && own.host_str() == keys.host_str();
    let nameless = keys.username().is_empty() && keys.password().is_none();
    (document.issuer == issuer && nameless && (keys.scheme() == "https" || plain)).then_some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_document_is_beneath_the_issuer() {
        for issuer in ["https://a.example/realms/x", "https://a.example/realms/x/"] {
            let address = address(issuer).map(String::from);
            assert_eq!(
                address.as_deref(),
                Some("https://a.example/realms/x/.well-known/openid-configuration")
            );
        }
    }

    #[test]
    fn a_document_must_be_the_issuers_own_and_its_keys_where_nobody_listens_in() {
        let read = |issuer: &str, named: &str, keys: &str| {
            let document = json!({"issuer": named, "jwks_uri": keys}).to_string();
            jwks_uri(issuer, document.as_bytes()).map(String::from)
        };
        let issuer = "https://a.example/";
        let good = read(issuer, issuer, "https://keys.example/k?v=1");
        assert_eq!(good.as_deref(), Some("https://keys.example/k?v=1"));
        assert_eq!(read(issuer, "https://a.example", "https://a.example/k"), None, "without the slash");
        assert_eq!(read(issuer, "https://evil.example/", "https://a.example/k"), None);
        for keys in [
            "http://a.example/k",
            "file:///etc/passwd",
            "/k",
            "https://me:x@a.example/k",
            "ftp://a.example/k",
        ] {
            assert_eq!(read(issuer, issuer, keys), None, "{keys}");
        }
        let desk = "http://127.0.0.1:7";
        assert!(read(desk, desk, "http://127.0.0.1:8/k").is_some());
        assert_eq!(read(desk, desk, "http://169.254.169.254/k"), None);
        assert_eq!(jwks_uri(issuer, b"<html>"), None);
        assert_eq!(jwks_uri(issuer, br#"{"issuer":"https://a.example/"}"#), None);
    }
}
