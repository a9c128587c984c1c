//! Manifests of this workspace's crates as cargo sees them, with everything that they take from the workspace in place: for
//! crates that leave it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use toml::{Table, Value};

use crate::{python::checked, sources::cargo_program};

/// A crate of the workspace.
#[derive(Clone, Debug, Deserialize)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub edition: String,
    /// The oldest Rust that it takes, `1.89`.
    pub rust_version: Option<String>,
    /// An SPDX expression.
    pub license: Option<String>,
    pub description: Option<String>,
    pub repository: Option<String>,
    pub features: BTreeMap<String, Vec<String>>,
    dependencies: Vec<Dependency>,
    manifest_path: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    kind: Option<String>,
    rename: Option<String>,
    optional: bool,
    uses_default_features: bool,
    features: Vec<String>,
    target: Option<String>,
    /// Set for a crate of the workspace, which has no other source.
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

/// Asks cargo for the crates of the workspace in `root` with these names, in this order.
///
/// # Errors
/// cargo cannot read the workspace, or it has no such crate.
pub fn crates<const N: usize>(root: &Path, names: [&str; N]) -> Result<[Crate; N]> {
    let mut command = Command::new(cargo_program());
    command.current_dir(root).stdin(Stdio::null()).args(["metadata", "--no-deps", "--format-version=1"]);
    let metadata: Metadata =
        serde_json::from_str(&checked(&mut command)?).context("cargo metadata printed something unexpected")?;
    let mut found = Vec::with_capacity(N);
    for name in names {
        let is_it = |package: &&Crate| package.name == name;
        found.push(metadata.packages.iter().find(is_it).with_context(|| format!("no crate is called {name}"))?.clone());
    }
    found.try_into().map_err(|_| anyhow::anyhow!("as many crates as names"))
}

/// Which dependencies of a crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of the library.
    Normal,
    /// Of its build script.
    Build,
}

impl Kind {
    fn section(self) -> &'static str {
        match self {
            Self::Normal => "dependencies",
            Self::Build => "build-dependencies",
        }
    }

    fn of(dependency: &Dependency) -> Option<Self> {
        match dependency.kind.as_deref() {
            None => Some(Self::Normal),
            Some("build") => Some(Self::Build),
            Some(_) => None,
        }
    }
}

impl Crate {
    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    /// The names by which it knows its dependencies of a kind, but for crates of the workspace.
    pub fn dependency_names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let of_kind = move |dependency: &&Dependency| Kind::of(dependency) == Some(kind) && dependency.path.is_none();
        self.dependencies
            .iter()
            .filter(of_kind)
            .map(|dependency| dependency.rename.as_ref().unwrap_or(&dependency.name).as_str())
    }

    /// Adds its dependencies of a kind, but for crates of the workspace, to those of the same kind or, for a folded crate, of
    /// another one (`to`) that `manifest` has.
    ///
    /// # Errors
    /// The manifest requires another version of one of them.
    pub fn add_dependencies(&self, manifest: &mut Table, kind: Kind, to: Kind, is_optional: bool) -> Result<()> {
        for dependency in self.dependencies.iter().filter(|dependency| Kind::of(dependency) == Some(kind)) {
            if dependency.path.is_some() {
                continue;
            }
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name).clone();
            let entry = dependency.entry(is_optional);
            let section = match &dependency.target {
                Some(target) => table(table(table(manifest, "target"), target), to.section()),
                None => table(manifest, to.section()),
            };
            let merged = match section.get(&name).and_then(Value::as_table) {
                Some(present) => merged(present, &entry).with_context(|| {
                    format!("{} and another crate require {name} in ways that exclude each other", self.name)
                })?,
                None => entry,
            };
            section.insert(name, merged.into());
        }
        Ok(())
    }
}

impl Dependency {
    fn entry(&self, is_optional: bool) -> Table {
        let mut entry = Table::new();
        // `^` is what a bare version means.
        entry.insert("version".to_owned(), self.req.strip_prefix('^').unwrap_or(&self.req).into());
        if self.rename.is_some() {
            entry.insert("package".to_owned(), self.name.as_str().into());
        }
        if !self.uses_default_features {
            entry.insert("default-features".to_owned(), false.into());
        }
        if !self.features.is_empty() {
            entry.insert("features".to_owned(), self.features.clone().into());
        }
        if self.optional || is_optional {
            entry.insert("optional".to_owned(), true.into());
        }
        entry
    }
}

/// One dependency for two crates: features add up, and it is optional only where it is for both.
fn merged(one: &Table, other: &Table) -> Result<Table> {
    for key in ["version", "package"] {
        if one.get(key) != other.get(key) {
            let text = |table: &Table| table.get(key).map_or("none".to_owned(), ToString::to_string);
            bail!("{key} {} and {}", text(one), text(other));
        }
    }
    let mut both = one.clone();
    for key in ["default-features", "optional"] {
        if !other.contains_key(key) {
            both.remove(key);
        }
    }
    let features = |table: &Table| table.get("features").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = features(one);
    all.extend(features(other).into_iter().filter(|feature| !all.contains(feature)).collect::<Vec<_>>());
    if !all.is_empty() {
        both.insert("features".to_owned(), all.into());
    }
    Ok(both)
}

/// The table of this name in `parent`, made if there is none.
pub fn table<'a>(parent: &'a mut Table, name: &str) -> &'a mut Table {
    let value = parent.entry(name).or_insert_with(|| Table::new().into());
    if !value.is_table() {
        *value = Table::new().into();
    }
    value.as_table_mut().expect("made a table just now")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn two_crates_that_need_the_same_get_both_needs() {
        let one = parsed("version = \"1\"\ndefault-features = false\nfeatures = [\"a\"]\noptional = true");
        let other = parsed("version = \"1\"\nfeatures = [\"b\", \"a\"]\noptional = true");
        assert_eq!(
            merged(&one, &other).unwrap(),
            parsed("version = \"1\"\nfeatures = [\"a\", \"b\"]\noptional = true")
        );
        assert_eq!(
            merged(&other, &parsed("version = \"1\"")).unwrap(),
            parsed("version = \"1\"\nfeatures = [\"b\", \"a\"]")
        );
        assert!(merged(&one, &parsed("version = \"2\"")).unwrap_err().to_string().contains("version \"1\" and \"2\""));
    }

    #[test]
    fn what_a_crate_takes_from_the_workspace_is_in_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let [shim] = crates(&root, ["otel-shim"]).unwrap();
        let mut manifest = Table::new();
        shim.add_dependencies(&mut manifest, Kind::Normal, Kind::Normal, false).unwrap();
        shim.add_dependencies(&mut manifest, Kind::Build, Kind::Build, true).unwrap();
        let opentelemetry_sdk = &manifest["dependencies"]["opentelemetry_sdk"];
        assert_eq!(opentelemetry_sdk["default-features"].as_bool(), Some(false));
        assert!(opentelemetry_sdk["features"].as_array().unwrap().contains(&"trace".into()));
        assert!(!opentelemetry_sdk["version"].as_str().unwrap().starts_with('^'));
        assert_eq!(manifest["build-dependencies"]["cxx-build"]["optional"].as_bool(), Some(true));
        assert!(!manifest.contains_key("dev-dependencies"));
        assert!(crates(&root, ["no-such-crate"]).unwrap_err().to_string().contains("no-such-crate"));
    }
}
