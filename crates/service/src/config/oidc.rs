//! Further OpenID Connect issuers: one line of words each, so that a variable of the environment can hold them.

use super::source::{ConfigError, Reader};
use super::{Config, value};
use crate::auth::{Issuer, KeySource, Terms};

/// The most issuers.
const ISSUERS_MAX: usize = 20;
/// The most audiences, or claims with roles, of an issuer.
const WORDS_MAX: usize = 20;
const KEY: &str = "OIDC_ISSUERS";
pub(super) const CLAIMS_RULE: &str =
    "be a comma list of 1 to 20 claims of up to 255 characters without spaces";

/// The claims of a comma list.
pub(super) fn claims(text: &str) -> Option<Vec<String>> {
    let claims: Option<Vec<String>> = text.split(',').map(|claim| word(claim.trim())).collect();
    claims.filter(|claims| claims.len() <= WORDS_MAX)
}

fn word(text: &str) -> Option<String> {
    value::words::<255>(text).filter(|text| !text.contains(char::is_whitespace))
}

pub(super) fn issuers(reader: &mut Reader) -> Result<Vec<Issuer>, ConfigError> {
    let text = reader.text(KEY)?;
    let entries: Vec<&str> = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    if entries.len() > ISSUERS_MAX {
        return Err(refusal(&format!("name at most {ISSUERS_MAX} issuers")));
    }
    let role = reader.parse("ADMIN_ROLE", "be 1 to 100 characters", value::words::<100>)?;
    let issuers = entries.into_iter().map(|entry| issuer(entry, &role)).collect::<Result<Vec<_>, _>>();
    let issuers = issuers.map_err(|rule| refusal(&rule))?;
    apart(&issuers).map_err(|rule| refusal(&rule))?;
    Ok(issuers)
}

fn refusal(rule: &str) -> ConfigError {
    ConfigError::new(format!("{KEY} must {rule}."))
}

/// One issuer's line: its address, then `name=value` words.
fn issuer(entry: &str, admin_role: &str) -> Result<Issuer, String> {
    let mut words = entry.split_ascii_whitespace();
    let url = words.next().unwrap_or_default();
    let address = value::web_address(url).ok_or_else(|| {
        format!("name issuers by address, such as https://login.example.com, but says `{url}`")
    })?;
    let (_, rest) = address.split_once("://").unwrap_or_default();
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    let mut issuer = Issuer {
        url: url.to_owned(),
        keys: KeySource::Discovery(url.to_owned()),
        optional: false,
        terms: Terms {
            name: host.to_ascii_lowercase(),
            audiences: Vec::new(),
            audience_claim: "aud".into(),
            subject_claim: "sub".into(),
            prefix: String::new(),
            foreign_prefixes: Vec::new(),
            admin_claims: Vec::new(),
            admin_role: admin_role.to_owned(),
            services: false,
        },
    };
    for text in words {
        take(&mut issuer, text).map_err(|rule| format!("{rule} for {url}"))?;
    }
    let terms = &issuer.terms;
    if terms.audiences.is_empty() {
        return Err(format!("say audience=… for {url}"));
    }
    if terms.audiences.len() > WORDS_MAX || terms.admin_claims.len() > WORDS_MAX {
        return Err(format!("name at most {WORDS_MAX} audiences and as many claims for {url}"));
    }
    Ok(issuer)
}

fn take(issuer: &mut Issuer, text: &str) -> Result<(), String> {
    let (name, given) = text.split_once('=').unwrap_or((text, ""));
    let given = word(given).ok_or_else(|| format!("say {name}= with 1 to 255 characters"))?;
    let terms = &mut issuer.terms;
    match name {
        "name" if is_name(&given) => terms.name = given,
        "name" => return Err("say name= with 1 to 50 of a-z, 0-9, . and -".into()),
        "audience" => terms.audiences.push(given),
        "audience_claim" => terms.audience_claim = given,
        "subject_claim" => terms.subject_claim = given,
        "user_prefix" if given.len() <= 50 => terms.prefix = given,
        "user_prefix" => return Err("say user_prefix= with at most 50 characters".into()),
        "admin_claim" => terms.admin_claims.push(given),
        "admin_role" => terms.admin_role = given,
        "services" => terms.services = value::flag(&given).ok_or("say services=true or services=false")?,
        "jwks" => {
            let address = value::web_address(&given).and_then(|_| given.parse().ok());
            issuer.keys = KeySource::Jwks(address.ok_or("say jwks= with an address")?);
        }
        _ => {
            return Err(format!(
                "say name, audience, audience_claim, subject_claim, user_prefix, admin_claim, admin_role, services \
                 or jwks, but says `{name}`"
            ));
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    (1..=50).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b))
}

/// Refuses issuers that could be taken for one another.
fn apart(issuers: &[Issuer]) -> Result<(), String> {
    for (at, issuer) in issuers.iter().enumerate() {
        let name = &issuer.terms.name;
        if ["auth0", "supabase"].contains(&name.as_str()) {
            return Err(format!("not call an issuer {name}"));
        }
        for other in &issuers[..at] {
            if other.url == issuer.url {
                return Err(format!("name {} once", issuer.url));
            }
            if other.terms.name == *name {
                return Err(format!("give its issuers different names with name=…, but two are {name}"));
            }
            let (one, two) = (&other.terms.prefix, &issuer.terms.prefix);
            let nested = one.starts_with(two.as_str()) || two.starts_with(one.as_str());
            if one != two && !one.is_empty() && !two.is_empty() && nested {
                return Err(format!("not begin the user_prefix {one} with {two}, nor the other way round"));
            }
        }
    }
    Ok(())
}

