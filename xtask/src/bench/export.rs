//! Telemetry's own threads: what they take for a span on its way to a receiver, how many spans a second they sustain,
//! and what they do when there is nothing to do.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use super::{
    macros::{dropped, number, with_sink},
    programs::{self, Sink},
    row::Row,
};
use crate::{context::Context, progress::Unit};

/// Goal for draining and exporting a span, in microseconds of CPU time.
const CPU_US: f64 = 2.0;
/// Goal for the time between two spans that arrive, in microseconds: 100,000 a second.
const INTERVAL_US: f64 = 10.0;
/// Spans a second that are recorded, a little more than what must arrive.
const RATE: u64 = 105_000;
/// Goal for the share of a core that the threads take without work: they sleep.
const IDLE: f64 = 0.01;

/// Command line of the subject.
#[derive(clap::Args)]
pub struct Args {
    /// How long spans are recorded
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { seconds: 20 }
    }
}

/// Measures.
///
/// # Errors
/// The programs cannot be built or run, or the two do not count alike.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    let (hot, sink) = (programs::hot(context, false)?, programs::sink(context)?);
    let mut rows = sustained(context, &hot, &sink, args.seconds)?;
    rows.push(idle(&hot, &sink)?);
    Ok(rows)
}

/// The share of a core that the threads of a program that measures the macros take while nothing is recorded.
///
/// # Errors
/// The program cannot be run.
pub fn idle(hot: &Path, sink: &Path) -> Result<Row> {
    let idle = with_sink(hot, sink, &["idle", "5"])?;
    let share = number(&idle, "/cpu_ns")? * 1e-9 / number(&idle, "/seconds")?;
    Ok(Row::new("export.idle", share, "1").at_most(IDLE))
}

/// Spans at a steady rate by a program that measures the macros, and what became of them.
///
/// # Errors
/// The program cannot be run, or the two do not count alike.
pub fn sustained(context: &Context, hot: &Path, sink: &Path, seconds: u64) -> Result<Vec<Row>> {
    let phase = context.ui.phase(format!("{RATE} spans a second"), Unit::Steps);
    let mut sink = Sink::start(sink)?;
    let endpoint = sink.endpoint.clone();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let result = programs::measure(hot, &["sustain", &RATE.to_string(), &seconds.to_string()], &variables)?;
    phase.finish(format_args!("{seconds} s"));

    let recorded = number(&result, "/recorded")?;
    let dropped = dropped(&result);
    // One more was recorded before the time ran.
    let arrived = sink.spans()? as f64 - 1.0;
    if arrived + dropped != recorded {
        bail!("{recorded} spans were recorded, {arrived} arrived, and {dropped} were counted as dropped");
    }
    if dropped > 0.0 {
        eprintln!("dropped: {}", result["dropped"]);
    }
    let interval = number(&result, "/seconds")? / arrived.max(1.0);
    let nice = result["threads"].as_array().into_iter().flatten().filter_map(|thread| thread["nice"].as_i64()).min();
    let mut rows = vec![
        Row::new("export.cpu", number(&result, "/cpu_ns")? / arrived.max(1.0) * 1e-3, "us").at_most(CPU_US),
        Row::new("export.interval", interval * 1e6, "us").at_most(INTERVAL_US),
        Row::new("export.dropped", dropped, "1").at_most(0.0),
    ];
    rows.extend(nice.map(|nice| Row::new("export.nice", nice as f64, "1")));
    if result["delivered"] != Value::Bool(true) {
        bail!("the last spans were not delivered within ten seconds");
    }
    Ok(rows)
}
