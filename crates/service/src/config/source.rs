//! Where settings come from: the environment, `.env`, the compiled-in defaults.
//!
//! A key exists because `config.default.toml` names it; reading one that it does not name is an
//! error, and a test fails when one that it names is never read. Values are trimmed, and one that
//! is then empty counts as unset. The process's environment is read here and nowhere else, and
//! never written.

use super::value;
use kernel::Secret;
use std::{
    collections::{BTreeMap, HashMap},
    env::VarError,
    fmt,
    fmt::Display,
    io::ErrorKind,
    ops::RangeInclusive,
    path::Path,
    str::FromStr,
};

pub(super) const DEFAULTS: &str = include_str!("../../config.default.toml");
const DOTENV: &str = ".env";
const SHOWN_MAX_CHARS: usize = 100;

/// A setting that the service cannot start with: one sentence with the key and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) const fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The environment of the process.
    Environment,
    /// The file `.env` in the working folder.
    DotEnv,
    /// `config.default.toml`.
    Default,
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Environment => "environment",
            Self::DotEnv => DOTENV,
            Self::Default => "default",
        })
    }
}

/// One setting as it may be shown: what is in force, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable's name.
    pub key: String,
    /// The value in force; `***` for a secret, empty where nothing is set.
    pub value: String,
    /// Where the value was found.
    pub origin: Origin,
}

pub(super) type Vars = HashMap<String, (String, Origin)>;

/// The variables of this process and of `.env` in its working folder.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(super) fn process_vars() -> Result<Vars, ConfigError> {
    layered(|key| std::env::var(key), Path::new(DOTENV))
}

/// The variables of an environment, and beneath them those of a `.env` file, which may be missing.
pub(super) fn layered(
    environment: impl Fn(&str) -> Result<String, VarError>,
    dotenv: &Path,
) -> Result<Vars, ConfigError> {
    let mut vars = dotenv_vars(dotenv)?;
    for (key, _) in defaults()? {
        match environment(&key) {
            Ok(text) if !text.trim().is_empty() => {
                vars.insert(key, (text, Origin::Environment));
            }
            Ok(_) | Err(VarError::NotPresent) => {}
            Err(VarError::NotUnicode(_)) => {
                return Err(ConfigError(format!("{key} must be UTF-8, but the environment's value is not.")));
            }
        }
    }
    Ok(vars)
}

fn dotenv_vars(path: &Path) -> Result<Vars, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vars::new()),
        Err(error) => return Err(ConfigError(format!("The file .env cannot be read: {error}."))),
    };
    let mut vars = Vars::new();
    let mut last: Option<String> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    for line in dotenvy::from_read_iter(text.as_bytes()) {
        // The line itself may hold a secret, so the refusal names only the key before it.
        let Ok((key, value)) = line else {
            let place = last.map_or_else(|| "its first one".into(), |key| format!("the one after {key}"));
            let form = "NAME=value lines, values with spaces in quotes";
            return Err(ConfigError(format!("The file .env must hold {form}, but {place} is none.")));
        };
        // Of two lines with one name the later one counts, as in a shell.
        last = Some(key.clone());
        vars.insert(key, (value, Origin::DotEnv));
    }
    Ok(vars)
}

/// Every key in capitals with its default, in the order of the file; tables are no settings.
pub(super) fn defaults() -> Result<Vec<(String, String)>, ConfigError> {
    let broken = |what: &dyn Display| ConfigError(format!("config.default.toml is broken: {what}."));
    let table: BTreeMap<String, toml::Spanned<toml::Value>> =
        toml::from_str(DEFAULTS).map_err(|error| broken(&error.message()))?;
    let mut rows: Vec<_> = table.into_iter().collect();
    rows.sort_by_key(|(_, value)| value.span().start);
    rows.into_iter()
        .filter(|(_, value)| !value.get_ref().is_table())
        .map(|(key, value)| {
            let text = match value.into_inner() {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                _ => return Err(broken(&format!("{key} is no text, number or flag"))),
            };
            Ok((key.to_ascii_uppercase(), text))
        })
        .collect()
}

/// The secret that the defaults sign development tokens with.
pub(super) fn development_secret() -> Option<String> {
    let defaults = defaults().ok()?;
    defaults.into_iter().find(|(key, _)| key == "SUPABASE_JWT_SECRET").map(|(_, secret)| secret)
}

struct Row {
    setting: Setting,
    given: String,
    secret: bool,
    #[cfg(test)]
    read: bool,
}

/// Hands out one value per key, and keeps what may be shown of it.
pub(super) struct Reader {
    rows: Vec<Row>,
}

