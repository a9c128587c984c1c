//! The patched build as `cargo xtask build --install` leaves it, static and shared, and the Rust example built from each; the tests
//! build those for C and C++. All of them are linked with a `libllama` that is none where the linker looks by itself.

use std::{
    env::{
        self,
        consts::{DLL_PREFIX, DLL_SUFFIX},
    },
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use llama_build::Telemetry;

use super::unoptimised;
use crate::{
    build::{self, Built, Request},
    cache::Slot,
    context::Context,
    files::write,
    program::build_member,
    python::checked,
    tools::Tools,
};

const EXAMPLE: &str = "llama-otel-example";

/// Where the linker looks after all folders that it is told of, and before those of the system.
const DEFAULT_PATH: &str = "LIBRARY_PATH";

/// All that is in a `libllama` that nothing must be linked with: it would end the program at its first call.
const STALE: &str = "#include <stdlib.h>\nvoid llama_backend_init(void) { abort(); }\n";

/// Installs both, builds the example from both, and returns the environment by which the tests find them.
///
/// # Errors
/// The shared build or the example cannot be compiled; a folder cannot be written.
pub fn prepare(context: &Context, tools: &Tools, patched: &Built) -> Result<Vec<(&'static str, OsString)>> {
    let base = context.target_dir().join("llama-otel/installed");
    let stale = base.join("stale");
    let mut env = Vec::new();
    // There is no such path on Windows, and no cc.
    if !cfg!(windows) {
        write_stale(context, &stale)?;
        env.push(("LLAMA_OTEL_STALE", stale.clone().into()));
    }
    let install =
        |built: &Built, name: &str, variables| install(context, tools, built, &base.join(name), &stale, variables);
    env.extend(install(patched, "static", ["LLAMA_OTEL_INSTALLED", "LLAMA_OTEL_EXAMPLE"])?);
    // On Windows they cannot call the Rust backend, which is in the program.
    if !cfg!(windows) {
        let request = Request { shared: true, defines: unoptimised(), ..Request::cpu(Some(Telemetry::Rust)) };
        let shared = build::ensure(context, tools, &request)?;
        env.extend(install(&shared, "shared", ["LLAMA_OTEL_INSTALLED_SHARED", "LLAMA_OTEL_EXAMPLE_SHARED"])?);
    }
    Ok(env)
}

/// A stale `libllama`, shared and static.
fn write_stale(context: &Context, dir: &Path) -> Result<()> {
    Slot::lock(dir, &context.ui)?.replace(|new| {
        write(&new.join("stale.c"), STALE)?;
        let run = |program: &str, args: &[&str]| checked(Command::new(program).current_dir(new).args(args)).map(drop);
        run("cc", &["-shared", "-fPIC", "stale.c", "-o", &format!("{DLL_PREFIX}llama{DLL_SUFFIX}")])?;
        run("cc", &["-c", "stale.c", "-o", "stale.o"])?;
        run("ar", &["rcs", "libllama.a", "stale.o"])
    })
}

fn install(
    context: &Context,
    tools: &Tools,
    built: &Built,
    dir: &Path,
    stale: &Path,
    variables: [&'static str; 2],
) -> Result<Vec<(&'static str, OsString)>> {
    Slot::lock(dir, &context.ui)?
        .replace(|new| build::install(context, &built.dir, &built.manifest, build::Profile::Dev, new))?;
    let kept = dir.with_file_name(format!("example-{}", dir.file_name().unwrap_or_default().display()));
    // As cargo's own setting it reaches the linker, and nothing is compiled anew for it.
    let there = env::var_os(DEFAULT_PATH).unwrap_or_default();
    let there = env::split_paths(&there).filter(|folder| !folder.as_os_str().is_empty());
    let default_path = env::join_paths([stale.to_path_buf()].into_iter().chain(there))
        .with_context(|| format!("{DEFAULT_PATH} cannot name {}", stale.display()))?;
    let value = toml::Value::from(default_path.to_string_lossy().as_ref());
    let settings = [format!("env.{DEFAULT_PATH}.value={value}"), format!("env.{DEFAULT_PATH}.force=true")];
    let settings = settings.iter().flat_map(|setting| ["--config", setting]);
    let args: Vec<_> = settings.chain(["--workspace", "--bin", EXAMPLE]).collect();
    let example = build_member(context, tools, dir, &args, &kept)?;
    Ok(variables.into_iter().zip([PathBuf::from(dir), example].map(OsString::from)).collect())
}
