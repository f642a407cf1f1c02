//! Numbers for Prometheus, counted with the macros of `metrics` and rendered on request.
//!
//! Names end in their unit: a histogram `…_seconds` gets the buckets of request times, one
//! `…_size` those of batch sizes. There is one recorder per process, whoever asks first.

use super::TelemetryError;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use std::{thread, time::Duration};

/// From a hot path's tenth of a millisecond to the default time limit of a request.
const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// From a lone command to the largest batch that a request may carry.
const SIZES: [f64; 14] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0];
/// Samples wait as they came until they are sorted into buckets, so their memory is bounded by this.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);

/// The process's numbers; cheap to clone.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Everything counted so far, in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// The process's numbers; the first call starts the counting, without any listener.
///
/// # Errors
/// [`TelemetryError::Recorder`] when something else counts already, or [`TelemetryError::Thread`].
pub fn metrics() -> Result<Metrics, TelemetryError> {
    let mut installed = INSTALLED.lock();
    if let Some(metrics) = &*installed {
        return Ok(metrics.clone());
    }
    let recorder = builder()?.build_recorder();
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Recorder)?;
    let metrics = installed.insert(Metrics(handle.clone())).clone();
    thread::Builder::new().name("metrics-upkeep".into()).spawn(move || {
        loop {
            thread::sleep(UPKEEP_EVERY);
            handle.run_upkeep();
        }
    })?;
    Ok(metrics)
}

fn builder() -> Result<PrometheusBuilder, TelemetryError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_size".into()), &SIZES))
        .map_err(|_| TelemetryError::Recorder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_the_buckets_of_their_unit() {
        let recorder = builder().expect("buckets").build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::histogram!("request_seconds", "route" => "/health").record(0.0003);
            ::metrics::histogram!("batch_size").record(7.0);
            ::metrics::counter!("requests_total").increment(2);
        });
        let text = handle.render();
        for line in [
            "request_seconds_bucket{route=\"/health\",le=\"0.00025\"} 0",
            "request_seconds_bucket{route=\"/health\",le=\"0.0005\"} 1",
            "batch_size_bucket{le=\"5\"} 0",
            "batch_size_bucket{le=\"10\"} 1",
            "requests_total 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn whoever_asks_gets_the_same_numbers() {
        let (first, second) = (metrics().expect("first"), metrics().expect("second"));
        ::metrics::counter!("asked_total").increment(1);
        assert!(first.render().contains("asked_total 1"));
        assert!(second.render().contains("asked_total 1"));
    }
}
