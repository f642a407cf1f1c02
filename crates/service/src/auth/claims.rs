//! What a token says of its bearer, read by the terms of its issuer.
//!
//! What always holds:
//! - Claims that matter are right or the token is refused; others may have any type.
//! - A user's token has no scopes of this service's, whatever its `scope` says. A program's token (OAuth's client
//!   credentials) is never a user: its issuer may speak for programs, and then it is a service with the scopes
//!   that the token names, or it is refused.
//! - Nothing here reads a clock: times are kept, and judged whenever the token is used.

use super::principal::{Principal, Scope, Scopes, ServicePrincipal, UserPrincipal};
use super::token::Refusal;
use kernel::{Email, Name, Timestamp};
use serde_json::{Map, Value};

/// How far two clocks may be apart, in seconds.
pub const LEEWAY_S: f64 = 60.0;

/// The latest instant that a claim may name, in seconds: the end of the year 9999.
const INSTANT_MAX_S: f64 = 253_402_300_799.0;

/// What the tokens of one issuer must be, and how they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The issuer's name here, such as `auth0`.
    pub name: String,
    /// Of these the token must name one; without any its audience is not checked.
    pub audiences: Vec<String>,
    /// The claim that names the audience; `aud` nearly always.
    pub audience_claim: String,
    /// The claim that names the user; `sub` nearly always.
    pub subject_claim: String,
    /// What is put before the subject to make a user id; nothing for most.
    pub prefix: String,
    /// What other issuers put before theirs: no subject of this one may look like that.
    pub foreign_prefixes: Vec<String>,
    /// The claims that may hold the admin role: a claim's whole name, or a path of names with dots.
    pub admin_claims: Vec<String>,
    /// The role that makes an admin; an empty one makes nobody an admin.
    pub admin_role: String,
    /// Whether the issuer may speak for programs.
    pub services: bool,
}

/// What remains of a token whose signature is right; its times are checked whenever it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Whom the token stands for.
    pub principal: Principal,
    // RFC 7519 allows fractions of a second.
    exp: f64,
    /// The later of `nbf` and `iat`.
    from: f64,
}

impl Verified {
    /// Refuses a token that is not valid at `now`, give or take the leeway.
    ///
    /// # Errors
    /// [`Refusal::Expired`] or [`Refusal::NotYet`].
    #[expect(clippy::cast_precision_loss, reason = "microseconds up to the year 2255 are exact in an f64")]
    pub fn check_times(&self, now: Timestamp) -> Result<(), Refusal> {
        let now = now.micros() as f64 / 1e6;
        if now >= self.exp + LEEWAY_S {
            return Err(Refusal::Expired);
        }
        if now < self.from - LEEWAY_S {
            return Err(Refusal::NotYet);
        }
        Ok(())
    }
}

/// What a token says, by name.
pub struct Claims(pub Map<String, Value>);

impl Claims {
    /// The issuer that it states; a list of issuers states none.
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).as_str()
    }

    /// The claim of that name, or else what lies at the path that its dots part.
    fn at(&self, path: &str) -> &Value {
        if let Some(whole) = self.0.get(path) {
            return whole;
        }
        let mut names = path.split('.');
        let first = names.next().map_or(&Value::Null, |name| self.get(name));
        names.fold(first, |value, name| &value[name])
    }

    /// An instant in seconds; none where the claim is absent.
    fn instant(&self, name: &str) -> Result<Option<f64>, Refusal> {
        match self.get(name) {
            Value::Null => Ok(None),
            value => match value.as_f64() {
                Some(seconds) if seconds.abs() <= INSTANT_MAX_S => Ok(Some(seconds)),
                _ => Err(Refusal::Malformed),
            },
        }
    }

    fn full_name(&self) -> Option<Name> {
        // Supabase keeps names in what users write of themselves, which is good for a name, never for a role.
        let own = self.get("user_metadata");
        [self.get("name"), &own["full_name"], &own["name"]]
            .into_iter()
            .find_map(|name| Name::new(name.as_str()?).ok())
    }

    /// Whether it says of itself that it is an ID or refresh token (Keycloak's `typ`, Cognito's `token_use`).
    fn is_for_something_else(&self) -> bool {
        [self.text("typ"), self.text("token_use")].into_iter().flatten().any(|kind| {
            ["id", "refresh", "offline", "logout"].iter().any(|other| kind.eq_ignore_ascii_case(other))
        })
    }

    /// Whether it is a program's: it says so, or its subject is the client that asked for it.
    fn is_programs(&self) -> bool {
        let subject = self.text("sub");
        self.text("gty") == Some("client-credentials")
            || self.text("idtyp") == Some("app")
            // No user of Auth0's has an id without a bar.
            || subject.is_some_and(|sub| sub.ends_with("@clients") && !sub.contains('|'))
            || ["client_id", "azp", "cid"].iter().any(|claim| subject.is_some() && self.text(claim) == subject)
    }

    /// The words of the claims that hold what a program may do.
    fn granted(&self) -> impl Iterator<Item = &str> {
        ["scope", "scp", "permissions"].into_iter().flat_map(|claim| words(self.get(claim)))
    }
}

