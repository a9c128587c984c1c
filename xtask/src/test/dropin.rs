//! The program of `tests/dropin`, which is on llama-cpp-2 as published, built with the exported package in the place of
//! `llama-cpp-sys-2`: as a user does it, with the two lines that the export prints.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use super::unoptimised;
use crate::{
    context::Context,
    export::dropin::{self, Sys},
    files::{read, update},
    program::build_program,
    sources::cargo_program,
    tools::Tools,
};

/// Exports the package, builds the program, and says where it is.
///
/// # Errors
/// The package cannot be exported; the program cannot be written or built, or cargo did not use the package.
pub fn build(context: &Context, tools: &Tools) -> Result<PathBuf> {
    let base = context.target_dir().join("llama-otel/dropin");
    let package = base.join("package");
    let version = dropin::export_published(context, Sys::Two, None, &package)?;

    let (from, program) = (context.root.join("tests/dropin"), base.join("program"));
    update(&program.join("src/main.rs"), &read(&from.join("src/main.rs"))?)?;
    let patch = format!("\n{}", dropin::patch_section(Sys::Two, &package));
    let is_new = update(&program.join("Cargo.toml"), &(read(&from.join("Cargo.toml"))? + &patch))?;
    let lock = program.join("Cargo.lock");
    if is_new || !lock.is_file() {
        // That of the program before the patch; cargo adds what the package needs, and later runs keep to it.
        update(&lock, &read(&from.join("Cargo.lock"))?)?;
    }

    let mut command = Command::new(cargo_program());
    command.current_dir(&program).args(["build", "--message-format", "json-render-diagnostics", "--target-dir"]);
    command.arg(base.join("target")).envs(tools.env()).stdin(Stdio::null());
    // Of the build script of llama-cpp-sys-2; the debug information of llama.cpp is not needed.
    command.env("LLAMA_LIB_PROFILE", "Release").env("CARGO_PROFILE_DEV_DEBUG", "0");
    command.env("CMAKE_GENERATOR", "Ninja").env("CMAKE_MAKE_PROGRAM", &tools.ninja.path).envs(unoptimised());
    let exe = build_program(context, command, "the program of tests/dropin")?;

    if read(&lock)?.contains("[[patch.unused]]") {
        let name = Sys::Two.name();
        bail!(
            "cargo did not use {name} {version}: tests/dropin/Cargo.lock names another version\n\
             help: in tests/dropin, run `cargo update -p {name} --precise {version}`"
        );
    }
    Ok(exe)
}
