//! Trees inside published crates.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::{Fetched, Origin};
use crate::{
    context::Context,
    progress::Unit,
    python::{checked, last_lines},
};

/// A published crate, through the user's own cargo: mirrors, vendored registries, proxies, credentials and
/// `CARGO_NET_OFFLINE` are honoured because cargo itself runs, in the checkout's configuration.
///
/// # Errors
/// cargo cannot get it.
pub fn fetch(context: &Context, name: &str, version: &str, scratch: &Path) -> Result<Fetched> {
    let manifest = scratch.join("Cargo.toml");
    fs::create_dir_all(scratch.join("src"))?;
    fs::write(scratch.join("src/lib.rs"), "")?;
    fs::write(
        &manifest,
        format!(
            "[package]\nname = \"fetch-llama-cpp\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
             [dependencies]\n\"{name}\" = \"={version}\"\n\n[workspace]\n"
        ),
    )?;
    let phase = context.ui.phase(format!("download {name} {version}"), Unit::Unknown);
    // One platform only: the dependencies come along, and those of other systems are not needed.
    let output = cargo(context)
        .args(["fetch", "--target", &host(context)?, "--manifest-path"])
        .arg(&manifest)
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "cargo could not fetch the crate {name} {version}\n{}\nhelp: check the network or your cargo configuration \
             (mirror, proxy, CARGO_NET_OFFLINE); or give a folder with that tree: cargo xtask vendor --from DIR",
            last_lines(&String::from_utf8_lossy(&output.stderr), 15)
        );
    }
    let metadata = checked(
        cargo(context)
            .args([
                "metadata",
                "--format-version=1",
                "--offline",
                "--filter-platform",
                &host(context)?,
                "--manifest-path",
            ])
            .arg(&manifest),
    )?;
    phase.finish("");
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata printed something unexpected")?;
    let package = metadata.packages.into_iter().find(|package| package.name == name && package.version == version);
    let package = package.with_context(|| format!("cargo fetched {name} {version} but does not list it"))?;
    let dir = package.manifest_path.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(Fetched { dir, origin: Origin::default() })
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

fn cargo(context: &Context) -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).stdin(Stdio::null());
    command
}

/// The cargo that runs this program, else the one on the PATH.
pub fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn host(context: &Context) -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = checked(Command::new(rustc).current_dir(&context.root).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(host.to_owned())
}
