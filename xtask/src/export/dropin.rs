//! `cargo xtask export dropin`: the package `llama-cpp-sys-2`, or `llama-cpp-sys-4`, patched and with our telemetry inside, that
//! takes the place of the published one through `[patch.crates-io]`, so that a program on `llama-cpp-2` or `llama-cpp-4` is
//! instrumented without a change of its own. What cargo would silently not use is refused here, with the reason.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use semver::Version;
use serde::Serialize;

pub use self::sys::Sys;
use self::{own_patches::OwnPatches, program::Program};
use crate::{
    Format,
    cache::Slot,
    context::Context,
    files::{copy, keep_times},
    patch,
    sources::crates,
    upstream::{Source, Upstream},
    vendor,
};

mod own_patches;
mod package;
mod program;
mod sys;

/// What a folder that this verb made says of itself.
const MANIFEST: &str = "dropin.json";
/// The folder of llama.cpp in the package.
const TREE: &str = "llama.cpp";

/// Command line of the verb.
#[derive(clap::Args)]
#[command(after_help = patch::EXIT_CODES)]
pub struct Args {
    /// Where the package goes [default: target/llama-otel/dropin/<package>-<version>]
    #[arg(value_name = "DIR")]
    out: Option<PathBuf>,
    /// The package whose place is taken [default: the one that --program depends on, else llama-cpp-sys-2]
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "from")]
    package: Option<Sys>,
    /// The version to take [default: the one that --program is locked to, else that of upstream.toml's default pin, or the newest
    /// that it lists]
    #[arg(long, conflicts_with = "from")]
    version: Option<Version>,
    /// Take this folder of the package, such as one that `cargo vendor` made, instead of the published one; it is only read
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The program that is to be instrumented: refuse what its cargo would not use
    #[arg(long, value_name = "DIR")]
    program: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What `dropin.json` holds and `--format json` prints.
#[derive(Serialize)]
struct Manifest<'a> {
    name: &'a str,
    version: &'a Version,
    /// This program and its version.
    tool: &'a str,
    /// What a program's workspace adds to its `Cargo.toml`; not in the file itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a str>,
    /// The folder; not in the file itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a Path>,
}

