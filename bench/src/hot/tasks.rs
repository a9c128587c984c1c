//! The threads of this process as the system sees them: names, CPU time, priority. Linux only; elsewhere there are none.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

fn tasks() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let dir = entry.path();
            let name = fs::read_to_string(dir.join("comm")).ok()?;
            Some((name.trim().to_owned(), dir))
        })
        .collect()
}

pub fn count() -> usize {
    tasks().len()
}

/// Open sockets.
pub fn sockets() -> usize {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// CPU nanoseconds of telemetry's threads so far.
pub fn telemetry_cpu_ns() -> u64 {
    let own = tasks().into_iter().filter(|(name, _)| name.starts_with("llama-otel"));
    own.filter_map(|(_, dir)| {
        let text = fs::read_to_string(dir.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    })
    .sum()
}

/// Telemetry's threads: name and nice value.
pub fn telemetry_threads() -> Vec<Value> {
    let own = tasks().into_iter().filter(|(name, _)| name.starts_with("llama-otel"));
    own.filter_map(|(name, dir)| {
        let stat = fs::read_to_string(dir.join("stat")).ok()?;
        // The second field, the name, may hold spaces; the nice value is the 19th.
        let nice: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()?;
        Some(json!({ "name": name, "nice": nice }))
    })
    .collect()
}
