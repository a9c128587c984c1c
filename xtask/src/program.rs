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
}

/// Builds `llama-otel-demo`, linked with `built`, and returns its path. `telemetry` says whether the Rust
/// backend is linked as well, which must be so if llama.cpp was built for it.
///
/// # Errors
/// cargo fails (what it printed is on standard error), or names no program; the program cannot be copied.
pub fn build_demo(context: &Context, tools: &Tools, built: &Built, telemetry: bool) -> Result<PathBuf> {
    let programs = context.target_dir().join("llama-otel/demo");
    fs::create_dir_all(&programs).with_context(|| format!("cannot make the folder {}", programs.display()))?;
    // Until it is copied: another run may build the other variant under the same name.
    let _lock =
        lock_file(&programs.join(".lock"), || context.ui.say("waiting for another run that builds the demo program"))
            .with_context(|| format!("cannot lock {}", programs.display()))?;
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).arg("build");
    command.args(["--message-format", "json-render-diagnostics", "--target-dir"]).arg(context.target_dir());
    if telemetry {
        // With the features of the whole workspace, as the tests have them: what both need is compiled once.
        command.args(["--workspace", "--bin", PACKAGE]);
    } else {
        command.args(["--package", PACKAGE, "--no-default-features", "--features", "cpu"]);
    }
    if context.ui.is_quiet() {
        command.arg("--quiet");
    }
    command.envs(tools.env()).env("LLAMA_OTEL_PREBUILT", &built.dir);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo could not build {PACKAGE} (see above)");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let program = messages.filter_map(|message| message.executable).next_back();
    let program = program.with_context(|| format!("cargo names no program of {PACKAGE}"))?;
    keep(context, &program, &programs.join(if telemetry { "telemetry" } else { "pristine" }))
}

/// Copies the program out of cargo's reach: the next build with other features takes its name, while a target
/// folder for each would compile every dependency twice.
fn keep(context: &Context, program: &Path, dir: &Path) -> Result<PathBuf> {
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
    let demo_exe = build_demo(context, &tools, &built, true)?;
    Ok(demo::Built { demo_exe, default_model: model::ensure(context, Name::Tiny)? })
}
