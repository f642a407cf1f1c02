use super::*;
use crate::ops::process;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// Writes down what is described.
#[derive(Default)]
struct Described(Mutex<BTreeSet<(String, String, String)>>);

impl Described {
    fn note(&self, name: &KeyName, kind: &str, meaning: &SharedString) {
        self.0.lock().insert((name.as_str().to_owned(), kind.to_owned(), meaning.to_string()));
    }
}

impl Recorder for Described {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.note(&name, "counter", &meaning);
    }
    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.note(&name, "gauge", &meaning);
    }
    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.note(&name, "histogram", &meaning);
    }
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn the_document_says_of_each_number_what_the_page_says() {
    let described = Described::default();
    metrics::with_local_recorder(&described, describe);
    let mut described = described.0.into_inner();
    described.extend(
        process::DESCRIBED.map(|(name, kind, help)| (name.to_owned(), kind.to_owned(), help.to_owned())),
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/monitoring.md");
    let text = std::fs::read_to_string(path).expect("docs/monitoring.md");
    let kinds = ["counter", "gauge", "histogram"];
    let documented: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
            let kind = cells.get(1).filter(|kind| kinds.contains(kind))?;
            Some((cells[0].trim_matches('`').to_owned(), (*kind).to_owned(), cells.get(3)?.to_string()))
        })
        .collect();
    let lacking: Vec<_> = described.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&described).collect();
    assert!(
        lacking.is_empty() && gone.is_empty(),
        "docs/monitoring.md lacks {lacking:#?}\nand has {gone:#?}"
    );
}

#[test]
fn a_batch_is_summed_by_kind_without_sign() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        entries([("consume", -2_500_000), ("grant", 7), ("consume", -1)].into_iter());
    });
    let page = handle.render();
    for line in [
        "ledger_entries_total{kind=\"consume\"} 2",
        "ledger_microcredits_total{kind=\"consume\"} 2500001",
        "ledger_microcredits_total{kind=\"grant\"} 7",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
}

#[test]
fn a_method_that_nobody_knows_makes_no_label() {
    assert_eq!(verb(&Method::PATCH), "PATCH");
    assert_eq!(verb(&Method::from_bytes(b"CANARY").expect("a method")), "OTHER");
}
