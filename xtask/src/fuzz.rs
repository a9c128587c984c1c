//! `cargo xtask fuzz`: runs the fuzz targets of the folder `fuzz`, each for a while, from the committed corpus. Finds are
//! kept in Cargo's target folder; what crashes a target is named, and its input stays in `fuzz/artifacts`.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{context::Context, sources::cargo_program};

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The target to run [default: all, one after the other]
    target: Option<Target>,
    /// Minutes for each target
    #[arg(long, default_value_t = 30, value_name = "N")]
    minutes: u32,
    /// Replace the committed corpus by the smallest one that reaches as much
    #[arg(long, requires = "target")]
    minimise: bool,
}

/// A target of `fuzz/Cargo.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// TOML text to points
    Points,
    /// A source file and a point to a place
    Locator,
    /// An archive to a folder
    Unpack,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Points => "points",
            Self::Locator => "locator",
            Self::Unpack => "unpack",
        }
    }

    fn dictionary(self) -> Option<&'static str> {
        match self {
            Self::Points => Some("fuzz/toml.dict"),
            Self::Locator => Some("fuzz/cpp.dict"),
            Self::Unpack => None,
        }
    }
}

/// Runs the verb. The exit code is 1 if a target found something.
///
/// # Errors
/// cargo-fuzz is not installed, or a folder cannot be made.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let version = Command::new(cargo_program()).args(["fuzz", "--version"]).output();
    if !version.is_ok_and(|output| output.status.success()) {
        bail!("cargo-fuzz is not installed\nhelp: cargo install cargo-fuzz --locked");
    }
    let mut found = Vec::new();
    for target in Target::value_variants().iter().filter(|one| args.target.is_none_or(|wanted| wanted == **one)) {
        let work = context.target_dir().join("fuzz-corpus").join(target.name());
        let committed = context.root.join("fuzz/corpus").join(target.name());
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let is_fine = match args.minimise {
            true => minimise(context, *target, &work, &committed)?,
            false => fuzz(context, *target, &work, &committed, args.minutes)?,
        };
        if !is_fine {
            found.push(target.name());
        }
    }
    if found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("FOUND something: {} (the inputs are in fuzz/artifacts)", found.join(", "));
    Ok(ExitCode::FAILURE)
}

fn fuzz(context: &Context, target: Target, work: &Path, committed: &Path, minutes: u32) -> Result<bool> {
    context.ui.say(format_args!("== {} ({minutes} min)", target.name()));
    let mut command = cargo_fuzz(context, target);
    command.arg(work).arg(committed).args([
        "--",
        "-max_len=4096",
        "-timeout=120",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
    ]);
    command.arg(format!("-max_total_time={}", 60 * u64::from(minutes)));
    command.args(target.dictionary().map(|path| format!("-dict={path}")));
    Ok(command.status().context("cannot start cargo")?.success())
}

/// libFuzzer's merge: of many inputs, a few that reach as much.
fn minimise(context: &Context, target: Target, work: &Path, committed: &Path) -> Result<bool> {
    let small = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut command = cargo_fuzz(context, target);
    command.arg(small.path()).arg(committed).arg(work).args(["--", "-merge=1", "-max_len=1024"]);
    if !command.status().context("cannot start cargo")?.success() {
        return Ok(false);
    }
    fs::remove_dir_all(committed).with_context(|| format!("cannot replace {}", committed.display()))?;
    fs::create_dir_all(committed)?;
    for entry in fs::read_dir(small.path())? {
        let path = entry?.path();
        fs::copy(&path, committed.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(true)
}

fn cargo_fuzz(context: &Context, target: Target) -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).args(["fuzz", "run", "--fuzz-dir", "fuzz", target.name()]);
    // Sanitizers are a nightly feature; the stable compiler has them too.
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}
