//! Spans at a steady rate for some time: what the drain and export threads take for each, and whether all arrive. And
//! the same threads with nothing to do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{tasks, work};

/// Spans are made in one go per tick.
const TICKS_PER_SECOND: u64 = 1000;
const TICK: Duration = Duration::from_millis(1000 / TICKS_PER_SECOND);

/// # Errors
/// Telemetry is not on.
pub fn run(rate: u64, seconds: u64) -> Result<Value, String> {
    work::start()?;
    otel_shim::set_detail(otel_shim::Detail::Decode);
    let span = work::all().into_iter().find(|work| work.name == "span_with_attributes").ok_or("no such work")?.run;
    // Connections are opened, certificates read: that is not the cost of a span.
    span(1);
    work::flush();

    let before = tasks::telemetry_cpu_ns();
    let start = Instant::now();
    let total = rate * seconds;
    // After a pause that was not asked for, the rest is made up for at twice the rate: a burst is another measurement.
    let most = 2 * rate / TICKS_PER_SECOND + 1;
    let mut recorded = 0;
    while recorded < total {
        let tick = Instant::now();
        let wanted = (start.elapsed().as_secs_f64() * rate as f64) as u64 + 1;
        let n = wanted.saturating_sub(recorded).min(total - recorded).min(most);
        span(n);
        recorded += n;
        std::thread::sleep(TICK.saturating_sub(tick.elapsed()));
    }
    let elapsed = start.elapsed().as_secs_f64();
    let delivered = otel_shim::flush(Duration::from_secs(10));
    Ok(json!({
        "recorded": recorded,
        "seconds": elapsed,
        "cpu_ns": tasks::telemetry_cpu_ns() - before,
        "delivered": delivered,
        "dropped": otel_shim::dropped().iter().map(|(s, r, n)| (format!("{s}.{r}"), json!(n))).collect::<serde_json::Map<_, _>>(),
        "threads": tasks::telemetry_threads(),
    }))
}

/// CPU time of telemetry's threads while nothing is recorded.
///
/// # Errors
/// Telemetry is not on.
pub fn idle(seconds: u64) -> Result<Value, String> {
    work::start()?;
    work::by_name("span_with_attributes", 1);
    work::flush();
    std::thread::sleep(Duration::from_secs(1));
    let before = tasks::telemetry_cpu_ns();
    std::thread::sleep(Duration::from_secs(seconds));
    let cpu_ns = tasks::telemetry_cpu_ns() - before;
    Ok(json!({ "seconds": seconds, "cpu_ns": cpu_ns, "threads": tasks::telemetry_threads() }))
}
