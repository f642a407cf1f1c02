//! A token: what it must be, what it says of its bearer, and why it is refused.
//!
//! `jsonwebtoken` parses and verifies; [`Rules`] holds what it is to insist on. It reads the
//! system's clock, so the times are checked here, against the one that is handed in. Claims that do
//! not matter may have any type; those that do matter (`exp`, `nbf`, `iss`, `aud`, `sub`) must be right.

use super::principal::UserPrincipal;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use kernel::{Email, Name, Timestamp};
use serde_json::Value;

/// How far two clocks may be apart, in seconds.
pub const LEEWAY_S: f64 = 60.0;

/// The longest token that is looked at, in bytes; it is also half of what all headers may have.
pub const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// Why a token is refused; for the debug log, the caller learns only that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Longer than any sensible token.
    #[error("the token is too long")]
    TooLong,
    /// Not three base64 parts with a JSON header and JSON claims.
    #[error("the token is malformed")]
    Malformed,
    /// Its issuer is none of the configured ones.
    #[error("the issuer is unknown")]
    Issuer,
    /// Its algorithm is not the one of the issuer's key, or it demands an extension.
    #[error("the algorithm is not the issuer's")]
    Algorithm,
    /// It names no key, or one that the issuer does not have.
    #[error("the key id is unknown")]
    KeyId,
    /// The issuer's keys were never fetched.
    #[error("the issuer's keys are not known yet")]
    KeysUnavailable,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
    /// It is meant for somebody else.
    #[error("the audience is wrong")]
    Audience,
    /// It has no expiry, or has expired.
    #[error("the token is expired or has no expiry")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet")]
    NotYet,
    /// Its subject is no user id.
    #[error("the subject is no user id")]
    Subject,
}

impl From<Error> for Refusal {
    /// Keeps the kind alone, for the library's messages can quote the token.
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidAlgorithm => Self::Algorithm,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
                "aud" => Self::Audience,
                "exp" => Self::Expired,
                "iss" => Self::Issuer,
                _ => Self::Subject,
            },
            _ => Self::Malformed,
        }
    }
}

/// What the tokens of one provider must be.
pub struct Rules {
    validation: Validation,
    admin_role: String,
}

impl Rules {
    /// Tokens with exactly this algorithm, one of the issuers, and the audience if one is given.
    #[must_use]
    pub fn new(algorithm: Algorithm, issuers: &[String], audience: Option<&str>, admin_role: String) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.set_issuer(issuers);
        validation.validate_aud = audience.is_some();
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        Self { validation, admin_role }
    }

    /// Whether `issuer` is one of the issuers.
    #[must_use]
    pub fn has_issuer(&self, issuer: &str) -> bool {
        self.validation.iss.as_ref().is_some_and(|issuers| issuers.contains(issuer))
    }

    /// Verifies all of a token but its times.
    ///
    /// # Errors
    /// A [`Refusal`] that says why the token is not accepted.
    pub fn verify(&self, token: &[u8], key: &DecodingKey) -> Result<Verified, Refusal> {
        let token = decode::<Claims>(token, key, &self.validation)?;
        if token.header.crit.is_some() {
            return Err(Refusal::Algorithm);
        }
        // The library also takes a list with the issuer in it, but a token has one.
        if !token.claims.iss.is_string() {
            return Err(Refusal::Issuer);
        }
        token.claims.verified(&self.admin_role)
    }
}

/// What remains of a token whose signature is right; its times are checked whenever it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The user that the token stands for.
    pub user: UserPrincipal,
    // RFC 7519 allows fractions of a second.
    exp: f64,
    nbf: Option<f64>,
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
        if self.nbf.is_some_and(|nbf| now < nbf - LEEWAY_S) {
            return Err(Refusal::NotYet);
        }
        Ok(())
    }
}

/// The second part of a token, as far as it matters here.
#[derive(serde::Deserialize)]
struct Claims {
    #[serde(default)]
    iss: Value,
    #[serde(default)]
    sub: Value,
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default)]
    email: Value,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    role: Value,
    #[serde(default)]
    roles: Value,
    #[serde(default)]
    permissions: Value,
    /// What the provider's administrators wrote about a user.
    #[serde(default)]
    app_metadata: Value,
    /// What users wrote about themselves: good for a name, never for a role.
    #[serde(default)]
    user_metadata: Value,
}

impl Claims {
    fn verified(&self, admin_role: &str) -> Result<Verified, Refusal> {
        let subject = self.sub.as_str().and_then(|sub| sub.parse().ok()).ok_or(Refusal::Subject)?;
        let user = UserPrincipal {
            subject,
            email: self.email.as_str().and_then(|email| Email::new(email).ok()),
            name: self.full_name(),
            admin: !admin_role.is_empty() && self.has_role(admin_role),
            scopes: None,
        };
        Ok(Verified { user, exp: self.exp.ok_or(Refusal::Expired)?, nbf: self.nbf })
    }

