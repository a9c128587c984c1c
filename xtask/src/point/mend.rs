//! `cargo xtask point mend`: where a point that a tree has lost went, held against the nearest tree at hand that has it,
//! or, where none has, against a published one that the lock remembers it of.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use patcher::{
    lock::Lock,
    mend::Proposal,
    point::Point,
    verdict::{Outcome, Verdict},
};
use serde::Serialize;

use super::{draft::Declared, trees, verdict};
use crate::{
    Format,
    context::Context,
    drift::{list::Sweep, read_lock},
    patch::{
        NO_PLAN, load_points,
        source::{self, Source},
    },
};

/// Command line of the verb.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes:
  0  there is a proposal, or the point is not lost
  1  there is no such point or tree, no tree is known that has the point, or something could not be read or downloaded
  2  wrong usage
  3  nothing in the tree is like it")]
pub struct Args {
    /// The point, such as decode.span
    id: String,
    /// The tree that has lost it: a folder, a pin, or the name of a published tree
    #[arg(long, value_name = "TREE")]
    tree: String,
    /// A tree that has it [default: of the trees at hand that have it, the one nearest by name; if none has, of the
    /// published ones that coverage.lock remembers it of, which is downloaded]
    #[arg(long, value_name = "TREE")]
    like: Option<String>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Output<'a> {
    tree: &'a str,
    point: &'a str,
    /// The tree that it was compared with.
    like: &'a str,
    proposals: &'a [Proposal],
}

pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let points = load_points(context)?;
    let point = points.points().iter().find(|point| point.id == args.id);
    let point = point.with_context(|| format!("there is no point `{}`", args.id))?;
    let declared = Declared::read(&point.source, &point.id)?;
    let source = trees::open(context, Some(&args.tree), &points)?;
    let now = verdict(&source.tree, &declared.whole()?)?;
    if now.outcome.is_fine() {
        context.ui.say(format_args!(
            "{} is not lost in {}: `cargo xtask point why {} --tree {}`",
            args.id, source.name, args.id, args.tree
        ));
        return Ok(ExitCode::SUCCESS);
    }
    // A damaged lock is no reason not to look.
    let lock = read_lock(context).unwrap_or_default();
    let at_hand = match &args.like {
        Some(_) => None,
        None => nearest(context, &declared, &source)?,
    };
    let (like, before) = match at_hand {
        Some(nearest) => nearest,
        None => {
            let name = match &args.like {
                Some(name) => name.clone(),
                None => published(context, &lock, &point.id, &source.name)?,
            };
            let like = trees::open(context, Some(&name), &points)?;
            let verdict = verdict(&like.tree, &declared.whole()?)?;
            (like, verdict)
        }
    };
    context.ui.say(format_args!("compared with {}{}", like.name, remembered(&lock, &like, point, &before)));
    // The whole text of the tree is compared, also where it carries our lines: those are few.
    let proposals = patcher::mend::mend(point, &like.open_whole()?, &source.open_whole()?)?;
    match args.format {
        Format::Json => {
            let output = Output { tree: &source.name, point: &point.id, like: &like.name, proposals: &proposals };
            println!("{}", serde_json::to_string_pretty(&output)?);
        }
        Format::Text => {
            for (index, proposal) in proposals.iter().enumerate() {
                println!("{}. {:.2}  {}:{}", index + 1, proposal.score, proposal.file, proposal.line);
                println!("   {}", proposal.evidence.join("; "));
                println!("   {},", proposal.alternate);
            }
        }
    }
    if proposals.is_empty() {
        eprintln!("error: nothing in {} is like what {} stood in", source.name, args.id);
        return Ok(ExitCode::from(NO_PLAN));
    }
    context.ui.say(format_args!(
        "help: look at the place; if it is right, put the line first in `at` of {} in {}",
        point.id,
        context.shown(&point.source)
    ));
    Ok(ExitCode::SUCCESS)
}

/// The tree at hand that has the point and whose name is next to the tree's.
fn nearest(context: &Context, declared: &Declared, lost: &Source) -> Result<Option<(Source, Verdict)>> {
    let point = declared.whole()?;
    let trees = trees::at_hand(context);
    let here = trees.iter().position(|(_, dir)| *dir == lost.root).unwrap_or(0);
    let mut by_distance: Vec<_> = trees.into_iter().enumerate().collect();
    by_distance.sort_by_key(|(at, _)| at.abs_diff(here));
    for (_, (name, dir)) in by_distance {
        let like = source::pristine(&dir, &name)?;
        let verdict = verdict(&like.tree, &point)?;
        if verdict.outcome == Outcome::Placed {
            return Ok(Some((like, verdict)));
        }
    }
    Ok(None)
}

/// The published tree that the lock remembers the point of, next to the tree `lost` in the list, or the newest one.
fn published(context: &Context, lock: &Lock, id: &str, lost: &str) -> Result<String> {
    let list = Sweep::read(context)?;
    let names: Vec<_> = list.trees().iter().map(ToString::to_string).collect();
    let here = names.iter().position(|name| name == lost).unwrap_or(0);
    let remembered = names.into_iter().enumerate().filter(|(_, name)| lock.entry(name, id).is_some());
    let Some((_, name)) = remembered.min_by_key(|(at, _)| at.abs_diff(here)) else {
        bail!(
            "no tree at hand has {id}, and coverage.lock remembers it of none\nhelp: name a tree that has it with --like"
        );
    };
    context.ui.say(format_args!("no tree at hand has {id}; {name} has it, by coverage.lock"));
    Ok(name)
}

/// What the lock says of the tree that is compared with.
fn remembered(lock: &Lock, like: &Source, point: &Point, verdict: &Verdict) -> &'static str {
    match lock.entry(&like.name, &point.id) {
        Some(entry) if Some(entry) == patcher::lock::Entry::of(verdict).as_ref() => ", as coverage.lock remembers it",
        Some(_) => ", which is not as coverage.lock remembers it",
        None => ", which coverage.lock does not have",
    }
}
