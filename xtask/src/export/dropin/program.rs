//! What the program that is to be instrumented asks of the package, in its cargo's own words. Cargo uses a patched package
//! only if every requirement allows its version and if `Cargo.lock` names that very version; else it warns and goes on with the
//! published one.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use semver::{Version, VersionReq};
use serde::Deserialize;

use super::Sys;
use crate::{context::Context, python::checked, sources::cargo_program};

/// A program that depends on the package.
#[derive(Debug)]
pub struct Program {
    /// The package.
    pub sys: Sys,
    /// Its workspace: the folder of the `Cargo.toml` in which `[patch]` counts.
    pub root: PathBuf,
    /// The version that its `Cargo.lock` names.
    pub locked: Version,
    /// Who requires which version: (package and its version, requirement).
    requirements: Vec<(String, VersionReq)>,
}

#[derive(Deserialize)]
struct Root {
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: Version,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: VersionReq,
    /// A registry or a repository; none for a folder.
    source: Option<String>,
    /// Another registry than the default one.
    registry: Option<String>,
}

impl Program {
    /// Asks cargo about the program in `dir` and that package, or the one that it has if `None`. Its `Cargo.lock` is not changed; where there is none, cargo writes one.
    ///
    /// # Errors
    /// There is no such program, or it does not get the package from the default registry.
    pub fn ask(context: &Context, dir: &Path, wanted: Option<Sys>) -> Result<Self> {
        let manifest = if dir.is_dir() { dir.join("Cargo.toml") } else { dir.to_path_buf() };
        if !manifest.is_file() {
            bail!("--program {}: there is no {}", dir.display(), manifest.display());
        }
        // cargo runs elsewhere
        let manifest = std::path::absolute(&manifest)?;
        let ask = |more: &[&str]| {
            let mut command = Command::new(cargo_program());
            command.args(["metadata", "--format-version=1", "--manifest-path"]).arg(&manifest).args(more);
            // The settings that count are those of the program, in `.cargo/config.toml` above it.
            command.current_dir(manifest.parent().unwrap_or(&context.root)).stdin(Stdio::null());
            checked(&mut command)
        };
        let unexpected = "cargo metadata printed something unexpected";
        let root: Root = serde_json::from_str(&ask(&["--no-deps"])?).context(unexpected)?;
        let has_lock = root.workspace_root.join("Cargo.lock").is_file();
        let metadata = serde_json::from_str(&ask(if has_lock { &["--locked"] } else { &[] })?).context(unexpected)?;
        Self::of(metadata, wanted)
    }

    fn of(metadata: Metadata, wanted: Option<Sys>) -> Result<Self> {
        let root = metadata.workspace_root;
        let is_it = |sys: &Sys| wanted.is_none_or(|wanted| wanted == *sys);
        // Of two there is one: both say `links = "llama"`, which cargo takes once.
        let found =
            metadata.packages.iter().find_map(|package| Some((Sys::of_name(&package.name).filter(is_it)?, package)));
        let Some((sys, package)) = found else {
            bail!(
                "{} does not depend on {}, so that a patch of it would not be used\n\
                 help: programs on llama-cpp-2 and llama-cpp-4 do; for a program of another kind see docs/sources.md",
                root.display(),
                wanted.map_or_else(Sys::names, |sys| sys.name().to_owned())
            );
        };
        let (name, locked) = (sys.name(), package.version.clone());
        let mut requirements = Vec::new();
        for package in &metadata.packages {
            for dependency in package.dependencies.iter().filter(|dependency| dependency.name == name) {
                let who = format!("{} {}", package.name, package.version);
                let elsewhere = match (&dependency.source, &dependency.registry) {
                    (None, _) => Some("a folder".to_owned()),
                    (Some(source), _) if source.starts_with("git+") => Some(source.clone()),
                    (_, Some(registry)) => Some(registry.clone()),
                    _ => None,
                };
                if let Some(elsewhere) = elsewhere {
                    bail!(
                        "{who} takes {name} from {elsewhere}, which `[patch.crates-io]` does not reach\n\
                         help: patch that source (`[patch.\"URL\"]`), or name the exported package in {who} itself"
                    );
                }
                requirements.push((who, dependency.req.clone()));
            }
        }
        requirements.dedup();
        Ok(Self { sys, root, locked, requirements })
    }

