//! Settings of traces: the collector, and how much it is told. The names are those of OpenTelemetry.

use super::source::{ConfigError, Reader};
use super::value;
use kernel::Secret;

const ENDPOINT_RULE: &str = "be an address such as http://collector:4318";
const HEADERS_RULE: &str = "be a comma list of at most 10 name=value, up to 4096 visible characters";
const RATIO_RULE: &str = "be a number from 0 to 1";
/// How many headers may be set.
const HEADERS_MAX: usize = 10;

/// Where spans go, and which.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` without a slash at the end.
    pub endpoint: String,
    /// `OTEL_EXPORTER_OTLP_HEADERS`.
    pub headers: Vec<(String, Secret)>,
    /// `OTEL_SERVICE_NAME`.
    pub service_name: String,
    /// `OTEL_TRACES_SAMPLER_ARG`.
    pub ratio: f64,
}

pub(super) fn settings(reader: &mut Reader) -> Result<Option<TraceSettings>, ConfigError> {
    let endpoint = reader.optional("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT_RULE, value::web_address)?;
    let headers =
        reader.secret("OTEL_EXPORTER_OTLP_HEADERS", HEADERS_RULE, |text| headers(text).is_some())?;
    let service_name = reader.parse("OTEL_SERVICE_NAME", "be 1 to 100 characters", value::words::<100>)?;
    let ratio = reader.parse("OTEL_TRACES_SAMPLER_ARG", RATIO_RULE, ratio)?;
    let headers = headers.and_then(|text| self::headers(text.expose())).unwrap_or_default();
    Ok(endpoint.map(|endpoint| TraceSettings { endpoint, headers, service_name, ratio }))
}

fn ratio(text: &str) -> Option<f64> {
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

fn headers(text: &str) -> Option<Vec<(String, Secret)>> {
    let header = |pair: &str| {
        let (name, value) = pair.trim().split_once('=')?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let fits = !name.is_empty()
            && name.bytes().all(token)
            && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        fits.then(|| (name.to_ascii_lowercase(), Secret::new(value.trim().to_owned())))
    };
    let headers: Vec<_> = text.split(',').map(header).collect::<Option<_>>()?;
    (headers.len() <= HEADERS_MAX && text.len() <= 4096).then_some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::loaded;

    fn load(vars: &[(&str, &str)]) -> Result<Option<TraceSettings>, String> {
        loaded(vars).map(|config| config.traces)
    }

    #[test]
    fn nothing_is_sent_until_a_collector_is_named() {
        assert!(load(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b")]).expect("settings").is_none());
        let some = load(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "X-Key=abc=, b=c d"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        let some = some.expect("settings").expect("a collector");
        let headers: Vec<(&str, &str)> =
            some.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(some.endpoint, "http://collector:4318");
        assert_eq!(headers, [("x-key", "abc="), ("b", "c d")]);
        assert_eq!((some.service_name.as_str(), some.ratio), ("user-service", 0.25));
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (key, rule, bad) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT_RULE, &["collector:4318", "ftp://a"][..]),
            ("OTEL_EXPORTER_OTLP_HEADERS", HEADERS_RULE, &["a", "=b", "a=b,", "a b=c"]),
            ("OTEL_TRACES_SAMPLER_ARG", RATIO_RULE, &["-0.1", "1.1", "x", "NaN"]),
        ] {
            for text in bad {
                let refused = load(&[(key, text)]).expect_err(text);
                assert!(refused.starts_with(&format!("{key} must {rule}")), "{refused}");
            }
        }
    }
}
