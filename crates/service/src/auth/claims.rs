//! What a token says of its bearer, and what follows from it.
//!
//! Nothing here is to be trusted before the signature is verified. Claims that do not matter may
//! have any type; those that do matter (`exp`, `nbf`, `iss`, `aud`, `sub`) must be right.

use super::principal::UserPrincipal;
use super::token::{Refusal, object};
use super::words::Words;
use kernel::{Email, Name, Timestamp};
use serde_json::value::RawValue;

/// How far two clocks may be apart, in seconds.
pub const LEEWAY_S: f64 = 60.0;

/// The second part of a token, as far as it matters here.
#[derive(serde::Deserialize)]
pub struct Claims<'a> {
    #[serde(default, borrow)]
    iss: Words<'a>,
    #[serde(default, borrow)]
    sub: Words<'a>,
    #[serde(default, borrow)]
    aud: Words<'a>,
    // RFC 7519 allows fractions of a second.
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default, borrow)]
    email: Words<'a>,
    #[serde(default, borrow)]
    name: Words<'a>,
    #[serde(default, borrow)]
    role: Words<'a>,
    #[serde(default, borrow)]
    roles: Words<'a>,
    #[serde(default, borrow)]
    permissions: Words<'a>,
    #[serde(borrow)]
    app_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    user_metadata: Option<&'a RawValue>,
}

/// What the provider's administrators wrote about a user (`app_metadata`).
#[derive(Default, serde::Deserialize)]
struct AppMetadata<'a> {
    #[serde(default, borrow)]
    role: Words<'a>,
    #[serde(default, borrow)]
    roles: Words<'a>,
}

/// What users wrote about themselves (`user_metadata`): good for a name, never for a role.
#[derive(Default, serde::Deserialize)]
struct UserMetadata<'a> {
    #[serde(default, borrow)]
    name: Words<'a>,
    #[serde(default, borrow)]
    full_name: Words<'a>,
}

