//! The command line: what can be asked of the binary, and how the settings are printed.
//!
//! Only definitions; `main` runs them. `serve` is what happens when nothing is asked.

use crate::config::Setting;
use clap::{Args, Parser, Subcommand};
use kernel::ExternalId;
use std::io;

/// The binary's arguments.
#[derive(Debug, Parser)]
#[command(name = "user-service", version, about, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "Settings come from the environment and from `.env` in the working folder; \
`user-service config` prints every one of them. A bad setting ends the program with code 2.";

impl Cli {
    /// What was asked for, `serve` when nothing was.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve)
    }
}

/// What can be asked of the binary.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Answer requests until told to stop (the default)
    Serve,
    /// Bring the database's schema up to date, then end
    Migrate,
    /// Check every rule of the ledger on the live database; ends with code 1 when one is broken
    VerifyLedger(VerifyLedger),
    /// Print every setting, its value and where it comes from, secrets masked
    Config,
}

/// What `verify-ledger` checks and how it answers.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct VerifyLedger {
    /// Check this user's account alone
    #[arg(long, value_name = "USER_ID")]
    pub user: Option<ExternalId>,
    /// Answer with one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Writes the settings as a table: key, where the value comes from, value.
///
/// The values come last because only they have no sensible width.
///
/// # Errors
/// When the text cannot be written.
pub fn write_settings(out: &mut impl io::Write, settings: &[Setting]) -> io::Result<()> {
    let width = settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0).max("KEY".len());
    writeln!(out, "{:<width$}  {:<11}  VALUE", "KEY", "ORIGIN")?;
    for Setting { key, value, origin } in settings {
        let value = if value.is_empty() { "(not set)" } else { value };
        writeln!(out, "{key:<width$}  {origin:<11}  {value}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;
    use clap::CommandFactory as _;

    fn asked(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(Cli::into_command)
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default() {
        assert_eq!(asked("user-service").expect("command"), Command::Serve);
        assert_eq!(asked("user-service serve").expect("command"), Command::Serve);
        assert_eq!(asked("user-service migrate").expect("command"), Command::Migrate);
        assert_eq!(asked("user-service config").expect("command"), Command::Config);
    }

    #[test]
    fn the_ledger_is_verified_for_one_user_or_all() {
        let all = VerifyLedger { user: None, json: false };
        assert_eq!(asked("user-service verify-ledger").expect("command"), Command::VerifyLedger(all));
        let one = VerifyLedger { user: "auth0|test123".parse().ok(), json: true };
        assert_eq!(
            asked("user-service verify-ledger --user auth0|test123 --json").expect("command"),
            Command::VerifyLedger(one)
        );
        assert!(asked("user-service verify-ledger --user a/b").is_err());
    }

    #[test]
    fn what_is_unknown_ends_with_code_2() {
        assert_eq!(asked("user-service explode").expect_err("unknown").exit_code(), 2);
        assert_eq!(asked("user-service --version").expect_err("version").exit_code(), 0);
    }

    #[test]
    fn settings_are_an_aligned_table() {
        let setting =
            |key: &str, value: &str, origin| Setting { key: key.into(), value: value.into(), origin };
        let settings = [
            setting("PORT", "8100", Origin::Default),
            setting("SUPABASE_JWT_SECRET", "***", Origin::Environment),
            setting("AUTH0_DOMAIN", "", Origin::DotEnv),
        ];
        let mut out = Vec::new();
        write_settings(&mut out, &settings).expect("written");
        insta::assert_snapshot!(String::from_utf8(out).expect("text"), @r"
        KEY                  ORIGIN       VALUE
        PORT                 default      8100
        SUPABASE_JWT_SECRET  environment  ***
        AUTH0_DOMAIN         .env         (not set)
        ");
    }
}
