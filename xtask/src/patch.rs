//! `cargo xtask patch`: derives `vendor/<pin>/patched` from `vendor/<pin>/src`, whole or not at all, with
//! `PATCHED.json` in it. What to insert is the `patcher` library's business; the disk is this file's.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use patcher::{
    AddedFile, Applied, PatchError, Plan, PointSet, Report, Tree,
    report::FileReport,
    tree::{digest_without, sha256},
    unified_diff,
};
use serde::Serialize;
use serde_json::Value;

use crate::{Format, cache::Slot, context::Context, vendor};

/// What a patched tree says of itself.
pub const STAMP: &str = "PATCHED.json";

/// Command line of the verb.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("target").args(["out", "dry_run"]).multiple(true)))]
#[command(after_help = "\
Exit codes:
  0  the patched tree is in place (with --check: it is what it should be; with --dry-run: a plan exists)
  1  no plan, every reason is printed; or the tree is not what it should be, or something could not be read or written
  2  wrong usage")]
pub struct Args {
    /// Name in upstream.toml or of a folder that was vendored with --from
    #[arg(conflicts_with = "from")]
    pin: Option<String>,
    /// Patch this llama.cpp tree instead of a vendored one; it is only read
    #[arg(long, visible_alias = "tree", value_name = "DIR", requires = "target")]
    from: Option<PathBuf>,
    /// Where the patched tree goes [default: vendor/<pin>/patched]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
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

/// What `PATCHED.json` holds.
#[derive(Debug, Clone, Serialize)]
struct Stamp<'a> {
    /// This program and its version.
    tool: &'a str,
    /// Name of the tree.
    pin: &'a str,
    /// Digest of the pristine tree.
    source_sha256: &'a str,
    /// Hash of the point set.
    points_sha256: &'a str,
    /// Hash of the files that patching adds.
    added_sha256: String,
    /// Digest of the patched tree without this file.
    sha256: Option<String>,
    /// Every changed or added file before and after.
    files: &'a [FileReport],
    /// A verdict for each point.
    points: &'a [patcher::verdict::Verdict],
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The patched tree; null where nothing is written.
    path: Option<&'a Path>,
}