    /// Whether cargo would use that version.
    ///
    /// # Errors
    /// It would not, and why.
    pub fn check(&self, version: &Version) -> Result<()> {
        let name = self.sys.name();
        if let Some((who, requirement)) =
            self.requirements.iter().find(|(_, requirement)| !requirement.matches(version))
        {
            bail!(
                "cargo would not use {name} {version}: {who} requires {requirement}\n\
                 help: leave --version out, which takes {} as in Cargo.lock",
                self.locked
            );
        }
        if *version != self.locked {
            bail!(
                "cargo would not use {name} {version}: {} names {}, and cargo keeps to that\n\
                 help: leave --version out; or, in the program, before the patch: cargo update -p {name} --precise {version}",
                self.root.join("Cargo.lock").display(),
                self.locked
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(requirement: &str, locked: &str, source: &str) -> Result<Program> {
        let metadata = format!(
            r#"{{"workspace_root": "/p", "packages": [
                {{"name": "app", "version": "1.0.0", "dependencies": []}},
                {{"name": "llama-cpp-sys-2", "version": "{locked}", "dependencies": []}},
                {{"name": "llama-cpp-2", "version": "0.1.160", "dependencies": [
                    {{"name": "llama-cpp-sys-2", "req": "{requirement}", "source": {source}, "registry": null}}]}}]}}"#
        );
        Program::of(serde_json::from_str(&metadata).unwrap(), None)
    }

    #[test]
    fn only_the_locked_version_is_used() {
        let program = program("^0.1.160", "0.1.161", "\"registry+x\"").unwrap();
        program.check(&"0.1.161".parse().unwrap()).unwrap();
        for (version, reason) in [
            ("0.1.100", "llama-cpp-2 0.1.160 requires ^0.1.160"),
            ("0.1.161-x.1", "requires ^0.1.160"),
            ("0.1.160", "Cargo.lock names 0.1.161"),
            ("0.1.161+x", "Cargo.lock names 0.1.161"),
            ("0.2.0", "requires ^0.1.160"),
        ] {
            let error = program.check(&version.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains(reason), "{version}: {error}");
        }
    }

    #[test]
    fn another_source_is_out_of_reach() {
        for (source, reason) in [("null", "from a folder"), ("\"git+https://example.org/x\"", "example.org")] {
            let error = program("*", "0.1.161", source).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("does not reach"), "{error}");
        }
    }

    #[test]
    fn a_program_without_it_is_told_so() {
        let metadata =
            r#"{"workspace_root": "/p", "packages": [{"name": "app", "version": "1.0.0", "dependencies": []}]}"#;
        for (wanted, names) in [
            (None, "llama-cpp-sys-2 or llama-cpp-sys-4"),
            (Some(Sys::Two), "llama-cpp-sys-2"),
            (Some(Sys::Four), "llama-cpp-sys-4"),
        ] {
            let error = Program::of(serde_json::from_str(metadata).unwrap(), wanted).unwrap_err().to_string();
            assert!(error.contains(&format!("does not depend on {names},")), "{error}");
        }
    }

    #[test]
    fn the_program_says_which_package_it_is_on() {
        let metadata = r#"{"workspace_root": "/p", "packages": [
            {"name": "llama-cpp-sys-4", "version": "0.11.0", "dependencies": []},
            {"name": "llama-cpp-4", "version": "0.11.0", "dependencies": [
                {"name": "llama-cpp-sys-4", "req": "^0.11.0", "source": "registry+x", "registry": null}]}]}"#;
        let program = Program::of(serde_json::from_str(metadata).unwrap(), None).unwrap();
        assert_eq!(program.sys, Sys::Four);
        program.check(&"0.11.0".parse().unwrap()).unwrap();
        let error = program.check(&"0.10.0".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("llama-cpp-4 0.11.0 requires ^0.11.0"), "{error}");
    }
}
