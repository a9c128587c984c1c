//! `cargo xtask point`: for those who write points. `new` drafts one and shows where it lands in every tree at hand,
//! `why` explains what became of one in a tree, `mend` proposes where a lost one went.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use patcher::{
    PointSet, Tree,
    verdict::{Outcome, Verdict},
};

use crate::{Format, context::Context, patch};

mod draft;
mod mend;
mod new;
mod trees;
mod why;

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Draft a point, show where it lands in every tree at hand, and add it to patcher/points
    New(new::Args),
    /// Explain what became of a point in a tree: what was tried, what was found
    Why(WhyArgs),
    /// Propose where a lost point went: the functions most like the one that it was in
    Mend(mend::Args),
}

#[derive(clap::Args)]
#[command(after_help = "\
Exit codes:
  0  the point is placed, or absent by its own declaration
  1  there is no such point or tree, or something could not be read
  2  wrong usage
  3  the point is lost or ambiguous in this tree
  5  the tree carries someone else's LLAMA_OTEL_ lines")]
struct WhyArgs {
    /// The point, such as decode.span
    id: String,
    /// A folder, a pin, or the name of a published tree [default: the default pin]
    #[arg(long, value_name = "TREE")]
    tree: Option<String>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// The points or a tree cannot be read; there is no such point.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::New(args) => patch::settle(new::run(context, args), Format::Text),
        What::Why(args) => patch::settle(why::run(context, args), args.format),
        What::Mend(args) => patch::settle(mend::run(context, args), args.format),
    }
}

/// What becomes of each point of a set in a tree, whatever becomes of the tree.
fn verdicts(tree: &Tree, points: &PointSet) -> Vec<Verdict> {
    match patcher::plan(tree, points, Vec::new()) {
        Ok(plan) => plan.verdicts,
        Err(errors) => errors.verdicts,
    }
}

/// What becomes of a set's only point.
fn verdict(tree: &Tree, point: &PointSet) -> Result<Verdict> {
    verdicts(tree, point).into_iter().next().context("the planner gave no verdict")
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Placed => "placed",
        Outcome::Absent => "absent",
        Outcome::Lost => "LOST",
        Outcome::Ambiguous => "AMBIGUOUS",
    }
}

/// The file of points that a new point of that id goes into: one for each subsystem.
fn file_of(context: &Context, id: &str) -> PathBuf {
    let subsystem = id.split('.').next().unwrap_or(id);
    context.root.join("patcher/points").join(format!("{subsystem}.toml"))
}