/// A pristine tree and what its patched tree is to be.
struct Job {
    name: String,
    source: PathBuf,
    source_sha256: String,
    target: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// The tree, the points or the files to add cannot be read; the patched tree cannot be written.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let job = job(context, args)?;
    let points = load_points(context)?;
    let tree = open(&job)?;
    let (plan, applied) = match patcher::patch(&tree, &points, added_files(context)?) {
        Ok(made) => made,
        Err(PatchError::Plan(errors)) => {
            if args.format == Format::Json {
                print_json(&Report::of_errors(&errors), None)?;
            }
            eprintln!("{errors}");
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    let report = Report::of_plan(&plan, &applied);
    let stamp = stamp(&job, &points, &plan, &report);
    if args.dry_run {
        match args.format {
            Format::Text => print!("{}", unified_diff(&tree, &applied, wants_colour())?),
            Format::Json => print_json(&report, None)?,
        }
        context.ui.say(summary(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    if args.check {
        return check(context, args, &job, &report, &stamp);
    }
    write(context, &job, &applied, stamp)?;
    match args.format {
        Format::Text => println!("{}", job.target.display()),
        Format::Json => print_json(&report, Some(&job.target))?,
    }
    context.ui.say(summary(&plan));
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that a pin (the default one if `None`) is vendored and patched, and says where its patched tree is.
///
/// # Errors
/// Those of [`vendor::ensure`]; a point without a place, all of them in one; a tree that cannot be written.
pub fn ensure(context: &Context, pin: Option<&str>) -> Result<PathBuf> {
    let job = pinned(context, pin, None)?;
    let points = load_points(context)?;
    let (plan, applied) = patcher::patch(&open(&job)?, &points, added_files(context)?)?;
    let report = Report::of_plan(&plan, &applied);
    write(context, &job, &applied, stamp(&job, &points, &plan, &report))?;
    Ok(job.target)
}

fn job(context: &Context, args: &Args) -> Result<Job> {
    let Some(from) = &args.from else {
        return pinned(context, args.pin.as_deref(), args.out.as_deref());
    };
    let source = from.canonicalize().with_context(|| format!("there is no folder {}", from.display()))?;
    let name = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let source_sha256 =
        digest_without(&source, is_not_source).with_context(|| format!("cannot read {}", source.display()))?;
    // A dry run writes nowhere.
    let target = std::path::absolute(args.out.as_deref().unwrap_or(Path::new(".")))?;
    if args.out.is_some() && (target.starts_with(&source) || source.starts_with(&target)) {
        bail!(
            "--out {} and --from {} lie inside each other\nhelp: name a folder beside the tree",
            target.display(),
            source.display()
        );
    }
    Ok(Job { name, source, source_sha256, target })
}

fn pinned(context: &Context, pin: Option<&str>, out: Option<&Path>) -> Result<Job> {
    let vendored = vendor::ensure(context, pin)?;
    let target = match out {
        Some(out) => std::path::absolute(out)?,
        None => context.vendor_dir(&vendored.pin).join("patched"),
    };
    let source = context.vendor_src(&vendored.pin);
    Ok(Job { source, source_sha256: vendored.sha256, name: vendored.pin, target })
}

fn open(job: &Job) -> Result<Tree> {
    Tree::open(&job.source, &job.name).with_context(|| format!("cannot read the tree {}", job.source.display()))
}

fn load_points(context: &Context) -> Result<PointSet> {
    Ok(PointSet::load_dir(&context.root.join("patcher/points"))?)
}

/// The files that become `common/otel/`: headers, the runtime, and their CMake file.
fn added_files(context: &Context) -> Result<Vec<AddedFile>> {
    let shim = context.root.join("otel-shim");
    let include = shim.join("include");
    let mut sources = vec![shim.join("cpp/otel.cpp"), shim.join("cmake/CMakeLists.txt")];
    for entry in fs::read_dir(&include).with_context(|| format!("cannot read {}", include.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", include.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "h") {
            sources.push(path);
        }
    }
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(AddedFile { path: format!("common/otel/{name}"), bytes })
    };
    let mut added = sources.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    added.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(added)
}

fn stamp<'a>(job: &'a Job, points: &'a PointSet, plan: &'a Plan, report: &'a Report) -> Stamp<'a> {
    let added: Vec<_> = plan.added.iter().map(|file| format!("{} {}\n", sha256(&file.bytes), file.path)).collect();
    Stamp {
        tool: concat!("llama-otel ", env!("CARGO_PKG_VERSION")),
        pin: &job.name,
        source_sha256: &job.source_sha256,
        points_sha256: points.hash(),
        added_sha256: sha256(added.concat().as_bytes()),
        sha256: None,
        files: &report.files,
        points: &report.points,
    }
}

/// Why the tree on disk is not the one that `stamp` describes; `None` if it is.
fn difference(target: &Path, stamp: &Stamp<'_>) -> Result<Option<&'static str>> {
    let Some(mut known) = read_stamp(target) else {
        return Ok(Some("there is no patched tree"));
    };
    let digest = known.as_object_mut().and_then(|object| object.insert("sha256".to_owned(), Value::Null));
    let wanted = serde_json::to_value(stamp)?;
    for (key, what) in [
        ("tool", "another version of this program made it"),
        ("pin", "it was made from another pin"),
        ("source_sha256", "it was made from another upstream tree"),
        ("points_sha256", "the points have changed since"),
        ("added_sha256", "the files of otel-shim that are copied into it have changed since"),
    ] {
        if known.get(key) != wanted.get(key) {
            return Ok(Some(what));
        }
    }
    if known != wanted {
        return Ok(Some("the same points give other lines today"));
    }
    let found =
        digest_without(target, |path| path == STAMP).with_context(|| format!("cannot read {}", target.display()))?;
    Ok((digest != Some(Value::String(found))).then_some("its files were changed by hand or by a build"))
}

fn read_stamp(target: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(target.join(STAMP)).ok()?).ok()
}

fn check(context: &Context, args: &Args, job: &Job, report: &Report, stamp: &Stamp<'_>) -> Result<ExitCode> {
    let difference = difference(&job.target, stamp)?;
    if args.format == Format::Json {
        print_json(report, Some(&job.target))?;
    }
    match difference {
        None => {
            context.ui.say(format_args!("{}: is what it should be", context.shown(&job.target)));
            Ok(ExitCode::SUCCESS)
        }
        Some(difference) => {
            eprintln!(
                "error: {} is not what `cargo xtask patch` would write: {difference}\nhelp: run the same command without --check",
                context.shown(&job.target)
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Brings the target to what the plan says: not at all if it is that already, else as a whole.
fn write(context: &Context, job: &Job, applied: &Applied, mut stamp: Stamp<'_>) -> Result<()> {
    let slot = Slot::lock(&job.target, &context.ui)?;
    let Some(difference) = difference(&job.target, &stamp)? else {
        context.ui.say(format_args!("{}: up to date", context.shown(&job.target)));
        return Ok(());
    };
    let exists = job.target.exists();
    if exists && !job.target.join(STAMP).is_file() && fs::read_dir(&job.target)?.next().is_some() {
        bail!(
            "{} is a folder that this program did not make\nhelp: name an empty or a new one with --out",
            job.target.display()
        );
    }
    if exists {
        context.ui.say(format_args!("{}: {difference}", context.shown(&job.target)));
    }
    slot.replace(|new| {
        derive(job, applied, new)?;
        let digest = digest_without(new, |_| false).with_context(|| format!("cannot read {}", new.display()))?;
        stamp.sha256 = Some(digest);
        let path = new.join(STAMP);
        fs::write(&path, serde_json::to_vec_pretty(&stamp)?).with_context(|| format!("cannot write {}", path.display()))
    })
}

/// Fills `new` with the patched tree. A file that equals the present one keeps its time, so that a build
/// afterwards compiles what changed and nothing else; one that differs from it is new, even where upstream's is old.
fn derive(job: &Job, applied: &Applied, new: &Path) -> Result<()> {
    let now = SystemTime::now();
    let has_present = job.target.join(STAMP).is_file();
    let listed = Tree::open(&job.source, &job.name).and_then(|tree| tree.paths());
    let listed = listed.with_context(|| format!("cannot read {}", job.source.display()))?;
    let paths: BTreeSet<_> = listed.into_iter().filter(|path| !is_not_source(path)).map(PathBuf::from).collect();
    for path in paths.iter().chain(applied.files.keys().filter(|path| !paths.contains(*path))) {
        let (from, to, present) = (job.source.join(path), new.join(path), job.target.join(path));
        let failed = || format!("cannot write {}", to.display());
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        let patched = applied.files.get(path);
        let is_same = has_present
            && match patched {
                Some(bytes) => has_content(&present, bytes),
                None => {
                    has_content(&present, &fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?)
                }
            };
        match patched {
            Some(bytes) => fs::write(&to, bytes).with_context(failed)?,
            // A copy, never a link: a pristine file must not be reachable through a path that tools write to.
            None => fs::copy(&from, &to).and_then(|_| make_writable(&to)).with_context(failed)?,
        }
        let modified = match (is_same, patched) {
            (true, _) => modified(&present),
            (false, None) if !has_present => modified(&from),
            _ => Ok(now),
        };
        let file = File::options().write(true).open(&to).with_context(failed)?;
        file.set_modified(modified.with_context(failed)?).with_context(failed)?;
    }
    Ok(())
}

/// Git's own folder, or the file that stands for it in a worktree, is no part of a tree.
fn is_not_source(path: &str) -> bool {
    path == ".git" || path.starts_with(".git/")
}

fn has_content(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|present| present == bytes)
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

fn make_writable(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        permissions.set_mode(permissions.mode() | 0o200);
    }
    #[cfg(not(unix))]
    #[expect(clippy::permissions_set_readonly_false, reason = "no mode bits there")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions)
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;

    fn job(dir: &Path) -> Job {
        let (source, target) = (dir.join("src"), dir.join("patched"));
        fs::create_dir_all(source.join("a")).unwrap();
        for (name, text) in [("a/one.cpp", "1"), ("two.cpp", "2"), ("three.cpp", "3")] {
            let path = source.join(name);
            fs::write(&path, text).unwrap();
            let old = SystemTime::now() - Duration::from_secs(1000);
            File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
            let mut permissions = fs::metadata(&path).unwrap().permissions();
            permissions.set_readonly(true);
            fs::set_permissions(&path, permissions).unwrap();
        }
        Job { name: "t".to_owned(), source, source_sha256: String::new(), target }
    }

    fn applied(files: &[(&str, &str)]) -> Applied {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec()));
        Applied { files: files.collect::<BTreeMap<_, _>>() }
    }

    fn derive_into_target(job: &Job, applied: &Applied) {
        let new = job.target.with_extension("new");
        fs::create_dir(&new).unwrap();
        derive(job, applied, &new).unwrap();
        fs::write(new.join(STAMP), "{}").unwrap();
        let _ = fs::remove_dir_all(&job.target);
        fs::rename(&new, &job.target).unwrap();
    }

    #[test]
    fn only_files_that_change_get_a_new_time() {
        let dir = tempfile::tempdir().unwrap();
        let job = job(dir.path());
        derive_into_target(&job, &applied(&[("a/one.cpp", "x1"), ("two.cpp", "x2"), ("common/otel/otel.h", "h")]));
        let time = |name: &str| modified(&job.target.join(name)).unwrap();
        assert_eq!(time("three.cpp"), modified(&job.source.join("three.cpp")).unwrap());
        let names = ["a/one.cpp", "two.cpp", "three.cpp", "common/otel/otel.h"];
        let before = names.map(time);
        std::thread::sleep(Duration::from_millis(20));

        // One point changes, another one goes: its file is upstream's again, and still newer than what was built from it.
        derive_into_target(&job, &applied(&[("a/one.cpp", "y1"), ("common/otel/otel.h", "h")]));
        let after = names.map(time);
        assert!(after[0] > before[0] && after[1] > before[1]);
        assert_eq!((after[2], after[3]), (before[2], before[3]));
        assert_eq!(fs::read(job.target.join("two.cpp")).unwrap(), b"2");
    }

    #[test]
    fn the_source_is_never_linked_and_stays_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let job = job(dir.path());
        derive_into_target(&job, &applied(&[]));
        fs::write(job.target.join("two.cpp"), "changed").unwrap();
        assert_eq!(fs::read(job.source.join("two.cpp")).unwrap(), b"2");
        assert!(fs::metadata(job.source.join("two.cpp")).unwrap().permissions().readonly());
    }
}
