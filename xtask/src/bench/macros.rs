//! The macros by themselves: switched off, recording, on several threads, and beside the SDKs that do the same work.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    programs::{self, Sink},
    row::Row,
};
use crate::{context::Context, progress::Unit};

/// Goals, in nanoseconds.
pub const OFF_NS: f64 = 1.0;
pub const NOT_SAMPLED_NS: f64 = 20.0;
pub const SPAN_NS: f64 = 100.0;
pub const METRIC_NS: f64 = 15.0;
/// Goals, as shares of what the same work costs elsewhere: 2.5 and 5 times faster.
const OF_SDK: f64 = 1.0 / 2.5;
const OF_CPP: f64 = 1.0 / 5.0;
/// Goal for a thread's cost beside others, as a multiple of its cost alone.
const TOGETHER: f64 = 1.3;

/// Command line of the subject.
#[derive(clap::Args)]
pub struct Args {
    /// Blocks of each kind of work
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u64).range(10..))]
    rounds: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { rounds: 1000 }
    }
}

/// Measures.
///
/// # Errors
/// The programs cannot be built or run.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    let hot = programs::hot(context, true)?;
    let sink = programs::sink(context)?;
    let mut rows = switched_off(&hot)?;
    rows.extend(quiet(&hot, &sink)?);

    let phase = context.ui.phase("macros and SDKs, interleaved", Unit::Steps);
    let compared = with_sink(&hot, &sink, &["compare", &args.rounds.to_string()])?;
    phase.finish(format_args!("{} rounds", args.rounds));
    no_loss(&compared)?;
    rows.extend(costs(&compared)?);

    rows.extend(threads(context, &hot, &sink, args.rounds / 2)?);
    Ok(rows)
}

/// A span on each of several threads, in either program that measures the macros.
///
/// # Errors
/// The program cannot be run, or lost records.
pub fn threads(context: &Context, hot: &Path, sink: &Path, rounds: u64) -> Result<[Row; 3]> {
    let phase = context.ui.phase("one, two and eight threads", Unit::Steps);
    let threads = with_sink(hot, sink, &["threads", &rounds.to_string()])?;
    phase.finish(format_args!("{rounds} rounds"));
    no_loss(&threads)?;
    let cost = |n: u8| number(&threads, &format!("/figures/{n}"));
    let row = |n: u8| Ok::<_, anyhow::Error>(Row::new(format!("threads.{n}.span"), cost(n)?, "ns"));
    let alone = cost(1)?;
    Ok([row(1)?, row(2)?.against(alone).at_most(TOGETHER), row(8)?.against(alone).at_most(TOGETHER)])
}

/// What must not happen while telemetry is off, in either program that measures the macros.
///
/// # Errors
/// The program cannot be run, or telemetry is on.
pub fn switched_off(hot: &Path) -> Result<Vec<Row>> {
    let off = programs::measure(hot, &["off"], &[])?;
    if off["active"] != Value::Bool(false) {
        bail!("telemetry started without a variable that asks for it");
    }
    ["allocations", "threads", "sockets"]
        .iter()
        .map(|what| Ok(Row::new(format!("off.{what}"), number(&off, &format!("/{what}"))?, "1").at_most(0.0)))
        .collect()
}

fn quiet(hot: &Path, sink: &Path) -> Result<Vec<Row>> {
    let quiet = with_sink(hot, sink, &["quiet"])?;
    if quiet["caught"] != Value::Bool(true) {
        bail!("a thread that makes a system call was not found out");
    }
    let mut rows = Vec::new();
    for work in ["span_with_attributes", "metric_with_attribute"] {
        let allocations = number(&quiet, &format!("/{work}/allocations"))?;
        rows.push(Row::new(format!("{work}.allocations"), allocations, "1").at_most(0.0));
        let calls = quiet.pointer(&format!("/{work}/system_calls")).and_then(Value::as_bool);
        let calls = f64::from(u8::from(calls.context("the program does not say whether it made system calls")?));
        rows.push(Row::new(format!("{work}.system_calls"), calls, "1").at_most(0.0));
    }
    Ok(rows)
}

fn costs(compared: &Value) -> Result<Vec<Row>> {
    let cost = |work: &str| number(compared, &format!("/figures/{work}/median"));
    let row = |name: &str, work: &str| Ok::<_, anyhow::Error>(Row::new(name, cost(work)?, "ns"));
    let mut rows = vec![
        row("loop", "empty")?,
        row("clock.read", "clock")?,
        row("off.span", "off.span")?.at_most(OFF_NS),
        row("off.attributes", "off.attributes")?.at_most(OFF_NS),
        row("off.metric", "off.metric")?.at_most(OFF_NS),
        row("span_below_detail", "span_below_detail")?,
        row("span_not_sampled", "span_not_sampled")?.at_most(NOT_SAMPLED_NS),
        row("span", "span")?.at_most(SPAN_NS),
        row("span_with_attributes", "span_with_attributes")?.at_most(SPAN_NS),
        row("metric", "metric")?.at_most(METRIC_NS),
        row("metric_with_attribute", "metric_with_attribute")?.at_most(METRIC_NS),
    ];
    let peers = [("opentelemetry_sdk", "sdk", OF_SDK), ("opentelemetry-cpp", "cpp", OF_CPP)];
    for (name, peer, goal) in peers {
        for work in ["span_with_attributes", "metric_with_attribute"] {
            // opentelemetry-cpp may not be installed.
            let Ok(theirs) = cost(&format!("{peer}.{work}")) else { continue };
            rows.push(Row::new(format!("{work}.{name}"), cost(work)?, "ns").against(theirs).at_most(goal));
        }
    }
    Ok(rows)
}

/// Runs with a receiver that takes everything.
///
/// # Errors
/// One of the two cannot be run.
pub fn with_sink(hot: &Path, sink: &Path, args: &[&str]) -> Result<Value> {
    let sink = Sink::start(sink)?;
    programs::measure(hot, args, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.endpoint)])
}

/// A record that is dropped costs less than one that is kept.
fn no_loss(result: &Value) -> Result<()> {
    match number(result, "/dropped")? {
        0.0 => Ok(()),
        n => {
            bail!("{n} records were dropped, so the figures would be too good\nhelp: run it again on a quieter machine")
        }
    }
}

/// A number in a program's answer.
///
/// # Errors
/// It is not there.
pub fn number(answer: &Value, pointer: &str) -> Result<f64> {
    answer.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("the program gives no figure {pointer}"))
}

/// Everything that a program says it has lost, of each signal and for each reason.
pub fn dropped(answer: &Value) -> f64 {
    answer["dropped"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum::<u64>() as f64
}
