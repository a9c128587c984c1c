//! A real model on one thread: tokens with telemetry against tokens of the unpatched build, with the interval in which
//! the ratio lies. Each run is a new pair of processes that take turns every few tokens.
//!
//! The goals are finer than what a shared machine resolves in a token of tens of milliseconds. So the same comparison
//! is made with the one-layer model too, where what telemetry adds is percents, and set against the token of this one.

use anyhow::Result;

use super::{
    decoding::{Behind, Block, Pair, Programs, Way, interleaved},
    programs::Sink,
    row::{Row, median},
    statistics::{quantile, ratio_rows},
    tiny,
};
use crate::{
    context::Context,
    model::{self, Name},
    progress::Unit,
};

/// Goals: this much of the time of a token without telemetry.
const REQUEST: f64 = 1.001;
const DECODE: f64 = 1.003;
/// Tokens of a block, and blocks of each way in a run.
const BLOCK: u64 = 4;
const ROUNDS: usize = 5;

/// Command line of the subject.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub behind: Behind,
    /// Interleaved runs
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub runs: usize,
}

impl Default for Args {
    fn default() -> Self {
        Self { behind: Behind::default(), runs: 20 }
    }
}

/// Measures.
///
/// # Errors
/// The programs cannot be built or run; the model cannot be had.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    let programs = Programs::build(context, args.behind)?;
    let model = model::ensure(context, Name::Gemma3_270m)?;
    let sink = Sink::start(&programs.sink)?;
    let ways = [Way::Pristine, Way::Off, Way::Request, Way::Decode];
    let phase = context.ui.phase("gemma3-270m, interleaved", Unit::Steps);
    // by way: CPU and wall time per token, one a run
    let mut cpu = vec![Vec::new(); ways.len()];
    let mut wall = vec![Vec::new(); ways.len()];
    for run in 0..args.runs {
        phase.set(run as u64, args.runs as u64);
        let mut pair = Pair::start(&programs, &model, true, &sink.endpoint, 2)?;
        for (way, blocks) in interleaved(&mut pair, &ways, ROUNDS, BLOCK)?.into_iter().enumerate() {
            cpu[way].push(median(&blocks.iter().map(|block| block.cpu).collect::<Vec<_>>()));
            wall[way].push(median(&blocks.iter().map(|block| block.wall).collect::<Vec<_>>()));
        }
    }
    phase.finish(format_args!("{} runs", args.runs));
    let token = median(&cpu[0]);
    let mut rows = vec![
        Row::new("gemma3_270m.token.wall", median(&wall[0]) * 1e-6, "ms"),
        Row::new("gemma3_270m.token.cpu", token * 1e-6, "ms"),
    ];
    for (name, way, goal) in [("off", 1, None), ("request", 2, Some(REQUEST)), ("decode", 3, Some(DECODE))] {
        for (clock, times) in [("", &cpu), (".wall", &wall)] {
            let ratios: Vec<f64> = times[way].iter().zip(&times[0]).map(|(with, without)| with / without).collect();
            // CPU time is judged: other programs of the machine are in the wall time of both.
            let goal = goal.filter(|_| clock.is_empty());
            rows.extend(ratio_rows(&format!("gemma3_270m.{name}{clock}"), &ratios, goal));
        }
    }
    for (name, added, goal) in added(context, &programs, &sink)? {
        rows.push(Row::new(format!("gemma3_270m.{name}.added"), token + added, "ns").against(token).at_most(goal));
    }
    Ok(rows)
}

/// CPU nanoseconds that telemetry adds to a token, by level of detail, found with the one-layer model.
fn added(context: &Context, programs: &Programs, sink: &Sink) -> Result<[(&'static str, f64, f64); 2]> {
    const TOKENS: u64 = 250;
    const ROUNDS: usize = 150;
    let model = tiny::model(context)?;
    let phase = context.ui.phase("one-layer model, for what a token costs more", Unit::Steps);
    let mut pair = Pair::start(programs, &model, true, &sink.endpoint, TOKENS)?;
    let blocks = interleaved(&mut pair, &[Way::Pristine, Way::Request, Way::Decode], ROUNDS, TOKENS)?;
    phase.finish(format_args!("{ROUNDS} blocks of {TOKENS} tokens"));
    let p10 = |blocks: &[Block]| quantile(&blocks.iter().map(|block| block.cpu).collect::<Vec<_>>(), 0.1);
    let without = p10(&blocks[0]);
    Ok([("request", p10(&blocks[1]) - without, REQUEST), ("decode", p10(&blocks[2]) - without, DECODE)])
}