/// What the other settings leave to these.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let others = [
        config.auth0.as_ref().map(super::Auth0::issuer),
        config.supabase.as_ref().and_then(super::Supabase::issuer),
    ];
    match config.oidc.iter().find(|issuer| others.iter().flatten().any(|other| *other == issuer.url)) {
        Some(issuer) => Err(refusal(&format!("not name {}, which another setting names", issuer.url))),
        None => Ok(()),
    }
}

/// Refuses keys that anybody on the way could replace.
pub(super) fn guarded(config: &Config, reader: &Reader) -> Result<(), ConfigError> {
    let plain = |issuer: &Issuer| {
        let keys = matches!(&issuer.keys, KeySource::Jwks(url) if url.scheme() == "http");
        issuer.url.starts_with("http:") || keys
    };
    if config.oidc.iter().any(plain) {
        let environment = config.environment.as_str();
        return Err(reader.refusal(KEY, &format!("use https when ENVIRONMENT={environment}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::loaded as load;

    fn oidc(text: &str) -> Result<Vec<Issuer>, String> {
        load(&[(KEY, text)]).map(|config| config.oidc)
    }

    #[test]
    fn an_issuer_is_its_address_and_some_words() {
        assert_eq!(oidc(""), Ok(Vec::new()));
        let text = "https://login.example.com/realms/app/ audience=api,\n  \
                    http://127.0.0.1:8080 name=okta audience=a audience=b audience_claim=client_id \
                    subject_claim=uid user_prefix=okta| admin_claim=groups admin_claim=realm_access.roles \
                    admin_role=Boss services=true jwks=https://keys.example.com/k,";
        let issuers = oidc(text).expect("issuers");
        let [plain, full] = &issuers[..] else { panic!("{issuers:?}") };
        assert_eq!(plain.url, "https://login.example.com/realms/app/", "to the letter");
        assert_eq!(plain.keys, KeySource::Discovery(plain.url.clone()));
        assert_eq!(plain.terms.name, "login.example.com");
        assert!(plain.terms.admin_claims.is_empty() && !plain.terms.services, "nobody is an admin unasked");
        let terms = &full.terms;
        assert_eq!((terms.name.as_str(), terms.prefix.as_str()), ("okta", "okta|"));
        assert_eq!((terms.audience_claim.as_str(), terms.subject_claim.as_str()), ("client_id", "uid"));
        assert_eq!((terms.audiences.len(), terms.admin_claims.len(), terms.services), (2, 2, true));
        assert_eq!(terms.admin_role, "Boss");
        assert_eq!(full.keys, KeySource::Jwks("https://keys.example.com/k".parse().expect("an address")));
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let many = vec!["https://a.example audience=x"; ISSUERS_MAX + 1].join(",");
        let wordy = format!("https://a.example{}", " audience=x".repeat(WORDS_MAX + 1));
        for (text, rule) in [
            (
                "login.example.com audience=x",
                "name issuers by address, such as https://login.example.com, but says `login.example.com`",
            ),
            ("https://a.example", "say audience=… for https://a.example"),
            ("https://a.example?x audience=x", "name issuers by address"),
            ("https://a.example audience=", "say audience= with 1 to 255 characters for https://a.example"),
            ("https://a.example audience", "say audience= with 1 to 255 characters"),
            ("https://a.example audience=x colour=red", "or jwks, but says `colour` for https://a.example"),
            ("https://a.example audience=x name=A", "say name= with 1 to 50 of a-z, 0-9, . and -"),
            ("https://a.example audience=x name=auth0", "not call an issuer auth0"),
            ("https://a.example audience=x services=maybe", "say services=true or services=false"),
            ("https://a.example audience=x jwks=k", "say jwks= with an address"),
            ("https://a.example audience=x, https://a.example audience=y", "name https://a.example once"),
            (
                "https://a.example/x audience=x, https://a.example/y audience=y",
                "different names with name=…, but two are a.example",
            ),
            (
                "https://a.example audience=x user_prefix=a|, https://b.example audience=y user_prefix=a|b|",
                "not begin the user_prefix a| with a|b|",
            ),
            (&many, "name at most 20 issuers"),
            (&wordy, "name at most 20 audiences"),
        ] {
            let refused = oidc(text).expect_err(text);
            assert!(refused.starts_with("OIDC_ISSUERS must ") && refused.contains(rule), "{text}: {refused}");
        }
        let twice = [(KEY, "https://t.auth0.com/ audience=x"), ("AUTH0_DOMAIN", "t.auth0.com")];
        assert_eq!(
            load(&twice).expect_err("twice"),
            "OIDC_ISSUERS must not name https://t.auth0.com/, which another setting names."
        );
    }

    #[test]
    fn only_a_desk_takes_keys_that_travel_in_the_open() {
        for text in ["http://idp:8080 audience=x", "https://a.example audience=x jwks=http://idp/keys"] {
            assert!(oidc(text).is_ok(), "{text}");
            for environment in ["staging", "production"] {
                let refused = load(&[(KEY, text), ("ENVIRONMENT", environment)]).expect_err(text);
                let wanted = format!("OIDC_ISSUERS must use https when ENVIRONMENT={environment}");
                assert!(refused.starts_with(&wanted), "{refused}");
            }
        }
    }

    #[test]
    fn claims_are_a_list_of_names_or_paths() {
        assert_eq!(claims("a, https://x.example/roles ,b.c").map(|claims| claims.len()), Some(3));
        for text in ["", "a,,b", "a b", &"x,".repeat(21)] {
            assert_eq!(claims(text), None, "{text}");
        }
        assert!(load(&[("ADMIN_CLAIMS", "a b")]).is_err());
    }
}
