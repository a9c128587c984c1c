//! `cargo xtask patch`: derives `vendor/<pin>/patched` from `vendor/<pin>/src`, patches a fork's own checkout in its
//! place, or takes our lines out of it again. What to insert is the `patcher` library's business; the disk is this
//! folder's: [`source`] says what a tree carries, [`derive`] writes a patched one beside it, [`in_place`] into it.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use patcher::{AddedFile, Applied, PatchError, Plan, PlanErrors, PointSet, Report, tree::digest_without, unified_diff};
use serde::Serialize;

use crate::{
    Format,
    context::Context,
    sources::{Origin, origin_of},
    vendor,
};

pub mod derive;
mod git;
mod in_place;
mod inputs;
pub mod source;
pub mod stamp;

pub use self::inputs::{added_files, load_points};
use self::{
    derive::is_not_source,
    in_place::Changes,
    source::{Refused, Source},
    stamp::Stamp,
};

/// Exit code where a point has no place, or too many.
pub const NO_PLAN: u8 = 3;
/// Exit code of `--check` where something would be written.
pub const DIFFERS: u8 = 4;
/// Exit code where the tree is not ours to patch: someone else's lines or folder in it, or uncommitted changes.
pub const REFUSED: u8 = 5;

/// The exit codes, as `--help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done (with --check: the tree is what it should be; with --dry-run: a plan exists)
  1  something could not be read or written
  2  wrong usage
  3  no plan: a point has no place in this tree, or more than it declares; every one is printed
  4  with --check: the tree is not what would be written
  5  the tree is left as it is: someone else's LLAMA_OTEL_ lines or common/otel/ in it, or uncommitted changes";

/// Command line of the verb.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("target").args(["out", "dry_run", "in_place", "revert"]).multiple(true)))]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    /// Name in upstream.toml or of a folder that was vendored with --from
    #[arg(conflicts_with = "from")]
    pin: Option<String>,
    /// Patch this llama.cpp tree instead of a vendored one; it is only read, unless --in-place or --revert says otherwise
    #[arg(long, visible_alias = "tree", value_name = "DIR", requires = "target")]
    from: Option<PathBuf>,
    /// Where the patched tree goes [default: vendor/<pin>/patched]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Patch the tree of --from where it is, such as your fork's checkout
    #[arg(long, requires = "from", conflicts_with_all = ["out", "dry_run"])]
    in_place: bool,
    /// Take our lines and files out of the tree of --from, byte for byte
    #[arg(long, requires = "from", conflicts_with_all = ["out", "dry_run", "check", "in_place"])]
    revert: bool,
    /// With --in-place or --revert: also if git has uncommitted changes, or lines and files of someone else get lost
    #[arg(long, requires = "from")]
    force: bool,
    /// Print the difference and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write nothing; fail unless the patched tree is what would be written
    #[arg(long, conflicts_with = "dry_run")]
    check: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The patched tree; null where nothing is written.
    path: Option<&'a Path>,
}

/// What `--revert --format json` prints.
#[derive(Serialize)]
struct Reverted<'a> {
    tree: &'a str,
    ok: bool,
    restored: Vec<&'a str>,
    removed: Vec<&'a str>,
    path: &'a Path,
}

/// A pristine tree and what its patched tree is to be.
pub struct Job {
    /// What messages and the stamp call it.
    pub name: String,
    /// Folder of the pristine tree.
    pub source: PathBuf,
    /// Its digest.
    pub source_sha256: String,
    /// Folder of the patched tree.
    pub target: PathBuf,
    /// The pristine tree, where it first had to be made out of a patched one.
    pub _scratch: Option<tempfile::TempDir>,
}

/// Runs the verb.
///
/// # Errors
/// The tree, the points or the files to add cannot be read; the patched tree cannot be written.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let done = if args.revert {
        revert(context, args)
    } else if args.in_place {
        patch_in_place(context, args)
    } else {
        patch(context, args)
    };
    settle(done, args.format)
}