    fn full_name(&self) -> Option<Name> {
        // Supabase keeps names in the user's own metadata.
        [&self.name, &self.user_metadata["full_name"], &self.user_metadata["name"]]
            .into_iter()
            .find_map(|name| Name::new(name.as_str()?).ok())
    }

    fn has_role(&self, role: &str) -> bool {
        let metadata = &self.app_metadata;
        [&self.role, &self.roles, &self.permissions, &metadata["role"], &metadata["roles"]].into_iter().any(
            |claim| claim == role || claim.as_array().is_some_and(|list| list.iter().any(|one| one == role)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, admin_role: &str) -> Result<Verified, Refusal> {
        serde_json::from_str::<Claims>(json).expect(json).verified(admin_role)
    }

    fn user(json: &str) -> UserPrincipal {
        read(json, "admin").expect(json).user
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
            assert!(user(&format!(r#"{{"exp":1,"sub":"a",{claim}}}"#)).admin, "{claim}");
        }
        for claim in [
            r#""user_metadata":{"role":"admin","roles":["admin"],"app_metadata":{"role":"admin"}}"#,
            r#""role":"Admin""#,
            r#""role":"administrator""#,
            r#""roles":"editor,admin""#,
            r#""roles":[["admin"]]"#,
            r#""roles":{"admin":true}"#,
            r#""app_metadata":["admin"]"#,
            r#""app_metadata":"admin""#,
            r#""name":"admin""#,
        ] {
            assert!(!user(&format!(r#"{{"exp":1,"sub":"a",{claim}}}"#)).admin, "{claim}");
        }
    }

    #[test]
    fn an_empty_admin_role_makes_nobody_an_admin() {
        let read = read(r#"{"exp":1,"sub":"a","role":"","roles":[""]}"#, "").expect("a user");
        assert!(!read.user.admin);
    }

    #[test]
    fn addresses_and_names_that_do_not_validate_are_dropped() {
        let good = user(r#"{"exp":1,"sub":"a","email":"a@b.de","name":" Ada "}"#);
        assert_eq!(good.email.as_ref().map(Email::as_str), Some("a@b.de"));
        assert_eq!(good.name.as_ref().map(Name::as_str), Some("Ada"));
        for rest in
            [r#""email":"","name":"  ""#, r#""email":7,"name":null"#, r#""email":["a@b.de"],"name":{}"#]
        {
            let bad = user(&format!(r#"{{"exp":1,"sub":"a",{rest}}}"#));
            assert_eq!((bad.email, bad.name), (None, None), "{rest}");
        }
        let supabase = user(r#"{"exp":1,"sub":"a","user_metadata":{"full_name":"Ada L","name":"ada"}}"#);
        assert_eq!(supabase.name.as_ref().map(Name::as_str), Some("Ada L"));
    }

    #[test]
    fn a_subject_must_be_a_user_id() {
        for sub in [r#""sub":"""#, r#""sub":"a b""#, r#""sub":7"#, r#""sub":["a"]"#, r#""x":1"#] {
            assert_eq!(read(&format!(r#"{{"exp":1,{sub}}}"#), "admin"), Err(Refusal::Subject), "{sub}");
        }
    }

    #[test]
    fn times_have_a_minute_of_leeway_and_exp_must_be_there() {
        let check = |times: &str, at: i64| {
            let read = read(&format!(r#"{{{times}"sub":"a"}}"#), "admin")?;
            read.check_times(Timestamp::from_micros(at * 1_000_000))
        };
        assert_eq!(check(r#""exp":1000,"#, 1059), Ok(()));
        assert_eq!(check(r#""exp":1000.5,"#, 1060), Ok(()));
        assert_eq!(check(r#""exp":1000,"#, 1060), Err(Refusal::Expired));
        assert_eq!(check(r#""nbf":1000,"exp":9000,"#, 940), Ok(()));
        assert_eq!(check(r#""nbf":1000,"exp":9000,"#, 939), Err(Refusal::NotYet));
        assert_eq!(check("", 0), Err(Refusal::Expired));
        assert_eq!(check(r#""exp":null,"#, 0), Err(Refusal::Expired));
    }

    #[test]
    fn odd_shapes_are_no_claims() {
        for json in
            ["", "[]", "null", r#"["supabase","a"]"#, r#"{"exp":"1000"}"#, r#"{"sub":"a","sub":"b"}"#, "{"]
        {
            assert!(serde_json::from_str::<Claims>(json).is_err(), "{json}");
        }
    }
}
