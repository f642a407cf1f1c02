//! The binary: reads the settings, does what was asked, and says in one sentence what went wrong.

use clap::Parser as _;
use kernel::Clock;
use std::io::Write as _;
use std::process::ExitCode;
use user_service::audit;
use user_service::boot::{self, BootError};
use user_service::cli::{
    Cli, Command, KeysCommand, McpArgs, PaymentsCommand, PricesCommand, Reconcile, VerifyLedger,
    write_settings,
};
use user_service::config::{Config, Environment};
use user_service::credits::verify;
use user_service::payments::reconcile as payments;
use user_service::prices::command::{self, CommandError};
use user_service::{measure, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many threads may wait for the disk: scans of SQLite, spools and files. Each keeps some memory.
const BLOCKING_THREADS: usize = 16;

/// What a bad setting, a taken port or an unreachable database ends with.
const BAD_SETTING: u8 = 2;

fn main() -> ExitCode {
    let command = Cli::parse().into_command();
    let (config, settings) = match Config::load() {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&error),
    };
    if command == Command::Config {
        return match write_settings(&mut std::io::stdout().lock(), &settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error),
    };
    let code = match runtime.block_on(run(command, config)) {
        Ok(code) => code,
        Err(error) => refuse(&error),
    };
    runtime.shutdown_background();
    code
}

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "user-service: {error}");
    ExitCode::from(BAD_SETTING)
}

async fn run(command: Command, config: Config) -> Result<ExitCode, BootError> {
    match command {
        Command::Serve => serve(config).await,
        Command::Migrate => {
            boot::open(&config).await?;
            say(&format!("The schema of {} is up to date.", config.database));
            Ok(ExitCode::SUCCESS)
        }
        Command::VerifyLedger(asked) => verify_ledger(&config, &asked).await,
        Command::Payments(PaymentsCommand::Reconcile(asked)) => reconcile(config, &asked).await,
        Command::Prices(asked) => prices(&config, &asked).await,
        Command::Keys(asked) => keys(&config, &asked).await,
        Command::Mcp(asked) => speak(config, &asked).await,
        Command::Config => Ok(ExitCode::SUCCESS),
    }
}

async fn serve(config: Config) -> Result<ExitCode, BootError> {
    let listener = boot::listen(&config).await?;
    let _log = telemetry::init(&config).map_err(|error| BootError::Listen(format!("LOG_FORMAT: {error}")))?;
    let metrics = config.metrics_enabled.then(telemetry::metrics).and_then(Result::ok);
    measure::describe();
    let banner = banner(&config, &listener);
    let service = boot::build(config, Clock::System, metrics).await?;
    say(&banner);
    service.serve(listener, stop_signal()).await;
    tracing::info!("stopped; nothing that was accepted is lost");
    Ok(ExitCode::SUCCESS)
}

async fn speak(config: Config, asked: &McpArgs) -> Result<ExitCode, BootError> {
    let log = telemetry::init_beside(&config);
    let _log = log.map_err(|error| BootError::Listen(format!("LOG_FORMAT: {error}")))?;
    user_service::mcp::command::run(config, asked, stop_signal()).await?;
    Ok(ExitCode::SUCCESS)
}

/// Resolves at the first SIGTERM or ctrl-c; a second one ends the process at once.
async fn stop_signal() {
    signalled().await;
    tracing::info!("stopping");
    tokio::spawn(async {
        signalled().await;
        std::process::exit(130);
    });
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

async fn verify_ledger(config: &Config, asked: &VerifyLedger) -> Result<ExitCode, BootError> {
    let report = verify::verify(&boot::location(config), asked.user.as_ref()).await?;
    if asked.json {
        say(&serde_json::to_string(&report).unwrap_or_default());
    } else {
        say(&report.to_string());
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn reconcile(config: Config, asked: &Reconcile) -> Result<ExitCode, BootError> {
    let service = boot::build(config, Clock::System, None).await?;
    let app = &service.app;
    let Some(stripe) = &app.stripe else {
        return Err(BootError::Stripe("STRIPE_SECRET_KEY must be set to ask Stripe".to_owned()));
    };
    let since = payments::days_ago(app.clock.now(), asked.days);
    let reconciling = payments::reconcile(app, stripe, since, asked.fix);
    match audit::around::at_the_command_line("reconcile_payments", reconciling).await {
        Ok(report) => {
            say(&report.to_string());
            Ok(if report.is_even() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "user-service: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn prices(config: &Config, asked: &PricesCommand) -> Result<ExitCode, BootError> {
    ended(command::run(config, asked, &mut std::io::stdout().lock()).await)
}

async fn keys(config: &Config, asked: &KeysCommand) -> Result<ExitCode, BootError> {
    let (mut out, mut aside) = (std::io::stdout(), std::io::stderr());
    ended(user_service::keys::command::run(config, asked, &mut out, &mut aside).await)
}

fn ended(done: Result<(), CommandError>) -> Result<ExitCode, BootError> {
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(CommandError::Boot(error)) => Err(error),
        Err(CommandError::Failed(why)) => {
            let _ = writeln!(std::io::stderr(), "user-service: {why}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What a person needs who has just started it.
fn banner(config: &Config, listener: &tokio::net::TcpListener) -> String {
    let port = listener.local_addr().map_or(config.port, |address| address.port());
    let at = format!("http://{}:{port}", if config.host == "0.0.0.0" { "localhost" } else { &config.host });
    let mut text = format!(
        "\n{} {} ({})\n  address   {at}\n  engine    {} ({})\n  data      {}\n  docs      {at}/docs\n",
        config.app_name,
        config.app_version,
        config.environment.as_str(),
        config.database.engine(),
        config.database,
        config.data_dir.display(),
    );
    if config.environment == Environment::Development && config.supabase.is_some() {
        text.push_str(&format!(
            "\nTry it:\n\
             TOKEN=$(curl -s -X POST '{at}/auth/dev-token?user_id=auth0%7Ctest123&email=test@test.com' | sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')\n\
             curl -s -X POST {at}/api/v1/users/ensure -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{{\"name\":\"Test User\"}}'\n\
             curl -s -X POST '{at}/api/v1/users/auth0%7Ctest123/credits/consume' -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{{\"amount\":25.5,\"reason\":\"first call\"}}'\n",
        ));
    }
    text
}
