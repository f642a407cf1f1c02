//! The command line: what can be asked of the binary, and how the settings are printed.
//!
//! Only definitions; `main` runs them. `serve` is what happens when nothing is asked.

use crate::auth::{ScopeError, Scopes};
use crate::config::Setting;
use crate::keys::model::network;
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use kernel::{ExternalId, Text, Timestamp};
use std::io;
use std::path::PathBuf;

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
    /// Look at the price book, or take a price list into it
    #[command(subcommand)]
    Prices(PricesCommand),
    /// Look at the payments
    #[command(subcommand)]
    Payments(PaymentsCommand),
    /// Make, list and revoke service keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Speak the Model Context Protocol over standard input and output, for an agent on this machine
    Mcp(McpArgs),
    /// Print every setting, its value and where it comes from, secrets masked
    Config,
}

/// Whom the agent speaks with.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct McpArgs {
    /// A running service to pass everything on to; without it the database is opened here
    #[arg(long, value_name = "URL", value_parser = url)]
    pub url: Option<String>,
}

fn url(text: &str) -> Result<String, String> {
    let fits =
        ["http://", "https://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    if fits && !text.contains('@') {
        Ok(text.to_owned())
    } else {
        Err("must be an address such as http://localhost:8100".to_owned())
    }
}

/// What can be asked about service keys.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, once; works beside a running service
    Create(KeysCreate),
    /// Print the keys that work, never what proves them
    List {
        /// Those that are expired or revoked as well
        #[arg(long)]
        all: bool,
    },
    /// Have a key refused from now on
    Revoke {
        /// Its public id, which stands in the key after `usk_`
        key_id: String,
    },
}

/// What a new key is to be.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KeysCreate {
    /// What to call it, in 1 to 100 characters
    #[arg(long, value_parser = named)]
    pub name: String,
    /// What it may do, parted by commas, such as users:write,credits:*; or admin
    #[arg(long, value_parser = some_scopes)]
    pub scopes: Scopes,
    /// After how many days its time is over; never when absent
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub expires_days: Option<u32>,
    /// How many requests a minute it may make; as RATE_LIMIT_* say when absent
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests_per_minute: Option<u32>,
    /// An address or a network from which it may be used, up to 100 times; from anywhere when absent
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub ip: Vec<IpNet>,
}

fn named(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("must have no control characters".to_owned());
    }
    Text::<1, 100>::new(text.to_owned()).map(Text::into_string).map_err(|rule| rule.to_string())
}

fn some_scopes(text: &str) -> Result<Scopes, String> {
    let scopes: Scopes = text.parse().map_err(|error: ScopeError| error.to_string())?;
    if scopes == Scopes::NONE { Err("must name a scope".to_owned()) } else { Ok(scopes) }
}

/// What can be asked about payments.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PaymentsCommand {
    /// Compare what Stripe says with what is known here, and print every difference; ends with code 1 when one is left
    Reconcile(Reconcile),
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Reconcile {
    /// Take in whatever is not known here
    #[arg(long)]
    pub fix: bool,
    /// How many days back to look; subscriptions are looked at whenever they began
    #[arg(long, default_value_t = 35, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

/// What can be asked about prices.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PricesCommand {
    /// Take a price list in LiteLLM's layout into the price book; ends with code 1 when the file is no such list
    Import(PricesImport),
    /// Print the prices that are in force now, in US dollars per unit
    List(PricesList),
}

/// Which list is imported, and how.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PricesImport {
    /// The file, such as LiteLLM's model_prices_and_context_window.json
    pub file: PathBuf,
    /// Say what would be done, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// From when the prices are in force, later than the last version of each model; now when absent
    #[arg(long, value_name = "INSTANT")]
    pub effective_at: Option<Timestamp>,
    /// Name every model that was skipped, rounded or priced in part
    #[arg(long, short)]
    pub verbose: bool,
}

/// Which prices are printed.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PricesList {
    /// Models whose name has this in it
    pub query: Option<String>,
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
    fn an_agent_speaks_with_this_process_or_with_a_running_service() {
        assert_eq!(asked("user-service mcp").expect("command"), Command::Mcp(McpArgs { url: None }));
        let there = McpArgs { url: Some("http://localhost:8100".to_owned()) };
        assert_eq!(
            asked("user-service mcp --url http://localhost:8100").expect("command"),
            Command::Mcp(there)
        );
        assert!(asked("user-service mcp --url localhost:8100").is_err());
        assert!(asked("user-service mcp --url http://me@localhost").is_err());
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
    fn prices_are_imported_and_listed() {
        let import =
            PricesImport { file: "list.json".into(), dry_run: false, effective_at: None, verbose: false };
        let found = asked("user-service prices import list.json").expect("command");
        assert_eq!(found, Command::Prices(PricesCommand::Import(import.clone())));
        let all =
            PricesImport { dry_run: true, verbose: true, effective_at: Some(Timestamp::default()), ..import };
        let line = "user-service prices import --dry-run -v --effective-at 1970-01-01 list.json";
        assert_eq!(asked(line).expect("command"), Command::Prices(PricesCommand::Import(all)));
        let list = PricesList { query: Some("gpt".to_owned()) };
        assert_eq!(
            asked("user-service prices list gpt").expect("command"),
            Command::Prices(PricesCommand::List(list))
        );
        assert!(asked("user-service prices import").is_err() && asked("user-service prices").is_err());
    }

    #[test]
    fn payments_are_reconciled_for_some_days() {
        let reconcile = |fix, days| Command::Payments(PaymentsCommand::Reconcile(Reconcile { fix, days }));
        assert_eq!(asked("user-service payments reconcile").expect("command"), reconcile(false, 35));
        assert_eq!(
            asked("user-service payments reconcile --fix --days 3").expect("command"),
            reconcile(true, 3)
        );
        assert!(
            asked("user-service payments reconcile --days 0").is_err()
                && asked("user-service payments").is_err()
        );
    }

    #[test]
    fn keys_are_made_listed_and_revoked() {
        let line = "user-service keys create --name chat --scopes credits:read,sessions:* --expires-days 30 --ip 10.0.0.0/8 --ip ::1";
        let create = KeysCreate {
            name: "chat".to_owned(),
            scopes: "credits:read sessions:read sessions:write".parse().expect("scopes"),
            expires_days: Some(30),
            requests_per_minute: None,
            ip: ["10.0.0.0/8", "::1/128"].map(|text| text.parse().expect("a network")).to_vec(),
        };
        assert_eq!(asked(line).expect("command"), Command::Keys(KeysCommand::Create(create)));
        assert!(
            asked("user-service keys list --all").is_ok() && asked("user-service keys revoke k1").is_ok()
        );
        for bad in [
            "user-service keys create --name chat",
            "user-service keys create --name chat --scopes ,",
            "user-service keys create --name chat --scopes fly",
            "user-service keys create --name chat --scopes admin --ip localhost",
            "user-service keys create --name chat --scopes admin --expires-days 0",
            "user-service keys revoke",
        ] {
            assert!(asked(bad).is_err(), "{bad}");
        }
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