/// A text's words, or those of a list's texts.
fn words(claim: &Value) -> impl Iterator<Item = &str> {
    let one = claim.as_str();
    let many = claim.as_array().into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(many).flat_map(str::split_ascii_whitespace)
}

/// Whether a claim is that text or a list with it.
fn holds(claim: &Value, text: &str) -> bool {
    claim == text || claim.as_array().is_some_and(|list| list.iter().any(|one| one == text))
}

impl Terms {
    /// Reads what a token says; all but its signature and its times is judged.
    ///
    /// # Errors
    /// A [`Refusal`] that says why the token is not accepted.
    pub fn read(&self, claims: &Claims) -> Result<Verified, Refusal> {
        let audience = claims.at(&self.audience_claim);
        if !self.audiences.is_empty() && !self.audiences.iter().any(|one| holds(audience, one)) {
            return Err(Refusal::Audience);
        }
        if claims.is_for_something_else() {
            return Err(Refusal::Kind);
        }
        let exp = claims.instant("exp")?.ok_or(Refusal::Expired)?;
        let from = [claims.instant("nbf")?, claims.instant("iat")?];
        let from = from.into_iter().flatten().fold(f64::NEG_INFINITY, f64::max);
        let principal = if claims.is_programs() { self.program(claims)? } else { self.user(claims)? };
        Ok(Verified { principal, exp, from })
    }

    fn user(&self, claims: &Claims) -> Result<Principal, Refusal> {
        let subject = claims.at(&self.subject_claim).as_str().ok_or(Refusal::Subject)?;
        let id = format!("{}{subject}", self.prefix);
        if subject.is_empty() || self.foreign_prefixes.iter().any(|prefix| id.starts_with(prefix)) {
            return Err(Refusal::Subject);
        }
        Ok(Principal::User(UserPrincipal {
            subject: id.parse().map_err(|_| Refusal::Subject)?,
            email: claims.text("email").and_then(|email| Email::new(email).ok()),
            name: claims.full_name(),
            admin: self.makes_admin(claims),
            scopes: None,
        }))
    }

    fn program(&self, claims: &Claims) -> Result<Principal, Refusal> {
        if !self.services {
            return Err(Refusal::Program);
        }
        let subject =
            claims.text("sub").filter(|sub| (1..=255).contains(&sub.len())).ok_or(Refusal::Subject)?;
        let named = claims.granted().filter_map(|word| word.parse::<Scopes>().ok());
        let scopes: Scopes = named.flat_map(Scopes::iter).filter(|scope| *scope != Scope::Admin).collect();
        let scopes = if self.makes_admin(claims) { scopes.with(Scope::Admin) } else { scopes };
        Ok(Principal::Service(ServicePrincipal {
            key_id: format!("{}:{subject}", self.name).into(),
            scopes,
            requests_per_minute: None,
        }))
    }

