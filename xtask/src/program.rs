//! Builds the demo program against a finished llama.cpp.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use llama_build::Telemetry;

use crate::{
    build::{self, Built, Request},
    cache::{Slot, lock_file},
    context::Context,
    demo,
    model::{self, Name},
    sources::cargo_program,
    tools::{self, Tools},
};

const PACKAGE: &str = "llama-otel-demo";

/// One line of `cargo build --message-format json`, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    /// Of a build script: which package it is of, and the folder that it wrote into.
    package_id: Option<String>,
    out_dir: Option<PathBuf>,
}

/// What a `cargo build` made.
pub struct Outcome {
    /// The program that it names last.
    pub program: PathBuf,
    /// The folder of each build script, with the id of its package.
    pub out_dirs: Vec<(String, PathBuf)>,
}

/// Builds `llama-otel-demo`, linked with `built`, and returns its path. `telemetry` is what llama.cpp was built for; `None` if it
/// is upstream's own.
///
/// # Errors
/// cargo fails (what it printed is on standard error), or names no program; the program cannot be copied.
pub fn build_demo(context: &Context, tools: &Tools, built: &Built, telemetry: Option<Telemetry>) -> Result<PathBuf> {
    let variant = match telemetry {
        Some(Telemetry::Rust) => "telemetry",
        Some(Telemetry::Cpp) => "otelcpp",
        _ => "pristine",
    };
    build_demo_as(context, tools, built, telemetry, variant)
}

/// As [`build_demo`], kept under the name `variant`.
///
/// # Errors
/// Those of [`build_demo`].
pub fn build_demo_as(
    context: &Context,
    tools: &Tools,
    built: &Built,
    telemetry: Option<Telemetry>,
    variant: &str,
) -> Result<PathBuf> {
    let programs = context.target_dir().join("llama-otel/demo");
    let mut args = vec!["--workspace", "--bin", PACKAGE];
    if telemetry != Some(Telemetry::Rust) {
        let features = if telemetry == Some(Telemetry::Cpp) { "cpu,telemetry-cpp" } else { "cpu" };
        args = vec!["--package", PACKAGE, "--no-default-features", "--features", features];
    }
    build_member(context, tools, &built.dir, &args, &programs.join(variant))
}

/// Builds a program of the workspace, linked with the finished build in `prebuilt`, by what cargo is told in `args`, and keeps it
/// in `dir`. With `--workspace` and `--bin` it has the features of the whole workspace, as the tests have them: what both need is
/// compiled once.
///
/// # Errors
/// As [`build_demo`].
pub fn build_member(context: &Context, tools: &Tools, prebuilt: &Path, args: &[&str], dir: &Path) -> Result<PathBuf> {
    let programs = dir.parent().unwrap_or(dir);
    fs::create_dir_all(programs).with_context(|| format!("cannot make the folder {}", programs.display()))?;
    // Until it is copied: another run may build the other variant under the same name.
    let _lock =
        lock_file(&programs.join(".lock"), || context.ui.say("waiting for another run that builds the program"))
            .with_context(|| format!("cannot lock {}", programs.display()))?;
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).arg("build");
    command.args(["--message-format", "json-render-diagnostics", "--target-dir"]).arg(context.target_dir());
    command.args(args).envs(tools.env()).env("LLAMA_OTEL_PREBUILT", prebuilt);
    let program = build_program(context, command, "the program")?;
    keep(context, &program, dir)
}

/// Runs a `cargo build` that prints JSON messages, and returns the program that it names last.
///
/// # Errors
/// cargo fails (what it printed is on standard error), or names no program.
pub fn build_program(context: &Context, command: Command, name: &str) -> Result<PathBuf> {
    build_whole(context, command, name).map(|outcome| outcome.program)
}

/// As [`build_program`], with what build scripts left.
///
/// # Errors
/// Those of [`build_program`].
pub fn build_whole(context: &Context, command: Command, name: &str) -> Result<Outcome> {
    let (mut program, mut out_dirs) = (None, Vec::new());
    for message in messages(context, command, name)? {
        program = message.executable.or(program);
        out_dirs.extend(message.package_id.zip(message.out_dir));
    }
    let program = program.with_context(|| format!("cargo names no program of {name}"))?;
    Ok(Outcome { program, out_dirs })
}

/// Runs a cargo that compiles and prints JSON messages, and returns all programs that it names.
///
/// # Errors
/// cargo fails (what it printed is on standard error).
pub fn build_all(context: &Context, command: Command, name: &str) -> Result<Vec<PathBuf>> {
    Ok(messages(context, command, name)?.into_iter().filter_map(|message| message.executable).collect())
}

fn messages(context: &Context, mut command: Command, name: &str) -> Result<Vec<Message>> {
    if context.ui.is_quiet() {
        command.arg("--quiet");
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo could not build {name} (see above)");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Copies the program out of cargo's reach: the next build with other features takes its name, while a target
/// folder for each would compile every dependency twice.
///
/// # Errors
/// The folder cannot be written.
pub fn keep(context: &Context, program: &Path, dir: &Path) -> Result<PathBuf> {
    let kept = dir.join(program.file_name().unwrap_or_default());
    let slot = Slot::lock(dir, &context.ui)?;
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let built = modified(program);
    if built.is_none() || modified(&kept) != built {
        slot.replace(|new| {
            let copy = new.join(program.file_name().unwrap_or_default());
            copy_with_time(program, &copy).with_context(|| format!("cannot write {}", copy.display()))
        })?;
    }
    Ok(kept)
}

fn copy_with_time(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    let time = fs::metadata(from)?.modified()?;
    File::options().write(true).open(to)?.set_modified(time)
}

/// Everything that `cargo xtask demo` runs, from an empty cache on.
///
/// # Errors
/// A step fails; what is missing on the machine is named with the command that installs it.
pub fn prepare_demo(context: &Context) -> Result<demo::Built> {
    let tools = tools::ensure(context)?;
    let built = build::ensure(context, &tools, &Request::cpu(Some(Telemetry::Rust)))?;
    let demo_exe = build_demo(context, &tools, &built, Some(Telemetry::Rust))?;
    Ok(demo::Built { demo_exe, default_model: model::ensure(context, Name::Tiny)? })
}
