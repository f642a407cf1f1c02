//! What the service says of itself: log lines on standard output, numbers for Prometheus, traces by OTLP.
//!
//! What always holds: a line is never torn, a slow reader of the log never stalls a request, and
//! memory for lines and spans that wait is bounded. Next: `writer` (how lines get out), `metrics`, `traces`.

mod metrics;
pub mod traceparent;
pub mod traces;
mod writer;

pub use metrics::{Metrics, metrics};
pub use traces::Traces;
pub use writer::LogGuard;

use crate::config::{Config, LogFormat};
use std::fmt;
use std::io::{self, IsTerminal as _};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::format::Writer,
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter},
    layer::SubscriberExt as _,
    registry::{LookupSpan, Registry},
    util::{SubscriberInitExt as _, TryInitError},
};

/// Libraries that report every connection at `info` or `debug`; they speak from `warn` on unless
/// LOG_LEVEL names them.
const NOISY: [&str; 8] = ["h2", "hyper", "hyper_util", "mio", "reqwest", "rustls", "tokio_postgres", "tower"];

/// A library that repeats what callers send where it refuses it; they are told, and our own line says that they were.
const REPEATS: &str = "rmcp=error";

/// Telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The thread that writes the log or tends the metrics cannot be started.
    #[error("a telemetry thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// The process already logs to somewhere else.
    #[error("logging is already set up: {0}")]
    Logging(#[from] TryInitError),
    /// The process already counts for somebody else.
    #[error("a metrics recorder is already installed")]
    Recorder,
    /// Spans cannot be sent.
    #[error("spans cannot be sent: {0}")]
    Traces(String),
}

/// Starts logging to standard output, once per process.
///
/// Lines that wait are written out when the guard is dropped; keep it until the end of `main`, and
/// drop it before `std::process::exit`.
///
/// # Errors
/// [`TelemetryError::Thread`] or [`TelemetryError::Logging`].
pub fn init(config: &Config) -> Result<LogGuard, TelemetryError> {
    let terminal = io::stdout().is_terminal();
    let (lines, guard) = writer::start(io::stdout())?;
    subscriber(config, terminal, lines).try_init()?;
    Ok(guard)
}

/// The same to standard error, for a command whose standard output is for programs.
///
/// # Errors
/// As [`init`].
pub fn init_beside(config: &Config) -> Result<LogGuard, TelemetryError> {
    let terminal = io::stderr().is_terminal();
    let (lines, guard) = writer::start(io::stderr())?;
    subscriber(config, terminal, lines).try_init()?;
    Ok(guard)
}

/// Times are RFC 3339 in UTC with microseconds, which is what `tracing_subscriber` writes by itself.
fn subscriber<W>(config: &Config, terminal: bool, lines: W) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    let layer = if json {
        layer.json().flatten_event(true).with_span_list(false).map_event_format(OfTrace).boxed()
    } else if terminal {
        // Colours unless the operator has set NO_COLOR, which the layer itself looks at.
        layer.boxed()
    } else {
        layer.with_ansi(false).boxed()
    };
    Registry::default().with(EnvFilter::new(directives(config))).with(layer)
}

/// Adds the trace that a task works for to its lines, which are JSON objects.
struct OfTrace<F>(F);

impl<S, N, F> FormatEvent<S, N> for OfTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(id) = traces::current_id() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(members) => writeln!(writer, "{members},\"trace_id\":\"{id}\"}}"),
            None => writer.write_str(&line),
        }
    }
}

/// The operator's directives, with quiet libraries beneath unless the operator asked for less.
fn directives(config: &Config) -> String {
    let asked = config.log_level.split(',');
    let level = asked.rev().find(|directive| !directive.contains('=')).unwrap_or("info");
    let mut directives = vec![level.to_owned()];
    if !matches!(level, "off" | "error") {
        directives.push(REPEATS.to_owned());
    }
    if matches!(level, "trace" | "debug" | "info") {
        directives.extend(NOISY.iter().map(|library| format!("{library}=warn")));
    }
    if config.debug && level != "trace" {
        directives.push("user_service=debug".to_owned());
    }
    directives.push(config.log_level.clone());
    directives.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn config(vars: &[(&'static str, &'static str)]) -> Config {
        let found = |key: &str| vars.iter().find(|(name, _)| *name == key);
        let vars =
            |key: &str| found(key).map(|(_, text)| ((*text).to_owned(), crate::config::Origin::Environment));
        Config::from_vars(vars).expect("config").0
    }

    fn logged(vars: &[(&'static str, &'static str)], terminal: bool, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = subscriber(&config(vars), terminal, move || sink.clone());
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(lines.0.lock().expect("lock").clone()).expect("UTF-8")
    }

    #[test]
    fn json_lines_are_flat_objects_with_a_time_in_utc() {
        let text = logged(&[("LOG_FORMAT", "json")], true, || {
            let _span = tracing::info_span!("request", request_id = "r1").entered();
            tracing::info!(status = 200, route = "/health", "answered");
        });
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!(line["message"], "answered");
        assert_eq!((&line["status"], &line["level"]), (&200.into(), &"INFO".into()));
        assert_eq!(line["span"]["request_id"], "r1");
        let time = line["timestamp"].as_str().expect("a time");
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn text_has_colours_on_a_terminal_only() {
        let log = || tracing::warn!(left = 3, "slow");
        let plain = logged(&[("LOG_FORMAT", "text")], false, log);
        assert!(plain.contains("WARN") && plain.contains("slow left=3"), "{plain}");
        assert!(!plain.contains('\u{1b}'), "{plain}");
        assert!(logged(&[], false, log).starts_with('{'), "auto is JSON where nobody watches");
        assert!(!logged(&[], true, log).starts_with('{'), "auto is text on a terminal");
    }

    #[test]
    fn libraries_are_quiet_unless_named_and_debug_raises_only_our_own_code() {
        let log = || {
            tracing::debug!(target: "user_service::db", "ours");
            tracing::info!(target: "hyper::proto", "theirs");
        };
        assert_eq!(logged(&[], false, log), "");
        assert!(logged(&[("DEBUG", "true")], false, log).contains("ours"));
        assert!(!logged(&[("DEBUG", "true")], false, log).contains("theirs"));
        assert!(!logged(&[("LOG_LEVEL", "debug")], false, log).contains("theirs"));
        assert!(logged(&[("LOG_LEVEL", "hyper=info")], false, log).contains("theirs"));
        assert_eq!(logged(&[("LOG_LEVEL", "off")], false, || tracing::error!("x")), "");
        let warns = || tracing::warn!(target: "hyper", "theirs");
        assert_eq!(logged(&[("LOG_LEVEL", "error")], false, warns), "", "less was asked for");
    }
}
