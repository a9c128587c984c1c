//! `cargo xtask vendor`: puts a pristine llama.cpp tree into `vendor/<pin>/src`, read-only and whole, with
//! `VENDORED.json` beside it. A tree that is already there is only checked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use patcher::tree::digest;
use serde::Serialize;

use crate::{
    Format,
    cache::Slot,
    context::Context,
    progress::Unit,
    sources::{Obtained, obtain},
    upstream::{FILE, Pin, Source, Upstream, check_name},
};

mod copy;
mod stamp;
mod wanted;

pub use self::{copy::copy_tree, stamp::Vendored};
use self::{
    stamp::{STAMP, version_in},
    wanted::{AdHoc, Wanted, wanted},
};

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Name in upstream.toml; with --from, --git, --archive, --pypi or --crate, a name of your choice
    pin: Option<String>,
    #[command(flatten)]
    ad_hoc: AdHoc,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
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
/// Those of [`ensure`], and a source on the command line that contradicts what is vendored.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let upstream = Upstream::read(context)?;
    let wanted = wanted(&upstream, args.pin.as_deref(), &args.ad_hoc)?;
    let vendored = vendor(context, &wanted, args.force)?;
    let name = &wanted.name;
    match args.format {
        Format::Text => println!("{}", context.vendor_src(name).display()),
        Format::Json => {
            let report = Report { path: context.vendor_src(name), vendored: &vendored };
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that a pin (the default one if `None`) is vendored, and says what it is. What was vendored
/// from a source of the command line is found by its name.
///
/// # Errors
/// There is no such pin; it cannot be obtained; it is not what `upstream.toml` says; the tree in the checkout
/// was changed.
pub fn ensure(context: &Context, pin: Option<&str>) -> Result<Vendored> {
    let upstream = Upstream::read(context)?;
    let name = pin.unwrap_or(&upstream.default);
    if !upstream.pins.contains_key(name)
        && check_name(name).is_ok()
        && let Some(stamp) = Vendored::read(&context.vendor_dir(name))
    {
        check_unchanged(context, &stamp)?;
        return Ok(stamp);
    }
    vendor(context, &wanted(&upstream, Some(name), &AdHoc::default())?, false)
}

fn vendor(context: &Context, wanted: &Wanted, force: bool) -> Result<Vendored> {
    let Wanted { name, pin, is_ad_hoc } = wanted;
    let target = context.vendor_dir(name);
    let slot = Slot::lock(&target, &context.ui)?;
    if !force && let Some(stamp) = usable(context, name, pin)? {
        return Ok(stamp);
    }
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let obtained = obtain(context, &pin.source, scratch.path())?;
    let vendored = slot.replace(|new| fill(context, wanted, &obtained, new))?;
    context.ui.say(format_args!(
        "{name}: {} files, llama.cpp {}, from {}",
        vendored.files,
        vendored.version(),
        pin.source
    ));
    if *is_ad_hoc && !matches!(pin.source, Source::Path { .. }) {
        context.ui.say(format_args!("to keep it, put this into {FILE}:\n{}", section(&vendored)));
    }
    if vendored.license.is_none() {
        context.ui.warn(format_args!("{name}: the tree has no LICENSE file; llama.cpp's MIT licence asks to keep it"));
    }
    Ok(vendored)
}

/// What is vendored, if it is what was asked for and unchanged.
fn usable(context: &Context, name: &str, pin: &Pin) -> Result<Option<Vendored>> {
    let Some(stamp) = Vendored::read(&context.vendor_dir(name)) else { return Ok(None) };
    if pin.sha256.as_ref().is_some_and(|sha256| *sha256 != stamp.sha256) {
        context.ui.say(format_args!("{name}: {FILE} asks for another tree than the one that is here"));
        return Ok(None);
    }
    check_unchanged(context, &stamp)?;
    let is_folder = |source: &Source| matches!(source, Source::Path { .. });
    if pin.sha256.is_some() {
        // The same content, and a folder may stand in for any source; but what else is known of it, such as the
        // commit, is that of the source.
        let is_it = pin.source == stamp.source || is_folder(&pin.source) || is_folder(&stamp.source);
        return Ok(is_it.then_some(stamp));
    }
    if pin.source != stamp.source {
        bail!(
            "vendor/{name} came from {}, not from {}\nhelp: give the new one another name (cargo xtask vendor NAME …), \
             or replace the old one with --force",
            stamp.source,
            pin.source
        );
    }
    if !is_folder(&pin.source) {
        if matches!(pin.source, Source::Git { .. }) {
            context.ui.say(format_args!("{name}: is here already; --force fetches it again"));
        }
        return Ok(Some(stamp));
    }
    // The folder may have moved on since.
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let obtained = obtain(context, &pin.source, scratch.path())?;
    let copy = scratch.path().join("copy");
    copy_tree(&obtained.dir, obtained.files.as_deref(), &copy, |_, _| {})?;
    Ok((obtained.origin == stamp.origin && digest(&copy)? == stamp.sha256).then_some(stamp))
}

/// A pin as `upstream.toml` has it.
fn section(vendored: &Vendored) -> String {
    format!("[pin.\"{}\"]\nsource = {}\nsha256 = \"{}\"", vendored.pin, vendored.source.to_toml(), vendored.sha256)
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

fn fill(context: &Context, wanted: &Wanted, obtained: &Obtained, new: &Path) -> Result<Vendored> {
    let Wanted { name, pin, .. } = wanted;
    let src = new.join("src");
    let phase = context.ui.phase(format!("unpack {name}"), Unit::Steps);
    let files = copy_tree(&obtained.dir, obtained.files.as_deref(), &src, |done, total| phase.set(done, total))?;
    let sha256 = digest(&src).with_context(|| format!("cannot read {}", src.display()))?;
    check_digest(wanted, &sha256, &obtained.dir)?;
    let vendored = Vendored {
        pin: name.clone(),
        source: pin.source.clone(),
        sha256,
        files,
        llama_version: version_in(&src.join("CMakeLists.txt"), "LLAMA_VERSION"),
        ggml_version: version_in(&src.join("ggml/CMakeLists.txt"), "GGML_VERSION"),
        origin: obtained.origin.clone(),
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

fn check_digest(wanted: &Wanted, found: &str, from: &Path) -> Result<()> {
    let Wanted { name, pin, is_ad_hoc } = wanted;
    match &pin.sha256 {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => bail!(
            "the tree of `{name}` from {} is not the one that {FILE} names\n  expected sha256  {expected}\n  found            {found}\n\
             help: if it is damaged, remove {} and try again; if it is right, put the new digest into {FILE}",
            pin.source,
            from.display()
        ),
        None if pin.source.needs_digest() && !is_ad_hoc => {
            bail!("{FILE} gives no sha256 for `{name}`\nhelp: if you trust {}, add: sha256 = \"{found}\"", pin.source)
        }
        None => Ok(()),
    }
}
