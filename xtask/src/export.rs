//! `cargo xtask export patch`: the plan of a tree as a series of patches that `git am` and `git apply` take, for those
//! who keep their own llama.cpp and want our lines in its history. One patch for each subsystem; each leaves a tree
//! that builds. `cargo xtask export tree`: the patched tree itself, for those who build with CMake alone. The others are in
//! files of their own.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use patcher::{Plan, PointSet, Report, strip::INCLUDE_LINE, tree::digest_without};
use serde::Serialize;

use crate::{
    Format,
    cache::Slot,
    context::Context,
    patch::{
        self, added_files,
        derive::is_not_source,
        load_points,
        source::{self, Source},
        stamp::{STAMP, Stamp},
    },
    vendor,
};

pub mod dropin;
pub mod series;
pub mod verify;

/// What a folder with a series says of itself.
const MANIFEST: &str = "series.json";

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Write the patches and print their paths: git am $(cargo xtask export patch)
    Patch(PatchArgs),
    /// Write a patched tree that CMake builds alone, without Rust
    Tree(TreeArgs),
    /// Write the package llama-cpp-sys-2 or -4, instrumented, for [patch.crates-io] of a program on llama-cpp-2 or -4
    Dropin(dropin::Args),
    /// Say whether a program has an instrumented llama.cpp inside
    Verify(verify::Args),
}

#[derive(clap::Args)]
#[command(after_help = patch::EXIT_CODES)]
struct TreeArgs {
    /// Where the tree goes: a new or an empty folder, or one that this verb made
    #[arg(value_name = "DIR")]
    out: PathBuf,
    /// Name in upstream.toml or of a folder that was vendored with --from
    #[arg(conflicts_with = "from")]
    pin: Option<String>,
    /// Export this llama.cpp tree, patched, instead of a vendored one; it is only read
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(clap::Args)]
#[command(after_help = patch::EXIT_CODES)]
struct PatchArgs {
    /// Name in upstream.toml or of a folder that was vendored with --from
    #[arg(conflicts_with = "from")]
    pin: Option<String>,
    /// Export the patch of this llama.cpp tree instead of a vendored one; it is only read
    #[arg(long, visible_alias = "tree", value_name = "DIR")]
    from: Option<PathBuf>,
    /// Where the series goes [default: target/llama-otel/series/<pin>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What `series.json` holds and `--format json` prints.
#[derive(Serialize)]
struct Manifest<'a> {
    tree: &'a str,
    ok: bool,
    /// This program and its version.
    tool: &'a str,
    /// Digest of the pristine tree.
    source_sha256: &'a str,
    points_sha256: &'a str,
    added_sha256: &'a str,
    /// In the order in which they apply.
    patches: Vec<ManifestPatch<'a>>,
    /// The folder; not in the file itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a Path>,
}

#[derive(Serialize)]
struct ManifestPatch<'a> {
    file: &'a str,
    subject: &'a str,
    points: &'a [String],
}

/// Runs the verb.
///
/// # Errors
/// The tree or the points cannot be read, or the series cannot be written.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Patch(args) => patch::settle(export(context, args), args.format),
        What::Tree(args) => export_tree(context, args),
        What::Dropin(args) => patch::settle(dropin::run(context, args), Format::Text),
        What::Verify(args) => verify::run(args),
    }
}

fn export_tree(context: &Context, args: &TreeArgs) -> Result<ExitCode> {
    let code = patch::write_tree(context, args.pin.clone(), args.from.clone(), args.out.clone(), args.format)?;
    if code == ExitCode::SUCCESS {
        context.ui.say(format_args!(
            "CMake alone builds it, with opentelemetry-cpp 1.19 or newer: \
             cmake -S {} -B build -DLLAMA_OTEL_BACKEND=cpp && cmake --build build --target llama",
            args.out.display()
        ));
    }
    Ok(code)
}

