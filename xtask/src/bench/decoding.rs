//! Decoding with telemetry against decoding without: a process with the patched llama.cpp and one with upstream's own,
//! which take turns block by block.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use llama_build::Telemetry;

use super::{
    macros::{dropped, number},
    programs::{self, Dialogue},
};
use crate::{
    build::{self, Request},
    context::Context,
    test::programs::source_folder,
    tools,
};

/// What stands behind the macros of the patched llama.cpp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Library {
    /// The Rust backend.
    #[default]
    Rust,
    /// opentelemetry-cpp.
    Cpp,
}

/// What every subject that decodes is asked.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Behind {
    /// What stands behind the macros
    #[arg(long, value_enum, default_value_t)]
    pub telemetry: Library,
}

/// The programs to compare.
pub struct Programs {
    pub patched: PathBuf,
    pub pristine: PathBuf,
    pub sink: PathBuf,
}

impl Programs {
    /// Builds them, and llama.cpp where the cache does not have it.
    ///
    /// # Errors
    /// A build fails.
    pub fn build(context: &Context, behind: Behind) -> Result<Self> {
        let tools = tools::ensure(context)?;
        let telemetry = match behind.telemetry {
            Library::Rust => Telemetry::Rust,
            Library::Cpp => Telemetry::Cpp,
        };
        let decode = |telemetry| {
            let built = build::ensure(context, &tools, &aligned(telemetry))?;
            programs::decode(context, &tools, &built, telemetry)
        };
        Ok(Self { sink: programs::sink(context)?, patched: decode(Some(telemetry))?, pristine: decode(None)? })
    }
}

/// Every function at the start of a cache line, in both builds: else the linker decides where the inner loops of the matrix
/// products lie in theirs, which moves a token's time by up to 3 % with the same instructions.
fn aligned(telemetry: Option<Telemetry>) -> Request {
    let flags = ["CMAKE_C_FLAGS", "CMAKE_CXX_FLAGS"].map(|name| (name.to_owned(), "-falign-functions=64".to_owned()));
    let mut defines = Vec::from(flags);
    if telemetry == Some(Telemetry::Cpp) {
        defines.extend(source_folder());
    }
    Request { defines, ..Request::cpu(telemetry) }
}

/// The four ways to decode that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Upstream's own tree.
    Pristine,
    /// The patched tree, telemetry off at run time.
    Off,
    /// The patched tree at the detail `request`.
    Request,
    /// The patched tree at the detail `decode`.
    Decode,
}

/// Time of one block, per token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Block {
    /// Nanoseconds on the clock.
    pub wall: f64,
    /// Nanoseconds of CPU time of the decoding thread.
    pub cpu: f64,
}

/// A pair of processes with the same model.
pub struct Pair {
    patched: Dialogue,
    pristine: Dialogue,
}

impl Pair {
    /// Starts both and lets each decode once, unmeasured.
    ///
    /// # Errors
    /// A program fails, or telemetry does not start.
    pub fn start(programs: &Programs, model: &Path, greedy: bool, endpoint: &str, warm_up: u64) -> Result<Self> {
        let model = model.to_str().context("the model's path is not UTF-8")?;
        let args: &[&str] = if greedy { &[model, "greedy"] } else { &[model] };
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
        let mut pair = Self {
            patched: Dialogue::start(&programs.patched, args, &variables)?,
            pristine: Dialogue::start(&programs.pristine, args, &[])?,
        };
        for way in [Way::Pristine, Way::Decode] {
            pair.run(way, warm_up)?;
        }
        Ok(pair)
    }

    /// One block of `n` tokens.
    ///
    /// # Errors
    /// The program fails, or telemetry is not on where it should be.
    pub fn run(&mut self, way: Way, n: u64) -> Result<Block> {
        let detail = match way {
            Way::Pristine => None,
            Way::Off => Some("off"),
            Way::Request => Some("request"),
            Way::Decode => Some("decode"),
        };
        let process = if way == Way::Pristine { &mut self.pristine } else { &mut self.patched };
        block(process, detail, "run", n)
    }

    /// Delivers what the patched program recorded, and returns how many records it lost so far.
    ///
    /// # Errors
    /// The program fails, or the receiver did not take everything.
    pub fn finish(&mut self) -> Result<f64> {
        if self.patched.ask_json("flush")?["delivered"] != serde_json::Value::Bool(true) {
            bail!("the receiver did not take everything within ten seconds");
        }
        let stats = self.patched.ask_json("stats")?;
        if stats["dropped"].as_object().is_some_and(|dropped| !dropped.is_empty()) {
            eprintln!("dropped: {}", stats["dropped"]);
        }
        Ok(dropped(&stats))
    }
}

/// One block of `n` tokens, by this command of `bench-decode`, at a level of detail; `None`: of a program without telemetry.
///
/// # Errors
/// The program fails, or telemetry is not on where it should be.
pub fn block(process: &mut Dialogue, detail: Option<&str>, command: &str, n: u64) -> Result<Block> {
    if let Some(detail) = detail {
        let answer = process.ask_json(&format!("detail {detail}"))?;
        if answer["active"] != serde_json::Value::Bool(true) {
            bail!("telemetry did not start in the patched program");
        }
    }
    let answer = process.ask_json(&format!("{command} {n}"))?;
    Ok(Block { wall: number(&answer, "/wall_ns")? / n as f64, cpu: number(&answer, "/cpu_ns")? / n as f64 })
}

/// Blocks of all ways in turn, each time beginning with another one.
///
/// # Errors
/// Those of [`Pair::run`].
pub fn interleaved(pair: &mut Pair, ways: &[Way], rounds: usize, n: u64) -> Result<Vec<Vec<Block>>> {
    in_turns(ways.len(), rounds, |_, which| pair.run(ways[which], n))
}

/// What `measure`, which is told the round and the way, finds in each round by each of so many ways; by way.
///
/// # Errors
/// The first of `measure`'s.
pub fn in_turns<T: Clone>(
    n_ways: usize,
    rounds: usize,
    mut measure: impl FnMut(usize, usize) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut all = vec![Vec::with_capacity(rounds); n_ways];
    for round in 0..rounds {
        for turn in 0..n_ways {
            let which = (round + turn) % n_ways;
            all[which].push(measure(round, which)?);
        }
    }
    Ok(all)
}