/// Runs the verb.
///
/// # Errors
/// cargo would not use the package; it cannot be had, patched or written.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let given = args.from.as_deref().map(package::identity).transpose()?;
    let wanted = args.package.or(given.as_ref().map(|(sys, _)| *sys));
    let program = args.program.as_deref().map(|dir| Program::ask(context, dir, wanted)).transpose()?;
    let sys = wanted.or(program.as_ref().map(|program| program.sys)).unwrap_or(Sys::Two);
    let name = sys.name();
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (dir, version) = match (&args.from, given) {
        (Some(from), Some((_, version))) => {
            check_used(sys, &version, program.as_ref())?;
            (from.canonicalize().with_context(|| format!("there is no folder {}", from.display()))?, version)
        }
        _ => {
            let version = match (&args.version, &program) {
                (Some(version), _) => version.clone(),
                (None, Some(program)) => program.locked.clone(),
                (None, None) => sys.default_version(context)?,
            };
            check_used(sys, &version, program.as_ref())?;
            (crates::fetch(context, name, &version.to_string(), scratch.path())?.dir, version)
        }
    };
    let target = match &args.out {
        Some(out) => std::path::absolute(out)?,
        None => context.target_dir().join("llama-otel/dropin").join(format!("{name}-{version}")),
    };
    write(context, &dir, sys, &version, args.from.is_none(), &target)?;

    let patch = patch_section(sys, &target);
    match args.format {
        Format::Text => println!("{}", target.display()),
        Format::Json => {
            let manifest =
                Manifest { name, version: &version, tool: package::TOOL, patch: Some(&patch), path: Some(&target) };
            println!("{}", serde_json::to_string_pretty(&manifest)?);
        }
    }
    let manifest = program.as_ref().map(|program| program.root.join("Cargo.toml"));
    let place =
        manifest.map_or("the Cargo.toml of the program's workspace".to_owned(), |path| path.display().to_string());
    context.ui.say(format_args!("{name} {version}; in {place}:\n{patch}"));
    if program.is_none() {
        context.ui.say(
            "cargo only warns where it does not use a patch; --program DIR finds that out beforehand, \
             and `cargo xtask export verify` in what was built",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What a program's workspace adds to its `Cargo.toml` for the package in `dir`.
pub fn patch_section(sys: Sys, dir: &Path) -> String {
    format!("[patch.crates-io]\n{} = {{ path = {:?} }}\n", sys.name(), dir.display().to_string())
}

/// Exports a published package into `target`: this version, or the one that stands where none is named. Says which it is.
///
/// # Errors
/// `upstream.toml` names no version of the package; those of [`run`].
pub fn export_published(context: &Context, sys: Sys, version: Option<Version>, target: &Path) -> Result<Version> {
    let version = version.map_or_else(|| sys.default_version(context), Ok)?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let dir = crates::fetch(context, sys.name(), &version.to_string(), scratch.path())?.dir;
    write(context, &dir, sys, &version, true, target)?;
    Ok(version)
}

/// Refuses what cargo would not use, with only a warning.
fn check_used(sys: Sys, version: &Version, program: Option<&Program>) -> Result<()> {
    match program {
        Some(program) => program.check(version),
        None if !version.pre.is_empty() => bail!(
            "{} {version} is a pre-release: cargo takes one only where the requirement names it, and {}'s does not\n\
             help: take a release, or name the program with --program if it does require this one",
            sys.name(),
            sys.binding()
        ),
        None => Ok(()),
    }
}

fn write(context: &Context, dir: &Path, sys: Sys, version: &Version, is_published: bool, target: &Path) -> Result<()> {
    let name = format!("{}-{version}", sys.name());
    let mut tree = match is_published {
        true => published_tree(context, dir, sys, version)?,
        false => dir.join(TREE),
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let own_patches = OwnPatches::read(dir)?;
    if !own_patches.is_empty() {
        let with_them = scratch.path().join(TREE);
        copy(&tree, &with_them)?;
        own_patches.apply(&with_them)?;
        tree = with_them;
    }
    let slot = Slot::lock(target, &context.ui)?;
    let is_foreign =
        !target.join(MANIFEST).is_file() && fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some());
    if is_foreign {
        bail!("{} is a folder that this program did not make\nhelp: name an empty or a new one", target.display());
    }
    slot.replace(|new| {
        patch::derive_tree(context, &tree, &name, new.join(TREE))?;
        // The package is locked as a whole.
        fs::remove_file(new.join(".llama.cpp.lock")).context("cannot remove the lock of the tree")?;
        package::complete(context, dir, sys, new)?;
        own_patches.write(&tree, new)?;
        let manifest = Manifest { name: sys.name(), version, tool: package::TOOL, patch: None, path: None };
        let path = new.join(MANIFEST);
        fs::write(&path, serde_json::to_vec_pretty(&manifest)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let changed = keep_times(target, new)?;
        if sys == Sys::Four && changed.iter().any(|file| file.starts_with(TREE)) {
            package::touch_sentinel(new)?;
        }
        Ok(())
    })
}

/// The llama.cpp of the published package: of the versions that upstream.toml pins, the vendored one, which it has checked.
fn published_tree(context: &Context, dir: &Path, sys: Sys, version: &Version) -> Result<PathBuf> {
    let version = version.to_string();
    let is_it = |source: &Source| matches!(source, Source::Crate { name, version: pinned, .. } if name == sys.name() && *pinned == version);
    let upstream = Upstream::read(context)?;
    match upstream.pins.iter().find(|(_, pin)| is_it(&pin.source)) {
        Some((name, _)) => Ok(context.vendor_src(&vendor::ensure(context, Some(name))?.pin)),
        None => Ok(dir.join(TREE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pre_release_is_refused_without_a_program_that_names_it() {
        let error = check_used(Sys::Two, &"0.1.161-x.1".parse().unwrap(), None).unwrap_err().to_string();
        assert!(error.contains("pre-release"), "{error}");
        check_used(Sys::Two, &"0.1.161".parse().unwrap(), None).unwrap();
    }
}
