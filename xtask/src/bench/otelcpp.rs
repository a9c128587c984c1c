//! The macros with opentelemetry-cpp registered behind them, in turns with the same macros and the Rust backend: a block in
//! one process, a block in the other.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::{
    export,
    macros::{self, METRIC_NS, NOT_SAMPLED_NS, OFF_NS, SPAN_NS},
    programs::{self, Dialogue, Sink},
    row::{Row, median},
};
use crate::{context::Context, progress::Unit, test, tools};

/// What is compared, and the most that one may take in nanoseconds: the goals of the Rust backend.
const WORKS: [(&str, f64); 8] = [
    ("off.span", OFF_NS),
    ("off.attributes", OFF_NS),
    ("off.metric", OFF_NS),
    ("span_not_sampled", NOT_SAMPLED_NS),
    ("span", SPAN_NS),
    ("span_with_attributes", SPAN_NS),
    ("metric", METRIC_NS),
    ("metric_with_attribute", METRIC_NS),
];

/// Command line of the subject.
#[derive(clap::Args)]
pub struct Args {
    /// Blocks of each kind of work with each backend
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u64).range(10..))]
    rounds: u64,
    /// How long spans are recorded at a steady rate with each backend
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { rounds: 500, seconds: 10 }
    }
}

/// Measures. No rows, after a line that says why, where opentelemetry-cpp is not installed.
///
/// # Errors
/// The programs cannot be built or run.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    let cpp = match test::programs::build_hot(context, &tools::ensure(context)?)? {
        Ok(program) => program,
        Err(why) => {
            eprintln!("skipped: {why}");
            return Ok(Vec::new());
        }
    };
    let (rust, sink) = (programs::hot(context, false)?, programs::sink(context)?);
    let mut rows = Vec::new();
    rows.extend(macros::switched_off(&cpp)?.into_iter().map(Row::of_otelcpp));
    rows.extend(macros_in_turns(context, args.rounds, &cpp, &rust, &sink)?);
    rows.extend(macros::threads(context, &cpp, &sink, args.rounds)?.map(Row::of_otelcpp));
    rows.extend(export_one_after_the_other(context, args.seconds, &cpp, &rust, &sink)?);
    Ok(rows)
}

fn macros_in_turns(context: &Context, rounds: u64, cpp: &Path, rust: &Path, sink: &Path) -> Result<Vec<Row>> {
    let sinks = [Sink::start(sink)?, Sink::start(sink)?];
    let mut both = Vec::new();
    for (program, sink) in [cpp, rust].into_iter().zip(&sinks) {
        let mut process =
            Dialogue::start(program, &["answer"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint.as_str())])?;
        let greeting = process.line()?;
        if greeting != "ready" {
            bail!("{} began with `{greeting}`", program.display());
        }
        both.push(process);
    }
    let [cpp, rust] = both.as_mut_slice() else { bail!("two programs were started") };
    let phase = context.ui.phase("opentelemetry-cpp and Rust, interleaved", Unit::Steps);
    // by work: of opentelemetry-cpp, of Rust
    let mut samples = vec![(Vec::new(), Vec::new()); WORKS.len()];
    for round in 0..rounds {
        phase.set(round, rounds);
        for ((name, _), (of_cpp, of_rust)) in WORKS.iter().zip(&mut samples) {
            of_cpp.push(ask(cpp, &format!("block {name}"))?);
            of_rust.push(ask(rust, &format!("block {name}"))?);
        }
    }
    phase.finish(format_args!("{rounds} rounds"));
    let mut rows = Vec::new();
    for name in ["span_with_attributes", "metric_with_attribute"] {
        let n = ask(cpp, &format!("allocations {name}"))?;
        rows.push(Row::new(format!("otelcpp.{name}.allocations"), n, "1").at_most(0.0));
    }
    for ((name, goal), (of_cpp, of_rust)) in WORKS.iter().zip(&samples) {
        let (value, baseline) = (median(of_cpp), median(of_rust));
        rows.push(Row::new(format!("otelcpp.{name}"), value, "ns").at_most(*goal));
        rows.push(Row::new(format!("otelcpp.{name}.rust"), value, "ns").against(baseline));
    }
    Ok(rows)
}

fn ask(process: &mut Dialogue, order: &str) -> Result<f64> {
    let answer = process.ask(order)?;
    answer.trim().parse().with_context(|| format!("not a number: {answer}"))
}

/// What telemetry's own threads take. A steady rate cannot take turns.
fn export_one_after_the_other(
    context: &Context,
    seconds: u64,
    cpp: &Path,
    rust: &Path,
    sink: &Path,
) -> Result<Vec<Row>> {
    let of_rust = export::sustained(context, rust, sink, seconds)?;
    let of_cpp = export::sustained(context, cpp, sink, seconds)?;
    let mut rows = Vec::new();
    for row in of_cpp {
        let against = of_rust.iter().find(|other| other.name == row.name).map(|other| other.value);
        let row = row.of_otelcpp();
        let compared = against
            .filter(|baseline| *baseline > 0.0)
            .map(|baseline| Row::new(format!("{}.rust", row.name), row.value, &row.unit).against(baseline));
        rows.push(row);
        rows.extend(compared);
    }
    rows.push(export::idle(cpp, sink)?.of_otelcpp());
    Ok(rows)
}
