//! The hardest case: a generated model of one layer that decodes 40,000 tokens a second, every one of them a span.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use tiny_gguf::TinyModel;

use super::{
    decoding::{Behind, Pair, Programs, Way, interleaved},
    programs::Sink,
    row::{Row, median},
    statistics::quantile,
};
use crate::{context::Context, progress::Unit};

/// Goal: this much of the time of a decode without telemetry.
const RATIO: f64 = 1.02;
/// Tokens of a block; the context holds a few more.
const BLOCK: u64 = 250;
/// Times that both processes are started anew: where memory lies in one process moves its figures by a percent.
const SESSIONS: usize = 5;

/// Command line of the subject.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub behind: Behind,
    /// Blocks of each way of decoding in each of the five sessions
    #[arg(long, default_value_t = 300, value_name = "N")]
    pub rounds: usize,
    /// How long it must decode without losing a span
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub seconds: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { behind: Behind::default(), rounds: 300, seconds: 60 }
    }
}

/// The model, written if it is not there.
///
/// # Errors
/// It cannot be written.
pub fn model(context: &Context) -> Result<PathBuf> {
    let dir = context.target_dir().join("llama-otel/bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let path = dir.join("one-layer.gguf");
    TinyModel::smallest().write(&path)?;
    Ok(path)
}

/// Measures.
///
/// # Errors
/// The programs cannot be built or run.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    let programs = Programs::build(context, args.behind)?;
    let model = model(context)?;
    let sink = Sink::start(&programs.sink)?;
    let ways = [Way::Pristine, Way::Off, Way::Decode];
    let phase = context.ui.phase("one-layer model, interleaved", Unit::Steps);
    // by way: wall and CPU time at p10, one a session
    let mut wall = vec![Vec::new(); ways.len()];
    let mut cpu = vec![Vec::new(); ways.len()];
    for session in 0..SESSIONS {
        phase.set(session as u64, SESSIONS as u64);
        let mut pair = Pair::start(&programs, &model, false, &sink.endpoint, BLOCK)?;
        for (way, blocks) in interleaved(&mut pair, &ways, args.rounds, BLOCK)?.into_iter().enumerate() {
            wall[way].push(quantile(&blocks.iter().map(|block| block.wall).collect::<Vec<_>>(), 0.1));
            cpu[way].push(quantile(&blocks.iter().map(|block| block.cpu).collect::<Vec<_>>(), 0.1));
        }
    }
    phase.finish(format_args!("{SESSIONS} sessions of {} blocks", args.rounds));
    let row = |name: &str, figures: &[Vec<f64>], way: usize| {
        Row::new(format!("one_layer.{name}"), median(&figures[way]), "ns").against(median(&figures[0]))
    };
    let mut rows = vec![
        row("decode.off.p10", &wall, 1),
        row("decode.p10", &wall, 2).at_most(RATIO),
        row("decode.cpu.p10", &cpu, 2),
    ];
    if args.seconds > 0 {
        rows.extend(sustained(context, &programs, &model, args.seconds)?);
    }
    Ok(rows)
}

/// As many tokens as it can, for that long, with every decode a span.
fn sustained(context: &Context, programs: &Programs, model: &std::path::Path, seconds: u64) -> Result<[Row; 3]> {
    let phase = context.ui.phase("one-layer model, without a pause", Unit::Steps);
    let mut sink = Sink::start(&programs.sink)?;
    let mut pair = Pair::start(programs, model, false, &sink.endpoint, BLOCK)?;
    let (start, mut tokens) = (Instant::now(), 0);
    while start.elapsed().as_secs() < seconds {
        phase.set(start.elapsed().as_secs(), seconds);
        pair.run(Way::Decode, BLOCK)?;
        tokens += BLOCK + 1;
    }
    let rate = tokens as f64 / start.elapsed().as_secs_f64();
    let dropped = pair.finish()?;
    phase.finish(format_args!("{tokens} tokens, {} spans arrived", sink.spans()?));
    Ok([
        Row::new("one_layer.sustained.rate", rate, "1/s"),
        Row::new("one_layer.sustained.spans", sink.spans()? as f64 / tokens as f64, "1"),
        Row::new("one_layer.sustained.dropped", dropped, "1").at_most(0.0),
    ])
}
