//! The process as Linux sees it, under the names that every Prometheus client has.
//!
//! Written as text, because processor time is a counter with a fraction, which the recorder does not have.
//! Elsewhere than on Linux these lines are absent.

use std::fmt::Write as _;

/// A number of the process: name, type, help.
pub type Described = (&'static str, &'static str, &'static str);

/// The numbers, in the order of the page.
pub const DESCRIBED: [Described; 7] = [
    ("process_cpu_seconds_total", "counter", "Processor time that the process used."),
    ("process_resident_memory_bytes", "gauge", "Memory that the process holds."),
    ("process_virtual_memory_bytes", "gauge", "Addresses that the process has taken."),
    ("process_threads", "gauge", "Threads of the process."),
    ("process_open_fds", "gauge", "File descriptors that are open."),
    ("process_max_fds", "gauge", "File descriptors that may be open."),
    ("process_start_time_seconds", "gauge", "When the process began."),
];

/// Ticks of the clock in `/proc`, which Linux fixes at this for programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the numbers to a page.
pub fn write(page: &mut String) {
    let Some(values) = read() else { return };
    for ((name, kind, help), value) in DESCRIBED.iter().zip(values) {
        // Writing to a text cannot fail.
        let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
    }
}

fn read() -> Option<[f64; DESCRIBED.len()]> {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{name}")).ok();
    let (stat, status, limits) = (file("self/stat")?, file("self/status")?, file("self/limits")?);
    // The program's name comes first, in brackets, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let kib = |name: &str| number(&status, name).map(|kib| kib * 1024.0);
    let booted = number(&file("stat")?, "btime")?;
    Some([
        (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        kib("VmRSS:")?,
        kib("VmSize:")?,
        number(&status, "Threads:")?,
        std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
        number(&limits, "Max open files").unwrap_or(f64::INFINITY),
        booted + ticks(19)? / TICKS_PER_SECOND,
    ])
}

/// The number that follows a name at the start of a line.
fn number(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_of_this_process() {
        let mut page = String::new();
        write(&mut page);
        let value =
            |name: &str| number(&page, &format!("{name} ")).unwrap_or_else(|| panic!("{name} in\n{page}"));
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_threads") >= 1.0);
        assert!((3.0..value("process_max_fds")).contains(&value("process_open_fds")));
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
