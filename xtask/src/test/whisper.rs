//! The programs of `tests/whisper`: one that has whisper.cpp's ggml and ours in one piece is refused by the linker, and one that
//! has the other in a shared library decodes with telemetry while both compute.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};
use otlp_receiver::Receiver;

use crate::{
    build::Built,
    context::Context,
    model::{self, Name},
    program::build_program,
    python::checked,
    sources::cargo_program,
    tools::Tools,
};

/// Tokens that the program decodes, each of them a batch.
const TOKENS: usize = 8;

/// Builds both programs and runs the one that can be.
///
/// # Errors
/// The linker takes both in one piece, or refuses it for another reason; the other program cannot be built, fails, or its
/// telemetry is not all there; the shared library shows ggml to others.
pub fn run(context: &Context, tools: &Tools, patched: &Built) -> Result<()> {
    let target = context.target_dir().join("llama-otel/whisper");
    let cargo = |packages: &[&str]| {
        let mut command = Command::new(cargo_program());
        command.current_dir(context.root.join("tests/whisper")).args(["build", "--locked"]);
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        command.args(["--message-format", "json-render-diagnostics", "--target-dir"]).arg(&target);
        command.envs(tools.env()).env("LLAMA_OTEL_PREBUILT", &patched.dir).stdin(Stdio::null());
        // Of whisper-rs: gcc 12 compiles for AMX what crashes there, and its bindings as published are for 64-bit Linux.
        command.env("GGML_NATIVE", "OFF").env("WHISPER_DONT_GENERATE_BINDINGS", "1");
        command.env("CMAKE_GENERATOR", "Ninja").env("CMAKE_MAKE_PROGRAM", &tools.ninja.path);
        command
    };

    let refused = cargo(&["one-piece"]).output().context("cannot start cargo")?;
    is_refused(&refused)?;

    let program = build_program(context, cargo(&["hearing", "side-by-side"]), "the programs of tests/whisper")?;
    let library = program.with_file_name(format!("{DLL_PREFIX}hearing{DLL_SUFFIX}"));
    keeps_to_itself(&library)?;

    let receiver = Receiver::start().context("no receiver for the program's telemetry")?;
    let mut command = Command::new(program);
    command.arg(&library).arg(model::ensure(context, Name::Tiny)?).arg(TOKENS.to_string()).stdin(Stdio::null());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint()).env("LLAMA_OTEL_DETAIL", "decode");
    let stdout = checked(command.env("OMP_WAIT_POLICY", "passive"))?;
    let Some((ours, other)) = stdout.trim().split_once(' ').filter(|(ours, other)| ours != other) else {
        bail!("not two versions of ggml: {stdout}");
    };
    let decoded = receiver.stop().spans_named("llama_decode").len();
    if decoded != TOKENS {
        bail!("{decoded} spans llama_decode of {TOKENS} arrived from the program that has whisper.cpp beside it");
    }
    context.ui.say(format_args!("ggml {ours}, with telemetry, and {other} in one process; refused in one piece"));
    Ok(())
}

/// The linker's words for a symbol that is there twice, and nothing else that failed before it.
fn is_refused(output: &Output) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stderr);
    let twice = ["duplicate symbol", "multiple definition of"].iter().any(|words| text.contains(words));
    match (output.status.success(), twice && text.contains("gguf_")) {
        (false, true) => Ok(()),
        (true, _) => bail!("the linker took two versions of ggml into one program"),
        (false, false) => bail!("the program with two ggml was not built, for another reason than that:\n{text}"),
    }
}

/// No symbol of ggml and whisper.cpp is seen from outside, and what it is for is.
fn keeps_to_itself(library: &Path) -> Result<()> {
    let text = checked(Command::new("nm").args(["-D", "--defined-only"]).arg(library))?;
    let mut names = text.lines().filter_map(|line| line.split_whitespace().last());
    if !text.contains("hearing_product") {
        bail!("{} does not export what it is for:\n{text}", library.display());
    }
    match names.find(|name| ["ggml_", "gguf_", "whisper_"].iter().any(|prefix| name.starts_with(prefix))) {
        Some(name) => bail!("{} shows {name} to others", library.display()),
        None => Ok(()),
    }
}
