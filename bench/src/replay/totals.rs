//! The totals computed here, and the two columns: ours and the service's.

use super::trace::Call;
use crate::api::Stats;
use crate::{Fallible, exact};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// Adds a call to the totals it belongs to.
pub fn add(stats: &mut Stats, call: &Call) {
    stats.records += 1;
    stats.credits += call.credits();
    stats.cost += call.cost();
    stats.tokens += call.prompt + call.completion;
    *stats.by_event_type.entry(call.event_type.to_owned()).or_default() += 1;
    *stats.by_model.entry(call.model.to_owned()).or_default() += 1;
    *stats.by_provider.entry(call.provider.to_owned()).or_default() += 1;
}

/// The totals of each of `users` users over the calls that `counts` admits.
pub fn of(calls: &[Call], users: usize, counts: impl Fn(&Call) -> bool) -> Vec<Stats> {
    let mut totals = vec![Stats::default(); users];
    for call in calls.iter().filter(|call| counts(call)) {
        add(&mut totals[call.user], call);
    }
    totals
}

/// The sum over all users.
fn sum(all: &[Stats]) -> Stats {
    let mut total = Stats::default();
    for one in all {
        total.records += one.records;
        total.credits += one.credits;
        total.cost += one.cost;
        total.tokens += one.tokens;
        merge(&mut total.by_event_type, &one.by_event_type);
        merge(&mut total.by_model, &one.by_model);
        merge(&mut total.by_provider, &one.by_provider);
    }
    total
}

fn merge(into: &mut BTreeMap<String, i128>, from: &BTreeMap<String, i128>) {
    for (name, count) in from {
        *into.entry(name.clone()).or_default() += count;
    }
}

/// Collects lines of two columns and counts those that differ.
#[derive(Default)]
pub struct Comparison {
    lines: Vec<(String, String, String)>,
    /// Lines, and users, whose two sides differ.
    pub differences: usize,
}

impl Comparison {
    /// One line: a quantity computed here, and as the service has it.
    pub fn line(&mut self, what: &str, ours: &str, service: &str) {
        self.differences += usize::from(ours != service);
        self.lines.push((what.to_owned(), ours.to_owned(), service.to_owned()));
    }

    /// Statistics of all users: their sums as lines, and every user by itself.
    pub fn stats(&mut self, what: &str, ours: &[Stats], service: &[Stats]) {
        let (a, b) = (sum(ours), sum(service));
        self.line(&format!("{what}: records"), &a.records.to_string(), &b.records.to_string());
        self.line(&format!("{what}: credits"), &exact::literal(a.credits, 6), &exact::literal(b.credits, 6));
        self.line(&format!("{what}: cost, USD"), &exact::literal(a.cost, 9), &exact::literal(b.cost, 9));
        self.line(&format!("{what}: tokens"), &a.tokens.to_string(), &b.tokens.to_string());
        for (kind, a, b) in [
            ("event type", a.by_event_type, b.by_event_type),
            ("model", a.by_model, b.by_model),
            ("provider", a.by_provider, b.by_provider),
        ] {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let count = |side: &BTreeMap<String, i128>| side.get(name).copied().unwrap_or(0).to_string();
                self.line(&format!("{what}: {kind} {name}"), &count(&a), &count(&b));
            }
        }
        self.users(what, ours, service);
    }

    /// The balances of all users: their sum as a line, and every user by itself.
    pub fn balances(&mut self, what: &str, ours: &[i128], service: &[i128]) {
        let sum = |side: &[i128]| exact::literal(side.iter().sum(), 6);
        self.line(&format!("{what}: credits left"), &sum(ours), &sum(service));
        self.users(&format!("{what}: balances"), ours, service);
    }

    fn users<T: PartialEq>(&mut self, what: &str, ours: &[T], service: &[T]) {
        let equal = ours.iter().zip(service).filter(|(ours, service)| ours == service).count();
        self.line(&format!("{what}: users that agree"), &ours.len().to_string(), &equal.to_string());
    }

    /// Prints the two columns.
    pub fn print(&self, title: &str) -> Fallible<()> {
        let width = |of: fn(&(String, String, String)) -> usize| self.lines.iter().map(of).max().unwrap_or(0);
        let (first, second) = (width(|line| line.0.len()), width(|line| line.1.len()).max(12));
        let third = width(|line| line.2.len()).max(12);
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{title}\n{:first$}  {:>second$}  {:>third$}", "", "computed", "service")?;
        for (what, ours, service) in &self.lines {
            let mark = if ours == service { "" } else { "  DIFFERS" };
            writeln!(out, "{what:first$}  {ours:>second$}  {service:>third$}{mark}")?;
        }
        Ok(())
    }
}
