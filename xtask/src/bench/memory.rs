//! Memory with everything on and nobody to take it: resident set against the same program with telemetry off.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    decoding::{Behind, Programs},
    macros::number,
    programs::{self, Dialogue},
    row::Row,
    tiny,
};
use crate::{context::Context, progress::Unit};

/// Goal for what telemetry holds, in MiB.
const HELD: f64 = 16.0;
/// Goal for what it gains in the second half of the time, in MiB: nothing but what the allocator moves about.
const GROWTH: f64 = 1.0;

/// Command line of the subject.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub behind: Behind,
    /// How long it decodes
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(2..))]
    pub seconds: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { behind: Behind::default(), seconds: 30 }
    }
}

/// Measures.
///
/// # Errors
/// The programs cannot be built or run.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    let programs = Programs::build(context, args.behind)?;
    let model = tiny::model(context)?;
    let endpoint = programs::nobody()?;
    let on = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("LLAMA_OTEL_DETAIL", "op"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
    ];
    let phase = context.ui.phase("memory, nobody listening", Unit::Steps);
    let time = Duration::from_secs(args.seconds);
    let [off, _] = resident(&programs.patched, &model, &[], time / 4)?;
    let [half, end] = resident(&programs.patched, &model, &on, time)?;
    phase.finish(format_args!("{} s", args.seconds));
    Ok(vec![
        Row::new("memory.off", off, "MiBy"),
        Row::new("memory.on", end, "MiBy"),
        Row::new("memory.held", end - off, "MiBy").at_most(HELD),
        Row::new("memory.growth", end - half, "MiBy").at_most(GROWTH),
    ])
}

/// MiB at half of the time and at its end.
fn resident(program: &Path, model: &Path, variables: &[(&str, &str)], time: Duration) -> Result<[f64; 2]> {
    let model = model.to_str().context("the model's path is not UTF-8")?;
    let mut process = Dialogue::start(program, &[model], variables)?;
    let start = Instant::now();
    let mut until = |end: Duration| {
        while start.elapsed() < end {
            process.ask("run 400")?;
        }
        Ok::<_, anyhow::Error>(number(&process.ask_json("stats")?, "/resident_kib")? / 1024.0)
    };
    Ok([until(time / 2)?, until(time)?])
}
