//! One interleaved run: a block of each kind of work, in turn, many times, so that whatever else the machine does
//! falls on all of them alike.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    peer,
    work::{self, Work},
};

/// Operations before each timed block, which bring code and data back into the caches.
const WARM_UP: u64 = 40;

/// Nanoseconds per operation of each kind: median and 10th percentile over the blocks.
///
/// # Errors
/// Telemetry is not on.
pub fn run(rounds: u64) -> Result<Value, String> {
    work::start()?;
    let all = work::all();
    let mut samples = vec![Vec::with_capacity(rounds as usize); all.len()];
    for _ in 0..rounds {
        for (work, samples) in all.iter().zip(&mut samples) {
            samples.push(block(work));
        }
    }
    let figures: serde_json::Map<_, _> = all
        .iter()
        .zip(&mut samples)
        .map(|(work, samples)| {
            samples.sort_by(f64::total_cmp);
            let at = |share: f64| samples.get((samples.len() as f64 * share) as usize).copied().unwrap_or_default();
            (work.name.to_owned(), json!({ "median": at(0.5), "p10": at(0.1) }))
        })
        .collect();
    Ok(json!({ "figures": figures, "opentelemetry_cpp": peer::cpp_version(), "dropped": work::dropped() }))
}

/// Nanoseconds per operation of one block.
pub fn block(work: &Work) -> f64 {
    if let Some(detail) = work.detail {
        otel_shim::set_detail(detail);
    }
    (work.run)(WARM_UP);
    let start = Instant::now();
    (work.run)(work.block);
    let elapsed = start.elapsed();
    (work.flush)();
    elapsed.as_nanos() as f64 / work.block as f64
}
