//! The crate that `cargo xtask package` makes, tried as the verb tries it, and made a second time; and a second, independent
//! reader of its bill of materials, for the tests.

use std::{ffi::OsString, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use super::unoptimised;
use crate::{cache::Slot, context::Context, package, python::Python, tools::Tools};

/// CycloneDX's own library for Python, which has the schemas of the standard.
const VALIDATOR: &str = "cyclonedx-python-lib";
/// Its version.
const VALIDATOR_VERSION: &str = "11.12.0";

/// Makes and tries the crate, and says what the tests are told of it.
///
/// # Errors
/// The crate cannot be made, does not do what it is for, or is another one when it is made again.
pub fn build(context: &Context, tools: &Tools) -> Result<Vec<(&'static str, OsString)>> {
    let target = context.target_dir().join("llama-otel/package");
    let packaged = package::make(context, None, &target)?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let again = package::make(context, None, &scratch.path().join("again"))?;
    if again.sha256 != packaged.sha256 {
        bail!("two archives of the same content differ: {} and {}", packaged.sha256, again.sha256);
    }
    drop(scratch);
    let program = package::try_out(context, tools, &packaged, &unoptimised())?;
    let mut env =
        vec![("LLAMA_OTEL_PACKAGE", target.into_os_string()), ("LLAMA_OTEL_PACKAGE_PROGRAM", program.into_os_string())];
    match validator(context) {
        Ok(python) => env.push(("LLAMA_OTEL_CYCLONEDX", python.into_os_string())),
        Err(error) => env.push(("LLAMA_OTEL_NO_CYCLONEDX", format!("{error:#}").replace('\n', " ").into())),
    }
    Ok(env)
}

/// A Python that has the validator, in a virtual environment of the cache.
fn validator(context: &Context) -> Result<PathBuf> {
    let dir = context.cache.join("tools").join(format!("{VALIDATOR}-{VALIDATOR_VERSION}"));
    let slot = Slot::lock(&dir, &context.ui)?;
    let ready = dir.join("READY");
    if !ready.is_file() {
        slot.replace(|new| {
            let inside = Python::required("validating the bill of materials")?.make_venv(new)?;
            let wanted = format!("{VALIDATOR}[json-validation]=={VALIDATOR_VERSION}");
            inside.pip(["install", "--quiet", "--only-binary=:all:", &wanted], None)?;
            let ready = new.join("READY");
            fs::write(&ready, "").with_context(|| format!("cannot write {}", ready.display()))
        })?;
    }
    Ok(dir.join(if cfg!(windows) { r"Scripts\python.exe" } else { "bin/python" }))
}
