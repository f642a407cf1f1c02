//! What the numbers should reach, as ratios within one run, and whether they did.

use crate::suite::{Findings, Row};
use serde::Serialize;

/// One target on one engine.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// What should hold.
    pub aim: String,
    /// What was measured.
    pub measured: f64,
    /// Whether it holds.
    pub reached: bool,
}

/// The targets that the findings say something about.
pub fn judge(findings: &Findings) -> Vec<Target> {
    let mut engines: Vec<&'static str> = findings.rows.iter().map(|row| row.engine).collect();
    engines.dedup();
    engines.into_iter().flat_map(|engine| Judge { engine, findings }.targets()).collect()
}

struct Judge<'a> {
    engine: &'static str,
    findings: &'a Findings,
}

impl<'a> Judge<'a> {
    fn targets(&self) -> Vec<Target> {
        let consume = if self.engine == "sqlite" { 0.5 } else { 0.4 };
        let mut targets = Vec::new();
        if let Some(row) = self.busiest("balance") {
            targets.extend(row.ratio.map(|ratio| self.at_least(row, "balance over no-op", ratio, 0.85)));
        }
        if let Some(row) = self.busiest("rate_limited") {
            let aim = "no-op with limits of rates over without";
            targets.extend(row.ratio.map(|ratio| self.at_least(row, aim, ratio, 0.95)));
        }
        if let Some(row) = self.busiest("consume_subscribed") {
            let aim = "consume with 5 endpoints over without";
            targets.extend(row.ratio.map(|ratio| self.at_least(row, aim, ratio, 0.7)));
        }
        targets.extend(self.dead_endpoints());
        for case in ["consume_many", "consume_one"] {
            if let Some(row) = self.busiest(case) {
                let aim = format!("{case} over no-op");
                targets.extend(row.ratio.map(|ratio| self.at_least(row, &aim, ratio, consume)));
            }
        }
        if let (Some(one), Some(many)) = (self.busiest("consume_one"), self.busiest("consume_many")) {
            let ratio = one.per_second / many.per_second;
            targets.push(self.at_least(one, "consume_one over consume_many", ratio, 0.8));
        }
        if let Some(row) = self.busiest("consume_half_rate") {
            targets.push(self.at_most("p99 of consume at half rate, ms", row.p99_ms, 10.0));
        }
        if let Some(bare) = self.findings.bare.iter().find(|bare| bare.engine == self.engine) {
            let aim = "usage batch records over the bare engine's >= 0.6".to_owned();
            targets.push(self.target(aim, bare.ratio, bare.ratio >= 0.6));
        }
        for case in ["message_append", "message_append_one"] {
            // PostgreSQL shares these cores with the service and with the load; its row stands in the table.
            if let Some(row) = self.busiest(case).filter(|_| self.engine == "sqlite") {
                let aim = format!("{case} over no-op");
                targets.extend(row.ratio.map(|ratio| self.at_least(row, &aim, ratio, 0.5)));
            }
        }
        targets.extend(self.entries());
        targets.extend(self.lengths("stats_", "", 2.0));
        targets.extend(self.lengths("stats_", "_ragged", 2.0));
        targets.extend(self.lengths("last_messages_", "", 1.25));
        let most = |field: fn(&Row) -> f64| self.rows().map(field).fold(0.0, f64::max);
        targets.push(self.at_most("RSS idle, MiB", most(|row| row.idle_mib), 50.0));
        targets.push(self.at_most("RSS peak under load, MiB", most(|row| row.peak_mib), 150.0));
        targets
    }

    /// The rate with most entries in the table over that with fewest, each as a ratio to its no-op.
    fn entries(&self) -> Option<Target> {
        let most = self.rows().map(|row| row.connections).max()?;
        let number =
            |row: &Row| row.case.strip_prefix("consume_entries_").and_then(|n| n.parse::<u64>().ok());
        let mut rows: Vec<&Row> =
            self.rows().filter(|row| row.connections == most && number(row).is_some()).collect();
        rows.sort_by_key(|row| number(row));
        let (few, many) = (rows.first()?, rows.last()?);
        let ratio = many.ratio? / few.ratio?;
        let aim = format!("{} over {} >= 0.8", many.case, few.case);
        (rows.len() > 1).then(|| self.target(aim, ratio, ratio >= 0.8))
    }

    /// What seven endpoints get beside three dead ones, over what they get alone.
    fn dead_endpoints(&self) -> Option<Target> {
        let (alone, beside) = (self.busiest("seven_endpoints")?, self.busiest("seven_of_ten_endpoints")?);
        let ratio = beside.per_second / alone.per_second;
        Some(self.target("7 endpoints beside 3 dead ones over alone >= 0.8".to_owned(), ratio, ratio >= 0.8))
    }

    fn rows(&self) -> impl Iterator<Item = &'a Row> {
        self.findings.rows.iter().filter(|row| row.engine == self.engine)
    }

    /// The case's row with most connections.
    fn busiest(&self, case: &str) -> Option<&'a Row> {
        self.rows().filter(|row| row.case == case).max_by_key(|row| row.connections)
    }

    /// The time over the longest history against that over the shortest, one caller at a time.
    fn lengths(&self, prefix: &str, suffix: &str, bound: f64) -> Option<Target> {
        let length = |row: &Row| row.case.strip_prefix(prefix)?.strip_suffix(suffix)?.parse::<u64>().ok();
        let quiet = self.rows().filter(|row| length(row).is_some()).map(|row| row.connections).min()?;
        let rows = || self.rows().filter(|row| row.connections == quiet && length(row).is_some());
        let (short, long) = (rows().min_by_key(|row| length(row))?, rows().max_by_key(|row| length(row))?);
        let times = short.per_second / long.per_second;
        (short.case != long.case)
            .then(|| self.at_most(&format!("time of {} over {}", long.case, short.case), times, bound))
    }

    fn at_least(&self, row: &Row, what: &str, measured: f64, bound: f64) -> Target {
        self.target(
            format!("{what} at {} connections >= {bound}", row.connections),
            measured,
            measured >= bound,
        )
    }

    fn at_most(&self, what: &str, measured: f64, bound: f64) -> Target {
        self.target(format!("{what} <= {bound}"), measured, measured <= bound)
    }

    fn target(&self, aim: String, measured: f64, reached: bool) -> Target {
        Target { engine: self.engine, aim, measured, reached }
    }
}
