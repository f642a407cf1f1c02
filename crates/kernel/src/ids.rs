//! Who and what: the ids that callers see and the ids that rows carry.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

/// The characters that an external user id may have.
pub const EXTERNAL_ID_PATTERN: &str = "^[A-Za-z0-9._@+:|-]{1,255}$";

/// A text is no id of the wanted kind; the message names the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdError(&'static str);

/// A user's id in the identity provider: `auth0|test123`, a UUID, a plain name.
///
/// 1 to 255 characters of `A-Z a-z 0-9 . _ @ + : | -`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ExternalId(Arc<str>);

impl ExternalId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it reads as a row id: 1 to 15 digits and nothing else. No user may have such an id,
    /// for it would take the name of somebody's row.
    #[must_use]
    pub fn is_row_like(&self) -> bool {
        self.0.len() <= 15 && self.0.bytes().all(|b| b.is_ascii_digit())
    }
}

impl FromStr for ExternalId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._@+:|-".contains(&b);
        if (1..=255).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(IdError("must be 1 to 255 characters of A-Z a-z 0-9 . _ @ + : | -"))
        }
    }
}

impl fmt::Display for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExternalId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl PartialSchema for ExternalId {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A user's id in the identity provider."))
            .pattern(Some(EXTERNAL_ID_PATTERN))
            .min_length(Some(1))
            .max_length(Some(255))
            .examples(["auth0|test123"])
            .into()
    }
}

impl ToSchema for ExternalId {
    fn name() -> Cow<'static, str> {
        "ExternalId".into()
    }
}

/// The integer key of a user's row: `user_id` in the answer of `ensure`. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct UserRowId(pub i64);

impl fmt::Display for UserRowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A user as a caller names it in a body or a path: its external id, or its integer row id.
///
/// A JSON number is taken as its digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserKey(ExternalId);

impl UserKey {
    /// The name as an external id, which digits are too.
    #[must_use]
    pub const fn as_external(&self) -> &ExternalId {
        &self.0
    }

    /// The name as a row id, where it is one: as few digits as a row id has, without a leading zero.
    ///
    /// No external id looks like that ([`ExternalId::is_row_like`]), so a name means one user.
    #[must_use]
    pub fn as_row(&self) -> Option<UserRowId> {
        let digits = self.0.as_str();
        (self.0.is_row_like() && !digits.starts_with('0'))
            .then(|| digits.parse().ok().map(UserRowId))
            .flatten()
    }

    /// Whether it names this user, by either id.
    #[must_use]
    pub fn names(&self, external: &ExternalId, row: UserRowId) -> bool {
        self.0 == *external || self.as_row() == Some(row)
    }
}

impl FromStr for UserKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self)
    }
}

impl<'de> Deserialize<'de> for UserKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::decimal::literal(deserializer).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            D::Error::custom("must be a user id: 1 to 255 characters of A-Z a-z 0-9 . _ @ + : | -")
        })
    }
}

impl PartialSchema for UserKey {
    fn schema() -> RefOr<Schema> {
        ExternalId::schema()
    }
}

impl ToSchema for UserKey {
    fn name() -> Cow<'static, str> {
        "UserKey".into()
    }
}

/// Makes an id that is the address of a ledger row: prefix, user's row id, position in the account.
///
/// The address is the whole look-up, so the entries need no second index.
macro_rules! ledger_id {
    ($name:ident, $prefix:literal, $rule:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            /// Whose account.
            pub user: UserRowId,
            /// Which entry of the account; the first is 1.
            pub seq: i64,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}_{}"), self.user.0, self.seq)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let number = |digits: &str| {
                    let canonical = !digits.starts_with(['0', '+', '-']);
                    digits.parse::<i64>().ok().filter(|_| canonical)
                };
                text.strip_prefix($prefix)
                    .and_then(|rest| rest.split_once('_'))
                    .and_then(|(user, seq)| Some(Self { user: UserRowId(number(user)?), seq: number(seq)? }))
                    .ok_or(IdError($rule))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($doc))
                    .pattern(Some(concat!("^", $prefix, "[1-9][0-9]{0,18}_[1-9][0-9]{0,18}$")))
                    .min_length(Some(7))
                    .max_length(Some(43))
                    .examples([concat!($prefix, "112_7")])
                    .into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

ledger_id!(
    TransactionId,
    "txn_",
    "must be a transaction id such as txn_112_7",
    "A transaction: one entry of one account."
);
ledger_id!(
    GrantId,
    "grt_",
    "must be a grant id such as grt_112_7",
    "A grant, named after the entry that issued it."
);
ledger_id!(
    HoldId,
    "hld_",
    "must be a hold id such as hld_112_7",
    "A hold: credits that one account has set aside."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_ids_of_every_provider_pass() {
        for id in
            ["auth0|test123", "google-oauth2|1078", "4da97cfa-b95f-4898-8b7d-2786ff703ce0", "a.b_c@d+e:f"]
        {
            assert_eq!(id.parse::<ExternalId>().expect(id).as_str(), id);
        }
        assert!("a".repeat(255).parse::<ExternalId>().is_ok());
        for id in ["", "a b", "a/b", "ä", "a\0b", "a%7Cb", &"a".repeat(256)] {
            assert!(id.parse::<ExternalId>().is_err(), "{id}");
        }
    }

    #[test]
    fn a_transaction_id_is_its_own_address() {
        let id: TransactionId = "txn_112_7".parse().expect("an id");
        assert_eq!((id.user.0, id.seq), (112, 7));
        assert_eq!(id.to_string(), "txn_112_7");
        for text in [
            "txn_",
            "txn_1",
            "txn_1_",
            "txn_01_7",
            "txn_1_-7",
            "txn_1_7_",
            "grt_1_7",
            "txn_+1_7",
            "txn_99999999999999999999_1",
        ] {
            assert!(text.parse::<TransactionId>().is_err(), "{text}");
        }
    }
}