/// Writes the patched tree of a pin (the default one if `None`), or of the tree `from`, into the folder `out`.
///
/// # Errors
/// Those of [`run`].
pub fn write_tree(
    context: &Context,
    pin: Option<String>,
    from: Option<PathBuf>,
    out: PathBuf,
    format: Format,
) -> Result<ExitCode> {
    let args = Args {
        pin,
        from,
        out: Some(out),
        in_place: false,
        revert: false,
        force: false,
        dry_run: false,
        check: false,
        format,
    };
    settle(patch(context, &args), format)
}

/// Turns the two failures that have exit codes of their own into them, said in the form that was asked for.
///
/// # Errors
/// Any other.
pub fn settle(done: Result<ExitCode>, format: Format) -> Result<ExitCode> {
    done.or_else(|error| match error.downcast::<Refused>() {
        Ok(refused) => refuse(&refused, format),
        Err(error) => match error.downcast::<PlanErrors>() {
            Ok(errors) => no_plan(&errors, format),
            Err(error) => Err(error),
        },
    })
}

/// Makes sure that a pin (the default one if `None`) is vendored and patched, and says where its patched tree is.
///
/// # Errors
/// Those of [`vendor::ensure`]; a point without a place, all of them in one; a tree that cannot be written.
pub fn ensure(context: &Context, pin: Option<&str>) -> Result<PathBuf> {
    let points = load_points(context)?;
    let vendored = vendor::ensure(context, pin)?;
    let source = source::examine(&context.vendor_src(&vendored.pin), &vendored.pin, &points, false)?;
    let target = context.vendor_dir(&vendored.pin).join("patched");
    let (plan, applied) = plan(&source, &points, added_files(context)?)?;
    let report = Report::of_plan(&plan, &applied);
    let job = job(&source, Some(vendored.sha256), target)?;
    let stamp = Stamp::new(&job.name, Some(&job.source_sha256), &points, &plan, &report).of_origin(&vendored.origin);
    derive::write(context, &job, &applied, stamp)?;
    Ok(job.target)
}

/// Writes the patched tree of the folder `from`, which messages, the stamp and telemetry call `name`, into the folder `target`.
///
/// # Errors
/// [`Refused`] and [`PlanErrors`]; the tree cannot be read or written.
pub fn derive_tree(context: &Context, from: &Path, name: &str, target: PathBuf) -> Result<()> {
    let points = load_points(context)?;
    let source = source::examine(from, name, &points, false)?;
    let (plan, applied) = plan(&source, &points, added_files(context)?)?;
    let report = Report::of_plan(&plan, &applied);
    let job = job(&source, None, target)?;
    // Its commit is not known, the name says it as exactly; without, CMake asks git, which answers for a checkout around the tree.
    let origin = Origin { build_commit: Some(name.to_owned()), ..Origin::default() };
    let stamp = Stamp::new(&job.name, Some(&job.source_sha256), &points, &plan, &report).of_origin(&origin);
    derive::write(context, &job, &applied, stamp)
}

/// A plan for the tree, carried out in memory and checked.
///
/// # Errors
/// [`PlanErrors`] where a point has no place.
pub fn plan(source: &Source, points: &PointSet, added: Vec<AddedFile>) -> Result<(Plan, Applied)> {
    patcher::patch(&source.tree, points, added).map_err(|error| match error {
        PatchError::Plan(errors) => errors.into(),
        other => other.into(),
    })
}

