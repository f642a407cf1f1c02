//! The three kinds of caller: a user, a service key, an admin (who is either of the two).

use kernel::{Email, ExternalId, Name};
use std::{fmt, str::FromStr, sync::Arc};

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A person with a token of an identity provider.
    User(UserPrincipal),
    /// A program with a service key.
    Service(ServicePrincipal),
}

/// A person, as the identity provider's token describes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPrincipal {
    /// The token's `sub`: the user's id.
    pub subject: ExternalId,
    /// The token's e-mail address, where it has a valid one.
    pub email: Option<Email>,
    /// The token's name, where it has a valid one.
    pub name: Option<Name>,
    /// Whether the identity provider gave this user the admin role.
    pub admin: bool,
    /// What the token is good for, where it was issued here for some things only.
    pub scopes: Option<Scopes>,
}

/// A program that acts for any user, within its key's scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePrincipal {
    /// The key's public name, never the key itself.
    pub key_id: Arc<str>,
    /// What the key may do.
    pub scopes: Scopes,
    /// How many requests a minute it may make, where that is its own.
    pub requests_per_minute: Option<u32>,
}

impl Principal {
    /// The kind of caller, as logs and metrics name it: `user`, `service` or `admin`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            _ if self.is_admin() => "admin",
            Self::User(_) => "user",
            Self::Service(_) => "service",
        }
    }

    /// A stable id of the caller, by which idempotency keys are kept apart.
    #[must_use]
    pub fn caller(&self) -> String {
        match self {
            Self::User(user) => format!("user:{}", user.subject),
            Self::Service(service) => format!("key:{}", service.key_id),
        }
    }

    /// Whether this is a service key with the scope; the admin scope stands for all, users have none.
    #[must_use]
    pub const fn has(&self, scope: Scope) -> bool {
        match self {
            Self::User(_) => false,
            Self::Service(service) => service.scopes.contains(scope) || service.scopes.contains(Scope::Admin),
        }
    }

    /// Whether this is a user with the admin role, or a key with the admin scope.
    #[must_use]
    pub const fn is_admin(&self) -> bool {
        match self {
            Self::User(user) => user.admin,
            Self::Service(service) => service.scopes.contains(Scope::Admin),
        }
    }
}

/// One thing that a service key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scope {
    /// Read users.
    UsersRead,
    /// Create, change and delete users.
    UsersWrite,
    /// Read usage records and statistics.
    UsageRead,
    /// Record usage.
    UsageWrite,
    /// Read balances and transactions.
    CreditsRead,
    /// Take credits from users.
    CreditsSpend,
    /// Give credits to users.
    CreditsGrant,
    /// Read sessions and messages.
    SessionsRead,
    /// Create and change sessions and messages.
    SessionsWrite,
    /// Read files.
    FilesRead,
    /// Upload and delete files.
    FilesWrite,
    /// Read the endpoints of outgoing notifications.
    WebhooksRead,
    /// Change the endpoints of outgoing notifications.
    WebhooksWrite,
    /// Issue short-lived tokens for users.
    TokensIssue,
    /// Everything.
    Admin,
}

/// A text names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope: {0}")]
pub struct ScopeError(String);

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 15] = [
        Self::UsersRead,
        Self::UsersWrite,
        Self::UsageRead,
        Self::UsageWrite,
        Self::CreditsRead,
        Self::CreditsSpend,
        Self::CreditsGrant,
        Self::SessionsRead,
        Self::SessionsWrite,
        Self::FilesRead,
        Self::FilesWrite,
        Self::WebhooksRead,
        Self::WebhooksWrite,
        Self::TokensIssue,
        Self::Admin,
    ];

    /// The scope's name, such as `credits:spend`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::UsageRead => "usage:read",
            Self::UsageWrite => "usage:write",
            Self::CreditsRead => "credits:read",
            Self::CreditsSpend => "credits:spend",
            Self::CreditsGrant => "credits:grant",
            Self::SessionsRead => "sessions:read",
            Self::SessionsWrite => "sessions:write",
            Self::FilesRead => "files:read",
            Self::FilesWrite => "files:write",
            Self::WebhooksRead => "webhooks:read",
            Self::WebhooksWrite => "webhooks:write",
            Self::TokensIssue => "tokens:issue",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| ScopeError(text.to_owned()))
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u32);

