//! `cargo xtask bench [WHAT]`: measures, compares with the goals, and prints one row a figure. One file a subject.

use std::process::ExitCode;

use anyhow::Result;

use self::decoding::{Behind, Library};
use crate::{Format, context::Context, test::programs::no_otelcpp};

mod cores;
mod decoding;
mod export;
mod gemma;
pub mod instructions;
mod isolation;
mod macros;
mod memory;
mod ops;
mod otelcpp;
mod page;
mod patch;
mod programs;
pub mod row;
mod statistics;
mod tiny;

/// Command line of the verb.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes:
  0  measured, every goal met
  1  something could not be measured
  2  wrong usage
  3  measured, and a goal is not met")]
pub struct Args {
    /// What to measure [default: all but patch and ops]
    #[command(subcommand)]
    what: Option<What>,
    /// How to print the figures: a table, or [{name, value, unit, baseline, ratio, goal, met}]
    #[arg(long, value_enum, default_value = "text", global = true)]
    format: Format,
    /// Also put the figures into docs/performance.md, those of ops into docs/op-times.md
    #[arg(long, global = true)]
    write: bool,
}

/// Exit code where a goal is not met.
const MISSED: u8 = 3;

#[derive(clap::Subcommand)]
enum What {
    /// Time and memory of planning, applying and verifying: one tree, and the whole sweep
    Patch(patch::Args),
    /// The macros off, recording, on several threads, and beside the SDKs that do the same work
    Macros(macros::Args),
    /// The same with opentelemetry-cpp behind them, in turns with the Rust backend
    Otelcpp(otelcpp::Args),
    /// What telemetry's own threads take for a span, and how many a second they sustain
    Export(export::Args),
    /// A one-layer model at 40,000 decodes a second, against upstream's own build
    OneLayer(tiny::Args),
    /// gemma3-270m on one thread, against upstream's own build
    Gemma(gemma::Args),
    /// Memory with everything on and no receiver
    Memory(memory::Args),
    /// The times of single operations, on each device that can be had here, against detail `request`
    Ops(ops::Args),
    /// Decoding while the receiver is at fault, against decoding while it is well
    Isolation(isolation::Args),
    /// Instructions of the hot path, against those recorded in bench/instructions.toml
    Instructions(instructions::Args),
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            Self::Patch(_) => "patch",
            Self::Macros(_) => "macros",
            Self::Otelcpp(_) => "otelcpp",
            Self::Export(_) => "export",
            Self::OneLayer(_) => "one-layer",
            Self::Gemma(_) => "gemma",
            Self::Memory(_) => "memory",
            Self::Ops(_) => "ops",
            Self::Isolation(_) => "isolation",
            Self::Instructions(_) => "instructions",
        }
    }

    /// What stands behind the macros, where that is a choice.
    fn library(&self) -> Library {
        match self {
            Self::OneLayer(args) => args.behind.telemetry,
            Self::Gemma(args) => args.behind.telemetry,
            Self::Memory(args) => args.behind.telemetry,
            Self::Isolation(args) => args.behind.telemetry,
            _ => Library::Rust,
        }
    }

    /// What the command line says after `bench`.
    fn subject(&self) -> String {
        let library = match self.library() {
            Library::Rust => "",
            Library::Cpp => " --telemetry cpp",
        };
        format!("{}{library}", self.name())
    }

    /// No rows, after a line that says why, where opentelemetry-cpp is to stand behind the macros and is not installed.
    fn rows(&self, context: &Context) -> Result<Vec<row::Row>> {
        let measured = self.measure(context);
        if self.library() == Library::Rust {
            return measured;
        }
        match measured {
            Ok(rows) => Ok(rows.into_iter().map(row::Row::of_otelcpp).collect()),
            Err(error) => {
                let why = no_otelcpp(&error).ok_or(error)?;
                eprintln!("skipped: {why}");
                Ok(Vec::new())
            }
        }
    }

    fn measure(&self, context: &Context) -> Result<Vec<row::Row>> {
        match self {
            Self::Patch(args) => patch::rows(context, args),
            Self::Macros(args) => macros::rows(context, args),
            Self::Otelcpp(args) => otelcpp::rows(context, args),
            Self::Export(args) => export::rows(context, args),
            Self::OneLayer(args) => tiny::rows(context, args),
            Self::Gemma(args) => gemma::rows(context, args),
            Self::Memory(args) => memory::rows(context, args),
            Self::Ops(args) => ops::rows(context, args),
            Self::Isolation(args) => isolation::rows(context, args),
            Self::Instructions(args) => instructions::rows(context, args),
        }
    }
}

/// What telemetry costs, as far as it has a goal.
fn all() -> Vec<What> {
    let cpp = Behind { telemetry: Library::Cpp };
    vec![
        What::Macros(macros::Args::default()),
        What::Otelcpp(otelcpp::Args::default()),
        What::Instructions(instructions::Args::default()),
        What::Export(export::Args::default()),
        What::Memory(memory::Args::default()),
        What::Isolation(isolation::Args::default()),
        What::OneLayer(tiny::Args::default()),
        What::Gemma(gemma::Args::default()),
        What::Memory(memory::Args { behind: cpp, ..Default::default() }),
        What::Isolation(isolation::Args { behind: cpp, ..Default::default() }),
        What::OneLayer(tiny::Args { behind: cpp, ..Default::default() }),
        What::Gemma(gemma::Args { behind: cpp, ..Default::default() }),
    ]
}

/// Runs the verb.
///
/// # Errors
/// Something could not be measured; a page cannot be written.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let all = all();
    let subjects: Vec<&What> = match &args.what {
        Some(what) => vec![what],
        None => all.iter().collect(),
    };
    let mut rows = Vec::new();
    for what in subjects {
        let measured = what.rows(context)?;
        if args.write {
            page::write(context, &what.subject(), &measured)?;
        }
        rows.extend(measured);
    }
    row::print(&rows, args.format)?;
    let missed = rows.iter().any(|row| row.met == Some(false));
    Ok(if missed { ExitCode::from(MISSED) } else { ExitCode::SUCCESS })
}