fn export(context: &Context, args: &PatchArgs) -> Result<ExitCode> {
    let points = load_points(context)?;
    let (source, sha256) = pristine(context, args, &points)?;
    let (plan, applied) = patch::plan(&source, &points, added_files(context)?)?;
    let report = Report::of_plan(&plan, &applied);
    // As for a tree that is patched in place: what `git am` makes goes on living.
    let stamp = Stamp::new(&source.name, None, &points, &plan, &report);
    let provenance = series::Provenance {
        tool: stamp.tool,
        tree: &source.name,
        source_sha256: &sha256,
        points_sha256: points.hash(),
        added_sha256: &stamp.added_sha256,
    };
    let parts = parts(&points, &plan);
    let patches = series::write(&source.tree, &source.root, &plan, &applied, &parts, &stamp.bytes()?, &provenance)?;
    let target = match &args.out {
        Some(out) => std::path::absolute(out)?,
        None => context.target_dir().join("llama-otel/series").join(&source.name),
    };
    let mut manifest = Manifest {
        tree: &source.name,
        ok: true,
        tool: stamp.tool,
        source_sha256: &sha256,
        points_sha256: points.hash(),
        added_sha256: &stamp.added_sha256,
        patches: patches
            .iter()
            .map(|patch| ManifestPatch { file: &patch.name, subject: &patch.subject, points: &patch.points })
            .collect(),
        path: None,
    };
    let slot = Slot::lock(&target, &context.ui)?;
    let is_foreign =
        !target.join(MANIFEST).is_file() && fs::read_dir(&target).is_ok_and(|mut entries| entries.next().is_some());
    if is_foreign {
        bail!(
            "{} is a folder that this program did not make\nhelp: name an empty or a new one with --out",
            target.display()
        );
    }
    slot.replace(|new| {
        let files = patches.iter().map(|patch| (patch.name.as_str(), patch.mail.clone()));
        for (name, bytes) in files.chain([(MANIFEST, serde_json::to_vec_pretty(&manifest)?)]) {
            let path = new.join(name);
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    })?;
    match args.format {
        Format::Text => patches.iter().for_each(|patch| println!("{}", target.join(&patch.name).display())),
        Format::Json => {
            manifest.path = Some(&target);
            println!("{}", serde_json::to_string_pretty(&manifest)?);
        }
    }
    let keep_cr = if patches.iter().any(|patch| patch.has_cr) { " --keep-cr" } else { "" };
    context.ui.say(format_args!(
        "{} patches for {}; in a checkout of that tree: git am{keep_cr} {}",
        patches.len(),
        source.name,
        context.shown(&target.join("*.patch"))
    ));
    Ok(ExitCode::SUCCESS)
}

/// The tree and its digest. A series starts from upstream's text, so the tree must be that.
fn pristine(context: &Context, args: &PatchArgs, points: &PointSet) -> Result<(Source, String)> {
    let (source, sha256) = match &args.from {
        None => {
            let vendored = vendor::ensure(context, args.pin.as_deref())?;
            let source = source::examine(&context.vendor_src(&vendored.pin), &vendored.pin, points, false)?;
            (source, vendored.sha256)
        }
        Some(from) => {
            let source = patch::examine(from, points, false)?;
            let sha256 = digest_without(&source.root, is_not_source);
            let sha256 = sha256.with_context(|| format!("cannot read {}", source.root.display()))?;
            (source, sha256)
        }
    };
    if !source.is_pristine() {
        return Err(source::Refused {
            tree: source.name,
            reasons: vec![format!("{STAMP}: the tree is patched already; a series starts from upstream's text")],
            help: "take our lines out with `cargo xtask patch --revert`, or export from a pristine tree".to_owned(),
        }
        .into());
    }
    Ok((source, sha256))
}

/// The points of the plan by the file that declares them; first what the others need: the header and the build.
pub fn parts(points: &PointSet, plan: &Plan) -> Vec<series::Part> {
    let mut parts: Vec<series::Part> = Vec::new();
    for verdict in plan.verdicts.iter().filter(|verdict| !verdict.sites.is_empty()) {
        let purpose = points.points().iter().find(|point| point.id == verdict.id).map(|point| point.purpose.clone());
        let part = part_of(&mut parts, &verdict.source);
        part.is_base |= verdict.sites.iter().any(|site| site.inserted == INCLUDE_LINE);
        part.points.push((verdict.id.clone(), purpose.unwrap_or_default()));
    }
    for block in points.blocks() {
        let part = part_of(&mut parts, &block.source);
        part.is_base = true;
        part.blocks.insert(block.file.clone());
    }
    parts.sort_by_key(|part| !part.is_base);
    parts
}

fn part_of<'a>(parts: &'a mut Vec<series::Part>, source: &Path) -> &'a mut series::Part {
    let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let known = parts.iter().position(|part| part.name == name);
    let at = known.unwrap_or_else(|| {
        parts.push(series::Part { name, points: Vec::new(), blocks: BTreeSet::new(), is_base: false });
        parts.len() - 1
    });
    &mut parts[at]
}