impl Reader {
    pub(super) fn new(vars: impl Fn(&str) -> Option<(String, Origin)>) -> Result<Self, ConfigError> {
        let rows = defaults()?.into_iter().map(|(key, default)| {
            let (given, origin) = vars(&key)
                .map(|(text, origin)| (text.trim().to_owned(), origin))
                .filter(|(text, _)| !text.is_empty())
                .unwrap_or((default, Origin::Default));
            let setting = Setting { key, value: given.clone(), origin };
            Row {
                setting,
                given,
                secret: false,
                #[cfg(test)]
                read: false,
            }
        });
        Ok(Self { rows: rows.collect() })
    }

    pub(super) fn into_settings(self) -> Vec<Setting> {
        self.rows.into_iter().map(|row| row.setting).collect()
    }

    /// The keys that nobody has asked for.
    #[cfg(test)]
    pub(super) fn unread(&self) -> Vec<&str> {
        self.rows.iter().filter(|row| !row.read).map(|row| row.setting.key.as_str()).collect()
    }

    fn row(&mut self, key: &str) -> Result<&mut Row, ConfigError> {
        let row = self.rows.iter_mut().find(|row| row.setting.key == key);
        let row = row.ok_or_else(|| ConfigError(format!("{key} is missing from config.default.toml.")))?;
        #[cfg(test)]
        {
            row.read = true;
        }
        Ok(row)
    }

    /// The value as it is.
    pub(super) fn text(&mut self, key: &str) -> Result<String, ConfigError> {
        Ok(self.row(key)?.given.clone())
    }

    /// The value that `take` makes of the text; `rule` completes the sentence "KEY must …".
    pub(super) fn parse<T>(
        &mut self,
        key: &str,
        rule: &str,
        take: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        take(&self.row(key)?.given).ok_or_else(|| self.refusal(key, rule))
    }

    /// As [`Reader::parse`], and nothing where the text is empty.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        rule: &str,
        take: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        if self.row(key)?.given.is_empty() { Ok(None) } else { self.parse(key, rule, take).map(Some) }
    }

    /// A whole number within limits.
    pub(super) fn number<T>(&mut self, key: &str, limits: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let rule = format!("be a whole number from {} to {}", limits.start(), limits.end());
        self.parse(key, &rule, |text| text.parse().ok().filter(|number| limits.contains(number)))
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool, ConfigError> {
        self.parse(key, value::FLAG_RULE, value::flag)
    }

    /// True or false, with a default that depends on other settings.
    pub(super) fn flag_or(&mut self, key: &str, default: bool) -> Result<bool, ConfigError> {
        let flag = self.optional(key, value::FLAG_RULE, value::flag)?.unwrap_or(default);
        self.show(key, flag.to_string());
        Ok(flag)
    }

    /// A value that is never shown, and nothing where the text is empty.
    pub(super) fn secret(
        &mut self,
        key: &str,
        rule: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Option<Secret>, ConfigError> {
        let row = self.row(key)?;
        row.secret = true;
        if !row.given.is_empty() {
            "***".clone_into(&mut row.setting.value);
        }
        self.optional(key, rule, |text| fits(text).then(|| Secret::new(text.to_owned())))
    }

    /// Says how the value in force is shown, where that is not the text that was given.
    pub(super) fn show(&mut self, key: &str, text: String) {
        if let Ok(row) = self.row(key) {
            row.setting.value = text;
        }
    }

    /// Where the value in force was found.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let row = self.rows.iter().find(|row| row.setting.key == key);
        row.map_or(Origin::Default, |row| row.setting.origin)
    }

    /// Whether a value is in force.
    pub(super) fn given(&self, key: &str) -> bool {
        self.rows.iter().any(|row| row.setting.key == key && !row.given.is_empty())
    }

    /// The sentence that refuses a value; `rule` completes "KEY must …".
    pub(super) fn refusal(&self, key: &str, rule: &str) -> ConfigError {
        let Some(row) = self.rows.iter().find(|row| row.setting.key == key) else {
            return ConfigError(format!("{key} must {rule}."));
        };
        let origin = match row.setting.origin {
            Origin::Environment => "the environment",
            Origin::DotEnv => ".env",
            Origin::Default => "the default",
        };
        ConfigError(match (row.secret, row.given.is_empty()) {
            (false, true) => format!("{key} must {rule}."),
            (true, _) => format!("{key} must {rule}; the value comes from {origin} and is not shown."),
            (false, false) => format!("{key} must {rule}, but {origin} says `{}`.", shown(&row.given)),
        })
    }
}

/// A value within a sentence: on one line, and not endless.
fn shown(text: &str) -> String {
    let escaped: String = text.chars().take(SHOWN_MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX_CHARS).is_some() { format!("{escaped}…") } else { escaped }
}
