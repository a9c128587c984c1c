//! Builds the demo program against a finished llama.cpp.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{build::Built, context::Context, sources::cargo_program, tools::Tools};

const PACKAGE: &str = "llama-otel-demo";

/// One line of `cargo build --message-format json`, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// Builds `llama-otel-demo` in `target_dir`, linked with `built`, and returns its path. `telemetry` says
/// whether the Rust backend is linked as well, which must be so if llama.cpp was built for it.
///
/// # Errors
/// cargo fails (what it printed is on standard error), or names no program.
pub fn build_demo(context: &Context, tools: &Tools, built: &Built, telemetry: bool, target_dir: &Path) -> Result<PathBuf> {
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).args(["build", "--package", PACKAGE, "--message-format", "json-render-diagnostics"]);
    command.arg("--target-dir").arg(target_dir);
    if !telemetry {
        command.args(["--no-default-features", "--features", "cpu"]);
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
    messages.filter_map(|message| message.executable).last().with_context(|| format!("cargo names no program of {PACKAGE}"))
}
