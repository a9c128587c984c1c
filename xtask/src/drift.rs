//! `cargo xtask drift`: every published llama.cpp tree patched in memory, and each point's fate in each of them
//! held against what `patcher/coverage.lock` remembers. Fails if a point is lost or ambiguous anywhere.

use std::{fs, io, process::ExitCode, thread, time::Instant};

use anyhow::{Context as _, Result, bail};
use patcher::{drift::Grade, lock::Lock};

use crate::{
    Format,
    context::Context,
    patch::{added_files, load_points},
    progress::Unit,
    upstream::FILE,
};

pub mod compile;
mod fire;
pub mod list;
mod newest;
pub mod sweep;
mod table;
pub mod trees;

use list::{Listed, Sweep};
use sweep::{Fate, Swept, Timing};

const LOCK: &str = "patcher/coverage.lock";
const PAGE: &str = "docs/coverage.md";
const FIRED: &str = "docs/fired.md";

/// Command line of the verb.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes:
  0  every point is placed or declared absent in every tree (with --check: and the generated files say so)
  1  a point is lost or ambiguous, a tree is not what its era says, a generated file is stale, or something could not be read
  2  wrong usage")]
pub struct Args {
    /// Sweep these trees only, such as llama-cpp-sys-2-0.1.161
    #[arg(long, value_name = "TREE")]
    only: Vec<String>,
    /// Write patcher/coverage.lock and docs/coverage.md; with --build, docs/fired.md
    #[arg(long)]
    bless: bool,
    /// Fail unless patcher/coverage.lock and docs/coverage.md are what --bless would write
    #[arg(long, conflicts_with_all = ["only", "bless"])]
    check: bool,
    /// Send every patched file of the trees that upstream.toml marks for it through the C++ compiler's front end
    #[arg(long, conflicts_with_all = ["bless", "check"])]
    syntax: bool,
    /// Build llama.cpp from each of those trees, decode with it, and fail if a point that is placed does not fire; takes hours
    #[arg(long, conflicts_with_all = ["check", "syntax"])]
    build: bool,
    /// Ask the registries for releases that upstream.toml does not list yet, and sweep those too
    #[arg(long, conflicts_with_all = ["only", "bless", "check", "syntax", "build"])]
    newest: bool,
    /// Number of trees, or with --build of compilers, at a time [default: the number of processors]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// The list, the points or the lock cannot be read; a tree cannot be downloaded or read; a generated file is stale.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    if args.bless && !args.build && !args.only.is_empty() {
        bail!("--bless writes what is known of all trees; leave out --only");
    }
    let mut list = Sweep::read(context)?;
    if args.newest {
        let era = newest::era(context, &list)?;
        let names: Vec<_> = era.trees().iter().map(ToString::to_string).collect();
        context.ui.say(match names.is_empty() {
            true => format!("{FILE} lists every release"),
            false => format!("not in {FILE} yet: {}", names.join(", ")),
        });
        list.eras.insert(0, era);
    }
    let mut only = args.only.clone();
    if (args.syntax || args.build) && only.is_empty() {
        only.clone_from(&list.compiled);
    }
    let trees = wanted(list.trees(), &only)?;
    let points = load_points(context)?;
    let added = added_files(context)?;
    let lock = match read_lock(context) {
        Err(error) if args.bless => {
            context.ui.warn(format_args!("{error:#}; it is written anew"));
            Lock::default()
        }
        lock => lock?,
    };
    let places = trees::Places::read(context).find(context, &trees)?;

    let threads = args.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    if args.build {
        let page = args.bless.then(|| context.root.join(FIRED));
        let failed = fire::fire(context, &trees, &places, &points, &added, threads, page.as_deref())?;
        return Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    if args.syntax {
        let failed = compile::syntax(context, &trees, &places, &points, &added, threads)?;
        return Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }

    let phase = context.ui.phase(format!("patch {} trees", trees.len()), Unit::Steps);
    let started = Instant::now();
    let (swept, timings) = sweep::sweep(&trees, &places, &points, &added, &lock, threads, &phase)?;
    let seconds = started.elapsed().as_secs_f64();
    phase.finish(summary(&swept, &timings));

    match args.format {
        Format::Text => print!("{}", table::text(&swept, &points)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&table::Output::new(&swept, seconds))?),
    }
    let failed = report_failures(&swept);
    if args.bless || args.check {
        if failed > 0 {
            bail!("{failed} trees failed; the generated files say nothing of a sweep that failed");
        }
        let mut lock = Lock::default();
        for one in swept.iter().filter(|one| matches!(one.fate, Fate::Patched(_))) {
            lock.record(&one.tree.to_string(), one.verdicts());
        }
        let outputs = [(LOCK, lock.render()), (PAGE, table::markdown(&list, &swept, &points))];
        generate(context, &outputs, args.check)?;
    }
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The newest version of a crate that the sweep lists, if it lists one.
///
/// # Errors
/// `upstream.toml` cannot be read.
pub fn newest_listed(context: &Context, package: &str) -> Result<Option<String>> {
    let sweep = Sweep::read(context)?;
    Ok(sweep.eras.iter().find_map(|era| era.crates.get(package)?.first().cloned()))
}

