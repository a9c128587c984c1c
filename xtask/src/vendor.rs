//! `cargo xtask vendor`: puts a pristine llama.cpp tree into `vendor/<pin>/src`, read-only and whole, with
//! `VENDORED.json` beside it. A tree that is already there is only checked.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use patcher::tree::digest;
use serde::{Deserialize, Serialize};

use crate::{
    Format,
    cache::Slot,
    context::Context,
    progress::Unit,
    sources::obtain,
    upstream::{FILE, Pin, Source, Upstream, check_name},
};

const STAMP: &str = "VENDORED.json";
/// Git's own files are not source, and `cargo vendor` drops them where `cargo fetch` keeps them.
const LEFT_OUT: [&str; 3] = [".git", ".gitignore", ".gitattributes"];

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Name in upstream.toml; with --from, a name of your choice
    pin: Option<String>,
    /// Take the tree from a folder, such as your own fork
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What `VENDORED.json` says of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vendored {
    /// Name of the pin.
    pub pin: String,
    /// Where the tree came from.
    pub source: Source,
    /// The tree's digest.
    pub sha256: String,
    /// Number of files.
    pub files: u64,
    /// llama.cpp's own version, where the tree has one.
    pub llama_version: Option<String>,
    /// ggml's own version, where the tree has one.
    pub ggml_version: Option<String>,
    /// The licence file.
    pub license: Option<String>,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    path: PathBuf,
    #[serde(flatten)]
    vendored: &'a Vendored,
}

