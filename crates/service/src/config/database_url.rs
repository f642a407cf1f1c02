//! Where the data lives: a file of SQLite, or a PostgreSQL server.

use kernel::Secret;
use std::{fmt, path::PathBuf};

pub(super) const RULE: &str =
    "be sqlite:path/to/file without parameters, or postgresql://user:password@host:port/database";

/// The database's address; showing it never shows a password.
#[derive(Debug, Clone)]
pub enum DatabaseUrl {
    /// The path of an SQLite file, relative to the working folder unless absolute.
    Sqlite(PathBuf),
    /// A `postgresql://` or `postgres://` address, password included.
    Postgres(Secret),
}

impl DatabaseUrl {
    /// The engine's name for people.
    #[must_use]
    pub const fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => sqlite_path(rest).map(Self::Sqlite),
            "postgres" | "postgresql" => {
                let address = rest.strip_prefix("//").filter(|address| !address.is_empty())?;
                Some(Self::Postgres(Secret::new(format!("postgresql://{address}"))))
            }
            _ => None,
        }
    }
}

/// The path after `sqlite:`, with or without the slashes of a URL.
///
/// Three slashes are a URL's: an empty host and an absolute path. `sqlite:///./data/x.db` is
/// relative nevertheless, because whoever writes the dot means the working folder. Memory is no
/// place for a ledger, and parameters such as `?mode=ro` would be silently untrue.
fn sqlite_path(rest: &str) -> Option<PathBuf> {
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with("/./") || path.starts_with("/../") => &path[1..],
        Some(path) if path.starts_with("//") => &path[1..],
        Some(path) => path,
        None => rest,
    };
    let names_file = !path.is_empty() && !path.ends_with('/') && !path.contains(['?', '\0']);
    (names_file && !path.contains(":memory:")).then(|| PathBuf::from(path))
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&masked(url.expose())),
        }
    }
}

/// An address with `***` for the password, be it before the host or among the parameters.
///
/// A password that should have been percent-encoded may hold any character, so everything from
/// the first colon to the last `@` is taken for the password: rather too much than too little.
fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".into() };
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@{host}"),
            None => format!("{user}@{host}"),
        },
        None => rest.to_owned(),
    };
    let Some((address, query)) = rest.split_once('?') else { return format!("{scheme}://{rest}") };
    let query: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}=***"),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{scheme}://{address}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        DatabaseUrl::parse(text).map(|url| url.to_string())
    }

    #[test]
    fn every_form_of_an_sqlite_address_names_its_file() {
        for (text, path) in [
            ("sqlite:data/x.db", "data/x.db"),
            ("sqlite:./data/x.db", "./data/x.db"),
            ("sqlite:/var/x.db", "/var/x.db"),
            ("sqlite://data/x.db", "data/x.db"),
            ("sqlite:///var/x.db", "/var/x.db"),
            ("sqlite:////var/x.db", "/var/x.db"),
            ("sqlite:///./data/x.db", "./data/x.db"),
            ("sqlite:///../x.db", "../x.db"),
            ("SQLite:x.db", "x.db"),
        ] {
            let Some(DatabaseUrl::Sqlite(found)) = DatabaseUrl::parse(text) else { panic!("{text}") };
            assert_eq!(found, PathBuf::from(path), "{text}");
        }
    }

    #[test]
    fn what_names_no_database_is_refused() {
        for text in [
            "x.db",
            "sqlite:",
            "sqlite://",
            "sqlite:///",
            "sqlite:data/",
            "sqlite::memory:",
            "sqlite://:memory:",
            "sqlite:x.db?mode=ro",
            "postgresql:",
            "postgresql://",
            "postgresql:host/db",
            "mysql://root:pw@host/db",
            "host=localhost password=pw",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn no_form_of_an_address_shows_its_password() {
        for (text, masked) in [
            ("postgresql://app:s3cret@db:5432/users", "postgresql://app:***@db:5432/users"),
            ("postgres://app:s3cret@db/users", "postgresql://app:***@db/users"),
            ("postgresql://app@db/users", "postgresql://app@db/users"),
            ("postgresql://db/users?sslmode=require", "postgresql://db/users?sslmode=require"),
            ("postgresql://app:s3c:r@e/t?@db/users", "postgresql://app:***@db/users"),
            ("postgresql://:s3cret@db/users", "postgresql://:***@db/users"),
            (
                "postgresql://db/users?user=app&password=s3cret&sslmode=require",
                "postgresql://db/users?user=app&password=***&sslmode=require",
            ),
        ] {
            assert_eq!(shown(text).as_deref(), Some(masked));
            let debug = format!("{:?}", DatabaseUrl::parse(text));
            assert!(!debug.contains("s3c"), "{debug}");
        }
    }
}