/// Sends every patched file of the trees that `upstream.toml` marks for it through the C++ compiler's front end.
/// Returns the number of files that do not compile.
///
/// # Errors
/// As [`run`].
pub fn syntax(context: &Context) -> Result<usize> {
    let list = Sweep::read(context)?;
    let trees = wanted(list.trees(), &list.compiled)?;
    let places = trees::Places::read(context).find(context, &trees)?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    compile::syntax(context, &trees, &places, &load_points(context)?, &added_files(context)?, threads)
}

fn wanted<'a>(trees: Vec<Listed<'a>>, only: &[String]) -> Result<Vec<Listed<'a>>> {
    for name in only {
        if !trees.iter().any(|tree| tree.to_string() == *name) {
            bail!(
                "{FILE} lists no tree `{name}` in [sweep]\nhelp: names are PACKAGE-VERSION, such as llama-cpp-sys-2-0.1.161"
            );
        }
    }
    Ok(trees.into_iter().filter(|tree| only.is_empty() || only.contains(&tree.to_string())).collect())
}

/// What the lock of the checkout remembers; nothing if there is none.
///
/// # Errors
/// It cannot be read or understood.
pub fn read_lock(context: &Context) -> Result<Lock> {
    let path = context.root.join(LOCK);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Lock::parse(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lock::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn summary(swept: &[Swept<'_>], timings: &[Timing]) -> String {
    let slowest = timings.iter().max_by_key(|timing| timing.elapsed);
    let slowest = slowest
        .map(|timing| format!(", slowest {} ({} ms)", timing.tree, timing.elapsed.as_millis()))
        .unwrap_or_default();
    let changed = swept.iter().flat_map(|one| &one.grades).filter(|grade| **grade == Grade::BodyChanged).count();
    let changed = if changed > 0 { format!(", {changed} functions changed since the lock") } else { String::new() };
    format!("{} different contents{slowest}{changed}", timings.len())
}

/// Prints every failure and returns their number.
fn report_failures(swept: &[Swept<'_>]) -> usize {
    let mut failed = 0;
    let mut previous = "";
    for one in swept {
        if let Fate::Failed { message, .. } = &one.fate {
            failed += 1;
            // Trees of one content fail alike.
            if message != previous {
                eprintln!("{message}");
            }
            previous = message;
        }
    }
    failed
}

fn generate(context: &Context, outputs: &[(&str, String)], check: bool) -> Result<()> {
    let mut stale = Vec::new();
    for (name, text) in outputs {
        let path = context.root.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        if check {
            stale.push(*name);
        } else {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            context.ui.say(format_args!("written {name}"));
        }
    }
    if !stale.is_empty() {
        bail!("out of date: {}\nhelp: run `cargo xtask drift --bless`", stale.join(", "));
    }
    Ok(())
}