    fn makes_admin(&self, claims: &Claims) -> bool {
        let role = self.admin_role.as_str();
        !role.is_empty()
            && self.admin_claims.iter().any(|name| match name.as_str() {
                // These are lists in one text.
                "scope" | "scp" => words(claims.get(name)).any(|word| word == role),
                _ => holds(claims.at(name), role),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_support::terms;
    use serde_json::json;

    fn read(claims: &Value, terms: &Terms) -> Result<Verified, Refusal> {
        terms.read(&Claims(claims.as_object().expect("an object").clone()))
    }

    fn with(more: &str) -> Value {
        serde_json::from_str(&format!(r#"{{"exp":1,"sub":"a",{more}}}"#)).expect(more)
    }

    fn user(more: &str) -> UserPrincipal {
        match read(&with(more), &terms()).expect(more).principal {
            Principal::User(user) => user,
            Principal::Service(service) => panic!("{more}: {service:?}"),
        }
    }

    #[test]
    fn the_admin_role_counts_only_where_the_provider_writes_it() {
        for claim in [
            r#""role":"admin""#,
            r#""roles":["editor","admin"]"#,
            r#""roles":"admin""#,
            r#""permissions":["users:read","admin"]"#,
            r#""app_metadata":{"role":"admin"}"#,
            r#""app_metadata":{"provider":"email","roles":["admin"]}"#,
            r#""role":"\u0061dmin""#,
        ] {
            assert!(user(claim).admin, "{claim}");
        }
        for claim in [
            r#""user_metadata":{"role":"admin","roles":["admin"],"app_metadata":{"role":"admin"}}"#,
            r#""role":"Admin""#,
            r#""role":"administrator""#,
            r#""roles":"editor,admin""#,
            r#""roles":"editor admin""#,
            r#""roles":[["admin"]]"#,
            r#""roles":{"admin":true}"#,
            r#""app_metadata":["admin"]"#,
            r#""app_metadata":"admin""#,
            r#""name":"admin""#,
            r#""scope":"admin""#,
        ] {
            assert!(!user(claim).admin, "{claim}");
        }
    }

    #[test]
    fn the_claims_that_hold_roles_are_configured() {
        let admin = |claims: &str, path: &str| {
            let terms = Terms { admin_claims: vec![path.into()], ..terms() };
            let read = read(&with(claims), &terms).expect(claims);
            read.principal.is_admin()
        };
        assert!(admin(r#""realm_access":{"roles":["admin"]}"#, "realm_access.roles"));
        assert!(admin(r#""https://example.com/roles":["admin"]"#, "https://example.com/roles"));
        assert!(admin(r#""scope":"openid admin""#, "scope"));
        assert!(!admin(r#""scope":"openid admins""#, "scope"));
        assert!(!admin(r#""role":"admin""#, "realm_access.roles"));
        assert!(!admin(r#""realm_access":"admin""#, "realm_access.roles"));
    }

    #[test]
    fn an_empty_admin_role_makes_nobody_an_admin() {
        let terms = Terms { admin_role: String::new(), ..terms() };
        let read = read(&with(r#""role":"","roles":[""]"#), &terms).expect("a user");
        assert!(!read.principal.is_admin());
    }

    #[test]
    fn addresses_and_names_that_do_not_validate_are_dropped() {
        let good = user(r#""email":"a@b.de","name":" Ada ""#);
        assert_eq!(good.email.as_ref().map(Email::as_str), Some("a@b.de"));
        assert_eq!(good.name.as_ref().map(Name::as_str), Some("Ada"));
        for rest in
            [r#""email":"","name":"  ""#, r#""email":7,"name":null"#, r#""email":["a@b.de"],"name":{}"#]
        {
            let bad = user(rest);
            assert_eq!((bad.email, bad.name), (None, None), "{rest}");
        }
        let supabase = user(r#""user_metadata":{"full_name":"Ada L","name":"ada"}"#);
        assert_eq!(supabase.name.as_ref().map(Name::as_str), Some("Ada L"));
    }

    #[test]
    fn a_subject_must_be_a_user_id() {
        for sub in [json!(""), json!("a b"), json!(7), json!(["a"]), Value::Null] {
            assert_eq!(read(&json!({"exp": 1, "sub": sub}), &terms()), Err(Refusal::Subject), "{sub}");
        }
    }

    #[test]
    fn a_prefix_keeps_the_users_of_two_issuers_apart() {
        let own = Terms { prefix: "okta|".into(), ..terms() };
        assert_eq!(read(&with(r#""x":1"#), &own).expect("a user").principal.caller(), "user:okta|a");
        assert_eq!(read(&json!({"exp": 1, "sub": ""}), &own), Err(Refusal::Subject));
        let other = Terms { foreign_prefixes: vec!["okta|".into()], ..terms() };
        assert_eq!(read(&json!({"exp": 1, "sub": "okta|a"}), &other), Err(Refusal::Subject));
        let elsewhere = Terms { subject_claim: "ext.id".into(), ..terms() };
        let claims = json!({"exp": 1, "sub": "a", "ext": {"id": "b"}});
        assert_eq!(read(&claims, &elsewhere).expect("a user").principal.caller(), "user:b");
    }

    #[test]
    fn a_program_is_a_service_with_the_scopes_it_names_and_never_a_user() {
        let services = Terms { services: true, ..terms() };
        for (claims, scopes) in [
            (json!({"sub": "abc@clients", "gty": "client-credentials"}), ""),
            (
                json!({"sub": "abc@clients", "azp": "abc", "scope": "credits:spend users:read openid"}),
                "users:read credits:spend",
            ),
            (json!({"sub": "abc", "client_id": "abc", "permissions": ["usage:write"]}), "usage:write"),
            (json!({"sub": "abc", "cid": "abc", "scp": ["sessions:*"]}), "sessions:read sessions:write"),
            (json!({"sub": "u", "idtyp": "app", "scope": "admin"}), ""),
            (json!({"sub": "abc@clients", "permissions": ["admin"]}), "admin"),
        ] {
            let mut claims = claims;
            claims["exp"] = json!(1);
            assert_eq!(read(&claims, &terms()), Err(Refusal::Program), "{claims}");
            let Principal::Service(service) = read(&claims, &services).expect("a service").principal else {
                panic!("{claims}");
            };
            assert_eq!(service.scopes.to_string(), scopes, "{claims}");
            assert!(service.key_id.starts_with("test:"), "{claims}");
        }
        for claims in [
            r#""scope":"credits:grant users:read""#,
            r#""azp":"abc","client_id":"abc","permissions":["credits:grant"]"#,
            r#""gty":"password""#,
        ] {
            let read = read(&with(claims), &services).expect(claims);
            assert!(matches!(read.principal, Principal::User(_)), "{claims}");
            assert!(!read.principal.has(Scope::CreditsGrant), "{claims}");
        }
        let sly = json!({"exp": 1, "sub": "auth0|me@clients", "scope": "credits:grant"});
        assert!(matches!(read(&sly, &services).expect("a user").principal, Principal::User(_)));
    }

    #[test]
    fn tokens_for_something_else_are_refused() {
        for kind in [r#""typ":"ID""#, r#""typ":"Refresh""#, r#""token_use":"id""#] {
            assert_eq!(read(&with(kind), &terms()), Err(Refusal::Kind), "{kind}");
        }
        for kind in [r#""typ":"Bearer""#, r#""token_use":"access""#] {
            assert!(read(&with(kind), &terms()).is_ok(), "{kind}");
        }
    }

    #[test]
    fn an_audience_is_a_text_or_a_list_in_the_claim_that_holds_it() {
        let of = |claims: &str, claim: &str| {
            let audiences = vec!["api".into(), "api-2".into()];
            read(&with(claims), &Terms { audiences, audience_claim: claim.into(), ..terms() }).map(|_| ())
        };
        for good in [r#""aud":"api""#, r#""aud":["x","api-2"]"#] {
            assert_eq!(of(good, "aud"), Ok(()), "{good}");
        }
        for bad in
            [r#""aud":"API""#, r#""aud":[]"#, r#""aud":["x"]"#, r#""aud":{"api":1}"#, r#""aud":"x api""#]
        {
            assert_eq!(of(bad, "aud"), Err(Refusal::Audience), "{bad}");
        }
        assert_eq!(of(r#""client_id":"api""#, "client_id"), Ok(()));
        assert_eq!(of(r#""aud":"api""#, "client_id"), Err(Refusal::Audience));
    }

    #[test]
    fn times_have_a_minute_of_leeway_and_exp_must_be_there() {
        let check = |times: Value, at: i64| {
            let mut claims = times;
            claims["sub"] = json!("a");
            read(&claims, &terms())?.check_times(Timestamp::from_micros(at * 1_000_000))
        };
        assert_eq!(check(json!({"exp": 1000}), 1059), Ok(()));
        assert_eq!(check(json!({"exp": 1000.5}), 1060), Ok(()));
        assert_eq!(check(json!({"exp": 1000}), 1060), Err(Refusal::Expired));
        assert_eq!(check(json!({"nbf": 1000, "exp": 9000}), 940), Ok(()));
        assert_eq!(check(json!({"nbf": 1000, "exp": 9000}), 939), Err(Refusal::NotYet));
        assert_eq!(check(json!({"iat": 1000, "exp": 9000}), 939), Err(Refusal::NotYet));
        assert_eq!(check(json!({"iat": 1000, "nbf": 1, "exp": 9000}), 940), Ok(()));
        assert_eq!(check(json!({}), 0), Err(Refusal::Expired));
        assert_eq!(check(json!({"exp": null}), 0), Err(Refusal::Expired));
        assert_eq!(check(json!({"exp": -1}), 100), Err(Refusal::Expired));
        for odd in [json!("1000"), json!(1e300), json!(i64::MAX), json!(true), json!([1]), json!({})] {
            assert_eq!(check(json!({"exp": odd}), 0), Err(Refusal::Malformed), "{odd}");
            assert_eq!(check(json!({"exp": 1000, "nbf": odd}), 0), Err(Refusal::Malformed), "{odd}");
            assert_eq!(check(json!({"exp": 1000, "iat": odd}), 0), Err(Refusal::Malformed), "{odd}");
        }
    }
}
