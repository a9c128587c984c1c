//! The patched build as `cargo xtask build --install` leaves it, static and shared, and the Rust example built from each; the tests
//! build those for C and C++.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Result;
use llama_build::Telemetry;

use crate::{
    build::{self, Built, Request},
    cache::Slot,
    context::Context,
    program::build_member,
    tools::Tools,
};

const EXAMPLE: &str = "llama-otel-example";

/// Installs both, builds the example from both, and returns the environment by which the tests find them.
///
/// # Errors
/// The shared build or the example cannot be compiled; a folder cannot be written.
pub fn prepare(context: &Context, tools: &Tools, patched: &Built) -> Result<Vec<(&'static str, OsString)>> {
    let base = context.target_dir().join("llama-otel/installed");
    let mut env =
        install(context, tools, patched, &base.join("static"), ["LLAMA_OTEL_INSTALLED", "LLAMA_OTEL_EXAMPLE"])?;
    // On Windows they cannot call the Rust backend, which is in the program.
    if !cfg!(windows) {
        let request = Request { shared: true, ..Request::cpu(Some(Telemetry::Rust)) };
        let shared = build::ensure(context, tools, &request)?;
        let variables = ["LLAMA_OTEL_INSTALLED_SHARED", "LLAMA_OTEL_EXAMPLE_SHARED"];
        env.extend(install(context, tools, &shared, &base.join("shared"), variables)?);
    }
    Ok(env)
}

fn install(
    context: &Context,
    tools: &Tools,
    built: &Built,
    dir: &Path,
    variables: [&'static str; 2],
) -> Result<Vec<(&'static str, OsString)>> {
    Slot::lock(dir, &context.ui)?
        .replace(|new| build::install(context, &built.dir, &built.manifest, build::Profile::Dev, new))?;
    let kept = dir.with_file_name(format!("example-{}", dir.file_name().unwrap_or_default().display()));
    let example = build_member(context, tools, dir, &["--workspace", "--bin", EXAMPLE], &kept)?;
    Ok(variables.into_iter().zip([PathBuf::from(dir), example].map(OsString::from)).collect())
}