/// Runs the verb.
///
/// # Errors
/// Those of [`ensure`], and a `--from` that contradicts what is vendored.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let upstream = Upstream::read(context)?;
    let (name, pin) = wanted(&upstream, args.pin.as_deref(), args.from.as_deref())?;
    let vendored = vendor(context, &name, &pin, args.force)?;
    match args.format {
        Format::Text => println!("{}", context.vendor_src(&name).display()),
        Format::Json => {
            let report = Report { path: context.vendor_src(&name), vendored: &vendored };
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that a pin (the default one if `None`) is vendored, and says what it is. A folder vendored
/// with `--from` is found by its name.
///
/// # Errors
/// There is no such pin; it cannot be obtained; it is not what `upstream.toml` says; the tree in the checkout
/// was changed.
pub fn ensure(context: &Context, pin: Option<&str>) -> Result<Vendored> {
    let upstream = Upstream::read(context)?;
    let name = pin.unwrap_or(&upstream.default);
    if !upstream.pins.contains_key(name)
        && check_name(name).is_ok()
        && let Some(stamp) = read_stamp(&context.vendor_dir(name))
    {
        check_unchanged(context, &stamp)?;
        return Ok(stamp);
    }
    let (name, pin) = wanted(&upstream, Some(name), None)?;
    vendor(context, &name, &pin, false)
}

fn wanted(upstream: &Upstream, name: Option<&str>, from: Option<&Path>) -> Result<(String, Pin)> {
    let Some(from) = from else {
        let name = name.unwrap_or(&upstream.default);
        return Ok((name.to_owned(), upstream.pin(name)?.clone()));
    };
    let dir = from.canonicalize().with_context(|| format!("there is no folder {}", from.display()))?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    check_name(&name).context("name the pin: cargo xtask vendor NAME --from DIR")?;
    // A named pin stays what upstream.toml says it is, wherever its tree comes from.
    let sha256 = upstream.pins.get(&name).and_then(|pin| pin.sha256.clone());
    Ok((name, Pin { source: Source::Path { dir }, sha256 }))
}

fn vendor(context: &Context, name: &str, pin: &Pin, force: bool) -> Result<Vendored> {
    let target = context.vendor_dir(name);
    let slot = Slot::lock(&target, &context.ui)?;
    if !force && let Some(stamp) = usable(context, name, pin)? {
        return Ok(stamp);
    }
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let dir = obtain(context, &pin.source, scratch.path())?;
    let vendored = slot.replace(|new| fill(context, name, pin, &dir, new))?;
    context.ui.say(format_args!(
        "{name}: {} files, llama.cpp {}, from {}",
        vendored.files,
        vendored.llama_version.as_deref().unwrap_or("of unknown version"),
        pin.source
    ));
    if vendored.license.is_none() {
        context.ui.warn(format_args!("{name}: the tree has no LICENSE file; llama.cpp's MIT licence asks to keep it"));
    }
    Ok(vendored)
}

/// What is vendored, if it is what was asked for and unchanged.
fn usable(context: &Context, name: &str, pin: &Pin) -> Result<Option<Vendored>> {
    let Some(stamp) = read_stamp(&context.vendor_dir(name)) else { return Ok(None) };
    if pin.sha256.as_ref().is_some_and(|sha256| *sha256 != stamp.sha256) {
        context.ui.say(format_args!("{name}: {FILE} asks for another tree than the one that is here"));
        return Ok(None);
    }
    check_unchanged(context, &stamp)?;
    if pin.sha256.is_some() {
        return Ok(Some(stamp));
    }
    if pin.source != stamp.source {
        bail!(
            "vendor/{name} came from {}, not from {}\nhelp: give the new one another name (cargo xtask vendor NAME --from DIR), \
             or replace the old one with --force",
            stamp.source,
            pin.source
        );
    }
    // The folder may have moved on since.
    let Source::Path { dir } = &pin.source else { return Ok(Some(stamp)) };
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    copy_tree(&context.root.join(dir), scratch.path(), |_, _| {})?;
    Ok((digest(scratch.path())? == stamp.sha256).then_some(stamp))
}

fn check_unchanged(context: &Context, stamp: &Vendored) -> Result<()> {
    let src = context.vendor_src(&stamp.pin);
    let found = digest(&src).with_context(|| format!("cannot read {}", src.display()))?;
    if found != stamp.sha256 {
        bail!(
            "{} was changed after it was vendored\n  it was  {}\n  it is   {found}\n\
             help: keep your changes in a folder of your own and vendor that with --from DIR; \
             to get the pristine tree back: cargo xtask vendor {} --force",
            context.shown(&src),
            stamp.sha256,
            stamp.pin
        );
    }
    Ok(())
}

fn fill(context: &Context, name: &str, pin: &Pin, from: &Path, new: &Path) -> Result<Vendored> {
    let src = new.join("src");
    let phase = context.ui.phase(format!("unpack {name}"), Unit::Steps);
    let files = copy_tree(from, &src, |done, total| phase.set(done, total))?;
    let sha256 = digest(&src).with_context(|| format!("cannot read {}", src.display()))?;
    check_digest(name, pin, &sha256, from)?;
    let vendored = Vendored {
        pin: name.to_owned(),
        source: pin.source.clone(),
        sha256,
        files,
        llama_version: version(&src.join("CMakeLists.txt"), "LLAMA_VERSION"),
        ggml_version: version(&src.join("ggml/CMakeLists.txt"), "GGML_VERSION"),
        license: ["LICENSE", "LICENSE.txt", "LICENSE.md"]
            .into_iter()
            .find(|name| src.join(name).is_file())
            .map(str::to_owned),
    };
    let stamp = new.join(STAMP);
    fs::write(&stamp, serde_json::to_vec_pretty(&vendored)?)
        .with_context(|| format!("cannot write {}", stamp.display()))?;
    phase.finish(format_args!("{files} files"));
    Ok(vendored)
}

fn check_digest(name: &str, pin: &Pin, found: &str, from: &Path) -> Result<()> {
    match &pin.sha256 {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => bail!(
            "the tree of `{name}` from {} is not the one that {FILE} names\n  expected sha256  {expected}\n  found            {found}\n\
             help: if it is damaged, remove {} and try again; if it is right, put the new digest into {FILE}",
            pin.source,
            from.display()
        ),
        None if pin.source.needs_digest() => {
            bail!("{FILE} gives no sha256 for `{name}`\nhelp: if you trust {}, add: sha256 = \"{found}\"", pin.source)
        }
        None => Ok(()),
    }
}

fn read_stamp(dir: &Path) -> Option<Vendored> {
    let stamp: Vendored = serde_json::from_slice(&fs::read(dir.join(STAMP)).ok()?).ok()?;
    let named = dir.file_name().is_some_and(|name| name == stamp.pin.as_str());
    (named && dir.join("src").is_dir()).then_some(stamp)
}

/// Copies the regular files of `from`, without Git's own, and makes them read-only. A link to a file
/// inside the tree becomes that file; other links are left out, so nothing outside the tree comes along.
/// `on_file` learns how many of how many are done.
fn copy_tree(from: &Path, to: &Path, on_file: impl Fn(u64, u64)) -> Result<u64> {
    let root = from.canonicalize().with_context(|| format!("there is no folder {}", from.display()))?;
    let mut files = Vec::new();
    let is_source =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !LEFT_OUT.iter().any(|name| entry.file_name() == *name);
    for entry in walkdir::WalkDir::new(&root).into_iter().filter_entry(is_source) {
        let entry = entry.with_context(|| format!("cannot read {}", root.display()))?;
        if entry.file_type().is_file() || is_link_within(entry.path(), &root) {
            files.push(entry.into_path());
        }
    }
    let total = files.len() as u64;
    for (done, path) in (1..).zip(&files) {
        let target = to.join(path.strip_prefix(&root)?);
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent)
            .and_then(|()| fs::copy(path, &target))
            .and_then(|_| make_read_only(&target))
            .with_context(|| format!("cannot copy {} to {}", path.display(), target.display()))?;
        on_file(done, total);
    }
    Ok(total)
}

fn is_link_within(path: &Path, root: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real.is_file() && real.starts_with(root))
}

fn make_read_only(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(path, permissions)
}

/// `MAJOR.MINOR.PATCH` from `set(<PREFIX>_MAJOR n)` and so on.
fn version(cmake_lists: &Path, prefix: &str) -> Option<String> {
    let text = fs::read_to_string(cmake_lists).ok()?;
    let part = |name: &str| {
        let start = format!("set({prefix}_{name} ");
        let value = text.lines().find_map(|line| line.trim().strip_prefix(&start)?.split(')').next())?;
        value.trim().parse::<u32>().ok()
    };
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}
