//! What a process costs, from `/proc`: processor time and memory.

use crate::Fallible;
use std::fs;

/// Processor time (user and system) that process `pid` has used so far, in microseconds, together
/// with that of its children: those already reaped and those still running.
pub fn cpu_micros(pid: u32, with_children: bool) -> Fallible<u64> {
    let mut ticks = ticks(pid, with_children)?;
    if with_children {
        // A child that ends between the listing and the reading is in its parent's sum the next time.
        ticks += children(pid)?.into_iter().filter_map(|child| self::ticks(child, true).ok()).sum::<u64>();
    }
    Ok(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
}

/// Memory of process `pid` in KiB as `/proc/<pid>/status` names it: `VmRSS` now, `VmHWM` at its peak.
pub fn memory_kib(pid: u32, field: &str) -> Fallible<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse().ok()
        })
        .ok_or_else(|| format!("/proc/{pid}/status has no {field}").into())
}

/// The fields of `/proc/<pid>/stat` after the command's name, which may itself hold spaces.
fn stat_fields(pid: u32) -> Fallible<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').ok_or("unreadable /proc stat")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

fn ticks(pid: u32, reaped: bool) -> Fallible<u64> {
    // utime, stime, cutime, cstime are fields 14..=17 of the file, 11..=14 after the name.
    let fields = stat_fields(pid)?;
    let wanted = if reaped { 11..15 } else { 11..13 };
    Ok(fields[wanted].iter().filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn children(parent: u32) -> Fallible<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let ppid = stat_fields(pid).ok().and_then(|fields| fields.get(1)?.parse::<u32>().ok());
        if ppid == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}