impl Claims<'_> {
    /// The issuer, where it is one text.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.iss.one()
    }

    /// Refuses a token that is not valid at `now`, give or take the leeway.
    ///
    /// # Errors
    /// [`Refusal::Expired`] (also without `exp`) or [`Refusal::NotYet`].
    #[expect(clippy::cast_precision_loss, reason = "microseconds up to the year 2255 are exact in an f64")]
    pub fn check_times(&self, now: Timestamp) -> Result<(), Refusal> {
        let now = now.micros() as f64 / 1e6;
        if self.exp.is_none_or(|exp| now >= exp + LEEWAY_S) {
            return Err(Refusal::Expired);
        }
        if self.nbf.is_some_and(|nbf| now < nbf - LEEWAY_S) {
            return Err(Refusal::NotYet);
        }
        Ok(())
    }

    /// Refuses a token that is not meant for `audience`.
    ///
    /// # Errors
    /// [`Refusal::Audience`].
    pub fn check_audience(&self, audience: &str) -> Result<(), Refusal> {
        if self.aud.has(audience) { Ok(()) } else { Err(Refusal::Audience) }
    }

    /// The user that the claims describe.
    ///
    /// # Errors
    /// [`Refusal::Subject`] when `sub` is no user id.
    pub fn user(&self, admin_role: &str) -> Result<UserPrincipal, Refusal> {
        let subject = self.sub.one().and_then(|sub| sub.parse().ok()).ok_or(Refusal::Subject)?;
        Ok(UserPrincipal {
            subject,
            email: self.email.one().and_then(|email| Email::new(email).ok()),
            name: self.full_name(),
            admin: !admin_role.is_empty() && self.has_role(admin_role),
        })
    }

    fn full_name(&self) -> Option<Name> {
        let valid = |words: &Words<'_>| words.one().and_then(|name| Name::new(name).ok());
        valid(&self.name).or_else(|| {
            // Supabase keeps names here.
            let metadata: UserMetadata<'_> = object(self.user_metadata?.get().as_bytes())?;
            valid(&metadata.full_name).or_else(|| valid(&metadata.name))
        })
    }

    fn has_role(&self, role: &str) -> bool {
        [&self.role, &self.roles, &self.permissions].into_iter().any(|claim| claim.has(role))
            || self
                .app_metadata
                .and_then(|metadata| object::<AppMetadata<'_>>(metadata.get().as_bytes()))
                .is_some_and(|metadata| metadata.role.has(role) || metadata.roles.has(role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(json: &str) -> UserPrincipal {
        object::<Claims<'_>>(json.as_bytes()).expect(json).user("admin").expect(json)
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
            assert!(user(&format!(r#"{{"sub":"a",{claim}}}"#)).admin, "{claim}");
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
            assert!(!user(&format!(r#"{{"sub":"a",{claim}}}"#)).admin, "{claim}");
        }
    }

    #[test]
    fn an_empty_admin_role_makes_nobody_an_admin() {
        let claims: Claims<'_> = object(br#"{"sub":"a","role":"","roles":[""]}"#).expect("claims");
        assert!(!claims.user("").expect("a user").admin);
    }

    #[test]
    fn addresses_and_names_that_do_not_validate_are_dropped() {
        let good = user(r#"{"sub":"a","email":"a@b.de","name":" Ada "}"#);
        assert_eq!(good.email.as_ref().map(Email::as_str), Some("a@b.de"));
        assert_eq!(good.name.as_ref().map(Name::as_str), Some("Ada"));
        for rest in
            [r#""email":"","name":"  ""#, r#""email":7,"name":null"#, r#""email":["a@b.de"],"name":{}"#]
        {
            let bad = user(&format!(r#"{{"sub":"a",{rest}}}"#));
            assert_eq!((bad.email, bad.name), (None, None), "{rest}");
        }
        let supabase = user(r#"{"sub":"a","user_metadata":{"full_name":"Ada L","name":"ada"}}"#);
        assert_eq!(supabase.name.as_ref().map(Name::as_str), Some("Ada L"));
    }

    #[test]
    fn a_subject_must_be_a_user_id() {
        for sub in [r#""sub":"""#, r#""sub":"a b""#, r#""sub":7"#, r#""sub":["a"]"#, r#""x":1"#] {
            let json = format!("{{{sub}}}");
            let claims: Claims<'_> = object(json.as_bytes()).expect("claims");
            assert_eq!(claims.user("admin"), Err(Refusal::Subject), "{sub}");
        }
    }

    #[test]
    fn times_have_a_minute_of_leeway_and_exp_must_be_there() {
        let check = |json: &str, at: i64| {
            object::<Claims<'_>>(json.as_bytes())
                .expect(json)
                .check_times(Timestamp::from_micros(at * 1_000_000))
        };
        assert_eq!(check(r#"{"exp":1000}"#, 1059), Ok(()));
        assert_eq!(check(r#"{"exp":1000.5}"#, 1060), Ok(()));
        assert_eq!(check(r#"{"exp":1000}"#, 1060), Err(Refusal::Expired));
        assert_eq!(check(r#"{"nbf":1000,"exp":9000}"#, 940), Ok(()));
        assert_eq!(check(r#"{"nbf":1000,"exp":9000}"#, 939), Err(Refusal::NotYet));
        assert_eq!(check("{}", 0), Err(Refusal::Expired));
        assert_eq!(check(r#"{"exp":null}"#, 0), Err(Refusal::Expired));
    }

    #[test]
    fn odd_shapes_are_no_claims() {
        for json in
            ["", "[]", "null", r#"["supabase","a"]"#, r#"{"exp":"1000"}"#, r#"{"sub":"a","sub":"b"}"#, "{"]
        {
            assert!(object::<Claims<'_>>(json.as_bytes()).is_none(), "{json}");
        }
    }
}
