//! `--newest`: the releases that the registries have and the list has not. The user's own cargo and pip are asked.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::list::{Era, Sweep};
use crate::{
    context::Context,
    python::{Python, checked},
    sources::cargo_program,
};

/// Name of the era that unlisted releases are put into.
pub const NAME: &str = "new";

#[derive(Deserialize)]
struct LockFile {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

/// An era of all releases that are newer than the newest one listed of the same package.
///
/// # Errors
/// A registry cannot be asked.
pub fn era(context: &Context, list: &Sweep) -> Result<Era> {
    let mut era = Era {
        name: NAME.to_owned(),
        marks: "not in the list yet".to_owned(),
        refused: None,
        crates: Default::default(),
        sdists: Default::default(),
    };
    // Eras are listed newest first, so the first mention of a package has its newest release.
    for listed in &list.eras {
        for (name, versions) in &listed.crates {
            if let (Some(known), false) = (versions.first(), era.crates.contains_key(name)) {
                context.ui.say(format_args!("ask cargo for releases of {name} after {known} ..."));
                era.crates.insert(name.clone(), crates_after(context, name, known)?);
            }
        }
        for (name, versions) in &listed.sdists {
            if let (Some(known), false) = (versions.first(), era.sdists.contains_key(name)) {
                context.ui.say(format_args!("ask pip for releases of {name} after {known} ..."));
                era.sdists.insert(name.clone(), sdists_after(context, name, known)?);
            }
        }
    }
    Ok(era)
}

/// Cargo has no command that lists versions, but it finds the newest one that a requirement allows. It is asked without a
/// lower bound: where the known release is yanked, nothing may be left above it.
fn crates_after(context: &Context, name: &str, known: &str) -> Result<Vec<String>> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut versions: Vec<String> = Vec::new();
    loop {
        let below = versions.last().map_or_else(|| "*".to_owned(), |version| format!("<{version}"));
        let found = newest_crate(context, scratch.path(), name, &below)?;
        if !is_newer(&found, known) || versions.contains(&found) {
            return Ok(versions);
        }
        versions.push(found);
    }
}

/// Compares what is released, number by number; neither client names what is released before its time.
fn is_newer(version: &str, known: &str) -> bool {
    let numbers = |version: &str| -> Vec<Option<u64>> { version.split('.').map(|part| part.parse().ok()).collect() };
    numbers(version) > numbers(known)
}

fn newest_crate(context: &Context, dir: &Path, name: &str, requirement: &str) -> Result<String> {
    fs::create_dir_all(dir.join("src"))?;
    fs::write(dir.join("src/lib.rs"), "")?;
    fs::write(
        dir.join("Cargo.toml"),
        format!(
            "[package]\nname = \"ask\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
             [dependencies]\n\"{name}\" = \"{requirement}\"\n\n[workspace]\n"
        ),
    )?;
    // The versions are resolved; nothing is downloaded but the index.
    let _ = fs::remove_file(dir.join("Cargo.lock"));
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).stdin(Stdio::null());
    checked(command.args(["generate-lockfile", "--quiet", "--manifest-path"]).arg(dir.join("Cargo.toml")))
        .with_context(|| format!("cargo could not look for {name} {requirement}"))?;
    let text = fs::read_to_string(dir.join("Cargo.lock")).context("cargo wrote no lock file")?;
    let lock: LockFile = toml::from_str(&text).context("cargo wrote an unexpected lock file")?;
    let package = lock.package.into_iter().find(|package| package.name == name);
    Ok(package.with_context(|| format!("cargo did not resolve {name}"))?.version)
}

fn sdists_after(context: &Context, name: &str, known: &str) -> Result<Vec<String>> {
    let python = Python::required("asking the Python package index")?.with_pip(context)?;
    let text = checked(python.command().args([
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "index",
        "versions",
        name,
    ]))
    .with_context(|| format!("pip could not list the versions of {name}"))?;
    Ok(versions_after(&text, known))
}

/// `pip index versions` prints `Available versions: 0.3, 0.2, …`, the newest first, and none that is yanked.
fn versions_after(text: &str, known: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("Available versions: ")).unwrap_or_default();
    line.split(", ").map(str::trim).take_while(|version| is_newer(version, known)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_lists_the_newest_first() {
        let text = "llama-cpp-python (0.4)\nAvailable versions: 0.4, 0.3.37, 0.3.36, 0.3.35\n  INSTALLED: 0.1\n";
        assert_eq!(versions_after(text, "0.3.36"), ["0.4", "0.3.37"]);
        assert!(versions_after(text, "0.4").is_empty());
        assert!(versions_after("", "0.4").is_empty());
        // A known release that was yanked is in no list.
        assert_eq!(versions_after(&text.replace("0.3.36, ", ""), "0.3.36"), ["0.4", "0.3.37"]);
    }

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for (version, known) in [("0.3.10", "0.3.9"), ("1.0", "0.99.9"), ("0.3.1", "0.3"), ("0.1.160", "0.1.99")] {
            assert!(is_newer(version, known) && !is_newer(known, version), "{version} {known}");
        }
        assert!(!is_newer("0.3.16", "0.3.16"));
    }
}
