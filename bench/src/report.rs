//! The table on the terminal and the result in a file.

use crate::machine::Machine;
use crate::suite::{Findings, Options, Row};
use crate::{Fallible, targets, wall};
use serde_json::json;
use std::io::{self, Write};
use std::path::PathBuf;

const HEADINGS: [&str; 15] = [
    "engine",
    "case",
    "conns",
    "req/s",
    "ratio",
    "p50 ms",
    "p99 ms",
    "max ms",
    "errors",
    "cpu us",
    "db cpu us",
    "rss MiB",
    "peak MiB",
    "records/s",
    "books",
];

/// One line on the terminal while the suite runs.
pub fn progress(row: &Row) {
    let (engine, case, connections) = (row.engine, &row.case, row.connections);
    let ratio = row.ratio.map_or(String::new(), |ratio| format!(", {ratio:.2} of the no-op"));
    eprintln!("{engine:9} {case:22} {connections:4} connections: {:.0} req/s{ratio}", row.per_second);
}

/// Prints the table and the targets and writes the result. Answers whether nothing failed.
pub fn publish(options: &Options, findings: &Findings) -> Fallible<bool> {
    let (machine, targets) = (Machine::read(), targets::judge(findings));
    let mut out = io::stdout().lock();
    writeln!(out, "\n{}; {}; {} s per row", machine.line(), findings.engines.join(", "), options.seconds)?;
    if machine.is_busy(findings.load_before) {
        let load = findings.load_before.unwrap_or_default();
        writeln!(
            out,
            "the machine was busy before the run (load {load}): only the ratios say anything, and little"
        )?;
    }
    write_table(&mut out, findings)?;
    for bare in &findings.bare {
        let rates: Vec<String> =
            bare.bare_per_second.iter().map(|(way, rate)| format!("{way} {rate:.0}")).collect();
        writeln!(
            out,
            "{:9} bare engine, records/s: {}; service {:.0}; ratio {:.2}",
            bare.engine,
            rates.join(", "),
            bare.service_per_second,
            bare.ratio
        )?;
    }
    write_transfers(&mut out, findings)?;
    writeln!(out)?;
    for target in &targets {
        let verdict = if target.reached { "reached" } else { "NOT reached" };
        writeln!(out, "{:9} {:60} {:8.2}  {verdict}", target.engine, target.aim, target.measured)?;
    }
    for failure in &findings.failures {
        writeln!(out, "FAILED: {failure}")?;
    }
    let now = wall::now();
    let file = options.out.clone().unwrap_or_else(|| {
        PathBuf::from(format!(
            "bench/results/{}-{}.json",
            options.engine.name(),
            now.format("%Y-%m-%dT%H%M%SZ")
        ))
    });
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let result = json!({
        "at": wall::rfc3339(now), "machine": machine, "load_before": findings.load_before, "engines": findings.engines,
        "options": {
            "seconds": options.seconds, "connections": options.connections, "users": options.users,
            "batch_users": options.batch_users, "batch_records": options.batch_records,
            "histories": options.histories,
        },
        "targets": targets, "rows": findings.rows, "transfers": findings.transfers, "bare_batch": findings.bare,
        "verify_ledger_seconds": findings.verified, "failures": findings.failures,
    });
    std::fs::write(&file, format!("{result:#}\n"))?;
    writeln!(out, "written to {}", file.display())?;
    Ok(findings.failures.is_empty())
}

fn write_transfers(out: &mut impl Write, findings: &Findings) -> Fallible<()> {
    for moved in &findings.transfers {
        let beside = moved.beside.map_or(String::new(), |(what, rate)| {
            format!("; {what} {rate:.0} MB/s; ratio {:.2}", moved.mb_per_second / rate)
        });
        writeln!(
            out,
            "{:9} {:18} {:6.0} MB/s, {:6.1} files/s, peak {:.0} MiB{beside}",
            moved.engine, moved.what, moved.mb_per_second, moved.files_per_second, moved.peak_mib
        )?;
    }
    Ok(())
}

fn write_table(out: &mut impl Write, findings: &Findings) -> Fallible<()> {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(findings.rows.iter().map(cells));
    let widths: Vec<usize> =
        (0..HEADINGS.len()).map(|at| lines.iter().map(|line| line[at].len()).max().unwrap_or(0)).collect();
    for line in lines {
        for (at, cell) in line.iter().enumerate() {
            // Words to the left, numbers to the right.
            let width = widths[at];
            if at < 2 { write!(out, "{cell:width$}  ")? } else { write!(out, "{cell:>width$}  ")? }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn cells(row: &Row) -> [String; 15] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let books = row.books.as_ref().map(|books| match books.balanced {
        true => format!("ok +{}", books.stored - i128::from(books.acknowledged)),
        false => format!("{} acknowledged, {} stored", books.acknowledged, books.stored),
    });
    [
        row.engine.to_owned(),
        row.case.clone(),
        row.connections.to_string(),
        format!("{:.0}", row.per_second),
        or_dash(row.ratio.map(|ratio| format!("{ratio:.2}"))),
        format!("{:.2}", row.p50_ms),
        format!("{:.2}", row.p99_ms),
        format!("{:.1}", row.max_ms),
        (row.refused + row.socket_errors).to_string(),
        format!("{:.1}", row.cpu_us),
        or_dash(row.database_cpu_us.map(|micros| format!("{micros:.1}"))),
        format!("{:.0}", row.rss_mib),
        format!("{:.0}", row.peak_mib),
        or_dash(row.records_per_second.map(|rate| format!("{rate:.0}"))),
        or_dash(books),
    ]
}
