//! The cost of a span on each of one, two and eight threads that record at the same time, in CPU time of the thread:
//! where there are fewer cores than threads, wall time would say how they are shared.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::{cpu_time::thread_cpu_ns, work};

const COUNTS: [usize; 3] = [1, 2, 8];
const BLOCK: u64 = 600;

#[derive(Default)]
struct Start {
    /// Threads of this round that stand ready.
    ready: AtomicUsize,
    go: AtomicBool,
    /// How many threads this round has; 0 ends.
    n: AtomicUsize,
}

/// Median CPU nanoseconds per span by number of threads; the rounds of each number alternate.
///
/// # Errors
/// Telemetry is not on.
pub fn run(rounds: u64) -> Result<Value, String> {
    work::start()?;
    otel_shim::set_detail(otel_shim::Detail::Decode);
    let span = work::all().into_iter().find(|work| work.name == "span_with_attributes").ok_or("no such work")?.run;
    let most = COUNTS.into_iter().max().unwrap_or(1);
    let start = Arc::new(Start::default());
    let (begin, end) = (Arc::new(Barrier::new(most + 1)), Arc::new(Barrier::new(most + 1)));
    let samples: Arc<Mutex<Vec<f64>>> = Arc::default();
    let workers: Vec<_> = (0..most)
        .map(|index| {
            let (start, begin, end, samples) = (start.clone(), begin.clone(), end.clone(), samples.clone());
            std::thread::spawn(move || {
                loop {
                    begin.wait();
                    let n = start.n.load(Ordering::Acquire);
                    if n == 0 {
                        return;
                    }
                    if index < n {
                        span(40);
                        start.ready.fetch_add(1, Ordering::AcqRel);
                        while !start.go.load(Ordering::Acquire) {
                            // With a core for each they start at once; without, the others must come to this point too.
                            std::thread::yield_now();
                        }
                        let before = thread_cpu_ns();
                        span(BLOCK);
                        let ns = (thread_cpu_ns() - before) as f64 / BLOCK as f64;
                        samples.lock().unwrap_or_else(PoisonError::into_inner).push(ns);
                    }
                    end.wait();
                }
            })
        })
        .collect();
    let mut by_count = COUNTS.map(|n| (n, Vec::new()));
    for _ in 0..rounds {
        for (n, all) in &mut by_count {
            start.ready.store(0, Ordering::Release);
            start.go.store(false, Ordering::Release);
            start.n.store(*n, Ordering::Release);
            begin.wait();
            while start.ready.load(Ordering::Acquire) < *n {
                std::thread::yield_now();
            }
            start.go.store(true, Ordering::Release);
            end.wait();
            all.append(&mut samples.lock().unwrap_or_else(PoisonError::into_inner));
            work::flush();
        }
    }
    start.n.store(0, Ordering::Release);
    begin.wait();
    for worker in workers {
        worker.join().map_err(|_| "a thread panicked")?;
    }
    let figures: serde_json::Map<_, _> = by_count
        .into_iter()
        .map(|(n, mut all)| {
            all.sort_by(f64::total_cmp);
            (n.to_string(), json!(all.get(all.len() / 2)))
        })
        .collect();
    Ok(json!({ "figures": figures, "dropped": work::dropped() }))
}