impl Scopes {
    /// No scope at all.
    pub const NONE: Self = Self(0);

    /// Every scope but [`Scope::Admin`].
    #[must_use]
    pub fn all_but_admin() -> Self {
        Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect()
    }

    /// Whether the scope is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether all of the other set are in this one; the admin scope stands for all.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.contains(Scope::Admin) || other.0 & !self.0 == 0
    }

    /// This set and the other together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set with one scope more.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u8)
    }

    /// The scopes in the set, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().enumerate().try_for_each(|(index, scope)| {
            f.write_str(if index == 0 { "" } else { " " })?;
            scope.fmt(f)
        })
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;

    /// Reads names parted by spaces or commas; `sessions:*` stands for every scope on sessions.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let names = text.split([' ', ',']).filter(|name| !name.is_empty());
        names.map(named).try_fold(Self::NONE, |set, scopes| Ok(set.and(scopes?)))
    }
}

/// The scopes that one name, with or without a star, stands for.
fn named(name: &str) -> Result<Scopes, ScopeError> {
    let Some(resource) = name.strip_suffix('*').filter(|resource| resource.ends_with(':')) else {
        return name.parse().map(|scope| Scopes::NONE.with(scope));
    };
    let scopes: Scopes = Scope::ALL.into_iter().filter(|s| s.as_str().starts_with(resource)).collect();
    if scopes == Scopes::NONE { Err(ScopeError(name.to_owned())) } else { Ok(scopes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scopes: &str) -> Principal {
        Principal::Service(ServicePrincipal {
            key_id: "k1".into(),
            scopes: scopes.parse().expect(scopes),
            requests_per_minute: None,
        })
    }

    fn user(admin: bool) -> Principal {
        let subject = "auth0|a".parse().expect("an id");
        Principal::User(UserPrincipal { subject, email: None, name: None, admin, scopes: None })
    }

    #[test]
    fn every_scope_has_its_own_name() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(scope));
            assert_eq!(Scopes::NONE.with(scope).iter().collect::<Vec<_>>(), [scope]);
        }
        for text in ["", "users", "users:", "users:*", "Admin", " admin"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_every_scope_on_its_resource() {
        let scopes: Scopes = "sessions:*, credits:read".parse().expect("scopes");
        assert_eq!(scopes.to_string(), "credits:read sessions:read sessions:write");
        assert_eq!("".parse(), Ok(Scopes::NONE));
        for text in ["*", ":*", "ses*", "plans:*", "admin:*", "users:read users:fly"] {
            assert!(text.parse::<Scopes>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_admin_scope_is_never_part_of_a_star() {
        assert!(!Scopes::all_but_admin().contains(Scope::Admin));
        assert_eq!(Scopes::all_but_admin().iter().count(), Scope::ALL.len() - 1);
    }

    #[test]
    fn the_kind_follows_role_and_scope() {
        assert_eq!([user(false).kind(), user(true).kind()], ["user", "admin"]);
        assert_eq!([key("users:read").kind(), key("admin").kind()], ["service", "admin"]);
        assert_eq!([user(false).caller(), key("admin").caller()], ["user:auth0|a", "key:k1"]);
    }

    #[test]
    fn only_keys_have_scopes() {
        assert!(key("users:read").has(Scope::UsersRead));
        assert!(!key("users:read").has(Scope::UsersWrite));
        assert!(key("admin").has(Scope::CreditsGrant));
        assert!(!user(true).has(Scope::UsersRead));
    }
}