/// A tree beside the pristine one.
fn patch(context: &Context, args: &Args) -> Result<ExitCode> {
    let points = load_points(context)?;
    let (source, sha256, origin, target) = match &args.from {
        None => {
            let vendored = vendor::ensure(context, args.pin.as_deref())?;
            let target = match &args.out {
                Some(out) => std::path::absolute(out)?,
                None => context.vendor_dir(&vendored.pin).join("patched"),
            };
            let root = context.vendor_src(&vendored.pin);
            let source = source::examine(&root, &vendored.pin, &points, false)?;
            (source, Some(vendored.sha256), vendored.origin, target)
        }
        Some(from) => {
            let source = examine(from, &points, args.force)?;
            // A dry run writes nowhere.
            let target = std::path::absolute(args.out.as_deref().unwrap_or(Path::new(".")))?;
            check_apart(args, &source, &target)?;
            let origin = origin_of(context, &source.root);
            (source, None, origin, target)
        }
    };
    let (plan, applied) = plan(&source, &points, added_files(context)?)?;
    let report = Report::of_plan(&plan, &applied);
    if args.dry_run {
        match args.format {
            Format::Text => print!("{}", unified_diff(&source.tree, &applied, wants_colour())?),
            Format::Json => print_json(&report, None)?,
        }
        context.ui.say(summary(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    let job = job(&source, sha256, target)?;
    let stamp = Stamp::new(&job.name, Some(&job.source_sha256), &points, &plan, &report).of_origin(&origin);
    if args.check {
        let difference = stamp.difference(&job.target)?.map(str::to_owned);
        return checked(context, args, &job.target, &report, difference);
    }
    derive::write(context, &job, &applied, stamp)?;
    done(context, args, &job.target, &report, &plan)
}

fn patch_in_place(context: &Context, args: &Args) -> Result<ExitCode> {
    let points = load_points(context)?;
    let root = from(args)?;
    let _lock = (!args.check).then(|| in_place::lock(context, &root)).transpose()?;
    let source = examine(&root, &points, args.force)?;
    if !args.check && !args.force {
        in_place::check_clean(&source)?;
    }
    let (plan, applied) = plan(&source, &points, added_files(context)?)?;
    let report = Report::of_plan(&plan, &applied);
    let changes = Changes::to_patched(&source, &applied)?;
    if args.check {
        return checked(context, args, &root, &report, changes.difference(&source));
    }
    if changes.difference(&source).is_none() {
        in_place::remove_staged(&source)?;
        context.ui.say(format_args!("{}: up to date", root.display()));
    } else {
        in_place::patch(&source, changes, &Stamp::new(&source.name, None, &points, &plan, &report))?;
    }
    done(context, args, &root, &report, &plan)
}

fn revert(context: &Context, args: &Args) -> Result<ExitCode> {
    let points = load_points(context)?;
    let root = from(args)?;
    let _lock = in_place::lock(context, &root)?;
    let source = examine(&root, &points, args.force)?;
    if source.is_pristine() {
        in_place::remove_staged(&source)?;
        context.ui.say(format_args!("{}: carries none of our lines", root.display()));
    } else {
        for (path, bytes) in &source.stripped {
            let before = source.known.as_ref().and_then(|known| known.files.get(path)?.before.clone());
            if before.is_some_and(|before| before != patcher::tree::sha256(bytes)) {
                context.ui.say(format_args!("{path}: has been edited since it was patched; your changes stay"));
            }
        }
        in_place::revert(&source, Changes::to_pristine(&source))?;
    }
    match args.format {
        Format::Text => println!("{}", root.display()),
        Format::Json => {
            let reverted = Reverted {
                tree: &source.name,
                ok: true,
                restored: source.stripped.keys().map(String::as_str).collect(),
                removed: source.added.iter().map(String::as_str).collect(),
                path: &root,
            };
            println!("{}", serde_json::to_string_pretty(&reverted)?);
        }
    }
    context.ui.say(format_args!("{} files restored, {} removed", source.stripped.len(), source.added.len()));
    Ok(ExitCode::SUCCESS)
}

fn from(args: &Args) -> Result<PathBuf> {
    let from = args.from.as_deref().unwrap_or(Path::new("."));
    from.canonicalize().with_context(|| format!("there is no folder {}", from.display()))
}

/// Looks at a folder that the command line names.
///
/// # Errors
/// [`Refused`], or there is no such folder.
pub fn examine(from: &Path, points: &PointSet, force: bool) -> Result<Source> {
    let root = from.canonicalize().with_context(|| format!("there is no folder {}", from.display()))?;
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    source::examine(&root, &name, points, force)
}

fn check_apart(args: &Args, source: &Source, target: &Path) -> Result<()> {
    if args.out.is_some() && (target.starts_with(&source.root) || source.root.starts_with(target)) {
        bail!(
            "--out {} and --from {} lie inside each other\nhelp: name a folder beside the tree, or patch it with --in-place",
            target.display(),
            source.root.display()
        );
    }
    Ok(())
}

/// What is to be derived from a tree; `sha256` is its digest where that is known already.
fn job(source: &Source, sha256: Option<String>, target: PathBuf) -> Result<Job> {
    let name = source.name.clone();
    if source.is_pristine() {
        let sha256 = sha256.map_or_else(|| digest_without(&source.root, is_not_source), Ok);
        let source_sha256 = sha256.with_context(|| format!("cannot read {}", source.root.display()))?;
        return Ok(Job { name, source: source.root.clone(), source_sha256, target, _scratch: None });
    }
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    source.write_pristine(scratch.path())?;
    let source_sha256 = digest_without(scratch.path(), |_| false).context("cannot read a temporary folder")?;
    Ok(Job { name, source: scratch.path().to_path_buf(), source_sha256, target, _scratch: Some(scratch) })
}

fn checked(
    context: &Context,
    args: &Args,
    target: &Path,
    report: &Report,
    difference: Option<String>,
) -> Result<ExitCode> {
    if args.format == Format::Json {
        print_json(report, Some(target))?;
    }
    match difference {
        None => {
            context.ui.say(format_args!("{}: is what it should be", context.shown(target)));
            Ok(ExitCode::SUCCESS)
        }
        Some(difference) => {
            eprintln!(
                "error: {} is not what `cargo xtask patch` would write: {difference}\nhelp: run the same command without --check",
                context.shown(target)
            );
            Ok(ExitCode::from(DIFFERS))
        }
    }
}

fn done(context: &Context, args: &Args, target: &Path, report: &Report, plan: &Plan) -> Result<ExitCode> {
    match args.format {
        Format::Text => println!("{}", target.display()),
        Format::Json => print_json(report, Some(target))?,
    }
    context.ui.say(summary(plan));
    Ok(ExitCode::SUCCESS)
}

fn refuse(refused: &Refused, format: Format) -> Result<ExitCode> {
    if format == Format::Json {
        let report = Report {
            tree: refused.tree.clone(),
            ok: false,
            errors: refused.reasons.clone(),
            points: Vec::new(),
            files: Vec::new(),
        };
        print_json(&report, None)?;
    }
    eprintln!("error: {refused}");
    Ok(ExitCode::from(REFUSED))
}

fn no_plan(errors: &PlanErrors, format: Format) -> Result<ExitCode> {
    if format == Format::Json {
        print_json(&Report::of_errors(errors), None)?;
    }
    eprintln!("{errors}");
    Ok(ExitCode::from(NO_PLAN))
}

fn print_json(report: &Report, path: Option<&Path>) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(&Output { report, path })?);
    Ok(())
}

fn summary(plan: &Plan) -> String {
    let sites: usize = plan.verdicts.iter().map(|verdict| verdict.sites.len()).sum();
    let placed = plan.verdicts.iter().filter(|verdict| !verdict.sites.is_empty()).count();
    let absent = plan.verdicts.len() - placed;
    let files = plan.files.len();
    let added = plan.added.len();
    format!(
        "{placed} points placed ({sites} lines in {files} files), {absent} absent by declaration, {added} files added"
    )
}

/// Colour for a terminal, unless the user wants none.
fn wants_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
